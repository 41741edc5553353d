//! The one serialiser: every byte of a start line, field line or chunk head that leaves Corelane is written here.

use crate::http::h1::framing::is_token;
use crate::http::head::Framing;

/// Follows the data of every chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Ends chunked content without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Starts a request head.
pub fn request_line(out: &mut Vec<u8>, method: &[u8], path: &[u8], query: Option<&[u8]>) {
    out.extend_from_slice(method);
    out.push(b' ');
    // A space or a control in a target would end the line early: it leaves escaped.
    escaped(out, path);
    if let Some(query) = query {
        out.push(b'?');
        escaped(out, query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

fn escaped(out: &mut Vec<u8>, target: &[u8]) {
    if target.iter().all(|byte| byte.is_ascii_graphic()) {
        out.extend_from_slice(target);
        return;
    }
    for byte in target {
        if byte.is_ascii_graphic() {
            out.push(*byte);
        } else {
            out.push(b'%');
            out.push(b"0123456789ABCDEF"[usize::from(byte >> 4)]);
            out.push(b"0123456789ABCDEF"[usize::from(byte & 15)]);
        }
    }
}

/// Starts a response head; `reason` empty writes the standard phrase.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    debug_assert!((100..=999).contains(&status), "a status has three digits");
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&[b'0' + (status / 100 % 10) as u8, b'0' + (status / 10 % 10) as u8, b'0' + (status % 10) as u8, b' ']);
    if reason.is_empty() || !is_field_value(reason) {
        out.extend_from_slice(phrase(status).as_bytes());
    } else {
        out.extend_from_slice(reason);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes one field. A name that is no token or a value with a control is not written: the second line of defence.
#[inline]
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) || !is_field_value(value) {
        return;
    }
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes the framing field: Content-Length, Transfer-Encoding, or nothing for `Empty` and `UntilClose`.
pub fn framing(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::Length(length) => content_length(out, length),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Empty | Framing::UntilClose => {}
    }
}

/// Writes a Content-Length.
pub fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Writes the blank line that ends a head.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Writes the size line in front of `length` (> 0) bytes of data; [`CHUNK_END`] follows the data.
pub fn chunk_head(out: &mut Vec<u8>, length: usize) {
    debug_assert!(length > 0, "a chunk of no bytes would end the content");
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[length >> (digit * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a number in decimal digits.
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Whether bytes may stand in a field value: no control but HTAB (RFC 9110 section 5.5).
#[inline]
pub fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|byte| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t')
}

/// The standard phrase of a status (RFC 9110 section 15); a neutral one for those without.
pub fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("what is written here is text")
    }

    /// A name or value that could end its line early is not written at all.
    #[test]
    fn a_field_cannot_end_its_line() {
        for (name, value) in [("a", "b\r\nc: d"), ("a", "b\nc"), ("a", "b\0"), ("a b", "c"), ("", "c"), ("a:", "c"), ("a\r\nb", "c")] {
            assert_eq!(written(|out| field(out, name.as_bytes(), value.as_bytes())), "", "{name:?} {value:?}");
        }
        assert_eq!(written(|out| field(out, b"X-A", b"b\tc")), "X-A: b\tc\r\n");
        assert_eq!(written(|out| field(out, b"X-A", b"")), "X-A: \r\n");
    }

    /// A target cannot smuggle a second line or a version.
    #[test]
    fn a_target_stays_one_word() {
        assert_eq!(written(|out| request_line(out, b"GET", b"/a b\r\nX: y", Some(b"q= "))), "GET /a%20b%0D%0AX:%20y?q=%20 HTTP/1.1\r\n");
    }

    /// Sizes are written without leading zeros.
    #[test]
    fn chunk_sizes_are_short() {
        for length in [1usize, 9, 15, 16, 255, 256, 65_536, 0xffff_ffff] {
            assert_eq!(written(|out| chunk_head(out, length)), format!("{length:x}\r\n"));
            assert_eq!(written(|out| decimal(out, length as u64)), length.to_string());
        }
        assert_eq!(written(|out| decimal(out, 0)), "0");
        assert_eq!(written(|out| decimal(out, u64::MAX)), u64::MAX.to_string());
    }
}
