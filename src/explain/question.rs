//! The request to explain, as somebody would type it, and the bytes it would arrive as.

use std::net::IpAddr;

/// The request to explain.
#[derive(Clone, Debug)]
pub struct Question {
    pub method: String,
    /// `http://host[:port]/path?query`, or https.
    pub url: String,
    /// `Name: value`.
    pub fields: Vec<(String, String)>,
    pub client: Option<IpAddr>,
}

/// A question that is a request.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) tls: bool,
    /// The head as it would arrive.
    pub(super) bytes: Vec<u8>,
}

/// Writes the head a client would send.
///
/// # Errors
/// Why no client could send it: one sentence.
pub(super) fn wire(question: &Question) -> Result<Wire, String> {
    let (scheme, rest) = question.url.split_once("://").ok_or_else(|| wrong_url(&question.url))?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err(wrong_url(&question.url)),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.is_empty() {
        return Err(wrong_url(&question.url));
    }
    let slash = if target.starts_with('/') { "" } else { "/" };
    let mut head = format!("{} {slash}{target} HTTP/1.1\r\n", question.method);
    // As curl does: a Host given by hand takes the place of the URL's.
    if !question.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str(&format!("Host: {authority}\r\n"));
    }
    for (name, value) in &question.fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let pieces = [&question.method, &question.url].into_iter().chain(question.fields.iter().flat_map(|(name, value)| [name, value]));
    for piece in pieces {
        if piece.chars().any(char::is_control) {
            return Err(format!("{piece:?} holds a control character: no client can send it as one value"));
        }
    }
    Ok(Wire { tls, bytes: head.into_bytes() })
}

fn wrong_url(url: &str) -> String {
    format!("`{url}` is no URL: write http://host/path or https://host/path")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(url: &str, fields: &[(&str, &str)]) -> Result<String, String> {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let question = Question { method: "GET".to_owned(), url: url.to_owned(), fields, client: None };
        wire(&question).map(|wire| String::from_utf8(wire.bytes).expect("text"))
    }

    /// A URL becomes the head that curl would send for it.
    #[test]
    fn a_url_becomes_a_head() {
        for (url, want) in [
            ("http://h/a?b=c#d", "GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n"),
            ("https://h:8443", "GET / HTTP/1.1\r\nHost: h:8443\r\n\r\n"),
            ("HTTP://h?q", "GET /?q HTTP/1.1\r\nHost: h\r\n\r\n"),
            ("http://[::1]:80/", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
        ] {
            assert_eq!(head(url, &[]).as_deref(), Ok(want), "{url}");
        }
        let by_hand = head("http://127.0.0.1:8080/", &[("Host", "shop.example"), ("X-A", "1")]);
        assert_eq!(by_hand.as_deref(), Ok("GET / HTTP/1.1\r\nHost: shop.example\r\nX-A: 1\r\n\r\n"));
    }

    /// What is no URL, or would be several fields, is refused with a sentence.
    #[test]
    fn what_no_client_can_send_is_refused() {
        for url in ["h/a", "ftp://h/", "http:///a", "", "http://h/a\r\nX: y"] {
            assert!(head(url, &[]).is_err(), "{url:?}");
        }
        assert!(head("http://h/", &[("X", "a\r\nHost: evil")]).is_err());
    }
}
