//! A kind of work and the loads it is measured under, as `load/<name>.toml` describes them.

use std::fmt;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::beside::Beside;
use crate::change::Kind;
use crate::schedule::Arrivals;

/// The largest body a scenario may ask for, in bytes.
const BODY_BYTES_MAX: u64 = 4 << 30;
/// A request that carries more than this, either way, is a stream: what it costs is told per MB, and its first byte is a time of its own.
const STREAM_BYTES: u64 = 64 << 10;
/// The most kinds of requests: the upstream keeps an answer for each length.
const REQUESTS_MAX: usize = 16;
/// The slowest reader, in bytes per second: it still reads twice a second.
const READ_BYTES_PER_S_MIN: u64 = 1000;
/// How far the sum of all shares may be from 1.
const SHARES_TOLERANCE: f64 = 1e-6;
/// The most hosts: every proxy holds them all, three routes each, and so does the driver.
const ROUTES_MAX: u32 = 100_000;
/// The most uneven Zipf: nearly all requests go to one route then.
const ZIPF_MAX: f64 = 4.0;
/// The most client connections: each takes a port, and descriptors on both sides of the proxy.
const CONNECTIONS_MAX: u32 = 20_000;
/// The most members of a cluster: four times as many addresses are there for them to change to.
const ENDPOINTS_MAX: u32 = 50;
/// The most routes one block adds: with a reload a second that takes a while.
const CHANGES_MAX: u32 = 100;

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
    /// Length of the response body, where all requests are alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    /// The kinds of requests, where they are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<Request>,
    /// How fast each client connection reads at most, in bytes per second; as fast as it can, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes_per_s: Option<u64>,
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

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Its part of all requests, above 0; those of a scenario add up to 1.
    pub share: f64,
    /// Length of the response body.
    pub body_bytes: u64,
    /// Length of the request body; a request that has one is a POST.
    #[serde(default)]
    pub upload_bytes: u64,
}

impl Request {
    /// The only kind: a GET for a body of this length.
    pub fn get(body_bytes: u64) -> Self {
        Self { share: 1.0, body_bytes, upload_bytes: 0 }
    }

    /// Whether it carries so much that its parts count, not only its end.
    pub fn is_stream(&self) -> bool {
        self.has_long_answer() || self.upload_bytes > STREAM_BYTES
    }

    /// Whether its answer begins long before it ends.
    pub fn has_long_answer(&self) -> bool {
        self.body_bytes > STREAM_BYTES
    }

    fn check(&self) -> Result<(), String> {
        if !(self.share > 0.0 && self.share <= 1.0) {
            return Err(format!("share = {}: must be above 0 and 1 at most", self.share));
        }
        for (name, bytes) in [("body_bytes", self.body_bytes), ("upload_bytes", self.upload_bytes)] {
            if bytes > BODY_BYTES_MAX {
                return Err(format!("{name} = {bytes}: must be {BODY_BYTES_MAX} at most"));
            }
        }
        Ok(())
    }
}

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase", deny_unknown_fields)]
pub enum Load {
    /// Closed loop: every connection is always busy. Says what the proxy can do, nothing about its latency.
    Saturate,
    /// Open loop: requests come when they are due, whatever became of the earlier ones.
    Open { rate_per_s: f64, arrivals: Arrivals },
    /// No load: the proxy is started anew, and asked until it is whole.
    Start,
    /// No load: so many times a route is added, and asked for until it is there.
    Apply { changes: u32 },
}

impl Load {
    /// Whether requests are the work; else it is what happens to the proxy.
    pub fn is_of_requests(self) -> bool {
        matches!(self, Self::Saturate | Self::Open { .. })
    }

    /// What a proxy has to take while it serves.
    pub fn change(self) -> Option<Kind> {
        matches!(self, Self::Apply { .. }).then_some(Kind::Routes)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saturate => out.write_str("saturated"),
            Self::Open { rate_per_s, arrivals: Arrivals::Poisson } => write!(out, "{rate_per_s}/s Poisson"),
            Self::Open { rate_per_s, arrivals: Arrivals::Uniform } => write!(out, "{rate_per_s}/s uniform"),
            Self::Start => out.write_str("start"),
            Self::Apply { changes } => write!(out, "{changes} routes added"),
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

    /// Whether proxies are started anew or changed while it is measured.
    pub fn changes_proxies(&self) -> bool {
        self.loads.iter().any(|load| !load.is_of_requests()) || self.beside.iter().any(|beside| beside.change().is_some())
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if scenario.handshakes.is_some() {
            (scenario.tls, scenario.close) = (true, true);
        }
        if scenario.connections == 0 || scenario.connections > CONNECTIONS_MAX {
            return Err(format!("connections = {}: must be 1 to {CONNECTIONS_MAX}", scenario.connections));
        }
        scenario.check_requests()?;
        if let Some(bytes_per_s) = scenario.read_bytes_per_s.filter(|bytes_per_s| *bytes_per_s < READ_BYTES_PER_S_MIN) {
            return Err(format!("read_bytes_per_s = {bytes_per_s}: must be {READ_BYTES_PER_S_MIN} or more"));
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
            if let Load::Apply { changes } = load
                && !(1..=CHANGES_MAX).contains(changes)
            {
                return Err(format!("changes = {changes}: must be 1 to {CHANGES_MAX}"));
            }
            if !load.is_of_requests() && !scenario.beside.is_empty() {
                return Err(format!("beside: nothing goes on beside a load without requests ({load})"));
            }
        }
        for beside in &scenario.beside {
            beside.check()?;
        }
        Ok(scenario)
    }

    /// What is asked for, each kind with its share.
    pub fn requests(&self) -> Vec<Request> {
        if self.requests.is_empty() { vec![Request::get(self.body_bytes.unwrap_or(0))] } else { self.requests.clone() }
    }

    /// Whether any of its requests is a stream.
    pub fn has_streams(&self) -> bool {
        self.requests().iter().any(Request::is_stream)
    }

    fn check_requests(&self) -> Result<(), String> {
        if self.requests.is_empty() == self.body_bytes.is_none() {
            return Err("either body_bytes or [[requests]] says what is asked for".to_owned());
        }
        if self.requests.len() > REQUESTS_MAX {
            return Err(format!("{} [[requests]]: must be {REQUESTS_MAX} at most", self.requests.len()));
        }
        let requests = self.requests();
        requests.iter().try_for_each(Request::check)?;
        let sum = requests.iter().map(|request| request.share).sum::<f64>();
        if (sum - 1.0).abs() > SHARES_TOLERANCE {
            return Err(format!("the shares of all [[requests]] add up to {sum}: must be 1"));
        }
        Ok(())
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
            ("body_bytes = 1024", "", "body_bytes"),
            ("body_bytes = 1024", "body_bytes = 1024\nread_bytes_per_s = 0", "read_bytes_per_s"),
            ("rate_per_s = 4000", "rate_per_s = 0.5", "rate_per_s"),
            ("\"saturate\"", "\"flood\"", "flood"),
            ("mode = \"saturate\"", "mode = \"apply\"", "changes"),
            ("{ mode = \"saturate\" }", "{ mode = \"start\" }]\nbeside = [{ kind = \"idle\", connections = 1 }]\n#", "beside"),
            ("mode = \"saturate\"", "mode = \"apply\", changes = 0", "changes"),
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

    /// Kinds of requests stand in place of one body for all; whether they carry streams is for the largest to say.
    #[test]
    fn a_mix_is_read_as_written() {
        let mix = |requests: &str| Scenario::parse(&(GOOD.replace("body_bytes = 1024", "") + requests));
        let small = "[[requests]]\nshare = 0.75\nbody_bytes = 65536\n";
        let post = "[[requests]]\nshare = 0.25\nbody_bytes = 0\nupload_bytes = 65536\n";
        let scenario = mix(&format!("{small}{post}")).unwrap();
        let kinds =
            [Request { share: 0.75, body_bytes: 65536, upload_bytes: 0 }, Request { share: 0.25, body_bytes: 0, upload_bytes: 65536 }];
        assert_eq!(scenario.requests(), kinds);
        assert!(!scenario.has_streams());
        assert!(mix(&format!("{small}{}", post.replace("65536", "65537"))).unwrap().has_streams());
        assert_eq!(Scenario::parse(GOOD).unwrap().requests(), [Request::get(1024)]);
    }

    /// A mix that does not add up, or says two things at once, is refused with the field.
    #[test]
    fn a_senseless_mix_is_refused() {
        let half = "[[requests]]\nshare = 0.5\nbody_bytes = 1024\n";
        let (alone, both) = (GOOD.replace("body_bytes = 1024", ""), GOOD.to_owned());
        let table = [
            (&both, half.repeat(2), "body_bytes"),
            (&alone, half.to_owned(), "add up to 0.5"),
            (&alone, half.repeat(2).replacen("0.5", "0.0", 1), "share = 0"),
            (&alone, half.repeat(2).replacen("0.5", "1.5", 1), "share = 1.5"),
            (&alone, half.repeat(2).replacen("share", "upload_bytes = 5000000000\nshare", 1), "upload_bytes"),
            (&alone, half.replace("0.5", "0.05").repeat(20), "20 [[requests]]"),
        ];
        for (text, requests, named) in table {
            let fault = Scenario::parse(&format!("{text}{requests}")).unwrap_err();
            assert!(fault.contains(named), "{requests}: {fault}");
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
