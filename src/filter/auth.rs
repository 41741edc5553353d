//! Basic authentication (RFC 7617) against htpasswd entries.
//!
//! Fast hashes are checked at once. Slow ones (bcrypt, and the thousand rounds of MD5 of apr1) are checked on another thread; what
//! was found is remembered for a while, keyed by a hash of credentials and entry, so that the same user costs one slow check in a
//! while.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::Digest;

use crate::filter::answer::Answer;
use crate::http::head::RequestHead;
use crate::snapshot::rule::BasicAuth;

/// How long the result of a slow check holds, in milliseconds.
const REMEMBERED_MS: u64 = 60_000;
/// Results remembered by one shard.
const REMEMBERED_MAX: usize = 4096;
/// Credentials longer than this are wrong, in bytes.
const CREDENTIALS_BYTES_MAX: usize = 1024;

/// A slow check to be done elsewhere.
#[derive(Clone, Debug)]
pub struct PasswordCheck {
    key: [u8; 32],
    password: Vec<u8>,
    entry: String,
}

impl PasswordCheck {
    /// Does the check; takes tens of milliseconds where [`Self::is_long`], else a fraction of one.
    pub fn run(&self) -> bool {
        match rounds_of_md5(&self.entry) {
            Some((magic, salt, hash)) => same(md5_crypt(&self.password, magic, salt.as_bytes()).as_bytes(), hash.as_bytes()),
            None => bcrypt::verify(&self.password, &self.entry).unwrap_or(false),
        }
    }

    /// Whether it is too long for a thread that answers probes.
    pub fn is_long(&self) -> bool {
        rounds_of_md5(&self.entry).is_none()
    }
}

/// What the credentials are worth.
#[derive(Debug)]
pub enum Login {
    Accepted,
    Refused,
    Verify(PasswordCheck),
}

/// Results of slow checks.
#[derive(Debug, Default)]
pub struct Remembered(HashMap<[u8; 32], (bool, u64)>);

impl Remembered {
    fn find(&self, key: &[u8; 32], now_ms: u64) -> Option<bool> {
        self.0.get(key).filter(|(_, until_ms)| *until_ms > now_ms).map(|(holds, _)| *holds)
    }

    /// Keeps a result; over the bound the old ones go first.
    pub fn remember(&mut self, check: &PasswordCheck, holds: bool, now_ms: u64) {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.retain(|_, (_, until_ms)| *until_ms > now_ms);
        }
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        self.0.insert(check.key, (holds, now_ms + REMEMBERED_MS));
    }
}

/// Checks the Authorization field of a request.
pub fn check(login: &BasicAuth, head: &RequestHead<'_, '_>, remembered: &Remembered, now_ms: u64) -> Login {
    let Some((user, password)) = credentials(head) else { return Login::Refused };
    let Some(entry) = login.users.get(&user) else { return Login::Refused };
    match verify_fast(entry, &password) {
        Some(true) => Login::Accepted,
        Some(false) => Login::Refused,
        None => {
            let key = key_of(&user, &password, entry);
            match remembered.find(&key, now_ms) {
                Some(true) => Login::Accepted,
                Some(false) => Login::Refused,
                None => Login::Verify(PasswordCheck { key, password, entry: entry.clone() }),
            }
        }
    }
}

/// 401 with the realm.
pub fn challenge(login: &BasicAuth) -> Answer {
    let mut answer = Answer::plain(401, "authentication_required");
    let mut value = b"Basic realm=\"".to_vec();
    value.extend(login.realm.bytes().filter(|byte| !matches!(byte, b'"' | b'\\') && (b' '..0x7f).contains(byte)));
    value.push(b'"');
    answer.fields.push(("WWW-Authenticate", value));
    answer
}

fn credentials(head: &RequestHead<'_, '_>) -> Option<(String, Vec<u8>)> {
    let value = head.field("authorization")?;
    if value.len() > CREDENTIALS_BYTES_MAX {
        return None;
    }
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

/// `None` where the entry's hash is slow by design.
fn verify_fast(entry: &str, password: &[u8]) -> Option<bool> {
    if entry.starts_with("$2") || rounds_of_md5(entry).is_some() {
        return None;
    }
    if let Some(hash) = entry.strip_prefix("{SHA}") {
        let digest = STANDARD.encode(sha1::Sha1::digest(password));
        return Some(same(digest.as_bytes(), hash.as_bytes()));
    }
    if let Some(encoded) = entry.strip_prefix("{SSHA}") {
        let Ok(bytes) = STANDARD.decode(encoded) else { return Some(false) };
        let Some((digest, salt)) = bytes.split_at_checked(20) else { return Some(false) };
        let mut hasher = sha1::Sha1::new();
        hasher.update(password);
        hasher.update(salt);
        return Some(same(&hasher.finalize(), digest));
    }
    if let Some(plain) = entry.strip_prefix("{PLAIN}") {
        return Some(same(plain.as_bytes(), password));
    }
    Some(false)
}

/// Magic, salt and hash of an entry of apr1, or of crypt's `$1$`, which differs in its magic alone.
fn rounds_of_md5(entry: &str) -> Option<(&'static str, &str, &str)> {
    let (magic, rest) = ["$apr1$", "$1$"].into_iter().find_map(|magic| Some((magic, entry.strip_prefix(magic)?)))?;
    let (salt, hash) = rest.split_once('$').unwrap_or((rest, ""));
    Some((magic, salt, hash))
}

/// Compares without telling by time where the difference lies.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn key_of(user: &str, password: &[u8], entry: &str) -> [u8; 32] {
    let mut text = Vec::new();
    for part in [user.as_bytes(), password, entry.as_bytes()] {
        text.extend((part.len() as u64).to_le_bytes());
        text.extend(part);
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
    let mut key = [0; 32];
    key.copy_from_slice(digest.as_ref());
    key
}

/// MD5 crypt, Apache's variant or the first: a thousand rounds, about 0.2 ms.
fn md5_crypt(password: &[u8], magic: &str, salt: &[u8]) -> String {
    use md5::Md5;
    let salt = &salt[..salt.len().min(8)];
    let mut inner = Md5::new();
    inner.update(password);
    inner.update(salt);
    inner.update(password);
    let mut digest = inner.finalize();
    let mut outer = Md5::new();
    outer.update(password);
    outer.update(magic.as_bytes());
    outer.update(salt);
    for start in (0..password.len()).step_by(16) {
        outer.update(&digest[..(password.len() - start).min(16)]);
    }
    let mut length = password.len();
    while length > 0 {
        outer.update(if length & 1 == 1 { &[0][..] } else { &password[..1] });
        length >>= 1;
    }
    digest = outer.finalize();
    for round in 0..1000 {
        let mut hasher = Md5::new();
        if round & 1 == 1 {
            hasher.update(password)
        } else {
            hasher.update(digest)
        }
        if round % 3 != 0 {
            hasher.update(salt);
        }
        if round % 7 != 0 {
            hasher.update(password);
        }
        if round & 1 == 1 {
            hasher.update(digest)
        } else {
            hasher.update(password)
        }
        digest = hasher.finalize();
    }
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(22);
    let mut write = |mut value: u32, letters: usize| {
        for _ in 0..letters {
            text.push(ALPHABET[(value & 63) as usize] as char);
            value >>= 6;
        }
    };
    for (a, b, c) in [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)] {
        write(u32::from(digest[a]) << 16 | u32::from(digest[b]) << 8 | u32::from(digest[c]), 4);
    }
    write(u32::from(digest[11]), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::rule;
    use crate::filter::tests::with_facts;
    use crate::snapshot::rule::Policy;

    fn outcome(entry: &str, authorization: &str) -> &'static str {
        let login = BasicAuth { realm: "r".to_owned(), users: [("user".to_owned(), entry.to_owned())].into() };
        let wire = format!("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: {authorization}\r\n\r\n");
        with_facts(
            &wire,
            &rule(Policy::default()),
            |_| {},
            |facts| match check(&login, facts.head, &Remembered::default(), 0) {
                Login::Accepted => "accepted",
                Login::Refused => "refused",
                Login::Verify(check) if check.run() => "accepted slowly",
                Login::Verify(_) => "refused slowly",
            },
        )
    }

    fn basic(user: &str, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    }

    /// Every supported form of htpasswd accepts its password and nothing else. The hashes come from htpasswd and openssl.
    #[test]
    fn every_form_of_htpasswd_is_checked() {
        let slow = bcrypt::hash("secret", 4).expect("hashing works");
        for (entry, prefix) in [
            ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", ""),
            ("{PLAIN}secret", ""),
            ("$apr1$TqI9WECO$LHZB2DqRlk9nObiB6vJG9.", " slowly"),
            ("$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1", " slowly"),
            (slow.as_str(), " slowly"),
        ] {
            assert_eq!(outcome(entry, &basic("user", "secret")), format!("accepted{prefix}"), "{entry}");
            assert_eq!(outcome(entry, &basic("user", "Secret")), format!("refused{prefix}"), "{entry}");
            assert_eq!(outcome(entry, &basic("other", "secret")), "refused", "{entry}");
        }
        let mut hasher = sha1::Sha1::new();
        hasher.update(b"secretsalt");
        let mut salted = hasher.finalize().to_vec();
        salted.extend(b"salt");
        let salted = format!("{{SSHA}}{}", STANDARD.encode(salted));
        assert_eq!(outcome(&salted, &basic("user", "secret")), "accepted");
        assert_eq!(outcome(&salted, &basic("user", "secres")), "refused");
    }

    /// What is not a well-formed Basic credential is refused.
    #[test]
    fn broken_credentials_are_refused() {
        for authorization in ["", "Basic", "Basic !!!", "Bearer dXNlcjpzZWNyZXQ=", "Basic dXNlcg==", "basic"] {
            assert_eq!(outcome("{PLAIN}secret", authorization), "refused", "{authorization:?}");
        }
        assert_eq!(outcome("{PLAIN}secret", "bASIC dXNlcjpzZWNyZXQ="), "accepted");
        assert_eq!(outcome("unknown-form", &basic("user", "unknown-form")), "refused");
    }

    /// A slow result holds for its time, for exactly these credentials and this entry.
    #[test]
    fn a_slow_result_is_remembered_for_a_while() {
        let mut remembered = Remembered::default();
        let check = PasswordCheck { key: key_of("u", b"p", "e"), password: b"p".to_vec(), entry: "e".to_owned() };
        remembered.remember(&check, true, 1000);
        assert_eq!(remembered.find(&check.key, 1000 + REMEMBERED_MS - 1), Some(true));
        assert_eq!(remembered.find(&check.key, 1000 + REMEMBERED_MS), None);
        assert_eq!(remembered.find(&key_of("u", b"p", "e2"), 1001), None);
        assert_ne!(key_of("ab", b"c", "e"), key_of("a", b"bc", "e"));
    }
}
