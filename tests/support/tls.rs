//! Certificates made on the spot, and clients that trust them.

use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::encoding::Pkcs8V1Der;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::RootCertStore;
use rustls::SupportedProtocolVersion;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivatePkcs8KeyDer;

/// An authority that only tests trust.
pub struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A leaf with its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub chain_pem: String,
    pub key_pem: String,
    pub der: CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Corelane test authority");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate with an ECDSA P-256 key.
    pub fn ecdsa(&self, names: &[&str]) -> Certificate {
        self.sign(names, &KeyPair::generate().expect("a key"))
    }

    /// A certificate with an RSA 2048 key.
    pub fn rsa(&self, names: &[&str]) -> Certificate {
        let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).expect("a key");
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).expect("a key can be written");
        let der = PrivatePkcs8KeyDer::from(der.as_ref().to_vec());
        self.sign(names, &KeyPair::try_from(&der).expect("a key can be read"))
    }

    fn sign(&self, names: &[&str], key: &KeyPair) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("valid names");
        let certificate = params.signed_by(key, &self.issuer).expect("a certificate");
        Certificate { chain_pem: certificate.pem(), key_pem: key.serialize_pem(), der: certificate.der().clone() }
    }

    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A client that trusts this authority alone.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.client_with(&[&rustls::version::TLS13, &rustls::version::TLS12], default_provider())
    }

    /// As [`Self::client`], with these versions and this crypto only.
    pub fn client_with(&self, versions: &[&'static SupportedProtocolVersion], crypto: rustls::crypto::CryptoProvider) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(crypto)).with_protocol_versions(versions).expect("versions");
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }
}

/// The first bytes of a client that asks for `name`.
pub fn client_hello(config: &Arc<ClientConfig>, name: &str) -> Vec<u8> {
    let name = name.to_owned().try_into().expect("a server name");
    let mut session = ClientConnection::new(config.clone(), name).expect("a session");
    let mut hello = Vec::new();
    session.write_tls(&mut hello).expect("a vector takes everything");
    hello
}
