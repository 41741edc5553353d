//! A socket with the bytes it has received and, where there is TLS, its session: what codecs read from and write to.

use std::io;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;

use crate::net::buffers::Chunk;
use crate::net::ring::Ring;
use crate::net::slot::Out;
use crate::net::socket::Socket;
use crate::net::tls::Agreement;
use crate::net::tls::Session;

/// A byte stream in both directions. Nothing is held while it is idle.
pub struct Stream {
    socket: Socket,
    session: Option<Box<Session>>,
    /// Unread bytes in a lent buffer; if none, in `held`.
    chunk: Option<Chunk>,
    held: Vec<u8>,
    start: usize,
    /// The peer has ended its direction.
    ended: bool,
    /// TLS ended without close_notify: the end may be an attacker's.
    cut: bool,
}

/// What [`Stream::fill`] came back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    More,
    End,
}

impl Stream {
    /// A stream without TLS.
    pub fn plain(socket: Socket) -> Self {
        Self { socket, session: None, chunk: None, held: Vec::new(), start: 0, ended: false, cut: false }
    }

    /// From now on everything is TLS; what was received and not consumed is its beginning.
    ///
    /// # Errors
    /// Of the session, where those bytes are no TLS.
    pub fn start_tls(&mut self, session: Session) -> io::Result<()> {
        self.session = Some(Box::new(session));
        let early = self.take(self.data().len());
        let absorbed = self.absorb(early.as_slice());
        self.recycle(early);
        absorbed
    }

    /// Does the handshake; a deadline on the socket bounds it.
    ///
    /// # Errors
    /// What the peer did against the protocol, or the socket's; an alert has been queued.
    pub async fn handshake(&mut self) -> io::Result<()> {
        self.send_session_output()?;
        while self.session.as_ref().is_some_and(|session| session.is_handshaking()) {
            if self.fill().await? == Filled::End {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// What TLS agreed on; `None` without TLS.
    pub fn agreement(&self) -> Option<Agreement> {
        self.session.as_ref().map(|session| session.agreement())
    }

    /// Whether it is TLS.
    pub fn is_tls(&self) -> bool {
        self.session.is_some()
    }

    /// The socket below: deadlines, idleness, errors.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    fn ring(&self) -> &Rc<Ring> {
        self.socket.ring()
    }

    /// Bytes received and not consumed.
    #[inline]
    pub fn data(&self) -> &[u8] {
        match &self.chunk {
            Some(chunk) => &chunk[self.start..],
            None => &self.held[self.start..],
        }
    }

    /// Marks the first `count` bytes of [`Self::data`] as read.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        if self.data().is_empty() {
            self.chunk = None;
            self.start = 0;
            if self.held.capacity() > 0 {
                let held = std::mem::take(&mut self.held);
                self.ring().recycle(held);
            }
        }
    }

    /// Takes the first `count` bytes of [`Self::data`] to send them elsewhere: without a copy where they are all there is.
    pub fn take(&mut self, count: usize) -> Out {
        if count == self.data().len() {
            let range = self.start..self.start + count;
            if let Some(chunk) = self.chunk.take() {
                self.start = 0;
                return Out::Chunk(chunk, range);
            }
            if self.start == 0 {
                return Out::Vec(std::mem::take(&mut self.held));
            }
        }
        let mut copy = self.ring().spare();
        copy.extend_from_slice(&self.data()[..count]);
        self.consume(count);
        Out::Vec(copy)
    }

    /// Gives the lent buffer back and keeps only the unread bytes: before a wait that may be long.
    pub fn hold(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            let mut held = self.ring().spare();
            held.extend_from_slice(&chunk[self.start..]);
            self.held = held;
            self.start = 0;
        }
    }

    /// Waits for bytes beyond those in [`Self::data`].
    ///
    /// # Errors
    /// The socket's; `TimedOut` after its deadline; what the peer did against TLS.
    pub fn poll_fill(&mut self, context: &Context<'_>) -> Poll<io::Result<Filled>> {
        loop {
            if self.ended {
                return Poll::Ready(Ok(Filled::End));
            }
            let chunk = match self.socket.poll_receive(context) {
                Poll::Ready(Ok(Some(chunk))) => chunk,
                Poll::Ready(Ok(None)) => {
                    self.ended = true;
                    self.cut = self.session.is_some();
                    continue;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.hold();
                    return Poll::Pending;
                }
            };
            if self.session.is_none() {
                self.add(chunk);
                return Poll::Ready(Ok(Filled::More));
            }
            let before = self.data().len();
            let handshaking = self.session.as_ref().is_some_and(|session| session.is_handshaking());
            self.absorb(&chunk)?;
            if self.data().len() > before || handshaking {
                return Poll::Ready(Ok(Filled::More));
            }
        }
    }

    /// As [`Self::poll_fill`].
    ///
    /// # Errors
    /// As [`Self::poll_fill`].
    pub async fn fill(&mut self) -> io::Result<Filled> {
        std::future::poll_fn(|context| self.poll_fill(context)).await
    }

    fn add(&mut self, chunk: Chunk) {
        if self.data().is_empty() {
            self.consume(0);
            self.chunk = Some(chunk);
            self.start = 0;
        } else {
            self.hold();
            self.held.extend_from_slice(&chunk);
        }
    }

    fn absorb(&mut self, ciphertext: &[u8]) -> io::Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        if self.held.capacity() == 0 {
            self.held = self.socket.ring().spare();
        }
        let result = session.absorb(ciphertext, &mut self.held);
        if self.held.len() == self.start {
            // Nothing to read: the buffer goes back.
            self.start = 0;
            let held = std::mem::take(&mut self.held);
            self.socket.ring().recycle(held);
        }
        // After a failure the alert is all there is left to say.
        if result.is_err() || self.session.as_ref().is_some_and(|session| !session.can_wait()) {
            self.send_session_output()?;
        }
        self.ended |= result?.closed;
        Ok(())
    }

    fn send_session_output(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.session
            && session.wants_write()
        {
            let mut records = self.socket.ring().spare();
            session.take_output(&mut records)?;
            self.socket.queue(Out::Vec(records));
        }
        Ok(())
    }

    /// Ready when [`Self::queue`] may be called.
    ///
    /// # Errors
    /// Of an earlier write; `TimedOut` after the deadline.
    pub fn poll_writable(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_writable(context)
    }

    /// As [`Self::poll_writable`].
    ///
    /// # Errors
    /// As [`Self::poll_writable`].
    pub async fn writable(&self) -> io::Result<()> {
        std::future::poll_fn(|context| self.socket.poll_writable(context)).await
    }

    /// Queues bytes; they leave, with everything else queued in this turn, before the shard sleeps.
    ///
    /// # Errors
    /// Only where TLS has failed already.
    pub fn queue(&mut self, out: Out) -> io::Result<()> {
        let Some(session) = &mut self.session else {
            self.socket.queue(out);
            return Ok(());
        };
        let mut records = self.socket.ring().spare();
        session.seal(out.as_slice(), self.socket.ring().now_ms(), &mut records)?;
        self.socket.queue(Out::Vec(records));
        self.recycle(out);
        Ok(())
    }

    fn recycle(&self, out: Out) {
        if let Out::Vec(buffer) = out {
            self.ring().recycle(buffer);
        }
    }

    /// Ready when everything queued has left.
    ///
    /// # Errors
    /// Of the writes; `TimedOut` after the deadline.
    pub fn poll_flushed(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_flushed(context)
    }

    /// As [`Self::poll_flushed`].
    ///
    /// # Errors
    /// As [`Self::poll_flushed`].
    pub async fn flushed(&self) -> io::Result<()> {
        std::future::poll_fn(|context| self.socket.poll_flushed(context)).await
    }

    /// Says that nothing more comes from us: close_notify where there is TLS. FIN follows from [`Socket::shutdown_write`] or drop.
    pub fn announce_end(&mut self) {
        if let Some(session) = &mut self.session {
            session.close();
            let _failed_already = self.send_session_output();
        }
    }

    /// Whether the peer has ended its direction.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether the end came without TLS's own farewell.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Whether it may be used again later: nothing unread, nothing received, nothing failed.
    pub fn is_quiet(&self) -> bool {
        !self.ended && self.data().is_empty() && self.socket.is_quiet()
    }
}
