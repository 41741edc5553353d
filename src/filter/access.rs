//! Who may pass: address lists and basic authentication, and how `satisfy` joins them.

use crate::filter::answer::Answer;
use crate::filter::auth;
use crate::filter::auth::Login;
use crate::filter::auth::PasswordCheck;
use crate::filter::facts::Facts;
use crate::filter::state::FilterState;
use crate::snapshot::rule;

/// What the access rules say.
#[derive(Debug)]
pub enum Access {
    Granted {
        /// By credentials, which the upstream does not get.
        authenticated: bool,
    },
    Refused(Answer),
    Verify(PasswordCheck),
}

/// Checks address lists, then credentials; with `satisfy: any` one of them is enough.
pub fn check(facts: &Facts<'_, '_, '_>, state: &mut FilterState) -> Access {
    let policy = &facts.rule.policy;
    let listed = !policy.allow.is_empty() || !policy.deny.is_empty();
    let address = facts.client_address();
    // Deny lines stand before allow lines: deny wins.
    let welcome = !rule::contains(&policy.deny, address) && (policy.allow.is_empty() || rule::contains(&policy.allow, address));
    let exempt = facts.settings.no_auth.iter().any(|path| facts.head.path.starts_with(path.as_bytes()));
    let Some(login) = policy.basic_auth.as_ref().filter(|_| !exempt) else {
        return if welcome { Access::Granted { authenticated: false } } else { Access::Refused(forbidden()) };
    };
    if listed && policy.satisfy_any && welcome {
        return Access::Granted { authenticated: false };
    }
    if !welcome && !policy.satisfy_any {
        return Access::Refused(forbidden());
    }
    match auth::check(login, facts.head, &state.passwords, facts.now_ms()) {
        Login::Accepted => Access::Granted { authenticated: true },
        Login::Refused => Access::Refused(auth::challenge(login)),
        Login::Verify(check) => Access::Verify(check),
    }
}

fn forbidden() -> Answer {
    Answer::plain(403, "address_not_allowed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::rule;
    use crate::filter::tests::with_facts;
    use crate::snapshot::rule::BasicAuth;
    use crate::snapshot::rule::Policy;
    use ipnet::IpNet;
    use std::sync::Arc;

    const WITH_PASSWORD: &str = "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Basic dTpw\r\n\r\n";
    const WITHOUT: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

    fn status(wire: &str, allow: &[&str], deny: &[&str], login: bool, any: bool) -> u16 {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse::<IpNet>().expect("a range")).collect::<Arc<[IpNet]>>();
        let users = [("u".to_owned(), "{PLAIN}p".to_owned())].into();
        let basic_auth = login.then(|| Arc::new(BasicAuth { realm: "r".to_owned(), users }));
        let policy = Policy { allow: nets(allow), deny: nets(deny), basic_auth, satisfy_any: any, ..Policy::default() };
        let rule = rule(policy);
        with_facts(
            wire,
            &rule,
            |_| {},
            |facts| match check(facts, &mut FilterState::default()) {
                Access::Granted { .. } => 200,
                Access::Refused(answer) => answer.status,
                Access::Verify(_) => panic!("no slow hash here"),
            },
        )
    }

    /// Lists and passwords join as nginx's `satisfy` does; the client is 192.0.2.7.
    #[test]
    fn lists_and_passwords_join_as_satisfy_says() {
        let (own, other) = ("192.0.2.0/24", "198.51.100.0/24");
        for (wire, allow, deny, login, any, want) in [
            (WITHOUT, vec![own], vec![], false, false, 200),
            (WITHOUT, vec![other], vec![], false, false, 403),
            (WITHOUT, vec![], vec![own], false, false, 403),
            (WITHOUT, vec![], vec![other], false, false, 200),
            (WITHOUT, vec![own], vec![own], false, false, 403),
            (WITHOUT, vec![own], vec![], true, false, 401),
            (WITH_PASSWORD, vec![own], vec![], true, false, 200),
            (WITH_PASSWORD, vec![other], vec![], true, false, 403),
            (WITHOUT, vec![own], vec![], true, true, 200),
            (WITHOUT, vec![other], vec![], true, true, 401),
            (WITH_PASSWORD, vec![other], vec![], true, true, 200),
            (WITHOUT, vec![], vec![], true, false, 401),
            (WITHOUT, vec![], vec![], true, true, 401),
        ] {
            assert_eq!(status(wire, &allow, &deny, login, any), want, "{allow:?} {deny:?} login={login} any={any} {wire:?}");
        }
    }
}
