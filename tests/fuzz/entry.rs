//! What is done with hostile bytes, and what must hold whatever they are; libfuzzer and `tests/fuzz_corpus.rs` both come in here.
//!
//! Every function panics where a promise is broken, and returns where it is kept.
#![allow(dead_code, reason = "each target calls one of them")]

use std::collections::BTreeMap;
use std::sync::Arc;

use corelane::http::body::BodyDecoder;
use corelane::http::body::MalformedBody;
use corelane::http::h1::parse;
use corelane::http::head::Framing;
use corelane::http::head::HeadLimits;
use corelane::http::head::field_storage;
use corelane::http::proxy_protocol;
use corelane::snapshot::certificate::Pair;
use corelane::snapshot::certificate::TicketKeys;
use corelane::snapshot::finding::ObjectKey;
use corelane::snapshot::rule::Action;
use corelane::translate::Memory;
use corelane::translate::Options;
use corelane::translate::Translation;
use corelane::translate::resources::Resources;
use corelane::translate::translate;
use k8s_openapi::api::networking::v1::Ingress;

/// A head is complete at one byte and at no other, its path is one, and no field can end a line.
pub(crate) fn request_head(bytes: &[u8]) {
    let limits = HeadLimits { head_bytes_max: 1024, target_bytes_max: 256 };
    let mut storage = field_storage();
    let Ok(Some(head)) = parse::request(bytes, &mut storage, &limits) else { return };
    assert!(head.bytes <= bytes.len() && head.bytes <= limits.head_bytes_max + 4);
    assert!(*head.path == *b"*" || head.path.starts_with(b"/"), "{:?}", head.path);
    assert!(!head.path.split(|byte| *byte == b'/').any(|segment| segment == b".." || segment == b"."), "{:?}", head.path);
    assert!(!head.host.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0 | b'/' | b'@')), "{:?}", head.host);
    for field in head.fields {
        assert!(!field.name.is_empty() && field.name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'), "{:?}", field.name);
        assert!(!field.value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{:?}", field.value);
    }
    // Content that the head announces must not be what another parser takes for the next request.
    let codings = head.fields.iter().filter(|field| field.name.eq_ignore_ascii_case("transfer-encoding")).count();
    let lengths = head.fields.iter().filter(|field| field.name.eq_ignore_ascii_case("content-length")).count();
    assert!(codings == 0 || lengths == 0, "both framings were let in");
    assert!(codings == 0 || head.framing == Framing::Chunked);

    let complete = head.bytes;
    for cut in 0..complete {
        let mut storage = field_storage();
        let early = parse::request(&bytes[..cut], &mut storage, &limits);
        assert!(matches!(early, Ok(None)), "{cut} of {complete} bytes: {early:?}");
    }
}

/// Chunked content is the same however it is cut: same data, same end, same verdict. What came before a fault may be seen or not.
pub(crate) fn chunk_decoder(bytes: &[u8]) {
    let (data, end, verdict) = decode(bytes, bytes.len().max(1));
    for step in [1, 2, 3, 7] {
        let (stepped, stepped_end, stepped_verdict) = decode(bytes, step);
        assert_eq!((stepped_end, stepped_verdict), (end, verdict), "in steps of {step}");
        assert!(stepped == data || verdict.is_err() && stepped.starts_with(&data), "in steps of {step}: {stepped:?} is not {data:?}");
    }
}

/// The data, the bytes that belonged to the message if it has ended, and whether a rule was broken.
fn decode(bytes: &[u8], step: usize) -> (Vec<u8>, Option<usize>, Result<(), MalformedBody>) {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let (mut data, mut at) = (Vec::new(), 0);
    for part in bytes.chunks(step) {
        let mut rest = part;
        while !rest.is_empty() && !decoder.is_done() {
            let piece = match decoder.feed(rest) {
                Ok(piece) => piece,
                Err(malformed) => return (data, None, Err(malformed)),
            };
            assert!(piece.consumed > 0 && piece.consumed <= rest.len() && piece.data.end <= piece.consumed, "{piece:?}");
            data.extend_from_slice(&rest[piece.data.clone()]);
            rest = &rest[piece.consumed..];
            at += piece.consumed;
        }
        if decoder.is_done() {
            return (data, Some(at), Ok(()));
        }
    }
    (data, None, Ok(()))
}

/// A PROXY header is complete at one byte and at no other, and never longer than what there is.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let Ok(Some(header)) = proxy_protocol::parse(bytes) else { return };
    assert!(header.bytes > 0 && header.bytes <= bytes.len());
    for cut in 0..header.bytes {
        let early = proxy_protocol::parse(&bytes[..cut]);
        assert!(matches!(early, Ok(None)), "{cut} of {} bytes: {early:?}", header.bytes);
    }
    assert_eq!(proxy_protocol::parse(&bytes[..header.bytes]), Ok(Some(header)));
}

/// Whatever a manifest says: it is read and translated, the same each time, and every finding is one line.
pub(crate) fn manifests(bytes: &[u8]) {
    let (objects, _refused) = corelane::control::parse_manifest(bytes);
    let first = translated(&objects);
    let again = translated(&objects);
    assert_eq!(first.findings, again.findings);
    assert_eq!(first.rules, again.rules);
}

/// Whatever the annotations of one Ingress say: the Ingress of another namespace is served as if they were not there.
pub(crate) fn annotations(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let written: BTreeMap<String, String> = text.split('\0').filter_map(|pair| pair.split_once('=')).map(own_and_said).collect();
    let mut objects = neighbour();
    let mut ingress = ingress("hostile", "hostile.example");
    ingress.metadata.annotations = Some(written);
    objects.ingresses.insert(key("hostile"), Arc::new(ingress));
    let translation = translated(&objects);
    let undisturbed = translated(&neighbour());
    assert_eq!(neighbour_rule(&translation), neighbour_rule(&undisturbed));
}

fn own_and_said((name, said): (&str, &str)) -> (String, String) {
    (format!("nginx.ingress.kubernetes.io/{name}"), said.to_owned())
}

fn key(namespace: &str) -> ObjectKey {
    ObjectKey { namespace: namespace.to_owned(), name: "ing".to_owned() }
}

/// One path of one host, to a Service that does not exist: what is asked is whether the rule is there, and its policy.
fn ingress(namespace: &str, host: &str) -> Ingress {
    let text = format!(
        r#"{{"metadata": {{"name": "ing", "namespace": "{namespace}"}}, "spec": {{"ingressClassName": "corelane", "rules": [{{"host": "{host}",
        "http": {{"paths": [{{"path": "/", "pathType": "Prefix", "backend": {{"service": {{"name": "web", "port": {{"number": 80}}}}}}}}]}}}}]}}}}"#
    );
    serde_json::from_str(&text).expect("this is an Ingress")
}

fn neighbour() -> Resources {
    let class = r#"{"metadata": {"name": "corelane"}, "spec": {"controller": "corelane.dev/ingress-controller"}}"#;
    let class_key = ObjectKey { namespace: String::new(), name: "corelane".to_owned() };
    let mut objects = Resources::default();
    objects.ingress_classes.insert(class_key, Arc::new(serde_json::from_str(class).expect("this is an IngressClass")));
    objects.ingresses.insert(key("neighbour"), Arc::new(ingress("neighbour", "neighbour.example")));
    objects
}

fn neighbour_rule(translation: &Translation) -> (Action, String) {
    let rule = translation.rules.iter().find(|rule| &*rule.source.namespace == "neighbour").expect("the neighbour is served");
    (rule.action.clone(), format!("{:?}", rule.policy))
}

fn translated(objects: &Resources) -> Translation {
    let fallback = Arc::new(Pair { source: "none".to_owned(), ..Pair::default() });
    let mut memory = Memory::new(fallback, Arc::new(TicketKeys::from_secrets([7; 32], None)));
    let translation = translate(objects, &Options::default(), &mut memory);
    for finding in &translation.findings {
        let line = finding.to_string();
        assert!(!line.chars().any(|letter| letter.is_control()), "{line:?}");
    }
    translation
}
