//! Annotations about the way upstream: clusters, timeouts, retries.

use crate::snapshot::cluster::Balance;
use crate::snapshot::cluster::Protocol;
use crate::snapshot::finding::Severity;
use crate::snapshot::rule::Retry;
use crate::snapshot::rule::Timeouts;
use crate::translate::annotations::notes::Notes;
use crate::translate::annotations::notes::Unservable;
use crate::translate::config_map::Globals;
use crate::translate::value;

/// What annotations ask of the clusters of an Ingress; two Ingresses that ask differently get clusters of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSpec {
    pub balance: Balance,
    pub protocol: Protocol,
    /// `service-upstream`: the ClusterIP is the only endpoint.
    pub service_upstream: bool,
}

/// `load-balance`, `backend-protocol`, `service-upstream`.
pub(super) fn cluster(notes: &mut Notes<'_, '_>, globals: &Globals) -> Result<ClusterSpec, Unservable> {
    Ok(ClusterSpec {
        balance: notes.read("load-balance", value::balance)?.unwrap_or(globals.balance),
        protocol: protocol(notes)?,
        service_upstream: notes.read("service-upstream", value::boolean)?.unwrap_or(globals.service_upstream),
    })
}

fn protocol(notes: &mut Notes<'_, '_>) -> Result<Protocol, Unservable> {
    let name = "backend-protocol";
    let Some(protocol) = notes.read(name, |text| Some(text.to_ascii_uppercase()))? else { return Ok(Protocol::Http) };
    match protocol.as_str() {
        "HTTPS" => return Ok(Protocol::Https),
        "HTTP" => {}
        "AUTO_HTTP" => {
            let message = "AUTO_HTTP is not supported yet: HTTP is spoken to the upstream";
            notes.say(Severity::Warning, name, "UnsupportedAnnotation", message, "Write HTTP or HTTPS.");
        }
        // HTTP/1.1 to a server that speaks another protocol would only fail in a stranger way.
        other => notes.deny(name, "UnsupportedProtocol", format!("{other} is not supported yet"), "Offer HTTP or HTTPS at the Service."),
    }
    Ok(Protocol::Http)
}

/// `proxy-connect-timeout`, `proxy-read-timeout`, `proxy-send-timeout`.
pub(super) fn timeouts(notes: &mut Notes<'_, '_>, default: Timeouts) -> Result<Timeouts, Unservable> {
    Ok(Timeouts {
        connect: notes.read("proxy-connect-timeout", value::seconds)?.unwrap_or(default.connect),
        read: notes.read("proxy-read-timeout", value::seconds)?.unwrap_or(default.read),
        send: notes.read("proxy-send-timeout", value::seconds)?.unwrap_or(default.send),
    })
}

/// `proxy-next-upstream` and its bounds.
pub(super) fn retry(notes: &mut Notes<'_, '_>, default: Retry) -> Result<Retry, Unservable> {
    let conditions = notes.read("proxy-next-upstream", |text| value::retry_conditions(text, default))?.unwrap_or(default);
    Ok(Retry {
        tries: notes.read("proxy-next-upstream-tries", value::tries)?.unwrap_or(default.tries),
        timeout: notes.read("proxy-next-upstream-timeout", value::seconds_or_zero)?.unwrap_or(default.timeout),
        // Whoever may repeat everything by the global setting may repeat it here.
        non_idempotent: conditions.non_idempotent || default.non_idempotent,
        ..conditions
    })
}

/// `proxy-body-size`; `None` is no bound.
pub(super) fn body_bytes_max(notes: &mut Notes<'_, '_>, default: Option<u64>) -> Result<Option<u64>, Unservable> {
    let Some(bytes) = notes.read("proxy-body-size", value::size)? else { return Ok(default) };
    Ok((bytes > 0).then_some(bytes))
}
