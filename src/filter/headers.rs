//! The heads that go up and down, and the answers of our own: one pass over the fields, one serialiser.

use std::net::IpAddr;

use crate::filter::answer::Answer;
use crate::filter::facts::Facts;
use crate::filter::response::AnswerTo;
use crate::filter::response::BodyKind;
use crate::filter::response::ResponseFacts;
use crate::filter::response::ResponseTo;
use crate::filter::verdict::Passage;
use crate::http::h1::encode;
use crate::http::head::Framing;
use crate::http::head::RequestHead;
use crate::http::head::ResponseHead;
use crate::snapshot::rule::Cors;
use crate::snapshot::settings::Settings;

/// The longest request id that is taken over from a client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The id of a request: the client's where it sent a sane one, else 32 hex digits.
#[derive(Clone, Copy, Debug)]
pub struct RequestId<'b>(IdSource<'b>);

#[derive(Clone, Copy, Debug)]
enum IdSource<'b> {
    Client(&'b [u8]),
    Own([u8; 32]),
    None,
}

impl RequestId<'_> {
    /// Its bytes; empty where ids are switched off and the client sent none.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            IdSource::Client(bytes) => bytes,
            IdSource::Own(digits) => digits,
            IdSource::None => &[],
        }
    }
}

/// The id for this request.
pub fn request_id<'b>(head: &RequestHead<'_, 'b>, settings: &Settings, random: [u64; 2]) -> RequestId<'b> {
    if let Some(id) = head.field("x-request-id")
        && !id.is_empty()
        && id.len() <= REQUEST_ID_BYTES_MAX
        && id.iter().all(u8::is_ascii_graphic)
    {
        return RequestId(IdSource::Client(id));
    }
    if !settings.generate_request_id {
        return RequestId(IdSource::None);
    }
    let mut digits = [0; 32];
    for (index, digit) in digits.iter_mut().enumerate() {
        let nibble = random[index / 16] >> (index % 16 * 4) & 15;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    RequestId(IdSource::Own(digits))
}

/// Whether a field of the client ends here: replaced by one of ours, or a claim that only a trusted peer may make.
fn is_replaced(name: &[u8], peer_trusted: bool) -> bool {
    if !peer_trusted && (starts_with(name, b"x-forwarded-") || name.eq_ignore_ascii_case(b"forwarded")) {
        return true;
    }
    // What a verified certificate said is ours to say, whoever the peer is.
    if starts_with(name, b"ssl-client-") {
        return true;
    }
    match name.len() {
        8 => name.eq_ignore_ascii_case(b"x-scheme"),
        9 => name.eq_ignore_ascii_case(b"x-real-ip"),
        12 => name.eq_ignore_ascii_case(b"x-request-id"),
        15 => name.eq_ignore_ascii_case(b"x-forwarded-for"),
        16 => name.eq_ignore_ascii_case(b"x-forwarded-host") || name.eq_ignore_ascii_case(b"x-forwarded-port"),
        17 => name.eq_ignore_ascii_case(b"x-forwarded-proto"),
        18 => name.eq_ignore_ascii_case(b"x-forwarded-scheme"),
        // Set by us below, or by nobody.
        24 => name.eq_ignore_ascii_case(b"x-original-forwarded-for"),
        25 => name.eq_ignore_ascii_case(b"x-original-forwarded-host"),
        _ => false,
    }
}

fn starts_with(name: &[u8], front: &[u8]) -> bool {
    name.get(..front.len()).is_some_and(|start| start.eq_ignore_ascii_case(front))
}

/// Writes the whole head for the upstream.
pub fn write_upstream_head(
    out: &mut Vec<u8>,
    facts: &Facts<'_, '_, '_>,
    passage: &Passage,
    request_id: &[u8],
    framing: Framing,
    upgrade: bool,
) {
    let head = facts.head;
    let policy = &facts.rule.policy;
    encode::request_line(out, head.method, passage.rewritten.as_deref().unwrap_or(&head.path), head.query);
    let best_host = facts.best_authority();
    encode::field(out, b"Host", policy.upstream_host.as_ref().map_or(best_host, |host| host.as_bytes()));
    let prefix = policy.forwarded_prefix.as_deref();
    for field in head.end_to_end() {
        let name = field.name.as_bytes();
        if is_replaced(name, facts.peer_trusted)
            || (passage.drop_authorization && name.eq_ignore_ascii_case(b"authorization"))
            || (prefix.is_some() && name.eq_ignore_ascii_case(b"x-forwarded-prefix"))
        {
            continue;
        }
        encode::field(out, name, field.value);
    }
    if !request_id.is_empty() {
        encode::field(out, b"X-Request-ID", request_id);
    }
    write_forwarded(out, facts, best_host);
    if let Some(prefix) = prefix {
        encode::field(out, b"X-Forwarded-Prefix", prefix.as_bytes());
    }
    if upgrade {
        out.extend_from_slice(b"Upgrade: websocket\r\nConnection: upgrade\r\n");
    }
    encode::framing(out, framing);
    if framing == Framing::Empty && matches!(head.method, b"POST" | b"PUT" | b"PATCH") {
        // A server may refuse such a request without a length (RFC 9110 section 8.6: SHOULD send it).
        encode::content_length(out, 0);
    }
    encode::end(out);
}

fn write_forwarded(out: &mut Vec<u8>, facts: &Facts<'_, '_, '_>, best_host: &[u8]) {
    let head = facts.head;
    let client = facts.client_address();
    let claimed = head.field("x-forwarded-for");
    out.extend_from_slice(b"X-Real-IP: ");
    write_address(out, client);
    out.extend_from_slice(b"\r\nX-Forwarded-For: ");
    if facts.peer_trusted
        && facts.settings.append_forwarded_for
        && let Some(claimed) = claimed.filter(|claimed| encode::is_field_value(claimed))
    {
        out.extend_from_slice(claimed);
        out.extend_from_slice(b", ");
        write_address(out, facts.client);
    } else {
        write_address(out, client);
    }
    out.extend_from_slice(b"\r\n");
    encode::field(out, b"X-Forwarded-Host", best_host);
    let https = facts.is_https();
    let claimed_port = facts.peer_trusted.then(|| head.field("x-forwarded-port")).flatten();
    match claimed_port {
        Some(port) => encode::field(out, b"X-Forwarded-Port", port),
        None => {
            out.extend_from_slice(b"X-Forwarded-Port: ");
            encode::decimal(out, u64::from(if facts.tls { facts.https_port } else { facts.http_port }));
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(if https {
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Scheme: https\r\nX-Scheme: https\r\n"
    } else {
        b"X-Forwarded-Proto: http\r\nX-Forwarded-Scheme: http\r\nX-Scheme: http\r\n"
    });
    if let Some(claimed) = claimed {
        encode::field(out, b"X-Original-Forwarded-For", claimed);
    }
    if let Some(host) = head.field("x-forwarded-host") {
        encode::field(out, b"X-Original-Forwarded-Host", host);
    }
}

fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (index, octet) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                encode::decimal(out, u64::from(octet));
            }
        }
        IpAddr::V6(v6) => out.extend_from_slice(v6.to_string().as_bytes()),
    }
}

/// Writes the whole head of a forwarded answer.
pub fn write_downstream_head(out: &mut Vec<u8>, response: &ResponseHead<'_, '_>, to: &ResponseTo<'_>, date: &[u8]) {
    encode::status_line(out, response.status, response.reason);
    let mut has_date = false;
    let mut has_hsts = false;
    let cors = to.facts.cors.is_some();
    for field in response.end_to_end() {
        let name = field.name.as_bytes();
        match name.len() {
            4 => has_date |= name.eq_ignore_ascii_case(b"date"),
            25 => has_hsts |= name.eq_ignore_ascii_case(b"strict-transport-security"),
            _ => {}
        }
        let hidden = (!to.settings.hide_fields.is_empty() && is_hidden(&to.settings.hide_fields, name))
            || (cors && name.get(..15).is_some_and(|front| front.eq_ignore_ascii_case(b"access-control-")))
            || to.policy.response_fields.iter().any(|(own, _)| own.as_bytes().eq_ignore_ascii_case(name));
        if !hidden {
            encode::field(out, name, field.value);
        }
    }
    if !has_date {
        encode::field(out, b"Date", date);
    }
    if !has_hsts {
        write_hsts(out, to.facts.tls, to.settings);
    }
    for (name, value) in to.policy.response_fields.iter() {
        encode::field(out, name.as_bytes(), value.as_bytes());
    }
    write_cors(out, to.facts);
    if to.upgrade {
        out.extend_from_slice(b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n");
        return;
    }
    encode::framing(out, to.framing);
    if to.framing == Framing::Empty && response.status >= 200 && response.status != 204 {
        // HEAD and 304 repeat what the content would have been; other answers say that there is none.
        if let Some(length) = response.declared_length {
            encode::content_length(out, length);
        }
    }
    write_connection(out, to.keep_alive, to.http10);
    encode::end(out);
}

fn is_hidden(hidden: &[String], name: &[u8]) -> bool {
    hidden.iter().any(|hidden| hidden.as_bytes().eq_ignore_ascii_case(name))
}

/// Writes an answer of our own, content included.
pub fn write_answer(out: &mut Vec<u8>, answer: &Answer, to: &AnswerTo<'_>, date: &[u8]) {
    encode::status_line(out, answer.status, b"");
    encode::field(out, b"Date", date);
    encode::field(out, b"corelane-reason", answer.reason.as_bytes());
    for (name, value) in &answer.fields {
        encode::field(out, name.as_bytes(), value);
    }
    write_hsts(out, to.facts.tls, to.settings);
    write_cors(out, to.facts);
    if answer.status == 204 {
        write_connection(out, to.keep_alive, to.http10);
        encode::end(out);
        return;
    }
    let phrase = encode::phrase(answer.status);
    let (kind, content) = match to.facts.body {
        BodyKind::Text => ("text/plain; charset=utf-8", format!("{} {phrase}\n", answer.status)),
        BodyKind::Html => {
            let title = format!("{} {phrase}", answer.status);
            let page = format!("<!doctype html><title>{title}</title><h1>{title}</h1><p><code>{}</code>\n", answer.reason);
            ("text/html; charset=utf-8", page)
        }
        BodyKind::Json => {
            ("application/json", format!("{{\"status\":{},\"error\":\"{phrase}\",\"reason\":\"{}\"}}\n", answer.status, answer.reason))
        }
    };
    encode::field(out, b"Content-Type", kind.as_bytes());
    encode::content_length(out, content.len() as u64);
    write_connection(out, to.keep_alive, to.http10);
    encode::end(out);
    if !to.head_only {
        out.extend_from_slice(content.as_bytes());
    }
}

fn write_connection(out: &mut Vec<u8>, keep_alive: bool, http10: bool) {
    match (keep_alive, http10) {
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, false) => {}
    }
}

fn write_hsts(out: &mut Vec<u8>, tls: bool, settings: &Settings) {
    let Some(hsts) = settings.hsts.as_ref().filter(|_| tls) else { return };
    out.extend_from_slice(b"Strict-Transport-Security: max-age=");
    encode::decimal(out, hsts.max_age_s);
    if hsts.include_subdomains {
        out.extend_from_slice(b"; includeSubDomains");
    }
    if hsts.preload {
        out.extend_from_slice(b"; preload");
    }
    out.extend_from_slice(b"\r\n");
}

fn write_cors(out: &mut Vec<u8>, facts: &ResponseFacts) {
    let (Some(cors), Some(origin)) = (&facts.cors, &facts.allowed_origin) else { return };
    let Cors { methods, headers, expose_headers, credentials, max_age_s, .. } = &**cors;
    encode::field(out, b"Access-Control-Allow-Origin", origin);
    if *credentials {
        encode::field(out, b"Access-Control-Allow-Credentials", b"true");
    }
    encode::field(out, b"Access-Control-Allow-Methods", methods.as_bytes());
    encode::field(out, b"Access-Control-Allow-Headers", headers.as_bytes());
    if let Some(exposed) = expose_headers {
        encode::field(out, b"Access-Control-Expose-Headers", exposed.as_bytes());
    }
    out.extend_from_slice(b"Access-Control-Max-Age: ");
    encode::decimal(out, *max_age_s);
    out.extend_from_slice(b"\r\n");
    if origin != b"*" {
        encode::field(out, b"Vary", b"Origin");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::rule;
    use crate::filter::tests::with_facts;
    use crate::http::h1::parse;
    use crate::http::head::HeadLimits;
    use crate::http::head::field_storage;
    use crate::snapshot::cluster::ClusterId;
    use crate::snapshot::rule::Policy;

    fn passage() -> Passage {
        Passage { cluster: ClusterId(1), drop_authorization: false, rewritten: None, admission: None }
    }

    fn upstream_head(wire: &str, policy: Policy, passage: &Passage, adjust: impl FnOnce(&mut Facts<'_, '_, '_>)) -> String {
        with_facts(wire, &rule(policy), adjust, |facts| {
            let mut out = Vec::new();
            write_upstream_head(&mut out, facts, passage, b"id", facts.head.framing, facts.head.upgrades_to_websocket);
            String::from_utf8(out).expect("text")
        })
    }

    /// The upstream learns who the client is from us alone; what the client claimed is kept beside, under other names.
    #[test]
    fn the_edge_says_who_the_client_is() {
        let wire = "GET /a/../b?q HTTP/1.1\r\nHost: h:8080\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 2.2.2.2\r\n\
                    X-Forwarded-Host: evil\r\nX_Forwarded_For: 3.3.3.3\r\nAccept: */*\r\nConnection: close\r\n\r\n";
        let got = upstream_head(wire, Policy::default(), &passage(), |_| {});
        assert_eq!(
            got,
            "GET /b?q HTTP/1.1\r\nHost: h:8080\r\nAccept: */*\r\nX-Request-ID: id\r\nX-Real-IP: 192.0.2.7\r\nX-Forwarded-For: 192.0.2.7\r\n\
             X-Forwarded-Host: h:8080\r\nX-Forwarded-Port: 80\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Scheme: http\r\nX-Scheme: http\r\n\
             X-Original-Forwarded-For: 1.1.1.1\r\nX-Original-Forwarded-Host: evil\r\n\r\n"
        );
    }

    /// A claim about the client ends at the edge, however it is spelled; of a trusted balancer in front it is believed.
    #[test]
    fn claims_of_strangers_end_here() {
        let claims = "Forwarded: for=1.1.1.1\r\nX-Forwarded-Prefix: /evil\r\nX-Forwarded-Client-Cert: c\r\nSSL-Client-Verify: SUCCESS\r\n";
        let wire = format!("GET / HTTP/1.1\r\nHost: h\r\n{claims}X-Other: kept\r\n\r\n");
        let stranger = upstream_head(&wire, Policy::default(), &passage(), |_| {});
        let trusted = upstream_head(&wire, Policy::default(), &passage(), |facts| facts.peer_trusted = true);
        for (claim, from_trusted) in
            [("Forwarded: for", true), ("X-Forwarded-Prefix", true), ("X-Forwarded-Client-Cert", true), ("SSL-Client-Verify", false)]
        {
            assert!(!stranger.contains(claim), "{stranger}");
            assert_eq!(trusted.contains(claim), from_trusted, "{claim}: {trusted}");
        }
        assert!(stranger.contains("X-Other: kept\r\n"));
    }

    /// Credentials that were for us, and paths that were rewritten, do not reach the upstream as they came.
    #[test]
    fn credentials_and_paths_are_changed_on_the_way() {
        let wire = "POST /a HTTP/1.1\r\nHost: h\r\nAuthorization: Basic dTpw\r\nContent-Length: 3\r\n\r\n";
        let passage = Passage { drop_authorization: true, rewritten: Some(b"/x y".to_vec()), ..passage() };
        let policy = Policy { upstream_host: Some("inner".into()), forwarded_prefix: Some("/a".into()), ..Policy::default() };
        let got = upstream_head(wire, policy, &passage, |_| {});
        assert!(got.starts_with("POST /x%20y HTTP/1.1\r\nHost: inner\r\n"), "{got}");
        assert!(!got.contains("Authorization") && got.contains("X-Forwarded-Prefix: /a\r\n"), "{got}");
        assert!(got.ends_with("Content-Length: 3\r\n\r\n"), "{got}");
    }

    fn downstream_head(wire: &str, to_head: bool, adjust: impl FnOnce(&mut ResponseTo<'_>)) -> String {
        let mut storage = field_storage();
        let parsed = parse::response(wire.as_bytes(), &mut storage, &HeadLimits::default(), to_head);
        let Ok(Some(response)) = parsed else { panic!("{wire:?}") };
        let (facts, policy, settings) = (ResponseFacts::unread(false), Policy::default(), Settings::default());
        let framing = response.framing;
        let mut to =
            ResponseTo { facts: &facts, policy: &policy, settings: &settings, framing, keep_alive: true, http10: false, upgrade: false };
        adjust(&mut to);
        let mut out = Vec::new();
        write_downstream_head(&mut out, &response, &to, b"now");
        String::from_utf8(out).expect("text")
    }

    /// Framing and connection fields are written anew; everything else of the upstream passes, Server and Date included.
    #[test]
    fn answers_pass_with_new_framing() {
        for (wire, to_head, want) in [
            (
                "HTTP/1.1 200 Fine\r\nServer: s\r\nDate: d\r\nContent-Length: 3\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\r\n",
                false,
                "HTTP/1.1 200 Fine\r\nServer: s\r\nDate: d\r\nContent-Length: 3\r\n\r\n",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
                "HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 0\r\n\r\n"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true, "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 9\r\n\r\n"),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", false, "HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n"),
            ("HTTP/1.1 304 Not Modified\r\nETag: e\r\n\r\n", false, "HTTP/1.1 304 Not Modified\r\nETag: e\r\nDate: now\r\n\r\n"),
        ] {
            assert_eq!(downstream_head(wire, to_head, |_| {}), want, "{wire:?}");
        }
    }

    /// HSTS goes out with every https answer and with none over http.
    #[test]
    fn hsts_goes_out_over_https() {
        let wire = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let secure = ResponseFacts::unread(true);
        let got = downstream_head(wire, false, |to| {
            // The borrowed facts live in this test as long as the closure's argument.
            to.facts = Box::leak(Box::new(secure.clone()));
        });
        assert!(got.contains("Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n"), "{got}");
        assert!(!downstream_head(wire, false, |_| {}).contains("Strict-Transport"));
    }

    /// An answer of our own has a length, a reason and the form the client asked for.
    #[test]
    fn own_answers_explain_themselves() {
        let settings = Settings::default();
        for (body, kind) in [(BodyKind::Text, "text/plain"), (BodyKind::Html, "text/html"), (BodyKind::Json, "application/json")] {
            let facts = ResponseFacts { body, ..ResponseFacts::unread(false) };
            let to = AnswerTo { facts: &facts, settings: &settings, keep_alive: false, http10: false, head_only: false };
            let mut out = Vec::new();
            write_answer(&mut out, &Answer::plain(404, "no_route"), &to, b"now");
            let text = String::from_utf8(out).expect("text");
            let (head, content) = text.split_once("\r\n\r\n").expect("a head");
            assert!(head.contains("corelane-reason: no_route") && head.contains(&format!("Content-Type: {kind}")), "{head}");
            assert!(head.contains(&format!("Content-Length: {}", content.len())) && head.ends_with("Connection: close"), "{head}");
        }
    }

    /// A client's id is kept where it is sane; nothing that could end a line or fill a log is.
    #[test]
    fn request_ids_are_sane() {
        for (id, kept) in [("abc-123", true), ("a b", false), ("", false)] {
            let wire = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Request-ID: {id}\r\n\r\n");
            with_facts(
                &wire,
                &rule(Policy::default()),
                |_| {},
                |facts| {
                    let got = request_id(facts.head, facts.settings, [1, 2]);
                    assert_eq!(got.as_bytes() == id.as_bytes(), kept, "{id:?}");
                    assert!(!got.as_bytes().is_empty());
                },
            );
        }
    }
}
