//! What driver and agent say to each other: one question at a time, one answer to each, in order.

use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;

use clap::ValueEnum;
use serde::Deserialize;
use serde::Serialize;

use crate::cpu::Look;
use crate::cpu::Usage;
use crate::host::Host;

/// Changes with any word below: an old agent and a new driver say so instead of misunderstanding each other.
pub(super) const VERSION: u32 = 1;

/// What an agent does for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Answers what proxies ask.
    Upstream,
    /// Starts proxies and watches what they use.
    Proxy,
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Upstream => "upstream",
            Self::Proxy => "proxy",
        })
    }
}

/// The first line of a run.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hello {
    pub(super) version: u32,
    pub(super) role: Role,
    pub(super) token: String,
}

/// Every other line of the driver.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Ask {
    /// To an upstream: answer on these addresses, all with one port.
    Serve { addresses: Vec<IpAddr> },
    /// To an upstream: how much until now?
    Count,
    /// To a proxy agent: start one of its own peers.
    Start(Start),
    /// To a proxy agent: does it still run, and with which processes? Later looks are at these.
    Check { label: String },
    /// To a proxy agent: what have its processes used until now?
    Look { label: String, look: Look },
    /// To a proxy agent: stop it.
    Stop { label: String },
}

/// A proxy as the driver wants it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    /// A directory of the agent's `peers/`.
    pub(super) peer: String,
    pub(super) label: String,
    /// Where it listens, on the agent's host.
    pub(super) address: IpAddr,
    /// Whom it asks.
    pub(super) endpoints: Vec<SocketAddr>,
    /// Which hosts it routes besides its usual ones.
    pub(super) hosts: Vec<String>,
    pub(super) certificate_pem: String,
    pub(super) key_pem: String,
}

/// Every line of the agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Say {
    Welcome {
        host: Box<Host>,
    },
    Serving {
        endpoints: Vec<SocketAddr>,
    },
    Counted(Count),
    Started {
        version: String,
        http: SocketAddr,
        https: SocketAddr,
    },
    /// Ticks of the proxies' CPU: stolen by the hypervisor, and all.
    Checked {
        stolen: u64,
        ticks: u64,
    },
    Looked(Usage),
    Stopped,
    /// Not done, and why; at the beginning it is the last word, later on the next question may be asked.
    Refused {
        why: String,
    },
}

/// What an upstream has done since it began to serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) accepted: u64,
    pub(crate) answered: u64,
}
