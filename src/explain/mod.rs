//! Why a request would go where: every candidate rule, the winner and the reason, filters in order, and the endpoint balancing
//! would choose. Pure: reads a snapshot, sends nothing.
//!
//! The question becomes the bytes a client would send, and these go through the parser, the route table and the filters that serve
//! real traffic: an explanation cannot say anything but what would happen.

mod answer;
mod candidates;
mod question;
#[cfg(test)]
pub(crate) mod small_world;
mod steps;

use std::net::IpAddr;
use std::net::Ipv4Addr;

use crate::explain::answer::Request;
use crate::explain::answer::RuleChoice;
use crate::filter;
use crate::filter::Facts;
use crate::filter::FilterState;
use crate::filter::Passage;
use crate::filter::Verdict;
use crate::filter::headers;
use crate::http::fault::DownstreamFault;
use crate::http::h1::parse;
use crate::http::head::Framing;
use crate::http::head::HeadLimits;
use crate::http::head::RequestHead;
use crate::http::head::field_storage;
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::Balance;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::overview::Overview;
use crate::snapshot::rule::Host;
use crate::upstream::balance::ClusterState;

pub use answer::Candidate;
pub use answer::EndpointState;
pub use answer::Explanation;
pub use answer::Outcome;
pub use answer::Step;
pub use question::Question;

/// How an answer is printed: for people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Text,
    Json,
}

/// The ports clients are told in redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub http: u16,
    pub https: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { http: 80, https: 443 }
    }
}

/// Who asks when the question does not say.
const SOMEBODY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Explains `question` against what is served now.
///
/// # Errors
/// The question is no request: one sentence that says what is wrong with it.
pub fn explain(overview: &Overview, question: &Question, ports: Ports) -> Result<Explanation, String> {
    let snapshot = overview.snapshot.as_ref().ok_or("no objects have been read yet: there is nothing to explain")?;
    let wire = question::wire(question)?;
    let client = question.client.unwrap_or(SOMEBODY);
    let mut storage = field_storage();
    let head = match parse::request(&wire.bytes, &mut storage, &HeadLimits::default()) {
        Ok(Some(head)) => head,
        Ok(None) => return Err("the request has no end: check its method and fields".to_owned()),
        Err(fault) => return Err(refused(fault)),
    };
    if let Some(fault) = head.refusal {
        return Err(refused(fault));
    }
    let routed = candidates::route(snapshot, &head);
    let mut explanation = Explanation {
        request: understood(&head, wire.tls, client),
        snapshot_version: snapshot.version,
        host: routed.choice,
        candidates: routed.candidates,
        rule: None,
        steps: Vec::new(),
        outcome: answer(404, "no_route", Vec::new()),
        findings: Vec::new(),
    };
    let Some((id, why)) = routed.rule else { return Ok(explanation) };
    let rule = snapshot.rule(id);
    explanation.rule = Some(RuleChoice::new(&rule.source, why));
    let is_source = |name: &str, namespace: &str| *name == *rule.source.ingress && *namespace == *rule.source.namespace;
    let about = overview.findings.iter().filter(|finding| is_source(&finding.object.name, &finding.object.namespace));
    explanation.findings = about.cloned().collect();
    let nobody = Host { name: "".into(), tls: false, app_root: None, default_rule: None };
    let facts = Facts {
        head: &head,
        client,
        peer_trusted: snapshot.settings.use_forwarded_headers && is_trusted(snapshot, client),
        tls: wire.tls,
        came_over_https: false,
        http_port: ports.http,
        https_port: ports.https,
        host: routed.host.map_or(&nobody, |host| host),
        rule,
        settings: &snapshot.settings,
        now_us: 0,
        // The last number of a round: a canary takes it only where it takes all.
        random: rule.policy.canary.as_ref().map_or(0, |canary| u64::from(canary.weight_total.max(1)) - 1),
    };
    explanation.steps = steps::of(&facts, snapshot);
    explanation.outcome = outcome(&facts, snapshot);
    Ok(explanation)
}

fn refused(fault: DownstreamFault) -> String {
    format!("the request breaks a rule and is answered {} ({})", fault.status().unwrap_or(400), fault.reason())
}

fn understood(head: &RequestHead<'_, '_>, tls: bool, client: IpAddr) -> Request {
    Request {
        method: text(head.method),
        scheme: if tls { "https" } else { "http" },
        host: text(head.authority),
        path: text(&head.path),
        query: head.query.map(text),
        client,
    }
}

/// What the filters decide, and where that leads.
fn outcome(facts: &Facts<'_, '_, '_>, snapshot: &Snapshot) -> Outcome {
    // Before any filter, as the data path does.
    if is_too_large(facts) {
        return answer(413, DownstreamFault::BodyTooLarge.reason(), Vec::new());
    }
    let (mut state, mut admission) = (FilterState::default(), None);
    let mut verdict = filter::on_request(facts, &mut state, &mut admission);
    if let Verdict::VerifyPassword(check) = &verdict {
        // This may be the thread that answers probes: where it is long, the steps say that the password is taken for right.
        state.remember_password(check, check.is_long() || check.run(), facts.now_ms());
        verdict = filter::on_request(facts, &mut state, &mut admission);
    }
    match verdict {
        Verdict::Continue(passage) => forward(facts, &passage, snapshot),
        Verdict::Answer(given) => {
            let fields = given.fields.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
            answer(given.status, given.reason, fields)
        }
        Verdict::VerifyPassword(_) => answer(503, "password_check_overloaded", Vec::new()),
    }
}

/// Whether the content that the request announces is over the limit of its rule.
fn is_too_large(facts: &Facts<'_, '_, '_>) -> bool {
    let most = facts.rule.policy.body_bytes_max;
    matches!((facts.head.framing, most), (Framing::Length(length), Some(most)) if length > most)
}

fn forward(facts: &Facts<'_, '_, '_>, passage: &Passage, snapshot: &Snapshot) -> Outcome {
    let Some(cluster) = snapshot.cluster(passage.cluster) else { return answer(503, "no_endpoints", Vec::new()) };
    let Some(chosen) = first_choice(cluster, snapshot) else {
        return answer(503, cluster.refusal.unwrap_or("no_endpoints"), Vec::new());
    };
    let endpoints = cluster.endpoints.iter().map(|endpoint| EndpointState {
        address: endpoint.address,
        weight: endpoint.weight,
        node: endpoint.node.as_ref().map(ToString::to_string),
        healthy: !snapshot.health.is_down(endpoint),
    });
    Outcome::Forward {
        cluster: cluster.name.to_string(),
        balance: match cluster.balance {
            Balance::RoundRobin => "round robin",
            Balance::PeakEwma => "the better of two by latency and load",
        },
        endpoints: endpoints.collect(),
        chosen: cluster.endpoints[chosen].address,
        upstream_head: upstream_head(facts, passage),
    }
}

/// The endpoint that a shard without history chooses.
fn first_choice(cluster: &Cluster, snapshot: &Snapshot) -> Option<usize> {
    let mut state = ClusterState::default();
    state.reconcile(cluster);
    state.pick(cluster, &snapshot.health, 0, 0, &[])
}

fn upstream_head(facts: &Facts<'_, '_, '_>, passage: &Passage) -> Vec<String> {
    let mut bytes = Vec::new();
    let id = headers::request_id(facts.head, facts.settings, [0, 0]);
    let own_id = format!("X-Request-ID: {}", text(id.as_bytes()));
    let is_new = facts.head.field("x-request-id") != Some(id.as_bytes());
    let upgrade = facts.head.upgrades_to_websocket;
    headers::write_upstream_head(&mut bytes, facts, passage, id.as_bytes(), facts.head.framing, upgrade);
    let shown = |line: &str| if is_new && *line == *own_id { "X-Request-ID: (new for every request)".to_owned() } else { line.to_owned() };
    text(&bytes).lines().filter(|line| !line.is_empty()).map(shown).collect()
}

fn is_trusted(snapshot: &Snapshot, peer: IpAddr) -> bool {
    let trusted = &snapshot.settings.trusted;
    trusted.is_empty() || crate::snapshot::rule::contains(trusted, peer)
}

fn answer(status: u16, reason: &str, fields: Vec<String>) -> Outcome {
    Outcome::Answer { status, reason: reason.to_owned(), fields }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::rule::BasicAuth;
    use crate::snapshot::rule::Canary;
    use crate::snapshot::rule::Cors;
    use crate::snapshot::rule::FixedAnswer;
    use crate::snapshot::rule::Policy;
    use crate::snapshot::rule::RateLimit;
    use crate::snapshot::rule::Redirect;
    use crate::snapshot::rule::Rewrite;
    use crate::snapshot::rule::TlsRedirect;
    use std::sync::Arc;

    fn ask(policy: &Policy, method: &str, url: &str, fields: &[(&str, &str)]) -> Result<Explanation, String> {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let question = Question { method: method.to_owned(), url: url.to_owned(), fields, client: None };
        explain(&small_world::overview(policy), &question, Ports { http: 80, https: 8443 })
    }

    fn get(policy: &Policy, url: &str) -> Explanation {
        ask(policy, "GET", url, &[]).expect("a request")
    }

    fn status(explanation: &Explanation) -> u16 {
        match explanation.outcome {
            Outcome::Answer { status, .. } => status,
            Outcome::Forward { .. } => 0,
        }
    }

    /// Every path of the host is told with its reason, one of them wins, and the winner is the one that serves.
    #[test]
    fn every_path_of_the_host_is_told() {
        for (url, winner, matching) in [
            ("http://shop.example/", "Prefix /", 1),
            ("http://shop.example/api", "Exact /api", 3),
            ("http://shop.example/api/v1", "Prefix /api", 2),
            ("http://SHOP.example:80/%61pi", "Exact /api", 3),
        ] {
            let explanation = get(&Policy::default(), url);
            assert_eq!(explanation.candidates.len(), 3, "{url}");
            assert_eq!(explanation.candidates.iter().filter(|candidate| candidate.matches).count(), matching, "{url}");
            let winners: Vec<&str> = explanation.candidates.iter().filter(|candidate| candidate.wins).map(|won| &*won.path).collect();
            assert_eq!(winners, [winner], "{url}");
            assert_eq!(explanation.rule.map(|rule| rule.path).as_deref(), Some(winner), "{url}");
        }
    }

    /// Nobody's request is told what was looked for.
    #[test]
    fn a_request_of_nobody_is_told_why() {
        let elsewhere = get(&Policy::default(), "http://other.test/");
        assert_eq!((status(&elsewhere), elsewhere.host.pattern), (404, None));
        assert!(elsewhere.host.why.contains("other.test"));
        let no_path = get(&Policy::default(), "http://x.example/");
        assert_eq!((status(&no_path), no_path.host.pattern.as_deref()), (404, Some("*.example")));
        assert!(no_path.rule.is_none() && !no_path.candidates[0].matches);
    }

    /// A forwarded request is told its endpoints with their health, the one that comes first, and what the upstream sees.
    #[test]
    fn a_forwarded_request_is_told_where_it_goes() {
        let explanation = get(&Policy::default(), "http://shop.example/api/v1?q=1");
        let text = explanation.to_string();
        let Outcome::Forward { cluster, endpoints, chosen, upstream_head, .. } = explanation.outcome else { panic!("{text}") };
        assert_eq!((&*cluster, endpoints.len()), ("shop/api:80", 3));
        assert_eq!(endpoints.iter().filter(|endpoint| endpoint.healthy).count(), 2);
        assert_eq!(chosen.to_string(), "10.0.0.2:81", "the first one's node is down");
        let first = ["GET /api/v1?q=1 HTTP/1.1", "Host: shop.example", "X-Request-ID: (new for every request)"];
        assert_eq!(upstream_head[..3], first);
        assert!(text.contains("> 10.0.0.2:81 on node-2") && text.contains("10.0.0.1:81 on node-1, weight 1: down"), "{text}");
        assert_eq!(status(&get(&Policy::default(), "http://x.example/empty")), 503, "a cluster without endpoints");
    }

    /// Whatever a policy does, the steps end where the filters answer, and only there.
    #[test]
    fn steps_end_where_the_filters_answer() {
        let net = |text: &str| -> Arc<[ipnet::IpNet]> { [text.parse().expect("a range")].into() };
        let plain = Policy::default;
        let login = |entry: &str| {
            let users = [("u".to_owned(), entry.to_owned())].into();
            Some(Arc::new(BasicAuth { realm: "r".to_owned(), users }))
        };
        let cors = Cors {
            origins: vec!["*".to_owned()],
            methods: String::new(),
            headers: String::new(),
            expose_headers: None,
            credentials: false,
            max_age_s: 1,
        };
        let rewrite = Rewrite { pattern: regex::bytes::Regex::new("/api(.*)").expect("a pattern"), target: "/v2$1".to_owned() };
        let limit = RateLimit {
            key: "k".into(),
            requests_per_second: Some(1),
            requests_per_minute: None,
            connections: Some(2),
            burst_multiplier: 5,
            exempt: Vec::new(),
            request_status: 503,
            connection_status: 503,
        };
        let canary = |weight| {
            Some(Arc::new(Canary {
                cluster: crate::snapshot::cluster::ClusterId(1),
                header: Some("x-canary".to_owned()),
                header_value: None,
                cookie: None,
                weight,
                weight_total: 100,
            }))
        };
        let tls = TlsRedirect::On { status: 308, keep_trailing_slash: false, with_port: false };
        for (policy, method, want, told) in [
            (plain(), "GET", 0, "proxy-body-size"),
            (Policy { redirect: Some(Redirect { status: 301, location: "https://x/".into() }), ..plain() }, "GET", 301, "redirect"),
            (Policy { tls_redirect: tls, ..plain() }, "GET", 308, "ssl-redirect"),
            (Policy { denied: Some(FixedAnswer { status: 503, reason: "x" }), ..plain() }, "GET", 503, "restriction"),
            (Policy { allow: net("10.0.0.0/8"), ..plain() }, "GET", 403, "whitelist-source-range"),
            (Policy { deny: net("10.0.0.0/8"), ..plain() }, "GET", 0, "denylist-source-range"),
            (Policy { basic_auth: login("{PLAIN}p"), ..plain() }, "GET", 0, "auth-type"),
            (Policy { basic_auth: login("{PLAIN}other"), ..plain() }, "GET", 401, "auth-type"),
            (Policy { basic_auth: login("$apr1$TqI9WECO$LHZB2DqRlk9nObiB6vJG9."), ..plain() }, "GET", 401, "auth-type"),
            (Policy { basic_auth: login("$2y$05$anything"), ..plain() }, "GET", 0, "its hash is slow"),
            (
                Policy { rate_limit: Some(Arc::new(limit)), ..plain() },
                "GET",
                0,
                "1 request a second with a burst of 5, 2 requests at a time",
            ),
            (Policy { cors: Some(Arc::new(cors.clone())), ..plain() }, "OPTIONS", 204, "enable-cors"),
            (Policy { cors: Some(Arc::new(cors)), ..plain() }, "GET", 0, "enable-cors"),
            (Policy { canary: canary(30), ..plain() }, "GET", 0, "30 of 100 such requests go to shop/api:80"),
            (Policy { canary: canary(100), ..plain() }, "GET", 0, "asks for the canary"),
            (Policy { rewrite: Some(Arc::new(rewrite)), ..plain() }, "GET", 0, "/api becomes /v2"),
        ] {
            let explanation = ask(&policy, method, "http://shop.example/api", &[("Authorization", "Basic dTpw")]).expect("a request");
            let text = explanation.to_string();
            assert_eq!(status(&explanation), want, "{text}");
            let ends: Vec<bool> = explanation.steps.iter().map(|step| step.ends).collect();
            assert_eq!(ends.last(), Some(&(want != 0)), "{text}");
            assert_eq!(ends.iter().filter(|ends| **ends).count(), usize::from(want != 0), "{text}");
            assert!(text.contains(told), "{told}: {text}");
        }
    }

    /// A canary that the request asks for is where it goes; by weight alone it is told as chance.
    #[test]
    fn a_canary_that_is_asked_for_is_shown() {
        let canary = Canary {
            cluster: crate::snapshot::cluster::ClusterId(1),
            header: Some("x-canary".to_owned()),
            header_value: None,
            cookie: None,
            weight: 0,
            weight_total: 100,
        };
        let policy = Policy { canary: Some(Arc::new(canary)), ..Policy::default() };
        for (value, want) in [("always", "shop/api:80"), ("never", "shop/web:80")] {
            let explanation = ask(&policy, "GET", "http://shop.example/", &[("X-Canary", value)]).expect("a request");
            let Outcome::Forward { cluster, .. } = explanation.outcome else { panic!("{value}") };
            assert_eq!(cluster, want, "{value}");
        }
    }

    /// A request that real traffic would be refused for is refused here with the same status.
    #[test]
    fn what_breaks_a_rule_is_refused_as_in_real_traffic() {
        for (method, url, fields, told) in [
            ("CONNECT", "http://shop.example/", &[][..], "405"),
            ("TRACE", "http://shop.example/", &[][..], "405"),
            ("GET", "http://shop.example/../x", &[][..], "400"),
            ("GET", "http://sh_op^.example/", &[][..], "400 (bad_host)"),
            ("GET", "http://shop.example/", &[("Content-Length", "1"), ("Transfer-Encoding", "chunked")][..], "400"),
            ("GET", "no url", &[][..], "no URL"),
        ] {
            let refusal = ask(&Policy::default(), method, url, fields).expect_err("no request");
            assert!(refusal.contains(told), "{method} {url}: {refusal}");
        }
        let large = ask(&Policy::default(), "POST", "http://shop.example/", &[("Content-Length", "1048577")]);
        let large = large.expect("a request");
        assert!(status(&large) == 413 && large.steps.last().is_some_and(|step| step.ends), "{large}");
    }

    /// Programs get the same as people, with names that stay.
    #[test]
    fn programs_read_names_that_stay() {
        let json = serde_json::to_value(get(&Policy::default(), "http://shop.example/")).expect("JSON");
        assert_eq!(json["outcome"]["kind"], "forward");
        assert_eq!(json["rule"]["name"], "edge");
        assert_eq!(json["candidates"][2]["wins"], true);
        let refused = serde_json::to_value(get(&Policy::default(), "http://nobody/")).expect("JSON");
        assert_eq!(refused["outcome"]["status"], 404);
    }
}
