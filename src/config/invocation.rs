//! What comes out of the settings: a command with everything it needs.

use std::net::SocketAddr;
use std::time::Duration;

use crate::admin;
use crate::control;
use crate::demo;
use crate::explain::Output;
use crate::explain::Question;
use crate::shard::ListenerConfig;
use crate::shard::Placement;
use crate::telemetry::access_log;
use crate::telemetry::program_log;

/// What the user wants done.
#[derive(Debug)]
pub enum Invocation {
    Run(Box<Run>),
    Demo(Box<Demo>),
    Check {
        control: Box<control::Config>,
        output: Output,
    },
    Explain {
        of: Source,
        question: Question,
        output: Output,
    },
    Status {
        admin: SocketAddr,
        output: Output,
    },
    Version,
    /// Text that was asked for: help.
    Print(String),
}

/// Whose rules explain a request.
#[derive(Debug)]
pub enum Source {
    /// Objects, read once.
    Objects(Box<control::Config>),
    /// The running instance whose admin endpoint this is.
    Instance(SocketAddr),
}

/// Everything `run` needs, room by room.
#[derive(Debug)]
pub struct Run {
    pub listeners: Vec<ListenerConfig>,
    pub placement: Placement,
    pub drain_timeout: Duration,
    pub pre_stop_delay: Duration,
    pub admin: admin::Config,
    pub control: control::Config,
    pub access_log: access_log::Destination,
    pub access_log_format: access_log::Format,
    pub log: program_log::Config,
}

/// What `demo` needs; addresses that are not given are chosen when they are seen to be free.
#[derive(Debug)]
pub struct Demo {
    pub scene: demo::Config,
    pub placement: Placement,
    pub log: program_log::Config,
}

/// Why the settings cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The command line is wrong: exit code 64.
    Usage(String),
    /// A file or a combination of settings is wrong: exit code 78.
    Config(String),
}
