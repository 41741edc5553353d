//! The dashboard: one page for people, without anything from elsewhere.

use askama::Template;

use crate::admin::views::Contents;
use crate::admin::views::Route;
use crate::admin::views::Status;
use crate::admin::views::Upstream;
use crate::snapshot::finding::Finding;
use crate::snapshot::finding::Severity;

/// Rows of one table; who needs all of them asks the API.
const ROWS_MAX: usize = 200;

/// Everything the page shows.
#[derive(Template)]
#[template(path = "dashboard.html", config = "src/admin/askama.toml")]
pub(super) struct Dashboard {
    status: Status,
    /// None before the first objects.
    contents: Option<Contents>,
    routes: Rows<Route>,
    upstreams: Rows<Upstream>,
    findings: Rows<Finding>,
    errors: usize,
    warnings: usize,
}

/// The first rows, and how many there are in all.
struct Rows<T> {
    shown: Vec<T>,
    all: usize,
}

impl<T> Rows<T> {
    fn new(mut rows: Vec<T>) -> Self {
        let all = rows.len();
        rows.truncate(ROWS_MAX);
        Self { shown: rows, all }
    }
}

impl Dashboard {
    pub(super) fn new(mut status: Status, contents: Option<Contents>, routes: Vec<Route>, upstreams: Vec<Upstream>) -> Self {
        let findings = std::mem::take(&mut status.findings);
        let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
        Self {
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            status,
            contents,
            routes: Rows::new(routes),
            upstreams: Rows::new(upstreams),
            findings: Rows::new(findings),
        }
    }

    fn uptime(&self) -> String {
        ago(&self.status.uptime_s)
    }
}

/// A span of time in its two largest units.
fn ago(seconds: &u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn word(severity: &Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}
