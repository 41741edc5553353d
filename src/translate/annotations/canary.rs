//! `canary*`: which requests go to the Service of this Ingress instead of the main one.

use crate::snapshot::finding::Severity;
use crate::snapshot::rule::CanaryValue;
use crate::translate::annotations::notes::Notes;
use crate::translate::annotations::notes::Unservable;
use crate::translate::value;

/// Which requests go to the canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanarySpec {
    /// Lower case.
    pub header: Option<String>,
    pub header_value: Option<CanaryValue>,
    pub cookie: Option<String>,
    pub weight: u32,
    pub weight_total: u32,
}

/// The divisor of `canary-weight`; a smaller one is not honoured.
const WEIGHT_TOTAL_DEFAULT: u32 = 100;

/// What a canary Ingress says for itself; everything else it inherits.
const OWN: &[&str] = &[
    "load-balance",
    "upstream-hash-by",
    "upstream-hash-by-subset",
    "upstream-hash-by-subset-size",
    "affinity",
    "affinity-mode",
    "affinity-canary-behavior",
];

/// Whether an annotation of a canary Ingress counts.
pub(super) fn counts(name: &str) -> bool {
    name == "canary" || name.starts_with("canary-") || name.starts_with("session-cookie-") || OWN.contains(&name)
}

/// The canary this Ingress is, if it is one.
pub(super) fn read(notes: &mut Notes<'_, '_>) -> Result<Option<CanarySpec>, Unservable> {
    let enabled = notes.read("canary", value::boolean)?.unwrap_or(false);
    if !enabled {
        if let Some(name) = notes.names().into_iter().find(|name| name.starts_with("canary-")) {
            let message = "it has no effect without canary: \"true\"; the Ingress is served as an ordinary one";
            notes.say(Severity::Warning, name, "AnnotationWithoutEffect", message, "Add canary: \"true\", or remove it.");
        }
        return Ok(None);
    }
    let header = notes.read("canary-by-header", |name| value::is_field_name(name).then(|| name.to_ascii_lowercase()))?;
    let is = notes.read("canary-by-header-value", |text| Some(CanaryValue::Is(text.to_owned())))?;
    // A broken expression sends nobody to the canary who names the header.
    let matches = notes.read("canary-by-header-pattern", |text| Some(value::expression(text)))?;
    if let (Some(None), None) = (&matches, &is) {
        let message = "the expression is broken or too large; requests with the header stay with the main Ingress";
        notes.say(Severity::Error, "canary-by-header-pattern", "InvalidAnnotation", message, "Mend the expression.");
    }
    let header_value = is.or_else(|| matches.map(|pattern| pattern.map_or(CanaryValue::Never, CanaryValue::Matches)));
    let cookie = notes.read("canary-by-cookie", |name| Some(name.to_owned()))?;
    let count = |text| value::integer(text).map(|number| u32::try_from(number.max(0)).unwrap_or(u32::MAX));
    let weight = notes.read("canary-weight", count)?.unwrap_or(0);
    let weight_total = notes.read("canary-weight-total", count)?.unwrap_or(0).max(WEIGHT_TOTAL_DEFAULT);
    Ok(Some(CanarySpec { header, header_value, cookie, weight, weight_total }))
}
