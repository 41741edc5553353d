//! Cross-origin answers: who may read them, and the preflight.

use crate::filter::answer::Answer;
use crate::http::head::RequestHead;
use crate::snapshot::rule::Cors;

/// The answer to OPTIONS, which ingress-nginx never passes on where CORS is enabled.
pub fn preflight(cors: &Cors) -> Answer {
    let mut answer = Answer::plain(204, "cors_preflight");
    answer.fields.push(("Access-Control-Max-Age", cors.max_age_s.to_string().into_bytes()));
    answer
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
