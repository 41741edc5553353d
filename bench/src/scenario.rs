//! A kind of work and the loads it is measured under, as `load/<name>.toml` describes them.

use std::fmt;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::beside::Beside;
use crate::schedule::Arrivals;

/// The largest body a scenario may ask for, in bytes.
const BODY_BYTES_MAX: u64 = 16 << 30;
/// The most hosts: every proxy holds them all, three routes each, and so does the driver.
const ROUTES_MAX: u32 = 100_000;
/// The most uneven Zipf: nearly all requests go to one route then.
const ZIPF_MAX: f64 = 4.0;
/// The most client connections: each takes a port, and descriptors on both sides of the proxy.
const CONNECTIONS_MAX: u32 = 20_000;
/// The most members of a cluster: four times as many addresses are there for them to change to.
const ENDPOINTS_MAX: u32 = 50;

/// One kind of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The file's name without its ending; filled in by [`Scenario::read`].
    #[serde(default)]
    pub name: String,
    /// What is done, in words, for the report.
    pub work: String,
    /// Client connections.
    pub connections: u32,
    /// Length of the response body.
    pub body_bytes: u64,
    /// Whether clients speak TLS 1.3 to the proxy.
    #[serde(default)]
    pub tls: bool,
    /// Whether every request has a connection of its own.
    #[serde(default)]
    pub close: bool,
    /// What every request begins with; it is then alone on a TLS connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshakes: Option<Handshakes>,
    /// Members of each cluster.
    #[serde(default = "two")]
    pub endpoints: u32,
    /// Hosts, each with three paths, that requests are spread over; one host and path, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<u32>,
    /// How uneven: the k-th most popular route is asked for in proportion to `k^-zipf`; all alike, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zipf: Option<f64>,
    /// What it is measured under, in this order.
    pub loads: Vec<Load>,
    /// What goes on beside it. With any, each proxy runs twice in every round: alone, and with all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<Beside>,
}

/// Whether a proxy runs with what goes on beside the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Without,
    With,
}

/// A TLS handshake of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Handshakes {
    /// Certificate and signature; no ticket is offered.
    Full,
    /// A ticket is offered (psk_dhe_ke, no early data), each once.
    Resumed,
}

fn two() -> u32 {
    2
}

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase", deny_unknown_fields)]
pub enum Load {
    /// Closed loop: every connection is always busy. Says what the proxy can do, nothing about its latency.
    Saturate,
    /// Open loop: requests come when they are due, whatever became of the earlier ones.
    Open { rate_per_s: f64, arrivals: Arrivals },
}

impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saturate => out.write_str("saturated"),
            Self::Open { rate_per_s, arrivals: Arrivals::Poisson } => write!(out, "{rate_per_s}/s Poisson"),
            Self::Open { rate_per_s, arrivals: Arrivals::Uniform } => write!(out, "{rate_per_s}/s uniform"),
        }
    }
}

impl Scenario {
    /// Reads `<directory>/<name>.toml`.
    ///
    /// # Errors
    /// With file and cure, where it is not there or not as it should be.
    pub fn read(directory: &Path, name: &str) -> io::Result<Self> {
        let path = directory.join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}; the scenarios are the files of this directory", path.display()))
        })?;
        let mut scenario = Self::parse(&text).map_err(|fault| io::Error::other(format!("{}: {fault}", path.display())))?;
        scenario.name = name.to_owned();
        Ok(scenario)
    }

    /// How each proxy runs in every round.
    pub fn sides(&self) -> &'static [Side] {
        if self.beside.is_empty() { &[Side::Without] } else { &[Side::Without, Side::With] }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if scenario.handshakes.is_some() {
            (scenario.tls, scenario.close) = (true, true);
        }
        if scenario.connections == 0 || scenario.connections > CONNECTIONS_MAX {
            return Err(format!("connections = {}: must be 1 to {CONNECTIONS_MAX}", scenario.connections));
        }
        if scenario.body_bytes > BODY_BYTES_MAX {
            return Err(format!("body_bytes = {}: must be {BODY_BYTES_MAX} at most", scenario.body_bytes));
        }
        if scenario.endpoints == 0 || scenario.endpoints > ENDPOINTS_MAX {
            return Err(format!("endpoints = {}: must be 1 to {ENDPOINTS_MAX}", scenario.endpoints));
        }
        if let Some(routes) = scenario.routes.filter(|routes| !(1..=ROUTES_MAX).contains(routes)) {
            return Err(format!("routes = {routes}: must be 1 to {ROUTES_MAX}"));
        }
        if let Some(zipf) = scenario.zipf.filter(|zipf| !(0.0..=ZIPF_MAX).contains(zipf) || scenario.routes.is_none()) {
            return Err(format!("zipf = {zipf}: must be 0 to {ZIPF_MAX}, beside routes"));
        }
        if scenario.loads.is_empty() {
            return Err("loads is empty: name at least one".to_owned());
        }
        for load in &scenario.loads {
            if let Load::Open { rate_per_s, .. } = load
                && !(rate_per_s.is_finite() && *rate_per_s >= 1.0)
            {
                return Err(format!("rate_per_s = {rate_per_s}: must be 1 or more"));
            }
        }
        for beside in &scenario.beside {
            beside.check()?;
        }
        Ok(scenario)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        work = "1 KB"
        connections = 64
        body_bytes = 1024
        loads = [{ mode = "saturate" }, { mode = "open", rate_per_s = 4000, arrivals = "poisson" }]
    "#;

    /// A scenario is read as written, with plain keep-alive where nothing else is said.
    #[test]
    fn a_scenario_is_read_as_written() {
        let scenario = Scenario::parse(GOOD).unwrap();
        assert!(!scenario.tls && !scenario.close);
        assert_eq!(scenario.loads, [Load::Saturate, Load::Open { rate_per_s: 4000.0, arrivals: Arrivals::Poisson }]);
        assert_eq!(scenario.loads[1].to_string(), "4000/s Poisson");
    }

    /// Handshakes need TLS and a connection for each request, whether or not the file says so.
    #[test]
    fn handshakes_imply_tls_and_close() {
        for (said, meant) in [("full", Handshakes::Full), ("resumed", Handshakes::Resumed)] {
            let scenario = Scenario::parse(&format!("handshakes = \"{said}\"\n{GOOD}")).unwrap();
            assert_eq!((scenario.handshakes, scenario.tls, scenario.close), (Some(meant), true, true));
        }
    }

    /// What cannot be measured is refused, and the message names the field.
    #[test]
    fn a_senseless_scenario_is_refused() {
        let table = [
            ("connections = 64", "connections = 0", "connections"),
            ("connections = 64", "connections = 99999", "connections"),
            ("body_bytes = 1024", "body_bytes = 99999999999", "body_bytes"),
            ("connections = 64", "connections = 64\nendpoints = 51", "endpoints"),
            ("rate_per_s = 4000", "rate_per_s = 0.5", "rate_per_s"),
            ("\"saturate\"", "\"flood\"", "flood"),
            ("work =", "wrok =", "wrok"),
            ("work =", "routes = 0\nwork =", "routes"),
            ("work =", "routes = 100001\nwork =", "routes"),
            ("work =", "routes = 3\nzipf = nan\nwork =", "zipf"),
            ("work =", "zipf = 1.0\nwork =", "zipf"),
            ("work =", "handshakes = \"half\"\nwork =", "half"),
        ];
        for (good, bad, named) in table {
            let fault = Scenario::parse(&GOOD.replace(good, bad)).unwrap_err();
            assert!(fault.contains(named), "{bad}: {fault}");
        }
    }

    /// Every scenario of this directory can be read.
    #[test]
    fn every_scenario_here_is_good() {
        let directory = Path::new("load");
        let mut seen = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
            Scenario::read(directory, &name).unwrap();
            seen += 1;
        }
        assert!(seen > 0);
    }
}
