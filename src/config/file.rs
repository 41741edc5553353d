//! The file given with `--config`: YAML with the names of the flags, `_` for `-`.

use std::path::Path;

use crate::config::invocation::Refusal;
use crate::config::settings::Settings;

/// Reads the file.
///
/// # Errors
/// Not to be read, no YAML, a key that does not exist, a value that is refused: with file, line and cure.
pub(super) fn read(path: &Path) -> Result<Settings, Refusal> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Refusal::Config(format!("{}: {error}: name a readable file with --config", path.display())))?;
    parse(&text).map_err(|reason| Refusal::Config(format!("{}:{reason}", path.display())))
}

/// `line: reason`, or the settings.
pub(super) fn parse(text: &str) -> Result<Settings, String> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Settings::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let said = error.without_snippet().to_string();
        format!("{line}: {}", reason(said.split(" at line ").next().unwrap_or_default()))
    })
}

/// What the parser says, in words for whoever wrote the file, with the cure.
fn reason(said: &str) -> String {
    if let Some(key) = said.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
        return format!("there is no setting `{key}`: `corelane help run` lists them all, `-` is written `_` here");
    }
    if let Some(key) = said.strip_prefix("duplicate mapping key: ").and_then(|rest| rest.split(',').next()) {
        return format!("`{key}` is set twice: remove one, a list of values is written [a, b]");
    }
    // Values that were refused say what would be right already.
    if said.starts_with('`') { said.to_owned() } else { format!("{said}: the file holds lines of `name: value` or `name: [value, value]`") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Address;

    /// A value may be written as YAML likes it, and a list of one without brackets.
    #[test]
    fn values_are_taken_by_their_text() {
        let settings = parse(
            "# comment\nhttp: 127.0.0.1:80\nhttps: ['[::1]:443', 127.0.0.1:443]\nshards: 4\ndrain_timeout: '30'\nwatch_ingress_without_class: true\n",
        );
        let settings = settings.expect("valid settings");
        assert_eq!(settings.http, ["127.0.0.1:80".parse::<Address>().expect("an address")]);
        assert_eq!(settings.https.len(), 2);
        assert_eq!(settings.shards, Some("4".parse().expect("a number")));
        assert_eq!(settings.drain_timeout, Some("30".parse().expect("seconds")));
        assert_eq!(settings.watch_ingress_without_class, Some(true));
        assert_eq!(parse(""), Ok(Settings::default()));
        assert_eq!(parse("# nothing\n\n"), Ok(Settings::default()));
    }

    /// A fault names its line, what is wrong, and the cure.
    #[test]
    fn a_fault_names_line_and_cure() {
        for (text, line, words) in [
            ("http: 127.0.0.1:80\nhtpps: x\n", 2, "no setting `htpps`: `corelane help run`"),
            ("admin: 127.0.0.1:0\nadmin: 127.0.0.1:1\n", 2, "`admin` is set twice"),
            ("\n\ndrain_timeout: 5m\n", 3, "`5m` is no number of seconds: write a whole number"),
            ("http:\n- 127.0.0.1:80\n- x\n", 3, "`x` is no address"),
            ("backend_mode: pods\n", 1, "none of nodeport, endpoints, lb-ip"),
            ("http: [127.0.0.1:0\nfoo: [\n", 2, "lines of `name: value`"),
            ("http:\n  a: b\n", 2, "lines of `name: value`"),
            ("admin: [127.0.0.1:0]\n", 1, "lines of `name: value`"),
            ("just text\n", 1, "lines of `name: value`"),
        ] {
            let fault = parse(text).expect_err("a fault");
            assert!(fault.starts_with(&format!("{line}: ")) && fault.contains(words), "{text:?}: {fault}");
        }
    }
}
