//! What Secrets hold: certificates with their keys, and users with their passwords.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;

use crate::snapshot::certificate::BadPair;
use crate::snapshot::certificate::Pair;
use crate::snapshot::rule::BasicAuth;

/// Users that one Secret may list.
const USERS_MAX: usize = 10_000;

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

impl BadSecret {
    fn new(reason: &'static str, key: &str, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { reason, field: format!("data[{key}]"), message: message.into(), cure: cure.into() }
    }

    fn missing(key: &str, content: &str) -> Self {
        let cure = format!("Put {content} under the key {key}.");
        Self::new("SecretKeyMissing", key, format!("the Secret has no key {key}"), cure)
    }
}

/// The certificate chain and key of a `kubernetes.io/tls` Secret. An expired one is served all the same: see `Pair::not_after`.
///
/// # Errors
/// [`BadSecret`]: keys missing, not PEM, more than 1 MiB, key and certificate do not match.
pub fn pair(source: &str, secret: &Secret) -> Result<Pair, BadSecret> {
    let chain = bytes(secret, "tls.crt").ok_or_else(|| BadSecret::missing("tls.crt", "the certificate chain in PEM, leaf first,"))?;
    let key = bytes(secret, "tls.key").ok_or_else(|| BadSecret::missing("tls.key", "the private key in PEM"))?;
    Pair::from_pem(source, chain, key).map_err(|bad| match bad {
        BadPair::BadChain => BadSecret::new(
            "SecretNotPem",
            "tls.crt",
            "tls.crt is not a chain of X.509 certificates in PEM",
            "Put the chain in PEM there, the certificate of the host first.",
        ),
        BadPair::BadKey => BadSecret::new(
            "SecretNotPem",
            "tls.key",
            "tls.key is not an RSA, ECDSA or Ed25519 key in PEM",
            "Put the key there as PKCS#8, PKCS#1 or SEC1 in PEM, without a passphrase.",
        ),
        BadPair::KeyMismatch => BadSecret::new(
            "SecretKeyMismatch",
            "tls.key",
            "tls.key is not the key of the first certificate in tls.crt",
            "Put the certificate of the host first in tls.crt, and its own key into tls.key.",
        ),
        BadPair::TooLarge => {
            BadSecret::new("SecretTooLarge", "tls.crt", "tls.crt or tls.key is larger than 1 MiB", "Put only the host's own chain there.")
        }
    })
}

/// The names a pair is good for: DNS names of the leaf, lower case, wildcards as written.
pub fn names(pair: &Pair) -> Vec<String> {
    pair.names()
}

/// How a Secret lists users (`auth-secret-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserForm {
    /// htpasswd text under the key `auth`.
    File,
    /// Every key is a user, its value the hash.
    Map,
}

/// The users of an authentication Secret.
///
/// # Errors
/// [`BadSecret`]: no `auth`, not text, a line without a hash, a form of hash that cannot be checked, too many users, or none.
pub fn users(form: UserForm, secret: &Secret) -> Result<BTreeMap<String, String>, BadSecret> {
    let mut users = BTreeMap::new();
    match form {
        UserForm::File => {
            let content = "lines as htpasswd writes them";
            let file = bytes(secret, "auth").ok_or_else(|| BadSecret::missing("auth", content))?;
            for (index, line) in text("auth", file)?.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let Some((user, rest)) = line.split_once(':').filter(|(user, _)| !user.is_empty()) else {
                    let message = format!("line {} of the user file has no colon", index + 1);
                    return Err(BadSecret::new("SecretNotHtpasswd", "auth", message, "Write each line as user:hash, as htpasswd does."));
                };
                // Of a file with a comment after a second colon, the hash is the second field; of a repeated user, the first line.
                let hash = rest.split(':').next().unwrap_or_default();
                users.entry(user.to_owned()).or_insert(supported("auth", &format!("line {}", index + 1), hash)?.to_owned());
            }
        }
        UserForm::Map => {
            let data = secret.data.iter().flatten().map(|(user, hash)| (user, hash.0.as_slice()));
            let plain = secret.string_data.iter().flatten().map(|(user, hash)| (user, hash.as_bytes()));
            for (user, hash) in data.chain(plain) {
                users.insert(user.clone(), supported(user, "the entry", text(user, hash)?.trim())?.to_owned());
            }
        }
    }
    if users.is_empty() || users.len() > USERS_MAX {
        let message = format!("the Secret lists {} users; 1 to {USERS_MAX} are possible", users.len());
        return Err(BadSecret::new("SecretNotHtpasswd", "auth", message, "List the users there, one a line as htpasswd writes them."));
    }
    Ok(users)
}

fn supported<'h>(key: &str, place: &str, hash: &'h str) -> Result<&'h str, BadSecret> {
    if BasicAuth::is_supported(hash) {
        return Ok(hash);
    }
    // The hash itself is a credential: it is not shown.
    let message = format!("{place} of {key} has a form of password hash that is not supported");
    Err(BadSecret::new("PasswordHashUnsupported", key, message, "Use bcrypt (htpasswd -B) or apr1 (htpasswd -m)."))
}

fn text<'s>(key: &str, bytes: &'s [u8]) -> Result<&'s str, BadSecret> {
    std::str::from_utf8(bytes)
        .map_err(|_| BadSecret::new("SecretNotHtpasswd", key, format!("{key} is not UTF-8 text"), "Write it as text."))
}

/// One value; manifests may carry it in `stringData`, which an API server would have moved and which wins there.
fn bytes<'s>(secret: &'s Secret, key: &str) -> Option<&'s [u8]> {
    let plain = secret.string_data.as_ref().and_then(|data| data.get(key)).map(String::as_bytes);
    plain.or_else(|| secret.data.as_ref().and_then(|data| data.get(key)).map(|value| value.0.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    fn secret(data: &[(&str, &str)]) -> Secret {
        let data = data.iter().map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec()))).collect();
        Secret { data: Some(data), ..Secret::default() }
    }

    /// A chain and a key in PEM, good for these names.
    fn pem(names: &[&str]) -> (String, String) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn reason(data: &[(&str, &str)]) -> Option<(&'static str, String)> {
        pair("ns/tls", &secret(data)).err().map(|bad| (bad.reason, bad.field))
    }

    /// A chain with its key makes a pair that knows its names, its end and its source.
    #[test]
    fn a_chain_and_its_key_make_a_pair() {
        let (chain, key) = pem(&["A.example", "*.b.example"]);
        let (intermediate, _) = pem(&["ca.example"]);
        let got = pair("ns/tls", &secret(&[("tls.crt", &(chain + &intermediate)), ("tls.key", &key)])).expect("a pair");
        assert_eq!(names(&got), ["*.b.example", "a.example"]);
        assert_eq!(got.source, "ns/tls");
        assert!(got.ecdsa.is_some() && got.rsa.is_none() && got.not_after > 0 && got.fingerprint != [0; 32]);
        assert_eq!(got.ecdsa.expect("it is there").cert.len(), 2);
    }

    /// What an API server would have moved out of `stringData` is found there.
    #[test]
    fn plain_data_of_a_manifest_is_read() {
        let (chain, key) = pem(&["a.example"]);
        let data = [("tls.crt".to_owned(), chain), ("tls.key".to_owned(), key)].into();
        assert!(pair("ns/tls", &Secret { string_data: Some(data), ..Secret::default() }).is_ok());
    }

    /// Each way to get it wrong has its own reason and names the key that is wrong.
    #[test]
    fn a_broken_secret_says_what_is_broken() {
        let (chain, key) = pem(&["a.example"]);
        let (_, other_key) = pem(&["a.example"]);
        let cut = &chain[..chain.len() / 2];
        let huge = "x".repeat((1 << 20) + 1);
        let rotten = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned() + &chain;
        for (data, want) in [
            (vec![], ("SecretKeyMissing", "data[tls.crt]")),
            (vec![("tls.crt", chain.as_str())], ("SecretKeyMissing", "data[tls.key]")),
            (vec![("tls.crt", ""), ("tls.key", &key)], ("SecretNotPem", "data[tls.crt]")),
            (vec![("tls.crt", cut), ("tls.key", &key)], ("SecretNotPem", "data[tls.crt]")),
            (vec![("tls.crt", &rotten), ("tls.key", &key)], ("SecretNotPem", "data[tls.crt]")),
            (vec![("tls.crt", &key), ("tls.key", &chain)], ("SecretNotPem", "data[tls.crt]")),
            (vec![("tls.crt", &chain), ("tls.key", "secret")], ("SecretNotPem", "data[tls.key]")),
            (vec![("tls.crt", &chain), ("tls.key", &other_key)], ("SecretKeyMismatch", "data[tls.key]")),
            (vec![("tls.crt", &huge), ("tls.key", &key)], ("SecretTooLarge", "data[tls.crt]")),
        ] {
            let want = (want.0, want.1.to_owned());
            assert_eq!(reason(&data), Some(want));
        }
    }

    /// Both forms list the same users; comments, blank lines and a repeated user change nothing.
    #[test]
    fn users_come_from_a_file_or_a_map() {
        let file = secret(&[("auth", "# staff\n\nann:$apr1$a$b\r\nbob:{PLAIN}x:comment\nann:$apr1$later\n")]);
        let map = secret(&[("ann", "$apr1$a$b\n"), ("bob", "{PLAIN}x")]);
        let want: BTreeMap<_, _> = [("ann".to_owned(), "$apr1$a$b".to_owned()), ("bob".to_owned(), "{PLAIN}x".to_owned())].into();
        assert_eq!(users(UserForm::File, &file), Ok(want.clone()));
        assert_eq!(users(UserForm::Map, &map), Ok(want));
    }

    /// A user list that cannot be checked is refused whole, and no hash is shown.
    #[test]
    fn a_user_list_that_cannot_be_checked_is_refused() {
        for (text, reason) in [
            ("", "SecretNotHtpasswd"),
            ("ann", "SecretNotHtpasswd"),
            (":$apr1$a$b", "SecretNotHtpasswd"),
            ("ann:$apr1$a$b\nbob:rl0uE1V5OKZLA", "PasswordHashUnsupported"),
            ("ann:$6$salt$hash", "PasswordHashUnsupported"),
        ] {
            let bad = users(UserForm::File, &secret(&[("auth", text)])).expect_err(text);
            assert_eq!(bad.reason, reason, "{text}");
            assert!(!bad.message.contains("rl0uE1V5OKZLA") && !bad.message.contains("$6$"), "{}", bad.message);
        }
        let binary = Secret { data: Some([("auth".to_owned(), ByteString(vec![0xff]))].into()), ..Secret::default() };
        assert_eq!(users(UserForm::File, &binary).expect_err("binary").reason, "SecretNotHtpasswd");
        assert_eq!(users(UserForm::File, &secret(&[])).expect_err("empty").reason, "SecretKeyMissing");
    }
}
