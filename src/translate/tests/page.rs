//! The page for people says what the code says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Words of the same form that are no reasons: kinds, and values of fields.
const KUBERNETES: [&str; 10] = [
    "ClusterIP",
    "EndpointSlice",
    "ExternalName",
    "ImplementationSpecific",
    "IngressClass",
    "InternalIP",
    "LoadBalancer",
    "NetworkUnavailable",
    "NodePort",
    "ToBeDeletedByClusterAutoscaler",
];

/// CamelCase words in quotes: reasons of findings, as the code writes them.
fn reasons_in(text: &str) -> impl Iterator<Item = &str> {
    let is_reason = |word: &&str| {
        word.len() > 8
            && word.starts_with(|first: char| first.is_ascii_uppercase())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && word.bytes().filter(u8::is_ascii_uppercase).count() > 1
    };
    text.split('"').filter(is_reason)
}

/// Every reason that a file of this room gives stands in docs/INGRESS.md; those of annotations have a page of their own.
#[test]
fn the_page_names_every_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/INGRESS.md")).expect("the page");
    let mut missing = BTreeSet::new();
    for entry in fs::read_dir(root.join("src/translate")).expect("the room") {
        let path = entry.expect("an entry").path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let said = reasons_in(code).filter(|word| !KUBERNETES.contains(word));
        missing.extend(said.filter(|reason| !page.contains(&format!("`{reason}`"))).map(|reason| format!("{}: {reason}", path.display())));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
