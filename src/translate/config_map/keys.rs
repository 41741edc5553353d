//! Every key of ingress-nginx's ConfigMap and what Corelane does with it.

use ipnet::IpNet;

use crate::snapshot::finding::Severity;
use crate::snapshot::rule::FixedAnswer;
use crate::snapshot::settings::Hsts;
use crate::translate::config_map::globals::Globals;
use crate::translate::value;
use crate::translate::value::Risk;

/// One key.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// What a value is, in words that follow "is not"; the default where the key has no effect yet.
    pub(crate) wants: &'static str,
    pub(crate) effect: Effect,
}

/// What a key does.
pub(crate) enum Effect {
    /// Sets something; `None` where the value is not what it should be.
    Set(fn(&mut Globals, &str) -> Option<()>),
    /// A list that restricts: its good items hold even where others are bad, and with none left it must not mean "everybody".
    Restrict(fn(&mut Globals, Vec<IpNet>)),
    /// Asks for a restriction of every Ingress that cannot be honoured yet: they are refused unless they opt out.
    Deny,
    /// Corelane has no such knob, or does the thing always: nothing to say.
    Nothing,
    /// Not supported; a finding unless the value is the default.
    NotYet(Severity),
}

const BOOL: &str = "true or false";
const SECONDS: &str = "a number of seconds from 1 on";
const TIME: &str = "a time such as 60, 60s or 10m";
const COUNT: &str = "a whole number from 1 on";
const STATUS: &str = "a status from 400 to 599";
const RANGES: &str = "a comma list of addresses and ranges";
const PATHS: &str = "a comma list of paths";

const fn set(name: &'static str, wants: &'static str, set: fn(&mut Globals, &str) -> Option<()>) -> Key {
    Key { name, wants, effect: Effect::Set(set) }
}

const fn restrict(name: &'static str, add: fn(&mut Globals, Vec<IpNet>)) -> Key {
    Key { name, wants: RANGES, effect: Effect::Restrict(add) }
}

const fn no_effect(name: &'static str) -> Key {
    Key { name, wants: "", effect: Effect::Nothing }
}

const fn not_yet(name: &'static str, default: &'static str) -> Key {
    Key { name, wants: default, effect: Effect::NotYet(Severity::Warning) }
}

/// What is missing is a restriction, or something that clients or operators rely on.
const fn missing(name: &'static str, default: &'static str) -> Key {
    Key { name, wants: default, effect: Effect::NotYet(Severity::Error) }
}

/// Every key of ingress-nginx's ConfigMap, in the order of annotations.md section 6, then those that it leaves out.
pub(crate) const KEYS: &[Key] = &[
    set("use-forwarded-headers", BOOL, |to, text| put(&mut to.settings.use_forwarded_headers, value::boolean(text))),
    set("compute-full-forwarded-for", BOOL, |to, text| put(&mut to.settings.append_forwarded_for, value::boolean(text))),
    set("use-proxy-protocol", BOOL, |to, text| put(&mut to.settings.proxy_protocol, value::boolean(text))),
    restrict("proxy-real-ip-cidr", |to, ranges| to.settings.trusted = or_nobody(ranges)),
    set("proxy-protocol-header-timeout", TIME, |to, text| put(&mut to.settings.proxy_protocol_timeout, value::duration(text))),
    // Keys are read in order, so that the companions of `hsts` find it switched off already.
    set("hsts", BOOL, |to, text| hsts(to, value::boolean(text), |hsts, on| *hsts = hsts.take().filter(|_| on))),
    set("hsts-max-age", "a number of seconds", |to, text| {
        hsts(to, text.parse().ok(), |hsts, seconds| hsts.iter_mut().for_each(|hsts| hsts.max_age_s = seconds))
    }),
    set("hsts-include-subdomains", BOOL, |to, text| {
        hsts(to, value::boolean(text), |hsts, include| hsts.iter_mut().for_each(|hsts| hsts.include_subdomains = include))
    }),
    set("hsts-preload", BOOL, |to, text| {
        hsts(to, value::boolean(text), |hsts, preload| hsts.iter_mut().for_each(|hsts| hsts.preload = preload))
    }),
    set("ssl-protocols", "TLSv1.2 TLSv1.3, or TLSv1.3 alone", |to, text| {
        let tls12 = match text {
            "TLSv1.2 TLSv1.3" | "TLSv1.3 TLSv1.2" => Some(true),
            "TLSv1.3" => Some(false),
            _ => None,
        };
        put(&mut to.settings.tls12, tls12)
    }),
    set("keep-alive", TIME, |to, text| put(&mut to.settings.keep_alive, value::duration(text))),
    set("keep-alive-requests", COUNT, |to, text| put(&mut to.settings.keep_alive_requests, value::count(text).filter(|count| *count > 0))),
    set("upstream-keepalive-connections", "a whole number", |to, text| put(&mut to.settings.upstream_idle_max, value::count(text))),
    set("upstream-keepalive-time", TIME, |to, text| put(&mut to.settings.upstream_keepalive_time, value::duration(text))),
    set("upstream-keepalive-timeout", TIME, |to, text| put(&mut to.settings.upstream_keepalive_timeout, value::duration(text))),
    set("upstream-keepalive-requests", COUNT, |to, text| {
        put(&mut to.settings.upstream_keepalive_requests, value::count(text).filter(|count| *count > 0))
    }),
    set("client-header-timeout", TIME, |to, text| put(&mut to.settings.head_timeout, value::duration(text))),
    set("client-body-timeout", TIME, |to, text| put(&mut to.settings.body_timeout, value::duration(text))),
    set("limit-req-status-code", STATUS, |to, text| put(&mut to.limit_req_status, status(text, 400..=599))),
    set("limit-conn-status-code", STATUS, |to, text| put(&mut to.limit_conn_status, status(text, 400..=599))),
    not_yet("limit-conn-zone-variable", "$binary_remote_addr"),
    set("http-redirect-code", "301, 302, 307 or 308", |to, text| {
        put(&mut to.redirect_status, status(text, 301..=308).filter(|code| matches!(code, 301 | 302 | 307 | 308)))
    }),
    set("ssl-redirect", BOOL, |to, text| put(&mut to.ssl_redirect, value::boolean(text))),
    set("force-ssl-redirect", BOOL, |to, text| put(&mut to.force_ssl_redirect, value::boolean(text))),
    set("use-port-in-redirects", BOOL, |to, text| put(&mut to.use_port_in_redirects, value::boolean(text))),
    set("preserve-trailing-slash", BOOL, |to, text| put(&mut to.preserve_trailing_slash, value::boolean(text))),
    set("no-tls-redirect-locations", PATHS, |to, text| put(&mut to.settings.no_tls_redirect, paths(text))),
    set("no-auth-locations", PATHS, |to, text| put(&mut to.settings.no_auth, paths(text))),
    // Read after `proxy-next-upstream`, which may have said it too.
    set("retry-non-idempotent", BOOL, |to, text| {
        let said = to.policy.retry.non_idempotent;
        put(&mut to.policy.retry.non_idempotent, value::boolean(text).map(|repeat| repeat || said))
    }),
    set("generate-request-id", BOOL, |to, text| put(&mut to.settings.generate_request_id, value::boolean(text))),
    restrict("block-cidrs", |to, ranges| to.settings.block = ranges),
    missing("block-user-agents", ""),
    missing("block-referers", ""),
    set("hide-headers", "a comma list of field names", |to, text| put(&mut to.settings.hide_fields, field_names(text))),
    set("global-allowed-response-headers", "a comma list of field names", |to, text| {
        put(&mut to.allowed_response_headers, field_names(text))
    }),
    set("strict-validate-path-type", BOOL, |to, text| put(&mut to.strict_validate_path_type, value::boolean(text))),
    set("annotations-risk-level", "Low, Medium, High or Critical", |to, text| put(&mut to.risk_max, Risk::parse(text))),
    set("allow-cross-namespace-resources", BOOL, |to, text| put(&mut to.allow_cross_namespace, value::boolean(text))),
    missing("allow-snippet-annotations", "false"),
    // Defaults of annotations.
    set("proxy-body-size", "a size such as 8m", |to, text| {
        put(&mut to.policy.body_bytes_max, value::size(text).map(|bytes| (bytes > 0).then_some(bytes)))
    }),
    set("proxy-connect-timeout", SECONDS, |to, text| put(&mut to.policy.timeouts.connect, value::seconds(text))),
    set("proxy-read-timeout", SECONDS, |to, text| put(&mut to.policy.timeouts.read, value::seconds(text))),
    set("proxy-send-timeout", SECONDS, |to, text| put(&mut to.policy.timeouts.send, value::seconds(text))),
    set("proxy-next-upstream", "conditions as proxy_next_upstream has them", |to, text| {
        let retry = value::retry_conditions(text, to.policy.retry);
        put(&mut to.policy.retry, retry)
    }),
    set("proxy-next-upstream-tries", "a whole number", |to, text| put(&mut to.policy.retry.tries, value::tries(text))),
    set("proxy-next-upstream-timeout", "a number of seconds", |to, text| put(&mut to.policy.retry.timeout, value::seconds_or_zero(text))),
    set("load-balance", "round_robin or ewma", |to, text| put(&mut to.balance, value::balance(text))),
    set("service-upstream", BOOL, |to, text| put(&mut to.service_upstream, value::boolean(text))),
    restrict("whitelist-source-range", |to, ranges| {
        if ranges.is_empty() {
            to.policy.denied = Some(FixedAnswer { status: 503, reason: "denied_by_config" });
        }
        to.policy.allow = ranges.into();
    }),
    restrict("denylist-source-range", |to, ranges| to.policy.deny = ranges.into()),
    set("disable-access-log", BOOL, |to, text| put(&mut to.policy.access_log, value::boolean(text).map(|off| !off))),
    set("disable-http-access-log", BOOL, |to, text| {
        let on = to.policy.access_log;
        put(&mut to.policy.access_log, value::boolean(text).map(|off| on && !off))
    }),
    // Restrictions and answers that Corelane does not give yet.
    Key { name: "global-auth-url", wants: "", effect: Effect::Deny },
    no_effect("global-auth-method"),
    no_effect("global-auth-signin"),
    no_effect("global-auth-signin-redirect-param"),
    no_effect("global-auth-response-headers"),
    no_effect("global-auth-request-redirect"),
    no_effect("global-auth-cache-key"),
    no_effect("global-auth-cache-duration"),
    no_effect("global-auth-always-set-cookie"),
    missing("global-auth-snippet", ""),
    missing("http-snippet", ""),
    missing("main-snippet", ""),
    missing("server-snippet", ""),
    missing("location-snippet", ""),
    missing("stream-snippet", ""),
    missing("enable-modsecurity", "false"),
    missing("enable-owasp-modsecurity-crs", "false"),
    missing("modsecurity-snippet", ""),
    missing("ssl-reject-handshake", "false"),
    not_yet("custom-http-errors", ""),
    not_yet("proxy-set-headers", ""),
    not_yet("add-headers", ""),
    not_yet("skip-access-log-urls", ""),
    not_yet("log-format-upstream", ""),
    not_yet("log-format-escape-json", "false"),
    not_yet("use-gzip", "false"),
    not_yet("enable-brotli", "false"),
    not_yet("app-root", ""),
    not_yet("relative-redirects", "false"),
    not_yet("upstream-hash-by", ""),
    not_yet("proxy-http-version", "1.1"),
    not_yet("proxy-redirect-from", "off"),
    not_yet("proxy-redirect-to", "off"),
    not_yet("proxy-cookie-domain", "off"),
    not_yet("proxy-cookie-path", "off"),
    not_yet("limit-rate", "0"),
    not_yet("limit-rate-after", "0"),
    not_yet("enable-opentelemetry", "false"),
    not_yet("enable-underscores-in-headers", "false"),
    not_yet("forwarded-for-header", "X-Forwarded-For"),
    not_yet("ssl-ciphers", ""),
    not_yet("ssl-early-data", "false"),
    not_yet("ssl-session-ticket-key", ""),
    // Knobs of nginx that Corelane has no counterpart for: it sizes itself, streams, and keeps no tickets on disk.
    no_effect("use-http2"),
    no_effect("http2-max-concurrent-streams"),
    no_effect("ssl-session-tickets"),
    no_effect("ssl-session-cache"),
    no_effect("ssl-session-cache-size"),
    no_effect("ssl-session-timeout"),
    no_effect("ssl-buffer-size"),
    no_effect("ssl-dh-param"),
    no_effect("ssl-ecdh-curve"),
    no_effect("large-client-header-buffers"),
    no_effect("client-header-buffer-size"),
    no_effect("client-body-buffer-size"),
    no_effect("proxy-buffering"),
    no_effect("proxy-buffer-size"),
    no_effect("proxy-buffers-number"),
    no_effect("proxy-busy-buffers-size"),
    no_effect("proxy-max-temp-file-size"),
    no_effect("proxy-request-buffering"),
    no_effect("worker-shutdown-timeout"),
    no_effect("worker-processes"),
    no_effect("worker-cpu-affinity"),
    no_effect("max-worker-connections"),
    no_effect("max-worker-open-files"),
    no_effect("enable-multi-accept"),
    no_effect("reuse-port"),
    no_effect("server-tokens"),
    no_effect("error-log-level"),
    no_effect("error-log-path"),
    no_effect("access-log-path"),
    no_effect("http-access-log-path"),
    no_effect("server-name-hash-bucket-size"),
    no_effect("server-name-hash-max-size"),
    no_effect("proxy-headers-hash-bucket-size"),
    no_effect("proxy-headers-hash-max-size"),
    no_effect("variables-hash-bucket-size"),
    no_effect("variables-hash-max-size"),
    no_effect("map-hash-bucket-size"),
    no_effect("lua-shared-dicts"),
    no_effect("annotation-value-word-blocklist"),
    no_effect("ignore-invalid-headers"),
];

/// Sets something to a value, if it is one.
fn put<T>(slot: &mut T, value: Option<T>) -> Option<()> {
    *slot = value?;
    Some(())
}

/// Changes HSTS by a value, if it is one.
fn hsts<T>(to: &mut Globals, value: Option<T>, set: impl FnOnce(&mut Option<Hsts>, T)) -> Option<()> {
    set(&mut to.settings.hsts, value?);
    Some(())
}

/// An empty list of trusted peers means everybody, so that a list without one good item must name somebody who cannot exist.
fn or_nobody(mut ranges: Vec<IpNet>) -> Vec<IpNet> {
    if ranges.is_empty() {
        ranges.push(IpNet::from(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)));
    }
    ranges
}

fn status(text: &str, within: std::ops::RangeInclusive<u16>) -> Option<u16> {
    text.parse().ok().filter(|status| within.contains(status))
}

fn paths(text: &str) -> Option<Vec<String>> {
    let paths: Vec<String> = value::list(text).map(str::to_owned).collect();
    paths.iter().all(|path| path.starts_with('/')).then_some(paths)
}

fn field_names(text: &str) -> Option<Vec<String>> {
    let names: Vec<String> = value::list(text).map(str::to_ascii_lowercase).collect();
    names.iter().all(|name| value::is_field_name(name)).then_some(names)
}
