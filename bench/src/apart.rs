//! Several hosts on the command line: where driver, proxies and upstream are, and what an agent is told.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;

use crate::agent::Role;
use crate::agent::far::FarProxies;
use crate::agent::far::FarUpstream;
use crate::agent::serve;
use crate::agent::serve::Agent;
use crate::agent::token::Token;
use crate::cpu;
use crate::driver::Driver;
use crate::host;
use crate::host::Elsewhere;
use crate::running::Place;

/// Which parts of a run are on other hosts; without any of it, all are on this one.
#[derive(Args)]
pub struct Apart {
    /// An agent on the host that is to run the proxies
    #[arg(long, value_name = "ADDR:PORT", requires = "token_file", help_heading = "Several hosts")]
    proxy_agent: Option<SocketAddr>,
    /// Address of that host where its proxies listen; the agent's, if not given
    #[arg(long, value_name = "IP", requires = "proxy_agent", help_heading = "Several hosts")]
    proxy_address: Option<IpAddr>,
    /// An agent on the host that is to run the upstream
    #[arg(long, value_name = "ADDR:PORT", requires = "token_file", help_heading = "Several hosts")]
    upstream_agent: Option<SocketAddr>,
    /// Addresses of the upstream's host, an endpoint on each: this host's, where there is no agent for it
    #[arg(long, value_name = "IP", value_delimiter = ',', help_heading = "Several hosts")]
    upstream_address: Vec<IpAddr>,
    /// The secret shared with the agents
    #[arg(long, value_name = "FILE", help_heading = "Several hosts")]
    token_file: Option<PathBuf>,
}

/// Everything a run needs, wherever it is.
pub struct Sites {
    pub driver: Driver,
    pub place: Place,
    /// The hosts of the agents.
    pub elsewhere: Vec<Elsewhere>,
}

impl Apart {
    /// Whether proxies take a CPU of this host.
    pub fn has_proxies_here(&self) -> bool {
        self.proxy_agent.is_none()
    }

    /// Connects to the agents.
    ///
    /// # Errors
    /// With the agent, and its words where it refuses.
    pub fn set_up(&self) -> io::Result<Sites> {
        let token = self.token_file.as_deref().map(Token::read).transpose()?;
        let mut elsewhere = Vec::new();
        let driver = match (self.upstream_agent, &token) {
            (Some(agent), Some(token)) => {
                let upstream = FarUpstream::connect(agent, token, &self.upstream_address)?;
                elsewhere.push(Elsewhere { what: "upstream".to_owned(), address: agent.ip().to_string(), host: upstream.host() });
                Driver::apart(upstream)?
            }
            _ if !self.upstream_address.is_empty() => Driver::on(&self.upstream_address)?,
            _ if self.proxy_agent.is_some() => {
                let cure = "--upstream-address with addresses of this host, or --upstream-agent";
                return Err(io::Error::other(format!("proxies on another host cannot reach the loopback of this one: {cure}")));
            }
            _ => Driver::new()?,
        };
        let place = match (self.proxy_agent, &token) {
            (Some(agent), Some(token)) => {
                let proxies = FarProxies::connect(agent, token, self.proxy_address)?;
                elsewhere.push(Elsewhere { what: "proxies".to_owned(), address: agent.ip().to_string(), host: proxies.host() });
                Place::There(proxies)
            }
            _ => Place::default(),
        };
        Ok(Sites { driver, place, elsewhere })
    }
}

/// What an agent is told.
#[derive(Args)]
pub struct Post {
    /// Address and port where drivers connect: one of a network that only they and other agents share
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// What it runs
    #[arg(long)]
    role: Role,
    /// The secret shared with the drivers
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Where `peers` is
    #[arg(long, default_value = "bench")]
    directory: PathBuf,
    /// CPU of the proxies, or of the upstream; the last one allowed, if not given
    #[arg(long)]
    cpu: Option<usize>,
}

impl Post {
    /// Serves drivers, one after the other, until SIGINT or SIGTERM.
    ///
    /// # Errors
    /// With the option at fault.
    pub fn keep(&self) -> io::Result<()> {
        host::raise_open_files()?;
        let token = Token::read(&self.token_file)?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        let allowed = cpu::allowed()?;
        let Some(cpu) = self.cpu.or_else(|| allowed.last().copied()) else { return Err(io::Error::other("no CPU is allowed")) };
        let own_cpu = allowed.into_iter().rfind(|own| *own != cpu).unwrap_or(cpu);
        cpu::pin(own_cpu)?;
        let listener = serve::bind(self.listen)?;
        println!("{} agent on {}, its {} on CPU {cpu}", self.role, listener.local_addr()?, self.role);
        let agent = Agent { role: self.role, token, templates: self.directory.join("peers"), cpu, own_cpu };
        serve::serve(&agent, &listener, &stop, &mut |line| println!("{line}"))
    }
}
