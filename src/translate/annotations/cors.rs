//! `enable-cors` and its companions.

use crate::snapshot::finding::Severity;
use crate::snapshot::rule::Cors;
use crate::translate::about::quoted;
use crate::translate::annotations::notes::Notes;
use crate::translate::annotations::notes::Unservable;
use crate::translate::value;

const METHODS_DEFAULT: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const HEADERS_DEFAULT: &str = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization";
const MAX_AGE_DEFAULT_S: i64 = 1_728_000;

/// Who may read answers, if the Ingress says so.
pub(super) fn read(notes: &mut Notes<'_, '_>) -> Result<Option<Cors>, Unservable> {
    if notes.read("enable-cors", value::boolean)? != Some(true) {
        return Ok(None);
    }
    let is_method = |method: &str| method.bytes().all(|byte| byte.is_ascii_alphabetic());
    let methods = notes.read("cors-allow-methods", |text| value::list(text).all(is_method).then(|| text.trim().to_owned()))?;
    let headers = notes.read("cors-allow-headers", |text| Some(text.trim().to_owned()))?;
    let is_exposed = |name: &str| name == "*" || value::is_field_name(name);
    let expose_headers = notes.read("cors-expose-headers", |text| value::list(text).all(is_exposed).then(|| text.trim().to_owned()))?;
    let max_age = notes.read("cors-max-age", value::integer)?.unwrap_or(MAX_AGE_DEFAULT_S);
    Ok(Some(Cors {
        origins: origins(notes)?,
        methods: methods.unwrap_or_else(|| METHODS_DEFAULT.to_owned()),
        headers: headers.unwrap_or_else(|| HEADERS_DEFAULT.to_owned()),
        expose_headers,
        credentials: notes.read("cors-allow-credentials", value::boolean)?.unwrap_or(true),
        max_age_s: max_age.max(0).unsigned_abs(),
    }))
}

/// An invalid origin is left out, and with none left nobody may read: a slip of the pen must not mean everybody.
fn origins(notes: &mut Notes<'_, '_>) -> Result<Vec<String>, Unservable> {
    let name = "cors-allow-origin";
    let Some(list) = notes.text(name) else { return Ok(vec!["*".to_owned()]) };
    let mut origins = Vec::new();
    for item in value::list(list) {
        if item == "*" {
            return Ok(vec!["*".to_owned()]);
        } else if is_origin(item) {
            origins.push(item.to_owned());
        } else {
            let message = format!("{} is no origin and is left out", quoted(item));
            notes.say(Severity::Error, name, "InvalidAnnotation", message, "Write scheme://host, perhaps with a port, null or *.");
        }
    }
    Ok(origins)
}

/// `scheme://host`, perhaps with a star for the first label and with a port, or `null`.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return text == "null" };
    let (host, port) = host.split_once(':').map_or((host, "0"), |(host, port)| (host, port));
    !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_lowercase()) && value::host(host).is_some() && port.parse::<u16>().is_ok()
}
