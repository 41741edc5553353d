//! TLS over chunks: ciphertext in, plaintext out, and back; rustls keeps the protocol, the stream moves the bytes.

use std::io;
use std::io::Read;
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

/// One TLS connection, whichever side of it we are.
pub struct Session(rustls::Connection);

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
        Ok(Self(connection.into()))
    }

    /// The client's side, towards an endpoint.
    ///
    /// # Errors
    /// Never with a config of [`client_config`].
    pub fn client(config: ClientTls, host: IpAddr) -> Result<Self, rustls::Error> {
        let name = ServerName::IpAddress(host.into());
        let mut connection = ClientConnection::new(config, name)?;
        connection.set_buffer_limit(None);
        Ok(Self(connection.into()))
    }

    /// Whether the handshake is still going on.
    pub fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    /// What was agreed, for the log.
    pub fn agreement(&self) -> Agreement {
        let version = match self.0.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        };
        let server_name = match &self.0 {
            rustls::Connection::Server(server) => server.server_name().map(Box::from),
            rustls::Connection::Client(_) => None,
        };
        Agreement {
            version,
            cipher: self.0.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or(""),
            resumed: self.0.handshake_kind() == Some(HandshakeKind::Resumed),
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
            self.0.read_tls(&mut ciphertext)?;
            let state = self.0.process_new_packets().map_err(io::Error::other)?;
            closed = state.peer_has_closed();
            let length = state.plaintext_bytes_to_read();
            if length > 0 {
                let start = plaintext.len();
                plaintext.resize(start + length, 0);
                self.0.reader().read_exact(&mut plaintext[start..])?;
            }
        }
        Ok(Absorbed { closed })
    }

    /// Encrypts `plaintext` and appends the records to `ciphertext`.
    ///
    /// # Errors
    /// Only where the connection has failed already.
    pub fn seal(&mut self, plaintext: &[u8], ciphertext: &mut Vec<u8>) -> io::Result<()> {
        self.0.writer().write_all(plaintext)?;
        self.take_output(ciphertext)
    }

    /// Appends what rustls itself wants to say: handshake, tickets, alerts.
    ///
    /// # Errors
    /// Never: a vector takes everything.
    pub fn take_output(&mut self, ciphertext: &mut Vec<u8>) -> io::Result<()> {
        while self.0.wants_write() {
            self.0.write_tls(ciphertext)?;
        }
        Ok(())
    }

    /// Whether [`Self::take_output`] has something.
    pub fn wants_write(&self) -> bool {
        self.0.wants_write()
    }

    /// Says that nothing more comes from us.
    pub fn close(&mut self) {
        self.0.send_close_notify();
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
