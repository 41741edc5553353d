//! One active check: a connection, and perhaps one request on it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time;

/// Where kube-proxy tells whether its node should get new connections.
const KUBE_PROXY_PORT: u16 = 10256;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Probe {
    /// The address takes connections.
    Connect(SocketAddr),
    /// The address answers a GET of this path with 200 to 399.
    Get(SocketAddr, String),
    /// The node takes connections for one of these node ports, and its kube-proxy does not say that it should not.
    Node(Vec<SocketAddr>),
}

impl Probe {
    /// Asks, and gives up after `timeout` for each connection.
    pub(crate) async fn run(&self, timeout: Duration) -> bool {
        match self {
            Self::Connect(address) => connect(*address, timeout).await.is_ok(),
            Self::Get(address, path) => get(*address, path, timeout).await.is_ok_and(|status| (200..400).contains(&status)),
            Self::Node(ports) => node(ports, timeout).await,
        }
    }
}

async fn node(ports: &[SocketAddr], timeout: Duration) -> bool {
    let Some(first) = ports.first() else { return true };
    // Stale rules, or the node is about to go. Any other answer, and none, says nothing: the port may be firewalled.
    if let Ok(503) = get(SocketAddr::new(first.ip(), KUBE_PROXY_PORT), "/healthz", timeout).await {
        return false;
    }
    for port in ports {
        match connect(*port, timeout).await {
            Ok(_) => return true,
            // Nobody listens for this Service, but somebody is there to say so: the Service is in trouble, not the node.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return true,
            Err(_) => {}
        }
    }
    false
}

async fn connect(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    time::timeout(timeout, TcpStream::connect(address)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The status of the answer to one GET.
async fn get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<u16> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: corelane-health\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        // `HTTP/1.1 200`: the rest does not matter.
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        status(&head).ok_or_else(|| io::ErrorKind::InvalidData.into())
    };
    time::timeout(timeout, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn status(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A status line is read, anything else is no answer.
    #[test]
    fn only_http_is_an_answer() {
        for (head, expected) in [
            (&b"HTTP/1.1 200"[..], Some(200)),
            (b"HTTP/1.0 503", Some(503)),
            (b"HTTP/1.1 2x0", None),
            (b"SSH-2.0-OpenS", None),
            (b"HTTP/1.1", None),
        ] {
            assert_eq!(status(head), expected);
        }
    }
}
