//! docs/annotations.md, written out of the tables and compared with the file.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use crate::snapshot::finding::Severity;
use crate::translate::annotations::table::Entry;
use crate::translate::annotations::table::GROUPS;
use crate::translate::annotations::table::Invalid;
use crate::translate::annotations::table::Support;
use crate::translate::annotations::table::Tier;
use crate::translate::config_map::keys::Effect;
use crate::translate::config_map::keys::KEYS;

const HEAD: &str = "\
# Annotations and global settings

Written by `CORELANE_BLESS=1 cargo test the_page_says_what_the_table_says` out of the tables in `src/translate`; edit those.

Annotations stand under `nginx.ingress.kubernetes.io/` (another prefix with `--annotations-prefix`) or under `corelane.dev/`, which wins.
An empty value is an absent annotation. `corelane check` names every annotation that is not served as written, and exits with 1 if
one of them is a restriction that cannot be honoured.

- **yes**: as in ingress-nginx. **no effect**: accepted, Corelane needs no such knob. **not yet**: served without it, with a warning.
- **refuses**: it restricts access and cannot be honoured, so every request is refused until it is removed.
- **part of**: counts with another annotation, and is as good as that one.
- An invalid value: **default** keeps the default, **refused** refuses every request with 503, **unserved** leaves the whole Ingress
  unserved. All three are errors of `corelane check`.
";

const SETTINGS: &str = "
## Global settings

Keys of the ConfigMap named with `--configmap`. A bad value keeps the default and is an error of `corelane check`; of a list that
restricts, the good items hold.

";

const REASONS: &[(&str, &str)] = &[
    ("AnnotationMissing", "an annotation needs another that is not there"),
    ("AnnotationWithoutEffect", "an annotation does nothing without another"),
    ("ConfigMapNotFound", "`custom-headers` names a ConfigMap that does not exist"),
    ("CrossNamespaceReference", "an object of another namespace is named, and `allow-cross-namespace-resources` is not set"),
    ("FieldNotAllowed", "a field of `custom-headers` is not listed in `global-allowed-response-headers`"),
    ("InvalidAnnotation", "the value has not the form that the tables above show"),
    ("InvalidField", "a field of `custom-headers` has a name or a value that no message may carry"),
    ("InvalidValue", "a key of the ConfigMap has a value that is none"),
    ("RemovedAnnotation", "the name is gone from ingress-nginx; the cure names its successor"),
    ("RiskyAnnotation", "the annotation is riskier than `annotations-risk-level` allows"),
    ("SecretNotFound", "`auth-secret` names a Secret that does not exist"),
    ("SnippetRefused", "a snippet is there; it is never run"),
    ("UnknownAnnotation", "the name is not known; the cure names the nearest that is"),
    ("UnknownKey", "the ConfigMap has a key that is not known"),
    ("UnsupportedAnnotation", "the annotation is not honoured yet, or not this value of it"),
    ("UnsupportedKey", "the key of the ConfigMap is not honoured yet"),
    ("UnsupportedProtocol", "`backend-protocol` names one that is not spoken yet"),
    ("UnsupportedRestriction", "a restriction cannot be honoured: every request is refused"),
];

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (title, entries) in GROUPS {
        let _ = write!(page, "\n## {title}\n\n| annotation | tier | value | served | invalid | |\n|---|---|---|---|---|---|\n");
        for entry in *entries {
            page += &row(entry);
        }
    }
    page += SETTINGS;
    page += "| key | value | served |\n|---|---|---|\n";
    for key in KEYS {
        let (value, served) = match key.effect {
            Effect::Set(_) => (key.wants, "yes"),
            Effect::Restrict(_) => (key.wants, "yes; its good items hold"),
            Effect::Deny => ("a URL", "refuses every Ingress without `enable-global-auth: \"false\"`"),
            Effect::Nothing => ("", "no effect"),
            Effect::NotYet(Severity::Error) => ("", "not yet: an error"),
            Effect::NotYet(_) => ("", "not yet"),
        };
        let _ = writeln!(page, "| `{}` | {value} | {served} |", key.name);
    }
    page += "\n## Reasons of findings\n\nThose of Secrets stand in [INGRESS.md](INGRESS.md).\n\n| reason | meaning |\n|---|---|\n";
    for (reason, meaning) in REASONS {
        let _ = writeln!(page, "| `{reason}` | {meaning} |");
    }
    page
}

fn row(entry: &Entry) -> String {
    let tier = match entry.tier {
        Tier::MustHave => "must",
        Tier::Common => "common",
        Tier::Rare => "rare",
        Tier::Unsafe => "unsafe",
    };
    let served = match entry.support {
        Support::Honoured => "yes".to_owned(),
        Support::NoEffect => "no effect".to_owned(),
        Support::NotYet => "not yet".to_owned(),
        Support::Companion(main) => format!("part of `{main}`"),
        Support::Restriction | Support::Snippet => "refuses".to_owned(),
    };
    let invalid = match entry.invalid {
        _ if entry.support == Support::Snippet => "",
        Invalid::Fallback => "default",
        Invalid::Unservable => "unserved",
        Invalid::Denied => "refused",
    };
    // A pipe would end the cell.
    let wants = entry.kind.wants().replace('|', "\\|");
    format!("| `{}` | {tier} | {wants} | {served} | {invalid} | {} |\n", entry.name, entry.note)
}

/// The page for people says what the tables say.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test that writes its own expectation asks whether it should")]
fn the_page_says_what_the_table_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/annotations.md");
    if std::env::var("CORELANE_BLESS").is_ok() {
        std::fs::write(&file, page()).expect("docs/annotations.md can be written");
    }
    let written = std::fs::read_to_string(&file).expect("docs/annotations.md can be read");
    assert!(written == page(), "docs/annotations.md is out of date: CORELANE_BLESS=1 cargo test the_page_says_what_the_table_says");
}

/// Every reason that these files give is explained, and no other.
#[test]
fn the_page_names_every_reason() {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/translate");
    let mut given = BTreeSet::new();
    for folder in ["annotations", "config_map"] {
        for file in std::fs::read_dir(room.join(folder)).expect("a folder") {
            let path = file.expect("a file").path();
            if path.ends_with("docs.rs") || path.ends_with("tests.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a file");
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            given.extend(code.split('"').filter(|word| is_reason(word)).map(str::to_owned));
        }
    }
    let explained: BTreeSet<_> = REASONS.iter().map(|(reason, _)| (*reason).to_owned()).collect();
    assert_eq!(given, explained);
}

/// A CamelCase word that is not the name of a kind.
fn is_reason(word: &str) -> bool {
    let capitals = word.bytes().filter(u8::is_ascii_uppercase).count();
    word.bytes().all(|byte| byte.is_ascii_alphabetic()) && capitals > 1 && capitals * 2 < word.len() && word != "ConfigMap"
}
