//! Content as a stream of pieces: how many of the given bytes belong to the message, and which of them are data.

use std::ops::Range;

use crate::http::h1::encode::is_field_value;
use crate::http::h1::framing::is_token;
use crate::http::head::FIELDS_MAX;
use crate::http::head::Framing;

/// Digits of a chunk size.
const SIZE_DIGITS_MAX: u8 = 16;
/// Chunk extensions of one message, in bytes.
const EXTENSION_BYTES_MAX: usize = 4 << 10;
/// Trailer section of one message, in bytes.
const TRAILER_BYTES_MAX: usize = 8 << 10;

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

/// Follows the content of one message through the bytes it arrives in. Trailers are checked and dropped.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    extension_bytes: usize,
    trailer_bytes: usize,
    trailer_fields: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Done,
    UntilClose,
    Length(u64),
    /// In the size: value and digits so far.
    Size(u64, u8),
    /// In an extension of a chunk of this size.
    Extension(u64, Extension),
    /// CR of a size line was read.
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// At the first byte of a trailer line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// A name must begin.
    NameStart,
    Name,
    /// A value must begin.
    ValueStart,
    Value,
    Quoted,
    QuotedPair,
    /// Behind a quoted value.
    AfterQuoted,
}

impl BodyDecoder {
    /// A decoder at the first byte of the content.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size(0, 0),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, extension_bytes: 0, trailer_bytes: 0, trailer_fields: 0 }
    }

    /// Whether the last byte of the message was consumed. Never true for `UntilClose`.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes from the front of `bytes` up to and including the next run of data; call again with the rest while it consumes.
    ///
    /// # Errors
    /// [`MalformedBody`] for chunked content that breaks a rule.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Piece, MalformedBody> {
        match self.state {
            State::Done => Ok(Piece { consumed: 0, data: 0..0 }),
            State::UntilClose => Ok(Piece { consumed: bytes.len(), data: 0..bytes.len() }),
            State::Length(length) => {
                let count = bytes.len().min(usize::try_from(length).unwrap_or(usize::MAX));
                let left = length - count as u64;
                self.state = if left == 0 { State::Done } else { State::Length(left) };
                Ok(Piece { consumed: count, data: 0..count })
            }
            _ => self.feed_chunked(bytes),
        }
    }

    fn feed_chunked(&mut self, bytes: &[u8]) -> Result<Piece, MalformedBody> {
        let mut position = 0;
        while position < bytes.len() {
            if let State::Data(left) = self.state {
                let count = (bytes.len() - position).min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - count as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                let mut consumed = position + count;
                // The line end belongs to the chunk: taken along where it is here, so that the rest is the next chunk.
                while consumed < bytes.len() && matches!(self.state, State::DataCr | State::DataLf) {
                    self.state = self.after(bytes[consumed])?;
                    consumed += 1;
                }
                return Ok(Piece { consumed, data: position..position + count });
            }
            self.state = self.after(bytes[position])?;
            position += 1;
            if self.state == State::Done {
                break;
            }
        }
        Ok(Piece { consumed: position, data: position..position })
    }

    /// The state behind one byte of framing.
    fn after(&mut self, byte: u8) -> Result<State, MalformedBody> {
        Ok(match self.state {
            State::Size(size, digits) => match (byte, (byte as char).to_digit(16)) {
                (_, Some(digit)) if digits < SIZE_DIGITS_MAX => State::Size(size << 4 | u64::from(digit), digits + 1),
                (b'\r', _) if digits > 0 => State::SizeEnd(size),
                (b';', _) if digits > 0 => State::Extension(size, Extension::NameStart),
                _ => return Err(MalformedBody),
            },
            State::Extension(size, extension) => self.after_extension(size, extension, byte)?,
            State::SizeEnd(size) => match (byte, size) {
                (b'\n', 0) => State::TrailerStart,
                (b'\n', size) => State::Data(size),
                _ => return Err(MalformedBody),
            },
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size(0, 0),
            State::TrailerStart if byte == b'\r' => State::EndLf,
            State::TrailerStart if is_token(byte) => {
                self.trailer_fields += 1;
                if self.trailer_fields > FIELDS_MAX {
                    return Err(MalformedBody);
                }
                self.trailer(State::TrailerName)?
            }
            State::TrailerName if byte == b':' => self.trailer(State::TrailerValue)?,
            State::TrailerName if is_token(byte) => self.trailer(State::TrailerName)?,
            State::TrailerValue if byte == b'\r' => State::TrailerLf,
            State::TrailerValue if is_field_value(&[byte]) => self.trailer(State::TrailerValue)?,
            State::TrailerLf if byte == b'\n' => State::TrailerStart,
            State::EndLf if byte == b'\n' => State::Done,
            _ => return Err(MalformedBody),
        })
    }

    /// One more byte of trailers, within their bound.
    fn trailer(&mut self, next: State) -> Result<State, MalformedBody> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX { Err(MalformedBody) } else { Ok(next) }
    }

    /// `;token[=token|quoted-string]`, without whitespace: nobody sends any, and whoever does is not understood by everybody.
    fn after_extension(&mut self, size: u64, extension: Extension, byte: u8) -> Result<State, MalformedBody> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(MalformedBody);
        }
        let next = match (extension, byte) {
            (Extension::Name | Extension::Value | Extension::AfterQuoted, b'\r') => return Ok(State::SizeEnd(size)),
            (Extension::Name | Extension::Value | Extension::AfterQuoted, b';') => Extension::NameStart,
            (Extension::Name, b'=') => Extension::ValueStart,
            (Extension::NameStart | Extension::Name, byte) if is_token(byte) => Extension::Name,
            (Extension::ValueStart, b'"') => Extension::Quoted,
            (Extension::ValueStart | Extension::Value, byte) if is_token(byte) => Extension::Value,
            (Extension::Quoted, b'"') => Extension::AfterQuoted,
            (Extension::Quoted, b'\\') => Extension::QuotedPair,
            (Extension::Quoted | Extension::QuotedPair, byte) if is_field_value(&[byte]) => Extension::Quoted,
            _ => return Err(MalformedBody),
        };
        Ok(State::Extension(size, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `bytes` handed over in pieces of `step`; the data, and how many bytes belonged to the message.
    fn decode(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), MalformedBody> {
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        let mut data = Vec::new();
        let mut used = 0;
        for piece in bytes.chunks(step) {
            let mut rest = piece;
            while !rest.is_empty() && !decoder.is_done() {
                let found = decoder.feed(rest)?;
                data.extend_from_slice(&rest[found.data.clone()]);
                used += found.consumed;
                rest = &rest[found.consumed..];
            }
        }
        Ok((data, used, decoder.is_done()))
    }

    /// Good content decodes to the same data however it is cut, and not one byte beyond its end is taken.
    #[test]
    fn good_chunks_decode_however_they_are_cut() {
        for (wire, data) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5;a=b;c=\"d;e\\\"\"\r\nhello\r\n0\r\n\r\n", "hello"),
            ("00005\r\nhello\r\nA\r\n0123456789\r\n000\r\n\r\n", "hello0123456789"),
            ("a\r\n0123456789\r\n0\r\nX-Trailer: yes\r\nY:\r\n\r\n", "0123456789"),
        ] {
            let with_more = format!("{wire}GET / HTTP/1.1\r\n");
            for step in 1..=with_more.len() {
                let got = decode(with_more.as_bytes(), step);
                assert_eq!(got, Ok((data.as_bytes().to_vec(), wire.len(), true)), "{wire:?} in steps of {step}");
            }
            for cut in 0..wire.len() {
                assert_eq!(decode(&wire.as_bytes()[..cut], 3).map(|(.., done)| done), Ok(false), "{wire:?} cut at {cut}");
            }
        }
    }

    /// Every way to be unclear about a chunk is refused.
    #[test]
    fn unclear_chunks_are_refused() {
        for wire in [
            "\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5_\r\nhello\r\n0\r\n\r\n",
            "5;\r\nhello\r\n0\r\n\r\n",
            "5;a\nhello\r\n0\r\n\r\n",
            "5;a=\r\nhello\r\n0\r\n\r\n",
            "5;a\0\r\nhello\r\n0\r\n\r\n",
            "5;[\r\nhello\r\n0\r\n\r\n",
            "5;a=\"b\r\n\"\r\nhello\r\n0\r\n\r\n",
            "00000000000000005\r\nhello\r\n0\r\n\r\n",
            "10000000000000000\r\n",
            "0\r\n\n",
            "0\r\n X: y\r\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\nX\r\n\r\n",
            "0\r\nX: a\nb\r\n\r\n",
            "0\r\nX: a\rb\r\n\r\n",
            "\u{ff15}\r\nhello\r\n",
        ] {
            for step in [1, 2, 7, wire.len()] {
                assert_eq!(decode(wire.as_bytes(), step), Err(MalformedBody), "{wire:?} in steps of {step}");
            }
        }
    }

    /// The largest size is a size, and the arithmetic holds.
    #[test]
    fn the_largest_size_does_not_overflow() {
        assert_eq!(decode(b"ffffffffffffffff\r\nabc", 1), Ok((b"abc".to_vec(), 21, false)));
    }

    /// Extensions and trailers are bounded over the whole message.
    #[test]
    fn extensions_and_trailers_are_bounded() {
        let many = "1;abcdefgh=ijklmnop\r\nx\r\n".repeat(400);
        assert_eq!(decode(many.as_bytes(), 100), Err(MalformedBody));
        let long = format!("0\r\nx: {}\r\n\r\n", "y".repeat(9000));
        assert_eq!(decode(long.as_bytes(), 100), Err(MalformedBody));
        let fields = format!("0\r\n{}\r\n", "a:b\r\n".repeat(101));
        assert_eq!(decode(fields.as_bytes(), 100), Err(MalformedBody));
    }

    /// A length ends where it says.
    #[test]
    fn a_length_ends_where_it_says() {
        let mut decoder = BodyDecoder::new(Framing::Length(3));
        assert_eq!(decoder.feed(b"ab"), Ok(Piece { consumed: 2, data: 0..2 }));
        assert!(!decoder.is_done());
        assert_eq!(decoder.feed(b"cdef"), Ok(Piece { consumed: 1, data: 0..1 }));
        assert!(decoder.is_done());
        assert_eq!(decoder.feed(b"def"), Ok(Piece { consumed: 0, data: 0..0 }));
        assert!(BodyDecoder::new(Framing::Empty).is_done());
    }
}
