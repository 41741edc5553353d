//! Annotations that say who may pass, and how often.

use std::sync::Arc;

use ipnet::IpNet;

use crate::snapshot::finding::ObjectKey;
use crate::snapshot::rule::BasicAuth;
use crate::snapshot::rule::Policy;
use crate::snapshot::rule::RateLimit;
use crate::translate::about::quoted;
use crate::translate::annotations::notes::Notes;
use crate::translate::annotations::notes::Unservable;
use crate::translate::config_map::Globals;
use crate::translate::references::References;
use crate::translate::resources::Resources;
use crate::translate::secret;
use crate::translate::secret::UserForm;
use crate::translate::value;

/// Largest rate and number of connections; above it a limit is none.
const LIMIT_MAX: i64 = 1_000_000;
/// Largest `limit-burst-multiplier`.
const BURST_MAX: i64 = 1000;
const BURST_DEFAULT: i64 = 5;

/// `allowlist-source-range`, `denylist-source-range` and `satisfy`, over the global lists.
pub(super) fn addresses(notes: &mut Notes<'_, '_>, policy: &mut Policy) -> Result<(), Unservable> {
    let allow = notes.either("allowlist-source-range", "whitelist-source-range");
    if let Some(ranges) = notes.read(allow, value::ranges)? {
        policy.allow = ranges.into();
        // An own list replaces the global one, broken or not.
        policy.denied = None;
    }
    if let Some(ranges) = notes.read("denylist-source-range", value::ranges)? {
        policy.deny = ranges.into();
    }
    policy.satisfy_any = notes.read("satisfy", |text| Some(text == "any"))?.unwrap_or(false);
    Ok(())
}

/// `auth-type: basic` and its Secret; what is missing or broken refuses everybody.
pub(super) fn basic_auth(
    notes: &mut Notes<'_, '_>,
    ingress: &ObjectKey,
    resources: &Resources,
    globals: &Globals,
    references: &mut References,
) -> Result<Option<Arc<BasicAuth>>, Unservable> {
    let Some(kind) = notes.read("auth-type", Some)? else { return Ok(None) };
    if kind == "digest" {
        let cure = "Use auth-type: basic, over https.";
        notes.deny("auth-type", "UnsupportedRestriction", "digest authentication is not supported", cure);
        return Ok(None);
    }
    let form = notes.read("auth-secret-type", |text| Some(if text == "auth-map" { UserForm::Map } else { UserForm::File }))?;
    let realm = notes.read("auth-realm", |text| Some(text.trim().to_owned()))?.unwrap_or_default();
    let Some(name) = reference(notes, "auth-secret", ingress, globals)? else { return Ok(None) };
    references.secrets.insert(name.clone());
    let Some(secret) = resources.secrets.get(&name) else {
        notes.deny("auth-secret", "SecretNotFound", format!("the Secret {name} does not exist"), "Create it, or name another.");
        return Ok(None);
    };
    match secret::users(form.unwrap_or(UserForm::File), secret) {
        Ok(users) => Ok(Some(Arc::new(BasicAuth { realm, users }))),
        Err(bad) => {
            notes.deny("auth-secret", bad.reason, format!("the Secret {name}, {}: {}", bad.field, bad.message), bad.cure);
            Ok(None)
        }
    }
}

/// The object that an annotation names, as `name` or `namespace/name`; whatever forbids its use refuses everybody.
pub(super) fn reference(
    notes: &mut Notes<'_, '_>,
    annotation: &'static str,
    ingress: &ObjectKey,
    globals: &Globals,
) -> Result<Option<ObjectKey>, Unservable> {
    let Some(text) = notes.read(annotation, |text| Some(text.trim()))? else {
        if notes.text(annotation).is_none() {
            notes.deny(annotation, "AnnotationMissing", format!("{annotation} is missing"), format!("Add {annotation}."));
        }
        return Ok(None);
    };
    let (namespace, name) = text.split_once('/').unwrap_or((&ingress.namespace, text));
    if !value::is_object_name(namespace) || !value::is_object_name(name) {
        let message = format!("{} is no name of an object", quoted(text));
        notes.deny(annotation, "InvalidAnnotation", message, "Write name, or namespace/name.");
        return Ok(None);
    }
    if namespace != ingress.namespace && !globals.allow_cross_namespace {
        let message = format!("{text} lies in another namespace");
        let cure = "Name an object of the same namespace, or allow it with allow-cross-namespace-resources in the ConfigMap.";
        notes.deny(annotation, "CrossNamespaceReference", message, cure);
        return Ok(None);
    }
    Ok(Some(ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() }))
}

/// `limit-rps`, `limit-rpm`, `limit-connections`; all paths of the Ingress share one count.
pub(super) fn rate_limit(notes: &mut Notes<'_, '_>, ingress: &ObjectKey, globals: &Globals) -> Result<Option<Arc<RateLimit>>, Unservable> {
    let requests_per_second = limit(notes, "limit-rps")?;
    let requests_per_minute = limit(notes, "limit-rpm")?;
    let connections = limit(notes, "limit-connections")?;
    let burst = notes.read("limit-burst-multiplier", |text| value::integer(text).filter(|burst| *burst >= 0))?.unwrap_or(BURST_DEFAULT);
    let exempt: Vec<IpNet> = notes.read(notes.either("limit-allowlist", "limit-whitelist"), value::ranges)?.unwrap_or_default();
    if requests_per_second.is_none() && requests_per_minute.is_none() && connections.is_none() {
        return Ok(None);
    }
    Ok(Some(Arc::new(RateLimit {
        key: ingress.to_string().into(),
        requests_per_second,
        requests_per_minute,
        connections,
        burst_multiplier: burst.min(BURST_MAX) as u32,
        exempt,
        request_status: globals.limit_req_status,
        connection_status: globals.limit_conn_status,
    })))
}

/// One limit; zero is none.
fn limit(notes: &mut Notes<'_, '_>, name: &'static str) -> Result<Option<u32>, Unservable> {
    let limit = notes.read(name, |text| value::integer(text).filter(|limit| *limit >= 0))?.unwrap_or(0);
    Ok((limit > 0).then_some(limit.min(LIMIT_MAX) as u32))
}
