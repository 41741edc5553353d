//! Server certificates by name, and the keys that seal session tickets.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead;
use aws_lc_rs::rand::SecureRandom;
use aws_lc_rs::rand::SystemRandom;
use rustls::SignatureAlgorithm;
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::aws_lc_rs::sign;
use rustls::server::ClientHello;
use rustls::server::ProducesTickets;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Longest chain, and longest key, that are read, in bytes of PEM; an API server holds no more in one Secret.
const PEM_BYTES_MAX: usize = 1 << 20;

/// Every certificate of a snapshot, by the names that Ingress `tls` entries give.
#[derive(Clone)]
pub struct Certificates {
    /// Lower-case host to pair.
    pub exact: HashMap<String, Arc<Pair>>,
    /// `example.com` for `*.example.com`; covers exactly one more label.
    pub wildcard: HashMap<String, Arc<Pair>>,
    /// For every other name, and for clients that send none.
    pub default: Arc<Pair>,
    pub tickets: Arc<TicketKeys>,
}

/// The keys a host serves: one per signature kind, the client's offer decides.
#[derive(Clone, Default)]
pub struct Pair {
    pub ecdsa: Option<Arc<CertifiedKey>>,
    pub rsa: Option<Arc<CertifiedKey>>,
    /// Where it comes from, for humans: `namespace/secret`, or `self-signed`.
    pub source: String,
    /// End of validity in seconds since 1970; the earlier one of two.
    pub not_after: i64,
    /// SHA-256 of the leaf certificates, to tell a rotation from a repetition.
    pub fingerprint: [u8; 32],
}

impl Certificates {
    /// The pair for a server name in lower case.
    pub fn find(&self, name: &str) -> Option<&Arc<Pair>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if let Some(pair) = self.exact.get(name) {
            return Some(pair);
        }
        let (_, parent) = name.split_once('.')?;
        self.wildcard.get(parent)
    }
}

/// Why a chain and a key make no pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPair {
    /// The chain holds no PEM block of a certificate, or one that is none.
    BadChain,
    /// The key is no PEM block in PKCS#8, PKCS#1 or SEC1, or its kind is not RSA, ECDSA or Ed25519.
    BadKey,
    /// The first certificate of the chain is for another key.
    KeyMismatch,
    /// Chain or key are longer than 1 MiB.
    TooLarge,
}

impl Pair {
    /// A chain, leaf first, and its key, both PEM. Whether it has expired is the caller's to judge: see `not_after`.
    ///
    /// # Errors
    /// [`BadPair`]: what is wrong with the text.
    pub fn from_pem(source: &str, chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, BadPair> {
        if chain_pem.len() > PEM_BYTES_MAX || key_pem.len() > PEM_BYTES_MAX {
            return Err(BadPair::TooLarge);
        }
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain_pem).collect::<Result<_, _>>().map_err(|_| BadPair::BadChain)?;
        let leaf = chain.first().ok_or(BadPair::BadChain)?;
        let not_after = parse(leaf).ok_or(BadPair::BadChain)?.validity().not_after.timestamp();
        if !chain.iter().all(|certificate| parse(certificate).is_some()) {
            return Err(BadPair::BadChain);
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest.as_ref());
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| BadPair::BadKey)?;
        let key = sign::any_supported_type(&key).map_err(|_| BadPair::BadKey)?;
        let is_rsa = key.algorithm() == SignatureAlgorithm::RSA;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| BadPair::KeyMismatch)?;
        let (ecdsa, rsa) = if is_rsa { (None, Some(Arc::new(certified))) } else { (Some(Arc::new(certified)), None) };
        Ok(Self { ecdsa, rsa, source: source.to_owned(), not_after, fingerprint })
    }

    /// Both kinds of key for one host: what `self` lacks is taken from `other`.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let adds = (self.ecdsa.is_none() && other.ecdsa.is_some()) || (self.rsa.is_none() && other.rsa.is_some());
        if !adds {
            return self.clone();
        }
        let mut both = [self.fingerprint, other.fingerprint];
        both.sort_unstable();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, both.as_flattened());
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest.as_ref());
        Self {
            ecdsa: self.ecdsa.clone().or_else(|| other.ecdsa.clone()),
            rsa: self.rsa.clone().or_else(|| other.rsa.clone()),
            source: format!("{}, {}", self.source, other.source),
            not_after: self.not_after.min(other.not_after),
            fingerprint,
        }
    }

    /// Whether both serve the very same keys, read from the same text.
    pub fn is_same(&self, other: &Self) -> bool {
        let same = |a: &Option<Arc<CertifiedKey>>, b: &Option<Arc<CertifiedKey>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        same(&self.ecdsa, &other.ecdsa) && same(&self.rsa, &other.rsa) && self.source == other.source
    }

    /// The names its leaf is good for, lower case, wildcards as written: DNS names of the SAN, the common name where there is no SAN.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.ecdsa.iter().chain(&self.rsa).filter_map(|key| key.cert.first()).flat_map(|leaf| names_of(leaf)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn parse<'c>(certificate: &'c CertificateDer<'_>) -> Option<X509Certificate<'c>> {
    // What stands behind the certificate in its block would be hidden from whoever looks at it.
    X509Certificate::from_der(certificate).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, parsed)| parsed)
}

fn names_of(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Some(leaf) = parse(leaf) else { return Vec::new() };
    if let Ok(Some(alternative)) = leaf.subject_alternative_name() {
        let dns = alternative.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        return dns.collect();
    }
    leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok()).map(str::to_ascii_lowercase).collect()
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("exact", &self.exact.len()).field("wildcard", &self.wildcard.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pair {
    /// Never shows a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("source", &self.source).field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pair =
            hello.server_name().and_then(|name| self.find(&name.to_ascii_lowercase()).cloned()).unwrap_or_else(|| self.default.clone());
        let fits = |key: &Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        // ECDSA first: its signature costs a twentieth of an RSA one. With neither fitting, any key yields the right alert.
        pair.ecdsa.iter().chain(&pair.rsa).find(|key| fits(key)).or(pair.ecdsa.as_ref()).or(pair.rsa.as_ref()).cloned()
    }
}

/// Keys that seal stateless session tickets: shared by all shards, replaced with a snapshot, so that no shard ever waits for another.
///
/// A ticket sealed under `previous` still opens; one that nobody can open falls back to a full handshake.
pub struct TicketKeys {
    current: TicketKey,
    previous: Option<TicketKey>,
    lifetime_s: u32,
}

struct TicketKey {
    secret: [u8; 32],
    name: [u8; 8],
    sealing: aead::LessSafeKey,
}

impl TicketKey {
    fn new(secret: [u8; 32]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &secret);
        let mut name = [0; 8];
        name.copy_from_slice(&digest.as_ref()[..8]);
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, &secret).expect("AES-256 takes 32 bytes");
        Self { secret, name, sealing: aead::LessSafeKey::new(key) }
    }
}

impl TicketKeys {
    /// How long a ticket stays good, in seconds; keys are rotated once in this time.
    pub const LIFETIME_S: u32 = 6 * 3600;

    /// Fresh random keys.
    pub fn generate() -> Self {
        Self { current: TicketKey::new(random()), previous: None, lifetime_s: Self::LIFETIME_S }
    }

    /// Keys given from outside, newest first, so that several hosts or a restarted process share them.
    pub fn from_secrets(current: [u8; 32], previous: Option<[u8; 32]>) -> Self {
        Self { current: TicketKey::new(current), previous: previous.map(TicketKey::new), lifetime_s: Self::LIFETIME_S }
    }

    /// A new current key; the old one still opens tickets until the next rotation.
    #[must_use]
    pub fn rotated(&self) -> Self {
        Self::from_secrets(random(), Some(self.current.secret))
    }
}

fn random() -> [u8; 32] {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).expect("the kernel gives random bytes");
    secret
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys")
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime_s
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; 12];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let key = &self.current;
        key.sealing.seal_in_place_append_tag(aead::Nonce::assume_unique_for_key(nonce), aead::Aad::from(key.name), &mut sealed).ok()?;
        let mut ticket = Vec::with_capacity(8 + 12 + sealed.len());
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(8)?;
        let (nonce, sealed) = rest.split_at_checked(12)?;
        let key = std::iter::once(&self.current).chain(&self.previous).find(|key| key.name == name)?;
        let mut plain = sealed.to_vec();
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
        let length = key.sealing.open_in_place(nonce, aead::Aad::from(key.name), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

/// The cipher suites Corelane offers, strongest and cheapest with AES instructions first.
pub fn cipher_suites() -> Vec<rustls::SupportedCipherSuite> {
    vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ticket opens under the key that sealed it and under its successor, then no more.
    #[test]
    fn tickets_survive_one_rotation() {
        let first = TicketKeys::generate();
        let ticket = first.encrypt(b"secret state").expect("sealing works");
        assert_eq!(first.decrypt(&ticket).as_deref(), Some(&b"secret state"[..]));
        let second = first.rotated();
        assert_eq!(second.decrypt(&ticket).as_deref(), Some(&b"secret state"[..]));
        assert_eq!(second.rotated().decrypt(&ticket), None);
    }

    /// A ticket that was touched, cut or made up never opens.
    #[test]
    fn a_forged_ticket_does_not_open() {
        let keys = TicketKeys::generate();
        let ticket = keys.encrypt(b"state").expect("sealing works");
        for index in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[index] ^= 1;
            assert_eq!(keys.decrypt(&forged), None, "byte {index}");
            assert_eq!(keys.decrypt(&ticket[..index]), None, "cut at {index}");
        }
    }
}
