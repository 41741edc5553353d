//! A client that sends exactly the bytes it is told to, and reads answers by RFC 9112 without any help from Corelane's own codec.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::StreamOwned;

use crate::support::PATIENCE;
use crate::support::show;

/// One connection to Corelane.
pub struct Client {
    io: Io,
    /// Read and not yet taken.
    pub buffer: Vec<u8>,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A final answer with the interim ones before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub reason: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub interim: Vec<u16>,
    /// The head as it came.
    pub head: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The end of the stream in front of an answer.
    Closed,
    /// A reset in front of an answer.
    Reset,
    /// Another error of the socket.
    Failed(io::ErrorKind),
    /// The end, orderly or not, in the middle of an answer; what there was of its body.
    Truncated { status: u16, body: Vec<u8> },
    /// Nothing came for a long time.
    Silent,
    /// Not an answer.
    Malformed(String),
}

impl Response {
    /// The value of a field; panics where it is there twice.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} twice in {self:?}");
        Some(&value.1)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether it says that the connection ends.
    pub fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, PATIENCE).expect("Corelane accepts"))
    }

    /// Speaks over a connected socket.
    pub fn over(stream: TcpStream) -> Self {
        prepare(&stream);
        Self { io: Io::Plain(stream), buffer: Vec::new() }
    }

    /// Connects and does the handshake.
    pub fn connect_tls(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Self {
        Self::try_connect_tls(address, config, name).expect("the handshake succeeds")
    }

    /// # Errors
    /// Of the handshake.
    pub fn try_connect_tls(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        prepare(&stream);
        let name = name.to_owned().try_into().expect("a server name");
        let mut session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Self { io: Io::Tls(Box::new(StreamOwned::new(session, stream))), buffer: Vec::new() })
    }

    /// What TLS agreed on.
    pub fn session(&self) -> &ClientConnection {
        match &self.io {
            Io::Tls(tls) => &tls.conn,
            Io::Plain(_) => panic!("no TLS here"),
        }
    }

    pub fn socket(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(stream) => stream,
            Io::Tls(tls) => &tls.sock,
        }
    }

    /// Sends bytes; a peer that has closed meanwhile is no failure of the sender.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _closed = self.try_send(bytes.as_ref());
    }

    /// # Errors
    /// The socket's.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.io {
            Io::Plain(stream) => stream.write_all(bytes),
            Io::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }

    /// Writes what a plain socket that does not block takes now; `None` where it takes nothing.
    pub fn write_some(&self, bytes: &[u8]) -> Option<usize> {
        let mut socket = self.socket();
        socket.write(bytes).ok().filter(|count| *count > 0)
    }

    /// Sends a request without content and returns the answer.
    pub fn get(&mut self, host: &str, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.response()
    }

    /// Ends the sending direction.
    pub fn finish_sending(&mut self) {
        if let Io::Tls(tls) = &mut self.io {
            tls.conn.send_close_notify();
            let _closed = tls.flush();
        }
        let _closed = self.socket().shutdown(Shutdown::Write);
    }

    /// Makes the close a reset.
    pub fn reset(self) {
        reset(self.socket());
    }

    /// More bytes into the buffer; `Ok(0)` at the end.
    ///
    /// # Errors
    /// The socket's; `WouldBlock` after a long silence.
    pub fn fill(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16 << 10];
        let mut read = || match &mut self.io {
            Io::Plain(stream) => stream.read(&mut bytes),
            Io::Tls(tls) => tls.read(&mut bytes),
        };
        let count = match retried(&mut read) {
            // TLS that ends without close_notify ends all the same; truncation shows in the framing.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            other => other?,
        };
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// The next final answer to a request that was not HEAD.
    pub fn response(&mut self) -> Response {
        self.try_response(false).unwrap_or_else(|ended| panic!("no answer: {ended:?}"))
    }

    /// The next final answer to HEAD.
    pub fn response_to_head(&mut self) -> Response {
        self.try_response(true).unwrap_or_else(|ended| panic!("no answer: {ended:?}"))
    }

    /// The next final answer.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn try_response(&mut self, to_head: bool) -> Result<Response, Ended> {
        let mut interim = Vec::new();
        loop {
            let mut response = self.head()?;
            match response.status {
                100 | 102..=199 => interim.push(response.status),
                status => {
                    let without = to_head || matches!(status, 101 | 204 | 304);
                    response.interim = interim;
                    if !without {
                        self.body(&mut response)?;
                    }
                    return Ok(response);
                }
            }
        }
    }

    fn head(&mut self) -> Result<Response, Ended> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            match self.fill() {
                Ok(0) if self.buffer.is_empty() => return Err(Ended::Closed),
                Ok(0) => return Err(Ended::Malformed(show(&self.buffer))),
                Ok(_) => {}
                Err(error) => return Err(ended(&error)),
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let malformed = || Ended::Malformed(show(&head));
        let text = std::str::from_utf8(&head).map_err(|_| malformed())?;
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let mut start = lines.next().ok_or_else(malformed)?.splitn(3, ' ');
        if start.next() != Some("HTTP/1.1") {
            return Err(malformed());
        }
        let status = start.next().and_then(|digits| digits.parse().ok()).ok_or_else(malformed)?;
        let reason = start.next().ok_or_else(malformed)?.to_owned();
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(malformed)?;
            if name.is_empty() || name.contains([' ', '\n', '\r']) || value.contains(['\n', '\r']) {
                return Err(malformed());
            }
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Response { status, reason, fields, body: Vec::new(), interim: Vec::new(), head })
    }

    fn body(&mut self, response: &mut Response) -> Result<(), Ended> {
        let coding = response.field("transfer-encoding").map(str::to_owned);
        let length = response.field("content-length").map(|digits| digits.parse::<usize>().expect("a length"));
        match (coding.as_deref(), length) {
            (Some("chunked"), None) => self.chunks(response),
            (None, Some(length)) => {
                while self.buffer.len() < length {
                    self.more_or_truncated(response)?;
                }
                response.body = self.buffer.drain(..length).collect();
                Ok(())
            }
            (None, None) => loop {
                match self.fill() {
                    Ok(0) => {
                        response.body = std::mem::take(&mut self.buffer);
                        return Ok(());
                    }
                    Ok(_) => {}
                    Err(_) => {
                        return Err(Ended::Truncated { status: response.status, body: std::mem::take(&mut self.buffer) });
                    }
                }
            },
            other => Err(Ended::Malformed(format!("framing {other:?}"))),
        }
    }

    fn chunks(&mut self, response: &mut Response) -> Result<(), Ended> {
        loop {
            let line_end = loop {
                if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                    break end;
                }
                self.more_or_truncated(response)?;
            };
            let line: Vec<u8> = self.buffer.drain(..line_end + 2).collect();
            let digits = std::str::from_utf8(&line[..line_end]).map_err(|_| Ended::Malformed(show(&line)))?;
            let size = usize::from_str_radix(digits, 16).map_err(|_| Ended::Malformed(show(&line)))?;
            while self.buffer.len() < size + 2 {
                self.more_or_truncated(response)?;
            }
            response.body.extend(self.buffer.drain(..size));
            let end: Vec<u8> = self.buffer.drain(..2).collect();
            if end != b"\r\n" {
                return Err(Ended::Malformed(format!("chunk end {}", show(&end))));
            }
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn more_or_truncated(&mut self, response: &Response) -> Result<(), Ended> {
        match self.fill() {
            Ok(1..) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Ended::Silent),
            Ok(_) | Err(_) => {
                let mut body = response.body.clone();
                body.extend_from_slice(&self.buffer);
                Err(Ended::Truncated { status: response.status, body })
            }
        }
    }

    /// Reads until the buffer holds `wanted`; panics where the stream ends first.
    pub fn read_until(&mut self, wanted: &[u8]) -> Vec<u8> {
        loop {
            if let Some(start) = self.buffer.windows(wanted.len()).position(|part| part == wanted) {
                return self.buffer.drain(..start + wanted.len()).collect();
            }
            match self.fill() {
                Ok(1..) => {}
                other => panic!("{other:?} before {}: {}", show(wanted), show(&self.buffer)),
            }
        }
    }

    /// Reads `count` bytes; panics where the stream ends first.
    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            match self.fill() {
                Ok(1..) => {}
                other => panic!("{other:?} after {} of {count} bytes", self.buffer.len()),
            }
        }
        self.buffer.drain(..count).collect()
    }

    /// Reads to the end; the error is why it did not come in order.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, Ended> {
        loop {
            match self.fill() {
                Ok(0) => return Ok(std::mem::take(&mut self.buffer)),
                Ok(_) => {}
                Err(error) => return Err(ended(&error)),
            }
        }
    }

    /// Panics unless the connection ends without a further byte.
    pub fn expect_end(&mut self) {
        match self.try_response(false) {
            Err(Ended::Closed | Ended::Reset) => {}
            other => panic!("the connection should have ended: {other:?} {}", show(&self.buffer)),
        }
    }

    /// Panics unless TLS itself says that nothing more comes.
    pub fn expect_announced_end(&mut self) {
        let Io::Tls(tls) = &mut self.io else { panic!("no TLS here") };
        let mut bytes = [0; 64];
        // Without close_notify this is an error.
        assert!(matches!(tls.read(&mut bytes), Ok(0)), "the end was not announced");
    }

    /// How long a read may take.
    pub fn set_patience(&self, patience: Duration) {
        self.socket().set_read_timeout(Some(patience)).expect("a timeout can be set");
    }
}

fn prepare(stream: &TcpStream) {
    stream.set_nodelay(true).expect("TCP_NODELAY can be set");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
}

/// Calls until no signal comes in between.
fn retried<T>(call: &mut impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn ended(error: &io::Error) -> Ended {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ended::Silent,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ended::Reset,
        other => Ended::Failed(other),
    }
}

/// Makes the close of `stream` a reset.
pub fn reset(stream: &TcpStream) {
    use std::os::fd::AsRawFd;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    #[expect(unsafe_code, reason = "std has no linger")]
    // SAFETY: the struct outlives the call and its size is passed along.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            std::ptr::from_ref(&linger).cast(),
            size_of::<libc::linger>() as u32,
        );
    }
}
