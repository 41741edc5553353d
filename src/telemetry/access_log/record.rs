//! What one line of the access log says.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::SystemTime;

/// Everything one line says.
#[derive(Clone, Debug)]
pub struct AccessRecord<'r> {
    /// When the first byte of the request was read.
    pub at: SystemTime,
    pub request_id: &'r [u8],
    pub client: IpAddr,
    pub client_port: u16,
    /// `http/0.0.0.0:80`.
    pub listener: &'r str,
    /// `HTTP/1.1`.
    pub proto: &'r str,
    pub tls_version: Option<&'r str>,
    pub tls_cipher: Option<&'r str>,
    pub sni: Option<&'r str>,
    pub method: &'r [u8],
    pub host: &'r [u8],
    /// Target as received, query included.
    pub path: &'r [u8],
    pub status: u16,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration_us: u64,
    pub upstream: Option<SocketAddr>,
    pub upstream_status: Option<u16>,
    pub upstream_connect_us: Option<u64>,
    pub upstream_first_byte_us: Option<u64>,
    pub attempts: u32,
    pub namespace: &'r str,
    pub ingress: &'r str,
    pub service: &'r str,
    pub user_agent: Option<&'r [u8]>,
    pub referer: Option<&'r [u8]>,
    /// Why it ended as it did, empty for the ordinary end.
    pub flags: &'r [&'static str],
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Text,
}
