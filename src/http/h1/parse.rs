//! Reads heads: httparse finds the lines, every rule beyond them is kept here.

use crate::http::fault::DownstreamFault;
use crate::http::fault::UpstreamFault;
use crate::http::h1::framing;
use crate::http::h1::framing::Coding;
use crate::http::h1::framing::ConnectionOptions;
use crate::http::h1::framing::is_token;
use crate::http::head::FIELDS_MAX;
use crate::http::head::FieldStorage;
use crate::http::head::Framing;
use crate::http::head::HeadLimits;
use crate::http::head::RequestHead;
use crate::http::head::ResponseHead;
use crate::http::head::Version;
use crate::http::path;
use std::borrow::Cow;

/// Empty lines in front of a request line that are forgiven (RFC 9112 section 2.2).
const EMPTY_LINES_MAX: usize = 4;

/// Reads one request head from the front of `bytes`; `None` until the blank line has arrived.
///
/// Framing follows RFC 9112 section 6.3: both Content-Length and Transfer-Encoding is refused, for it is how requests are smuggled.
///
/// # Errors
/// What the client did wrong; the connection is to be closed after the answer.
pub fn request<'h, 'b>(
    bytes: &'b [u8],
    storage: &'h mut FieldStorage<'b>,
    limits: &HeadLimits,
) -> Result<Option<RequestHead<'h, 'b>>, DownstreamFault> {
    let skipped = skip_empty_lines(bytes)?;
    let text = &bytes[skipped..];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(text, storage) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return incomplete(text, limits).map(|()| None),
        Err(httparse::Error::TooManyHeaders) => return Err(DownstreamFault::HeadTooLarge),
        // Which version it is shows at the end of the line.
        Err(httparse::Error::Version) if !text.contains(&b'\n') => return incomplete(text, limits).map(|()| None),
        Err(httparse::Error::Version) => return Err(version_fault(text)),
        Err(_) => return Err(malformed_or_too_large(text, limits)),
    };
    if length > limits.head_bytes_max {
        return Err(too_large(text, limits));
    }
    if has_bare_line_feed(&text[..length]) {
        return Err(DownstreamFault::MalformedHead);
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(DownstreamFault::MalformedHead);
    };
    let fields: &'h [httparse::Header<'b>] = parsed.headers;
    let (method, target) = (method.as_bytes(), target.as_bytes());
    if fields.len() > FIELDS_MAX {
        return Err(DownstreamFault::HeadTooLarge);
    }
    if target.len() > limits.target_bytes_max {
        return Err(DownstreamFault::TargetTooLong);
    }
    // As long as `incomplete` lets it grow: what a head is worth does not depend on how it was cut on its way.
    if method.len() + target.len() + "  HTTP/1.1\r".len() > line_bytes_max(limits) {
        return Err(too_large(text, limits));
    }
    if method == b"CONNECT" {
        // Whoever asks for a tunnel goes on in a protocol of its own.
        return Err(DownstreamFault::MethodNotAllowed);
    }
    let version = if minor == 1 { Version::Http11 } else { Version::Http10 };
    let known = KnownFields::read(fields, version)?;
    let framing = known.framing(version)?;
    let target_parts = split_target(method, target)?;
    let authority = known.authority(version, target_parts.authority)?;
    let host = host_of(authority).ok_or(DownstreamFault::BadHost)?;
    Ok(Some(RequestHead {
        method,
        path: normalised(target_parts.path)?,
        query: target_parts.query,
        target,
        version,
        authority,
        host,
        fields,
        framing,
        keep_alive: known.connection.keeps_alive(version == Version::Http11),
        refusal: if method == b"TRACE" { Some(DownstreamFault::MethodNotAllowed) } else { known.refusal },
        expects_continue: known.expects_continue && version == Version::Http11 && framing != Framing::Empty,
        upgrades_to_websocket: known.websocket
            && known.connection.upgrade
            && version == Version::Http11
            && method == b"GET"
            && framing == Framing::Empty,
        bytes: skipped + length,
        names_connection_fields: known.connection.names_fields,
    }))
}

/// The path that is matched and forwarded; `*` asks about the whole server.
fn normalised(path: &[u8]) -> Result<Cow<'_, [u8]>, DownstreamFault> {
    if path == b"*" { Ok(Cow::Borrowed(path)) } else { path::normalise(path).map_err(|_| DownstreamFault::BadTarget) }
}

/// What the fields that mean something to us say.
#[derive(Default)]
struct KnownFields<'b> {
    host: Option<&'b [u8]>,
    length: Option<u64>,
    coding: Option<Coding>,
    connection: ConnectionOptions,
    expects_continue: bool,
    refusal: Option<DownstreamFault>,
    websocket: bool,
}

impl<'b> KnownFields<'b> {
    fn read(fields: &[httparse::Header<'b>], version: Version) -> Result<Self, DownstreamFault> {
        let mut known = Self::default();
        for field in fields {
            let name = field.name.as_bytes();
            match name.len() {
                // httparse lets a name be empty only where it is asked to ignore bad ones.
                0 => return Err(DownstreamFault::MalformedHead),
                4 if name.eq_ignore_ascii_case(b"host") => {
                    set_once(&mut known.host, framing::trim(field.value), DownstreamFault::BadHost)?;
                }
                6 if name.eq_ignore_ascii_case(b"expect") => {
                    // HTTP/1.0 knows no expectations: it is ignored, and never forwarded.
                    if !framing::trim(field.value).eq_ignore_ascii_case(b"100-continue") && version == Version::Http11 {
                        known.refusal = Some(DownstreamFault::ExpectationFailed);
                    }
                    known.expects_continue = true;
                }
                7 if name.eq_ignore_ascii_case(b"upgrade") => known.websocket |= framing::lists(field.value, b"websocket"),
                10 if name.eq_ignore_ascii_case(b"connection") => known.connection.add(field.value),
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    let length = framing::content_length(field.value).ok_or(DownstreamFault::BadFraming)?;
                    set_once(&mut known.length, length, DownstreamFault::BadFraming)?;
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    set_once(&mut known.coding, framing::transfer_coding(field.value), DownstreamFault::BadFraming)?;
                }
                _ => {}
            }
        }
        Ok(known)
    }

    fn framing(&self, version: Version) -> Result<Framing, DownstreamFault> {
        match (self.coding, self.length) {
            (Some(_), Some(_)) => Err(DownstreamFault::BadFraming),
            (Some(_), None) if version == Version::Http10 => Err(DownstreamFault::BadFraming),
            (Some(Coding::Chunked), None) => Ok(Framing::Chunked),
            (Some(Coding::Unknown), None) => Err(DownstreamFault::UnknownCoding),
            (Some(Coding::Faulty), None) => Err(DownstreamFault::BadFraming),
            (None, None | Some(0)) => Ok(Framing::Empty),
            (None, Some(length)) => Ok(Framing::Length(length)),
        }
    }

    /// The authority of the request: Host and an absolute target must agree (stricter than RFC 9112 section 3.2.2).
    fn authority(&self, version: Version, target: Option<&'b [u8]>) -> Result<&'b [u8], DownstreamFault> {
        match (self.host, target) {
            (Some(host), Some(target)) if !host.eq_ignore_ascii_case(target) => Err(DownstreamFault::BadHost),
            (Some([]), _) => Err(DownstreamFault::BadHost),
            (Some(host), _) => Ok(host),
            (None, target) if version == Version::Http10 => Ok(target.unwrap_or(b"")),
            (None, _) => Err(DownstreamFault::BadHost),
        }
    }
}

/// Reads one response head from the front of `bytes`; `None` until the blank line has arrived.
///
/// `to_head_request`: the answer to HEAD has no content whatever it declares.
///
/// # Errors
/// `UpstreamFault::MalformedResponse`; the connection must not be used again.
pub fn response<'h, 'b>(
    bytes: &'b [u8],
    storage: &'h mut FieldStorage<'b>,
    limits: &HeadLimits,
    to_head_request: bool,
) -> Result<Option<ResponseHead<'h, 'b>>, UpstreamFault> {
    const MALFORMED: UpstreamFault = UpstreamFault::MalformedResponse;
    let mut parsed = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    // RFC 9112 section 5.1: in a response that whitespace is removed, not refused.
    config.allow_spaces_after_header_name_in_responses(true);
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, storage) {
        Ok(httparse::Status::Complete(length)) if length <= limits.head_bytes_max => length,
        Ok(httparse::Status::Partial) if bytes.len() < limits.head_bytes_max => return Ok(None),
        _ => return Err(MALFORMED),
    };
    if has_bare_line_feed(&bytes[..length]) {
        return Err(MALFORMED);
    }
    let (Some(status @ 100..=599), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(MALFORMED);
    };
    let version = if minor == 1 { Version::Http11 } else { Version::Http10 };
    let fields: &'h [httparse::Header<'b>] = parsed.headers;
    if fields.len() > FIELDS_MAX {
        return Err(MALFORMED);
    }
    let mut declared = None;
    let mut coding = None;
    let mut connection = ConnectionOptions::default();
    let mut websocket = false;
    for field in fields {
        let name = field.name.as_bytes();
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => websocket |= framing::lists(field.value, b"websocket"),
            10 if name.eq_ignore_ascii_case(b"connection") => connection.add(field.value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                set_once(&mut declared, framing::content_length(field.value).ok_or(MALFORMED)?, MALFORMED)?;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                set_once(&mut coding, framing::transfer_coding(field.value), MALFORMED)?;
            }
            _ => {}
        }
    }
    let (framing, reusable) = if to_head_request || status < 200 || matches!(status, 204 | 304) {
        (Framing::Empty, true)
    } else {
        response_framing(coding, declared, version)?
    };
    Ok(Some(ResponseHead {
        status,
        reason: parsed.reason.unwrap_or("").as_bytes(),
        version,
        fields,
        framing,
        declared_length: declared.filter(|_| framing != Framing::Chunked),
        keep_alive: reusable && connection.keeps_alive(version == Version::Http11),
        upgrades_to_websocket: websocket && connection.upgrade,
        bytes: length,
        names_connection_fields: connection.names_fields,
    }))
}

/// How the content of an answer ends (RFC 9112 section 6.3), and whether its connection may be used again.
fn response_framing(coding: Option<Coding>, declared: Option<u64>, version: Version) -> Result<(Framing, bool), UpstreamFault> {
    match (coding, declared) {
        // Both: the coding rules, and whoever said both is not asked a second time.
        (Some(Coding::Chunked), both) if version == Version::Http11 => Ok((Framing::Chunked, both.is_none())),
        (Some(_), _) => Err(UpstreamFault::MalformedResponse),
        (None, Some(0)) => Ok((Framing::Empty, true)),
        (None, Some(length)) => Ok((Framing::Length(length), true)),
        (None, None) => Ok((Framing::UntilClose, false)),
    }
}

/// Takes what may be said once only.
fn set_once<T, F>(place: &mut Option<T>, value: T, said_twice: F) -> Result<(), F> {
    if place.replace(value).is_some() { Err(said_twice) } else { Ok(()) }
}

/// CRLFs in front of a request line; a bare line feed there is as malformed as anywhere.
fn skip_empty_lines(bytes: &[u8]) -> Result<usize, DownstreamFault> {
    let mut skipped = 0;
    while bytes[skipped..].starts_with(b"\r\n") {
        skipped += 2;
        if skipped > 2 * EMPTY_LINES_MAX {
            return Err(DownstreamFault::MalformedHead);
        }
    }
    match bytes[skipped..] {
        [b'\n', ..] | [b'\r', _, ..] => Err(DownstreamFault::MalformedHead),
        _ => Ok(skipped),
    }
}

/// Longest request line without its line feed, in bytes: the target, and room for method, version and what is between them.
fn line_bytes_max(limits: &HeadLimits) -> usize {
    limits.target_bytes_max + 64
}

/// Whether an unfinished head may go on.
fn incomplete(text: &[u8], limits: &HeadLimits) -> Result<(), DownstreamFault> {
    if text.len() >= limits.head_bytes_max || !text.contains(&b'\n') && text.len() > line_bytes_max(limits) {
        return Err(too_large(text, limits));
    }
    // A line that ended wrongly is known now: nobody should wait for the rest of it.
    if has_bare_line_feed(text) {
        return Err(DownstreamFault::MalformedHead);
    }
    Ok(())
}

/// Whether it is the target or the head that is too large.
fn too_large(text: &[u8], limits: &HeadLimits) -> DownstreamFault {
    let line = text.split(|byte| *byte == b'\r').next().unwrap_or(text);
    let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or(b"");
    if target.len() > limits.target_bytes_max { DownstreamFault::TargetTooLong } else { DownstreamFault::HeadTooLarge }
}

fn malformed_or_too_large(text: &[u8], limits: &HeadLimits) -> DownstreamFault {
    if text.len() > limits.head_bytes_max && !text[..limits.head_bytes_max].windows(4).any(|end| end == b"\r\n\r\n") {
        too_large(text, limits)
    } else {
        DownstreamFault::MalformedHead
    }
}

/// A request line whose version httparse does not take: another version is 505, no version is malformed.
fn version_fault(text: &[u8]) -> DownstreamFault {
    let line = text.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or(b"");
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or(b"");
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() && line.split(|byte| *byte == b' ').count() == 3 =>
        {
            DownstreamFault::UnsupportedVersion
        }
        _ => DownstreamFault::MalformedHead,
    }
}

/// A line feed that no carriage return precedes: httparse takes it for a line end, others do not.
#[inline]
fn has_bare_line_feed(text: &[u8]) -> bool {
    let mut previous = 0;
    for byte in text {
        if *byte == b'\n' && previous != b'\r' {
            return true;
        }
        previous = *byte;
    }
    false
}

struct TargetParts<'b> {
    authority: Option<&'b [u8]>,
    path: &'b [u8],
    query: Option<&'b [u8]>,
}

/// Takes a target apart (RFC 9112 section 3.2): origin form, absolute form, or `*` for OPTIONS.
fn split_target<'b>(method: &[u8], target: &'b [u8]) -> Result<TargetParts<'b>, DownstreamFault> {
    const BAD: DownstreamFault = DownstreamFault::BadTarget;
    if !target.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\')) {
        return Err(BAD);
    }
    let (authority, rest) = match target {
        [b'/', ..] => (None, target),
        b"*" if method == b"OPTIONS" => return Ok(TargetParts { authority: None, path: target, query: None }),
        _ => {
            let rest = strip_scheme(target).ok_or(BAD)?;
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
            let (authority, rest) = rest.split_at(end);
            if authority.is_empty() || authority.contains(&b'@') {
                return Err(BAD);
            }
            (Some(authority), rest)
        }
    };
    let (path, query) = match rest.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&rest[..mark], Some(&rest[mark + 1..])),
        None => (rest, None),
    };
    Ok(TargetParts { authority, path: if path.is_empty() { b"/" } else { path }, query })
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (front, rest) = target.split_at_checked(scheme.len())?;
        front.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// The host of `uri-host [ ":" port ]` without port and trailing dot; `None` where it is not one. Empty stays empty.
fn host_of(authority: &[u8]) -> Option<&[u8]> {
    if authority.is_empty() {
        return Some(authority);
    }
    let (host, port) = match authority {
        [b'[', ..] => {
            let end = authority.iter().position(|byte| *byte == b']')? + 1;
            let inside = std::str::from_utf8(&authority[1..end - 1]).ok()?;
            inside.parse::<std::net::Ipv6Addr>().ok()?;
            match &authority[end..] {
                [] => (&authority[..end], None),
                [b':', port @ ..] => (&authority[..end], Some(port)),
                _ => return None,
            }
        }
        _ => match authority.iter().position(|byte| *byte == b':') {
            Some(colon) => (&authority[..colon], Some(&authority[colon + 1..])),
            None => (authority, None),
        },
    };
    if let Some(port) = port {
        // Before the arithmetic: what is no digit, or too many of them, would overflow it.
        if port.len() > 5 || !port.iter().all(u8::is_ascii_digit) {
            return None;
        }
        if port.iter().fold(0u32, |number, digit| number * 10 + u32::from(digit - b'0')) > 65_535 {
            return None;
        }
    }
    let name = if host.starts_with(b"[") { host } else { host.strip_suffix(b".").unwrap_or(host) };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if name.is_empty() || (!name.starts_with(b"[") && !name.iter().all(is_name)) {
        return None;
    }
    Some(name)
}

/// Whether bytes are a token; exported for codecs beside this one.
pub fn is_token_text(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::field_storage;

    #[derive(Debug, PartialEq, Eq)]
    struct Got {
        path: String,
        host: String,
        framing: Framing,
        keep_alive: bool,
        bytes: usize,
    }

    fn read(wire: &[u8]) -> Result<Option<Got>, DownstreamFault> {
        let mut storage = field_storage();
        let head = request(wire, &mut storage, &HeadLimits::default())?;
        Ok(head.map(|head| Got {
            path: String::from_utf8_lossy(&head.path).into_owned(),
            host: String::from_utf8_lossy(head.host).into_owned(),
            framing: head.framing,
            keep_alive: head.keep_alive,
            bytes: head.bytes,
        }))
    }

    fn accepted(wire: &str) -> Got {
        match read(wire.as_bytes()) {
            Ok(Some(got)) => got,
            other => panic!("{wire:?}: {other:?}"),
        }
    }

    /// What must be accepted is accepted, and means what it says.
    #[test]
    fn well_formed_requests_are_accepted() {
        for (wire, framing, keep_alive) in [
            ("GET /a HTTP/1.1\r\nHost: h\r\n\r\n", Framing::Empty, true),
            ("\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", Framing::Empty, true),
            ("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", Framing::Length(5), true),
            ("POST /a HTTP/1.1\r\nHost: h\r\ncontent-length: 005 \r\n\r\n", Framing::Length(5), true),
            ("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", Framing::Empty, true),
            ("POST /a HTTP/1.1\r\nHost: h\r\n\r\n", Framing::Empty, true),
            ("POST /a HTTP/1.1\r\nHost: h\r\nTRANSFER-ENCODING: Chunked\r\n\r\n", Framing::Chunked, true),
            ("GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", Framing::Empty, false),
            ("GET /a HTTP/1.1\r\nHost: h\r\nConnection: x, CLOSE\r\n\r\n", Framing::Empty, false),
            ("GET /a HTTP/1.0\r\nHost: h\r\n\r\n", Framing::Empty, false),
            ("GET /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n", Framing::Empty, true),
            ("GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n", Framing::Empty, true),
            ("GET /a HTTP/1.1\r\nHost: h:8080\r\nX: \t v \r\nEmpty:\r\n\r\n", Framing::Empty, true),
            ("GET /a HTTP/1.1\r\nHost: h\r\nX-Bytes: \u{e9}\r\n\r\n", Framing::Empty, true),
            ("GET /a HTTP/1.1\r\nHost: h\r\nTransfer%2dEncoding: chunked\r\n\r\n", Framing::Empty, true),
            ("BREW /a HTTP/1.1\r\nHost: h.\r\n\r\n", Framing::Empty, true),
            ("get /a HTTP/1.1\r\nHost: h\r\n\r\n", Framing::Empty, true),
            ("GET /a HTTP/1.1\r\nHost: h\r\nTransfer_Encoding: chunked\r\n\r\n", Framing::Empty, true),
        ] {
            let bytes = wire.len();
            let want = Got { path: "/a".to_owned(), host: "h".to_owned(), framing, keep_alive, bytes };
            assert_eq!(accepted(wire), want, "{wire:?}");
            assert_eq!(accepted(&format!("{wire}GET / HTTP/1.1\r\n")), want, "{wire:?} with another behind it");
            for cut in 0..bytes {
                assert_eq!(read(&wire.as_bytes()[..cut]), Ok(None), "{wire:?} cut at {cut}");
            }
        }
        let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(7980));
        assert_eq!(accepted(&long).path.len(), 7981);
        let all = accepted("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(all.path, "*");
        assert_eq!(accepted("GET http://h?q HTTP/1.1\r\nHost: h\r\n\r\n").path, "/");
        assert_eq!(accepted("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n").host, "[::1]");
    }

    /// Everything that two readers could understand differently is refused, with the status the specification names.
    #[test]
    fn unclear_requests_are_refused() {
        use DownstreamFault as F;
        for (wire, fault) in [
            ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", F::BadFraming),
            ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", F::BadFraming),
            ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", F::UnknownCoding),
            ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n", F::BadFraming),
            ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n", F::BadFraming),
            ("GET / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", F::BadFraming),
            ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", F::BadFraming),
            ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\n", F::BadFraming),
            ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\n", F::BadFraming),
            ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n", F::BadFraming),
            ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length : 5\r\n\r\n", F::MalformedHead),
            ("GET / HTTP/1.1\r\nHost: h\r\n X: y\r\n\r\n", F::MalformedHead),
            ("GET / HTTP/1.1\r\n Host: h\r\n\r\n", F::MalformedHead),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n z\r\n\r\n", F::MalformedHead),
            ("GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n", F::MalformedHead),
            ("GET / HTTP/1.1\r\nHost: h\r\n: y\r\n\r\n", F::MalformedHead),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n", F::MalformedHead),
            ("GET / HTTP/1.1\nHost: h\n\n", F::MalformedHead),
            ("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", F::MalformedHead),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", F::MalformedHead),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", F::MalformedHead),
            ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", F::MalformedHead),
            ("GET /  HTTP/1.1\r\nHost: h\r\n\r\n", F::MalformedHead),
            (" GET / HTTP/1.1\r\nHost: h\r\n\r\n", F::MalformedHead),
            ("G(T / HTTP/1.1\r\nHost: h\r\n\r\n", F::MalformedHead),
            ("GET /\r\n\r\n", F::MalformedHead),
            ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", F::UnsupportedVersion),
            ("GET / HTTP/1.2\r\nHost: h\r\n\r\n", F::UnsupportedVersion),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", F::UnsupportedVersion),
            ("GET / http/1.1\r\nHost: h\r\n\r\n", F::MalformedHead),
            ("GET / HTTP/1.1\r\n\r\n", F::BadHost),
            ("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", F::BadHost),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", F::BadHost),
            ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", F::BadHost),
            ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", F::BadHost),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", F::BadHost),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", F::BadHost),
            ("GET / HTTP/1.1\r\nHost: h:99999\r\n\r\n", F::BadHost),
            ("GET / HTTP/1.1\r\nHost: h:8x\r\n\r\n", F::BadHost),
            ("GET / HTTP/1.1\r\nHost: http://host.example\r\n\r\n", F::BadHost),
            ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", F::BadHost),
            ("GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n", F::BadHost),
            ("GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", F::BadTarget),
            ("GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", F::BadTarget),
            ("GET http:/// HTTP/1.1\r\nHost: h\r\n\r\n", F::BadTarget),
            ("GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n", F::BadTarget),
            ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", F::BadTarget),
            ("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", F::BadTarget),
            ("GET /a\\b HTTP/1.1\r\nHost: h\r\n\r\n", F::BadTarget),
            ("GET /../a HTTP/1.1\r\nHost: h\r\n\r\n", F::BadTarget),
            ("GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n", F::BadTarget),
            ("CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", F::MethodNotAllowed),
            ("\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", F::MalformedHead),
        ] {
            assert_eq!(read(wire.as_bytes()), Err(fault), "{wire:?}");
        }
        assert!(read(b"GET /\xe9 HTTP/1.1\r\nHost: h\r\n\r\n").is_err(), "raw eight-bit target");
        assert!(read(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").is_err(), "TLS on a plain port");
    }

    /// Another version is called one however its line arrives.
    #[test]
    fn a_version_is_read_to_its_end() {
        let wire = b"GET / HTTP/2.0\r\nHost: h\r\n\r\n";
        for length in 0..15 {
            assert_eq!(read(&wire[..length]), Ok(None), "{length}");
        }
        assert_eq!(read(&wire[..16]), Err(DownstreamFault::UnsupportedVersion));
    }

    /// What is too large is called so while it is still growing.
    #[test]
    fn oversized_heads_are_refused_early() {
        let target = format!("GET /{}", "a".repeat(9000));
        assert_eq!(read(target.as_bytes()), Err(DownstreamFault::TargetTooLong));
        let field = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "a".repeat(33 << 10));
        assert_eq!(read(field.as_bytes()), Err(DownstreamFault::HeadTooLarge));
        let whole = format!("{field}\r\n\r\n");
        assert_eq!(read(whole.as_bytes()), Err(DownstreamFault::HeadTooLarge));
        let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(100));
        assert_eq!(read(many.as_bytes()), Err(DownstreamFault::HeadTooLarge));
        let just = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(99));
        assert!(read(just.as_bytes()).is_ok());
    }

    /// A request line is too long by its length, not by how it was cut on its way: a method takes no more room than it is given.
    #[test]
    fn a_long_method_is_refused_however_it_arrives() {
        let limits = HeadLimits::default();
        for (method_bytes, is_taken) in
            [(limits.target_bytes_max + 64 - "/  HTTP/1.1\r".len(), true), (limits.target_bytes_max + 64, false)]
        {
            let wire = format!("{} / HTTP/1.1\r\nHost: h\r\n\r\n", "M".repeat(method_bytes));
            let refused_early = (0..wire.len()).any(|cut| request(&wire.as_bytes()[..cut], &mut field_storage(), &limits).is_err());
            assert_eq!(request(wire.as_bytes(), &mut field_storage(), &limits).is_ok(), is_taken, "{method_bytes}");
            assert_eq!(refused_early, !is_taken, "{method_bytes}");
        }
    }

    /// A request that is understood and refused has its end known: the connection need not suffer.
    #[test]
    fn refusals_know_where_the_request_ends() {
        for (wire, refusal) in [
            ("TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", DownstreamFault::MethodNotAllowed),
            ("POST / HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\n\r\n", DownstreamFault::ExpectationFailed),
            ("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nExpect: x\r\n\r\n", DownstreamFault::ExpectationFailed),
        ] {
            let mut storage = field_storage();
            let head = request(wire.as_bytes(), &mut storage, &HeadLimits::default());
            let Ok(Some(head)) = head else { panic!("{wire:?}") };
            assert_eq!((head.refusal, head.bytes), (Some(refusal), wire.len()), "{wire:?}");
        }
    }

    /// An upgrade is one only with all its parts, and an expectation only where there is content.
    #[test]
    fn upgrades_and_expectations_need_all_their_parts() {
        for (wire, upgrades, expects) in [
            ("GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n", true, false),
            ("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n", false, false),
            ("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", false, false),
            ("POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", false, false),
            ("GET / HTTP/1.0\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", false, false),
            ("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n", false, true),
            ("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n", false, false),
            ("POST / HTTP/1.0\r\nHost: h\r\nExpect: x\r\nContent-Length: 1\r\n\r\n", false, false),
        ] {
            let mut storage = field_storage();
            let head = request(wire.as_bytes(), &mut storage, &HeadLimits::default());
            let Ok(Some(head)) = head else { panic!("{wire:?}") };
            assert_eq!((head.upgrades_to_websocket, head.expects_continue), (upgrades, expects), "{wire:?}");
        }
    }

    /// What Connection names is dropped, but never what framing, routing or identity rest on.
    #[test]
    fn connection_cannot_remove_what_matters() {
        let wire = "GET / HTTP/1.1\r\nHost: h\r\nConnection: x-drop, authorization, cookie, x-forwarded-for, te\r\nX-Drop: 1\r\n\
                    Authorization: a\r\nCookie: c\r\nX-Forwarded-For: f\r\nTE: trailers\r\nProxy: p\r\nX_Under: u\r\nX-Keep: k\r\n\r\n";
        let mut storage = field_storage();
        let Ok(Some(head)) = request(wire.as_bytes(), &mut storage, &HeadLimits::default()) else { panic!("{wire:?}") };
        let names: Vec<&str> = head.end_to_end().map(|field| field.name).collect();
        assert_eq!(names, ["Authorization", "Cookie", "X-Forwarded-For", "X-Keep"]);
    }

    /// Good answers are read, and the end of their content is known.
    #[test]
    fn answers_end_where_they_say() {
        for (wire, to_head, framing, keep_alive) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false, Framing::Length(3), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, Framing::Empty, true),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", false, Framing::Empty, true),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", false, Framing::Empty, true),
            ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", false, Framing::Chunked, true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", false, Framing::Chunked, false),
            ("HTTP/1.1 200 OK\r\n\r\n", false, Framing::UntilClose, false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", false, Framing::Length(3), false),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n", false, Framing::Length(3), true),
            ("HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\n", false, Framing::Length(3), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false, Framing::Empty, false),
        ] {
            let mut storage = field_storage();
            let Ok(Some(head)) = response(wire.as_bytes(), &mut storage, &HeadLimits::default(), to_head) else { panic!("{wire:?}") };
            assert_eq!((head.framing, head.keep_alive, head.bytes), (framing, keep_alive, wire.len()), "{wire:?}");
        }
    }

    /// An answer that is not clear is no answer.
    #[test]
    fn unclear_answers_are_refused() {
        for wire in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\nY: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n",
            "HTTP/1.1 99 Low\r\n\r\n",
            "HTTP/1.1 600 High\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "garbage\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n",
        ] {
            let mut storage = field_storage();
            let got = response(wire.as_bytes(), &mut storage, &HeadLimits::default(), false);
            assert!(got.is_err(), "{wire:?}: {got:?}");
        }
    }
}
