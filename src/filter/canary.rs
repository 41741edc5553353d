//! Which requests go to the canary: header beats cookie beats weight.

use crate::http::head::RequestHead;
use crate::snapshot::rule::Canary;
use crate::snapshot::rule::CanaryValue;

/// Whether this request goes to the canary.
pub fn is_chosen(canary: &Canary, head: &RequestHead<'_, '_>, random: u64) -> bool {
    if let Some(name) = &canary.header
        && let Some(value) = head.field(name)
    {
        match &canary.header_value {
            // With a value asked for, any other value falls through to cookie and weight.
            Some(CanaryValue::Is(want)) if value == want.as_bytes() => return true,
            Some(CanaryValue::Matches(pattern)) if std::str::from_utf8(value).is_ok_and(|value| pattern.is_match(value)) => return true,
            Some(CanaryValue::Never) => return false,
            Some(_) => {}
            None if value == b"always" => return true,
            None if value == b"never" => return false,
            None => {}
        }
    }
    if let Some(name) = &canary.cookie {
        match cookie(head, name.as_bytes()) {
            Some(b"always") => return true,
            Some(b"never") => return false,
            _ => {}
        }
    }
    let total = u64::from(canary.weight_total.max(1));
    random % total < u64::from(canary.weight)
}

/// The value of a cookie, the first of its name.
pub fn cookie<'b>(head: &RequestHead<'_, 'b>, name: &[u8]) -> Option<&'b [u8]> {
    head.fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("cookie"))
        .flat_map(|field| field.value.split(|byte| *byte == b';'))
        .find_map(|pair| {
            let pair = pair.trim_ascii();
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            (&pair[..equals] == name).then(|| &pair[equals + 1..])
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::rule;
    use crate::filter::tests::with_facts;
    use crate::snapshot::cluster::ClusterId;
    use crate::snapshot::rule::Policy;

    fn chosen(canary: &Canary, fields: &str, random: u64) -> bool {
        let wire = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        with_facts(&wire, &rule(Policy::default()), |_| {}, |facts| is_chosen(canary, facts.head, random))
    }

    /// Header beats cookie beats weight; without a word from the client the weight decides.
    #[test]
    fn header_beats_cookie_beats_weight() {
        let canary = Canary {
            cluster: ClusterId(2),
            header: Some("x-canary".to_owned()),
            header_value: None,
            cookie: Some("canary".to_owned()),
            weight: 30,
            weight_total: 100,
        };
        for (fields, random, want) in [
            ("", 29, true),
            ("", 30, false),
            ("", 129, true),
            ("X-Canary: always\r\n", 99, true),
            ("X-Canary: never\r\nCookie: canary=always\r\n", 0, false),
            ("X-Canary: other\r\n", 0, true),
            ("X-Canary: other\r\nCookie: a=b; canary=never\r\n", 0, false),
            ("Cookie: canary=always\r\n", 99, true),
            ("Cookie: xcanary=always\r\n", 99, false),
        ] {
            assert_eq!(chosen(&canary, fields, random), want, "{fields:?} {random}");
        }
        let valued = Canary { header_value: Some(CanaryValue::Is("v2".to_owned())), weight: 0, ..canary.clone() };
        assert!(chosen(&valued, "X-Canary: v2\r\n", 99));
        assert!(!chosen(&valued, "X-Canary: always\r\n", 99));
        let pattern = regex::Regex::new("^v[23]$").expect("a pattern");
        let matched = Canary { header_value: Some(CanaryValue::Matches(pattern)), weight: 0, ..canary };
        assert!(chosen(&matched, "X-Canary: v3\r\n", 99));
        assert!(!chosen(&matched, "X-Canary: v4\r\n", 99));
    }
}
