//! The proxies: started from templates with equal limits, on free ports of one address, pinned to one CPU.

use std::fs;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::change::Change;
use crate::change::Changes;
use crate::change::Kind;
use crate::change::Rhythm;
use crate::change::Staged;
use crate::change::Ways;
use crate::cpu::Processes;
use crate::running::Launch;
use crate::running::Place;
use crate::running::Process;
use crate::running::Running;
use crate::running::Watch;
use crate::template;
use crate::template::Endpoint;
use crate::template::Names;
use crate::tls::Identity;

/// The file of a peer's directory that says how to start it; every other file there is a template.
const DESCRIPTION: &str = "peer.toml";
/// Ports that proxies are given.
const PORTS: Range<u16> = 16_384..32_768;
const PORT_ATTEMPTS: u32 = 64;
/// A page of readiness that takes longer does not say that it is ready.
const READY_PATIENCE: Duration = Duration::from_millis(20);
/// How a good answer begins.
const GOOD: &[u8; 12] = b"HTTP/1.1 200";

/// How a peer is started.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// Found through PATH, or beside the benchmark where `beside` is set.
    program: String,
    /// Whether the program lies where this one does: what has just been built.
    #[serde(default)]
    beside: bool,
    /// What puts it there.
    #[serde(default = "workspace_build")]
    built_by: String,
    arguments: Vec<String>,
    /// Arguments that make it print its version.
    version: Vec<String>,
    /// A page of its admin address that is good once it is ready.
    ready: Option<String>,
    /// How it is changed while it serves.
    #[serde(default)]
    change: Ways,
}

fn workspace_build() -> String {
    "cargo build --release --workspace".to_owned()
}

/// What a run gives to every peer.
pub struct Ground<'a> {
    /// `bench/peers`.
    pub templates: &'a Path,
    /// Where rendered files go.
    pub scratch: &'a Path,
    pub identity: &'a Identity,
    pub place: &'a Place,
    /// The members of both clusters.
    pub upstream: &'a [SocketAddr],
    /// All addresses the upstream answers on, the members first.
    pub addresses: &'a [SocketAddr],
    /// Hosts it routes besides its usual ones.
    pub hosts: &'a [String],
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
    pub(crate) running: Running,
    changes: Changes,
    /// Its page of readiness.
    ready: Option<(SocketAddr, String)>,
}

impl Peer {
    /// Renders the templates of `name` and starts it; whether it serves, a probe must tell.
    ///
    /// # Errors
    /// With the file or program, and the cure.
    pub fn start(name: &str, label: &str, ground: &Ground<'_>) -> io::Result<Self> {
        match ground.place {
            Place::Here(address) => Self::start_here(name, label, *address, ground),
            Place::There(agent) => {
                let (proxy, version, [http, https]) = agent.start(name, label, ground)?;
                let changes = Changes::none(ground.upstream);
                Ok(Self { label: label.to_owned(), version, http, https, running: Running::There(proxy), changes, ready: None })
            }
        }
    }

    fn start_here(name: &str, label: &str, address: IpAddr, ground: &Ground<'_>) -> io::Result<Self> {
        let source = ground.templates.join(name);
        let path = source.join(DESCRIPTION);
        let text = fs::read_to_string(&path).map_err(|error| in_file(&path, &error))?;
        let description: Description = toml::from_str(&text).map_err(|error| in_file(&path, &io::Error::other(error)))?;
        let directory = ground.scratch.join(label);
        fs::create_dir_all(&directory)?;
        let (http, https, admin) = (free_port(address)?, free_port(address)?, free_port(address)?);
        let names = names(ground, &directory, [http, https, admin])?;
        let program = program(&description)?;
        let changes = Changes::new(description.change, templates(&source)?, names, ground.addresses)?;
        changes.render_all()?;
        let called = path.display().to_string();
        let arguments = description.arguments.iter().map(|argument| template::render(&called, argument, changes.names()));
        let arguments = arguments.collect::<io::Result<Vec<_>>>()?;
        let version = version(&program, &description.version)?;
        let launch = Launch {
            program,
            arguments,
            directory,
            // Outside of the directory, which a proxy may watch.
            log: ground.scratch.join(format!("{label}.log")),
            cpu: ground.proxy_cpu,
            own_cpu: ground.driver_cpu,
        };
        let running = Running::Here(Process::start(launch)?);
        let ready = description.ready.map(|page| (admin, page));
        Ok(Self { label: label.to_owned(), version, http, https, running, changes, ready })
    }

    /// Starts it anew after [`Self::stop`], with the same files, arguments and ports.
    ///
    /// # Errors
    /// Where the program cannot be run; on another host.
    pub fn start_again(&mut self) -> io::Result<()> {
        self.running.here()?.start_again()
    }

    /// Ends it, as its supervisor would; kills it where it takes too long.
    ///
    /// # Errors
    /// On another host.
    pub fn stop(&mut self) -> io::Result<()> {
        self.running.here()?.stop();
        Ok(())
    }

    /// Quicker than [`Self::processes`].
    ///
    /// # Errors
    /// Where it has ended; on another host.
    pub fn check_running(&mut self) -> io::Result<()> {
        let checked = self.running.here()?.check();
        checked.map_err(|error| self.fault(&error))
    }

    /// Its processes as they are now; workers may have come since the start.
    ///
    /// # Errors
    /// Where it has ended; on another host.
    pub fn processes(&mut self) -> io::Result<&Processes> {
        self.check_running()?;
        self.running.here()?.processes()
    }

    /// Whether it says that it is ready; `None` where it has no page for it, and whoever is let in must take it for ready.
    pub fn says_ready(&self) -> Option<bool> {
        let (admin, page) = self.ready.as_ref()?;
        Some(is_good(*admin, page).unwrap_or(false))
    }

    /// Whoever looks at what it uses.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn watch(&mut self) -> io::Result<Watch> {
        let watch = self.running.watch();
        watch.map_err(|error| self.fault(&error))
    }

    /// Where its output is found.
    pub fn log(&self) -> String {
        self.running.log()
    }

    fn fault(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.label))
    }

    /// Makes a change, all of it at once; it takes effect when the proxy gets to it.
    ///
    /// # Errors
    /// Where it does not take such a change ([`Self::takes`]), is gone, or refuses.
    pub fn apply(&mut self, change: Change) -> io::Result<()> {
        let staged = self.stage(change)?;
        self.publish(&staged)
    }

    /// The first half of [`Self::apply`]: all that takes time and that the proxy does not see.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn stage(&mut self, change: Change) -> io::Result<Staged> {
        self.changes.stage(change)
    }

    /// The second half: the moment of the change.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn publish(&self, staged: &Staged) -> io::Result<()> {
        self.changes.publish(staged, self.running.pid()?).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.label)))
    }

    /// Whether this kind of change can be made to it.
    pub fn takes(&self, kind: Kind) -> bool {
        self.changes.takes(kind)
    }

    /// At most so many changes of this kind a second, where it has a limit.
    pub fn at_most_per_s(&self, kind: Kind) -> Option<f64> {
        self.changes.at_most_per_s(kind)
    }

    /// Which kinds of change it takes how often at most, in words.
    pub fn limits(&self) -> Option<String> {
        self.changes.limits()
    }

    /// How to come as near as it allows to a rate of changes: fewer, and so many together.
    pub fn rhythm(&self, kind: Kind, wanted_per_s: f64) -> Rhythm {
        self.changes.rhythm(kind, wanted_per_s)
    }

    /// The members of cluster a as it has been told; the upstream is to be told as well.
    pub fn members(&self) -> impl Iterator<Item = SocketAddr> + Clone {
        self.changes.members()
    }

    /// The host that the latest change of routes has added.
    pub fn latest_host(&self) -> Option<&str> {
        self.changes.latest_host()
    }
}

/// Whether a page is there and good.
fn is_good(admin: SocketAddr, page: &str) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&admin, READY_PATIENCE)?;
    stream.set_read_timeout(Some(READY_PATIENCE))?;
    stream.write_all(format!("GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut status = [0; GOOD.len()];
    stream.read_exact(&mut status)?;
    Ok(status == *GOOD)
}

/// What the templates of one peer may name; its certificate is written on the way.
fn names(ground: &Ground<'_>, directory: &Path, ports: [SocketAddr; 3]) -> io::Result<Names> {
    let [http, https, admin] = ports;
    let identity = ground.identity;
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).map(|()| path.display().to_string())
    };
    let endpoints: Vec<Endpoint> = ground.upstream.iter().copied().map(Endpoint::from).collect();
    Ok(Names {
        directory: directory.display().to_string(),
        ip: http.ip().to_string(),
        http: http.to_string(),
        https: https.to_string(),
        admin: admin.to_string(),
        http_port: http.port(),
        https_port: https.port(),
        admin_port: admin.port(),
        certificate: file("certificate.pem", &identity.certificate_pem)?,
        key: file("key.pem", &identity.key_pem)?,
        certificate_and_key: file("both.pem", &format!("{}{}", identity.certificate_pem, identity.key_pem))?,
        certificate_base64: STANDARD.encode(&identity.certificate_pem),
        key_base64: STANDARD.encode(&identity.key_pem),
        steady_endpoints: endpoints.clone(),
        endpoints,
        endpoint_port: ground.upstream.first().map_or(0, SocketAddr::port),
        added: Vec::new(),
        swapped: Vec::new(),
        added_now: Vec::new(),
        removed_now: Vec::new(),
        hosts: ground.hosts.to_vec(),
    })
}

/// Name and text of everything in a peer's directory but its description.
fn templates(source: &Path) -> io::Result<Vec<(String, String)>> {
    let mut templates = Vec::new();
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != DESCRIPTION {
            let text = fs::read_to_string(entry.path()).map_err(|error| in_file(&entry.path(), &error))?;
            templates.push((name, text));
        }
    }
    Ok(templates)
}

fn program(description: &Description) -> io::Result<PathBuf> {
    if !description.beside {
        return Ok(PathBuf::from(&description.program));
    }
    let path = std::env::current_exe()?.with_file_name(&description.program);
    if path.exists() {
        return Ok(path);
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("{}: not built; {}", path.display(), description.built_by)))
}

/// The first line with words that a program prints about itself, on whichever stream.
fn version(program: &Path, arguments: &[String]) -> io::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}; is it installed?", program.display())))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned())
}

/// A port nobody listens on at this moment, below those that the kernel gives to whoever connects: while a proxy is down, and asked
/// again and again, its port is not taken by a client.
fn free_port(address: IpAddr) -> io::Result<SocketAddr> {
    let mut last = None;
    for _ in 0..PORT_ATTEMPTS {
        match TcpListener::bind((address, fastrand::u16(PORTS))) {
            Ok(listener) => return listener.local_addr(),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into());
    Err(io::Error::new(error.kind(), format!("listening on {address}: {error}")))
}

fn in_file(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every peer of this directory has a description that can be read.
    #[test]
    fn every_peer_here_is_described() {
        let floors = crate::floor::PEERS.map(|name| (name, "corelane-bench"));
        let named = ["corelane", "nginx", "haproxy", "envoy"].map(|name| (name, name));
        for (name, program) in named.into_iter().chain([("pingora", "corelane-bench-pingora")]).chain(floors) {
            let text = fs::read_to_string(Path::new("peers").join(name).join(DESCRIPTION)).unwrap();
            let description: Description = toml::from_str(&text).unwrap();
            assert_eq!(description.program, program);
        }
    }
}
