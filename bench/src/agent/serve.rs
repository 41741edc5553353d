//! The agent itself: a listener that admits whoever knows the token, one run at a time.

use std::io;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;

use super::channel::Channel;
use super::channel::LINE_BYTES_MAX;
use super::endpoints::Endpoints;
use super::proxies::Proxies;
use super::proxies::Workplace;
use super::token::Token;
use super::words::Ask;
use super::words::Hello;
use super::words::Role;
use super::words::Say;
use super::words::VERSION;
use crate::host::Host;

/// How long whoever connects may take to say who they are.
const HELLO_PATIENCE: Duration = Duration::from_secs(2);
/// The longest line of whoever is not known yet, in bytes.
const HELLO_BYTES_MAX: usize = 4 << 10;
/// How long a wish to end may wait.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// How long the listener is left alone after a fault, which may last.
const FAULT_PAUSE: Duration = Duration::from_millis(200);

/// What an agent is told when it is started.
pub struct Agent {
    pub role: Role,
    pub token: Token,
    /// `bench/peers`, for proxies.
    pub templates: PathBuf,
    /// Where the proxies or the upstream run.
    pub cpu: usize,
    /// Where the agent itself does.
    pub own_cpu: usize,
}

/// Whoever uses the agent at present.
struct Run {
    /// To end it from here.
    stream: TcpStream,
    thread: JoinHandle<()>,
}

/// Serves runs, one after the other, until it is told to stop; `tell` hears a line for each that comes, goes or is refused.
///
/// # Errors
/// The kernel's, of the listener; what goes wrong in a run is told to its driver.
pub fn serve(agent: &Agent, listener: &TcpListener, stop: &AtomicBool, tell: &mut dyn FnMut(&str)) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut run: Option<Run> = None;
    while !stop.load(Ordering::Relaxed) {
        let mut ready = [PollFd::new(listener, PollFlags::IN)];
        match rustix::event::poll(&mut ready, Some(&LOOK_EVERY)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(ended) = run.take_if(|run| run.thread.is_finished()) {
            ended.end();
            tell("the run has ended");
        }
        let (stream, driver) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            // Whoever has gone again, and a want of descriptors, are no reason to leave a run alone.
            Err(error) => {
                tell(&format!("nobody admitted: {error}"));
                std::thread::sleep(FAULT_PAUSE);
                continue;
            }
        };
        match admit(agent, stream, run.is_some()) {
            Ok(channel) => {
                tell(&format!("a run of {driver}"));
                run = Some(Run::start(agent, channel)?);
            }
            Err(why) => tell(&format!("{driver} refused: {why}")),
        }
    }
    if let Some(run) = run {
        run.end();
    }
    Ok(())
}

/// Hears who has connected; whoever does not know the token learns nothing but that.
fn admit(agent: &Agent, stream: TcpStream, busy: bool) -> io::Result<Channel> {
    stream.set_nonblocking(false)?;
    let mut channel = Channel::new(stream)?;
    let why = match channel.receive::<Hello>(Some(HELLO_PATIENCE), HELLO_BYTES_MAX) {
        Ok(Some(hello)) if !agent.token.is(&hello.token) => "the token is not this agent's: give both the same --token-file".to_owned(),
        Ok(Some(hello)) if hello.version != VERSION => {
            format!("the driver speaks version {}, this agent {VERSION}: build both from one commit", hello.version)
        }
        Ok(Some(hello)) if hello.role != agent.role => format!("this agent is the {}, not the {}", agent.role, hello.role),
        Ok(Some(_)) if busy => "another run is under way: one at a time".to_owned(),
        Ok(Some(_)) => {
            channel.send(&Say::Welcome { host: Box::new(Host::look()) })?;
            return Ok(channel);
        }
        Ok(None) => "it said nothing".to_owned(),
        Err(error) => error.to_string(),
    };
    channel.farewell(&Say::Refused { why: why.clone() });
    Err(io::Error::other(why))
}

impl Run {
    #[expect(clippy::disallowed_methods, reason = "an agent hears its listener while a run goes on")]
    fn start(agent: &Agent, channel: Channel) -> io::Result<Self> {
        let stream = channel.end()?;
        let scratch = std::env::temp_dir().join(format!("corelane-bench-agent-{}", std::process::id()));
        let workplace = Workplace { templates: agent.templates.clone(), scratch, proxy_cpu: agent.cpu, own_cpu: agent.own_cpu };
        let (role, cpu) = (agent.role, agent.cpu);
        let thread = std::thread::Builder::new().name("run".to_owned()).spawn(move || match role {
            Role::Upstream => {
                let mut endpoints = Endpoints::new(cpu);
                converse(channel, |ask| endpoints.answer(ask));
            }
            Role::Proxy => {
                let mut proxies = Proxies::new(workplace);
                converse(channel, |ask| proxies.answer(ask));
            }
        })?;
        Ok(Self { stream, thread })
    }

    /// Closes it and waits until its proxies are gone.
    fn end(self) {
        let _closed_already = self.stream.shutdown(Shutdown::Both);
        let _panicked = self.thread.join();
    }
}

/// Answers until the driver has gone; a question that cannot be read is the last one.
fn converse(mut channel: Channel, mut answer: impl FnMut(Ask) -> io::Result<Say>) {
    loop {
        let said = match channel.receive::<Ask>(None, LINE_BYTES_MAX) {
            Ok(Some(ask)) => answer(ask).unwrap_or_else(|error| Say::Refused { why: error.to_string() }),
            Ok(None) => return,
            Err(error) if error.kind() == ErrorKind::InvalidData => return channel.farewell(&Say::Refused { why: error.to_string() }),
            Err(_) => return,
        };
        if channel.send(&said).is_err() {
            return;
        }
    }
}

/// Where an agent listens.
///
/// # Errors
/// With the address.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| io::Error::new(error.kind(), format!("--listen {address}: {error}")))
}
