//! Global settings out of a ConfigMap with ingress-nginx's keys.

mod globals;
pub(crate) mod keys;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::snapshot::finding::Severity;
use crate::snapshot::rule::FixedAnswer;
use crate::translate::about::quoted;
use crate::translate::config_map::keys::Effect;
use crate::translate::config_map::keys::KEYS;
use crate::translate::config_map::keys::Key;
use crate::translate::value;

pub use globals::Globals;

/// Reads the keys; a bad value keeps its default and is a finding.
pub fn read(key: Option<&ObjectKey>, config_map: Option<&ConfigMap>, findings: &mut Vec<Finding>) -> Globals {
    let mut globals = Globals::default();
    let (Some(key), Some(data)) = (key, config_map.and_then(|map| map.data.as_ref())) else { return globals };
    let mut say = |name: &str, (severity, reason, message, cure): Said| {
        let field = format!("data[{name}]");
        findings.push(Finding { severity, kind: "ConfigMap", object: key.clone(), field, reason, message, cure });
    };
    for (name, text) in data {
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        match KEYS.iter().find(|known| known.name == name) {
            None => say(name, unknown(name)),
            Some(Key { effect: Effect::Set(set), wants, .. }) if set(&mut globals, text).is_none() => say(name, bad(text, wants)),
            Some(Key { effect: Effect::Restrict(add), wants, .. }) => {
                let (good, bad_items) = ranges(text);
                add(&mut globals, good);
                if !bad_items.is_empty() {
                    say(name, bad_restriction(&bad_items, wants));
                }
            }
            Some(Key { effect: Effect::Deny, .. }) => {
                globals.global_auth = Some(FixedAnswer { status: 503, reason: "denied_by_config" });
                say(name, refuses_all());
            }
            Some(Key { effect: Effect::NotYet(severity), wants, .. }) if text != *wants => say(name, unsupported(*severity, wants)),
            Some(_) => {}
        }
    }
    globals
}

/// Severity, reason, message, cure.
type Said = (Severity, &'static str, String, String);

fn unknown(name: &str) -> Said {
    let message = format!("{} is no key that Corelane or ingress-nginx knows", quoted(name));
    (Severity::Warning, "UnknownKey", message, "Remove it, or mend its spelling.".to_owned())
}

fn bad(text: &str, wants: &str) -> Said {
    let message = format!("{} is not {wants}; the default holds", quoted(text));
    (Severity::Error, "InvalidValue", message, format!("Write {wants}."))
}

fn bad_restriction(bad_items: &[&str], wants: &str) -> Said {
    let message = format!("{} is no address; the other items hold", quoted(&bad_items.join(", ")));
    (Severity::Error, "InvalidValue", message, format!("Write {wants}."))
}

fn unsupported(severity: Severity, default: &str) -> Said {
    let default = if default.is_empty() { "its default".to_owned() } else { format!("its default, {default},") };
    let message = format!("the key is not supported; {default} holds");
    (severity, "UnsupportedKey", message, "Remove it once nothing depends on it.".to_owned())
}

fn refuses_all() -> Said {
    let message = "external authentication is not supported yet: every Ingress without enable-global-auth: \"false\" is refused with 503";
    (Severity::Error, "UnsupportedKey", message.to_owned(), "Authenticate with auth-type: basic, or in the application.".to_owned())
}

/// The good and the bad items of a list.
fn ranges(text: &str) -> (Vec<IpNet>, Vec<&str>) {
    let mut bad_items = Vec::new();
    let good = value::list(text).filter_map(|item| value::range(item).or_else(|| (bad_items.push(item), None).1)).collect();
    (good, bad_items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::rule::Policy;
    use crate::snapshot::settings::Settings;
    use std::time::Duration;

    fn read_data(data: &[(&str, &str)]) -> (Globals, Vec<Finding>) {
        let data = data.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let config_map = ConfigMap { data: Some(data), ..ConfigMap::default() };
        let key = ObjectKey { namespace: "corelane".to_owned(), name: "config".to_owned() };
        let mut findings = Vec::new();
        (read(Some(&key), Some(&config_map), &mut findings), findings)
    }

    /// Without a ConfigMap, and with an empty one, the defaults hold and nothing is said.
    #[test]
    fn nothing_written_is_the_default() {
        let mut findings = Vec::new();
        for globals in [read(None, None, &mut findings), read_data(&[]).0, read_data(&[("hsts", ""), ("keep-alive", " ")]).0] {
            assert_eq!((globals.settings, globals.policy), (Settings::default(), Policy::default()));
            assert!(globals.ssl_redirect && globals.strict_validate_path_type && !globals.allow_cross_namespace);
            assert_eq!((globals.redirect_status, globals.limit_req_status, globals.limit_conn_status), (308, 503, 503));
        }
        assert_eq!(findings, []);
    }

    /// Every key that is honoured lands in its field.
    #[test]
    fn keys_land_in_their_fields() {
        let (globals, findings) = read_data(&[
            ("use-forwarded-headers", "true"),
            ("compute-full-forwarded-for", "true"),
            ("use-proxy-protocol", "true"),
            ("proxy-real-ip-cidr", "10.0.0.0/8, 192.0.2.1"),
            ("proxy-protocol-header-timeout", "2s"),
            ("hsts-max-age", "60"),
            ("hsts-preload", "true"),
            ("hsts-include-subdomains", "false"),
            ("ssl-protocols", "TLSv1.3"),
            ("keep-alive", "30"),
            ("upstream-keepalive-time", "1h"),
            ("http-redirect-code", "301"),
            ("limit-req-status-code", "429"),
            ("no-auth-locations", "/a,/b"),
            ("hide-headers", "X-Powered-By, Server"),
            ("proxy-body-size", "0"),
            ("proxy-read-timeout", "5"),
            ("retry-non-idempotent", "true"),
            ("proxy-next-upstream", "error http_502"),
            ("whitelist-source-range", "10.0.0.0/8"),
        ]);
        assert_eq!(findings, []);
        let settings = &globals.settings;
        assert!(settings.use_forwarded_headers && settings.append_forwarded_for && settings.proxy_protocol && !settings.tls12);
        assert_eq!(settings.trusted.len(), 2);
        let hsts = settings.hsts.as_ref().expect("hsts stays on");
        assert!(hsts.max_age_s == 60 && hsts.preload && !hsts.include_subdomains);
        assert_eq!((settings.keep_alive, settings.proxy_protocol_timeout), (Duration::from_secs(30), Duration::from_secs(2)));
        assert_eq!((globals.redirect_status, globals.limit_req_status, globals.limit_conn_status), (301, 429, 503));
        assert_eq!(
            (settings.no_auth.as_slice(), settings.hide_fields.as_slice()),
            (&["/a".to_owned(), "/b".to_owned()][..], &["x-powered-by".to_owned(), "server".to_owned()][..])
        );
        let policy = &globals.policy;
        assert_eq!((policy.body_bytes_max, policy.timeouts.read, policy.allow.len()), (None, Duration::from_secs(5), 1));
        assert!(policy.retry.non_idempotent && policy.retry.on_error && !policy.retry.on_timeout && policy.retry.on_status != 0);
    }

    /// HSTS that is switched off stays off, whatever its companions say.
    #[test]
    fn hsts_switched_off_stays_off() {
        assert_eq!(read_data(&[("hsts-max-age", "60"), ("hsts", "false"), ("hsts-preload", "true")]).0.settings.hsts, None);
    }

    /// A bad value keeps the default, an unknown key changes nothing, and both are said with key and cure.
    #[test]
    fn bad_values_keep_the_default_and_are_said() {
        for (name, text, reason) in [
            ("use-forwarded-headers", "yes", "InvalidValue"),
            ("keep-alive", "-1", "InvalidValue"),
            ("http-redirect-code", "200", "InvalidValue"),
            ("hide-headers", "a b", "InvalidValue"),
            ("proxy-next-upstream", "whenever", "InvalidValue"),
            ("ssl-protocols", "TLSv1.1 TLSv1.2", "InvalidValue"),
            ("use-gzip", "true", "UnsupportedKey"),
            ("use-gziip", "true", "UnknownKey"),
        ] {
            let (globals, findings) = read_data(&[(name, text)]);
            assert_eq!(
                (globals.settings, globals.policy, globals.redirect_status),
                (Settings::default(), Policy::default(), 308),
                "{name}"
            );
            let said: Vec<_> = findings.iter().map(|finding| (finding.reason, finding.field.as_str())).collect();
            assert_eq!(said, [(reason, format!("data[{name}]").as_str())]);
            assert!(!findings[0].cure.is_empty(), "{name}");
        }
    }

    /// A list that restricts never comes to mean everybody because of a typing mistake.
    #[test]
    fn a_broken_restriction_stays_a_restriction() {
        let (globals, findings) = read_data(&[
            ("whitelist-source-range", "10.0.0.O/8"),
            ("proxy-real-ip-cidr", "10.0.0.O/8"),
            ("block-cidrs", "10.0.0.O/8,192.0.2.0/24"),
            ("global-auth-url", "http://auth/"),
        ]);
        assert_eq!(globals.policy.denied.map(|answer| answer.status), Some(503));
        assert!(!globals.settings.trusted.is_empty());
        assert_eq!(globals.settings.block.len(), 1);
        assert!(globals.global_auth.is_some());
        assert!(findings.len() == 4 && findings.iter().all(|finding| finding.severity == Severity::Error), "{findings:?}");
    }

    /// No key stands in the table twice.
    #[test]
    fn keys_are_listed_once() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
