//! Host names as objects write them.

use std::net::IpAddr;

use crate::route::HostPattern;

/// The hosts that `written` names; the empty name is every host.
///
/// # Errors
/// Why it is no host of an Ingress.
pub(crate) fn pattern(written: &str) -> Result<HostPattern, &'static str> {
    if written.is_empty() {
        return Ok(HostPattern::Any);
    }
    let name = written.to_ascii_lowercase();
    if name == "*" {
        return Err("a lone * is no host: leave the host out for every host");
    }
    if name.parse::<IpAddr>().is_ok() || name.starts_with('[') {
        return Err("an address is no host name");
    }
    match name.strip_prefix("*.") {
        Some(parent) => check(parent).map(|()| HostPattern::Wildcard(parent.to_owned())),
        None => check(&name).map(|()| HostPattern::Exact(name)),
    }
}

/// Whether `name` is a DNS name in lower case (RFC 1123).
fn check(name: &str) -> Result<(), &'static str> {
    if name.contains(':') {
        return Err("a host has no port");
    }
    if name.contains('*') {
        return Err("* may only be the whole first label");
    }
    if name.len() > 253 {
        return Err("a host name has at most 253 characters");
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.split('.').all(is_label) { Ok(()) } else { Err("it is no DNS name") }
}

/// Whether one of the `names` of a certificate is good for the hosts of `pattern`.
pub(crate) fn is_covered(pattern: &HostPattern, names: &[String]) -> bool {
    names.iter().any(|name| match pattern {
        HostPattern::Any => false,
        HostPattern::Exact(host) => {
            let covers_label = |parent| host.split_once('.').is_some_and(|(_, rest)| rest == parent);
            name == host || name.strip_prefix("*.").is_some_and(covers_label)
        }
        HostPattern::Wildcard(parent) => name.strip_prefix("*.") == Some(parent),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts are DNS names in any case, or one label of them wild; nothing else is.
    #[test]
    fn hosts_are_names_or_one_label_wild() {
        let exact = |name: &str| Some(HostPattern::Exact(name.to_owned()));
        let wildcard = |name: &str| Some(HostPattern::Wildcard(name.to_owned()));
        for (written, want) in [
            ("", Some(HostPattern::Any)),
            ("foo.bar.com", exact("foo.bar.com")),
            ("Foo.Bar.COM", exact("foo.bar.com")),
            ("localhost", exact("localhost")),
            ("1.a", exact("1.a")),
            ("xn--bcher-kva.example", exact("xn--bcher-kva.example")),
            ("*.Foo.com", wildcard("foo.com")),
            ("*", None),
            ("*.", None),
            ("*.*.com", None),
            ("a.*.com", None),
            ("*a.com", None),
            ("127.0.0.1", None),
            ("::1", None),
            ("[::1]", None),
            ("foo.com:80", None),
            ("foo.com.", None),
            ("foo..com", None),
            ("-a.com", None),
            ("a-.com", None),
            ("a_b.com", None),
            ("a b.com", None),
            ("b\u{fc}cher.example", None),
            ("a.com\r\nx: y", None),
            (&format!("{}.com", "a".repeat(64)), None),
            (&"a.".repeat(127), None),
        ] {
            assert_eq!(pattern(written).ok(), want, "{written:?}");
        }
    }

    /// A wildcard in a certificate is good for one more label, and for the wildcard host itself.
    #[test]
    fn a_certificate_covers_its_names_only() {
        let names = ["foo.com".to_owned(), "*.bar.com".to_owned()];
        for (host, want) in [
            ("foo.com", true),
            ("a.foo.com", false),
            ("a.bar.com", true),
            ("bar.com", false),
            ("a.b.bar.com", false),
            ("*.bar.com", true),
            ("*.foo.com", false),
            ("", false),
        ] {
            assert_eq!(is_covered(&pattern(host).expect("a host"), &names), want, "{host}");
        }
    }
}
