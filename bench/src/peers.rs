//! The proxies: started from templates with equal limits, on free ports of the loopback, pinned to one CPU.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Pid;
use rustix::process::Signal;
use serde::Deserialize;

use crate::cpu;
use crate::cpu::Processes;
use crate::tls::Identity;

/// The file of a peer's directory that says how to start it; every other file there is a template.
const DESCRIPTION: &str = "peer.toml";
/// How long a proxy may take to stop before it is killed.
const STOP_MS_MAX: u64 = 5_000;
const STOP_LOOK_MS: u64 = 20;

/// How a peer is started.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// Found through PATH, or beside the benchmark where `beside` is set.
    program: String,
    /// Whether the program lies where this one does: what has just been built.
    #[serde(default)]
    beside: bool,
    arguments: Vec<String>,
    /// Arguments that make it print its version.
    version: Vec<String>,
}

/// What a run gives to every peer.
pub struct Ground<'a> {
    /// `bench/peers`.
    pub templates: &'a Path,
    /// Where rendered files go.
    pub scratch: &'a Path,
    pub identity: &'a Identity,
    pub upstream: &'a [SocketAddr],
    pub proxy_cpu: usize,
    pub driver_cpu: usize,
}

/// A running proxy; its drop stops it.
pub struct Peer {
    /// As the report calls it: a second instance is the same name with a mark.
    pub label: String,
    pub version: String,
    pub http: SocketAddr,
    pub https: SocketAddr,
    child: Child,
    family: Processes,
    /// Where its output is found.
    pub log: PathBuf,
}

impl Peer {
    /// Renders the templates of `name` and starts it; whether it serves, a probe must tell.
    ///
    /// # Errors
    /// With the file or program, and the cure.
    pub fn start(name: &str, label: &str, ground: &Ground<'_>) -> io::Result<Self> {
        let source = ground.templates.join(name);
        let path = source.join(DESCRIPTION);
        let text = fs::read_to_string(&path).map_err(|error| in_file(&path, &error))?;
        let description: Description = toml::from_str(&text).map_err(|error| in_file(&path, &io::Error::other(error)))?;
        let directory = ground.scratch.join(label);
        fs::create_dir_all(&directory)?;
        let (http, https, admin) = (free_port()?, free_port()?, free_port()?);
        let values = values(ground, &directory, [http, https, admin])?;
        for entry in fs::read_dir(&source)? {
            let template = entry?.path();
            let Some(file) = template.file_name().filter(|file| *file != DESCRIPTION) else { continue };
            let text = fs::read_to_string(&template).map_err(|error| in_file(&template, &error))?;
            fs::write(directory.join(file), render(&text, &values).map_err(|error| in_file(&template, &error))?)?;
        }
        let arguments = description.arguments.iter().map(|argument| render(argument, &values)).collect::<io::Result<Vec<_>>>()?;
        let program = program(&description)?;
        let version = version(&program, &description.version)?;
        // Outside of the directory, which a proxy may watch.
        let log = ground.scratch.join(format!("{label}.log"));
        let output = fs::File::create(&log)?;
        let mut command = Command::new(&program);
        command.args(&arguments).current_dir(&directory).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A signal from the terminal is for the bench alone, which still needs the proxy for the block under way.
        command.process_group(0);
        // A child inherits where its parent may run: this way not even its first thread runs elsewhere.
        cpu::pin(ground.proxy_cpu)?;
        let started = command.spawn();
        cpu::pin(ground.driver_cpu)?;
        let child = started.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
        let family = Processes::of(child.id())?;
        Ok(Self { label: label.to_owned(), version, http, https, child, family, log })
    }

    /// Its processes as they are now; workers may have come since the start.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn processes(&mut self) -> io::Result<&Processes> {
        if let Some(status) = self.child.try_wait()? {
            return Err(io::Error::other(format!("{} has ended with {status}; see {}", self.label, self.log.display())));
        }
        self.family = Processes::of(self.child.id())?;
        Ok(&self.family)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let family = Processes::of(self.child.id()).unwrap_or_else(|_| self.family.clone());
        for pid in family.pids().iter().take(1) {
            signal(*pid, Signal::TERM);
        }
        for _ in 0..STOP_MS_MAX / STOP_LOOK_MS {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(STOP_LOOK_MS)),
                _ => return,
            }
        }
        for pid in family.pids() {
            signal(*pid, Signal::KILL);
        }
        let _reaped = self.child.wait();
    }
}

/// A process that is gone already needs no signal.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _gone = rustix::process::kill_process(pid, signal);
    }
}

/// What templates may name.
fn values(ground: &Ground<'_>, directory: &Path, ports: [SocketAddr; 3]) -> io::Result<BTreeMap<String, String>> {
    let [http, https, admin] = ports;
    let certificate = directory.join("certificate.pem");
    let key = directory.join("key.pem");
    let both = directory.join("both.pem");
    fs::write(&certificate, &ground.identity.certificate_pem)?;
    fs::write(&key, &ground.identity.key_pem)?;
    fs::write(&both, format!("{}{}", ground.identity.certificate_pem, ground.identity.key_pem))?;
    let mut values = BTreeMap::from([
        ("directory".to_owned(), directory.display().to_string()),
        ("http".to_owned(), http.to_string()),
        ("https".to_owned(), https.to_string()),
        ("admin".to_owned(), admin.to_string()),
        ("certificate".to_owned(), certificate.display().to_string()),
        ("key".to_owned(), key.display().to_string()),
        ("certificate_and_key".to_owned(), both.display().to_string()),
        ("certificate_base64".to_owned(), STANDARD.encode(&ground.identity.certificate_pem)),
        ("key_base64".to_owned(), STANDARD.encode(&ground.identity.key_pem)),
    ]);
    for (place, endpoint) in ground.upstream.iter().enumerate() {
        values.insert(format!("endpoint_{place}"), endpoint.to_string());
        values.insert(format!("endpoint_{place}_ip"), endpoint.ip().to_string());
        values.insert("endpoint_port".to_owned(), endpoint.port().to_string());
    }
    Ok(values)
}

/// Puts values in the place of `{{names}}`.
fn render(template: &str, values: &BTreeMap<String, String>) -> io::Result<String> {
    let mut rendered = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or_else(|| io::Error::other("{{ without }}"))?;
        let value = values.get(name.trim()).ok_or_else(|| io::Error::other(format!("nothing is called {{{{{name}}}}}")))?;
        rendered.push_str(before);
        rendered.push_str(value);
        rest = after;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

fn program(description: &Description) -> io::Result<PathBuf> {
    if !description.beside {
        return Ok(PathBuf::from(&description.program));
    }
    let path = std::env::current_exe()?.with_file_name(&description.program);
    if path.exists() {
        return Ok(path);
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("{}: not built; cargo build --release --workspace", path.display())))
}

/// The first line a program prints about itself, on whichever stream.
fn version(program: &Path, arguments: &[String]) -> io::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}; is it installed?", program.display())))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned())
}

/// A port nobody listens on at this moment.
fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn in_file(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> BTreeMap<String, String> {
        BTreeMap::from([("http".to_owned(), "127.0.0.1:80".to_owned()), ("key".to_owned(), "k{{http}}".to_owned())])
    }

    /// Names become values, values are not looked into, the rest stays.
    #[test]
    fn a_template_is_rendered_once() {
        let rendered = render("listen {{http}} {{ key }};\n{ a }} b }", &values()).unwrap();
        assert_eq!(rendered, "listen 127.0.0.1:80 k{{http}};\n{ a }} b }");
    }

    /// A name nobody knows, or one that does not end, is a fault that says so.
    #[test]
    fn an_unknown_name_is_a_fault() {
        assert!(render("{{port}}", &values()).unwrap_err().to_string().contains("{{port}}"));
        assert!(render("{{http", &values()).is_err());
    }

    /// Every peer of this directory has a description that can be read.
    #[test]
    fn every_peer_here_is_described() {
        for name in ["corelane", "nginx", "haproxy"] {
            let text = fs::read_to_string(Path::new("peers").join(name).join(DESCRIPTION)).unwrap();
            let description: Description = toml::from_str(&text).unwrap();
            assert_eq!(description.program, name);
        }
    }
}
