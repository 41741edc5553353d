//! What the program says about itself: lines on stderr, apart from the access log.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;

use crate::telemetry::access_log::Format;

/// How much is said; `OFF` to `TRACE`.
pub type Level = LevelFilter;

/// How much is said, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub level: Level,
    /// `None`: text on a terminal, else JSON.
    pub format: Option<Format>,
}

/// Starts the log of this process; a second call changes nothing.
pub fn start(config: &Config) {
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_max_level(config.level).with_writer(std::io::stderr).with_ansi(terminal);
    let format = config.format.unwrap_or(if terminal { Format::Text } else { Format::Json });
    let _started_before = match format {
        Format::Json => builder.json().flatten_event(true).try_init(),
        Format::Text => builder.try_init(),
    };
}
