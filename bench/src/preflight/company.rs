//! Who else is at work on the host: the hypervisor, other processes, the daemon that moves interrupts.

use std::collections::BTreeMap;

use super::Finding;
use super::TUNE;
use super::tree::Tree;

/// The share of all CPUs' time from which on a block is marked as stolen; here it warns beforehand.
const STOLEN_MAX: f64 = 0.002;
/// The share of the ticks that passed on one CPU from which on a process is busy.
const BUSY_MIN: f64 = 0.02;
/// Busy processes that are named.
const NAMED_MAX: usize = 3;
const LOAD_MAX: f64 = 0.5;

/// What has been used until now.
pub(super) struct Moment {
    /// Ticks of all CPUs together: stolen, and all.
    stolen: u64,
    all: u64,
    cpus: u64,
    /// Ticks of each process, by number, with its name.
    processes: BTreeMap<u32, (String, u64)>,
}

impl Moment {
    pub(super) fn of(tree: &Tree) -> Self {
        let text = tree.text("proc/stat").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guest time is part of user time.
        let ticks: Vec<u64> = line.split_ascii_whitespace().take(8).filter_map(|word| word.parse().ok()).collect();
        let own = std::process::id();
        let numbers = tree.names("proc").into_iter().filter_map(|name| name.parse::<u32>().ok()).filter(|pid| *pid != own);
        let processes = numbers.filter_map(|pid| Some((pid, used(&tree.text(&format!("proc/{pid}/stat"))?)?)));
        Self {
            stolen: ticks.get(7).copied().unwrap_or(0),
            all: ticks.iter().sum(),
            cpus: text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count() as u64,
            processes: processes.collect(),
        }
    }
}

/// Name and ticks in a `/proc/PID/stat` line; the name may hold spaces and brackets.
fn used(stat: &str) -> Option<(String, u64)> {
    let (begin, end) = (stat.find('(')?, stat.rfind(')')?);
    let name = stat.get(begin + 1..end)?.to_owned();
    let words: Vec<&str> = stat[end + 1..].split_ascii_whitespace().collect();
    let ticks = |place: usize| words.get(place)?.parse::<u64>().ok();
    // utime and stime, the 14th and 15th field of the line.
    Some((name, ticks(11)? + ticks(12)?))
}

pub(super) fn findings(tree: &Tree, before: &Moment, after: &Moment) -> Vec<Finding> {
    vec![stolen(before, after), load(tree), busy(before, after), balancer(after)]
}

/// Time that the hypervisor gave to others, since the host was started and just now.
fn stolen(before: &Moment, after: &Moment) -> Finding {
    if after.all == 0 {
        return Finding::unknown("steal", "`top` shows it as `st`");
    }
    let share = |stolen: u64, all: u64| stolen as f64 / all.max(1) as f64;
    let (ever, now) = (share(after.stolen, after.all), share(after.stolen - before.stolen, after.all - before.all));
    let cure = "the machine below is shared: CPUs of your own, or more rounds and only ratios believed";
    let value = format!("{:.2} % of the time since the start, {:.2} % now", ever * 100.0, now * 100.0);
    Finding::when(ever.max(now) <= STOLEN_MAX, "steal", value, cure)
}

fn load(tree: &Tree) -> Finding {
    let text = tree.text("proc/loadavg").unwrap_or_default();
    match text.split(' ').next().and_then(|load| load.parse::<f64>().ok()) {
        Some(load) => Finding::when(load <= LOAD_MAX, "load average", load.to_string(), "stop what runs, wait a minute, measure then"),
        None => Finding::unknown("load average", "`uptime` tells"),
    }
}

/// Processes that ran between the two moments, the busiest first.
fn busy(before: &Moment, after: &Moment) -> Finding {
    let name = "busy processes";
    let passed = (after.all - before.all).checked_div(after.cpus).unwrap_or(0);
    if passed == 0 {
        return Finding::unknown(name, "`top` shows them");
    }
    let mut busy: Vec<(f64, &str, u32)> = Vec::new();
    for (pid, (name, ticks)) in &after.processes {
        // What was not there before has begun since.
        let earlier = before.processes.get(pid).map_or(0, |(_, ticks)| *ticks);
        let share = ticks.saturating_sub(earlier) as f64 / passed as f64;
        if share >= BUSY_MIN {
            busy.push((share, name, *pid));
        }
    }
    busy.sort_by(|one, other| other.0.total_cmp(&one.0));
    if busy.is_empty() {
        return Finding::good(name, "none");
    }
    let mut named: Vec<String> =
        busy.iter().take(NAMED_MAX).map(|(share, name, pid)| format!("{name} ({pid}) {:.0} % of a CPU", share * 100.0)).collect();
    if busy.len() > NAMED_MAX {
        named.push(format!("and {} more", busy.len() - NAMED_MAX));
    }
    Finding::matters(name, named.join("; "), "stop them, or keep them off the CPUs measured on")
}

fn balancer(now: &Moment) -> Finding {
    let runs = now.processes.values().any(|(name, _)| name == "irqbalance");
    let cure = format!("{TUNE} apply --cores LIST (irqbalance): it moves interrupts to CPUs measured on");
    Finding::when(!runs, "irqbalance", if runs { "runs" } else { "does not run" }, cure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight;
    use crate::preflight::Verdict;
    use crate::preflight::tree::tests::host;

    fn stat(name: &str, user: u64, system: u64) -> String {
        format!("7 ({name}) S 1 7 7 0 -1 4194560 100 0 0 0 {user} {system} 0 0 20 0 1 0 5 0 0")
    }

    /// A process that ran while we watched is named with its share; one that has only been busy before is not.
    #[test]
    fn who_works_now_is_named() {
        let host = host("busy", &[("proc/stat", "cpu  0 0 0 2000 0 0 0 0 0 0\ncpu0 0 0 0 1000\ncpu1 0 0 0 1000\n")]);
        host.write("proc/7/stat", &stat("cc1 (plus) x", 500, 100));
        host.write("proc/8/stat", &stat("old", 9_000_000, 0));
        let findings = preflight::look(host.path(), || {
            host.write("proc/stat", "cpu  80 0 0 2100 0 0 0 20 0 0\ncpu0 40 0 0 1050\ncpu1 40 0 0 1050\n");
            host.write("proc/7/stat", &stat("cc1 (plus) x", 530, 120));
            host.write("proc/9/stat", &stat("irqbalance", 1, 0));
        });
        let findings = findings.unwrap();
        let of = |name: &str| findings.iter().find(|finding| finding.name == name).map(|finding| (finding.verdict, finding.value.as_str()));
        assert_eq!(of("busy processes"), Some((Verdict::Matters, "cc1 (plus) x (7) 50 % of a CPU")));
        assert_eq!(of("steal"), Some((Verdict::Matters, "0.91 % of the time since the start, 10.00 % now")));
        assert_eq!(of("irqbalance"), Some((Verdict::Matters, "runs")));
        assert_eq!(of("load average"), Some((Verdict::Unknown, "not told")));
    }

    /// On a host that does nothing, nothing matters.
    #[test]
    fn an_idle_host_is_good() {
        let host = host("idle", &[("proc/loadavg", "0.08 0.03 0.01 1/97 1381\n"), ("proc/stat", "cpu  0 0 0 100 0 0 0 0\ncpu0 0\n")]);
        host.write("proc/7/stat", &stat("init", 500, 100));
        let before = Moment::of(&host.tree());
        host.write("proc/stat", "cpu  0 0 0 200 0 0 0 0\ncpu0 0\n");
        let findings = findings(&host.tree(), &before, &Moment::of(&host.tree()));
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::Good), "{findings:?}");
    }

    /// What is no line of a process is passed over, however short.
    #[test]
    fn a_broken_line_is_passed_over() {
        assert_eq!(used(&stat("a", 2, 3)), Some(("a".to_owned(), 5)));
        for line in ["", "7", "7 (a", "7 )a(", "7 (a) S 1 2", "7 (a) S 1 7 7 0 -1 4194560 100 0 0 0 x y"] {
            assert_eq!(used(line), None, "{line}");
        }
    }
}
