//! What goes over the wire: the requests, the answers they ask for, and the check that these came back whole.

use std::fmt::Write;

use crate::pattern;

/// Where a request target says whose it is, so that the upstream can stamp it, and how long a body it wants.
const SLOT_MARK: &[u8] = b"?slot=";
const SLOT_DIGITS: usize = 8;
const BODY_MARK: &[u8] = b"&body=";
const BODY_DIGITS: usize = 10;
/// The slot of a request that is not stamped.
pub const NO_SLOT: u32 = u32::MAX;
/// Header fields a response may have; a proxy adds few to the upstream's three.
const FIELDS_MAX: usize = 64;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The client connection, or [`NO_SLOT`].
    pub slot: u32,
    /// Length of the response body.
    pub body_bytes: u64,
}

/// A request head: a POST where it has a body, else a GET.
pub fn request(host: &str, path: &str, wanted: Wanted, upload_bytes: u64, close: bool) -> Vec<u8> {
    let Wanted { slot, body_bytes } = wanted;
    let method = if upload_bytes > 0 { "POST" } else { "GET" };
    let length = if upload_bytes > 0 { format!("Content-Length: {upload_bytes}\r\n") } else { String::new() };
    let connection = if close { "Connection: close\r\n" } else { "" };
    let target = format!("{path}?slot={slot:0SLOT_DIGITS$x}&body={body_bytes:0BODY_DIGITS$x}");
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: corelane-bench\r\nAccept: */*\r\n{length}{connection}\r\n")
        .into_bytes()
}

/// What a request head asks for; `None` where it is none of ours.
pub fn wanted(head: &[u8]) -> Option<Wanted> {
    let line_end = head.iter().position(|byte| *byte == b'\r')?;
    let line = &head[..line_end];
    let mark = line.windows(SLOT_MARK.len()).position(|window| window == SLOT_MARK)?;
    let (slot, rest) = line[mark + SLOT_MARK.len()..].split_at_checked(SLOT_DIGITS)?;
    let body = rest.strip_prefix(BODY_MARK)?.get(..BODY_DIGITS)?;
    Some(Wanted { slot: u32::try_from(hexadecimal(slot)?).ok()?, body_bytes: hexadecimal(body)? })
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Length of the body behind a request head; nothing but a POST of ours has one.
pub fn upload_bytes(head: &[u8]) -> u64 {
    if !head.starts_with(b"POST") {
        return 0;
    }
    let value = head.split(|byte| *byte == b'\n').find_map(|line| field(line, b"content-length"));
    value.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok()).unwrap_or(0)
}

/// The value in a header line, if it is that field's; `name` in lower case.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (said, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(b":")?;
    said.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// Whether the sender of a request head wants the connection closed after the answer.
pub fn asks_to_close(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').any(|line| field(line, b"connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close")))
}

/// Bytes up to and including the blank line, if it has arrived.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// An answer of the upstream: head and beginning of the body in one piece, the rest of a long body from the pattern.
#[derive(Clone, Debug)]
pub struct Answer {
    keeping: Vec<u8>,
    closing: Vec<u8>,
    body_bytes: u64,
}

/// As much of a body goes together with its head.
const TOGETHER_BYTES_MAX: u64 = 1 << 20;

impl Answer {
    /// The good answer with a body of this many bytes.
    pub fn new(body_bytes: u64) -> Self {
        Self::with_status("200 OK", body_bytes)
    }

    /// The answer to a body that was not the right one.
    pub fn refusal() -> Self {
        Self::with_status("422 Unprocessable Content", 0)
    }

    fn with_status(status: &str, body_bytes: u64) -> Self {
        let body = pattern::beginning(body_bytes.min(TOGETHER_BYTES_MAX) as usize);
        let with = |connection: &str| {
            let mut head = String::new();
            let _infallible =
                write!(head, "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {body_bytes}\r\n{connection}\r\n");
            [head.as_bytes(), &body].concat()
        };
        Self { keeping: with(""), closing: with("Connection: close\r\n"), body_bytes }
    }

    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Length of head and body.
    pub fn length(&self, close: bool) -> u64 {
        let rest = self.body_bytes.saturating_sub(TOGETHER_BYTES_MAX);
        self.together(close).len() as u64 + rest
    }

    /// What comes after the first `written` bytes, `most` bytes of it at most; it may be less, but nothing only at the end.
    pub fn piece(&self, close: bool, written: u64, most: u64) -> &[u8] {
        let together = self.together(close);
        if written < together.len() as u64 {
            let rest = &together[written as usize..];
            return &rest[..rest.len().min(usize::try_from(most).unwrap_or(usize::MAX))];
        }
        let left = self.length(close) - written;
        pattern::from(self.body_bytes - left, left.min(most))
    }

    fn together(&self, close: bool) -> &[u8] {
        if close { &self.closing } else { &self.keeping }
    }
}

/// Why a response is not the one the upstream sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Not a response head at all.
    Malformed,
    /// Another status than 200.
    Status(u16),
    /// No Content-Length, or another one than the body has.
    Length,
    /// The body differs in a byte.
    Body,
    /// More bytes than the response has.
    Surplus,
    /// It was whole before the body of its request was.
    Early,
}

/// How far a response has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    /// It is whole. `last`: it says that its connection closes.
    Done {
        last: bool,
    },
}

/// What a good response head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    bytes: usize,
    closes: bool,
}

/// Follows one response after the other on a connection, in whatever pieces it arrives.
#[derive(Debug, Default)]
pub struct ResponseCheck {
    /// A head that has not ended yet.
    head: Vec<u8>,
    /// Body bytes seen, once the head has ended.
    body_seen: Option<u64>,
    closes: bool,
    /// Bytes of bodies seen so far, of all responses.
    pub body_bytes: u64,
}

impl ResponseCheck {
    /// Whether any byte of a response has come that is not whole yet.
    pub fn has_begun(&self) -> bool {
        self.body_seen.is_some() || !self.head.is_empty()
    }

    /// Takes what was read and compares it with what must come: a response with a body of `body_bytes`.
    ///
    /// # Errors
    /// The first difference; the connection is then of no more use.
    pub fn feed(&mut self, bytes: &[u8], body_bytes: u64) -> Result<Progress, Wrong> {
        let arrived = match self.body_seen {
            Some(_) => bytes,
            None if self.head.is_empty() => match good_head(bytes, body_bytes)? {
                Some(head) => {
                    self.closes = head.closes;
                    &bytes[head.bytes..]
                }
                None => {
                    self.head.extend_from_slice(bytes);
                    return Ok(Progress::More);
                }
            },
            None => {
                let before = self.head.len();
                self.head.extend_from_slice(bytes);
                match good_head(&self.head, body_bytes)? {
                    Some(head) => {
                        self.closes = head.closes;
                        &bytes[head.bytes - before..]
                    }
                    None => return Ok(Progress::More),
                }
            }
        };
        let seen = self.body_seen.unwrap_or(0);
        let (left, length) = (body_bytes - seen, arrived.len() as u64);
        if length > left {
            return Err(Wrong::Surplus);
        }
        if !pattern::holds(seen, arrived) {
            return Err(Wrong::Body);
        }
        self.body_bytes += length;
        if length < left {
            self.body_seen = Some(seen + length);
            return Ok(Progress::More);
        }
        self.head.clear();
        self.body_seen = None;
        Ok(Progress::Done { last: self.closes })
    }
}

/// A whole response head, if it is the right one; `None` while it has not ended.
fn good_head(bytes: &[u8], body_bytes: u64) -> Result<Option<Head>, Wrong> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let bytes = match response.parse(bytes).map_err(|_| Wrong::Malformed)? {
        httparse::Status::Complete(end) => end,
        httparse::Status::Partial => return Ok(None),
    };
    match response.code {
        Some(200) => {}
        Some(status) => return Err(Wrong::Status(status)),
        None => return Err(Wrong::Malformed),
    }
    let mut lengths = response.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("content-length"));
    let said = lengths.next().and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<u64>().ok());
    if said != Some(body_bytes) || lengths.next().is_some() {
        return Err(Wrong::Length);
    }
    let closes = response
        .headers
        .iter()
        .any(|field| field.name.eq_ignore_ascii_case("connection") && field.value.trim_ascii().eq_ignore_ascii_case(b"close"));
    Ok(Some(Head { bytes, closes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(slot: u32, close: bool) -> Vec<u8> {
        request("app.bench.local", "/api/item", Wanted { slot, body_bytes: 300 }, 0, close)
    }

    fn whole(answer: &Answer, close: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < answer.length(close) {
            bytes.extend_from_slice(answer.piece(close, bytes.len() as u64, 5000));
        }
        bytes
    }

    /// What is written into a request is read back from it, and nothing from what is none of ours.
    #[test]
    fn a_request_says_what_it_wants() {
        for (slot, body_bytes) in [(0, 0), (7, 1024), (NO_SLOT, 2 << 30)] {
            let head = request("app.bench.local", "/api/item", Wanted { slot, body_bytes }, 0, false);
            assert_eq!(wanted(&head), Some(Wanted { slot, body_bytes }));
            assert_eq!(head_length(&head), Some(head.len()));
        }
        for without in [
            &b"GET /api HTTP/1.1\r\n\r\n"[..],
            b"GET /?slot=12 HTTP/1.1\r\n\r\n",
            b"GET /?slot=00000001 HTTP/1.1\r\n\r\n",
            b"GET /?slot=00000001&body=12 HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: ?slot=00000001&body=0000000001\r\n\r\n",
            b"",
        ] {
            assert_eq!(wanted(without), None);
        }
    }

    /// A request with a body says how long it is, however a proxy spells the field; one without has none.
    #[test]
    fn an_upload_says_its_length() {
        let post = request("h", "/", Wanted { slot: 1, body_bytes: 0 }, 400 << 20, false);
        assert_eq!(upload_bytes(&post), 400 << 20);
        assert_eq!(upload_bytes(b"POST / HTTP/1.1\r\ncontent-length:7\r\n\r\n"), 7);
        assert_eq!(upload_bytes(&get(1, false)), 0);
        assert_eq!(upload_bytes(b"POST / HTTP/1.1\r\nX-Content-Length: 7\r\n\r\n"), 0);
    }

    /// Only a Connection field that says close closes.
    #[test]
    fn a_connection_closes_when_asked() {
        assert!(asks_to_close(&get(1, true)));
        assert!(asks_to_close(b"GET / HTTP/1.1\r\nconnection:  Close \r\n\r\n"));
        assert!(!asks_to_close(&get(1, false)));
        assert!(!asks_to_close(b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n"));
        assert!(!asks_to_close(b"GET / HTTP/1.1\r\nX-Connection: close\r\n\r\n"));
    }

    /// An answer is accepted in one piece and in every pair of pieces, again and again on one connection.
    #[test]
    fn an_answer_is_accepted_in_any_pieces() {
        let bytes = whole(&Answer::new(300), false);
        let mut check = ResponseCheck::default();
        for split in 0..bytes.len() {
            let mut last = Progress::More;
            for piece in [&bytes[..split], &bytes[split..]].into_iter().filter(|piece| !piece.is_empty()) {
                assert!(!matches!(last, Progress::Done { .. }));
                last = check.feed(piece, 300).unwrap();
            }
            assert_eq!(last, Progress::Done { last: false }, "split at {split}");
            assert!(!check.has_begun());
        }
    }

    /// A long answer, most of which is never held, is the one that is expected.
    #[test]
    fn a_long_answer_is_whole() {
        let answer = Answer::new(3 * TOGETHER_BYTES_MAX + 1);
        let bytes = whole(&answer, true);
        assert_eq!(bytes.len() as u64, answer.length(true));
        assert_eq!(ResponseCheck::default().feed(&bytes, answer.body_bytes()), Ok(Progress::Done { last: true }));
    }

    /// An answer that announces the end of its connection is told apart, and only that one.
    #[test]
    fn the_last_answer_of_a_connection_is_known() {
        let answer = Answer::new(10);
        let mut check = ResponseCheck::default();
        for closes in [false, true, false] {
            assert_eq!(check.feed(&whole(&answer, closes), 10), Ok(Progress::Done { last: closes }));
        }
    }

    /// Every way to differ from the answer has its name.
    #[test]
    fn a_different_answer_is_refused() {
        let good = String::from_utf8(whole(&Answer::new(64), false)).unwrap();
        let body = good[good.len() - 64..].to_owned();
        let spoiled = format!("{}~", &good[..good.len() - 1]);
        let table = [
            (good.replace("200 OK", "502 Bad Gateway"), Wrong::Status(502)),
            (String::from_utf8(whole(&Answer::refusal(), false)).unwrap(), Wrong::Status(422)),
            (good.replace("Content-Length: 64", "Content-Length: 63"), Wrong::Length),
            (good.replace("Content-Length: 64", "Transfer-Encoding: chunked"), Wrong::Length),
            (good.replace("Content-Length: 64", "Content-Length: 64\r\nContent-Length: 64"), Wrong::Length),
            (spoiled, Wrong::Body),
            (format!("{good}!"), Wrong::Surplus),
            (body, Wrong::Malformed),
        ];
        for (bytes, wrong) in table {
            assert_eq!(ResponseCheck::default().feed(bytes.as_bytes(), 64), Err(wrong), "{bytes}");
        }
    }
}
