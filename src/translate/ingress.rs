//! One Ingress as typed data, and the last version of it that could be served.
//!
//! A version is good when all of it could be read; what other objects make of it (a missing Service, a path that somebody else has)
//! does not make it bad. While the newest version of an Ingress is bad its last good one stays in service; one that never was good is
//! served without the parts that are wrong.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::HTTPIngressPath;
use k8s_openapi::api::networking::v1::Ingress;

use crate::route::HostPattern;
use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::translate::about::About;
use crate::translate::about::quoted;
use crate::translate::annotations;
use crate::translate::annotations::Annotations;
use crate::translate::backend::Backend;
use crate::translate::class::Classes;
use crate::translate::expression;
use crate::translate::expression::Expressions;
use crate::translate::host;
use crate::translate::path;
use crate::translate::path::PathKind;
use crate::translate::references::References;
use crate::translate::scope::Scope;

/// The last good version of each Ingress that is ours.
pub(crate) type GoodVersions = HashMap<ObjectKey, Arc<Ingress>>;

/// One Ingress that is served.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) key: ObjectKey,
    pub(crate) annotations: Annotations,
    pub(crate) rules: Vec<HostRule>,
    /// Whether no rules are written at all: its default backend is for every host.
    pub(crate) is_catch_all: bool,
    pub(crate) default_backend: Option<Backend>,
    pub(crate) tls: Vec<TlsEntry>,
}

/// One entry of `spec.rules`.
#[derive(Debug)]
pub(crate) struct HostRule {
    pub(crate) host: HostPattern,
    /// The host as written.
    pub(crate) written: Arc<str>,
    /// Empty where the rule is the catch-all of its host.
    pub(crate) paths: Vec<PathRule>,
}

/// One entry of `spec.rules[].http.paths`.
#[derive(Debug)]
pub(crate) struct PathRule {
    pub(crate) kind: PathKind,
    pub(crate) path: String,
    pub(crate) backend: Backend,
    /// `spec.rules[0].http.paths[1]`.
    pub(crate) field: String,
}

/// One entry of `spec.tls`.
#[derive(Debug)]
pub(crate) struct TlsEntry {
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) secret: Option<ObjectKey>,
    /// `spec.tls[0]`.
    pub(crate) field: String,
}

/// One version of an Ingress, as far as it could be read.
struct Version {
    reading: Reading,
    /// Whether it is good: nothing of it had to be left out.
    is_whole: bool,
}

impl Version {
    fn good(self) -> Option<Reading> {
        self.is_whole.then_some(self.reading)
    }
}

/// Every Ingress that is ours, in the order in which they claim hosts and paths: the oldest first, and of those of the same age the
/// one whose `namespace/name` is last, as ingress-nginx has it. Objects without a time of creation, as manifests are, count as oldest
/// and of the same age.
pub(crate) fn read_all(
    scope: Scope<'_>,
    good_versions: &mut GoodVersions,
    expressions: &mut Expressions,
    findings: &mut Vec<Finding>,
    references: &mut References,
) -> Vec<Reading> {
    let classes = Classes::new(scope.resources, scope.options);
    let mut ours: Vec<_> = scope.resources.ingresses.iter().collect();
    ours.retain(|(key, ingress)| classes.claim(ingress, &mut About::new("Ingress", key, findings)));
    ours.sort_by_cached_key(|(key, ingress)| (ingress.metadata.creation_timestamp.clone(), Reverse(key.to_string())));
    let mut readings = Vec::with_capacity(ours.len());
    let mut good = GoodVersions::with_capacity(ours.len());
    for (key, ingress) in ours {
        let version = read(scope, key, ingress, expressions, findings, references);
        if version.as_ref().is_some_and(|version| version.is_whole) {
            good.insert(key.clone(), ingress.clone());
            readings.extend(version.map(|version| version.reading));
            continue;
        }
        let last = good_versions.remove(key);
        // What is wrong with the old version was said when it was new.
        let last = last.and_then(|last| Some((read(scope, key, &last, expressions, &mut Vec::new(), references)?.good()?, last)));
        if let Some((reading, last)) = last {
            let message = "this version cannot be served as written, so that its last good version stays in service";
            let cure = "Correct what the other findings of this object name.";
            About::new("Ingress", key, findings).error("", "LastGoodVersionServed", message, cure);
            good.insert(key.clone(), last);
            readings.push(reading);
        } else {
            readings.extend(version.map(|version| version.reading));
        }
    }
    *good_versions = good;
    readings
}

/// `None` where nothing of it can be served.
fn read(
    scope: Scope<'_>,
    key: &ObjectKey,
    ingress: &Ingress,
    expressions: &mut Expressions,
    findings: &mut Vec<Finding>,
    references: &mut References,
) -> Option<Version> {
    let source = annotations::Source { key, ingress, resources: scope.resources, options: scope.options, globals: scope.globals };
    let annotations = annotations::read(source, findings, references)?;
    let mut about = About::new("Ingress", key, findings);
    let spec = ingress.spec.as_ref();
    let mut is_whole = true;
    let mut rules = Vec::new();
    let written_rules = spec.and_then(|spec| spec.rules.as_deref()).unwrap_or_default();
    for (index, rule) in written_rules.iter().enumerate() {
        let written = rule.host.as_deref().unwrap_or_default();
        let Some(host) = read_host(written, &format!("spec.rules[{index}].host"), &mut about) else {
            is_whole = false;
            continue;
        };
        let written_paths = rule.http.as_ref().map(|http| http.paths.as_slice()).unwrap_or_default();
        let mut paths = Vec::with_capacity(written_paths.len());
        for (position, path) in written_paths.iter().enumerate() {
            let field = format!("spec.rules[{index}].http.paths[{position}]");
            let path = read_path(path, field, scope.globals.strict_validate_path_type, &mut about);
            match path.filter(|path| !annotations.makes_expression(path.kind, &path.path) || is_expression(path, expressions, &mut about)) {
                Some(path) => paths.push(path),
                None => is_whole = false,
            }
        }
        rules.push(HostRule { host, written: written.into(), paths });
    }
    let (tls, tls_is_whole) = read_tls(key, ingress, &mut about);
    references.secrets.extend(tls.iter().filter_map(|entry| entry.secret.clone()));
    let default_backend = spec.and_then(|spec| spec.default_backend.as_ref()).map(Backend::read);
    let is_catch_all = written_rules.is_empty();
    let reading = Reading { key: key.clone(), annotations, rules, is_catch_all, default_backend, tls };
    Some(Version { reading, is_whole: is_whole && tls_is_whole })
}

fn read_host(written: &str, field: &str, about: &mut About<'_>) -> Option<HostPattern> {
    let read = host::pattern(written);
    if let Err(why) = &read {
        let cure = "Give a DNS name such as app.example.com or *.example.com; this entry is not served.";
        about.error(field, "InvalidHost", format!("the host {} is refused: {why}", quoted(written)), cure);
    }
    read.ok()
}

fn read_path(written: &HTTPIngressPath, field: String, strict: bool, about: &mut About<'_>) -> Option<PathRule> {
    let Some(kind) = PathKind::read(&written.path_type) else {
        let message = format!("{} is no path type", quoted(&written.path_type));
        let cure = "Use Exact, Prefix or ImplementationSpecific; this path is not served.";
        about.error(&format!("{field}.pathType"), "InvalidPathType", message, cure);
        return None;
    };
    if written.path_type.is_empty() {
        let cure = "Served as ImplementationSpecific; an API server refuses the object, so write the type out.";
        about.warning(&format!("{field}.pathType"), "PathTypeMissing", "the path has no type", cure);
    }
    match path::check(kind, written.path.as_deref(), strict) {
        Ok(path) => Some(PathRule { kind, path, backend: Backend::read(&written.backend), field }),
        Err(why) => {
            let message = format!("the path {} is refused: {why}", quoted(written.path.as_deref().unwrap_or_default()));
            let cure = "Correct the path, or use pathType ImplementationSpecific for an expression; this path is not served.";
            about.error(&format!("{field}.path"), "InvalidPath", message, cure);
            None
        }
    }
}

/// Whether a path that must be an expression is one. Those that another Ingress turns into expressions are not this one's fault.
fn is_expression(path: &PathRule, expressions: &mut Expressions, about: &mut About<'_>) -> bool {
    let compiled = expressions.path(&path.path);
    if let Err(why) = &compiled {
        expression::refuse(&path.path, why, &path.field, about);
    }
    compiled.is_ok()
}

fn read_tls(key: &ObjectKey, ingress: &Ingress, about: &mut About<'_>) -> (Vec<TlsEntry>, bool) {
    let written = ingress.spec.as_ref().and_then(|spec| spec.tls.as_deref()).unwrap_or_default();
    let mut is_whole = true;
    let entries = written.iter().enumerate().map(|(index, entry)| {
        let field = format!("spec.tls[{index}]");
        let hosts: Vec<_> = entry.hosts.iter().flatten().enumerate().collect();
        let read = hosts.iter().filter_map(|(position, host)| read_host(host, &format!("{field}.hosts[{position}]"), about));
        let read: Vec<_> = read.filter(|host| *host != HostPattern::Any).collect();
        is_whole &= read.len() == hosts.len();
        let name = entry.secret_name.as_ref().filter(|name| !name.is_empty());
        let secret = name.map(|name| ObjectKey { namespace: key.namespace.clone(), name: name.clone() });
        TlsEntry { hosts: read, secret, field }
    });
    (entries.collect(), is_whole)
}
