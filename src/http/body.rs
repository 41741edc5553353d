//! Content as a stream of pieces: how many of the given bytes belong to the message, and which of them are data.

use std::ops::Range;

use crate::http::head::Framing;

/// What one call of [`BodyDecoder::feed`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the input that are done with: framing and `data` together.
    pub consumed: usize,
    /// The data among them; empty where only framing was read.
    pub data: Range<usize>,
}

/// Content that breaks a rule of RFC 9112 section 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedBody;

/// Follows the content of one message through the bytes it arrives in.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    framing: Framing,
}

impl BodyDecoder {
    /// A decoder at the first byte of the content.
    pub fn new(framing: Framing) -> Self {
        Self { framing }
    }

    /// Whether the last byte of the message was consumed. Never true for `UntilClose`.
    pub fn is_done(&self) -> bool {
        todo!("{:?}", self.framing)
    }

    /// Takes from the front of `bytes` up to and including the next run of data; call again with the rest while it consumes.
    ///
    /// # Errors
    /// [`MalformedBody`] for chunked content that breaks a rule.
    pub fn feed(&mut self, _bytes: &[u8]) -> Result<Piece, MalformedBody> {
        todo!()
    }
}
