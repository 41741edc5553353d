//! No request is ever understood in two ways: what is unclear is refused, what is clear is forwarded once, re-framed by us.
//!
//! Every message of the table meets the same universal checks: the status; the connection closed exactly where nothing that follows
//! could be trusted; the upstream saw as many requests as the client got answers from it, and nothing of a refused one; a clean
//! request on a new connection is served afterwards.

mod support;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use support::client::Client;
use support::client::Ended;
use support::edge::Corelane;
use support::eventually;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::show;
use support::tls::Authority;
use support::upstream::Upstream;

/// One message, or several in a row, as bytes; `HOST` stands for the site, `/PATH` for a path of the case's own.
struct Case {
    name: String,
    bytes: Vec<u8>,
    statuses: Vec<u16>,
    fate: Fate,
    /// What is wrong shows only after the head: a site that answers by the head alone may do so.
    in_body: bool,
    /// Requests that reach the upstream where they are forwarded.
    forwarded: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Closed,
    /// A refusal of something well-formed: either is right.
    Either,
}

fn case(name: &str, bytes: impl AsRef<[u8]>, statuses: &[u16], fate: Fate) -> Case {
    let forwarded = statuses.iter().filter(|status| **status == 200).count();
    Case { name: name.to_owned(), bytes: bytes.as_ref().to_vec(), statuses: statuses.to_vec(), fate, in_body: false, forwarded }
}

/// A legal request that leaves the connection usable.
fn legal(name: &str, bytes: impl AsRef<[u8]>) -> Case {
    case(name, bytes, &[200], Fate::Kept)
}

/// A legal request after which the connection closes.
fn last(name: &str, bytes: impl AsRef<[u8]>) -> Case {
    case(name, bytes, &[200], Fate::Closed)
}

/// A head that must be refused.
fn refused(name: &str, status: u16, bytes: impl AsRef<[u8]>) -> Case {
    case(name, bytes, &[status], Fate::Closed)
}

/// Chunked content that must be refused.
fn bad_chunks(name: &str, content: impl AsRef<[u8]>) -> Case {
    let mut bytes = b"POST /PATH HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    bytes.extend_from_slice(content.as_ref());
    Case { in_body: true, ..refused(name, 400, bytes) }
}

/// Chunked content that is legal.
fn good_chunks(name: &str, content: impl AsRef<[u8]>) -> Case {
    Case { in_body: false, ..case(name, bad_chunks(name, content).bytes, &[200], Fate::Kept) }
}

/// A GET with one more field line, which must be refused.
fn bad_field(line: &str) -> Case {
    refused(&format!("field line {line:?}"), 400, format!("GET /PATH HTTP/1.1\r\nHost: HOST\r\n{line}\r\nX-Last: 1\r\n\r\n"))
}

/// A GET with one more field line, which is legal.
fn good_field(line: &str) -> Case {
    legal(&format!("field line {line:?}"), format!("GET /PATH HTTP/1.1\r\nHost: HOST\r\n{line}\r\nX-Last: 1\r\n\r\n"))
}

/// A POST of five bytes whose length is given by this value, which must be refused.
fn bad_length(value: &str) -> Case {
    refused(
        &format!("Content-Length {value:?}"),
        400,
        format!("POST /PATH HTTP/1.1\r\nHost: HOST\r\nContent-Length:{value}\r\n\r\nhelloGET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    )
}

/// A POST whose coding is given by this value, which must be refused.
fn bad_coding(status: u16, value: &str) -> Case {
    refused(
        &format!("Transfer-Encoding {value:?}"),
        status,
        format!(
            "POST /PATH HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding:{value}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n"
        ),
    )
}

/// A request line that must be refused.
fn bad_line(status: u16, line: &str) -> Case {
    refused(&format!("request line {line:?}"), status, format!("{line}\r\nHost: HOST\r\n\r\n"))
}

/// A Host that must be refused.
fn bad_host(lines: &str) -> Case {
    refused(&format!("Host {lines:?}"), 400, format!("GET /PATH HTTP/1.1\r\n{lines}Accept: */*\r\n\r\n"))
}

fn legal_requests() -> Vec<Case> {
    let long_line = format!("GET /PATH?{} HTTP/1.1\r\nHost: HOST\r\n\r\n", "q".repeat(8000 - "GET /PATH? HTTP/1.1".len()));
    let many_fields = format!("GET /PATH HTTP/1.1\r\nHost: HOST\r\n{}\r\n", "X-Many: 1\r\n".repeat(99));
    let long_cookie = format!("GET /PATH HTTP/1.1\r\nHost: HOST\r\nCookie: {}\r\n\r\n", "c".repeat(16 << 10));
    vec![
        legal("plain", "GET /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        legal("length", "POST /PATH HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello"),
        legal("length zero", "POST /PATH HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n"),
        legal("no framing is no content", "POST /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        legal("length with leading zeros", "POST /PATH HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0005\r\n\r\nhello"),
        legal("length with blanks around", "POST /PATH HTTP/1.1\r\nHost: HOST\r\nContent-Length:\t 5 \t\r\n\r\nhello"),
        legal("length in any case", "POST /PATH HTTP/1.1\r\nhOST: HOST\r\ncOnTeNt-lEnGtH: 5\r\n\r\nhello"),
        legal(
            "content that looks like a request",
            "POST /PATH HTTP/1.1\r\nHost: HOST\r\nContent-Length: 37\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: abc\r\n\r\n",
        ),
        good_chunks("one chunk", "5\r\nhello\r\n0\r\n\r\n"),
        good_chunks("many chunks", "1\r\nh\r\n2\r\nel\r\n2\r\nlo\r\n0\r\n\r\n"),
        good_chunks("no chunk", "0\r\n\r\n"),
        good_chunks("upper and lower case sizes", "A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n"),
        good_chunks("sizes with leading zeros", "005\r\nhello\r\n0000\r\n\r\n"),
        good_chunks("sixteen digits", "0000000000000005\r\nhello\r\n0\r\n\r\n"),
        good_chunks("extensions", "5;a;b=c;d=\"e f\";g=\"\\\"\"\r\nhello\r\n0;last\r\n\r\n"),
        good_chunks("trailers", "5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Other:\r\n\r\n"),
        good_chunks(
            "trailers that would route or frame",
            "5\r\nhello\r\n0\r\nContent-Length: 99\r\nTransfer-Encoding: gzip\r\nHost: evil\r\nAuthorization: x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        ),
        legal("coding in any case", "POST /PATH HTTP/1.1\r\nHost: HOST\r\ntransfer-ENCODING: ChUnKeD\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        legal("coding with blanks around", "POST /PATH HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding:\tchunked \r\n\r\n0\r\n\r\n"),
        legal("GET with content", "GET /PATH HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello"),
        legal("GET with chunks", "GET /PATH HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        legal("DELETE with content", "DELETE /PATH HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello"),
        legal("unknown method", "PURGE /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        legal("method of odd letters", "M-SEARCH!#$%&'*+.^_`|~0 /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        legal("lower-case method is another method", "get /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        legal("an empty line first", "\r\nGET /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        legal("absolute form", "GET http://HOST/PATH HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        legal("absolute form in any case", "GET HTTP://HOST/PATH HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        legal("a port in Host", "GET /PATH HTTP/1.1\r\nHost: HOST:8080\r\n\r\n"),
        legal("a dot behind Host", "GET /PATH HTTP/1.1\r\nHost: HOST.\r\n\r\n"),
        legal("a line of 8000 octets", long_line),
        legal("a hundred fields", many_fields),
        legal("a long cookie", long_cookie),
        legal("marks in the query", "GET /PATH?<>\"{}|^`[]';:@&=+$,!*() HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        good_field("X-Empty:"),
        good_field("X-Text: \u{e9}\u{4e16}"),
        good_field("X-Tab: a\tb"),
        good_field("Content%2dLength: 99"),
        good_field("Content_Length: 99"),
        good_field("Transfer_Encoding: chunked"),
        good_field("X-Twice: 1\r\nX-Twice: 2"),
        good_field("TE: trailers"),
        good_field("Connection: x-custom\r\nX-Custom: 1"),
        good_field("Connection: content-length, transfer-encoding, host, authorization\r\nAuthorization: x"),
        good_field("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
        good_field("Upgrade: websocket"),
        good_field("Keep-Alive: timeout=5"),
        good_field("Proxy: http://evil"),
        legal("an expectation that is met", "POST /PATH HTTP/1.1\r\nHost: HOST\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"),
        legal("the expectation in any case", "POST /PATH HTTP/1.1\r\nHost: HOST\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\nhello"),
        legal("an expectation without content", "GET /PATH HTTP/1.1\r\nHost: HOST\r\nExpect: 100-continue\r\n\r\n"),
        case("two in a row", "GET /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n".repeat(2), &[200, 200], Fate::Kept),
        case(
            "content, chunks and none in a row",
            "POST /PATH HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\n\r\nabcPOST /PATH HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\n\r\nGET /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n",
            &[200, 200, 200],
            Fate::Kept,
        ),
        case(
            "empty lines between",
            "GET /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n\r\n\r\nGET /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n",
            &[200, 200],
            Fate::Kept,
        ),
        last("HTTP/1.0", "GET /PATH HTTP/1.0\r\nHost: HOST\r\n\r\n"),
        last("HTTP/1.0 with content", "POST /PATH HTTP/1.0\r\nHost: HOST\r\nContent-Length: 5\r\n\r\nhello"),
        last("HTTP/1.0 with an expectation", "POST /PATH HTTP/1.0\r\nHost: HOST\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"),
        legal("HTTP/1.0 that stays", "GET /PATH HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive\r\n\r\n"),
        last("told to close", "GET /PATH HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"),
        last("told to close and to stay", "GET /PATH HTTP/1.1\r\nHost: HOST\r\nConnection: keep-alive, close\r\n\r\n"),
        last("told to close in a second field", "GET /PATH HTTP/1.1\r\nHost: HOST\r\nConnection: x\r\nConnection: CLOSE\r\n\r\n"),
        last(
            "a request behind the close",
            "GET /PATH HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n",
        ),
        last("a request behind HTTP/1.0", "GET /PATH HTTP/1.0\r\nHost: HOST\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        Case { forwarded: 0, ..legal("OPTIONS of the server", "OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n") },
    ]
}

fn bad_framing() -> Vec<Case> {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n";
    let mut cases = vec![
        refused(
            "CL.TE",
            400,
            format!("POST /PATH HTTP/1.1\r\nHost: HOST\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        refused(
            "TE.CL",
            400,
            format!(
                "POST /PATH HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n26\r\n{smuggled}\r\n0\r\n\r\n"
            ),
        ),
        refused(
            "chunked and identity in two fields",
            400,
            format!(
                "POST /PATH HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{smuggled}"
            ),
        ),
        refused(
            "chunked twice in two fields",
            400,
            format!(
                "POST /PATH HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
        ),
        refused(
            "HTTP/1.0 with chunks",
            400,
            format!("POST /PATH HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        refused(
            "HTTP/1.0 with chunks and a wish to stay",
            400,
            format!("POST /PATH HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        refused(
            "two lengths",
            400,
            format!("POST /PATH HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello{smuggled}"),
        ),
        refused(
            "two equal lengths",
            400,
            format!("POST /PATH HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello{smuggled}"),
        ),
        refused(
            "a coding behind a bare line feed",
            400,
            format!("POST /PATH HTTP/1.1\r\nHost: HOST\r\nX: X\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        refused(
            "a folded coding",
            400,
            format!("POST /PATH HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        refused(
            "a blank before the colon of a coding",
            400,
            format!("POST /PATH HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        refused(
            "a blank before a coding",
            400,
            format!("POST /PATH HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: HOST\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
    ];
    cases.extend(
        [
            " 5, 5",
            " 5,5",
            " 5,6",
            " +5",
            " -5",
            " 0x5",
            " 5_0",
            " 5.0",
            " 5 5",
            "",
            " ",
            " 5;a",
            " 1e1",
            " five",
            " \"5\"",
            " 18446744073709551616",
            " 18446744073709551621",
            " 99999999999999999999999",
            " \u{663}",
            " 5\u{b}",
            " 5\u{0}",
        ]
        .map(bad_length),
    );
    cases.extend(
        [
            " chunked, identity",
            " chunked, gzip",
            " chunked, chunked",
            " \"chunked\"",
            " chunked;q=1",
            "",
            " ",
            " , chunked",
            " chunked,",
            " chunked, ",
            " \u{b}chunked",
            " chunked\u{0}",
            " chunked\u{7f}",
            " ch unked",
            " identity chunked",
        ]
        .map(|value| bad_coding(400, value)),
    );
    cases.extend(
        [" xchunked", " identity", " gzip", " gzip, chunked", " identity, chunked", " cow", " chunkedx"]
            .map(|value| bad_coding(501, value)),
    );
    cases
}

fn bad_lines_and_fields() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        "GET  /PATH HTTP/1.1",
        " GET /PATH HTTP/1.1",
        "GET /PATH HTTP/1.1 ",
        "GET\t/PATH HTTP/1.1",
        "GET /PATH\tHTTP/1.1",
        "GET /PATH  HTTP/1.1",
        "GET /PATH",
        "GET",
        "GET /PATH HTTP/1.10",
        "GET /PATH HTTP/01.1",
        "GET /PATH HTTP/1,1",
        "GET /PATH http/1.1",
        "GET /PATH HTP/1.1",
        "GET /PATH HTTP/1",
        "GET /PATH HTTP/",
        "GET /PATH HTTP/1.1x",
        " /PATH HTTP/1.1",
        "/PATH HTTP/1.1",
        "G(T /PATH HTTP/1.1",
        "G\u{e9}T /PATH HTTP/1.1",
        "GET /PATH\u{0} HTTP/1.1",
        "GET /PATH\u{e9} HTTP/1.1",
        "GET /PATH\u{7f} HTTP/1.1",
        "GET /PATH#x HTTP/1.1",
        "GET /PATH\\x HTTP/1.1",
        "GET /PATH x HTTP/1.1",
        "GET PATH HTTP/1.1",
        "GET * HTTP/1.1",
        "GET HOST HTTP/1.1",
        "GET http:///PATH HTTP/1.1",
        "GET http://u@HOST/PATH HTTP/1.1",
        "GET ftp://HOST/PATH HTTP/1.1",
        "GET http://other.test/PATH HTTP/1.1",
        "GET http:/PATH HTTP/1.1",
        "GET /../PATH HTTP/1.1",
        "GET /%2e%2E/PATH HTTP/1.1",
        "GET /x/../../PATH HTTP/1.1",
        "GET /PATH%00 HTTP/1.1",
        "GET /PATH% HTTP/1.1",
        "GET /PATH%zz HTTP/1.1",
        "OPTIONS *x HTTP/1.1",
        "\u{0}GET /PATH HTTP/1.1",
    ]
    .into_iter()
    .map(|line| bad_line(400, line))
    .collect();
    cases.extend(["GET /PATH HTTP/1.2", "GET /PATH HTTP/2.0", "GET /PATH HTTP/0.9", "GET /PATH HTTP/9.9"].map(|line| bad_line(505, line)));
    cases.extend(
        [
            "No-Colon",
            ": no-name",
            "X : y",
            "X\t: y",
            " X: y",
            "\tX: y",
            "X: y\r\n folded",
            "X: y\r\n\tfolded",
            "Na(me: x",
            "Na me: x",
            "N\u{e9}: x",
            "N\u{0}: x",
            "X: a\u{0}b",
            "X: a\u{1}b",
            "X: a\u{7f}b",
            "X: a\rb",
            "X: a\r\rb",
            "X: a\nY: b",
            "X: a\n",
            "X\r: a",
            "X: a\r",
            "[X]: a",
            "X,Y: a",
            "\"X\": a",
            "X@: a",
            "=: a",
        ]
        .map(bad_field),
    );
    cases.extend(
        [
            "",
            "Host: HOST\r\nHost: HOST\r\n",
            "Host: HOST\r\nHost: other.test\r\n",
            "Host: \r\n",
            "Host:\r\n",
            "Host: u@HOST\r\n",
            "Host: HOST/x\r\n",
            "Host: HOST, other.test\r\n",
            "Host: HOST other.test\r\n",
            "Host: HOST:65536\r\n",
            "Host: HOST:x\r\n",
            "Host: HOST:-1\r\n",
            "Host: HOST?x\r\n",
            "Host: HOST#x\r\n",
            "Host: [::1\r\n",
            "Host: ::1\r\n",
            "Host: http://HOST\r\n",
            "Host: HO\\ST\r\n",
            "Host: HOST:80:80\r\n",
            "Host : HOST\r\n",
            "Host: HOST\u{0}\r\n",
        ]
        .map(bad_host),
    );
    cases.extend([
        refused("line feeds only", 400, "GET /PATH HTTP/1.1\nHost: HOST\n\n"),
        refused("a line feed behind the request line", 400, "GET /PATH HTTP/1.1\nHost: HOST\r\n\r\n"),
        refused("a line feed for the blank line", 400, "GET /PATH HTTP/1.1\r\nHost: HOST\r\n\n"),
        refused("line feeds for the blank line", 400, "GET /PATH HTTP/1.1\r\nHost: HOST\n\n"),
        refused("carriage returns only", 400, "GET /PATH HTTP/1.1\rHost: HOST\r\r"),
        refused("a line feed first", 400, "\nGET /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        refused("many empty lines first", 400, format!("{}GET /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n", "\r\n".repeat(50))),
        refused("HTTP/2 preface", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        refused(
            "TLS on the plain port",
            400,
            b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x00\x00\r\n\r\n",
        ),
        refused("noise", 400, b"\xff\xfe\xfd\xfc\r\n\r\n"),
        case("CONNECT", "CONNECT HOST:443 HTTP/1.1\r\nHost: HOST:443\r\n\r\n", &[405], Fate::Either),
        case("CONNECT with a path", "CONNECT /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n", &[405], Fate::Either),
        case("TRACE", "TRACE /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n", &[405], Fate::Kept),
        case("an unknown expectation", "GET /PATH HTTP/1.1\r\nHost: HOST\r\nExpect: tea\r\n\r\n", &[417], Fate::Kept),
    ]);
    cases.extend(["100-continue, tea", "tea, 100-continue", "x100-continue", "100 continue", "\"100-continue\"", "100-continue;q=1", ""].map(|value| {
        let name = format!("Expect {value:?}");
        let wire = format!("POST /PATH HTTP/1.1\r\nHost: HOST\r\nExpect: {value}\r\nContent-Length: 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: none\r\n\r\n");
        // The content came unasked: it is read and dropped, or the connection closes.
        case(&name, wire, &[417], Fate::Either)
    }));
    cases
}

fn too_large() -> Vec<Case> {
    let fields = |count: usize| format!("GET /PATH HTTP/1.1\r\nHost: HOST\r\n{}\r\n", "X-Many: 1\r\n".repeat(count - 1));
    vec![
        refused("101 fields", 431, fields(101)),
        refused("2000 fields", 431, fields(2000)),
        refused("33 KiB in one field", 431, format!("GET /PATH HTTP/1.1\r\nHost: HOST\r\nX: {}\r\n\r\n", "x".repeat(33 << 10))),
        refused("200 KiB in one field", 431, format!("GET /PATH HTTP/1.1\r\nHost: HOST\r\nX: {}\r\n\r\n", "x".repeat(200 << 10))),
        refused("33 KiB in a field name", 431, format!("GET /PATH HTTP/1.1\r\nHost: HOST\r\n{}: x\r\n\r\n", "x".repeat(33 << 10))),
        refused(
            "33 KiB in many fields",
            431,
            format!("GET /PATH HTTP/1.1\r\nHost: HOST\r\n{}\r\n", format!("X: {}\r\n", "x".repeat(500)).repeat(70)),
        ),
        refused("a target of 9000 octets", 414, format!("GET /PATH{} HTTP/1.1\r\nHost: HOST\r\n\r\n", "x".repeat(9000))),
        refused("a target of 40 KiB", 414, format!("GET /PATH{} HTTP/1.1\r\nHost: HOST\r\n\r\n", "x".repeat(40 << 10))),
        refused("a query of 40 KiB", 414, format!("GET /PATH?{} HTTP/1.1\r\nHost: HOST\r\n\r\n", "x".repeat(40 << 10))),
    ]
}

fn malformed_chunks() -> Vec<Case> {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n";
    let mut cases: Vec<Case> = [
        "\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\t\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5_\r\nhello\r\n0\r\n\r\n",
        "5.0\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "\u{665}\r\nhello\r\n0\r\n\r\n",
        "5;\r\nhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a=\r\nhello\r\n0\r\n\r\n",
        "5;a\u{0}\r\nhello\r\n0\r\n\r\n",
        "5;[\r\nhello\r\n0\r\n\r\n",
        "5;a=\"b\r\n\"\r\nhello\r\n0\r\n\r\n",
        "5;a=\"b\"c\r\nhello\r\n0\r\n\r\n",
        "5 ;a\r\nhello\r\n0\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "10000000000000000\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "6\r\nhello\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "0\r\n\n",
        "0\n\r\n",
        "0\n\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\nX: a\nb: c\r\n\r\n",
        "0\r\nX: a\rb\r\n\r\n",
        "0\r\nX: a\u{0}\r\n\r\n",
        "0\r\n: a\r\n\r\n",
        "0\r\nX: a\r\n b\r\n\r\n",
    ]
    .into_iter()
    .map(|content| bad_chunks(&format!("chunks {content:?}"), format!("{content}{smuggled}")))
    .collect();
    cases.extend([
        bad_chunks("a chunk extension of 5 KiB", format!("5;{}\r\nhello\r\n0\r\n\r\n{smuggled}", "a".repeat(5 << 10))),
        bad_chunks("a chunk extension of 64 KiB", format!("5;{}\r\nhello\r\n0\r\n\r\n{smuggled}", "a".repeat(64 << 10))),
        bad_chunks("5 KiB of chunk extensions", format!("{}0\r\n\r\n{smuggled}", "1;abcdefgh\r\nx\r\n".repeat(600))),
        bad_chunks("101 trailers", format!("0\r\n{}\r\n{smuggled}", "X: 1\r\n".repeat(101))),
        bad_chunks("a trailer of 33 KiB", format!("0\r\nX: {}\r\n\r\n{smuggled}", "x".repeat(33 << 10))),
        bad_chunks("a trailer section without a terminator", "0\r\nGET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ]);
    cases
}

/// Good requests with a bad one behind them: answers stay in order, and the bad one ends it.
fn good_then_bad() -> Vec<Case> {
    let good = "GET /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n";
    vec![
        case("a bad line behind a good request", format!("{good}GET  / HTTP/1.1\r\nHost: HOST\r\n\r\n{good}"), &[200, 400], Fate::Closed),
        case(
            "a coding and a length behind two good requests",
            format!("{good}{good}POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{good}"),
            &[200, 200, 400],
            Fate::Closed,
        ),
        case("too much content", "POST /PATH HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\n\r\nabcdef\r\n\r\n", &[200, 400], Fate::Closed),
        case("content nobody announced", "POST /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n[1,2]\r\n\r\n", &[200, 400], Fate::Closed),
    ]
}

/// How a case is spoken.
#[derive(Clone, Copy)]
enum Manner<'m> {
    /// In one write.
    AtOnce,
    /// A few bytes at a time.
    Dribbled,
    Tls(&'m Arc<ClientConfig>),
}

struct Stage {
    edge: Corelane,
    upstream: Upstream,
    authority: Authority,
}

/// One forwarding site and one for each way to answer without an upstream.
fn stage() -> Stage {
    let upstream = Upstream::echo("upstream");
    let authority = Authority::new();
    let certificate = authority.ecdsa(&["forward.test"]);
    let site = |name: &str| Ingress::new(name).annotation("ssl-redirect", "false").host(&format!("{name}.test"), "app");
    let manifests = Manifests::new()
        .settings(&[("keep-alive-requests", "100000000")])
        .service("app", &[upstream.address])
        .service("down", &[])
        .tls_secret("certificate", &certificate)
        .secret("users", "auth", "user:{PLAIN}secret\n")
        .ingress(&site("forward").tls("forward.test", "certificate"))
        .ingress(&site("moved").annotation("permanent-redirect", "https://elsewhere.test/"))
        .ingress(&site("forbidden").annotation("whitelist-source-range", "192.0.2.0/24"))
        .ingress(&site("locked").annotation("auth-type", "basic").annotation("auth-secret", "users").annotation("auth-realm", "test"))
        .ingress(&site("small").annotation("proxy-body-size", "2"))
        .ingress(&Ingress::new("down").host("down.test", "down"));
    Stage { edge: Corelane::start(&manifests), upstream, authority }
}

/// Sites that answer by the head alone.
const LOCAL: [(&str, u16); 5] =
    [("moved.test", 301), ("forbidden.test", 403), ("locked.test", 401), ("down.test", 503), ("nowhere.test", 404)];

fn connect(stage: &Stage, manner: Manner<'_>) -> Client {
    match manner {
        Manner::AtOnce | Manner::Dribbled => Client::connect(stage.edge.http),
        Manner::Tls(config) => Client::connect_tls(stage.edge.https, config, "forward.test"),
    }
}

fn speak(client: &mut Client, bytes: &[u8], manner: Manner<'_>) {
    let step = if matches!(manner, Manner::Dribbled) { (bytes.len() / 50).clamp(1, 700) } else { bytes.len() };
    for piece in bytes.chunks(step) {
        client.send(piece);
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(position) = rest.windows(from.len()).position(|part| part == from) {
        out.extend_from_slice(&rest[..position]);
        out.extend_from_slice(to);
        rest = &rest[position + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fn wire(case: &Case, host: &str, path: &str) -> Vec<u8> {
    // Longer than the token it replaces, the path must not change a length that the case states: content never holds it.
    let bytes = replace(&case.bytes, b"/PATH", format!("/{path}").as_bytes());
    replace(&bytes, b"HOST", host.as_bytes())
}

/// Plays a case at the forwarding site and checks everything that section 5 of the contract asks.
fn play(stage: &Stage, case: &Case, path: &str, manner: Manner<'_>) {
    let bytes = wire(case, "forward.test", path);
    let context = format!("{}: {}", case.name, show(&bytes));
    let mut client = connect(stage, manner);
    speak(&mut client, &bytes, manner);
    for (index, status) in case.statuses.iter().enumerate() {
        let answer = client.try_response(false).unwrap_or_else(|ended| panic!("{context}: answer {index} is {ended:?}"));
        assert_eq!(answer.status, *status, "{context}: answer {index} {answer:?}");
        let is_last = index + 1 == case.statuses.len();
        if is_last && case.fate == Fate::Closed {
            assert!(answer.closes(), "{context}: says that it closes: {answer:?}");
        }
    }
    let follow_up = match case.fate {
        Fate::Closed => {
            match client.try_response(false) {
                Err(Ended::Closed | Ended::Reset) => {}
                other => panic!("{context}: should have closed: {other:?}"),
            }
            0
        }
        Fate::Kept => {
            let answer = client.get("forward.test", &format!("/{path}"));
            assert_eq!(answer.status, 200, "{context}: the connection is kept");
            1
        }
        Fate::Either => 0,
    };
    assert_eq!(stage.edge.get("forward.test", &format!("/{path}")).status, 200, "{context}: a clean request afterwards");
    let requests = stage.upstream.requests();
    assert!(!requests.iter().any(|request| request.target.contains("smuggled")), "{context}: smuggled");
    let own = requests.iter().filter(|request| request.complete && request.target.split('?').next() == Some(&format!("/{path}")));
    assert_eq!(own.count(), case.forwarded + follow_up + 1, "{context}: requests at the upstream");
}

/// Plays every case in every manner; one failure does not hide the next.
fn play_all(cases: &[Case], prefix: &str) {
    let stage = stage();
    let client = stage.authority.client();
    let mut failures = 0;
    for (manner_name, manner) in [("once", Manner::AtOnce), ("dribbled", Manner::Dribbled), ("tls", Manner::Tls(&client))] {
        for (index, case) in cases.iter().enumerate() {
            let path = format!("{prefix}-{manner_name}-{index}");
            failures += usize::from(std::panic::catch_unwind(AssertUnwindSafe(|| play(&stage, case, &path, manner))).is_err());
        }
    }
    assert_eq!(failures, 0, "of {} cases in three manners", cases.len());
}

/// What RFC 9112 allows is served, whole, in pieces and over TLS.
#[test]
fn legal_requests_are_forwarded_once() {
    play_all(&legal_requests(), "legal");
}

/// Lengths and codings that two readers could read differently are refused.
#[test]
fn unclear_framing_is_refused() {
    play_all(&bad_framing(), "framing");
}

/// Start lines, field lines and Hosts that break a rule are refused.
#[test]
fn malformed_heads_are_refused() {
    play_all(&bad_lines_and_fields(), "head");
}

/// Heads over the limits are refused with the status that says which.
#[test]
fn heads_over_the_limits_are_refused() {
    play_all(&too_large(), "large");
}

/// Chunked content that breaks a rule ends the connection, and the upstream never takes it for complete.
#[test]
fn malformed_chunks_are_refused() {
    play_all(&malformed_chunks(), "chunks");
}

/// Answers come in the order of the requests, and a refusal is the last one.
#[test]
fn a_refusal_ends_a_pipeline() {
    play_all(&good_then_bad(), "pipeline");
}

fn all_cases() -> Vec<Case> {
    let mut cases = legal_requests();
    cases.extend(bad_framing());
    cases.extend(bad_lines_and_fields());
    cases.extend(too_large());
    cases.extend(malformed_chunks());
    cases.extend(good_then_bad());
    cases
}

/// The table is as long as it claims to be.
#[test]
fn the_table_is_complete() {
    assert!(all_cases().len() >= 120, "{}", all_cases().len());
}

/// The same messages at routes that answer without an upstream: a head is refused as anywhere, nothing is smuggled through what
/// the answer left unread, and nothing reaches an upstream.
#[test]
fn local_answers_leave_nothing_unread() {
    let stage = stage();
    let mut failures = 0;
    for (host, own_status) in LOCAL {
        for (index, case) in all_cases().iter().enumerate() {
            failures +=
                usize::from(std::panic::catch_unwind(AssertUnwindSafe(|| play_locally(&stage, case, host, own_status, index))).is_err());
        }
        assert_eq!(stage.edge.get(host, "/clean").status, own_status, "{host}");
    }
    assert_eq!(failures, 0);
    assert_eq!(stage.upstream.count(), 0, "{:?}", stage.upstream.requests());
}

fn play_locally(stage: &Stage, case: &Case, host: &str, own_status: u16, index: usize) {
    let bytes = wire(case, host, &format!("local-{index}"));
    let context = format!("{host}: {}: {}", case.name, show(&bytes));
    let mut client = Client::connect(stage.edge.http);
    client.send(&bytes);
    let mut answers = 0;
    let ended = loop {
        let wanted = case.statuses.get(answers).copied();
        if wanted.is_none() {
            // Whatever was in the bytes has its answer: a clean request follows, if the connection is kept.
            client.send(format!("GET /local-{index} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        }
        match client.try_response(false) {
            Ok(answer) => {
                let local = answer.status == own_status || (case.name == "OPTIONS of the server" && answer.status == 200);
                let as_anywhere = wanted == Some(answer.status) && answer.status >= 400;
                assert!(local || as_anywhere, "{context}: answer {answers} is {answer:?}");
                if local && wanted.is_some_and(|wanted| wanted >= 400) {
                    assert!(case.in_body, "{context}: a bad head was understood: {answer:?}");
                }
                answers += 1;
            }
            Err(ended) => break ended,
        }
        assert!(answers <= case.statuses.len() + 1, "{context}: more answers than requests");
    };
    assert!(answers > 0, "{context}: no answer");
    assert!(matches!(ended, Ended::Closed | Ended::Reset), "{context}: {ended:?}");
}

/// Content that the answer did not wait for is never the next request, however late it comes.
#[test]
fn late_content_is_never_a_request() {
    let stage = stage();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: forward.test\r\n\r\n";
    let sites = LOCAL.into_iter().chain([("small.test", 413)]);
    for (host, status) in sites {
        for framing in
            [format!("Content-Length: {}\r\n\r\n", smuggled.len()), format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", smuggled.len())]
        {
            let mut client = Client::connect(stage.edge.http);
            client.send(format!("POST /x HTTP/1.1\r\nHost: {host}\r\n{framing}"));
            // A route that reads the content first answers when it is there.
            let answer = if host == "small.test" && framing.contains("chunked") { None } else { Some(client.response()) };
            client.send(smuggled);
            let answer = answer.unwrap_or_else(|| client.response());
            assert_eq!(answer.status, status, "{host} {framing:?}");
            assert!(answer.closes(), "{host} {framing:?}: {answer:?}");
            client.expect_end();
        }
    }
    assert!(!stage.upstream.requests().iter().any(|request| request.complete), "{:?}", stage.upstream.requests());
}

/// Two, and a thousand, requests in a row are answered in order, each once.
#[test]
fn pipelines_are_answered_in_order() {
    let stage = stage();
    for depth in [2, 1000] {
        stage.upstream.forget();
        let mut client = Client::connect(stage.edge.http);
        let wire: String = (0..depth).map(|index| format!("GET /{index} HTTP/1.1\r\nHost: forward.test\r\n\r\n")).collect();
        client.send(wire);
        for index in 0..depth {
            let answer = client.response();
            assert_eq!((answer.status, answer.text()), (200, format!("upstream\nGET /{index}\n0\n")));
        }
        assert_eq!(stage.upstream.count(), depth);
    }
}

/// A client that ends in the middle of its content leaves the upstream with an incomplete request, never with a complete one.
#[test]
fn an_unfinished_request_stays_unfinished() {
    let stage = stage();
    for (name, part) in [
        ("length", "Content-Length: 10\r\n\r\nhello"),
        ("chunk", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"),
        ("last chunk", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        ("trailers", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n"),
    ] {
        for half_close in [true, false] {
            stage.upstream.forget();
            let mut client = Client::connect(stage.edge.http);
            client.send(format!("POST /{name} HTTP/1.1\r\nHost: forward.test\r\n{part}").replace("/last chunk", "/last-chunk"));
            if half_close {
                client.finish_sending();
                match client.try_response(false) {
                    Err(Ended::Closed | Ended::Reset) => {}
                    Ok(answer) => assert_eq!(answer.status, 400, "{name}"),
                    Err(other) => panic!("{name}: {other:?}"),
                }
            } else {
                eventually("the upstream sees the head", || (stage.upstream.count() > 0).then_some(()));
                client.reset();
            }
            assert_eq!(stage.edge.get("forward.test", "/clean").status, 200);
            let requests = stage.upstream.requests();
            let completed: Vec<_> = requests.iter().filter(|request| request.complete && request.target != "/clean").collect();
            assert!(completed.is_empty(), "{name}: {completed:?}");
        }
    }
}

/// CVE-2025-4366: an answer that did not read the content must not leave it behind as the next request.
#[test]
fn cve_2025_4366_unread_content_is_not_a_request() {
    let stage = stage();
    for (host, status) in LOCAL {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: forward.test\r\n\r\n";
        let mut client = Client::connect(stage.edge.http);
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{smuggled}GET /next HTTP/1.1\r\nHost: {host}\r\n\r\n",
            smuggled.len()
        ));
        assert_eq!(client.response().status, status);
        match client.try_response(false) {
            Ok(answer) => assert_eq!(answer.status, status, "{host}: the next request is /next"),
            Err(ended) => assert_eq!(ended, Ended::Closed, "{host}"),
        }
    }
    assert_eq!(stage.upstream.count(), 0);
}

/// CVE-2026-2833: what follows an upgrade request is HTTP until the upstream has switched.
#[test]
fn cve_2026_2833_no_tunnel_before_the_101() {
    let stage = stage();
    let mut client = Client::connect(stage.edge.http);
    client.send(
        "GET /upgrade HTTP/1.1\r\nHost: forward.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nGET /second HTTP/1.1\r\nHost: forward.test\r\nX-Real-IP: 6.6.6.6\r\n\r\n\
         GET /third HTTP/1.1\r\nHost: forbidden.test\r\n\r\n",
    );
    let statuses: Vec<u16> = (0..3).map(|_| client.response().status).collect();
    assert_eq!(statuses, [200, 200, 403], "each is a request of its own, routed and filtered");
    let requests = stage.upstream.requests();
    assert_eq!(requests.iter().map(|request| request.target.as_str()).collect::<Vec<_>>(), ["/upgrade", "/second"]);
    assert_eq!(requests[1].field("x-real-ip"), Some("127.0.0.1"), "its head was written by us");
}

/// CVE-2026-2835: neither HTTP/1.0 with a coding nor a list of codings ends anywhere but at a refusal.
#[test]
fn cve_2026_2835_http10_has_no_chunks() {
    let stage = stage();
    for head in [
        "POST / HTTP/1.0\r\nHost: forward.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: forward.test\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: forward.test\r\nTransfer-Encoding: identity, chunked\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: forward.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    ] {
        let mut client = Client::connect(stage.edge.http);
        client.send(format!("{head}0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: forward.test\r\n\r\n"));
        assert_eq!(client.response().status, 400, "{head}");
        client.expect_end();
    }
    // Without any framing an HTTP/1.0 request has no content: what follows is no part of it and, the connection closing, nothing.
    let mut client = Client::connect(stage.edge.http);
    client.send("POST /ten HTTP/1.0\r\nHost: forward.test\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: forward.test\r\n\r\n");
    assert_eq!(client.response().status, 200);
    client.expect_end();
    let request = stage.upstream.only_request();
    assert_eq!((request.target.as_str(), request.body_length), ("/ten", 0));
}

/// CVE-2026-2836: the same path on two hosts is two resources.
#[test]
fn cve_2026_2836_hosts_share_nothing() {
    let (one, two) = (Upstream::echo("one"), Upstream::echo("two"));
    let manifests = Manifests::new()
        .service("one", &[one.address])
        .service("two", &[two.address])
        .ingress(&Ingress::new("one").host("one.test", "one"))
        .ingress(&Ingress::new("two").host("two.test", "two"));
    let edge = Corelane::start(&manifests);
    let mut client = Client::connect(edge.http);
    for _ in 0..3 {
        assert_eq!(client.get("one.test", "/same").text(), "one\nGET /same\n0\n");
        assert_eq!(client.get("two.test", "/same").text(), "two\nGET /same\n0\n");
    }
}

/// The next number of a fixed sequence (xorshift64*): a failure comes again.
fn next(state: &mut u64) -> usize {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
}

/// Changes one to three places of a message as somebody would who looks for two readings of it.
fn mutate(bytes: &mut Vec<u8>, state: &mut u64) {
    const PIECES: [&[u8]; 24] = [
        b"\r",
        b"\n",
        b"\r\n",
        b" ",
        b"\t",
        b"\0",
        b":",
        b",",
        b";",
        b"0",
        b"-",
        b"+",
        b"chunked",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\n",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"Host: other.test\r\n",
        b"\x80",
        b"%",
        b"/..",
        b"HTTP/1.0",
        b"x",
        b"Expect: x\r\n",
    ];
    for _ in 0..=next(state) % 3 {
        let at = next(state) % (bytes.len() + 1);
        match next(state) % 4 {
            0 => drop(bytes.splice(at..at, PIECES[next(state) % PIECES.len()].iter().copied())),
            1 => {
                let end = (at + 1 + next(state) % 4).min(bytes.len());
                bytes.drain(at..end);
            }
            2 if at < bytes.len() => bytes[at] = PIECES[next(state) % PIECES.len()][0],
            _ => {
                let end = (at + next(state) % 40).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, copy));
            }
        }
    }
}

/// Whatever is done to a message, the upstream sees as many whole requests as the client gets answers from it.
#[test]
fn mutated_messages_never_desynchronise() {
    let stage = stage();
    let cases = legal_requests();
    let mut state = 0x5eed;
    for round in 0..600 {
        let case = &cases[next(&mut state) % cases.len()];
        if case.bytes.len() > 2000 {
            continue;
        }
        let mut bytes = wire(case, "forward.test", "mutated");
        mutate(&mut bytes, &mut state);
        stage.upstream.forget();
        let mut client = Client::connect(stage.edge.http);
        client.send(&bytes);
        client.finish_sending();
        let mut forwarded = 0;
        let ended = loop {
            match client.try_response(false) {
                Ok(answer) => forwarded += usize::from(answer.field("server") == Some("echo")),
                Err(ended) => break ended,
            }
        };
        let context = format!("round {round}, {}: {}", case.name, show(&bytes));
        assert!(matches!(ended, Ended::Closed | Ended::Reset), "{context}: {ended:?}");
        let complete = stage.upstream.requests().iter().filter(|request| request.complete).count();
        assert_eq!(complete, forwarded, "{context}: requests at the upstream, answers of it");
    }
}

/// A pipelining client that reads nothing is not answered into memory without end.
#[test]
fn answers_nobody_reads_are_bounded() {
    let stage = stage();
    for host in ["nowhere.test", "forward.test"] {
        let before = stage.edge.resident_bytes();
        let client = Client::connect(stage.edge.http);
        client.socket().set_nonblocking(true).expect("a socket can be told not to block");
        let wire = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").repeat(1000);
        let mut sent = 0;
        let mut moved = support::now();
        // Until nobody takes any more: then our own back-pressure has reached the client.
        while moved.elapsed() < Duration::from_millis(800) {
            match client.write_some(&wire.as_bytes()[sent % wire.len()..]) {
                Some(count) => {
                    sent += count;
                    moved = support::now();
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
            assert!(sent < 64 << 20, "{host}: the client is never held back");
        }
        let grown = stage.edge.resident_bytes().saturating_sub(before);
        assert!(grown < 40 << 20, "{host}: {grown} bytes more after {sent} bytes of requests");
    }
}
