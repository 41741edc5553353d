//! PROXY protocol versions 1 and 2: who the client really is, said by a trusted balancer in front.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

/// The longest header that is read, in bytes: version 2 with 536 bytes of addresses and TLVs.
pub const HEADER_BYTES_MAX: usize = 16 + 536;
/// The longest line of version 1, CRLF included.
const LINE_BYTES_MAX: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A complete PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Bytes to skip.
    pub bytes: usize,
    /// Client and destination; `None` for LOCAL and UNKNOWN: the peer itself speaks.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

/// Bytes that are no PROXY header: the connection is closed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedProxyHeader;

/// Reads a header of either version from the front of `bytes`; `None` until it is complete.
///
/// # Errors
/// [`MalformedProxyHeader`] as soon as the bytes cannot become a header.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, MalformedProxyHeader> {
    let begins_with = |front: &[u8]| bytes.iter().zip(front).all(|(byte, want)| byte == want);
    match bytes {
        [] => Ok(None),
        [b'P', ..] if begins_with(b"PROXY ") => parse_line(bytes),
        [b'\r', ..] if begins_with(SIGNATURE) => parse_binary(bytes),
        _ => Err(MalformedProxyHeader),
    }
}

fn parse_line(bytes: &[u8]) -> Result<Option<ProxyHeader>, MalformedProxyHeader> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() >= LINE_BYTES_MAX { Err(MalformedProxyHeader) } else { Ok(None) };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(MalformedProxyHeader)?;
    let line = std::str::from_utf8(line).map_err(|_| MalformedProxyHeader)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(MalformedProxyHeader)?;
    if family == "UNKNOWN" {
        return Ok(Some(ProxyHeader { bytes: end + 1, addresses: None }));
    }
    let (source, destination) = (address(words.next(), family)?, address(words.next(), family)?);
    let (source_port, destination_port) = (port(words.next())?, port(words.next())?);
    if words.next().is_some() {
        return Err(MalformedProxyHeader);
    }
    let addresses = Some((SocketAddr::new(source, source_port), SocketAddr::new(destination, destination_port)));
    Ok(Some(ProxyHeader { bytes: end + 1, addresses }))
}

fn address(word: Option<&str>, family: &str) -> Result<IpAddr, MalformedProxyHeader> {
    let word = word.ok_or(MalformedProxyHeader)?;
    match family {
        "TCP4" => word.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| MalformedProxyHeader),
        "TCP6" => word.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| MalformedProxyHeader),
        _ => Err(MalformedProxyHeader),
    }
}

fn port(word: Option<&str>) -> Result<u16, MalformedProxyHeader> {
    let word = word.ok_or(MalformedProxyHeader)?;
    let canonical = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if canonical { word.parse().map_err(|_| MalformedProxyHeader) } else { Err(MalformedProxyHeader) }
}

fn parse_binary(bytes: &[u8]) -> Result<Option<ProxyHeader>, MalformedProxyHeader> {
    let Some(front) = bytes.get(..16) else { return Ok(None) };
    let (version_command, family) = (front[12], front[13]);
    let length = usize::from(u16::from_be_bytes([front[14], front[15]]));
    if version_command >> 4 != 2 || version_command & 15 > 1 || 16 + length > HEADER_BYTES_MAX {
        return Err(MalformedProxyHeader);
    }
    let Some(payload) = bytes.get(16..16 + length) else { return Ok(None) };
    let local = version_command & 15 == 0;
    let (addresses, rest) = match (local, family) {
        (true, _) => (None, &payload[..0]),
        (false, 0x11) => {
            let part = payload.get(..12).ok_or(MalformedProxyHeader)?;
            let ip = |at: usize| Ipv4Addr::new(part[at], part[at + 1], part[at + 2], part[at + 3]);
            let port = |at: usize| u16::from_be_bytes([part[at], part[at + 1]]);
            (Some((SocketAddr::from((ip(0), port(8))), SocketAddr::from((ip(4), port(10))))), &payload[12..])
        }
        (false, 0x21) => {
            let part = payload.get(..36).ok_or(MalformedProxyHeader)?;
            let ip = |at: usize| <[u8; 16]>::try_from(&part[at..at + 16]).map(Ipv6Addr::from).map_err(|_| MalformedProxyHeader);
            let port = |at: usize| u16::from_be_bytes([part[at], part[at + 1]]);
            (Some((SocketAddr::from((ip(0)?, port(32))), SocketAddr::from((ip(16)?, port(34))))), &payload[36..])
        }
        // Unspecified, or a family that is not TCP: the peer speaks for itself.
        (false, _) => (None, &payload[..0]),
    };
    check_records(rest)?;
    Ok(Some(ProxyHeader { bytes: 16 + length, addresses }))
}

/// Type-length-value records must fill the rest exactly; none of them is used.
fn check_records(mut rest: &[u8]) -> Result<(), MalformedProxyHeader> {
    while !rest.is_empty() {
        let length = match rest {
            [_, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => return Err(MalformedProxyHeader),
        };
        rest = rest.get(3 + length..).ok_or(MalformedProxyHeader)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn pair(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
        Some((source.parse().expect("an address"), destination.parse().expect("an address")))
    }

    /// Headers of both versions are read whole, and wait for their last byte.
    #[test]
    fn complete_headers_are_read() {
        let v4 = [10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 1, 187];
        let mut with_records = v4.to_vec();
        with_records.extend([0x04, 0, 2, 7, 7]);
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 80, 81);
        for (wire, addresses) in [
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 80 443\r\n".to_vec(), pair("10.0.0.1:80", "10.0.0.2:443")),
            (b"PROXY TCP6 ::1 ::2 80 0\r\n".to_vec(), pair("[::1]:80", "[::2]:0")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN whatever it says\r\n".to_vec(), None),
            (binary(0x21, 0x11, &v4), pair("10.0.0.1:80", "10.0.0.2:443")),
            (binary(0x21, 0x11, &with_records), pair("10.0.0.1:80", "10.0.0.2:443")),
            (binary(0x21, 0x21, &v6), pair("[::1]:80", "[::2]:81")),
            (binary(0x20, 0, &[]), None),
            (binary(0x20, 0x11, &[1, 2, 3]), None),
            (binary(0x21, 0x31, &[0; 100]), None),
        ] {
            let mut with_more = wire.clone();
            with_more.extend(b"GET / HTTP/1.1\r\n");
            assert_eq!(parse(&with_more), Ok(Some(ProxyHeader { bytes: wire.len(), addresses })), "{wire:?}");
            for cut in 0..wire.len() {
                assert_eq!(parse(&wire[..cut]), Ok(None), "{wire:?} cut at {cut}");
            }
        }
    }

    /// Anything else is refused as soon as it can be told.
    #[test]
    fn other_bytes_are_refused() {
        for wire in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 80\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 80 443 9\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::2 80 443\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 080 443\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 80 65536\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 +8 443\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.1  10.0.0.2 80 443\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 80 443\n".to_vec(),
            b"PROXY TCP5 10.0.0.1 10.0.0.2 80 443\r\n".to_vec(),
            [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 100]].concat(),
            binary(0x11, 0x11, &[0; 12]),
            binary(0x22, 0x11, &[0; 12]),
            binary(0x21, 0x11, &[0; 11]),
            binary(0x21, 0x21, &[0; 35]),
            binary(0x21, 0x11, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 9, 1]),
            binary(0x21, 0x11, &[0; 537]),
        ] {
            assert_eq!(parse(&wire), Err(MalformedProxyHeader), "{wire:?}");
        }
    }
}
