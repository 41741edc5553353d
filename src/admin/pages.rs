//! What each path answers.

use std::sync::atomic::Ordering;

use hyper::StatusCode;

use crate::admin::windows::Windows;
use crate::snapshot::overview::Overview;
use crate::telemetry::metrics::Exposition;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An answer, whole.
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Page {
    fn text(status: StatusCode, body: String) -> Self {
        Self { status, content_type: TEXT, body }
    }

    fn fault(status: StatusCode, message: &str) -> Self {
        Self { status, content_type: JSON, body: format!("{}\n", serde_json::json!({ "error": message })) }
    }
}

/// The page at `path`.
pub(super) fn find(path: &str, _query: &str, accept: &str, windows: &Windows) -> Page {
    match path {
        "/livez" => Page::text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => ready(windows),
        "/metrics" => metrics(accept, windows),
        _ => Page::fault(StatusCode::NOT_FOUND, "no such page"),
    }
}

/// The answer to everything but GET and HEAD.
pub(super) fn method_not_allowed() -> Page {
    Page::fault(StatusCode::METHOD_NOT_ALLOWED, "this endpoint is read-only: GET and HEAD")
}

fn ready(windows: &Windows) -> Page {
    match not_ready(&windows.board.latest(), windows.draining.load(Ordering::SeqCst)) {
        None => Page::text(StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => Page::text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// Why no traffic should be sent here; `None` where it may.
fn not_ready(overview: &Overview, draining: bool) -> Option<String> {
    if draining {
        return Some("draining".to_owned());
    }
    if overview.not_ready.is_some() {
        return overview.not_ready.clone();
    }
    if overview.snapshot.is_none() { Some("no objects have been read yet".to_owned()) } else { None }
}

fn metrics(accept: &str, windows: &Windows) -> Page {
    let (format, content_type) = if accept.contains("application/openmetrics-text") {
        (Exposition::OpenMetrics, OPEN_METRICS)
    } else {
        (Exposition::Prometheus, PROMETHEUS)
    };
    Page { status: StatusCode::OK, content_type, body: windows.registry.render(format) }
}
