//! What is said about annotations that are not simply honoured: unknown, too risky, unsupported, refused.

use crate::snapshot::finding::Severity;
use crate::translate::about::quoted;
use crate::translate::annotations::notes::Notes;
use crate::translate::annotations::notes::Unservable;
use crate::translate::annotations::table;
use crate::translate::annotations::table::Entry;
use crate::translate::annotations::table::Support;
use crate::translate::value;
use crate::translate::value::Risk;

/// Values that ask for nothing, beside a boolean that is off.
const IDLE: &[(&str, &str)] = &[
    ("proxy-http-version", "1.1"),
    ("proxy-cookie-domain", "off"),
    ("proxy-cookie-path", "off"),
    ("proxy-redirect-from", "off"),
    ("proxy-redirect-from", "default"),
    ("limit-rate", "0"),
    ("connection-proxy-header", "keep-alive"),
];

/// Directives of a snippet that restrict nobody: they set response fields, or tune what Corelane sizes itself.
const HARMLESS: &[&str] = &[
    "add_header",
    "charset",
    "chunked_transfer_encoding",
    "client_body_buffer_size",
    "client_body_timeout",
    "client_header_buffer_size",
    "client_max_body_size",
    "etag",
    "expires",
    "gzip",
    "gzip_comp_level",
    "gzip_min_length",
    "gzip_proxied",
    "gzip_types",
    "gzip_vary",
    "keepalive_timeout",
    "large_client_header_buffers",
    "more_clear_headers",
    "more_set_headers",
    "proxy_buffer_size",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_connect_timeout",
    "proxy_max_temp_file_size",
    "proxy_pass_header",
    "proxy_read_timeout",
    "proxy_request_buffering",
    "proxy_send_timeout",
    "send_timeout",
    "tcp_nodelay",
    "underscores_in_headers",
];

/// Says what must be said about each annotation that the readers do not read.
///
/// # Errors
/// [`Unservable`] for one above `risk_max`, or invalid where the table says so.
pub(super) fn screen(notes: &mut Notes<'_, '_>, risk_max: Risk) -> Result<(), Unservable> {
    for name in notes.names() {
        let Some(entry) = Entry::find(name) else {
            unknown(notes, name);
            continue;
        };
        // Snippets, the only critical ones, are looked at by what they would do.
        if entry.risk > risk_max && entry.support != Support::Snippet {
            let message = format!("its risk is {:?}, above annotations-risk-level; the Ingress is not served", entry.risk);
            notes.say(Severity::Error, name, "RiskyAnnotation", message, "Remove it, or raise annotations-risk-level in the ConfigMap.");
            return Err(Unservable);
        }
        let text = notes.text(name).unwrap_or_default();
        if entry.support != Support::Honoured && !entry.kind.accepts(text) {
            notes.invalid(entry)?;
        } else {
            speak_of(notes, entry, text);
        }
    }
    verify_upstream(notes);
    Ok(())
}

fn speak_of(notes: &mut Notes<'_, '_>, entry: &Entry, text: &str) {
    let name = entry.name;
    let idle = value::boolean(text) == Some(false) || IDLE.contains(&(name, text));
    match entry.support {
        Support::Honoured | Support::NoEffect | Support::Companion(_) => {}
        Support::NotYet | Support::Restriction if idle => {}
        Support::NotYet => {
            let message = format!("{name} is not supported yet and has no effect: {}", entry.note);
            notes.say(Severity::Warning, name, "UnsupportedAnnotation", message, "Remove it once nothing depends on it.");
        }
        Support::Restriction if name == "auth-tls-secret" => {
            notes.say(Severity::Error, name, "UnsupportedRestriction", entry.note, "Verify clients in the application, and remove it.");
            notes.refuse(403);
        }
        Support::Restriction => {
            let cure = "Restrict access by other means, and remove the annotation.";
            notes.deny(name, "UnsupportedRestriction", format!("{name} restricts access and is not supported yet"), cure);
        }
        Support::Snippet => snippet(notes, name, text),
    }
}

fn unknown(notes: &mut Notes<'_, '_>, name: &str) {
    let shown = quoted(name);
    if let Some(cure) = table::replacement(name) {
        notes.say(Severity::Warning, name, "RemovedAnnotation", format!("{shown} no longer exists and has no effect"), cure);
        return;
    }
    let cure = match table::nearest(name) {
        Some(near) => format!("Write {near} if that is meant, else remove it."),
        None => "Remove it.".to_owned(),
    };
    notes.say(Severity::Warning, name, "UnknownAnnotation", format!("{shown} is not known and has no effect"), cure);
}

/// A snippet is never run; one that may restrict access refuses every request instead.
fn snippet(notes: &mut Notes<'_, '_>, name: &str, text: &str) {
    let foreign = match directives(text) {
        _ if name == "stream-snippet" || name == "modsecurity-snippet" => Some("its whole language".to_owned()),
        Some(directives) => directives.into_iter().find(|directive| !HARMLESS.contains(directive)).map(quoted),
        None => Some("a quote that never ends".to_owned()),
    };
    match foreign {
        None => {
            let message = format!("{name} is never run; what it sets is not set");
            notes.say(Severity::Error, name, "SnippetRefused", message, "Use the annotation or ConfigMap key for it, or set it upstream.");
        }
        Some(directive) => {
            let message = format!("{name} is never run, and {directive} in it may restrict access");
            notes.deny(name, "SnippetRefused", message, "Replace the snippet by annotations, and remove it.");
        }
    }
}

/// The first word of each statement, as nginx reads them: a quote or a comment begins only where a word does, and a brace opens
/// statements of its own. `None` where a quote never ends, so that nobody can say what the rest is.
fn directives(text: &str) -> Option<Vec<&str>> {
    let (mut found, mut first) = (Vec::new(), None);
    let (mut quote, mut escaped, mut in_comment, mut in_word) = (None, false, false, false);
    for (index, letter) in text.char_indices() {
        if in_comment {
            in_comment = letter != '\n';
        } else if let Some(open) = quote {
            if letter == open && !escaped {
                quote = None;
            }
            escaped = letter == '\\' && !escaped;
        } else if matches!(letter, ';' | '{' | '}') {
            found.extend(first.take().map(|start| &text[start..index]));
            in_word = false;
        } else if letter.is_ascii_whitespace() {
            in_word = false;
        } else if !in_word && letter == '#' {
            in_comment = true;
        } else {
            first = first.or(Some(index));
            quote = Some(letter).filter(|letter| !in_word && matches!(letter, '"' | '\''));
            in_word = true;
        }
    }
    found.extend(first.map(|start| &text[start..]));
    quote.is_none().then(|| found.into_iter().map(|statement| statement.split_ascii_whitespace().next().unwrap_or_default()).collect())
}

/// `proxy-ssl-verify: on` promises a check that is not made; without `proxy-ssl-secret` ingress-nginx makes none either.
fn verify_upstream(notes: &mut Notes<'_, '_>) {
    let name = "proxy-ssl-verify";
    if notes.text(name) != Some("on") {
        return;
    }
    if notes.text("proxy-ssl-secret").is_some() {
        let cure = "Remove it, if the way to the upstream is trusted.";
        notes.deny(name, "UnsupportedRestriction", "certificates of upstreams are not verified yet", cure);
    } else {
        let message = "it has no effect without proxy-ssl-secret: the certificate of the upstream is not verified";
        notes.say(Severity::Warning, name, "AnnotationWithoutEffect", message, "Name a Secret with ca.crt in proxy-ssl-secret.");
    }
}
