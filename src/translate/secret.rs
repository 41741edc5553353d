//! Certificates and keys out of Secrets.

use k8s_openapi::api::core::v1::Secret;

use crate::snapshot::certificate::Pair;

/// What is wrong with a Secret, as a finding says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSecret {
    /// `SecretKeyMismatch`, ...
    pub reason: &'static str,
    /// `data[tls.crt]`, ...
    pub field: String,
    pub message: String,
    pub cure: String,
}

/// The certificate chain and key of a `kubernetes.io/tls` Secret.
///
/// # Errors
/// [`BadSecret`]: keys missing, not PEM, more than 1 MiB, key and certificate do not match.
pub fn pair(source: &str, _secret: &Secret) -> Result<Pair, BadSecret> {
    let message = format!("certificates are not read yet, that of {source} neither");
    Err(BadSecret { reason: "Unsupported", field: "data".to_owned(), message, cure: "Wait for the next version.".to_owned() })
}

/// The names a pair is good for: DNS names of the leaf, lower case, wildcards as written.
pub fn names(_pair: &Pair) -> Vec<String> {
    Vec::new()
}
