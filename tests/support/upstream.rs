//! An endpoint that follows a script: it hears exactly what Corelane sends, counts it, and answers with any bytes it likes.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::PATIENCE;
use crate::support::client;
use crate::support::eventually;
use crate::support::show;

/// Content of a request that is kept, in bytes; more is counted only.
const BODY_KEPT_MAX: usize = 1 << 20;

/// A listening endpoint. It closes everything when it is dropped.
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    /// How many of them a test does not want to hear of any more.
    forgotten: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
    /// A handle on every open connection, by its number: dropping the upstream ends them all.
    streams: Mutex<Vec<(usize, TcpStream)>>,
    stopped: AtomicBool,
    /// A script has panicked: Corelane sent what nobody may send.
    panicked: AtomicBool,
}

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub version: String,
    pub fields: Vec<(String, String)>,
    /// The head as it came.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    pub body_length: usize,
    /// Whether its content came to its end.
    pub complete: bool,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
}

impl Request {
    /// The value of a field; panics where it is there twice.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} twice in {}", show(&self.head));
        Some(&value.1)
    }
}

/// One connection to the endpoint, in the hands of the script.
pub struct Visit {
    pub stream: TcpStream,
    /// Counted from 0.
    pub number: usize,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
}

impl Upstream {
    /// Runs `script` on a thread of its own for each connection.
    pub fn scripted(script: impl Fn(Visit) + Send + Sync + 'static) -> Self {
        Self::scripted_at("127.0.0.1:0".parse().expect("an address"), script)
    }

    /// As [`Self::scripted`], on this address.
    pub fn scripted_at(address: SocketAddr, script: impl Fn(Visit) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if of_thread.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let _lost = stream.set_nodelay(true);
                of_thread.connections.fetch_add(1, Ordering::SeqCst);
                of_thread.open.fetch_add(1, Ordering::SeqCst);
                if let Ok(copy) = stream.try_clone() {
                    locked(&of_thread.streams).push((number, copy));
                }
                let (script, shared) = (script.clone(), of_thread.clone());
                std::thread::spawn(move || {
                    let visit = Visit { stream, number, shared: shared.clone(), buffer: Vec::new() };
                    if std::panic::catch_unwind(AssertUnwindSafe(|| script(visit))).is_err() {
                        shared.panicked.store(true, Ordering::SeqCst);
                    }
                });
            }
        });
        Self { address, shared }
    }

    /// Answers every request with the bytes that `answer` makes of it, on kept connections.
    pub fn answering(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::scripted(move |mut visit| {
            while let Some(request) = visit.request() {
                if visit.send(answer(&request)).is_err() {
                    return;
                }
            }
        })
    }

    /// Answers 200 with its name and the request's first line.
    pub fn echo(name: &str) -> Self {
        let name = name.to_owned();
        Self::answering(move |request| echo(&name, request))
    }

    /// Requests whose heads have arrived so far.
    pub fn requests(&self) -> Vec<Request> {
        locked(&self.shared.requests)[self.shared.forgotten.load(Ordering::SeqCst)..].to_vec()
    }

    /// How many of them.
    pub fn count(&self) -> usize {
        locked(&self.shared.requests).len() - self.shared.forgotten.load(Ordering::SeqCst)
    }

    /// The only request so far.
    pub fn only_request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.into_iter().next().expect("just counted")
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections whose script has not ended.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Forgets what it has heard.
    pub fn forget(&self) {
        let heard = locked(&self.shared.requests).len();
        self.shared.forgotten.store(heard, Ordering::SeqCst);
    }

    /// Waits until every connection is closed.
    pub fn wait_until_idle(&self) {
        eventually("the upstream's connections close", || (self.open() == 0).then_some(()));
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        drop(TcpStream::connect(self.address));
        for (_, stream) in locked(&self.shared.streams).drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
        assert!(std::thread::panicking() || !self.shared.panicked.load(Ordering::SeqCst), "the script of an upstream panicked");
    }
}

/// The answer of [`Upstream::echo`].
pub fn echo(name: &str, request: &Request) -> Vec<u8> {
    let body = format!("{name}\n{} {}\n{}\n", request.method, request.target, request.body_length);
    let content = if request.method == "HEAD" { "" } else { &body };
    format!("HTTP/1.1 200 OK\r\nServer: echo\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{content}", body.len()).into_bytes()
}

/// An address where the kernel answers no SYN: the accept queue of its listener is full, as long as this is held.
pub struct BlackHole {
    pub address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        #[expect(unsafe_code, reason = "std has no backlog")]
        // SAFETY: no pointer is passed.
        unsafe {
            libc::listen(listener.as_raw_fd(), 0);
        }
        let address = listener.local_addr().expect("a bound address");
        let queued = (0..8).map_while(|_| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok()).collect();
        Self { address, _listener: listener, _queued: queued }
    }
}

impl Visit {
    /// Reads a whole request and counts it; `None` at the end of the connection.
    pub fn request(&mut self) -> Option<Request> {
        let index = self.head()?;
        self.body(index);
        let request = locked(&self.shared.requests)[index].clone();
        request.complete.then_some(request)
    }

    /// Reads the head of a request and counts it: its position among all requests.
    pub fn head(&mut self) -> Option<usize> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if self.fill()? == 0 {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let request = parse(head, self.number);
        let mut requests = locked(&self.shared.requests);
        requests.push(request);
        Some(requests.len() - 1)
    }

    /// The request at this position, as far as it has been read.
    pub fn heard(&self, index: usize) -> Request {
        locked(&self.shared.requests)[index].clone()
    }

    /// Reads the content of the request at this position; false where it broke off.
    pub fn body(&mut self, index: usize) -> bool {
        let request = locked(&self.shared.requests)[index].clone();
        let mut body = Vec::new();
        let mut length = 0;
        let complete = match (request.field("transfer-encoding"), request.field("content-length")) {
            (Some("chunked"), None) => self.chunks(&mut body, &mut length).is_some(),
            (None, Some(digits)) => {
                let wanted = digits.parse().expect("a length");
                self.take(wanted, &mut body, &mut length).is_some()
            }
            (None, None) => true,
            other => panic!("Corelane sent framing {other:?}"),
        };
        let mut requests = locked(&self.shared.requests);
        let request = &mut requests[index];
        request.body = body;
        request.body_length = length;
        request.complete = complete;
        complete
    }

    fn take(&mut self, mut count: usize, body: &mut Vec<u8>, length: &mut usize) -> Option<()> {
        while count > 0 {
            if self.buffer.is_empty() && self.fill()? == 0 {
                return None;
            }
            let now = count.min(self.buffer.len());
            let room = BODY_KEPT_MAX.saturating_sub(body.len()).min(now);
            body.extend_from_slice(&self.buffer[..room]);
            self.buffer.drain(..now);
            *length += now;
            count -= now;
        }
        Some(())
    }

    fn chunks(&mut self, body: &mut Vec<u8>, length: &mut usize) -> Option<()> {
        loop {
            let end = loop {
                if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                    break end;
                }
                if self.fill()? == 0 {
                    return None;
                }
            };
            let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let digits = std::str::from_utf8(&line[..end]).expect("Corelane writes chunk sizes in hex");
            let size = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("Corelane sent the chunk size {digits:?}"));
            self.take(size, body, length)?;
            let mut crlf = Vec::new();
            self.take(2, &mut crlf, &mut 0)?;
            assert_eq!(crlf, b"\r\n", "Corelane ends a chunk");
            if size == 0 {
                return Some(());
            }
        }
    }

    fn fill(&mut self) -> Option<usize> {
        let mut bytes = [0; 64 << 10];
        let count = self.stream.read(&mut bytes).ok()?;
        self.buffer.extend_from_slice(&bytes[..count]);
        Some(count)
    }

    /// Whatever comes next; empty at the end.
    pub fn read_some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.fill();
        }
        std::mem::take(&mut self.buffer)
    }

    /// # Errors
    /// The socket's.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Closes with a reset.
    pub fn reset(self) {
        client::reset(&self.stream);
    }

    /// Keeps the connection open without a word until Corelane closes it.
    pub fn stay_silent(mut self) {
        let _forever = self.stream.set_read_timeout(Some(PATIENCE));
        while !self.read_some().is_empty() {}
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::SeqCst);
        // The other handle would hold the connection open.
        locked(&self.shared.streams).retain(|(number, _)| *number != self.number);
    }
}

fn parse(head: Vec<u8>, connection: usize) -> Request {
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let mut start = lines.next().unwrap_or_default().splitn(3, ' ').map(str::to_owned);
    let (method, target, version) = (start.next(), start.next(), start.next());
    let fields = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("Corelane sent the line {line:?}"));
            (name.to_owned(), value.trim().to_owned())
        })
        .collect();
    Request {
        method: method.unwrap_or_default(),
        target: target.unwrap_or_default(),
        version: version.unwrap_or_default(),
        fields,
        head,
        connection,
        ..Request::default()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
