//! The commands that look and end: what a set of objects amounts to, why a request would go where, and what this program is.

use crate::boot::failure::Failure;
use crate::control;
use crate::explain::Output;
use crate::explain::Ports;
use crate::explain::Question;
use crate::snapshot::finding::Finding;
use crate::snapshot::finding::Severity;

/// Prints every finding about the objects.
///
/// # Errors
/// The source cannot be read, or a finding is an error.
pub fn check(config: &control::Config, output: Output) -> Result<(), Failure> {
    let overview = control::load_once(config)?;
    let errors = overview.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    print(&match output {
        Output::Json => json(&*overview.findings)?,
        Output::Text => findings_text(&overview.findings, errors),
    });
    if errors == 0 { Ok(()) } else { Err(Failure::general(String::new())) }
}

/// Explains a request against objects that are read once.
///
/// # Errors
/// The source cannot be read, or the question is no request.
pub fn explain(config: &control::Config, question: &Question, output: Output) -> Result<(), Failure> {
    let overview = control::load_once(config)?;
    let explanation = crate::explain::explain(&overview, question, Ports::default()).map_err(Failure::general)?;
    print(&match output {
        Output::Json => json(&explanation)?,
        Output::Text => explanation.to_string(),
    });
    Ok(())
}

/// Prints what this program is.
pub fn version() {
    let commit = option_env!("CORELANE_COMMIT").unwrap_or("unknown");
    let version = env!("CARGO_PKG_VERSION");
    print(&format!("corelane {version}\ncommit {commit}\nfeatures http1 tls1.2 tls1.3 ingress\ncrypto aws-lc-rs\n"));
}

fn findings_text(findings: &[Finding], errors: usize) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&finding.to_string());
        text.push('\n');
    }
    let warnings = findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
    text.push_str(&format!("{errors} errors, {warnings} warnings\n"));
    text
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| Failure::general(format!("cannot write JSON: {error}")))?;
    text.push('\n');
    Ok(text)
}

/// Writes to stdout; a reader that has gone (`| head`) is no failure.
pub(crate) fn print(text: &str) {
    let _closed = std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes());
}
