//! The keys that Corelane makes itself: the fallback certificate, and the keys of session tickets, which outlive a restart.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::KeyPair;

use crate::snapshot::certificate::Pair;
use crate::snapshot::certificate::TicketKeys;

/// A self-signed ECDSA P-256 certificate for clients that no other one fits. Made anew at every start: nobody should come to trust it.
///
/// # Errors
/// The crypto library's, which has none for these fixed parameters.
pub(crate) fn fallback_pair() -> Result<Pair, String> {
    let mut params = CertificateParams::new(vec!["corelane.invalid".to_owned()]).map_err(|error| error.to_string())?;
    params.distinguished_name.push(DnType::CommonName, "corelane default");
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|error| error.to_string())?;
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    Pair::from_pem("self-signed", certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).map_err(|bad| format!("{bad:?}"))
}

/// The secrets behind [`TicketKeys`], and when the newest was made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Secrets {
    current: [u8; 32],
    previous: Option<[u8; 32]>,
    made_at_s: u64,
}

/// Ticket keys with their place on disk. A restarted process opens the tickets of the one before it.
pub(crate) struct TicketStore {
    file: Option<PathBuf>,
    secrets: Secrets,
}

impl TicketStore {
    /// Reads the keys kept in `state_dir`, or makes new ones. `now_s` is wall-clock time in seconds since 1970.
    pub(crate) fn open(state_dir: Option<&Path>, now_s: u64) -> Self {
        let file = state_dir.map(|directory| directory.join("ticket-keys"));
        let kept = file.as_deref().and_then(|file| match load(file) {
            Ok(secrets) => Some(secrets),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "ticket keys are not taken from disk: new ones are made");
                None
            }
        });
        let fresh = || Secrets { current: random(), previous: None, made_at_s: now_s };
        let lifetime = u64::from(TicketKeys::LIFETIME_S);
        let secrets = kept.filter(|kept| now_s.saturating_sub(kept.made_at_s) < 2 * lifetime).unwrap_or_else(fresh);
        let mut store = Self { file, secrets };
        if store.rotates_in(now_s).is_zero() {
            store.secrets = store.secrets.rotated(now_s);
        }
        store.save();
        store
    }

    /// The keys as shards use them.
    pub(crate) fn keys(&self) -> TicketKeys {
        TicketKeys::from_secrets(self.secrets.current, self.secrets.previous)
    }

    /// Time left until the keys are due for [`TicketStore::rotate`].
    pub(crate) fn rotates_in(&self, now_s: u64) -> Duration {
        // A clock that went back must not keep a key for longer than its lifetime from now.
        let age = now_s.saturating_sub(self.secrets.made_at_s);
        Duration::from_secs(u64::from(TicketKeys::LIFETIME_S).saturating_sub(age))
    }

    /// Makes a new current key; the old one still opens tickets until the next rotation.
    pub(crate) fn rotate(&mut self, now_s: u64) {
        self.secrets = self.secrets.rotated(now_s);
        self.save();
    }

    /// Losing the file costs full handshakes after a restart, nothing else.
    fn save(&self) {
        let Some(file) = &self.file else { return };
        if let Err(error) = write(file, &self.secrets) {
            tracing::warn!(file = %file.display(), %error, "ticket keys are not kept on disk: a restart will cost full handshakes");
        }
    }
}

impl Secrets {
    fn rotated(&self, now_s: u64) -> Self {
        Self { current: random(), previous: Some(self.current), made_at_s: now_s }
    }

    fn to_text(&self) -> String {
        let key = |secret: &[u8; 32]| STANDARD.encode(secret);
        let previous = self.previous.as_ref().map(key).unwrap_or_default();
        format!("corelane ticket keys 1\n{}\n{}\n{previous}\n", self.made_at_s, key(&self.current))
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != "corelane ticket keys 1" {
            return None;
        }
        let made_at_s = lines.next()?.parse().ok()?;
        let key = |line: &str| -> Option<[u8; 32]> { STANDARD.decode(line).ok()?.try_into().ok() };
        let current = key(lines.next()?)?;
        let previous = match lines.next()? {
            "" => None,
            line => Some(key(line)?),
        };
        Some(Self { current, previous, made_at_s })
    }
}

fn random() -> [u8; 32] {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).expect("the kernel gives random bytes");
    secret
}

fn load(file: &Path) -> io::Result<Secrets> {
    if fs::metadata(file)?.mode() & 0o077 != 0 {
        return Err(io::Error::other("others may read the file (its mode should be 0600)"));
    }
    Secrets::from_text(&fs::read_to_string(file)?).ok_or_else(|| io::Error::other("it is not a file of ticket keys"))
}

/// Writes beside the file and renames: a crash leaves the old keys or the new ones, never half of them.
fn write(file: &Path, secrets: &Secrets) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let beside = file.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    out.write_all(secrets.to_text().as_bytes())?;
    out.sync_all()?;
    fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const LIFETIME_S: u64 = TicketKeys::LIFETIME_S as u64;

    /// Keys outlive a restart, are rotated when due, and are given up when both are too old.
    #[test]
    fn ticket_keys_outlive_a_restart() {
        let directory = std::env::temp_dir().join(format!("corelane-{}-tickets", std::process::id()));
        drop(fs::remove_dir_all(&directory));
        let first = TicketStore::open(Some(&directory), 1000);
        let file = directory.join("ticket-keys");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let again = TicketStore::open(Some(&directory), 1000 + LIFETIME_S - 1);
        assert_eq!((&again.secrets, again.rotates_in(1000 + LIFETIME_S - 1)), (&first.secrets, Duration::from_secs(1)));
        let later = TicketStore::open(Some(&directory), 1000 + LIFETIME_S);
        assert_eq!(later.secrets.previous, Some(first.secrets.current));
        let much_later = TicketStore::open(Some(&directory), 1000 + 3 * LIFETIME_S);
        assert_eq!(much_later.secrets.previous, None);

        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let suspicious = TicketStore::open(Some(&directory), 1000 + 3 * LIFETIME_S);
        assert_ne!(suspicious.secrets.current, much_later.secrets.current, "a key that others could read is not used");
        fs::remove_dir_all(&directory).unwrap();
    }

    /// A clock that went back, a file of somebody else, a cut file: never a panic, never a stale key.
    #[test]
    fn a_bad_key_file_is_not_used() {
        let secrets = Secrets { current: [1; 32], previous: Some([2; 32]), made_at_s: 5 };
        let text = secrets.to_text();
        assert_eq!(Secrets::from_text(&text), Some(secrets));
        for cut in 0..text.len() - 1 {
            let parsed = Secrets::from_text(&text[..cut]);
            assert!(parsed.is_none_or(|parsed| parsed.previous.is_none()), "cut at {cut}");
        }
        let store = TicketStore::open(None, 1000);
        assert_eq!(store.rotates_in(0), Duration::from_secs(LIFETIME_S));
    }

    /// The fallback certificate belongs to its key.
    #[test]
    fn the_fallback_pair_signs() {
        let pair = fallback_pair().unwrap();
        let key = pair.ecdsa.as_ref().unwrap();
        assert!(key.keys_match().is_ok() && pair.not_after > 0);
    }
}
