//! What goes over the wire: the requests, the one answer, and the check that it came back whole.

use std::fmt::Write;

/// Where the slot number stands in a request target, so that the upstream can stamp the request it belongs to.
const SLOT_MARK: &[u8] = b"?slot=";
/// Header fields a response may have; a proxy adds few to the upstream's three.
const FIELDS_MAX: usize = 64;

/// The GET of one client connection.
pub fn request(host: &str, path: &str, slot: u32, close: bool) -> Vec<u8> {
    let connection = if close { "Connection: close\r\n" } else { "" };
    let mark = "?slot=";
    format!("GET {path}{mark}{slot:08x} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: corelane-bench\r\nAccept: */*\r\n{connection}\r\n")
        .into_bytes()
}

/// The client connection a request came from, as its target says.
pub fn slot_of(head: &[u8]) -> Option<u32> {
    let line_end = head.iter().position(|byte| *byte == b'\r')?;
    let line = &head[..line_end];
    let mark = line.windows(SLOT_MARK.len()).position(|window| window == SLOT_MARK)?;
    let digits = line.get(mark + SLOT_MARK.len()..mark + SLOT_MARK.len() + 8)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether the sender of a request head wants the connection closed after the answer.
pub fn asks_to_close(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii();
        line.len() >= 16 && line[..11].eq_ignore_ascii_case(b"connection:") && line[11..].trim_ascii().eq_ignore_ascii_case(b"close")
    })
}

/// Bytes up to and including the blank line, if it has arrived.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The answer of the upstream: one head, one body, the same for every request of a run.
#[derive(Clone, Debug)]
pub struct Answer {
    keeping: Vec<u8>,
    closing: Vec<u8>,
    body_bytes: usize,
}

impl Answer {
    /// An answer with a body of this many bytes; no two neighbouring stretches of it are alike.
    pub fn new(body_bytes: usize) -> Self {
        let body: Vec<u8> = (0..body_bytes).map(|at| b'a' + (at % 23 + at / 251) as u8 % 26).collect();
        let with = |connection: &str| {
            let mut head = String::from("HTTP/1.1 200 OK\r\n");
            let _infallible = write!(head, "Content-Type: text/plain\r\nContent-Length: {body_bytes}\r\n{connection}\r\n");
            [head.as_bytes(), &body].concat()
        };
        Self { keeping: with(""), closing: with("Connection: close\r\n"), body_bytes }
    }

    /// Head and body.
    pub fn bytes(&self, close: bool) -> &[u8] {
        if close { &self.closing } else { &self.keeping }
    }

    /// The body alone.
    pub fn body(&self) -> &[u8] {
        &self.keeping[self.keeping.len() - self.body_bytes..]
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
    body_seen: Option<usize>,
    closes: bool,
}

impl ResponseCheck {
    /// Takes what was read and compares it with what must come.
    ///
    /// # Errors
    /// The first difference; the connection is then of no more use.
    pub fn feed(&mut self, bytes: &[u8], body: &[u8]) -> Result<Progress, Wrong> {
        let arrived = match self.body_seen {
            Some(_) => bytes,
            None if self.head.is_empty() => match good_head(bytes, body.len())? {
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
                match good_head(&self.head, body.len())? {
                    Some(head) => {
                        self.closes = head.closes;
                        &bytes[head.bytes - before..]
                    }
                    None => return Ok(Progress::More),
                }
            }
        };
        let seen = self.body_seen.unwrap_or(0);
        let left = &body[seen..];
        if arrived.len() > left.len() {
            return Err(Wrong::Surplus);
        }
        if arrived != &left[..arrived.len()] {
            return Err(Wrong::Body);
        }
        if arrived.len() < left.len() {
            self.body_seen = Some(seen + arrived.len());
            return Ok(Progress::More);
        }
        self.head.clear();
        self.body_seen = None;
        Ok(Progress::Done { last: self.closes })
    }
}

/// A whole response head, if it is the right one; `None` while it has not ended.
fn good_head(bytes: &[u8], body_bytes: usize) -> Result<Option<Head>, Wrong> {
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
    let said = lengths.next().and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok());
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

    /// The slot written into a request is read back from it, with and without what a proxy adds.
    #[test]
    fn a_request_names_its_slot() {
        for slot in [0, 7, 0xdead_beef] {
            let head = request("app.bench.local", "/api/item", slot, false);
            assert_eq!(slot_of(&head), Some(slot));
            assert_eq!(head_length(&head), Some(head.len()));
        }
        for without in
            [&b"GET /api HTTP/1.1\r\n\r\n"[..], b"GET /?slot=12 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nX: ?slot=00000001\r\n\r\n", b""]
        {
            assert_eq!(slot_of(without), None);
        }
    }

    /// Only a Connection field that says close closes.
    #[test]
    fn a_connection_closes_when_asked() {
        assert!(asks_to_close(&request("h", "/", 1, true)));
        assert!(asks_to_close(b"GET / HTTP/1.1\r\nconnection:  Close \r\n\r\n"));
        assert!(!asks_to_close(&request("h", "/", 1, false)));
        assert!(!asks_to_close(b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n"));
        assert!(!asks_to_close(b"GET / HTTP/1.1\r\nX-Connection: close\r\n\r\n"));
    }

    /// An answer is accepted in one piece and in every pair of pieces, again and again on one connection.
    #[test]
    fn an_answer_is_accepted_in_any_pieces() {
        let answer = Answer::new(300);
        let bytes = answer.bytes(false);
        let mut check = ResponseCheck::default();
        for split in 0..bytes.len() {
            let mut last = Progress::More;
            for piece in [&bytes[..split], &bytes[split..]].into_iter().filter(|piece| !piece.is_empty()) {
                last = check.feed(piece, answer.body()).unwrap();
            }
            assert_eq!(last, Progress::Done { last: false }, "split at {split}");
        }
    }

    /// An answer that announces the end of its connection is told apart, and only that one.
    #[test]
    fn the_last_answer_of_a_connection_is_known() {
        let answer = Answer::new(10);
        let mut check = ResponseCheck::default();
        for closes in [false, true, false] {
            assert_eq!(check.feed(answer.bytes(closes), answer.body()), Ok(Progress::Done { last: closes }));
        }
    }

    /// Every way to differ from the answer has its name.
    #[test]
    fn a_different_answer_is_refused() {
        let answer = Answer::new(64);
        let good = String::from_utf8(answer.bytes(false).to_vec()).unwrap();
        let body = String::from_utf8(answer.body().to_vec()).unwrap();
        let spoiled = format!("{}~", &good[..good.len() - 1]);
        let table = [
            (good.replace("200 OK", "502 Bad Gateway"), Wrong::Status(502)),
            (good.replace("Content-Length: 64", "Content-Length: 63"), Wrong::Length),
            (good.replace("Content-Length: 64", "Transfer-Encoding: chunked"), Wrong::Length),
            (good.replace("Content-Length: 64", "Content-Length: 64\r\nContent-Length: 64"), Wrong::Length),
            (spoiled, Wrong::Body),
            (format!("{good}!"), Wrong::Surplus),
            (body, Wrong::Malformed),
        ];
        for (bytes, wrong) in table {
            assert_eq!(ResponseCheck::default().feed(bytes.as_bytes(), answer.body()), Err(wrong), "{bytes}");
        }
    }
}
