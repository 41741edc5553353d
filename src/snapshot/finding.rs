//! What translation has to say about an object, in words that both the control wing and people understand.

use std::fmt;

/// Namespace and name; the namespace of cluster-wide objects is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    /// Served, but not quite as somebody might expect.
    Warning,
    /// Something is not served as written, or a restriction cannot be honoured.
    Error,
}

/// One thing to know about one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// `Ingress`, `Service`, `Secret`, ... and `Manifest` for a file that does not parse (its path is the name of the object).
    pub kind: &'static str,
    pub object: ObjectKey,
    /// Path of the field, as kubectl would print it: `spec.rules[0].http.paths[1].backend.service.name`.
    pub field: String,
    /// CamelCase token, as Event reasons are: `ServiceNotFound`.
    pub reason: &'static str,
    /// One sentence: what is wrong.
    pub message: String,
    /// One sentence: what to do.
    pub cure: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {} {}", self.kind, self.object)?;
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {} ({}) {}", self.message, self.reason, self.cure)
    }
}
