//! TLS of a run: one ECDSA P-256 certificate made at start, and clients that offer one suite and one group.

use std::io;
use std::sync::Arc;

use rcgen::CertificateParams;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::Error;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::Resumption;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject;

use crate::connection::ClientTls;
use crate::tickets::Tickets;

/// Names the certificate is for; the first one is asked for.
const NAMES: [&str; 2] = ["app.bench.local", "alt.bench.local"];

/// A certificate with its key, and a client that trusts it.
pub struct Identity {
    pub certificate_pem: String,
    pub key_pem: String,
    pub client: ClientTls,
}

impl Identity {
    /// Makes a new one.
    ///
    /// # Errors
    /// Of the generator or of the TLS library.
    pub fn new() -> io::Result<Self> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
        let params = CertificateParams::new(NAMES.map(str::to_owned)).map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        Self::of(certificate.pem(), key.serialize_pem())
    }

    /// One that was made elsewhere. TLS 1.3, AES-128-GCM and X25519 only, so that every proxy does the same arithmetic; no resumption.
    ///
    /// # Errors
    /// Where the first is no certificate; of the TLS library.
    pub(crate) fn of(certificate_pem: String, key_pem: String) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(io::Error::other)?).map_err(io::Error::other)?;
        let provider = CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let versions = [&rustls::version::TLS13];
        let builder =
            ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&versions).map_err(io::Error::other)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(NAMES[0]).map_err(io::Error::other)?;
        Ok(Self { certificate_pem, key_pem, client: ClientTls { config: Arc::new(config), name, resumes: false } })
    }
}

impl ClientTls {
    /// The same client, but it takes any certificate and signature for good: half of the driver's work for a handshake is to verify them,
    /// which the connections of the load do. The proxy's work is the same.
    #[must_use]
    pub fn hasty(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        let schemes = config.crypto_provider().signature_verification_algorithms.supported_schemes();
        config.dangerous().set_certificate_verifier(Arc::new(Hasty { schemes }));
        Self { config: Arc::new(config), name: self.name.clone(), resumes: false }
    }

    /// The same client, but each connection offers a ticket (psk_dhe_ke, no early data) that an earlier one was given.
    ///
    /// Connections of clones share their tickets; those of another call do not.
    pub fn resuming(&self, connections: u32) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::store(Arc::new(Tickets::new(connections)));
        Self { config: Arc::new(config), name: self.name.clone(), resumes: true }
    }
}

/// Verifies nothing.
#[derive(Debug)]
struct Hasty {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Hasty {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
