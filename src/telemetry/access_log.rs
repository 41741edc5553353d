//! The access log: lines are made on the shard, collected in blocks, and written by one thread; a slow disk costs lines, never time.

use std::net::IpAddr;
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
    pub upstream: Option<std::net::SocketAddr>,
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

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Off,
    Stdout,
    File(std::path::PathBuf),
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Text,
}

/// The writing end: the loop of one thread that boot starts.
#[derive(Debug)]
pub struct LogWriter {}

impl LogWriter {
    /// Writes blocks until every shard's end is gone. A destination that fails is tried again, and said so once.
    pub fn run(self) {}
}

/// Opens the destination and makes one end for each shard; without a writer there is nothing to run.
///
/// # Errors
/// The file cannot be opened for appending.
pub fn open(_destination: &Destination, _format: Format, shards: usize) -> std::io::Result<(Option<LogWriter>, Vec<AccessLog>)> {
    Ok((None, (0..shards).map(|_| AccessLog::off()).collect()))
}

/// One shard's end of the log.
#[derive(Debug, Default)]
pub struct AccessLog {}

impl AccessLog {
    /// A log that writes nothing.
    pub fn off() -> Self {
        Self {}
    }

    /// Whether lines are wanted at all: a shard that is told no need not collect a record.
    pub fn is_on(&self) -> bool {
        false
    }

    /// Formats one line into the current block; a full block goes to the writer. Returns lines dropped because the writer is behind.
    pub fn write(&mut self, _record: &AccessRecord<'_>) -> u64 {
        0
    }

    /// Hands the current block to the writer; called about ten times a second. Returns lines dropped.
    pub fn flush(&mut self) -> u64 {
        0
    }
}
