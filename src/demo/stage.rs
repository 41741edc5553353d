//! The scene: a directory with manifests that name the ports of the echo upstreams, and a certificate made on the spot.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::demo::echo::Echoes;
use crate::demo::invitation::Addresses;
use crate::demo::invitation::Invitation;

/// The manifests, with holes for what is only known now.
const MANIFESTS: [(&str, &str); 4] = [
    ("class.yaml", include_str!("manifests/class.yaml")),
    ("shop.yaml", include_str!("manifests/shop.yaml")),
    ("blog.yaml", include_str!("manifests/blog.yaml")),
    ("guards.yaml", include_str!("manifests/guards.yaml")),
];
/// The certificate alone, for clients that are to trust it.
const CERTIFICATE: &str = "shop.crt";

/// The directory of the demo; what was made only for it goes when this is dropped.
pub struct Stage {
    directory: PathBuf,
    is_temporary: bool,
}

impl Stage {
    /// Writes the manifests and starts to listen for the echo upstreams. Nothing that exists is written over.
    ///
    /// # Errors
    /// The directory cannot be made or written, or holds a file of the demo already; no port is free.
    pub fn set(directory: Option<&Path>) -> io::Result<(Self, Echoes)> {
        let stage = match directory {
            Some(directory) => {
                fs::create_dir_all(directory)?;
                Self { directory: directory.canonicalize()?, is_temporary: false }
            }
            None => Self { directory: temporary()?, is_temporary: true },
        };
        let mut echoes = Echoes::new();
        let mut holes = Vec::new();
        for (hole, pods) in [
            ("reader", &["reader-1", "reader-2"][..]),
            ("reader-next-1", &["reader-next-1"]),
            ("feed-1", &["feed-1"]),
            ("cart-1", &["cart-1"]),
        ] {
            holes.push((hole, echoes.add(pods)?.to_string()));
        }
        let pair = rcgen::generate_simple_self_signed(["shop.localhost".to_owned()]).map_err(io::Error::other)?;
        holes.push(("certificate", STANDARD.encode(pair.cert.pem())));
        holes.push(("key", STANDARD.encode(pair.signing_key.serialize_pem())));
        stage.write(CERTIFICATE, &pair.cert.pem())?;
        for (name, manifest) in MANIFESTS {
            stage.write(name, &filled(manifest, &holes))?;
        }
        Ok((stage, echoes))
    }

    /// Where the manifests are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is printed once the demo listens at `addresses`.
    pub fn invitation(&self, addresses: Addresses) -> Invitation {
        Invitation { directory: self.directory.clone(), certificate: self.directory.join(CERTIFICATE), addresses }
    }

    /// One of them holds a key: they are for their owner only.
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.directory.join(name);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = file.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        file.write_all(text.as_bytes())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.is_temporary
            && let Err(error) = fs::remove_dir_all(&self.directory)
        {
            tracing::warn!(%error, directory = %self.directory.display(), "the demo leaves its directory behind");
        }
    }
}

/// A directory that nobody else has or can look into.
fn temporary() -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let name = format!("corelane-demo-{:016x}", u64::from_ne_bytes(random));
    let directory = std::env::temp_dir().join(name);
    fs::DirBuilder::new().mode(0o700).create(&directory)?;
    Ok(directory)
}

/// The text with every `{{hole}}` filled.
fn filled(manifest: &str, holes: &[(&str, String)]) -> String {
    holes.iter().fold(manifest.to_owned(), |text, (hole, value)| text.replace(&format!("{{{{{hole}}}}}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every hole is filled, nothing is written over, and what was made for the demo goes with it.
    #[test]
    fn the_stage_is_set_and_cleared() {
        let (stage, _echoes) = Stage::set(None).expect("a directory and ports");
        let directory = stage.directory().to_owned();
        for (name, _) in MANIFESTS {
            let text = fs::read_to_string(directory.join(name)).expect("a manifest");
            assert!(!text.contains("{{"), "{name} has a hole");
        }
        let again = Stage::set(Some(&directory)).map(|_| ()).expect_err("its files are there");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert!(directory.join("class.yaml").exists(), "a refusal takes nothing away");
        drop(stage);
        assert!(!directory.exists());
    }
}
