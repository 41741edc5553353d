//! The proxies of a run on a host of their own: started from this host's templates, pinned, watched, stopped.

use std::io;
use std::path::PathBuf;

use super::words::Ask;
use super::words::Say;
use super::words::Start;
use crate::cpu::Look;
use crate::peers::Ground;
use crate::peers::Peer;
use crate::running::Place;
use crate::running::Watch;
use crate::tls::Identity;

/// Proxies of one run, and endpoints behind each.
const PEERS_MAX: usize = 32;
const ENDPOINTS_MAX: usize = 256;
/// Characters of a name.
const NAME_MAX: usize = 64;

/// Where an agent's proxies run.
#[derive(Clone)]
pub(super) struct Workplace {
    /// `bench/peers`.
    pub(super) templates: PathBuf,
    /// Where rendered files and logs go.
    pub(super) scratch: PathBuf,
    pub(super) proxy_cpu: usize,
    /// Where the agent itself runs.
    pub(super) own_cpu: usize,
}

/// A proxy, and its processes as they were at the last check.
struct Watched {
    peer: Peer,
    watch: Watch,
}

/// The proxies of one run; their drop ends them.
pub(super) struct Proxies {
    workplace: Workplace,
    running: Vec<Watched>,
    /// How many were started so far: each has a directory of its own.
    started: u32,
    failed: bool,
}

impl Proxies {
    pub(super) fn new(workplace: Workplace) -> Self {
        Self { workplace, running: Vec::new(), started: 0, failed: false }
    }

    /// # Errors
    /// With the proxy, and the file on this host that says more.
    pub(super) fn answer(&mut self, ask: Ask) -> io::Result<Say> {
        let said = match ask {
            Ask::Start(start) => self.start(&start),
            Ask::Check { label } => self.check(&label),
            Ask::Look { label, look } => self.look(&label, look),
            Ask::Stop { label } => {
                self.running.retain(|watched| watched.peer.label != label);
                Ok(Say::Stopped)
            }
            Ask::Serve { .. } | Ask::Count => return Err(io::Error::other("a proxy agent is no upstream")),
        };
        self.failed |= said.is_err();
        said
    }

    fn start(&mut self, start: &Start) -> io::Result<Say> {
        // The name becomes a path: nothing outside of the templates can be meant.
        for name in [&start.peer, &start.label] {
            if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return Err(io::Error::other(format!("{name:?} is no name of a proxy: letters, digits and `-`, {NAME_MAX} at most")));
            }
        }
        if self.running.len() >= PEERS_MAX || self.running.iter().any(|watched| watched.peer.label == start.label) {
            return Err(io::Error::other(format!("{} runs already, or {PEERS_MAX} others do", start.label)));
        }
        if start.endpoints.is_empty() || start.endpoints.len() > ENDPOINTS_MAX {
            return Err(io::Error::other(format!("{} endpoints, must be 1 to {ENDPOINTS_MAX}", start.endpoints.len())));
        }
        let identity = Identity::of(start.certificate_pem.clone(), start.key_pem.clone())
            .map_err(|error| io::Error::other(format!("certificate_pem: {error}")))?;
        self.started += 1;
        let ground = Ground {
            templates: &self.workplace.templates,
            scratch: &self.workplace.scratch.join(self.started.to_string()),
            identity: &identity,
            place: &Place::Here(start.address),
            upstream: &start.endpoints,
            addresses: &start.endpoints,
            hosts: &start.hosts,
            proxy_cpu: self.workplace.proxy_cpu,
            driver_cpu: self.workplace.own_cpu,
        };
        let mut peer = Peer::start(&start.peer, &start.label, &ground)?;
        let started = Say::Started { version: peer.version.clone(), http: peer.http, https: peer.https };
        let watch = peer.watch()?;
        self.running.push(Watched { peer, watch });
        Ok(started)
    }

    fn check(&mut self, label: &str) -> io::Result<Say> {
        let Watched { peer, watch } = self.watched(label)?;
        *watch = peer.watch()?;
        let (stolen, ticks) = peer.running.stolen()?;
        Ok(Say::Checked { stolen, ticks })
    }

    fn look(&mut self, label: &str, look: Look) -> io::Result<Say> {
        let watch = &mut self.watched(label)?.watch;
        watch.look(look)?;
        watch.seen()?.pop().map(Say::Looked).ok_or_else(|| io::Error::other(format!("{label} was not seen")))
    }

    fn watched(&mut self, label: &str) -> io::Result<&mut Watched> {
        let found = self.running.iter_mut().find(|watched| watched.peer.label == label);
        found.ok_or_else(|| io::Error::other(format!("{label} does not run")))
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.running.clear();
        // Kept where something failed, for the proxies' own words are in there.
        if !self.failed {
            let _never_made = std::fs::remove_dir_all(&self.workplace.scratch);
        }
    }
}
