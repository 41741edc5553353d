//! Content-Length, Transfer-Encoding and Connection: what the fields say together about the end of a message.

/// Reads a Content-Length: ASCII digits only, leading zeros allowed, no list, no sign (RFC 9110 section 8.6).
///
/// `None` for anything else, and for what does not fit into 64 bits.
pub fn content_length(value: &[u8]) -> Option<u64> {
    let value = trim(value);
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |length, byte| match byte {
        b'0'..=b'9' => length.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// What a Transfer-Encoding field means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Exactly `chunked`, alone.
    Chunked,
    /// Codings that we do not know, with `chunked` last (RFC 9112 section 6.1: 501).
    Unknown,
    /// Anything that leaves the end of the message in doubt.
    Faulty,
}

/// Reads the value of the only Transfer-Encoding field.
pub fn transfer_coding(value: &[u8]) -> Coding {
    let value = trim(value);
    if value.eq_ignore_ascii_case(b"chunked") {
        return Coding::Chunked;
    }
    let codings = value.split(|byte| *byte == b',').map(trim);
    let mut chunked = 0;
    let mut last_is_chunked = false;
    let mut count = 0;
    for coding in codings {
        count += 1;
        if coding.is_empty() || !coding.iter().all(|byte| is_token(*byte)) {
            return Coding::Faulty;
        }
        last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
        chunked += usize::from(last_is_chunked);
    }
    match (count, chunked, last_is_chunked) {
        // One coding that is not chunked: we cannot read it, and say so. `identity` is no coding any more.
        (1, 0, _) | (_, 1, true) => Coding::Unknown,
        _ => Coding::Faulty,
    }
}

/// What the Connection fields of a message say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
    /// Names a field that is to be dropped.
    pub names_fields: bool,
}

impl ConnectionOptions {
    /// Adds the options of one Connection field.
    pub fn add(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(trim) {
            match option.len() {
                0 => {}
                5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                _ => self.names_fields = true,
            }
        }
    }

    /// Whether the connection goes on after this message; `persistent`: whether that is the rule in its version of HTTP
    /// (RFC 9112 section 9.3).
    pub fn keeps_alive(&self, persistent: bool) -> bool {
        !self.close && (persistent || self.keep_alive)
    }
}

/// Whether a comma-separated list has this element, in any case.
pub fn lists(value: &[u8], element: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|part| trim(part).eq_ignore_ascii_case(element))
}

/// Removes optional whitespace (SP, HTAB) at both ends.
pub fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether a byte may stand in a token (RFC 9110 section 5.6.2).
#[inline]
pub fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            let c = byte as u8;
            table[byte] = c.is_ascii_alphanumeric()
                || matches!(c, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
            byte += 1;
        }
        table
    };
    TOKEN[byte as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only plain decimal digits are a length.
    #[test]
    fn a_length_is_digits_and_nothing_else() {
        for (value, length) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("0010", Some(10)),
            (" 7\t", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("+5", None),
            ("-5", None),
            ("5,5", None),
            ("5 5", None),
            ("0x5", None),
            ("5_0", None),
            ("5.0", None),
            ("5;a", None),
            ("٣", None),
        ] {
            assert_eq!(content_length(value.as_bytes()), length, "{value:?}");
        }
    }

    /// `chunked` counts only alone; everything unclear is faulty.
    #[test]
    fn chunked_is_accepted_alone() {
        for (value, coding) in [
            ("chunked", Coding::Chunked),
            ("Chunked", Coding::Chunked),
            (" chunked\t", Coding::Chunked),
            ("gzip, chunked", Coding::Unknown),
            ("gzip", Coding::Unknown),
            ("identity", Coding::Unknown),
            ("chunked, gzip", Coding::Faulty),
            ("chunked, chunked", Coding::Faulty),
            ("chunked, identity", Coding::Faulty),
            ("chunked;q=1", Coding::Faulty),
            ("\"chunked\"", Coding::Faulty),
            ("", Coding::Faulty),
            (", chunked", Coding::Faulty),
            ("chunked,", Coding::Faulty),
            ("\x0bchunked", Coding::Faulty),
            ("chunked\0", Coding::Faulty),
            ("xchunked", Coding::Unknown),
        ] {
            assert_eq!(transfer_coding(value.as_bytes()), coding, "{value:?}");
        }
    }
}
