//! Heads of requests and responses, borrowed from the bytes they were read from.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use crate::http::fault::DownstreamFault;

/// The most fields a message may have.
pub const FIELDS_MAX: usize = 100;

/// Room for the fields of one head, on the stack of whoever parses; one more than allowed, so that excess shows.
pub type FieldStorage<'b> = [MaybeUninit<httparse::Header<'b>>; FIELDS_MAX + 1];

/// Empty room for fields.
pub const fn field_storage<'b>() -> FieldStorage<'b> {
    [const { MaybeUninit::uninit() }; FIELDS_MAX + 1]
}

/// The version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// What ends the content of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// This many bytes, more than zero.
    Length(u64),
    Chunked,
    /// The end of the connection; responses only.
    UntilClose,
}

/// Bounds on a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Start line and fields together, in bytes.
    pub head_bytes_max: usize,
    /// The target alone, in bytes.
    pub target_bytes_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { head_bytes_max: 32 << 10, target_bytes_max: 8 << 10 }
    }
}

/// A request head that kept every rule. `'b` are the bytes, `'h` the field storage.
#[derive(Debug)]
pub struct RequestHead<'h, 'b> {
    /// A token; case-sensitive.
    pub method: &'b [u8],
    /// Normalised path, starting with `/` (`*` for `OPTIONS *`): what routing matches is what the upstream sees.
    pub path: Cow<'b, [u8]>,
    /// Everything after the first `?`, as received.
    pub query: Option<&'b [u8]>,
    /// The target as received.
    pub target: &'b [u8],
    pub version: Version,
    /// Host as received, with its port: of the target where that is in absolute form.
    pub authority: &'b [u8],
    /// Host without port and trailing dot, in the case it was received in.
    pub host: &'b [u8],
    /// Every field as received; those of framing and connection are for reading only, never for forwarding.
    pub fields: &'h [httparse::Header<'b>],
    /// `Empty`, `Length` or `Chunked`.
    pub framing: Framing,
    /// Whether the client lets the connection live after this exchange.
    pub keep_alive: bool,
    /// Why it is refused although it keeps every rule: TRACE (405), or an expectation that nobody can meet (417).
    pub refusal: Option<DownstreamFault>,
    /// `Expect: 100-continue` from an HTTP/1.1 client with content.
    pub expects_continue: bool,
    /// `Connection: upgrade` with `Upgrade: websocket` on HTTP/1.1, and GET without content.
    pub upgrades_to_websocket: bool,
    /// Bytes of the head, blank line included (and empty lines before the request line).
    pub bytes: usize,
    /// Whether a field other than the well-known ones is named in `Connection`: [`Self::end_to_end`] then looks each one up.
    pub names_connection_fields: bool,
}

/// A response head that kept every rule.
#[derive(Debug)]
pub struct ResponseHead<'h, 'b> {
    /// 100 to 599.
    pub status: u16,
    pub reason: &'b [u8],
    pub version: Version,
    pub fields: &'h [httparse::Header<'b>],
    /// How its content ends, the request's method considered.
    pub framing: Framing,
    /// What Content-Length said, for answers without content (HEAD, 304).
    pub declared_length: Option<u64>,
    /// Whether the connection may be used again after this answer.
    pub keep_alive: bool,
    /// `Upgrade: websocket` with `Connection: upgrade`, for a 101.
    pub upgrades_to_websocket: bool,
    /// Bytes of the head, blank line included.
    pub bytes: usize,
    /// As in [`RequestHead`].
    pub names_connection_fields: bool,
}

impl<'b> RequestHead<'_, 'b> {
    /// The value of the first field with this lower-case name.
    pub fn field(&self, name: &str) -> Option<&'b [u8]> {
        find(self.fields, name)
    }

    /// The values of all fields of this name, in their order.
    pub fn fields(&self, name: &str) -> impl DoubleEndedIterator<Item = &'b [u8]> {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The fields that may be forwarded: none of framing, connection, Host, Expect, Proxy, hop-by-hop; none that Connection names;
    /// no underscore in a name.
    pub fn end_to_end(&self) -> impl Iterator<Item = &httparse::Header<'b>> {
        self.fields.iter().filter(|field| {
            let name = field.name.as_bytes();
            let kept = match name.len() {
                2 => !name.eq_ignore_ascii_case(b"te"),
                4 => !name.eq_ignore_ascii_case(b"host"),
                5 => !name.eq_ignore_ascii_case(b"proxy"),
                6 => !name.eq_ignore_ascii_case(b"expect"),
                14 => !name.eq_ignore_ascii_case(b"http2-settings") && !name.eq_ignore_ascii_case(b"content-length"),
                _ => !is_of_one_hop(name),
            };
            kept && !name.contains(&b'_') && !(self.names_connection_fields && is_named(self.fields, name))
        })
    }
}

impl<'b> ResponseHead<'_, 'b> {
    /// The value of the first field with this lower-case name.
    pub fn field(&self, name: &str) -> Option<&'b [u8]> {
        find(self.fields, name)
    }

    /// The fields that may be forwarded: none of framing, connection, hop-by-hop; none that Connection names.
    pub fn end_to_end(&self) -> impl Iterator<Item = &httparse::Header<'b>> {
        self.fields.iter().filter(|field| {
            let name = field.name.as_bytes();
            let kept = match name.len() {
                2 => !name.eq_ignore_ascii_case(b"te"),
                14 => !name.eq_ignore_ascii_case(b"content-length"),
                _ => !is_of_one_hop(name),
            };
            kept && !(self.names_connection_fields && is_named(self.fields, name))
        })
    }
}

fn find<'b>(fields: &[httparse::Header<'b>], name: &str) -> Option<&'b [u8]> {
    fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// Fields that end at the next hop (RFC 9110 section 7.6.1), in both directions.
fn is_of_one_hop(name: &[u8]) -> bool {
    match name.len() {
        7 => name.eq_ignore_ascii_case(b"upgrade") || name.eq_ignore_ascii_case(b"trailer"),
        10 => name.eq_ignore_ascii_case(b"connection") || name.eq_ignore_ascii_case(b"keep-alive"),
        16 => name.eq_ignore_ascii_case(b"proxy-connection"),
        17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
        _ => false,
    }
}

/// Whether a Connection field names this one, and it is not one that identity or routing rest on: naming those is how a client
/// would have us drop what the upstream trusts.
fn is_named(fields: &[httparse::Header<'_>], name: &[u8]) -> bool {
    let protected = name.eq_ignore_ascii_case(b"authorization")
        || name.eq_ignore_ascii_case(b"cookie")
        || name.get(..2).is_some_and(|front| front.eq_ignore_ascii_case(b"x-") && is_identity(name))
        || name.eq_ignore_ascii_case(b"forwarded");
    !protected
        && fields
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case("connection"))
            .any(|field| crate::http::h1::framing::lists(field.value, name))
}

fn is_identity(name: &[u8]) -> bool {
    [&b"x-forwarded"[..], b"x-real-ip", b"x-request-id", b"x-original", b"x-scheme", b"x-auth"]
        .iter()
        .any(|front| name.get(..front.len()).is_some_and(|start| start.eq_ignore_ascii_case(front)))
}
