//! What a host is like before a number is read from it: each setting that moves figures, whether it does here, and the cure.
//!
//! `tree` reads `/proc` and `/sys` below any directory, so that a test makes up a host from a few files. `processor`, `memory`,
//! `card` and `network` look at what is set, `company` at who else is at work. Nothing is written and nothing is run: turning knobs
//! is the work of `corelane-tune`.

mod card;
mod company;
mod memory;
mod network;
mod processor;
mod tree;

use std::fmt;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use self::company::Moment;
use self::tree::Tree;

/// The script that sets what most findings ask for; `tuning/README.md` has its knobs.
const TUNE: &str = "tuning/corelane-tune";
/// Columns of a value or a cure beyond which it goes on in the next line.
const VALUE_COLUMNS: usize = 34;

/// One setting of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub name: String,
    /// As the kernel tells it.
    pub value: String,
    pub verdict: Verdict,
    /// What to do, in a line; empty where there is nothing to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cure: String,
}

/// What a setting does to figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing worth mentioning.
    Good,
    /// Figures are other than they would be without.
    Matters,
    /// The host does not tell.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Good => "good",
            Self::Matters => "matters",
            Self::Unknown => "unknown",
        })
    }
}

impl Finding {
    fn good(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), verdict: Verdict::Good, cure: String::new() }
    }

    fn matters(name: impl Into<String>, value: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), verdict: Verdict::Matters, cure: cure.into() }
    }

    fn unknown(name: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { name: name.into(), value: "not told".to_owned(), verdict: Verdict::Unknown, cure: cure.into() }
    }

    /// Good where `holds`; else it matters, and this is the cure.
    fn when(holds: bool, name: impl Into<String>, value: impl Into<String>, cure: impl Into<String>) -> Self {
        if holds { Self::good(name, value) } else { Self::matters(name, value, cure) }
    }
}

/// Looks at the host whose `/proc` and `/sys` lie below `root`; `wait` passes the time over which others are watched at work.
///
/// # Errors
/// Where there is no `/proc` to read.
pub fn look(root: &Path, wait: impl FnOnce()) -> io::Result<Vec<Finding>> {
    let tree = Tree::below(root)?;
    let before = Moment::of(&tree);
    wait();
    let after = Moment::of(&tree);
    let mut findings = processor::findings(&tree);
    findings.extend(memory::findings(&tree));
    findings.extend(card::findings(&tree));
    findings.extend(network::findings(&tree));
    findings.extend(company::findings(&tree, &before, &after));
    Ok(findings)
}

/// The findings that are not good, each with what to do.
pub fn remarkable(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.verdict != Verdict::Good).collect()
}

/// The names of those that are, in a line.
pub fn unremarkable(findings: &[Finding]) -> String {
    let good = findings.iter().filter(|finding| finding.verdict == Verdict::Good);
    good.map(|finding| finding.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// All findings in columns, for a terminal.
pub fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let values = wrapped(&finding.value, VALUE_COLUMNS);
        let mut lines = values.iter().map(String::as_str);
        let (first, value_columns) = (lines.next().unwrap_or_default(), VALUE_COLUMNS);
        let line = format!("{:<width$}  {:<7}  {first:<value_columns$}  {}", finding.name, finding.verdict, finding.cure);
        text += line.trim_end();
        text.push('\n');
        for more in lines {
            text += &format!("{:<width$}  {:<7}  {more}\n", "", "");
        }
    }
    text
}

/// Lines of so many columns, broken between words.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::tree::tests::host;
    use super::*;

    /// A tree without /proc is no host, and that is a fault; an almost empty one is a host that tells nothing.
    #[test]
    fn a_host_that_tells_nothing_is_still_looked_at() {
        let nowhere = host("nowhere", &[]);
        assert!(look(nowhere.path(), || {}).is_err());
        let silent = host("silent", &[("proc/stat", "")]);
        let findings = look(silent.path(), || {}).unwrap();
        assert!(findings.len() > 15 && findings.iter().all(|finding| finding.verdict != Verdict::Matters), "{findings:?}");
    }

    /// No finding but a good one is without a cure, whatever the host; no name comes twice.
    #[test]
    fn whatever_is_not_good_has_a_cure() {
        let findings = look(Path::new("/"), || {}).unwrap();
        assert!(remarkable(&findings).iter().all(|finding| !finding.cure.is_empty()), "{findings:?}");
        let mut names: Vec<&str> = findings.iter().map(|finding| finding.name.as_str()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
    }

    /// Every finding has its line with name, verdict and cure, and long values go on below.
    #[test]
    fn a_table_has_a_line_for_each() {
        let long = "a value of many words ".repeat(4);
        let findings = [Finding::good("clock", "tsc"), Finding::matters("cards", long.trim(), "fewer words")];
        let text = text(&findings);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "clock  good     tsc");
        assert!(lines[1].starts_with("cards  matters  a value of many words") && lines[1].ends_with("  fewer words"), "{text}");
        let below: Vec<&str> = lines[2..].iter().filter_map(|line| line.strip_prefix("                ")).collect();
        assert_eq!(below, ["many words a value of many words a", "value of many words"]);
        assert_eq!(unremarkable(&findings), "clock");
        assert_eq!(remarkable(&findings), [&findings[1]]);
    }
}
