//! The one serialiser: every byte of a start line, field line or chunk head that leaves Corelane is written here.

use crate::http::head::Framing;

/// Starts a request head.
pub fn request_line(_out: &mut Vec<u8>, _method: &[u8], _path: &[u8], _query: Option<&[u8]>) {
    todo!()
}

/// Starts a response head; `reason` empty writes the standard phrase.
pub fn status_line(_out: &mut Vec<u8>, _status: u16, _reason: &[u8]) {
    todo!()
}

/// Writes one field. A name that is no token or a value with CR, LF or NUL is not written: the second line of defence.
pub fn field(_out: &mut Vec<u8>, _name: &[u8], _value: &[u8]) {
    todo!()
}

/// Writes the framing field (`Length`: Content-Length, `Chunked`: Transfer-Encoding, `Empty` and `UntilClose`: nothing).
pub fn framing(_out: &mut Vec<u8>, _framing: Framing) {
    todo!()
}

/// Writes the blank line that ends a head.
pub fn end(_out: &mut Vec<u8>) {
    todo!()
}

/// Writes the size line in front of `length` (> 0) bytes of data; [`CHUNK_END`] follows the data.
pub fn chunk_head(_out: &mut Vec<u8>, _length: usize) {
    todo!()
}

/// Follows the data of every chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Ends chunked content without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
