//! Changing a proxy while it serves: other endpoints, more routes, or nothing but being told to read everything anew.
//!
//! How a proxy takes a change is part of its description: the templates that are rendered again, each moved into place whole, and
//! then a signal, a command to its socket, or nothing where the proxy watches its files itself.

use std::fs;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use serde::Deserialize;
use serde::Serialize;

use crate::template;
use crate::template::Endpoint;
use crate::template::Names;
use crate::template::Swap;

/// Added hosts that exist at once; with one more the oldest goes.
const ADDED_MAX: u64 = 1000;
/// How long a proxy may take to answer at its socket.
const SOCKET_PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes: a fault, not a dump.
const REPLY_BYTES_MAX: u64 = 16 << 10;

/// What is done to a running proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// So many times one endpoint leaves cluster a and one that was not in it joins.
    Endpoints(u32),
    /// So many more hosts, all of whose paths lead to cluster a.
    Routes(u32),
    /// The same files again, and whatever makes the proxy read them.
    Reload,
}

impl Change {
    /// What kind of change it is, however much of it.
    pub fn kind(self) -> Kind {
        match self {
            Self::Endpoints(_) => Kind::Endpoints,
            Self::Routes(_) => Kind::Routes,
            Self::Reload => Kind::Reload,
        }
    }
}

/// What can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Endpoints,
    Routes,
    Reload,
}

impl Kind {
    /// As a description calls it.
    fn word(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::Routes => "routes",
            Self::Reload => "reload",
        }
    }
}

/// The `[change]` of a description; a kind that is not there cannot be done to this proxy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ways {
    endpoints: Option<Way>,
    routes: Option<Way>,
    reload: Option<Way>,
}

/// How a proxy takes one kind of change, in this order.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Way {
    /// Templates that are rendered again.
    #[serde(default)]
    files: Vec<String>,
    /// Sent to its first process.
    signal: Option<Told>,
    /// Said to its socket.
    socket: Option<Socket>,
    /// Changes that come faster are put together.
    at_most_per_s: Option<f64>,
}

/// Signals that proxies take as a wish to reload.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Told {
    Hup,
    Usr1,
    Usr2,
}

/// A Unix socket that takes commands.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Socket {
    path: String,
    /// A template; what is said has no line without words in it.
    say: String,
}

/// How often a change is made, and how much of it at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rhythm {
    pub per_s: f64,
    /// Changes put together, where the proxy does not take them one by one at the rate that was asked for.
    pub together: u32,
}

/// A change whose files lie ready beside the proxy's own.
#[must_use = "nothing has changed until it is published"]
pub struct Staged {
    kind: Kind,
    files: Vec<String>,
}

/// Everything needed to change one running proxy.
pub(crate) struct Changes {
    ways: Ways,
    /// Name and text.
    templates: Vec<(String, String)>,
    names: Names,
    directory: PathBuf,
    /// Beside the directory, which a proxy may watch, and on the same file system, so that a rename is one step.
    staging: PathBuf,
    /// All addresses the upstream answers on.
    addresses: Vec<SocketAddr>,
    swaps: u64,
    routes: u64,
}

impl Changes {
    /// Of a proxy whose files are in the directory that the names tell; it begins with the first of these addresses.
    ///
    /// # Errors
    /// Where a kind of change names a template that is not there, or there is no place for files.
    pub(crate) fn new(ways: Ways, templates: Vec<(String, String)>, names: Names, addresses: &[SocketAddr]) -> io::Result<Self> {
        for name in [&ways.endpoints, &ways.routes, &ways.reload].into_iter().flatten().flat_map(|way| &way.files) {
            if !templates.iter().any(|(template, _)| template == name) {
                return Err(io::Error::other(format!("change: {name} is no template of this peer")));
            }
        }
        let directory = PathBuf::from(&names.directory);
        let staging = directory.with_added_extension("staged");
        fs::create_dir_all(&staging)?;
        Ok(Self { ways, templates, names, directory, staging, addresses: addresses.to_vec(), swaps: 0, routes: 0 })
    }

    /// What was rendered last, or is to be rendered first.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Renders every template into the directory: what the proxy starts with.
    ///
    /// # Errors
    /// Of a template, or of the file system.
    pub(crate) fn render_all(&self) -> io::Result<()> {
        self.templates.iter().try_for_each(|(name, text)| fs::write(self.directory.join(name), self.render(name, text)?))
    }

    /// Whether this kind of change can be made.
    pub(crate) fn takes(&self, kind: Kind) -> bool {
        self.way(kind).is_some()
    }

    /// At most so many changes a second, where the proxy has a limit.
    pub(crate) fn at_most_per_s(&self, kind: Kind) -> Option<f64> {
        self.way(kind)?.at_most_per_s
    }

    /// Which kinds of change are limited to how many a second, in words.
    pub(crate) fn limits(&self) -> Option<String> {
        let limit = |kind: Kind| Some(format!("{} at most {}/s", kind.word(), self.at_most_per_s(kind)?));
        let limits: Vec<String> = [Kind::Endpoints, Kind::Routes, Kind::Reload].into_iter().filter_map(limit).collect();
        (!limits.is_empty()).then(|| limits.join(", "))
    }

    /// How to come as near as possible to a rate of changes.
    pub(crate) fn rhythm(&self, kind: Kind, wanted_per_s: f64) -> Rhythm {
        let per_s = self.at_most_per_s(kind).map_or(wanted_per_s, |most| most.min(wanted_per_s));
        Rhythm { per_s, together: (wanted_per_s / per_s).round().max(1.0) as u32 }
    }

    /// Of a proxy on another host, where nothing can be changed.
    pub(crate) fn none(members: &[SocketAddr]) -> Self {
        let names = Names { endpoints: members.iter().copied().map(Endpoint::from).collect(), ..Names::default() };
        let directory = PathBuf::from("on another host");
        Self {
            ways: Ways::default(),
            templates: Vec::new(),
            names,
            staging: directory.clone(),
            directory,
            addresses: Vec::new(),
            swaps: 0,
            routes: 0,
        }
    }

    /// The members of cluster a, in the order of their places.
    pub(crate) fn members(&self) -> impl Iterator<Item = SocketAddr> + Clone {
        self.names.endpoints.iter().map(|endpoint| SocketAddr::new(endpoint.ip, endpoint.port))
    }

    /// The host that the latest change of routes has added.
    pub(crate) fn latest_host(&self) -> Option<&str> {
        self.names.added.last().map(String::as_str)
    }

    /// Renders what changes, beside the proxy's own files.
    ///
    /// # Errors
    /// Where this proxy does not take such a change; of a template; of the file system.
    pub(crate) fn stage(&mut self, change: Change) -> io::Result<Staged> {
        let kind = change.kind();
        let Some(way) = self.way(kind) else {
            let directory = self.directory.display();
            return Err(io::Error::other(format!("{directory}: it takes no {}: say how under [change] in its peer.toml", kind.word())));
        };
        let files = way.files.clone();
        self.names.swapped.clear();
        self.names.added_now.clear();
        self.names.removed_now.clear();
        match change {
            Change::Endpoints(times) => (0..times).for_each(|_| self.swap()),
            Change::Routes(times) => (0..times).for_each(|_| self.add()),
            Change::Reload => {}
        }
        for name in &files {
            let text = self.templates.iter().find(|(template, _)| template == name).map_or("", |(_, text)| text);
            fs::write(self.staging.join(name), self.render(name, text)?)?;
        }
        Ok(Staged { kind, files })
    }

    /// Moves the files into place, each in one step, and tells the process.
    ///
    /// # Errors
    /// Of the file system; where the process is gone or refuses.
    pub(crate) fn publish(&self, staged: &Staged, process: u32) -> io::Result<()> {
        for name in &staged.files {
            fs::rename(self.staging.join(name), self.directory.join(name))?;
        }
        let Some(way) = self.way(staged.kind) else { return Ok(()) };
        if let (Some(told), Some(pid)) = (way.signal, Pid::from_raw(process as i32)) {
            rustix::process::kill_process(pid, told.signal())?;
        }
        way.socket.as_ref().map_or(Ok(()), |socket| socket.tell(&self.names))
    }

    fn way(&self, kind: Kind) -> Option<&Way> {
        match kind {
            Kind::Endpoints => self.ways.endpoints.as_ref(),
            Kind::Routes => self.ways.routes.as_ref(),
            Kind::Reload => self.ways.reload.as_ref(),
        }
    }

    fn render(&self, name: &str, text: &str) -> io::Result<String> {
        template::render(name, text, &self.names)
    }

    /// The next place of the cluster gets the address that has been away longest.
    fn swap(&mut self) {
        let places = self.names.endpoints.len() as u64;
        let address = self.addresses[((places + self.swaps) % self.addresses.len() as u64) as usize];
        let place = (self.swaps % places) as usize;
        let endpoint = Endpoint::from(address);
        self.names.endpoints[place] = endpoint.clone();
        // Of two swaps of one place the later one counts.
        self.names.swapped.retain(|swap| swap.place != place);
        self.names.swapped.push(Swap { place, endpoint });
        self.swaps += 1;
    }

    fn add(&mut self) {
        self.routes += 1;
        let host = format!("added-{:06}.bench.local", self.routes);
        self.names.added_now.push(host.clone());
        self.names.added.push(host);
        if self.names.added.len() as u64 > ADDED_MAX {
            let oldest = self.names.added.remove(0);
            self.names.removed_now.push(oldest);
        }
    }
}

impl Told {
    fn signal(self) -> Signal {
        match self {
            Self::Hup => Signal::HUP,
            Self::Usr1 => Signal::USR1,
            Self::Usr2 => Signal::USR2,
        }
    }
}

impl Socket {
    /// Says its lines and hears the answer out: a change that was refused is a fault.
    fn tell(&self, names: &Names) -> io::Result<()> {
        let path = template::render("socket.path", &self.path, names)?;
        let said = template::render("socket.say", &self.say, names)?;
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let in_socket = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
        let mut socket = UnixStream::connect(Path::new(&path)).map_err(in_socket)?;
        socket.set_read_timeout(Some(SOCKET_PATIENCE))?;
        socket.write_all(format!("{}\n", lines.join(";")).as_bytes()).map_err(in_socket)?;
        let mut reply = String::new();
        socket.take(REPLY_BYTES_MAX).read_to_string(&mut reply).map_err(in_socket)?;
        match reply.lines().map(str::trim).find(|line| !line.is_empty() && !line.ends_with("by 'stats socket command'")) {
            Some(refusal) => Err(io::Error::other(format!("{path}: {refusal}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test's own proxy")]

    use super::*;
    use std::collections::BTreeSet;
    use std::io::BufRead;
    use std::io::BufReader;
    use std::os::unix::net::UnixListener;

    const MEMBERS: usize = 3;

    /// A proxy with three of eight endpoints, whose files are in a directory of the test's own.
    fn changes(test: &str, ways: &str) -> Changes {
        let directory = std::env::temp_dir().join(format!("corelane-change-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let addresses: Vec<SocketAddr> = (1..=8).map(|host| SocketAddr::from(([127, 0, 0, host], 80))).collect();
        let names = Names {
            directory: directory.display().to_string(),
            endpoints: addresses[..MEMBERS].iter().copied().map(Endpoint::from).collect(),
            ..Names::default()
        };
        let templates = [("members", "{% for endpoint in endpoints %}{{endpoint.ip}} {% endfor %}"), ("hosts", "{{added|join(' ')}}")];
        let templates = templates.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec();
        let changes = Changes::new(toml::from_str(ways).unwrap(), templates, names, &addresses).unwrap();
        changes.render_all().unwrap();
        changes
    }

    fn members(changes: &Changes) -> BTreeSet<SocketAddr> {
        changes.members().collect()
    }

    fn read(changes: &Changes, name: &str) -> String {
        fs::read_to_string(changes.directory.join(name)).unwrap()
    }

    fn forget(changes: &Changes) {
        fs::remove_dir_all(&changes.directory).unwrap();
        fs::remove_dir_all(&changes.staging).unwrap();
    }

    const FILES: &str = "endpoints = { files = ['members'] }\nroutes = { files = ['hosts'] }";

    /// With every change of endpoints one leaves and one joins that has been away longest.
    #[test]
    fn one_endpoint_leaves_and_one_joins() {
        let mut changes = changes("swap", FILES);
        let mut before = members(&changes);
        for step in 0..20 {
            let staged = changes.stage(Change::Endpoints(1)).unwrap();
            changes.publish(&staged, 0).unwrap();
            let after = members(&changes);
            assert_eq!((after.len(), after.intersection(&before).count()), (MEMBERS, MEMBERS - 1), "step {step}");
            before = after;
        }
        let hosts: Vec<String> = changes.members().map(|member| member.ip().to_string()).collect();
        assert_eq!(hosts, ["127.0.0.6", "127.0.0.7", "127.0.0.5"], "the twentieth is the address 22 places behind the first, of eight");
        forget(&changes);
    }

    /// Until a change is published the proxy's files are as they were; then they are whole, and no other file is touched.
    #[test]
    fn a_change_is_seen_when_it_is_whole() {
        let mut changes = changes("whole", FILES);
        fs::write(changes.directory.join("hosts"), "untouched").unwrap();
        let staged = changes.stage(Change::Endpoints(2)).unwrap();
        assert_eq!(read(&changes, "members"), "127.0.0.1 127.0.0.2 127.0.0.3 ");
        changes.publish(&staged, 0).unwrap();
        assert_eq!((read(&changes, "members").as_str(), read(&changes, "hosts").as_str()), ("127.0.0.4 127.0.0.5 127.0.0.3 ", "untouched"));
        let staged = changes.stage(Change::Routes(2)).unwrap();
        changes.publish(&staged, 0).unwrap();
        assert_eq!(read(&changes, "hosts"), "added-000001.bench.local added-000002.bench.local");
        assert_eq!(changes.latest_host(), Some("added-000002.bench.local"));
        forget(&changes);
    }

    /// Added hosts are bounded: the oldest goes, and a proxy that is told single changes hears of it.
    #[test]
    fn the_oldest_host_goes() {
        let mut changes = changes("oldest", FILES);
        let _staged = changes.stage(Change::Routes(ADDED_MAX as u32)).unwrap();
        assert!(changes.names.removed_now.is_empty());
        let _staged = changes.stage(Change::Routes(1)).unwrap();
        assert_eq!(changes.names.removed_now, ["added-000001.bench.local"]);
        assert_eq!((changes.names.added.len() as u64, changes.names.added_now.len()), (ADDED_MAX, 1));
        forget(&changes);
    }

    /// A proxy that takes fewer changes gets as many of them, together.
    #[test]
    fn changes_are_put_together_for_the_slow() {
        let changes = changes("rhythm", "routes = { at_most_per_s = 2.0 }\nendpoints = {}");
        let table = [
            (Kind::Endpoints, 100.0, Rhythm { per_s: 100.0, together: 1 }),
            (Kind::Routes, 100.0, Rhythm { per_s: 2.0, together: 50 }),
            (Kind::Routes, 0.5, Rhythm { per_s: 0.5, together: 1 }),
        ];
        for (kind, wanted_per_s, rhythm) in table {
            assert_eq!(changes.rhythm(kind, wanted_per_s), rhythm, "{kind:?} {wanted_per_s}");
        }
        assert_eq!(changes.limits().as_deref(), Some("routes at most 2/s"));
        forget(&changes);
    }

    /// What a proxy does not take is a fault, as is a template that is not there or a word nobody knows.
    #[test]
    fn an_unknown_change_is_a_fault() {
        let mut none = changes("none", "");
        assert!(!none.takes(Kind::Reload));
        assert!(none.stage(Change::Reload).is_err());
        let missing = Changes::new(toml::from_str("reload = { files = ['x'] }").unwrap(), Vec::new(), none.names.clone(), &[]);
        assert!(missing.err().unwrap().to_string().contains("x is no template"));
        for ways in ["reload = { signal = 'KILL' }", "reload = { file = ['members'] }", "restart = {}"] {
            assert!(toml::from_str::<Ways>(ways).is_err(), "{ways}");
        }
        forget(&none);
    }

    /// A socket hears each changed place once, in one line; a refusal it answers with is a fault, silence is none.
    #[test]
    fn a_socket_hears_what_has_changed() {
        let ways = "[endpoints.socket]\npath = '{{directory}}/socket'\nsay = '''\n{% for swap in swapped %}\nset {{swap.place}} {{swap.endpoint.ip}}\n{% endfor %}\n'''";
        let mut changes = changes("socket", ways);
        let listener = UnixListener::bind(changes.directory.join("socket")).unwrap();
        let proxy = std::thread::spawn(move || {
            ["\n", "No such server.\n\n"].map(|reply| {
                let mut heard = String::new();
                let (mut stream, _) = listener.accept().unwrap();
                BufReader::new(&mut stream).read_line(&mut heard).unwrap();
                stream.write_all(reply.as_bytes()).unwrap();
                heard
            })
        });
        let staged = changes.stage(Change::Endpoints(4)).unwrap();
        changes.publish(&staged, 0).unwrap();
        let staged = changes.stage(Change::Endpoints(1)).unwrap();
        let fault = changes.publish(&staged, 0).unwrap_err().to_string();
        assert!(fault.contains("No such server."), "{fault}");
        assert_eq!(proxy.join().unwrap(), ["set 1 127.0.0.5;set 2 127.0.0.6;set 0 127.0.0.7\n", "set 1 127.0.0.8\n"]);
        forget(&changes);
    }
}
