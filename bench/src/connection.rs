//! One client connection: TCP, with TLS where the scenario says so, never waiting.

use std::io;
use std::io::ErrorKind;
use std::io::IoSlice;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;

/// Room for what one read brings: a whole 64 KB response with its head.
pub(crate) const READ_BYTES: usize = 128 << 10;

/// Where bytes land before they are looked at; one for all connections.
pub struct Scratch {
    wire: Vec<u8>,
    plain: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { wire: vec![0; READ_BYTES], plain: vec![0; READ_BYTES] }
    }
}

/// TLS of a client: the rules, the name it asks for, and whether it offers tickets.
#[derive(Clone)]
pub struct ClientTls {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
    pub resumes: bool,
}

/// What one read has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes of the wire; there may be more.
    Bytes(usize),
    /// The socket is empty; the next byte is a new event.
    Nothing,
    /// The other side has ended.
    End,
}

/// What several reads have brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Of the wire.
    pub bytes: usize,
    /// Whether the other side may send more.
    pub open: bool,
    /// Whether more may lie in the socket already: no event announces it.
    pub unfinished: bool,
}

/// An open or opening connection.
pub struct Connection {
    stream: TcpStream,
    connected: bool,
    tls: Option<Box<ClientConnection>>,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Connection {
    /// Begins to connect; [`Self::advance`] says when requests may go out.
    ///
    /// # Errors
    /// The kernel's, at once; a refusal may come later.
    pub fn open(target: SocketAddr, tls: Option<&ClientTls>) -> io::Result<Self> {
        Self::open_with(target, tls, None)
    }

    /// As [`Self::open`], with room for so many bytes in the kernel until they are read, so that a slow reader is felt on the
    /// other side.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(target: SocketAddr, tls: Option<&ClientTls>, receive_buffer: Option<usize>) -> io::Result<Self> {
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(bytes) = receive_buffer {
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
        }
        match rustix::net::connect(&socket, &target) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let tls = match tls {
            Some(tls) => {
                let session = ClientConnection::new(tls.config.clone(), tls.name.clone()).map_err(io::Error::other)?;
                Some(Box::new(session))
            }
            None => None,
        };
        Ok(Self { stream: TcpStream::from(socket), connected: false, tls, unsent: Vec::new() })
    }

    /// Goes on connecting and shaking hands; true once requests may go out.
    ///
    /// # Errors
    /// Of the connection or of TLS.
    pub fn advance(&mut self, scratch: &mut Scratch) -> io::Result<bool> {
        if !self.connected {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            if self.stream.peer_addr().is_err() {
                return Ok(false);
            }
            self.connected = true;
        }
        if self.tls.is_none() {
            return Ok(true);
        }
        self.flush()?;
        // The server speaks first only after the handshake, and a ticket is no response byte.
        let arrived = self.receive(scratch, usize::MAX, false, |_| {})?;
        self.flush()?;
        if !arrived.open {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(self.tls.as_ref().is_none_or(|session| !session.is_handshaking()))
    }

    /// How the handshake went, once it is over; `None` without TLS.
    pub fn handshake(&self) -> Option<HandshakeKind> {
        self.tls.as_ref()?.handshake_kind()
    }

    /// Sends a request; what the socket does not take goes out with [`Self::flush`].
    ///
    /// # Errors
    /// Of the connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(session) = &mut self.tls {
            session.writer().write_all(bytes)?;
            return self.flush();
        }
        let sent = if self.unsent.is_empty() { taken(self.stream.write(bytes))? } else { 0 };
        self.unsent.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// As [`Self::send`], with the beginning of a body in the same packets; returns how much of it was taken.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send_with(&mut self, head: &[u8], body: &[u8]) -> io::Result<usize> {
        if self.tls.is_some() || !self.unsent.is_empty() {
            self.send(head)?;
            return self.send_some(body);
        }
        let sent = taken(self.stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]))?;
        self.unsent.extend_from_slice(&head[sent.min(head.len())..]);
        Ok(sent.saturating_sub(head.len()))
    }

    /// Sends as much as the socket takes at the moment, which is returned: the rest is for the next event.
    ///
    /// # Errors
    /// Of the connection.
    pub fn send_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let Some(session) = &mut self.tls else {
            return if self.unsent.is_empty() { taken(self.stream.write(bytes)) } else { Ok(0) };
        };
        if session.wants_write() {
            return Ok(0);
        }
        let taken = session.writer().write(bytes)?;
        self.flush()?;
        Ok(taken)
    }

    /// Writes what is left over, until the socket is full.
    ///
    /// # Errors
    /// Of the connection.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.tls {
            while session.wants_write() {
                if taken(session.write_tls(&mut self.stream))? == 0 {
                    break;
                }
            }
        }
        while !self.unsent.is_empty() {
            let sent = taken(self.stream.write(&self.unsent))?;
            if sent == 0 {
                break;
            }
            self.unsent.drain(..sent);
        }
        Ok(())
    }

    /// Hands on what has arrived, until the socket is empty or `bytes_max` bytes of the wire have been read.
    ///
    /// A read that does not fill the buffer has emptied the socket, and the next byte is a new event. `to_the_end` goes on anyway:
    /// the end may have been announced together with the last bytes.
    ///
    /// # Errors
    /// Of the connection or of TLS.
    pub fn receive(
        &mut self,
        scratch: &mut Scratch,
        bytes_max: usize,
        to_the_end: bool,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<Arrived> {
        let mut bytes = 0;
        while bytes < bytes_max {
            let room = (bytes_max - bytes).min(READ_BYTES);
            match self.receive_some(scratch, room, &mut each)? {
                Received::End => return Ok(Arrived { bytes, open: false, unfinished: false }),
                Received::Nothing => return Ok(Arrived { bytes, open: true, unfinished: false }),
                Received::Bytes(arrived) => {
                    bytes += arrived;
                    if arrived < room && !to_the_end {
                        return Ok(Arrived { bytes, open: true, unfinished: false });
                    }
                }
            }
        }
        Ok(Arrived { bytes, open: true, unfinished: true })
    }

    /// Reads once, `bytes_max` bytes of the wire at most.
    ///
    /// # Errors
    /// Of the connection or of TLS.
    pub fn receive_some(&mut self, scratch: &mut Scratch, bytes_max: usize, mut each: impl FnMut(&[u8])) -> io::Result<Received> {
        let arrived = loop {
            match self.stream.read(&mut scratch.wire[..bytes_max.min(READ_BYTES)]) {
                Ok(0) => return Ok(Received::End),
                Ok(arrived) => break arrived,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Received::Nothing),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        let bytes = &scratch.wire[..arrived];
        match &mut self.tls {
            Some(session) => decrypt(session, bytes, &mut scratch.plain, &mut each)?,
            None => each(bytes),
        }
        Ok(Received::Bytes(arrived))
    }
}

fn decrypt(session: &mut ClientConnection, mut wire: &[u8], plain: &mut [u8], each: &mut impl FnMut(&[u8])) -> io::Result<()> {
    while !wire.is_empty() {
        session.read_tls(&mut wire)?;
        session.process_new_packets().map_err(io::Error::other)?;
        loop {
            match session.reader().read(plain) {
                // Zero is the closing alert; the end of the socket follows.
                Ok(0) => break,
                Ok(length) => each(&plain[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Bytes a write took; none where the socket is full.
fn taken(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        other => other,
    }
}
