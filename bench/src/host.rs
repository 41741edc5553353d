//! What the numbers were measured on.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::preflight;
use crate::preflight::Finding;

/// How long other processes are watched at work.
const WATCH: Duration = Duration::from_millis(500);

/// A host as far as it matters beside a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    pub processor: String,
    pub cpus: usize,
    pub hypervisor: bool,
    pub memory_gb: u64,
    pub kernel: String,
    pub system: String,
    pub clock_source: String,
    pub mitigations: Vec<String>,
    pub open_files_max: Option<u64>,
    pub niceness: i32,
    /// Runnable tasks, averaged over a minute, when the run began and when it ended.
    pub load_before: String,
    pub load_after: String,
    /// What the preflight had to say of it.
    pub findings: Vec<Finding>,
}

/// A host that ran a part of what was measured, as its agent found it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// `proxies` or `upstream`.
    pub what: String,
    pub address: String,
    pub host: Host,
}

impl Host {
    /// Looks around; what cannot be read is empty.
    pub fn look() -> Self {
        let cpu_info = read("/proc/cpuinfo");
        let field = |name: &str| {
            let value = cpu_info.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
            value.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        Self {
            processor: field("model name"),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            hypervisor: field("flags").split(' ').any(|flag| flag == "hypervisor"),
            memory_gb: memory_gb(&read("/proc/meminfo")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: system(&read("/etc/os-release")),
            clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource").trim().to_owned(),
            mitigations: mitigations(),
            open_files_max: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            niceness: rustix::process::getpriority_process(None).unwrap_or(0),
            load_before: load(),
            load_after: String::new(),
            findings: preflight().unwrap_or_default(),
        }
    }

    /// Notes the load at the end.
    pub fn end(&mut self) {
        self.load_after = load();
    }
}

/// Whatever of this host may move figures.
///
/// # Errors
/// Where there is no /proc.
pub fn preflight() -> io::Result<Vec<Finding>> {
    preflight::look(Path::new("/"), || std::thread::sleep(WATCH))
}

/// The commit of the working tree, with a mark where files differ from it; empty outside of one.
pub fn commit() -> String {
    let git = |arguments: &[&str]| Command::new("git").args(arguments).output().ok().filter(|output| output.status.success());
    let text = |output: std::process::Output| String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let Some(hash) = git(&["rev-parse", "--short=9", "HEAD"]).map(text) else { return String::new() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).map(text).is_some_and(|changes| !changes.is_empty());
    if changed { format!("{hash}+") } else { hash }
}

/// Raises the soft limit of open files to the hard one.
///
/// # Errors
/// The kernel's.
pub fn raise_open_files() -> io::Result<()> {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    Ok(rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn load() -> String {
    read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned()
}

fn memory_gb(text: &str) -> u64 {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_ascii_whitespace().next()?.parse::<u64>().ok());
    (total.unwrap_or(0) + (1 << 19)) >> 20
}

fn system(text: &str) -> String {
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map(|name| name.trim_matches('"').to_owned()).unwrap_or_default()
}

/// The measures against speculation that are on, by name.
fn mitigations() -> Vec<String> {
    let Ok(directory) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else { return Vec::new() };
    let mut on: Vec<String> = directory
        .filter_map(Result::ok)
        .filter(|entry| fs::read_to_string(entry.path()).is_ok_and(|text| text.starts_with("Mitigation")))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    on.sort();
    on
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory is told in whole gigabytes, rounded.
    #[test]
    fn memory_is_told_in_gigabytes() {
        assert_eq!(memory_gb("MemTotal:       24652324 kB\nMemFree: 1 kB\n"), 24);
        assert_eq!(memory_gb(""), 0);
    }

    /// The system's name is read without its quotes.
    #[test]
    fn a_system_has_a_name() {
        assert_eq!(system("NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
    }
}
