//! A proxy that has been started: a child of this process, or of an agent's on another host. Whoever measures need not know which.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::agent::far::FarProxies;
use crate::agent::far::FarProxy;
use crate::agent::far::FarWatch;
use crate::cpu;
use crate::cpu::Look;
use crate::cpu::Processes;
use crate::cpu::Usage;

/// How long a proxy may take to stop before it is killed.
const STOP_MS_MAX: u64 = 5_000;
const STOP_LOOK_MS: u64 = 20;

/// Where proxies run.
pub enum Place {
    /// On this host, listening on this address of it.
    Here(IpAddr),
    /// On the host of an agent.
    There(FarProxies),
}

impl Default for Place {
    fn default() -> Self {
        Self::Here(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

/// A proxy that has been started; its drop stops it.
pub enum Running {
    Here(Process),
    There(FarProxy),
}

impl Running {
    /// Its processes as they are now, to be looked at; workers may have come since the start.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn watch(&mut self) -> io::Result<Watch> {
        match self {
            Self::Here(process) => {
                process.check()?;
                Ok(Watch::Here { processes: process.processes()?.clone(), seen: Vec::new() })
            }
            Self::There(proxy) => {
                proxy.0.check()?;
                Ok(Watch::There(proxy.0.clone()))
            }
        }
    }

    /// What the hypervisor took of its CPU's time, and all of that time, in ticks.
    ///
    /// # Errors
    /// Where that cannot be read, or asked for.
    pub fn stolen(&self) -> io::Result<(u64, u64)> {
        match self {
            Self::Here(process) => cpu::stolen(&[process.launch.cpu]),
            Self::There(proxy) => proxy.0.check(),
        }
    }

    /// It as a process of this host, which alone can be changed, stopped and started again.
    ///
    /// # Errors
    /// On another host.
    pub fn here(&mut self) -> io::Result<&mut Process> {
        match self {
            Self::Here(process) => Ok(process),
            Self::There(_) => Err(elsewhere()),
        }
    }

    /// Its first process, for signals.
    ///
    /// # Errors
    /// On another host.
    pub fn pid(&self) -> io::Result<u32> {
        match self {
            Self::Here(process) => Ok(process.child.id()),
            Self::There(_) => Err(elsewhere()),
        }
    }

    /// Where its output is found.
    pub fn log(&self) -> String {
        match self {
            Self::Here(process) => process.launch.log.display().to_string(),
            Self::There(_) => "its log on the agent's host".to_owned(),
        }
    }
}

/// Whoever looks at what a proxy uses, while somebody else may change it.
pub enum Watch {
    Here { processes: Processes, seen: Vec<Usage> },
    There(FarWatch),
}

impl Watch {
    /// Sees anew which processes it has, waiting for it.
    ///
    /// # Errors
    /// Where that cannot be read, or asked for.
    pub fn again(&mut self) -> io::Result<()> {
        match self {
            Self::Here { processes, .. } => {
                *processes = processes.again()?;
                Ok(())
            }
            Self::There(watch) => watch.check().map(|_| ()),
        }
    }

    /// Looks; what is seen comes with [`Self::seen`], so that no round waits for another host.
    ///
    /// # Errors
    /// Where the proxy is gone, or its agent.
    pub fn look(&mut self, look: Look) -> io::Result<()> {
        match self {
            Self::Here { processes, seen } => processes.look(look).map(|usage| seen.push(usage)),
            Self::There(watch) => watch.look(look),
        }
    }

    /// What all looks since the last time have seen, in order.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn seen(&mut self) -> io::Result<Vec<Usage>> {
        match self {
            Self::Here { seen, .. } => Ok(std::mem::take(seen)),
            Self::There(watch) => watch.seen(),
        }
    }

    /// What it has used until now, waiting for it: not for the middle of a round.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn usage(&mut self) -> io::Result<Usage> {
        self.look(Look::Last)?;
        Ok(self.seen()?.pop().unwrap_or_default())
    }
}

fn elsewhere() -> io::Error {
    io::Error::other("proxies are changed and started again on this host only: leave out --proxy-agent")
}

/// How a process is started.
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) directory: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) cpu: usize,
    /// Where whoever starts it runs.
    pub(crate) own_cpu: usize,
}

impl Launch {
    fn run(&self) -> io::Result<Child> {
        let output = fs::File::create(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.directory).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A signal from the terminal is for the bench alone, which still needs the proxy for the block under way.
        command.process_group(0);
        // A child inherits where its parent may run: this way not even its first thread runs elsewhere.
        cpu::pin(self.cpu)?;
        let started = command.spawn();
        cpu::pin(self.own_cpu)?;
        started.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.program.display())))
    }
}

/// A proxy of this host.
pub struct Process {
    launch: Launch,
    child: Child,
    family: Processes,
}

impl Process {
    /// # Errors
    /// With the program.
    pub(crate) fn start(launch: Launch) -> io::Result<Self> {
        let child = launch.run()?;
        let family = Processes::of(child.id())?;
        Ok(Self { launch, child, family })
    }

    pub(crate) fn start_again(&mut self) -> io::Result<()> {
        self.child = self.launch.run()?;
        Ok(())
    }

    /// Whether it still runs.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!("it has ended with {status}; see {}", self.launch.log.display()))),
        }
    }

    /// Its processes as they are now.
    pub(crate) fn processes(&mut self) -> io::Result<&Processes> {
        self.family = Processes::of(self.child.id())?;
        Ok(&self.family)
    }

    /// Ends it, as its supervisor would; kills it where it takes too long.
    pub(crate) fn stop(&mut self) {
        // Of a process that is gone not even the number is its own.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let family = Processes::of(self.child.id()).unwrap_or_else(|_| self.family.clone());
        signal(self.child.id(), Signal::TERM);
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

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A process that is gone already needs no signal.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _gone = rustix::process::kill_process(pid, signal);
    }
}
