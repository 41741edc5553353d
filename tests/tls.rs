//! TLS as clients meet it: the right certificate for every name, two versions, tickets that any shard opens, and changes that touch
//! no connection.

mod support;

use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::HandshakeKind;
use rustls::ProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::CertificateDer;

use support::client::Client;
use support::edge::Corelane;
use support::eventually;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::tls::Authority;
use support::tls::Certificate;
use support::upstream::Upstream;

fn app(upstream: &Upstream) -> Manifests {
    Manifests::new().service("app", &[upstream.address])
}

fn secure(host: &str, secret: &str) -> Ingress {
    Ingress::new(secret).tls(host, secret).host(host, "app")
}

/// The leaf that a client with this config and name is shown.
fn leaf(edge: &Corelane, config: &Arc<ClientConfig>, name: &str) -> Result<CertificateDer<'static>, String> {
    let client = Client::try_connect_tls(edge.https, config, name).map_err(|error| error.to_string())?;
    Ok(client.session().peer_certificates().expect("a server has certificates")[0].clone().into_owned())
}

fn only(suite: rustls::SupportedCipherSuite) -> CryptoProvider {
    CryptoProvider { cipher_suites: vec![suite], ..default_provider() }
}

/// The name a client asks for chooses the certificate: exact before wildcard, one label for a star, the default for all others.
#[test]
fn the_name_chooses_the_certificate() {
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let certificate = |names: &[&str]| authority.ecdsa(names);
    let (exact, star, fallback) = (certificate(&["a.star.test"]), certificate(&["*.star.test"]), certificate(&["fallback.test"]));
    let edge = Corelane::with(
        &app(&upstream)
            .tls_secret("exact", &exact)
            .tls_secret("star", &star)
            .tls_secret("fallback", &fallback)
            .ingress(&secure("a.star.test", "exact"))
            .ingress(&secure("*.star.test", "star")),
        &["--default-ssl-certificate", "default/fallback"],
    );
    let config = authority.client();
    assert_eq!(leaf(&edge, &config, "a.star.test").as_ref(), Ok(&exact.der));
    assert_eq!(leaf(&edge, &config, "A.STAR.test").as_ref(), Ok(&exact.der), "names have no case");
    assert_eq!(leaf(&edge, &config, "b.star.test").as_ref(), Ok(&star.der));
    assert_eq!(leaf(&edge, &config, "fallback.test").as_ref(), Ok(&fallback.der));
    for (name, why) in [("a.b.star.test", "a star is one label"), ("star.test", "a star is a label"), ("other.test", "nobody's name")] {
        let shown = leaf(&edge, &config, name);
        assert!(
            shown.as_ref().is_err_and(|error| error.contains("NotValidForName") || error.contains("not valid for name")),
            "{why}: {shown:?}"
        );
    }
    let mut client = Client::connect_tls(edge.https, &config, "a.star.test");
    let answer = client.get("a.star.test", "/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "app\nGET /\n0\n"));
    assert_eq!(upstream.only_request().field("x-forwarded-proto"), Some("https"));
}

/// Without any certificate of its own Corelane serves one that it made at the start.
#[test]
fn a_certificate_is_made_where_none_is_given() {
    let upstream = Upstream::echo("app");
    let edge = Corelane::start(&app(&upstream).ingress(&Ingress::new("app").host("app.test", "app")));
    let error = leaf(&edge, &Authority::new().client(), "app.test").expect_err("nobody trusts it");
    assert!(error.contains("UnknownIssuer"), "{error}");
}

/// ECDSA and RSA certificates serve, over TLS 1.2 and 1.3, with every suite that is offered.
#[test]
fn both_versions_and_both_kinds_of_key_serve() {
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let edge = Corelane::start(
        &app(&upstream)
            .tls_secret("ecdsa", &authority.ecdsa(&["ecdsa.test"]))
            .tls_secret("rsa", &authority.rsa(&["rsa.test"]))
            .ingress(&secure("ecdsa.test", "ecdsa"))
            .ingress(&secure("rsa.test", "rsa")),
    );
    let tls13 =
        [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    let ecdsa12 = [
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    let rsa12 = [
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    let speak = |host: &str, suite: rustls::SupportedCipherSuite, version: &'static rustls::SupportedProtocolVersion| {
        let mut client = Client::connect_tls(edge.https, &authority.client_with(&[version], only(suite)), host);
        assert_eq!(client.get(host, "/").status, 200, "{host} {suite:?}");
        assert_eq!(client.session().negotiated_cipher_suite(), Some(suite));
        assert_eq!(client.session().protocol_version(), Some(version.version));
    };
    for host in ["ecdsa.test", "rsa.test"] {
        for suite in tls13 {
            speak(host, suite, &rustls::version::TLS13);
        }
    }
    for (host, suites) in [("ecdsa.test", ecdsa12), ("rsa.test", rsa12)] {
        for suite in suites {
            speak(host, suite, &rustls::version::TLS12);
        }
    }
}

/// The operator can forbid TLS 1.2.
#[test]
fn tls12_can_be_forbidden() {
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let edge = Corelane::start(
        &app(&upstream)
            .tls_secret("app", &authority.ecdsa(&["app.test"]))
            .settings(&[("ssl-protocols", "TLSv1.3")])
            .ingress(&secure("app.test", "app")),
    );
    let old = authority.client_with(&[&rustls::version::TLS12], default_provider());
    assert!(leaf(&edge, &old, "app.test").is_err());
    let mut client = Client::connect_tls(edge.https, &authority.client(), "app.test");
    assert_eq!(client.session().protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(client.get("app.test", "/").status, 200);
}

/// A ticket of one shard is good at every other: each later connection resumes, wherever it lands.
#[test]
fn tickets_are_good_on_every_shard() {
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let manifests = app(&upstream).tls_secret("app", &authority.ecdsa(&["app.test"])).ingress(&secure("app.test", "app"));
    let edge = Corelane::with(&manifests, &["--shards", "2"]);
    // Kept open, so that connections land on both shards in turn.
    let mut open = Vec::new();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = authority.client_with(&[version], default_provider());
        let mut kinds = Vec::new();
        for _ in 0..8 {
            let mut client = Client::connect_tls(edge.https, &config, "app.test");
            // TLS 1.3 sends its ticket behind the handshake: it is here when the answer is.
            assert_eq!(client.get("app.test", "/").status, 200);
            kinds.push(client.session().handshake_kind());
            open.push(client);
        }
        assert_eq!(kinds[0], Some(HandshakeKind::Full));
        assert!(kinds[1..].iter().all(|kind| *kind == Some(HandshakeKind::Resumed)), "{version:?}: {kinds:?}");
    }
    for shard in ["shard=\"0\"", "shard=\"1\""] {
        assert!(edge.metric("corelane_connections", shard) >= 1.0, "{shard} serves some of them");
    }
}

/// HTTP/1.1 is agreed on where it is offered; offers of nothing we speak are refused.
#[test]
fn the_protocol_is_agreed_on() {
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let edge = Corelane::start(&app(&upstream).tls_secret("app", &authority.ecdsa(&["app.test"])).ingress(&secure("app.test", "app")));
    for (offered, agreed) in
        [(&["http/1.1"][..], Ok(Some("http/1.1"))), (&["h2", "http/1.1"], Ok(Some("http/1.1"))), (&[], Ok(None)), (&["spdy/1"], Err(()))]
    {
        let mut config = (*authority.client()).clone();
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let got = Client::try_connect_tls(edge.https, &Arc::new(config), "app.test");
        let got = got.map(|client| client.session().alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()));
        assert_eq!(got.as_ref().map(Option::as_deref).map_err(|_| ()), agreed, "{offered:?}");
    }
}

fn swap(upstream: &Upstream, certificate: &Certificate) -> Manifests {
    app(upstream).tls_secret("app", certificate).ingress(&secure("app.test", "app"))
}

/// A new certificate is shown to new connections; those that are open go on under the old one.
#[test]
fn a_new_certificate_touches_no_connection() {
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let (old, new) = (authority.ecdsa(&["app.test"]), authority.ecdsa(&["app.test"]));
    let edge = Corelane::start(&swap(&upstream, &old));
    let config = authority.client();
    let mut open = Client::connect_tls(edge.https, &config, "app.test");
    assert_eq!(open.get("app.test", "/").status, 200);
    edge.apply(&swap(&upstream, &new));
    // A resumed session shows the certificate it began with: each look is a client of its own.
    eventually("the new certificate is shown", || (leaf(&edge, &authority.client(), "app.test") == Ok(new.der.clone())).then_some(()));
    assert_eq!(open.get("app.test", "/").status, 200, "the open connection goes on");
}

/// A Secret that cannot be used leaves the last good pair in service, and is reported.
#[test]
fn a_broken_secret_keeps_the_last_good_pair() {
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let good = authority.ecdsa(&["app.test"]);
    let edge = Corelane::start(&swap(&upstream, &good).ingress(&Ingress::new("mark").host("mark-0.test", "app")));
    assert_eq!(leaf(&edge, &authority.client(), "app.test").as_ref(), Ok(&good.der));
    let foreign_key = Certificate { key_pem: authority.ecdsa(&["app.test"]).key_pem, ..good.clone() };
    let no_pem = Certificate { chain_pem: "no certificate".to_owned(), ..good.clone() };
    let no_key = Certificate { key_pem: String::new(), ..good.clone() };
    for (index, broken) in [foreign_key, no_pem, no_key].iter().enumerate() {
        let mark = format!("mark-{}.test", index + 1);
        edge.apply(&swap(&upstream, broken).ingress(&Ingress::new("mark").host(&mark, "app")));
        edge.wait_for(&mark, "/", |response| response.status == 200);
        assert_eq!(leaf(&edge, &authority.client(), "app.test").as_ref(), Ok(&good.der), "broken Secret {index}");
        let status = edge.admin("/api/v1/status").text();
        assert!(status.contains("\"Secret\""), "it is reported: {status}");
    }
}

/// Plain requests go to https where the host has a certificate, https answers say that it stays so.
#[test]
fn plain_requests_are_sent_to_https() {
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let edge = Corelane::start(
        &app(&upstream)
            .tls_secret("app", &authority.ecdsa(&["app.test"]))
            .ingress(&secure("app.test", "app"))
            .ingress(&Ingress::new("plain").host("plain.test", "app")),
    );
    for (path, location) in [("/a?b=c", "/a?b=c"), ("/", ""), ("/a/", "/a")] {
        let answer = edge.get("app.test", path);
        assert_eq!((answer.status, answer.field("location")), (308, Some(&*format!("https://app.test{location}"))), "{path}");
        assert_eq!(answer.field("strict-transport-security"), None, "never without TLS");
    }
    assert_eq!(edge.get("plain.test", "/").status, 200);
    // What renews certificates must stay reachable without one.
    assert_eq!(edge.get("app.test", "/.well-known/acme-challenge/x").status, 200);
    let mut client = Client::connect_tls(edge.https, &authority.client(), "app.test");
    for path in ["/", "/a/"] {
        let answer = client.get("app.test", path);
        assert_eq!((answer.status, answer.field("strict-transport-security")), (200, Some("max-age=31536000; includeSubDomains")));
    }
    let missing = client.get("nowhere.test", "/");
    assert_eq!((missing.status, missing.field("strict-transport-security")), (404, Some("max-age=31536000; includeSubDomains")));
}

/// What is no TLS on the TLS port ends that connection alone.
#[test]
fn noise_on_the_tls_port_harms_nobody() {
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let edge = Corelane::start(&swap(&upstream, &authority.ecdsa(&["app.test"])));
    let config = authority.client();
    let mut open = Client::connect_tls(edge.https, &config, "app.test");
    for noise in [
        &b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"[..],
        b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x80\x2e\x01\x00\x02",
        &[0; 64],
        &[0xff; 20_000],
    ] {
        let mut client = Client::connect(edge.https);
        client.send(noise);
        client.finish_sending();
        // An alert at most, then the end.
        let _alert = client.read_to_end();
        assert!(client.buffer.len() < 64, "{:?}", client.buffer);
    }
    assert_eq!(open.get("app.test", "/").status, 200);
    assert!(leaf(&edge, &authority.client(), "app.test").is_ok());
}

/// A handshake in single bytes is a handshake.
#[test]
fn a_handshake_may_come_in_single_bytes() {
    use std::io::Read;
    use std::io::Write;
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let edge = Corelane::start(&swap(&upstream, &authority.ecdsa(&["app.test"])));
    let mut socket = std::net::TcpStream::connect(edge.https).expect("Corelane accepts");
    socket.set_nodelay(true).expect("TCP_NODELAY can be set");
    let mut session = rustls::ClientConnection::new(authority.client(), "app.test".try_into().expect("a name")).expect("a session");
    session.writer().write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").expect("the session takes it");
    let mut answer = Vec::new();
    loop {
        while session.wants_write() {
            let mut bytes = Vec::new();
            session.write_tls(&mut bytes).expect("a vector takes everything");
            for byte in bytes {
                socket.write_all(&[byte]).expect("Corelane reads");
            }
        }
        if session.read_tls(&mut socket).expect("Corelane answers") == 0 {
            break;
        }
        session.process_new_packets().expect("what Corelane says is TLS");
        let mut plain = [0; 4096];
        while let Ok(count @ 1..) = session.reader().read(&mut plain) {
            answer.extend_from_slice(&plain[..count]);
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
}

/// After a handshake of TLS 1.3 the server is silent until it is asked: its ticket comes with the answer.
#[test]
fn a_ticket_comes_with_the_answer() {
    use std::io::ErrorKind;
    use std::io::Read;
    use std::io::Write;
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let edge = Corelane::start(&swap(&upstream, &authority.ecdsa(&["app.test"])));
    let mut socket = std::net::TcpStream::connect(edge.https).expect("Corelane accepts");
    let mut session = rustls::ClientConnection::new(authority.client(), "app.test".try_into().expect("a name")).expect("a session");
    session.complete_io(&mut socket).expect("a handshake");
    let done = || edge.metric("corelane_tls_handshakes_total", "result=\"ok\"") >= 1.0;
    eventually("the server has seen the end of the handshake", || done().then_some(()));
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket has a timeout");
    let said = socket.read(&mut [0; 1]).map_err(|error| error.kind());
    assert!(matches!(said, Err(ErrorKind::WouldBlock)), "{said:?}");
    socket.set_read_timeout(None).expect("a socket has none");
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").expect("Corelane reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("Corelane answers, and says when it ends");
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(session.tls13_tickets_received(), 1);
}

/// Content of many megabytes goes both ways over TLS, and a client that reads slowly holds the upstream back there as well.
#[test]
fn large_content_goes_both_ways() {
    const LENGTH: usize = 6 << 20;
    let upstream = Upstream::answering(|request| {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").into_bytes();
        answer.extend((0..LENGTH).map(|index| (index + request.body_length) as u8));
        answer
    });
    let authority = Authority::new();
    let edge = Corelane::start(
        &app(&upstream)
            .tls_secret("app", &authority.ecdsa(&["app.test"]))
            .ingress(&secure("app.test", "app").annotation("proxy-body-size", "0")),
    );
    let mut client = Client::connect_tls(edge.https, &authority.client(), "app.test");
    for _ in 0..2 {
        client.send(format!("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {LENGTH}\r\n\r\n"));
        client.send(vec![b'x'; LENGTH]);
        let answer = client.response();
        assert_eq!((answer.status, answer.body.len()), (200, LENGTH));
        assert!(answer.body.iter().enumerate().all(|(index, byte)| *byte == (index + LENGTH) as u8));
    }
    let before = edge.resident_bytes();
    let mut slow: Vec<Client> = (0..8)
        .map(|_| {
            let mut client = Client::connect_tls(edge.https, &authority.client(), "app.test");
            client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
            client.read_until(b"\r\n\r\n");
            client
        })
        .collect();
    let grown = edge.resident_bytes().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes for eight slow readers of {LENGTH}");
    for client in &mut slow {
        assert_eq!(client.read_exactly(LENGTH - 1).len(), LENGTH - 1);
    }
}

/// A tunnel runs over TLS as over anything: bytes both ways, an end that is passed on.
#[test]
fn a_websocket_runs_over_tls() {
    let upstream = Upstream::scripted(|mut visit| {
        if visit.request().is_none() {
            return;
        }
        let _gone = visit.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello");
        loop {
            let bytes = visit.read_some();
            if bytes.is_empty() || visit.send(&bytes).is_err() {
                return;
            }
        }
    });
    let authority = Authority::new();
    let edge = Corelane::start(&swap(&upstream, &authority.ecdsa(&["app.test"])));
    let mut client = Client::connect_tls(edge.https, &authority.client(), "app.test");
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response().status, 101);
    assert_eq!(client.read_exactly(5), b"hello");
    for size in [1, 16_384, 200_000] {
        let frame = vec![b'f'; size];
        client.send(&frame);
        assert!(client.read_exactly(size) == frame, "{size} bytes come back as they were");
    }
    client.send("last words");
    client.finish_sending();
    assert_eq!(client.read_to_end(), Ok(b"last words".to_vec()));
    upstream.wait_until_idle();
}

/// The end of a connection is announced: a client can tell it from a cut.
#[test]
fn the_end_is_announced() {
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let edge = Corelane::start(&swap(&upstream, &authority.ecdsa(&["app.test"])));
    let mut client = Client::connect_tls(edge.https, &authority.client(), "app.test");
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().status, 200);
    client.expect_announced_end();
}

fn installed(program: &str, argument: &str) -> bool {
    Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// curl, where it is installed, verifies the chain and gets its answer.
#[test]
fn curl_is_served() {
    if !installed("curl", "--version") {
        return;
    }
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let edge = Corelane::start(&swap(&upstream, &authority.ecdsa(&["app.test"])));
    edge.directory.write("authority.pem", &authority.pem());
    for version in [&["--tlsv1.2", "--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "20", "--cacert"])
            .arg(edge.directory.path().join("authority.pem"))
            .args(["--resolve", &format!("app.test:{}:127.0.0.1", edge.https.port())])
            .args(version)
            .arg(format!("https://app.test:{}/curl", edge.https.port()))
            .output()
            .expect("curl runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "app\nGET /curl\n0\n", "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// openssl, where it is installed, resumes its session.
#[test]
fn openssl_resumes() {
    if !installed("openssl", "version") {
        return;
    }
    let upstream = Upstream::echo("app");
    let authority = Authority::new();
    let edge = Corelane::start(&swap(&upstream, &authority.ecdsa(&["app.test"])));
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &edge.https.to_string(), "-servername", "app.test", "-tls1_2", "-reconnect"])
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.matches("Reused, TLSv1.2").count(), 5, "{text}");
}
