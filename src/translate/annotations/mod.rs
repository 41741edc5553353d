//! Annotations of one Ingress as typed values; no text of an annotation ever becomes configuration text.
//!
//! [`table`] lists every annotation with what is made of it; `screen` speaks of those that are not honoured; the other files read
//! those that are, each a group. An invalid value does one of three things, which the table says: its default holds, every request
//! is refused, or the Ingress is not served.

mod access;
mod canary;
mod cors;
mod fields;
pub mod kind;
mod notes;
mod routing;
mod screen;
pub mod table;
mod upstream;

use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;

use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::snapshot::rule::FixedAnswer;
use crate::snapshot::rule::Policy;
use crate::translate::annotations::notes::Notes;
use crate::translate::annotations::notes::Unservable;
use crate::translate::config_map::Globals;
use crate::translate::options::Options;
use crate::translate::path;
use crate::translate::path::PathKind;
use crate::translate::references::References;
use crate::translate::resources::Resources;
use crate::translate::value;

pub use canary::CanarySpec;
pub use upstream::ClusterSpec;

/// What the annotations of one Ingress ask for.
#[derive(Clone, Debug)]
pub struct Annotations {
    /// What holds for each of its rules alike. Set by others, because they need the host, the path or a cluster: `tls_redirect`,
    /// `canary`, `rewrite`.
    pub policy: Policy,
    /// A refusal for the whole host: what could not be honoured guards all of it (`auth-tls-secret`).
    pub host_denied: Option<FixedAnswer>,
    /// `rewrite-target`, valid as a target; the pattern is the path of each rule.
    pub rewrite_target: Option<String>,
    /// `use-regex`.
    pub use_regex: bool,
    /// `ssl-redirect`: http goes to https where the host has a certificate.
    pub ssl_redirect: bool,
    /// `force-ssl-redirect`: even where it has none.
    pub force_ssl_redirect: bool,
    pub preserve_trailing_slash: bool,
    pub use_port_in_redirects: bool,
    /// `app-root`, a path.
    pub app_root: Option<String>,
    /// `server-alias`: further exact host names, lower case.
    pub server_aliases: Vec<String>,
    /// `default-backend`: a Service of the same namespace that serves where the rule's own has no endpoints.
    pub default_backend: Option<String>,
    /// `canary: "true"`: this Ingress is the canary of another, whose policy its paths inherit.
    pub canary: Option<CanarySpec>,
    pub cluster: ClusterSpec,
}

impl Annotations {
    /// Whether this path is an expression, and with it every path of its host.
    pub(crate) fn makes_expression(&self, kind: PathKind, path: &str) -> bool {
        self.use_regex || self.rewrite_target.as_ref().is_some_and(|target| path::rewritten(kind, path, target).is_some())
    }
}

/// What annotations are read from.
#[derive(Clone, Copy)]
pub struct Source<'r> {
    pub key: &'r ObjectKey,
    pub ingress: &'r Ingress,
    pub resources: &'r Resources,
    pub options: &'r Options,
    pub globals: &'r Globals,
}

/// Reads the annotations of one Ingress; `None` where a value makes the whole Ingress unservable (annotations.md section 2,
/// outcome b). What is said about them goes to `findings`, the objects they name to `references`.
pub fn read(source: Source<'_>, findings: &mut Vec<Finding>, references: &mut References) -> Option<Annotations> {
    let mut notes = Notes::of(source.key, source.ingress, &source.options.annotations_prefix, findings);
    if notes.text("canary").and_then(value::boolean) == Some(true) {
        notes.retain(canary::counts);
    }
    read_notes(source, &mut notes, references).ok()
}

fn read_notes(source: Source<'_>, notes: &mut Notes<'_, '_>, references: &mut References) -> Result<Annotations, Unservable> {
    let Source { key, resources, globals, .. } = source;
    screen::screen(notes, globals.risk_max)?;
    let host_denied = notes.text("auth-tls-secret").map(|_| FixedAnswer { status: 403, reason: "denied_by_annotation" });
    let rewrite_target = notes.read("rewrite-target", |target| Some(target.to_owned()))?;
    let canary = canary::read(notes)?;
    let cluster = upstream::cluster(notes, globals)?;
    let mut policy = globals.policy.clone();
    access::addresses(notes, &mut policy)?;
    policy.basic_auth = access::basic_auth(notes, key, resources, globals, references)?;
    policy.rate_limit = access::rate_limit(notes, key, globals)?;
    policy.redirect = routing::redirect(notes)?;
    policy.cors = cors::read(notes)?.map(Arc::new);
    policy.body_bytes_max = upstream::body_bytes_max(notes, policy.body_bytes_max)?;
    policy.timeouts = upstream::timeouts(notes, policy.timeouts)?;
    policy.retry = upstream::retry(notes, policy.retry)?;
    policy.upstream_host = routing::upstream_host(notes)?;
    policy.response_fields = fields::response_fields(notes, key, resources, globals, references)?;
    // ingress-nginx sends the prefix where it rewrites, and nowhere else.
    let prefix = notes.read("x-forwarded-prefix", |prefix| Some(prefix.into()))?;
    policy.forwarded_prefix = prefix.filter(|_| rewrite_target.is_some());
    policy.access_log = notes.read("enable-access-log", value::boolean)?.unwrap_or(policy.access_log);
    let global_auth = notes.read("enable-global-auth", value::boolean)?.unwrap_or(true);
    let annotations = Annotations {
        host_denied,
        rewrite_target,
        use_regex: notes.read("use-regex", value::boolean)?.unwrap_or(false),
        ssl_redirect: notes.read("ssl-redirect", value::boolean)?.unwrap_or(globals.ssl_redirect),
        force_ssl_redirect: notes.read("force-ssl-redirect", value::boolean)?.unwrap_or(globals.force_ssl_redirect),
        preserve_trailing_slash: notes.read("preserve-trailing-slash", value::boolean)?.unwrap_or(globals.preserve_trailing_slash),
        use_port_in_redirects: notes.read("use-port-in-redirects", value::boolean)?.unwrap_or(globals.use_port_in_redirects),
        app_root: routing::app_root(notes)?,
        server_aliases: routing::server_aliases(notes)?,
        default_backend: notes.read("default-backend", |name| Some(name.to_owned()))?,
        canary,
        cluster,
        policy: Policy {
            // Every reader has spoken by now.
            denied: notes.denied.clone().or(policy.denied).or_else(|| globals.global_auth.clone().filter(|_| global_auth)),
            ..policy
        },
    };
    notes.speak_of_unread();
    Ok(annotations)
}

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;
