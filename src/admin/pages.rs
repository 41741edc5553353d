//! What each path answers.

use std::sync::atomic::Ordering;
use std::time::Instant;

use askama::Template;
use hyper::StatusCode;

use crate::admin::dashboard::Dashboard;
use crate::admin::query;
use crate::admin::views;
use crate::admin::views::Listener;
use crate::admin::views::Source;
use crate::admin::views::Status;
use crate::admin::windows::Windows;
use crate::explain;
use crate::explain::Ports;
use crate::snapshot::overview::Overview;
use crate::telemetry::metrics::Exposition;

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Page {
    fn text(status: StatusCode, body: String) -> Self {
        Self { status, content_type: TEXT, body }
    }

    fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_string_pretty(value) {
            Ok(text) => Self { status: StatusCode::OK, content_type: JSON, body: format!("{text}\n") },
            Err(error) => Self::fault(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    fn fault(status: StatusCode, message: &str) -> Self {
        Self { status, content_type: JSON, body: format!("{}\n", serde_json::json!({ "error": message })) }
    }
}

/// The page at `path`.
pub(super) fn find(path: &str, query: &str, accept: &str, windows: &Windows) -> Page {
    let overview = windows.board.latest();
    match path {
        "/" => dashboard(&overview, windows),
        "/livez" => Page::text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match not_ready(&overview, windows) {
            None => Page::text(StatusCode::OK, "ready\n".to_owned()),
            Some(reason) => Page::text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        "/metrics" => metrics(accept, windows),
        "/api/v1/status" => Page::json(&status(&overview, windows)),
        "/api/v1/snapshot" => of_snapshot(&overview, |snapshot| {
            Page::json(&views::contents(snapshot, now().saturating_duration_since(snapshot.changed_at).as_secs()))
        }),
        "/api/v1/routes" => of_snapshot(&overview, |snapshot| Page::json(&views::routes(snapshot))),
        "/api/v1/upstreams" => of_snapshot(&overview, |snapshot| Page::json(&views::upstreams(snapshot))),
        "/api/v1/explain" => explanation(&overview, query, accept, windows),
        _ => Page::fault(
            StatusCode::NOT_FOUND,
            "no such page: /livez /readyz /metrics / and /api/v1/ status snapshot routes upstreams explain",
        ),
    }
}

/// The answer to everything but GET and HEAD.
pub(super) fn method_not_allowed() -> Page {
    Page::fault(StatusCode::METHOD_NOT_ALLOWED, "this endpoint is read-only: GET and HEAD")
}

/// Why no traffic should be sent here; `None` where it may.
fn not_ready(overview: &Overview, windows: &Windows) -> Option<String> {
    if windows.draining.load(Ordering::SeqCst) {
        return Some("draining".to_owned());
    }
    if overview.not_ready.is_some() {
        return overview.not_ready.clone();
    }
    overview.snapshot.is_none().then(|| "no objects have been read yet".to_owned())
}

fn metrics(accept: &str, windows: &Windows) -> Page {
    let (format, content_type) = if accept.contains("application/openmetrics-text") {
        (Exposition::OpenMetrics, OPEN_METRICS)
    } else {
        (Exposition::Prometheus, PROMETHEUS)
    };
    Page { status: StatusCode::OK, content_type, body: windows.registry.render(format) }
}

fn of_snapshot(overview: &Overview, page: impl FnOnce(&crate::snapshot::Snapshot) -> Page) -> Page {
    match &overview.snapshot {
        Some(snapshot) => page(snapshot),
        None => Page::fault(StatusCode::SERVICE_UNAVAILABLE, "no objects have been read yet"),
    }
}

fn status(overview: &Overview, windows: &Windows) -> Status {
    let reason = not_ready(overview, windows);
    let now = now();
    let source = |source: &crate::snapshot::overview::SourceState| Source {
        name: source.name.clone(),
        objects: source.objects,
        trouble: source.trouble.clone(),
        current_s_ago: source.current_at.map(|at| now.saturating_duration_since(at).as_secs()),
    };
    let listener = |(name, address): &(String, std::net::SocketAddr)| Listener { name: name.clone(), address: *address };
    Status {
        version: env!("CARGO_PKG_VERSION"),
        ready: reason.is_none(),
        reason,
        uptime_s: now.saturating_duration_since(windows.started).as_secs(),
        snapshot_version: overview.snapshot.as_ref().map_or(0, |snapshot| snapshot.version),
        shards: views::shards(overview),
        listeners: windows.listeners.iter().map(listener).collect(),
        sources: overview.sources.iter().map(source).collect(),
        ingresses: overview.ingress_status.to_vec(),
        findings: views::findings(overview),
    }
}

fn explanation(overview: &Overview, query: &str, accept: &str, windows: &Windows) -> Page {
    let explained = query::question(query).and_then(|question| explain::explain(overview, &question, ports(windows)));
    match explained {
        Ok(explanation) if accept.contains("text/plain") => Page::text(StatusCode::OK, explanation.to_string()),
        Ok(explanation) => Page::json(&explanation),
        Err(reason) => Page::fault(StatusCode::BAD_REQUEST, &reason),
    }
}

/// The ports a shard tells clients: those of the first listener of each kind.
fn ports(windows: &Windows) -> Ports {
    let of = |scheme: &str| windows.listeners.iter().find(|(name, _)| name.starts_with(scheme)).map(|(_, address)| address.port());
    let usual = Ports::default();
    Ports { http: of("http/").unwrap_or(usual.http), https: of("https/").unwrap_or(usual.https) }
}

fn dashboard(overview: &Overview, windows: &Windows) -> Page {
    let snapshot = overview.snapshot.as_deref();
    let contents = snapshot.map(|snapshot| views::contents(snapshot, now().saturating_duration_since(snapshot.changed_at).as_secs()));
    let routes = snapshot.map(views::routes).unwrap_or_default();
    let upstreams = snapshot.map(views::upstreams).unwrap_or_default();
    match Dashboard::new(status(overview, windows), contents, routes, upstreams).render() {
        Ok(body) => Page { status: StatusCode::OK, content_type: HTML, body },
        Err(error) => Page::fault(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

#[expect(clippy::disallowed_methods, reason = "admin's one look at the clock, for ages")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::small_world;
    use crate::snapshot::finding::Finding;
    use crate::snapshot::finding::ObjectKey;
    use crate::snapshot::finding::Severity;
    use crate::snapshot::rule::BasicAuth;
    use crate::snapshot::rule::Policy;
    use crate::telemetry::board::Board;
    use crate::telemetry::metrics::Registry;
    use std::sync::Arc;

    const PASSWORD: &str = "{PLAIN}open-sesame";

    fn finding(severity: Severity, message: &str) -> Finding {
        Finding {
            severity,
            kind: "Ingress",
            object: ObjectKey { namespace: "shop".to_owned(), name: "edge".to_owned() },
            field: "spec".to_owned(),
            reason: "ServiceNotFound",
            message: message.to_owned(),
            cure: "Create it.".to_owned(),
        }
    }

    fn overview() -> Overview {
        let users = [("demo".to_owned(), PASSWORD.to_owned())].into();
        let policy = Policy { basic_auth: Some(Arc::new(BasicAuth { realm: "r".to_owned(), users })), ..Policy::default() };
        let findings = [finding(Severity::Warning, "odd"), finding(Severity::Error, "<script>alert(1)</script>")];
        Overview { findings: Arc::from(findings), ..small_world::overview(&policy) }
    }

    fn windows(overview: Overview) -> Windows {
        let board = Board::default();
        board.post(Arc::new(overview));
        Windows {
            board: Arc::new(board),
            registry: Arc::new(Registry::new(1, &[])),
            draining: Arc::default(),
            started: now(),
            listeners: vec![
                ("http/[::]:80".to_owned(), ([127, 0, 0, 1], 8080).into()),
                ("https/[::]:443".to_owned(), ([127, 0, 0, 1], 8443).into()),
            ],
        }
    }

    fn get(path: &str, windows: &Windows) -> Page {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        find(path, query, "", windows)
    }

    fn json(path: &str, windows: &Windows) -> serde_json::Value {
        let page = get(path, windows);
        assert_eq!((page.status, page.content_type), (StatusCode::OK, JSON), "{path}: {}", page.body);
        serde_json::from_str(&page.body).expect("JSON")
    }

    /// Readiness says no before the first objects, while control has a reason, and while draining; liveness always says yes.
    #[test]
    fn readiness_says_why_not() {
        let ready = windows(overview());
        assert_eq!(get("/readyz", &ready).status, StatusCode::OK);
        ready.draining.store(true, Ordering::SeqCst);
        for (windows, reason) in [
            (ready, "draining\n"),
            (windows(Overview::default()), "no objects have been read yet\n"),
            (windows(Overview { not_ready: Some("waiting for Secrets".to_owned()), ..overview() }), "waiting for Secrets\n"),
        ] {
            let page = get("/readyz", &windows);
            assert_eq!((page.status, &*page.body), (StatusCode::SERVICE_UNAVAILABLE, reason));
            assert_eq!(get("/livez", &windows).status, StatusCode::OK);
        }
    }

    /// Whoever scrapes gets the format it asks for, Prometheus text if it asks for none.
    #[test]
    fn a_scrape_gets_the_format_it_asks_for() {
        let windows = windows(Overview::default());
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
        for (accept, want) in [("", PROMETHEUS), ("text/plain", PROMETHEUS), ("*/*", PROMETHEUS), (prometheus, OPEN_METRICS)] {
            assert_eq!(find("/metrics", "", accept, &windows).content_type, want, "{accept}");
        }
    }

    /// The API tells shards, routes, upstreams with health, and findings with the worst first.
    #[test]
    fn the_api_tells_what_is_served() {
        let windows = windows(overview());
        let status = json("/api/v1/status", &windows);
        assert_eq!((&status["ready"], &status["snapshot_version"]), (&true.into(), &7.into()));
        assert_eq!((&status["shards"][0]["current"], &status["shards"][1]["current"]), (&true.into(), &false.into()));
        assert_eq!(status["findings"][0]["severity"], "error");
        assert_eq!(status["listeners"][1]["address"], "127.0.0.1:8443");
        let snapshot = json("/api/v1/snapshot", &windows);
        assert_eq!((&snapshot["hosts"], &snapshot["routes"], &snapshot["endpoints"]), (&2.into(), &4.into(), &5.into()));
        assert_eq!(snapshot["certificates"][0]["source"], "shop/tls");
        let routes = json("/api/v1/routes", &windows);
        assert_eq!((&routes[0]["path"], &routes[0]["to"]), (&"Exact /api".into(), &"shop/web:80".into()));
        assert_eq!(routes[0]["filters"], serde_json::json!(["basic-auth"]));
        let upstreams = json("/api/v1/upstreams", &windows);
        assert_eq!((&upstreams[0]["name"], &upstreams[0]["healthy"]), (&"shop/api:80".into(), &2.into()));
    }

    /// An explanation is JSON for programs and text for who asks for text; redirects name the port that is listened on.
    #[test]
    fn an_explanation_comes_in_two_forms() {
        let windows = windows(overview());
        let path = "/api/v1/explain?method=GET&url=http%3A%2F%2Fshop.example%2Fapi";
        assert_eq!(json(path, &windows)["outcome"]["status"], 401);
        let (_, query) = path.split_once('?').expect("a query");
        let text = find("/api/v1/explain", query, "text/plain", &windows);
        assert!(text.content_type == TEXT && text.body.contains("Corelane answers 401"), "{}", text.body);
        assert_eq!(get("/api/v1/explain", &windows).status, StatusCode::BAD_REQUEST);
        assert_eq!(ports(&windows), Ports { http: 8080, https: 8443 });
    }

    /// The dashboard shows everything with its cure, and text of objects stays text.
    #[test]
    fn the_dashboard_shows_what_is_served() {
        let page = get("/", &windows(overview()));
        assert_eq!((page.status, page.content_type), (StatusCode::OK, HTML));
        for text in ["shop.example", "Exact /api", "10.0.0.1:80 down", "Create it.", "self-signed", "2 of 3", "behind", "shop/tls"] {
            assert!(page.body.contains(text), "{text} is missing");
        }
        assert!(!page.body.contains("<script>alert"), "text of an object became markup");
        assert_eq!(get("/", &windows(Overview::default())).status, StatusCode::OK, "before the first objects");
    }

    /// No page shows a password, a hash of one, or a key.
    #[test]
    fn no_page_shows_a_secret() {
        let windows = windows(overview());
        for path in
            ["/", "/api/v1/status", "/api/v1/snapshot", "/api/v1/routes", "/api/v1/upstreams", "/api/v1/explain?url=http://shop.example/"]
        {
            let page = get(path, &windows);
            assert_eq!(page.status, StatusCode::OK, "{path}");
            for secret in ["open-sesame", "PLAIN", "PRIVATE KEY"] {
                assert!(!page.body.contains(secret), "{path} shows {secret}");
            }
        }
    }

    /// What does not exist is 404 in JSON, and before the first objects the API says so.
    #[test]
    fn what_is_not_there_is_said() {
        let empty = windows(Overview::default());
        for (path, want) in [("/nope", 404), ("/api/v1/", 404), ("/api/v1/routes", 503), ("/api/v1/status", 200)] {
            let page = get(path, &empty);
            assert_eq!((page.status.as_u16(), page.content_type), (want, JSON), "{path}");
        }
    }
}
