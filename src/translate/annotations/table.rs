//! All annotations of ingress-nginx: the one table that reading, findings and docs/annotations.md follow.

use crate::translate::annotations::kind::Kind;
use crate::translate::value::Risk;
use crate::translate::value::Risk::Critical;
use crate::translate::value::Risk::High;
use crate::translate::value::Risk::Low;
use crate::translate::value::Risk::Medium;

use Invalid::Denied;
use Invalid::Fallback;
use Invalid::Unservable;
use Support::Companion;
use Support::Honoured;
use Support::NoEffect;
use Support::NotYet;
use Support::Restriction;
use Support::Snippet;

/// One annotation.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Without the prefix.
    pub name: &'static str,
    pub tier: Tier,
    pub risk: Risk,
    pub kind: Kind,
    pub invalid: Invalid,
    pub support: Support,
    /// For people, in docs and cures.
    pub note: &'static str,
}

/// How much a migration depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    MustHave,
    Common,
    Rare,
    Unsafe,
}

/// What an invalid value does (annotations.md section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The default holds.
    Fallback,
    /// The whole Ingress is not served.
    Unservable,
    /// Every request is refused with 503.
    Denied,
}

/// What Corelane makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    Honoured,
    /// Part of another annotation, which speaks for it.
    Companion(&'static str),
    /// Accepted: Corelane needs no such knob.
    NoEffect,
    /// Served without it, with a finding.
    NotYet,
    /// Restricts access, and cannot be honoured: every request is refused.
    Restriction,
    /// Text of nginx configuration.
    Snippet,
}

impl Entry {
    /// The annotation of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::all().find(|entry| entry.name == name)
    }

    /// All of them, in the order of the table.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        GROUPS.iter().flat_map(|(_, entries)| entries.iter())
    }
}

/// A name that is gone from ingress-nginx or never was one, and what to write instead.
pub fn replacement(name: &str) -> Option<&'static str> {
    if name.starts_with("global-rate-limit") {
        return Some("Use limit-rps or limit-rpm, which count on each host by itself.");
    }
    GONE.iter().find(|(gone, _)| *gone == name).map(|(_, cure)| *cure)
}

/// The known name that is nearest to a misspelt one, if any is near.
pub fn nearest(name: &str) -> Option<&'static str> {
    const DISTANCE_MAX: usize = 3;
    const NAME_BYTES_MAX: usize = 64;
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let (distance, nearest) = Entry::all().map(|entry| (distance(name, entry.name), entry.name)).min()?;
    (distance <= DISTANCE_MAX && distance < name.len()).then_some(nearest)
}

/// How many letters must be added, removed or changed (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to = to.as_bytes();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for column in 0..to.len() {
            let changed = diagonal + usize::from(letter != to[column]);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

const fn must(name: &'static str, risk: Risk, kind: Kind, invalid: Invalid, support: Support, note: &'static str) -> Entry {
    Entry { name, tier: Tier::MustHave, risk, kind, invalid, support, note }
}

const fn common(name: &'static str, risk: Risk, kind: Kind, invalid: Invalid, support: Support, note: &'static str) -> Entry {
    Entry { name, tier: Tier::Common, risk, kind, invalid, support, note }
}

const fn rare(name: &'static str, risk: Risk, kind: Kind, invalid: Invalid, support: Support, note: &'static str) -> Entry {
    Entry { name, tier: Tier::Rare, risk, kind, invalid, support, note }
}

const fn harmful(name: &'static str, note: &'static str) -> Entry {
    Entry { name, tier: Tier::Unsafe, risk: Critical, kind: Kind::Snippet, invalid: Fallback, support: Snippet, note }
}

/// Names of the past (annotations.md section 5).
const GONE: &[(&str, &str)] = &[
    ("secure-backends", "Use backend-protocol: HTTPS."),
    ("grpc-backend", "Use backend-protocol: GRPC."),
    ("session-cookie-hash", "Remove it: the value of the cookie has one form."),
    ("enable-websockets", "Remove it: WebSockets always pass."),
    ("use-forwarded-headers", "Set use-forwarded-headers in the ConfigMap."),
    ("enable-opentracing", "Use enable-opentelemetry."),
    ("opentracing-trust-incoming-span", "Use opentelemetry-trust-incoming-span."),
    ("client-header-buffer-size", "Remove it: the bound for request heads is Corelane's own."),
    ("large-client-header-buffers", "Remove it: the bound for request heads is Corelane's own."),
    ("enable-influxdb", "Scrape /metrics instead."),
    ("lua-resty-waf", "Filter in front of Corelane or in the application."),
];

/// Every annotation, in the groups of the documentation.
#[rustfmt::skip] // A table is read by its rows.
pub const GROUPS: &[(&str, &[Entry])] = &[
    ("Routing, rewriting, redirects", &[
        must("rewrite-target", Medium, Kind::RewriteTarget, Fallback, Honoured,
            "The path becomes this; `$1` to `$9` are captures of the Ingress path. Makes all paths of the host expressions."),
        must("use-regex", Low, Kind::Bool, Fallback, Honoured, "Makes all paths of the host case-insensitive expressions."),
        must("x-forwarded-prefix", Medium, Kind::RewriteTarget, Unservable, Honoured,
            "Sent upstream, together with `rewrite-target` only."),
        must("app-root", Medium, Kind::RewriteTarget, Fallback, Honoured, "302 from `/` of the host to this path."),
        must("server-alias", High, Kind::ServerNames, Unservable, Honoured,
            "Further host names. Wildcards and expressions (`~...`) are not supported yet and are left out."),
        must("ssl-redirect", Low, Kind::Bool, Fallback, Honoured, "http to https where the host has a certificate; on by default."),
        must("force-ssl-redirect", Medium, Kind::Bool, Fallback, Honoured, "http to https even where the host has none."),
        must("preserve-trailing-slash", Medium, Kind::Bool, Fallback, Honoured, "The redirect to https keeps a slash at the end."),
        must("permanent-redirect", Medium, Kind::Url, Unservable, Honoured, "The whole path redirects there, verbatim."),
        must("permanent-redirect-code", Low, Kind::Integer, Unservable, Honoured, "300 to 308, else 301."),
        must("temporal-redirect", Medium, Kind::Url, Unservable, Honoured, "The same; wins over `permanent-redirect`."),
        must("temporal-redirect-code", Low, Kind::Integer, Unservable, Honoured, "300 to 307, else 302."),
        must("from-to-www-redirect", Low, Kind::Bool, Unservable, NotYet, "Redirects between `x` and `www.x`."),
        common("use-port-in-redirects", Low, Kind::Bool, Fallback, Honoured, "The redirect to https names the port that serves it."),
        common("relative-redirects", Low, Kind::Bool, Unservable, NotYet, "Redirects without scheme and host."),
        must("default-backend", Low, Kind::Service, Unservable, Honoured, "Serves where the rule's own Service has no endpoints."),
        must("custom-http-errors", Low, Kind::Statuses, Unservable, NotYet, "Answers of these statuses come from the default backend."),
        common("disable-proxy-intercept-errors", Low, Kind::Bool, Fallback, Companion("custom-http-errors"),
            "Switches `custom-http-errors` off."),
    ]),
    ("Backend choice and protocol", &[
        must("backend-protocol", Low, Kind::WordAnyCase(&["HTTP", "HTTPS", "AUTO_HTTP", "GRPC", "GRPCS", "FCGI"]), Fallback, Honoured,
            "HTTP and HTTPS. GRPC, GRPCS and FCGI are refused with 503 until they are supported, AUTO_HTTP is served as HTTP."),
        must("service-upstream", Low, Kind::Bool, Fallback, Honoured, "The ClusterIP is the only endpoint."),
        must("upstream-vhost", Low, Kind::ServerNames, Unservable, Honoured, "The Host field the upstream sees; without variables."),
        common("proxy-http-version", Low, Kind::Word(&["1.0", "1.1"]), Fallback, NotYet, "Corelane speaks HTTP/1.1 upstream."),
        common("connection-proxy-header", Low, Kind::Word(&["close", "keep-alive"]), Unservable, NotYet,
            "Corelane keeps upstream connections by its own rules."),
        common("ssl-passthrough", Low, Kind::Bool, Unservable, Restriction,
            "TLS that is not ended here cannot be passed on yet; ending it would show content that the Ingress keeps from the edge."),
    ]),
    ("Timeouts and retries", &[
        must("proxy-connect-timeout", Low, Kind::Integer, Fallback, Honoured, "Seconds; default 5."),
        must("proxy-read-timeout", Low, Kind::Integer, Fallback, Honoured,
            "Largest gap between two reads, in seconds; default 60. Ends idle WebSockets too."),
        must("proxy-send-timeout", Low, Kind::Integer, Fallback, Honoured, "Largest gap between two writes, in seconds; default 60."),
        must("proxy-next-upstream", Medium, Kind::Conditions, Fallback, Honoured,
            "When another endpoint is tried; default `error timeout`."),
        must("proxy-next-upstream-tries", Low, Kind::Integer, Fallback, Honoured,
            "All tries, the first included; default 3, 0 is no bound."),
        must("proxy-next-upstream-timeout", Low, Kind::Integer, Fallback, Honoured, "Seconds for all tries; default 0 is no bound."),
    ]),
    ("Bodies and buffers", &[
        must("proxy-body-size", Medium, Kind::Size, Fallback, Honoured, "Largest request body, over it 413; default 1m, 0 is no bound."),
        common("client-body-buffer-size", Low, Kind::Size, Fallback, NoEffect,
            "Corelane streams with bounded buffers and spills nothing to disk."),
        must("proxy-request-buffering", Low, Kind::Word(&["on", "off"]), Fallback, NoEffect, "Corelane streams with bounded buffers."),
        must("proxy-buffering", Low, Kind::Word(&["on", "off"]), Fallback, NoEffect, "Corelane streams with bounded buffers."),
        must("proxy-buffer-size", Low, Kind::Size, Fallback, NoEffect,
            "Heads of upstreams have a bound of their own, larger than nginx's default."),
        common("proxy-buffers-number", Low, Kind::Integer, Fallback, NoEffect, "Corelane streams with bounded buffers."),
        common("proxy-busy-buffers-size", Low, Kind::Size, Fallback, NoEffect, "Corelane streams with bounded buffers."),
        common("proxy-max-temp-file-size", Low, Kind::Size, Fallback, NoEffect, "Corelane spills nothing to disk."),
    ]),
    ("Address lists", &[
        must("allowlist-source-range", Medium, Kind::Ranges, Denied, Honoured, "Others get 403. Replaces the global list."),
        must("whitelist-source-range", Medium, Kind::Ranges, Denied, Honoured,
            "Older name of `allowlist-source-range`, which wins over it."),
        common("denylist-source-range", Medium, Kind::Ranges, Denied, Honoured, "These get 403; wins over the allow list."),
        common("satisfy", Low, Kind::Word(&["any", "all"]), Fallback, Honoured,
            "Whether one of address lists and authentication is enough; default all."),
    ]),
    ("Basic and digest authentication", &[
        must("auth-type", Low, Kind::Word(&["basic", "digest"]), Denied, Honoured, "`basic`. `digest` is refused with 503."),
        must("auth-secret", Medium, Kind::Basic, Denied, Honoured,
            "`name` or `namespace/name`; another namespace only with `allow-cross-namespace-resources`."),
        must("auth-secret-type", Low, Kind::Word(&["auth-file", "auth-map"]), Denied, Honoured,
            "htpasswd text under `auth`, or one key for each user."),
        must("auth-realm", Medium, Kind::BasicAndSpaces, Unservable, Honoured, "Realm of the challenge."),
    ]),
    ("External authentication", &[
        must("auth-url", High, Kind::UrlWithVariables, Denied, Restriction,
            "Every request is refused with 503 until requests to authenticate are supported."),
        must("auth-method", Low, Kind::Word(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"]), Denied, Companion("auth-url"),
            "Method of the request to `auth-url`."),
        must("auth-signin", High, Kind::UrlWithVariables, Fallback, Companion("auth-url"), "Where a 401 is sent."),
        must("auth-signin-redirect-param", Medium, Kind::Url, Fallback, Companion("auth-url"), "Parameter with the original URL."),
        must("auth-response-headers", Medium, Kind::FieldNames, Denied, Companion("auth-url"), "Fields of the answer that go upstream."),
        must("auth-request-redirect", Medium, Kind::Url, Fallback, Companion("auth-url"), "X-Auth-Request-Redirect."),
        must("auth-always-set-cookie", Low, Kind::Bool, Fallback, Companion("auth-url"), "Cookies of the answer for every status."),
        must("auth-proxy-set-headers", Medium, Kind::Basic, Denied, Companion("auth-url"), "ConfigMap with further fields."),
        must("enable-global-auth", Low, Kind::Bool, Fallback, Honoured, "`false` opts out of the global `global-auth-url`."),
        rare("auth-cache-key", Medium, Kind::Variables, Fallback, Companion("auth-url"), "Key of remembered answers."),
        rare("auth-cache-duration", Medium, Kind::Extended, Denied, Companion("auth-url"), "Life of remembered answers."),
        rare("auth-keepalive", Low, Kind::Integer, Fallback, Companion("auth-url"), "Kept connections."),
        rare("auth-keepalive-share-vars", Low, Kind::Bool, Fallback, Companion("auth-url"), "Shared variables."),
        rare("auth-keepalive-requests", Low, Kind::Integer, Fallback, Companion("auth-url"), "Requests on a kept connection."),
        rare("auth-keepalive-timeout", Low, Kind::Integer, Fallback, Companion("auth-url"), "Idle life of a kept connection."),
    ]),
    ("CORS", &[
        must("enable-cors", Low, Kind::Bool, Fallback, Honoured, "Switches the rest on."),
        must("cors-allow-origin", Medium, Kind::Line, Fallback, Honoured,
            "Origins in a comma list; default `*`. Invalid ones are left out."),
        must("cors-allow-methods", Medium, Kind::FieldNames, Fallback, Honoured, "Default `GET, PUT, POST, DELETE, PATCH, OPTIONS`."),
        must("cors-allow-headers", Medium, Kind::FieldNames, Fallback, Honoured, "Default: ingress-nginx's list."),
        must("cors-expose-headers", Medium, Kind::Line, Fallback, Honoured, "Field names, or `*`."),
        must("cors-allow-credentials", Low, Kind::Bool, Fallback, Honoured, "Default true."),
        must("cors-max-age", Low, Kind::Integer, Fallback, Honoured, "Seconds; default 1728000."),
    ]),
    ("Canary", &[
        must("canary", Low, Kind::Bool, Fallback, Honoured,
            "Makes the Ingress the canary of another with the same host and path; its other annotations are then inherited."),
        must("canary-by-header", Medium, Kind::Basic, Fallback, Honoured, "`always`, `never`, or the value below."),
        must("canary-by-header-value", Medium, Kind::Basic, Fallback, Honoured, "Exact value for the canary."),
        must("canary-by-header-pattern", Medium, Kind::Expression, Fallback, Honoured,
            "Expression for the value; a broken one keeps requests with the header at the main."),
        must("canary-by-cookie", Medium, Kind::Basic, Fallback, Honoured, "`always` or `never`."),
        must("canary-weight", Low, Kind::Integer, Fallback, Honoured, "Share of the other requests."),
        must("canary-weight-total", Low, Kind::Integer, Fallback, Honoured, "Its divisor; honoured above 100."),
    ]),
    ("Cookie affinity", &[
        must("affinity", Low, Kind::Word(&["cookie"]), Fallback, NotYet, "Requests are balanced without regard to cookies."),
        must("affinity-mode", Medium, Kind::Word(&["balanced", "persistent"]), Fallback, Companion("affinity"), ""),
        must("affinity-canary-behavior", Low, Kind::Word(&["sticky", "legacy"]), Fallback, Companion("affinity"), ""),
        must("session-cookie-name", Medium, Kind::Basic, Fallback, Companion("affinity"), ""),
        must("session-cookie-path", Medium, Kind::Url, Fallback, Companion("affinity"), ""),
        must("session-cookie-domain", Medium, Kind::Basic, Fallback, Companion("affinity"), ""),
        must("session-cookie-expires", Medium, Kind::Integer, Fallback, Companion("affinity"), ""),
        must("session-cookie-max-age", Medium, Kind::Integer, Fallback, Companion("affinity"), ""),
        must("session-cookie-samesite", Low, Kind::WordAnyCase(&["none", "lax", "strict"]), Fallback, Companion("affinity"), ""),
        must("session-cookie-secure", Low, Kind::Bool, Fallback, Companion("affinity"), ""),
        must("session-cookie-change-on-failure", Low, Kind::Bool, Fallback, Companion("affinity"), ""),
        rare("session-cookie-conditional-samesite-none", Low, Kind::Bool, Fallback, Companion("affinity"), ""),
    ]),
    ("Load balancing", &[
        common("load-balance", Low, Kind::Word(&["round_robin", "ewma"]), Unservable, Honoured,
            "`ewma` is power of two choices over peak-EWMA."),
        common("upstream-hash-by", High, Kind::Line, Unservable, NotYet, "Requests are balanced by `load-balance` instead."),
        common("upstream-hash-by-subset", Low, Kind::Bool, Fallback, Companion("upstream-hash-by"), ""),
        common("upstream-hash-by-subset-size", Low, Kind::Integer, Fallback, Companion("upstream-hash-by"), ""),
    ]),
    ("Rate limits", &[
        must("limit-rps", Low, Kind::Integer, Unservable, Honoured, "Requests a second for each client address."),
        must("limit-rpm", Low, Kind::Integer, Unservable, Honoured, "Requests a minute."),
        must("limit-connections", Low, Kind::Integer, Unservable, Honoured, "Requests in flight."),
        must("limit-burst-multiplier", Low, Kind::Integer, Fallback, Honoured, "Burst is rate times this; default 5."),
        must("limit-allowlist", Low, Kind::Ranges, Fallback, Honoured, "Clients without limits. A broken list exempts nobody."),
        must("limit-whitelist", Low, Kind::Ranges, Fallback, Honoured, "Older name of `limit-allowlist`, which wins over it."),
        rare("limit-rate", Low, Kind::Integer, Fallback, NotYet, "Pacing of answers."),
        rare("limit-rate-after", Low, Kind::Integer, Fallback, Companion("limit-rate"), ""),
    ]),
    ("Client certificates and server TLS", &[
        common("auth-tls-secret", Medium, Kind::Basic, Denied, Restriction,
            "Client certificates cannot be verified yet: the whole host is refused with 403."),
        common("auth-tls-verify-client", Medium, Kind::Word(&["on", "off", "optional", "optional_no_ca"]), Fallback, Companion("auth-tls-secret"),
            ""),
        common("auth-tls-verify-depth", Low, Kind::Integer, Fallback, Companion("auth-tls-secret"), ""),
        common("auth-tls-error-page", High, Kind::Url, Fallback, Companion("auth-tls-secret"), ""),
        common("auth-tls-pass-certificate-to-upstream", Low, Kind::Bool, Fallback, Companion("auth-tls-secret"), ""),
        common("auth-tls-match-cn", High, Kind::CommonName, Fallback, Companion("auth-tls-secret"), ""),
        common("ssl-ciphers", Low, Kind::Ciphers, Fallback, NotYet,
            "Corelane offers its own list: AES-GCM and ChaCha20-Poly1305 with ECDHE."),
        common("ssl-prefer-server-ciphers", Low, Kind::Bool, Fallback, NoEffect, "The server's order always decides."),
    ]),
    ("TLS to the upstream", &[
        common("proxy-ssl-secret", Medium, Kind::Basic, Denied, NotYet,
            "No client certificate is shown to the upstream; with `proxy-ssl-verify: on` every request is refused with 503."),
        common("proxy-ssl-verify", Low, Kind::OnOff, Fallback, Companion("proxy-ssl-secret"),
            "See `proxy-ssl-secret`, without which it has no effect."),
        common("proxy-ssl-verify-depth", Low, Kind::Integer, Fallback, Companion("proxy-ssl-secret"), ""),
        common("proxy-ssl-name", High, Kind::ServerNames, Fallback, Companion("proxy-ssl-secret"), ""),
        common("proxy-ssl-server-name", Low, Kind::OnOff, Fallback, Companion("proxy-ssl-secret"), ""),
        common("proxy-ssl-protocols", Low, Kind::Line, Fallback, Companion("proxy-ssl-secret"), ""),
        common("proxy-ssl-ciphers", Medium, Kind::Ciphers, Fallback, Companion("proxy-ssl-secret"), ""),
    ]),
    ("Headers, cookies, Location", &[
        common("custom-headers", Medium, Kind::Basic, Fallback, Honoured,
            "ConfigMap with response fields, each listed in the global `global-allowed-response-headers`."),
        common("proxy-cookie-domain", Medium, Kind::Line, Fallback, NotYet, "Cookies pass as the upstream sets them."),
        common("proxy-cookie-path", Medium, Kind::Line, Fallback, NotYet, "Cookies pass as the upstream sets them."),
        common("proxy-redirect-from", Medium, Kind::Url, Fallback, NotYet, "Location passes as the upstream sets it."),
        common("proxy-redirect-to", Medium, Kind::Url, Fallback, Companion("proxy-redirect-from"), ""),
    ]),
    ("Mirroring", &[
        common("mirror-target", High, Kind::Line, Fallback, NotYet, "No copy of requests is sent."),
        common("mirror-request-body", Low, Kind::OnOff, Fallback, Companion("mirror-target"), ""),
        common("mirror-host", High, Kind::ServerNames, Fallback, Companion("mirror-target"), ""),
    ]),
    ("Logs and traces", &[
        common("enable-access-log", Low, Kind::Bool, Fallback, Honoured, "Default true."),
        rare("enable-rewrite-log", Low, Kind::Bool, Fallback, NoEffect, "`corelane explain` shows what a rewrite does."),
        common("enable-opentelemetry", Low, Kind::Bool, Fallback, NotYet, "No spans are sent; trace fields of clients pass."),
        common("opentelemetry-trust-incoming-span", Low, Kind::Bool, Fallback, Companion("enable-opentelemetry"), ""),
        common("opentelemetry-operation-name", Medium, Kind::Line, Fallback, Companion("enable-opentelemetry"), ""),
    ]),
    ("FastCGI, push, WAF", &[
        rare("fastcgi-index", Medium, Kind::Basic, Fallback, Companion("backend-protocol"), "Of `FCGI`."),
        rare("fastcgi-params-configmap", Medium, Kind::Basic, Fallback, Companion("backend-protocol"), "Of `FCGI`."),
        rare("http2-push-preload", Low, Kind::Bool, Fallback, NoEffect, "No browser takes pushes any more."),
        rare("enable-modsecurity", Low, Kind::Bool, Fallback, Restriction, "There is no WAF: every request is refused with 503."),
        rare("enable-owasp-core-rules", Low, Kind::Bool, Fallback, Companion("enable-modsecurity"), ""),
        rare("modsecurity-transaction-id", High, Kind::Line, Fallback, Companion("enable-modsecurity"), ""),
    ]),
    ("Snippets", &[
        harmful("configuration-snippet",
            "Never run. One that only sets response fields or tunes nginx is left out, any other refuses every request with 503."),
        harmful("server-snippet",
            "Never run. One that only sets response fields or tunes nginx is left out, any other refuses every request with 503."),
        harmful("auth-snippet",
            "Never run. One that only sets response fields or tunes nginx is left out, any other refuses every request with 503."),
        harmful("stream-snippet", "Never run; every request is refused with 503."),
        harmful("modsecurity-snippet", "Never run; every request is refused with 503."),
    ]),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The table holds each of the 138 names once, and every companion's main.
    #[test]
    fn every_name_stands_in_the_table_once() {
        let mut names: Vec<_> = Entry::all().map(|entry| entry.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), Entry::all().count()), (138, 138));
        let of = |tier| Entry::all().filter(|entry| entry.tier == tier).count();
        assert_eq!([of(Tier::MustHave), of(Tier::Common), of(Tier::Rare), of(Tier::Unsafe)], [74, 43, 16, 5]);
        for entry in Entry::all() {
            if let Companion(main) = entry.support {
                assert!(Entry::find(main).is_some(), "{}", entry.name);
            }
            assert!(replacement(entry.name).is_none(), "{}", entry.name);
        }
    }

    /// A misspelt name finds its neighbour, a foreign one finds nobody.
    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        for (name, want) in [
            ("rewrite-targett", Some("rewrite-target")),
            ("proxy-boby-size", Some("proxy-body-size")),
            ("whitelist-source-ranges", Some("whitelist-source-range")),
            ("my-own-thing", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(name), want, "{name}");
        }
        assert_eq!(nearest(&"a".repeat(1 << 20)), None);
    }
}
