//! Redirects: app-root, whole paths, and http to https.

use crate::filter::answer::Answer;
use crate::filter::facts::Facts;
use crate::snapshot::rule::TlsRedirect;

/// Redirects that come before every access rule, as nginx's `return` does.
pub fn early(facts: &Facts<'_, '_, '_>) -> Option<Answer> {
    if let Some(root) = &facts.host.app_root
        && *facts.head.path == *b"/"
    {
        return Some(Answer::redirect(302, "app_root", absolute(facts, root.as_bytes())));
    }
    let redirect = facts.rule.policy.redirect.as_ref()?;
    Some(Answer::redirect(redirect.status, "redirect", redirect.location.as_bytes().to_vec()))
}

/// http to https, for requests that did not come over it.
pub fn to_tls(facts: &Facts<'_, '_, '_>) -> Option<Answer> {
    let TlsRedirect::On { status, keep_trailing_slash, with_port } = facts.rule.policy.tls_redirect else { return None };
    if facts.is_https() || facts.settings.no_tls_redirect.iter().any(|exempt| facts.head.path.starts_with(exempt.as_bytes())) {
        return None;
    }
    let mut location = b"https://".to_vec();
    location.extend_from_slice(host_of(facts.best_authority()));
    // On demand only: behind a balancer or a port mapping, clients know another port than the one we listen on.
    if with_port {
        location.push(b':');
        location.extend_from_slice(facts.https_port.to_string().as_bytes());
    }
    let mut target = origin_form(facts.head.target);
    // The slash at the end of the whole target, query included, is what ingress-nginx strips; also the only one, which any client
    // puts back.
    if !keep_trailing_slash {
        target = target.strip_suffix(b"/").unwrap_or(target);
    }
    location.extend_from_slice(target);
    Some(Answer::redirect(status, "tls_redirect", location))
}

/// An authority without its port.
fn host_of(authority: &[u8]) -> &[u8] {
    let end = if authority.starts_with(b"[") {
        authority.iter().position(|byte| *byte == b']').map(|at| at + 1)
    } else {
        authority.iter().position(|byte| *byte == b':')
    };
    &authority[..end.unwrap_or(authority.len())]
}

/// The path and query of a target as received, whichever form it has.
fn origin_form(target: &[u8]) -> &[u8] {
    if target.starts_with(b"/") {
        return target;
    }
    let after_scheme = target.windows(3).position(|part| part == b"://").map_or(target, |at| &target[at + 3..]);
    after_scheme.iter().position(|byte| *byte == b'/').map_or(b"/", |at| &after_scheme[at..])
}

fn absolute(facts: &Facts<'_, '_, '_>, path: &[u8]) -> Vec<u8> {
    let mut location = if facts.is_https() { b"https://".to_vec() } else { b"http://".to_vec() };
    location.extend_from_slice(facts.head.authority);
    location.extend_from_slice(path);
    location
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::rule;
    use crate::filter::tests::with_facts;
    use crate::snapshot::rule::Host;
    use crate::snapshot::rule::Policy;
    use crate::snapshot::rule::Redirect;

    fn location(answer: Option<Answer>) -> Option<(u16, String)> {
        let answer = answer?;
        Some((answer.status, String::from_utf8(answer.fields[0].1.clone()).expect("text")))
    }

    /// http goes to https with 308, its port dropped and its trailing slash stripped; what is exempt stays.
    #[test]
    fn http_goes_to_https() {
        for (target, keep, want) in [
            ("/a?b=c", false, Some("https://h/a?b=c")),
            ("/", false, Some("https://h")),
            ("/", true, Some("https://h/")),
            ("/a/", false, Some("https://h/a")),
            ("/a/", true, Some("https://h/a/")),
            ("/a?b=c/", false, Some("https://h/a?b=c")),
            ("http://h:8080/a", false, Some("https://h/a")),
            ("/.well-known/acme-challenge/token", false, None),
        ] {
            let policy =
                Policy { tls_redirect: TlsRedirect::On { status: 308, keep_trailing_slash: keep, with_port: false }, ..Policy::default() };
            let wire = format!("GET {target} HTTP/1.1\r\nHost: h:8080\r\n\r\n");
            let got = with_facts(&wire, &rule(policy), |_| {}, |facts| location(to_tls(facts)));
            assert_eq!(got, want.map(|want| (308, want.to_owned())), "{target}");
        }
    }

    /// The host of the redirect is the one the client asked for, as a trusted balancer says it; its port is printed on demand.
    #[test]
    fn the_redirect_names_the_host_the_client_knows() {
        for (host, forwarded, trusted, with_port, want) in [
            ("h:8080", "", false, false, "https://h/a"),
            ("h:8080", "", false, true, "https://h:8443/a"),
            ("h", "X-Forwarded-Host: public\r\n", false, false, "https://h/a"),
            ("h", "X-Forwarded-Host: public:444, inner\r\n", true, false, "https://public/a"),
            ("[::1]:8080", "", false, false, "https://[::1]/a"),
        ] {
            let policy =
                Policy { tls_redirect: TlsRedirect::On { status: 308, keep_trailing_slash: false, with_port }, ..Policy::default() };
            let wire = format!("GET /a HTTP/1.1\r\nHost: {host}\r\n{forwarded}\r\n");
            let adjust = |facts: &mut Facts<'_, '_, '_>| {
                facts.peer_trusted = trusted;
                facts.https_port = 8443;
            };
            let got = with_facts(&wire, &rule(policy), adjust, |facts| location(to_tls(facts)));
            assert_eq!(got, Some((308, want.to_owned())), "{host} {forwarded:?} {trusted} {with_port}");
        }
    }

    /// Who came over https stays, and so does who a trusted balancer says did; nobody else is believed.
    #[test]
    fn https_is_not_redirected() {
        let policy =
            Policy { tls_redirect: TlsRedirect::On { status: 308, keep_trailing_slash: false, with_port: false }, ..Policy::default() };
        let wire = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: https\r\n\r\n";
        let rule = rule(policy);
        assert!(with_facts(wire, &rule, |facts| facts.tls = true, |facts| to_tls(facts).is_none()));
        assert!(with_facts(wire, &rule, |facts| facts.came_over_https = true, |facts| to_tls(facts).is_none()));
        assert!(with_facts(wire, &rule, |facts| facts.peer_trusted = true, |facts| to_tls(facts).is_none()));
        assert!(with_facts(wire, &rule, |_| {}, |facts| to_tls(facts).is_some()));
    }

    /// A redirect of a whole path is sent verbatim; app-root acts on the root alone.
    #[test]
    fn redirects_are_sent_verbatim() {
        let policy = Policy { redirect: Some(Redirect { status: 301, location: "https://x/y".into() }), ..Policy::default() };
        let wire = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(with_facts(wire, &rule(policy), |_| {}, |facts| location(early(facts))), Some((301, "https://x/y".to_owned())));
        let host = Host { name: "h".into(), tls: false, app_root: Some("/app".into()), default_rule: None };
        let plain = rule(Policy::default());
        for (target, want) in [("/", Some((302, "http://h/app".to_owned()))), ("/a", None)] {
            let wire = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            let got = with_facts(
                &wire,
                &plain,
                |_| {},
                |facts| {
                    let facts = Facts { host: &host, ..*facts };
                    location(early(&facts))
                },
            );
            assert_eq!(got, want, "{target}");
        }
    }
}
