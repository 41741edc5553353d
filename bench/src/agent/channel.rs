//! One line of JSON each way over TCP; no line is longer than a bound, and none is waited for without end.

use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::time::Duration;

use rustix::net::sockopt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Clock;

/// The longest line of a run, in bytes: a start that names a hundred thousand hosts is 3.5 MB, all else 10 KB at most.
pub(super) const LINE_BYTES_MAX: usize = 4 << 20;
/// How long whoever was refused may go on sending before the connection is closed all the same.
const FAREWELL: Duration = Duration::from_secs(1);
/// A peer host that is gone, not closed, is noticed within a minute: first question, time between two, and how many.
const ALIVE_AFTER: Duration = Duration::from_secs(30);
const ALIVE_EVERY: Duration = Duration::from_secs(10);
const ALIVE_TIMES: u32 = 3;

/// A connection between driver and agent.
pub(super) struct Channel {
    stream: TcpStream,
    /// What has come of the next line.
    arrived: Vec<u8>,
}

impl Channel {
    /// # Errors
    /// The kernel's.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, ALIVE_AFTER)?;
        sockopt::set_tcp_keepintvl(&stream, ALIVE_EVERY)?;
        sockopt::set_tcp_keepcnt(&stream, ALIVE_TIMES)?;
        Ok(Self { stream, arrived: Vec::new() })
    }

    /// # Errors
    /// The kernel's.
    pub(super) fn send(&mut self, words: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(words)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// The next line, of so many bytes at most; `None` where the other side has closed. Without patience it may take as long as it likes.
    ///
    /// # Errors
    /// `InvalidData` for a line that is too long, is cut off or says nothing known; `TimedOut`; the kernel's.
    pub(super) fn receive<T: DeserializeOwned>(&mut self, patience: Option<Duration>, bytes_max: usize) -> io::Result<Option<T>> {
        let clock = Clock::start();
        let mut piece = [0; 16 << 10];
        // How much of what has come is known to hold no end.
        let mut searched = 0;
        loop {
            if let Some(end) = self.arrived[searched..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.arrived.drain(..=searched + end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|fault| invalid(format!("a line that is not understood: {fault}")));
            }
            searched = self.arrived.len();
            if searched > bytes_max {
                return Err(invalid(format!("a line longer than {bytes_max} bytes")));
            }
            let left = patience.map(|patience| patience.saturating_sub(Duration::from_nanos(clock.now_ns())));
            if left == Some(Duration::ZERO) {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(left)?;
            match self.stream.read(&mut piece) {
                Ok(0) if searched == 0 => return Ok(None),
                Ok(0) => return Err(invalid("a line that was cut off".to_owned())),
                Ok(bytes) => self.arrived.extend_from_slice(&piece[..bytes]),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Says a last word and closes, in a way that the other side can read it even if it has sent more than was read of it.
    pub(super) fn farewell(mut self, words: &impl Serialize) {
        let _gone = self.send(words).and_then(|()| self.stream.shutdown(Shutdown::Write));
        let clock = Clock::start();
        let mut unread = [0; 4 << 10];
        while let Some(left) = FAREWELL.checked_sub(Duration::from_nanos(clock.now_ns())).filter(|left| !left.is_zero()) {
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut unread));
            if !matches!(read, Ok(1..)) {
                return;
            }
        }
    }

    /// A second handle, to end the channel from another thread.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn end(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }
}

fn invalid(fault: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, Channel) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, Channel::new(listener.accept().unwrap().0).unwrap())
    }

    /// Lines are read one by one, in whatever pieces they come, until the other side closes.
    #[test]
    fn lines_come_one_by_one() {
        let (mut one, mut other) = pair();
        for piece in [&b"[1,"[..], b"2]\n[3]", b"\n[]\n"] {
            one.write_all(piece).unwrap();
        }
        drop(one);
        let lines: Vec<Vec<u32>> = std::iter::from_fn(|| other.receive(None, 100).unwrap()).collect();
        assert_eq!(lines, [vec![1, 2], vec![3], vec![]]);
    }

    /// A line that is too long, not JSON, of another shape, cut off or late is refused with words.
    #[test]
    fn a_bad_line_is_refused() {
        let long = [b'['; 8000];
        let table = [(&long[..], "longer than 100"), (b"{\n", "not understood"), (b"{\"a\":1}\n", "not understood"), (b"[1", "cut off")];
        for (line, fault) in table {
            let (mut one, mut other) = pair();
            one.write_all(line).unwrap();
            drop(one);
            let error = other.receive::<Vec<u32>>(None, 100).unwrap_err();
            assert!(error.kind() == ErrorKind::InvalidData && error.to_string().contains(fault), "{error}");
        }
        let (_silent, mut other) = pair();
        assert_eq!(other.receive::<Vec<u32>>(Some(Duration::from_millis(1)), 100).unwrap_err().kind(), ErrorKind::TimedOut);
    }

    /// The last word arrives although the other side had sent what was never read.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "both sides at once")]
    fn a_last_word_is_heard() {
        let (mut one, other) = pair();
        one.write_all(&[b'x'; 100_000]).unwrap();
        let leaving = std::thread::spawn(move || other.farewell(&"no"));
        let mut heard = String::new();
        one.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "\"no\"\n");
        drop(one);
        leaving.join().unwrap();
    }
}
