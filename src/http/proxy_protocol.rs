//! PROXY protocol versions 1 and 2: who the client really is, said by a trusted balancer in front.

use std::net::SocketAddr;

/// The longest header that is read, in bytes: version 2 with 536 bytes of addresses and TLVs.
pub const HEADER_BYTES_MAX: usize = 16 + 536;

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
pub fn parse(_bytes: &[u8]) -> Result<Option<ProxyHeader>, MalformedProxyHeader> {
    todo!()
}
