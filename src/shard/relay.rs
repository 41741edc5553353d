//! Content on its way from one stream to another, its framing written anew.

use crate::http::body::BodyDecoder;
use crate::http::body::MalformedBody;
use crate::http::fault::DownstreamFault;
use crate::http::h1::encode;
use crate::http::head::Framing;
use crate::net::slot::Out;
use crate::net::stream::Stream;

/// Content up to this length is copied behind what goes in front of it: cheaper than one more part of a vectored send.
const COPY_BYTES_MAX: usize = 4096;
/// Content up to this length is kept with the head, so that the whole request can be sent again.
const REPEAT_BYTES_MAX: usize = 16 << 10;
/// The slowest upload that is borne after a grace, in bytes a second.
const RATE_MIN: u64 = 240;
const GRACE_US: u64 = 5_000_000;

/// Moves every piece of content that `from` holds to `to`, behind `out`; returns the bytes queued.
///
/// # Errors
/// [`MalformedBody`]: what was understood before it has been queued.
pub(crate) fn relay(
    body: &mut BodyDecoder,
    from: &mut Stream,
    to: &mut Stream,
    mut out: Vec<u8>,
    chunked: bool,
) -> Result<u64, MalformedBody> {
    let mut moved = 0;
    let mut result = Ok(());
    while !body.is_done() && !from.data().is_empty() {
        let piece = match body.feed(from.data()) {
            Ok(piece) if piece.consumed > 0 => piece,
            Ok(_) => break,
            Err(malformed) => {
                result = Err(malformed);
                break;
            }
        };
        let length = piece.data.len();
        if length == 0 {
            from.consume(piece.consumed);
            continue;
        }
        if chunked {
            encode::chunk_head(&mut out, length);
        }
        if out.len() + length <= COPY_BYTES_MAX || to.is_tls() {
            out.extend_from_slice(&from.data()[piece.data.clone()]);
            from.consume(piece.consumed);
        } else {
            moved += queue(to, std::mem::take(&mut out));
            from.consume(piece.data.start);
            let bytes = from.take(length);
            moved += length as u64;
            let _gone = to.queue(bytes);
            from.consume(piece.consumed - piece.data.end);
        }
        if chunked {
            out.extend_from_slice(encode::CHUNK_END);
        }
    }
    if chunked && result.is_ok() && body.is_done() {
        out.extend_from_slice(encode::LAST_CHUNK);
    }
    moved += queue(to, out);
    result.map(|()| moved)
}

/// A failed write shows in the next wait for room.
fn queue(to: &mut Stream, out: Vec<u8>) -> u64 {
    let length = out.len() as u64;
    if length > 0 {
        let _gone = to.queue(Out::Vec(out));
    }
    length
}

/// The content of a request on its way to an endpoint.
pub(crate) struct Upload {
    body: BodyDecoder,
    chunked: bool,
    bytes: u64,
    bytes_max: Option<u64>,
    started_us: u64,
    /// The endpoint takes no more.
    refused: bool,
}

impl Upload {
    pub(crate) fn new(framing: Framing, bytes_max: Option<u64>, now_us: u64) -> Self {
        let chunked = framing == Framing::Chunked;
        Self { body: BodyDecoder::new(framing), chunked, bytes: 0, bytes_max, started_us: now_us, refused: false }
    }

    /// Whether the last byte has been read from the client.
    pub(crate) fn is_done(&self) -> bool {
        self.body.is_done()
    }

    /// Whether there is more to carry, and somebody to carry it to.
    pub(crate) fn is_open(&self) -> bool {
        !self.refused && !self.body.is_done()
    }

    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }

    /// Appends what the client has sent already to the head, up to a bound.
    ///
    /// # Errors
    /// `MalformedBody`, `BodyTooLarge`.
    pub(crate) fn append_to(&mut self, head: &mut Vec<u8>, client: &mut Stream) -> Result<(), DownstreamFault> {
        while !self.body.is_done() && !client.data().is_empty() && head.len() < REPEAT_BYTES_MAX {
            let piece = self.body.feed(client.data()).map_err(|_| DownstreamFault::MalformedBody)?;
            if piece.consumed == 0 {
                break;
            }
            if !piece.data.is_empty() {
                if self.chunked {
                    encode::chunk_head(head, piece.data.len());
                }
                head.extend_from_slice(&client.data()[piece.data.clone()]);
                if self.chunked {
                    head.extend_from_slice(encode::CHUNK_END);
                }
                self.bytes += piece.data.len() as u64;
            }
            client.consume(piece.consumed);
            if self.is_too_large() {
                return Err(DownstreamFault::BodyTooLarge);
            }
        }
        if self.chunked && self.body.is_done() {
            head.extend_from_slice(encode::LAST_CHUNK);
        }
        Ok(())
    }

    /// Carries what the client has sent to the endpoint; returns the bytes.
    ///
    /// # Errors
    /// `MalformedBody`, `BodyTooLarge`, `BodyTimeout` where it comes too slowly.
    pub(crate) fn carry(&mut self, client: &mut Stream, endpoint: &mut Stream, now_us: u64) -> Result<u64, DownstreamFault> {
        let moved = relay(&mut self.body, client, endpoint, Vec::new(), self.chunked).map_err(|_| DownstreamFault::MalformedBody)?;
        self.bytes += moved;
        if self.is_too_large() {
            return Err(DownstreamFault::BodyTooLarge);
        }
        if self.is_too_slow(now_us) {
            return Err(DownstreamFault::BodyTimeout);
        }
        Ok(moved)
    }

    /// Whether more is to come, and less has come by now than with the slowest upload that is borne.
    fn is_too_slow(&self, now_us: u64) -> bool {
        let counted_us = now_us.saturating_sub(self.started_us).saturating_sub(GRACE_US);
        !self.body.is_done() && self.bytes < counted_us / 1_000_000 * RATE_MIN
    }

    fn is_too_large(&self) -> bool {
        self.bytes_max.is_some_and(|most| self.bytes > most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upload has a grace, then it must have come at 240 bytes a second since, however it was spread; a whole one is never too slow.
    #[test]
    fn an_upload_has_a_slowest_rate() {
        const SECOND_US: u64 = 1_000_000;
        for (bytes, elapsed_us, too_slow) in [
            (0, 0, false),
            (0, GRACE_US + SECOND_US - 1, false),
            (0, GRACE_US + SECOND_US, true),
            (RATE_MIN - 1, GRACE_US + SECOND_US, true),
            (RATE_MIN, GRACE_US + SECOND_US, false),
            (RATE_MIN * 3600 - 1, GRACE_US + 3600 * SECOND_US, true),
            (RATE_MIN * 3600, GRACE_US + 3600 * SECOND_US, false),
            // A burst counts until it is used up.
            (1 << 30, GRACE_US + 3600 * SECOND_US, false),
        ] {
            let mut upload = Upload::new(Framing::Length(1 << 40), None, 77);
            upload.bytes = bytes;
            assert_eq!(upload.is_too_slow(77 + elapsed_us), too_slow, "{bytes} bytes in {elapsed_us} us");
        }
        let whole = Upload::new(Framing::Empty, None, 0);
        assert!(!whole.is_too_slow(u64::MAX));
    }
}
