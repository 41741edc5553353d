//! TLS over chunks: ciphertext in, plaintext out, and back; rustls keeps the protocol, the stream moves the bytes.

use std::io;
use std::io::BufRead;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::DigitallySignedStruct;
use rustls::HandshakeKind;
use rustls::ProtocolVersion;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;
use rustls::server::ResolvesServerCert;

/// The crypto behind every TLS connection.
pub type Crypto = Arc<CryptoProvider>;
/// A config for connections that clients open to us.
pub type ServerTls = Arc<ServerConfig>;
/// A config for connections that we open to endpoints.
pub type ClientTls = Arc<ClientConfig>;

/// The crypto of this process: aws-lc-rs.
pub fn crypto() -> Crypto {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Makes [`crypto`] the default of every library in this process; the first call decides.
pub fn install_crypto() {
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// What one segment carries everywhere: 1500 bytes less the heads of IPv6 (40), of TCP with timestamps (32) and of an overlay network (50).
const SEGMENT_BYTES: usize = 1_378;
/// Content of a record that fits into one segment: TLS 1.2 adds 29 bytes, TLS 1.3 adds 22.
const SMALL_RECORD_BYTES: usize = SEGMENT_BYTES - 29;
/// Content that leaves in small records: what a congestion window of ten segments holds.
///
/// A record can be read when its last byte is there. Were the first of an answer as long as TLS allows, the peer would wait another
/// round trip for the rest of it, while all that came before lies there unread.
const SMALL_RECORDS_BYTES: usize = 10 * SMALL_RECORD_BYTES;
/// Silence after which a congestion window is small again, in milliseconds.
const IDLE_MS: u64 = 1_000;

/// One TLS connection, whichever side of it we are.
pub struct Session {
    connection: rustls::Connection,
    /// Content sealed since the connection was idle.
    sealed_bytes: usize,
    sealed_at_ms: u64,
}

/// What the peer's bytes amounted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absorbed {
    /// The peer has said that nothing more comes.
    pub closed: bool,
}

/// What was agreed in a handshake.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    pub cipher: &'static str,
    pub resumed: bool,
    pub server_name: Option<Box<str>>,
}

impl Session {
    /// The server's side.
    ///
    /// # Errors
    /// Never with a config of [`server_config`].
    pub fn server(config: ServerTls) -> Result<Self, rustls::Error> {
        let mut connection = ServerConnection::new(config)?;
        // What is written is sent at once; back-pressure is the socket's.
        connection.set_buffer_limit(None);
        Ok(Self::new(connection.into()))
    }

    /// The client's side, towards an endpoint.
    ///
    /// # Errors
    /// Never with a config of [`client_config`].
    pub fn client(config: ClientTls, host: IpAddr) -> Result<Self, rustls::Error> {
        let name = ServerName::IpAddress(host.into());
        let mut connection = ClientConnection::new(config, name)?;
        connection.set_buffer_limit(None);
        Ok(Self::new(connection.into()))
    }

    fn new(connection: rustls::Connection) -> Self {
        Self { connection, sealed_bytes: 0, sealed_at_ms: 0 }
    }

    /// Whether the handshake is still going on.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// What was agreed, for the log.
    pub fn agreement(&self) -> Agreement {
        let version = match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        };
        let server_name = match &self.connection {
            rustls::Connection::Server(server) => server.server_name().map(Box::from),
            rustls::Connection::Client(_) => None,
        };
        Agreement {
            version,
            cipher: self.connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or(""),
            resumed: self.connection.handshake_kind() == Some(HandshakeKind::Resumed),
            server_name,
        }
    }

    /// Takes in ciphertext and appends what it holds in plaintext.
    ///
    /// # Errors
    /// What the peer did against the protocol; an alert is left in the output.
    pub fn absorb(&mut self, mut ciphertext: &[u8], plaintext: &mut Vec<u8>) -> io::Result<Absorbed> {
        let mut closed = false;
        while !ciphertext.is_empty() && !closed {
            self.connection.read_tls(&mut ciphertext)?;
            let state = self.connection.process_new_packets().map_err(io::Error::other)?;
            closed = state.peer_has_closed();
            let mut left = state.plaintext_bytes_to_read();
            plaintext.reserve(left);
            while left > 0 {
                let mut reader = self.connection.reader();
                let piece = reader.fill_buf()?;
                let length = piece.len();
                plaintext.extend_from_slice(piece);
                reader.consume(length);
                left -= length;
            }
        }
        Ok(Absorbed { closed })
    }

    /// Encrypts `plaintext` and appends the records to `ciphertext`: small ones first, where the connection is new or was idle, then
    /// as large as TLS allows.
    ///
    /// # Errors
    /// Only where the connection has failed already.
    pub fn seal(&mut self, mut plaintext: &[u8], now_ms: u64, ciphertext: &mut Vec<u8>) -> io::Result<()> {
        if now_ms.saturating_sub(self.sealed_at_ms) >= IDLE_MS {
            self.sealed_bytes = 0;
        }
        self.sealed_at_ms = now_ms;
        while self.sealed_bytes < SMALL_RECORDS_BYTES && plaintext.len() > SMALL_RECORD_BYTES {
            let (record, rest) = plaintext.split_at(SMALL_RECORD_BYTES);
            self.connection.writer().write_all(record)?;
            self.sealed_bytes += record.len();
            plaintext = rest;
        }
        self.connection.writer().write_all(plaintext)?;
        // Once the window has grown nobody counts any more.
        self.sealed_bytes = self.sealed_bytes.saturating_add(plaintext.len());
        self.take_output(ciphertext)
    }

    /// Appends what rustls itself wants to say: handshake, tickets, alerts.
    ///
    /// # Errors
    /// Never: a vector takes everything.
    pub fn take_output(&mut self, ciphertext: &mut Vec<u8>) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(ciphertext)?;
        }
        Ok(())
    }

    /// Whether [`Self::take_output`] has something.
    pub fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Whether [`Self::take_output`] is in no hurry: it leaves with the next [`Self::seal`] or after [`Self::close`].
    ///
    /// After a handshake of TLS 1.3 a server says nothing by itself but tickets, which are of use to a later connection, and its
    /// answer to KeyUpdate, which is due before its next application data (RFC 8446 section 4.6.3). Sent alone, a ticket would cost
    /// a segment in every connection. The end of a handshake of TLS 1.2 is waited for, and so is whatever a client has to say.
    pub fn can_wait(&self) -> bool {
        let is_server = matches!(self.connection, rustls::Connection::Server(_));
        is_server && !self.connection.is_handshaking() && self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Says that nothing more comes from us.
    pub fn close(&mut self) {
        self.connection.send_close_notify();
    }
}

/// A server's config: certificates by name, stateless tickets, TLS 1.3 and, if wanted, 1.2.
pub fn server_config(
    provider: Crypto,
    certificates: Arc<dyn ResolvesServerCert>,
    tickets: Arc<dyn ProducesTickets>,
    tls12: bool,
) -> ServerTls {
    let versions: &[&rustls::SupportedProtocolVersion] =
        if tls12 { &[&rustls::version::TLS13, &rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("the provider has suites for both versions")
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    // One ticket is enough for one more connection; each costs a seal and bytes in every handshake.
    config.send_tls13_tickets = 1;
    config.ticketer = tickets;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = true;
    Arc::new(config)
}

/// A client's config towards endpoints: encrypted, not verified, as ingress-nginx's default (`proxy-ssl-verify: off`).
pub fn client_config(provider: Crypto) -> ClientTls {
    let verifier = Arc::new(Unverified(provider.clone()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Arc::new(config)
}

/// Accepts every certificate, but insists that the peer owns its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::PrivatePkcs8KeyDer;

    use super::*;

    /// A server and a client that have said nothing yet.
    fn strangers(version: &'static rustls::SupportedProtocolVersion) -> (Session, Session) {
        let signed = rcgen::generate_simple_self_signed(vec!["app.test".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(crypto()).with_protocol_versions(&[version]).expect("the provider has it");
        let config = config.with_no_client_auth().with_single_cert(vec![signed.cert.der().clone()], key).expect("a pair");
        let server = Session::server(Arc::new(config)).expect("a session");
        let client = Session::client(client_config(crypto()), [127, 0, 0, 1].into()).expect("a session");
        (server, client)
    }

    /// A server and a client that have shaken hands.
    fn pair(version: &'static rustls::SupportedProtocolVersion) -> (Session, Session) {
        let (mut server, mut client) = strangers(version);
        while server.is_handshaking() || client.is_handshaking() {
            carry(&mut client, &mut server);
            carry(&mut server, &mut client);
        }
        (server, client)
    }

    /// Gives the peer what rustls itself has to say.
    fn carry(from: &mut Session, to: &mut Session) {
        let mut wire = Vec::new();
        from.take_output(&mut wire).expect("a vector takes everything");
        to.absorb(&wire, &mut Vec::new()).expect("no fault");
    }

    /// The lengths of the records in `wire`, their heads included.
    fn records(mut wire: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while let [_, _, _, high, low, ..] = *wire {
            let length = 5 + usize::from(u16::from_be_bytes([high, low]));
            lengths.push(length);
            wire = &wire[length..];
        }
        lengths
    }

    /// The first records of an answer fit into a segment each, so that none waits for the next round trip; later ones are as long as
    /// TLS allows, until the connection has been idle. Whatever the records, the content is the same.
    #[test]
    fn the_first_records_are_small() {
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let (mut server, mut client) = pair(version);
            let content: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
            for (now_ms, small) in [(10, true), (11, false), (IDLE_MS + 10, false), (2 * IDLE_MS + 10, true)] {
                let mut wire = Vec::new();
                server.seal(&content, now_ms, &mut wire).expect("no fault");
                let lengths = records(&wire);
                let (first, rest) = lengths.split_at(if small { 10 } else { 0 });
                assert!(first.iter().all(|length| *length <= SEGMENT_BYTES), "{version:?} at {now_ms}: {lengths:?}");
                assert!(rest.iter().rev().skip(1).all(|length| *length > 16 << 10), "{version:?} at {now_ms}: {lengths:?}");
                let mut plaintext = Vec::new();
                client.absorb(&wire, &mut plaintext).expect("no fault");
                assert!(plaintext == content, "{version:?} at {now_ms}");
            }
        }
    }

    /// After a handshake of TLS 1.3 the server has nothing left to say but tickets, and they leave in front of the answer.
    #[test]
    fn tickets_wait_for_the_answer() {
        let (mut server, mut client) = strangers(&rustls::version::TLS13);
        carry(&mut client, &mut server);
        assert!(server.wants_write() && !server.can_wait(), "the client waits for this flight");
        carry(&mut server, &mut client);
        assert!(client.wants_write() && !client.can_wait(), "the server waits for the end of the handshake");
        carry(&mut client, &mut server);
        assert!(!server.is_handshaking() && server.wants_write() && server.can_wait());
        let (mut wire, mut plaintext) = (Vec::new(), Vec::new());
        server.seal(b"answer", 0, &mut wire).expect("no fault");
        assert!(!server.wants_write());
        assert!(records(&wire).len() > 1, "the tickets and the answer");
        client.absorb(&wire, &mut plaintext).expect("no fault");
        assert_eq!(plaintext, b"answer");
    }

    /// The server's end of a handshake of TLS 1.2 is waited for.
    #[test]
    fn the_end_of_an_older_handshake_does_not_wait() {
        let (mut server, mut client) = strangers(&rustls::version::TLS12);
        for _ in 0..2 {
            carry(&mut client, &mut server);
            assert!(server.wants_write() && !server.can_wait());
            carry(&mut server, &mut client);
        }
        assert!(!server.is_handshaking() && !client.is_handshaking());
    }
}
