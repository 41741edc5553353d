//! Annotations that redirect and rewrite, and those that name hosts.

use std::sync::Arc;

use crate::route::HostPattern;
use crate::snapshot::finding::Severity;
use crate::snapshot::rule::Redirect;
use crate::translate::about::quoted;
use crate::translate::annotations::notes::Notes;
use crate::translate::annotations::notes::Unservable;
use crate::translate::host;
use crate::translate::value;

/// `permanent-redirect` and `temporal-redirect`, which wins.
pub(super) fn redirect(notes: &mut Notes<'_, '_>) -> Result<Option<Redirect>, Unservable> {
    for (name, code, codes, default) in
        [("temporal-redirect", "temporal-redirect-code", 300..=307, 302), ("permanent-redirect", "permanent-redirect-code", 300..=308, 301)]
    {
        let Some(location) = notes.read(name, Some)? else { continue };
        let code = notes.read(code, value::integer)?.and_then(|code| u16::try_from(code).ok());
        let status = code.filter(|code| codes.contains(code)).unwrap_or(default);
        return Ok(Some(Redirect { status, location: location.into() }));
    }
    Ok(None)
}

/// `app-root`: a path of the same host.
pub(super) fn app_root(notes: &mut Notes<'_, '_>) -> Result<Option<String>, Unservable> {
    notes.read("app-root", |path| (path.starts_with('/') && !path.contains('$')).then(|| path.to_owned()))
}

/// `server-alias`: exact names; a wildcard or an expression is left out, and said.
pub(super) fn server_aliases(notes: &mut Notes<'_, '_>) -> Result<Vec<String>, Unservable> {
    let name = "server-alias";
    let Some(list) = notes.read(name, Some)? else { return Ok(Vec::new()) };
    let mut aliases = Vec::new();
    for item in value::list(list) {
        match host::pattern(item) {
            Ok(HostPattern::Exact(host)) => aliases.push(host),
            _ => {
                let message = format!("{} is left out: wildcards and expressions are not supported yet", quoted(item));
                notes.say(Severity::Warning, name, "UnsupportedAnnotation", message, "List the host names themselves.");
            }
        }
    }
    aliases.sort_unstable();
    aliases.dedup();
    Ok(aliases)
}

/// `upstream-vhost`: the Host field the upstream sees.
pub(super) fn upstream_host(notes: &mut Notes<'_, '_>) -> Result<Option<Arc<str>>, Unservable> {
    let name = "upstream-vhost";
    let Some(host) = notes.read(name, |host| Some(host.trim()))? else { return Ok(None) };
    let plain = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    if !plain {
        let message = format!("{} is no plain host; variables and expressions are not supported, the Host stays", quoted(host));
        notes.say(Severity::Warning, name, "UnsupportedAnnotation", message, "Write the host itself, perhaps with a port.");
    }
    Ok(plain.then(|| host.into()))
}
