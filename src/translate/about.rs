//! Findings about one object, as they come up.

use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::snapshot::finding::Severity;

/// The object that is being read, and where to say what is found in it.
pub(crate) struct About<'f> {
    kind: &'static str,
    object: &'f ObjectKey,
    findings: &'f mut Vec<Finding>,
}

impl<'f> About<'f> {
    pub(crate) fn new(kind: &'static str, object: &'f ObjectKey, findings: &'f mut Vec<Finding>) -> Self {
        Self { kind, object, findings }
    }

    /// Something is not served as written.
    pub(crate) fn error(&mut self, field: &str, reason: &'static str, message: impl Into<String>, cure: impl Into<String>) {
        self.say(Severity::Error, field, reason, message.into(), cure.into());
    }

    /// Something is served, but not quite as somebody might expect.
    pub(crate) fn warning(&mut self, field: &str, reason: &'static str, message: impl Into<String>, cure: impl Into<String>) {
        self.say(Severity::Warning, field, reason, message.into(), cure.into());
    }

    /// Something worth knowing.
    pub(crate) fn info(&mut self, field: &str, reason: &'static str, message: impl Into<String>, cure: impl Into<String>) {
        self.say(Severity::Info, field, reason, message.into(), cure.into());
    }

    fn say(&mut self, severity: Severity, field: &str, reason: &'static str, message: String, cure: String) {
        let (object, field) = (self.object.clone(), one_line(field.to_owned()));
        let (message, cure) = (one_line(message), one_line(cure));
        self.findings.push(Finding { severity, kind: self.kind, object, field, reason, message, cure });
    }
}

/// What an object wrote, in quotes, short enough for a message and on one line.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text))
}

/// The same without quotes, for names.
pub(crate) fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    let mut short: String = text.chars().take(CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARACTERS_MAX).is_some() {
        short.push_str("...");
    }
    short
}

/// `text` without the control characters that a name in it may hold.
fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    text.chars().flat_map(|character| if character.is_control() { character.escape_default().collect() } else { vec![character] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hostile text stays one short line.
    #[test]
    fn what_objects_write_is_quoted_short() {
        for (text, want) in [
            ("plain", "\"plain\""),
            ("a\r\nb\"c", "\"a\\r\\nb\\\"c\""),
            ("", "\"\""),
            (&"x".repeat(61), &format!("\"{}...\"", "x".repeat(60))),
        ] {
            assert_eq!(quoted(text), want);
        }
    }

    /// Whatever an object is called, a finding is one line.
    #[test]
    fn findings_are_single_lines() {
        for (text, want) in
            [("Service a/b", "Service a/b"), ("Service a/b\r\nc\u{1b}", "Service a/b\\r\\nc\\u{1b}"), ("b\u{fc}", "b\u{fc}")]
        {
            assert_eq!(one_line(text.to_owned()), want);
        }
    }
}
