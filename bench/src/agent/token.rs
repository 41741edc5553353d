//! The secret that driver and agents share: whoever knows it may start the proxies of `peers/` on the agent's host.

use std::io;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use subtle::ConstantTimeEq;

/// Fewer characters can be guessed; more are a file that was not meant.
const BYTES_MIN: usize = 16;
const BYTES_MAX: usize = 512;

/// A secret; it is compared and sent, never printed.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Reads it from a file that nobody else may read.
    ///
    /// # Errors
    /// With the file and the cure.
    pub fn read(path: &Path) -> io::Result<Self> {
        let fault = |fault: String| io::Error::other(format!("{}: {fault}", path.display()));
        let cure = format!("make one: (umask 077; head -c 32 /dev/urandom | base64 >{})", path.display());
        let file = std::fs::File::open(path).map_err(|error| fault(format!("{error}; {cure}")))?;
        let mode = file.metadata()?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(fault(format!("others may read it (mode {:o}): chmod 600, or {cure}", mode & 0o777)));
        }
        let mut text = String::new();
        file.take(BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(|error| fault(error.to_string()))?;
        let token = text.trim();
        if !(BYTES_MIN..=BYTES_MAX).contains(&token.len()) {
            return Err(fault(format!("{} characters, must be {BYTES_MIN} to {BYTES_MAX}; {cure}", token.len())));
        }
        Ok(Self(token.to_owned()))
    }

    /// Whether somebody said the same; how long that takes tells nothing but whether the length is right.
    pub(super) fn is(&self, said: &str) -> bool {
        self.0.as_bytes().ct_eq(said.as_bytes()).into()
    }

    pub(super) fn said(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::fs::Permissions;

    /// A token is read from a private file only, without the white space around it, and neither short nor endless.
    #[test]
    fn a_token_is_private_and_long() {
        let path = std::env::temp_dir().join(format!("corelane-token-{}", std::process::id()));
        let long = "0123456789abcdef".to_owned();
        let table = [
            (format!(" {long}\n"), 0o600, None),
            (long.clone(), 0o640, Some("chmod 600")),
            (long.clone(), 0o604, Some("chmod 600")),
            ("short".to_owned(), 0o600, Some("5 characters")),
            ("x".repeat(2000), 0o600, Some("513 characters")),
        ];
        for (text, mode, fault) in table {
            fs::write(&path, &text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match (Token::read(&path), fault) {
                (Ok(token), None) => assert!(token.is(&long)),
                (Err(error), Some(fault)) => assert!(error.to_string().contains(fault), "{error}"),
                (read, fault) => panic!("{text}: {:?} instead of {fault:?}", read.map(|_| ()).map_err(|error| error.to_string())),
            }
        }
        fs::remove_file(&path).unwrap();
        assert!(Token::read(&path).is_err());
    }

    /// Only the same token is the same, from the first character to the last.
    #[test]
    fn only_the_same_token_is_the_same() {
        let token = Token("0123456789abcdef".to_owned());
        for said in ["", "0123456789abcde", "0123456789abcdeF", "1123456789abcdef", "0123456789abcdef0"] {
            assert!(!token.is(said), "{said}");
        }
        assert!(token.is("0123456789abcdef"));
    }
}
