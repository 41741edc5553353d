//! The text of one manifest file to objects, document by document: a bad document never harms its neighbours.

use serde_json::Value;

use crate::control::kinds;
use crate::control::kinds::Kind;
use crate::control::kinds::Visitor;
use crate::snapshot::finding::ObjectKey;
use crate::translate::resources::Resources;

/// What one file says.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) objects: Resources,
    pub(crate) faults: Vec<DocumentFault>,
}

/// Why one document of a file is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DocumentFault {
    /// Position in the file, from 1; empty documents do not count.
    pub(crate) document: usize,
    /// Line of the file, from 1: of the fault where the parser knows it, else of the document.
    pub(crate) line: usize,
    /// Kind and key, where the document says so much.
    pub(crate) object: Option<(&'static str, ObjectKey)>,
    /// Path of the field, empty where the text itself is bad.
    pub(crate) field: String,
    pub(crate) message: String,
    pub(crate) cure: String,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Yaml,
    Json,
}

/// Reads every document of `bytes`.
pub(crate) fn parse(bytes: &[u8], format: Format) -> Parsed {
    let mut parsed = Parsed::default();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            parsed.faults.push(unreadable(1, line, "it is not UTF-8".to_owned()));
            return parsed;
        }
    };
    match format {
        Format::Yaml => parse_yaml(text, &mut parsed),
        Format::Json => parse_json(text, &mut parsed),
    }
    parsed
}

fn parse_yaml(text: &str, parsed: &mut Parsed) {
    let mut number = 0;
    for (first_line, document) in documents(text) {
        let options = serde_saphyr::options! { with_snippet: false };
        let value = serde_saphyr::from_str_with_options::<Value>(document, options);
        if matches!(value, Ok(Value::Null)) {
            continue;
        }
        number += 1;
        match value {
            Ok(value) => Reader { document: number, line: first_line, parsed }.read(value),
            Err(error) => {
                let line = error.location().map_or(first_line, |location| first_line + usize::try_from(location.line()).unwrap_or(1) - 1);
                parsed.faults.push(unreadable(number, line, first_sentence(&error.to_string())));
            }
        }
    }
}

/// Cuts a file at its `---` lines: a marker in column 0 ends a document wherever it stands, so no parser is needed to find it.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let bare = line.trim_end();
        let marker = |mark: &str| bare.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        // Directives stand before the marker and say nothing that matters here.
        let directive = bare.starts_with('%') && text[start..offset].trim().is_empty();
        if marker("---") || marker("...") || directive {
            documents.push((first_line, &text[start..offset]));
            // What follows the marker on its line belongs to the next document.
            let content = if directive { line.len() } else { 3 };
            (start, first_line) = (offset + content, index + 1);
        }
        offset += line.len();
    }
    documents.push((first_line, &text[start..]));
    documents.retain(|(_, document)| document.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')));
    documents
}

fn parse_json(text: &str, parsed: &mut Parsed) {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let (mut number, mut line, mut counted) = (0, 1, 0);
    loop {
        let rest = &text[stream.byte_offset()..];
        let start = text.len() - rest.trim_start().len();
        // Only what is new: a file may hold a document for each of many thousand objects.
        line += text[counted..start].matches('\n').count();
        counted = start;
        number += 1;
        match stream.next() {
            None => return,
            Some(Ok(value)) => Reader { document: number, line, parsed }.read(value),
            Some(Err(error)) => {
                parsed.faults.push(unreadable(number, error.line().max(1), first_sentence(&error.to_string())));
                return;
            }
        }
    }
}

fn unreadable(document: usize, line: usize, message: String) -> DocumentFault {
    let cure = "Correct the text of the file; until then its last good objects are served.".to_owned();
    DocumentFault { document, line, object: None, field: String::new(), message, cure }
}

/// Parsers of text like to draw pictures below their first line; a finding has one line.
fn first_sentence(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it does not parse").to_owned()
}

/// Reads one document that is at least well-formed.
struct Reader<'p> {
    document: usize,
    line: usize,
    parsed: &'p mut Parsed,
}

impl Reader<'_> {
    fn read(&mut self, value: Value) {
        let Value::Object(fields) = &value else {
            return self.fault(None, "", "it is not a mapping".to_owned(), "Write one Kubernetes object in each document.".to_owned());
        };
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if kind.is_empty() || api_version.is_empty() {
            let field = if kind.is_empty() { "kind" } else { "apiVersion" };
            let cure = format!("Set {field}, as in `apiVersion: networking.k8s.io/v1` and `kind: Ingress`.");
            return self.fault(None, field, format!("{field} is missing"), cure);
        }
        if let (Some(item_kind), Some(Value::Array(_))) = (kind.strip_suffix("List"), fields.get("items")) {
            return self.read_list(value, &api_version, item_kind);
        }
        let mut typed = Typed { reader: self, group: group(&api_version), kind: &kind, value: Some(value) };
        kinds::each(&mut typed);
        if typed.value.is_some() {
            tracing::debug!(%api_version, %kind, line = self.line, "a kind that is not read: skipped");
        }
    }

    /// The items of a `List`, or of an `IngressList` and the like, whose items may leave out what the list says.
    fn read_list(&mut self, mut list: Value, api_version: &str, item_kind: &str) {
        let Some(Value::Array(items)) = list.get_mut("items").map(Value::take) else { return };
        for mut item in items {
            if let (Value::Object(fields), false) = (&mut item, item_kind.is_empty()) {
                fields.entry("apiVersion").or_insert_with(|| api_version.into());
                fields.entry("kind").or_insert_with(|| item_kind.into());
            }
            self.read(item);
        }
    }

    fn read_object<K: Kind>(&mut self, value: Value) {
        let key = key::<K>(&value);
        if value["apiVersion"] != K::API_VERSION {
            let message = format!("{} {} is not read", K::KIND, value["apiVersion"].as_str().unwrap_or_default());
            let cure = format!("Use apiVersion {}; until then the last good object is served.", K::API_VERSION);
            return self.fault(key.ok().map(|key| (K::KIND, key)), "apiVersion", message, cure);
        }
        let mut object: K = match serde_path_to_error::deserialize(&value) {
            Ok(object) => object,
            Err(error) => {
                let field = error.path().to_string();
                let message = error.into_inner().to_string();
                let cure = cure::<K>(&message);
                return self.fault(key.ok().map(|key| (K::KIND, key)), &field, message, cure);
            }
        };
        let key = match key {
            Ok(key) => key,
            Err(message) => {
                let cure = "Use lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit.".to_owned();
                return self.fault(None, "metadata.name", message, cure);
            }
        };
        if K::NAMESPACED {
            object.metadata_mut().namespace = Some(key.namespace.clone());
        }
        object.admit();
        let objects = K::of_mut(&mut self.parsed.objects);
        if objects.contains_key(&key) {
            let message = format!("{} {key} stands twice in this file; the first one is served", K::KIND);
            return self.fault(Some((K::KIND, key)), "metadata.name", message, "Remove one of the two documents.".to_owned());
        }
        objects.insert(key, std::sync::Arc::new(object));
    }

    fn fault(&mut self, object: Option<(&'static str, ObjectKey)>, field: &str, message: String, cure: String) {
        let field = if field == "." { String::new() } else { field.to_owned() };
        self.parsed.faults.push(DocumentFault { document: self.document, line: self.line, object, field, message, cure });
    }
}

/// Finds the type of a document: takes the value if its kind is one of ours.
struct Typed<'r, 'p> {
    reader: &'r mut Reader<'p>,
    group: &'r str,
    kind: &'r str,
    value: Option<Value>,
}

impl Visitor for Typed<'_, '_> {
    fn visit<K: Kind>(&mut self) {
        // `extensions/v1beta1` was where Ingress once lived: it is meant, and it gets its finding.
        let ours = self.group == K::GROUP || self.group == "extensions" && K::GROUP == "networking.k8s.io";
        if ours
            && self.kind == K::KIND
            && let Some(value) = self.value.take()
        {
            self.reader.read_object::<K>(value);
        }
    }
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Namespace and name as the document says them, or what is wrong with the name.
fn key<K: Kind>(value: &Value) -> Result<ObjectKey, String> {
    let text = |name: &str| value["metadata"][name].as_str().unwrap_or_default();
    let (name, mut namespace) = (text("name"), text("namespace"));
    if !K::NAMESPACED {
        namespace = "";
    } else if namespace.is_empty() {
        namespace = "default";
    }
    if name.is_empty() {
        return Err("the name is missing".to_owned());
    }
    if let Some(bad) = [name, namespace].into_iter().find(|text| !text.is_empty() && !is_dns_name(text)) {
        return Err(format!("{bad:?} is not a name that an API server accepts"));
    }
    Ok(ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() })
}

/// RFC 1123 as Kubernetes reads it.
fn is_dns_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
        })
}

fn cure<K: Kind>(message: &str) -> String {
    if message.contains("expected a string") && !message.contains("map") && !message.contains("sequence") {
        return "Put the value in quotes.".to_owned();
    }
    format!(
        "Correct the field (`kubectl explain {}` shows what it takes); until then the last good object is served.",
        K::KIND.to_lowercase()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parsed: &Parsed) -> Vec<String> {
        parsed.objects.services.keys().map(ToString::to_string).collect()
    }

    fn service(name: &str) -> String {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}]}}\n")
    }

    /// Documents are told apart wherever a marker stands, and empty ones say nothing.
    #[test]
    fn documents_are_cut_at_their_markers() {
        let (a, b) = (service("a"), service("b"));
        for text in [
            format!("{a}---\n{b}"),
            format!("---\n{a}\n---\n# only a comment\n---\n\n--- # b\n{b}\n...\n"),
            format!("%YAML 1.2\n---\n{a}...\n---\n{b}---\n"),
            format!("\u{feff}{a}---\r\n{b}"),
            format!("{a}--- {{apiVersion: v1, kind: Service, metadata: {{name: b}}, spec: {{}}}}\n"),
        ] {
            let parsed = parse(text.as_bytes(), Format::Yaml);
            assert_eq!((names(&parsed), parsed.faults), (vec!["default/a".to_owned(), "default/b".to_owned()], vec![]), "{text}");
        }
        assert_eq!(parse(b"# nothing\n", Format::Yaml).faults, vec![]);
        assert_eq!(parse(b"", Format::Json).faults, vec![]);
    }

    /// Lists are read item by item, with or without a kind on the items.
    #[test]
    fn a_list_is_its_items() {
        let item = r#"{"metadata": {"name": "a", "namespace": "n"}, "spec": {}}"#;
        let list = format!(r#"{{"apiVersion": "v1", "kind": "ServiceList", "items": [{item}]}}"#);
        let mixed = r#"{"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "n"}, "spec": {}}, {"kind": "X", "apiVersion": "y/v1"}]}"#;
        for text in [list.as_str(), mixed] {
            for format in [Format::Json, Format::Yaml] {
                let parsed = parse(text.as_bytes(), format);
                assert_eq!((names(&parsed), parsed.faults), (vec!["n/a".to_owned()], vec![]), "{text}");
            }
        }
        let two = parse(format!("{mixed}\n{list}").as_bytes(), Format::Json);
        assert_eq!(two.faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [3], "the same object twice, on the third line");
    }

    /// A bad document says where and why, and its neighbours are read.
    #[test]
    fn a_bad_document_harms_nobody() {
        let ok = service("ok");
        let ingress = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: i\n";
        for (bad, line, object, field, message) in [
            ("a: [1\n".to_owned(), 7, None, "", ""),
            ("- 1\n".to_owned(), 5, None, "", "not a mapping"),
            ("kind: Ingress\n".to_owned(), 5, None, "apiVersion", "missing"),
            (format!("{ingress}  annotations: {{a: true}}\n"), 5, Some("i"), "metadata.annotations.a", "expected a string"),
            (format!("{ingress}spec: {{rules: [{{host: 3}}]}}\n"), 5, Some("i"), "spec.rules[0].host", "expected a string"),
            (ingress.replace("/v1", "/v1beta1"), 5, Some("i"), "apiVersion", "v1beta1 is not read"),
            (ingress.replace("networking.k8s.io", "extensions"), 5, Some("i"), "apiVersion", "extensions/v1 is not read"),
            (ingress.replace("name: i", "name: I_"), 5, None, "metadata.name", "not a name"),
        ] {
            let parsed = parse(format!("{ok}---\n{bad}---\n{}", service("after")).as_bytes(), Format::Yaml);
            assert_eq!(names(&parsed), ["default/after", "default/ok"], "{bad}");
            let [fault] = &parsed.faults[..] else { panic!("{bad}: {:?}", parsed.faults) };
            assert_eq!(fault.object.as_ref().map(|(_, key)| key.name.as_str()), object, "{bad}");
            assert_eq!((fault.document, fault.field.as_str()), (2, field), "{bad}");
            assert!(fault.message.contains(message), "{bad}: {}", fault.message);
            assert!(fault.line.abs_diff(line) <= 1, "{bad}: line {}", fault.line);
        }
    }

    /// Kinds that are not read and groups that are not ours are no fault.
    #[test]
    fn foreign_kinds_are_skipped() {
        for (version, kind) in
            [("apps/v1", "Deployment"), ("serving.knative.dev/v1", "Service"), ("gateway.networking.k8s.io/v1", "Gateway")]
        {
            let parsed = parse(format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n").as_bytes(), Format::Yaml);
            assert_eq!((kinds::count(&parsed.objects), parsed.faults), (0, vec![]), "{kind}");
        }
    }

    /// A Secret may be written in plain text, as an API server allows.
    #[test]
    fn string_data_becomes_data() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: b2xk, b: Yg==}\nstringData: {a: new}\n";
        let parsed = parse(text.as_bytes(), Format::Yaml);
        let secret = parsed.objects.secrets.values().next().expect("one Secret");
        let data = secret.data.as_ref().expect("data");
        assert_eq!((data["a"].0.as_slice(), data["b"].0.as_slice(), &secret.string_data), (&b"new"[..], &b"b"[..], &None));
    }

    /// Text that is no text, and text that explodes, is refused in one line.
    #[test]
    fn hostile_text_is_one_fault() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
            + &(b'b'..=b'j')
                .map(|c| format!("{0}: &{0} [{1}]\n", c as char, vec![format!("*{}", (c - 1) as char); 9].join(",")))
                .collect::<String>();
        for bytes in [&b"\xff\xfe"[..], bomb.as_bytes(), "[".repeat(100_000).as_bytes(), b"\t- x: y"] {
            for format in [Format::Yaml, Format::Json] {
                let parsed = parse(bytes, format);
                assert_eq!(parsed.faults.len(), 1);
                assert!(!parsed.faults[0].message.contains('\n'));
            }
        }
    }
}
