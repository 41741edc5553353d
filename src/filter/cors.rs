//! Cross-origin answers: who may read them, and the preflight.

use crate::filter::answer::Answer;
use crate::http::head::RequestHead;
use crate::snapshot::rule::Cors;

/// Whether a request is answered here: as in ingress-nginx any OPTIONS of an origin that is allowed, not only a preflight.
pub fn is_preflight(cors: &Cors, head: &RequestHead<'_, '_>) -> bool {
    head.method == b"OPTIONS" && allowed_origin(cors, head).is_some()
}

/// The answer to such a request; its fields come with every answer of the rule.
pub fn preflight() -> Answer {
    Answer::plain(204, "cors_preflight")
}

/// The origin that may read the answer, as it goes into Access-Control-Allow-Origin; `None` where it may not.
pub fn allowed_origin(cors: &Cors, head: &RequestHead<'_, '_>) -> Option<Vec<u8>> {
    if cors.origins.iter().any(|origin| origin == "*") {
        return Some(b"*".to_vec());
    }
    let origin = head.field("origin")?;
    cors.origins.iter().any(|allowed| matches(allowed.as_bytes(), origin)).then(|| origin.to_vec())
}

/// `https://*.example.com` stands for exactly one more label.
fn matches(allowed: &[u8], origin: &[u8]) -> bool {
    let Some(star) = allowed.iter().position(|byte| *byte == b'*') else { return allowed.eq_ignore_ascii_case(origin) };
    let (front, back) = (&allowed[..star], &allowed[star + 1..]);
    let Some(middle) = origin.len().checked_sub(front.len() + back.len()) else { return false };
    let label = &origin[front.len()..front.len() + middle];
    origin[..front.len()].eq_ignore_ascii_case(front)
        && origin[front.len() + middle..].eq_ignore_ascii_case(back)
        && !label.is_empty()
        && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::rule;
    use crate::filter::tests::with_facts;
    use crate::snapshot::rule::Policy;

    /// OPTIONS is answered here for an origin that may read the answer, and goes upstream for any other.
    #[test]
    fn options_of_a_foreign_origin_go_upstream() {
        let cors = |origin: &str| Cors {
            origins: vec![origin.to_owned()],
            methods: "GET".to_owned(),
            headers: "A".to_owned(),
            expose_headers: None,
            credentials: true,
            max_age_s: 1,
        };
        for (allowed, method, origin, want) in [
            ("*", "OPTIONS", "", true),
            ("*", "GET", "Origin: https://a.example\r\n", false),
            ("https://a.example", "OPTIONS", "Origin: https://a.example\r\n", true),
            ("https://a.example", "OPTIONS", "Origin: https://b.example\r\n", false),
            ("https://a.example", "OPTIONS", "", false),
        ] {
            let wire = format!("{method} / HTTP/1.1\r\nHost: h\r\n{origin}\r\n");
            let got = with_facts(&wire, &rule(Policy::default()), |_| {}, |facts| is_preflight(&cors(allowed), facts.head));
            assert_eq!(got, want, "{allowed} {method} {origin:?}");
        }
    }

    /// A star stands for one label, never for a part of somebody else's name.
    #[test]
    fn a_star_is_one_label() {
        for (allowed, origin, want) in [
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "https://A.EXAMPLE", true),
            ("https://a.example", "http://a.example", false),
            ("https://*.a.example", "https://x.a.example", true),
            ("https://*.a.example", "https://x.y.a.example", false),
            ("https://*.a.example", "https://a.example", false),
            ("https://*.a.example", "https://evil.com/.a.example", false),
            ("https://*.a.example", "https://.a.example", false),
        ] {
            assert_eq!(matches(allowed.as_bytes(), origin.as_bytes()), want, "{allowed} {origin}");
        }
    }
}
