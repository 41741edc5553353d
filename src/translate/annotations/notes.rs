//! The annotations of one Ingress while they are read: what they say, what is found, and whether they end in a refusal.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::Ingress;

use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::snapshot::finding::Severity;
use crate::snapshot::rule::FixedAnswer;
use crate::translate::about::quoted;
use crate::translate::about::shown;
use crate::translate::annotations::kind::Kind;
use crate::translate::annotations::table::Entry;
use crate::translate::annotations::table::Invalid;
use crate::translate::annotations::table::Support;

/// The prefix that works whatever the operator chose.
const OWN_PREFIX: &str = "corelane.dev";

/// A value forbids to serve the whole Ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unservable;

/// One annotation as it stands in the object.
#[derive(Clone, Copy)]
struct Note<'r> {
    /// With its prefix.
    full_name: &'r str,
    text: &'r str,
    /// Whether a reader has asked for it.
    read: bool,
}

/// The annotations of one Ingress.
pub(super) struct Notes<'r, 'f> {
    ingress: &'r ObjectKey,
    /// By name without prefix; an empty value is an absent annotation.
    notes: BTreeMap<&'r str, Note<'r>>,
    findings: &'f mut Vec<Finding>,
    /// The first refusal: one answer is enough.
    pub(super) denied: Option<FixedAnswer>,
}

impl<'r, 'f> Notes<'r, 'f> {
    /// Everything below `prefix` and below Corelane's own, which wins.
    pub(super) fn of(ingress: &'r ObjectKey, object: &'r Ingress, prefix: &str, findings: &'f mut Vec<Finding>) -> Self {
        let mut notes = BTreeMap::new();
        let all = object.metadata.annotations.as_ref();
        for wanted in [prefix, OWN_PREFIX] {
            for (full_name, text) in all.into_iter().flatten() {
                let name = full_name.strip_prefix(wanted).and_then(|rest| rest.strip_prefix('/'));
                if let Some(name) = name.filter(|_| !text.is_empty()) {
                    notes.insert(name, Note { full_name, text, read: false });
                }
            }
        }
        Self { ingress, notes, findings, denied: None }
    }

    /// All names, in order.
    pub(super) fn names(&self) -> Vec<&'r str> {
        self.notes.keys().copied().collect()
    }

    /// Keeps only what `wanted` says.
    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.notes.retain(|name, _| wanted(name));
    }

    /// The value as written.
    pub(super) fn text(&self, name: &str) -> Option<&'r str> {
        self.notes.get(name).map(|note| note.text)
    }

    /// The name under which a value stands that has two.
    pub(super) fn either(&self, name: &'static str, older: &'static str) -> &'static str {
        if self.notes.contains_key(name) { name } else { older }
    }

    /// A value whose form the table says and that `parse` understands; `None` where it is absent, or invalid and its default holds.
    ///
    /// # Errors
    /// [`Unservable`] where the table says so of an invalid value.
    pub(super) fn read<T>(&mut self, name: &'static str, parse: impl FnOnce(&'r str) -> Option<T>) -> Result<Option<T>, Unservable> {
        let Some(note) = self.notes.get_mut(name) else { return Ok(None) };
        note.read = true;
        let text = note.text;
        let entry = Entry::find(name).expect("what is read stands in the table");
        let text = if matches!(entry.kind, Kind::Bool | Kind::Integer) { text } else { text.trim_matches(' ') };
        if entry.kind.accepts(text)
            && let Some(value) = parse(text)
        {
            return Ok(Some(value));
        }
        self.invalid(entry)?;
        Ok(None)
    }

    /// Says that a value is invalid, and does what the table says of such.
    ///
    /// # Errors
    /// [`Unservable`] where the table says so.
    pub(super) fn invalid(&mut self, entry: &'static Entry) -> Result<(), Unservable> {
        let text = self.text(entry.name).map(quoted).unwrap_or_default();
        let outcome = match entry.invalid {
            Invalid::Fallback => "its default holds",
            Invalid::Unservable => "the Ingress is not served",
            Invalid::Denied => "every request is refused with 503",
        };
        let wants = entry.kind.wants();
        let message = format!("{text} is not {wants}; {outcome}");
        self.say(Severity::Error, entry.name, "InvalidAnnotation", message, format!("Write {wants}, or remove the annotation."));
        match entry.invalid {
            Invalid::Fallback => Ok(()),
            Invalid::Unservable => Err(Unservable),
            Invalid::Denied => {
                self.refuse(503);
                Ok(())
            }
        }
    }

    /// Says which values are invalid though nobody asked for them, so that they do not break what switches them on later.
    pub(super) fn speak_of_unread(&mut self) {
        let unread: Vec<_> = self.notes.iter().filter(|(_, note)| !note.read).map(|(name, note)| (*name, note.text)).collect();
        for (name, text) in unread {
            let Some(entry) = Entry::find(name).filter(|entry| entry.support == Support::Honoured) else { continue };
            if !entry.kind.accepts(text) {
                let wants = entry.kind.wants();
                let message = format!("{} is not {wants}; it has no effect here", quoted(text));
                self.say(Severity::Warning, name, "InvalidAnnotation", message, format!("Write {wants}, or remove the annotation."));
            }
        }
    }

    /// Refuses every request, and says why.
    pub(super) fn deny(&mut self, name: &str, reason: &'static str, message: impl Into<String>, cure: impl Into<String>) {
        let message = format!("{}; every request is refused with 503", message.into());
        self.say(Severity::Error, name, reason, message, cure);
        self.refuse(503);
    }

    /// Refuses every request.
    pub(super) fn refuse(&mut self, status: u16) {
        self.denied.get_or_insert(FixedAnswer { status, reason: "denied_by_annotation" });
    }

    /// Adds a finding about one annotation.
    pub(super) fn say(
        &mut self,
        severity: Severity,
        name: &str,
        reason: &'static str,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) {
        let full_name = self.notes.get(name).map_or(name, |note| note.full_name);
        self.findings.push(Finding {
            severity,
            kind: "Ingress",
            object: self.ingress.clone(),
            // A name comes from outside too; the API server bounds it, a manifest does not.
            field: format!("metadata.annotations[{}]", shown(full_name)),
            reason,
            message: message.into(),
            cure: cure.into(),
        });
    }
}
