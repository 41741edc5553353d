//! docs/annotations.md, written out of the tables and compared with the file.

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
