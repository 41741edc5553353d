//! The driver's end: proxies and an upstream on other hosts, asked through their agents.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "no shard is near")]
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use super::channel::Channel;
use super::channel::LINE_BYTES_MAX;
use super::token::Token;
use super::words::Ask;
use super::words::Count;
use super::words::Hello;
use super::words::Role;
use super::words::Say;
use super::words::Start;
use super::words::VERSION;
use crate::cpu::Look;
use crate::cpu::Usage;
use crate::host::Host;
use crate::peers::Ground;

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer may take: the slowest is that a proxy has been stopped.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// A run's connection to one agent.
struct Link {
    /// As faults call it.
    agent: String,
    channel: Channel,
    /// Questions whose answers have not been read yet.
    unread: usize,
    host: Host,
}

impl Link {
    fn open(address: SocketAddr, role: Role, token: &Token) -> io::Result<Self> {
        let agent = format!("{role} agent {address}");
        let fault = |error: io::Error| io::Error::new(error.kind(), format!("{agent}: {error}"));
        let stream = TcpStream::connect_timeout(&address, CONNECT_PATIENCE).map_err(fault)?;
        let mut link = Self { channel: Channel::new(stream)?, unread: 0, host: Host::default(), agent: agent.clone() };
        match link.ask(&Hello { version: VERSION, role, token: token.said() })? {
            Say::Welcome { host } => link.host = *host,
            other => return Err(link.astray(&other)),
        }
        Ok(link)
    }

    /// Asks and waits for the answer.
    fn ask(&mut self, words: &impl serde::Serialize) -> io::Result<Say> {
        // Whoever asked before has lost interest, as after a fault.
        while self.unread > 0 {
            self.hear()?;
        }
        self.send(words)?;
        self.hear()
    }

    /// Asks; the answer is read later, with [`Self::hear`].
    fn send(&mut self, words: &impl serde::Serialize) -> io::Result<()> {
        self.channel.send(words).map_err(|error| self.fault(error))?;
        self.unread += 1;
        Ok(())
    }

    /// The next answer; that something was refused is a fault.
    fn hear(&mut self) -> io::Result<Say> {
        let heard = self.channel.receive(Some(ANSWER_PATIENCE), LINE_BYTES_MAX).map_err(|error| self.fault(error))?;
        self.unread -= 1;
        match heard {
            Some(Say::Refused { why }) => Err(self.fault(io::Error::other(why))),
            Some(said) => Ok(said),
            None => Err(self.fault(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    fn fault(&self, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.agent))
    }

    fn astray(&self, said: &Say) -> io::Error {
        self.fault(io::Error::other(format!("its answer is to another question: {said:?}")))
    }
}

/// One link for all proxies of a run.
#[derive(Clone)]
#[expect(clippy::disallowed_types, reason = "a peer may be handed to the thread that changes it, and its watch stays with the driver")]
struct Shared(Arc<Mutex<Link>>);

#[expect(clippy::disallowed_types, reason = "as above")]
impl Shared {
    fn new(link: Link) -> Self {
        Self(Arc::new(Mutex::new(link)))
    }

    fn lock(&self) -> MutexGuard<'_, Link> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Proxies on the host of an agent.
#[derive(Clone)]
pub struct FarProxies {
    link: Shared,
    /// Where they listen.
    address: IpAddr,
}

impl FarProxies {
    /// Connects to an agent; without an address, its proxies listen where it does.
    ///
    /// # Errors
    /// With the agent, and its words where it refuses.
    pub fn connect(agent: SocketAddr, token: &Token, address: Option<IpAddr>) -> io::Result<Self> {
        let link = Link::open(agent, Role::Proxy, token)?;
        Ok(Self { link: Shared::new(link), address: address.unwrap_or_else(|| agent.ip()) })
    }

    /// The agent's host.
    pub fn host(&self) -> Host {
        self.link.lock().host.clone()
    }

    /// Starts a peer of the agent's templates; its version, and where it takes HTTP and HTTPS.
    ///
    /// # Errors
    /// The agent's.
    pub(crate) fn start(&self, peer: &str, label: &str, ground: &Ground<'_>) -> io::Result<(FarProxy, String, [SocketAddr; 2])> {
        let start = Start {
            peer: peer.to_owned(),
            label: label.to_owned(),
            address: self.address,
            endpoints: ground.upstream.to_vec(),
            hosts: ground.hosts.to_vec(),
            certificate_pem: ground.identity.certificate_pem.clone(),
            key_pem: ground.identity.key_pem.clone(),
        };
        let mut link = self.link.lock();
        match link.ask(&Ask::Start(start))? {
            Say::Started { version, http, https } => {
                let proxy = FarProxy(FarWatch { link: self.link.clone(), label: label.to_owned() });
                Ok((proxy, version, [http, https]))
            }
            other => Err(link.astray(&other)),
        }
    }
}

/// One proxy on the host of an agent; its drop stops it.
pub struct FarProxy(pub(crate) FarWatch);

impl Drop for FarProxy {
    fn drop(&mut self) {
        // An agent that is gone has stopped its proxies by itself.
        let _gone = self.0.link.lock().ask(&Ask::Stop { label: self.0.label.clone() });
    }
}

/// Whoever asks what such a proxy has used.
#[derive(Clone)]
pub struct FarWatch {
    link: Shared,
    label: String,
}

impl FarWatch {
    /// Whether it still runs, and what of its CPU's time the hypervisor took and all of it, in ticks.
    ///
    /// # Errors
    /// Where it does not.
    pub(crate) fn check(&self) -> io::Result<(u64, u64)> {
        let mut link = self.link.lock();
        match link.ask(&Ask::Check { label: self.label.clone() })? {
            Say::Checked { stolen, ticks } => Ok((stolen, ticks)),
            other => Err(link.astray(&other)),
        }
    }

    /// Has the agent look now, and does not wait for what it sees.
    ///
    /// # Errors
    /// Where the agent is gone.
    pub(crate) fn look(&self, look: Look) -> io::Result<()> {
        self.link.lock().send(&Ask::Look { label: self.label.clone(), look })
    }

    /// What was seen in all looks since the last time.
    ///
    /// # Errors
    /// Where the proxy or the agent is gone.
    pub(crate) fn seen(&self) -> io::Result<Vec<Usage>> {
        let mut link = self.link.lock();
        let mut seen = Vec::new();
        while link.unread > 0 {
            match link.hear()? {
                Say::Looked(usage) => seen.push(usage),
                other => return Err(link.astray(&other)),
            }
        }
        Ok(seen)
    }
}

/// An upstream on the host of an agent.
pub struct FarUpstream {
    link: Link,
    endpoints: Vec<SocketAddr>,
}

impl FarUpstream {
    /// Connects to an agent and has it serve on these addresses, or where it listens itself.
    ///
    /// # Errors
    /// With the agent, and its words where it refuses.
    pub fn connect(agent: SocketAddr, token: &Token, addresses: &[IpAddr]) -> io::Result<Self> {
        let mut link = Link::open(agent, Role::Upstream, token)?;
        let addresses = if addresses.is_empty() { vec![agent.ip()] } else { addresses.to_vec() };
        match link.ask(&Ask::Serve { addresses })? {
            Say::Serving { endpoints } => Ok(Self { link, endpoints }),
            other => Err(link.astray(&other)),
        }
    }

    /// The agent's host.
    pub fn host(&self) -> Host {
        self.link.host.clone()
    }

    pub(crate) fn endpoints(&self) -> &[SocketAddr] {
        &self.endpoints
    }

    /// Has the agent count now, and does not wait for the number.
    ///
    /// # Errors
    /// Where the agent is gone.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        self.link.send(&Ask::Count)
    }

    /// All counts since the last time.
    ///
    /// # Errors
    /// Where the upstream or the agent is gone.
    pub(crate) fn seen(&mut self) -> io::Result<Vec<Count>> {
        let mut seen = Vec::new();
        while self.link.unread > 0 {
            match self.link.hear()? {
                Say::Counted(count) => seen.push(count),
                other => return Err(self.link.astray(&other)),
            }
        }
        Ok(seen)
    }
}
