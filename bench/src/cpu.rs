//! CPUs: which one a thread runs on, and what processes have used, as /proc tells.

use std::fs;
use std::io;
use std::path::Path;

use rustix::thread::CpuSet;
use serde::Deserialize;
use serde::Serialize;

/// What /proc/PID/clear_refs understands as: let the peak of resident memory be what it is now.
const FORGET_PEAK: &str = "5";

/// The CPUs the calling thread may run on.
///
/// # Errors
/// The kernel's.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Lets the calling thread, and what it starts from now on, run on one CPU only.
///
/// # Errors
/// The kernel's, where there is no such CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|error| io::Error::new(io::Error::from(error).kind(), format!("CPU {cpu} is not to be had: {error}")))
}

/// A proxy: its first process and everything that one has started.
#[derive(Clone, Debug)]
pub struct Processes {
    pids: Vec<u32>,
}

/// CPU time and memory of a proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Time on a CPU, kernel and user, in nanoseconds.
    pub cpu_ns: u64,
    /// Time ready to run while something else ran there.
    pub wait_ns: u64,
    /// Resident memory, shared pages divided by those who share them.
    pub memory_bytes: u64,
    /// The most resident memory since [`Processes::forget_peaks`], shared pages counted for each process.
    pub peak_bytes: u64,
}

/// A look at processes, by its place in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Look {
    /// At everything, and the most memory is looked for anew from then on.
    First,
    /// At CPU time: memory takes the kernel a while.
    Within,
    /// At everything, of whatever processes there are by then.
    Last,
}

impl Usage {
    /// What was used between two looks; memory and its peak are those of the later one.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            wait_ns: self.wait_ns.saturating_sub(earlier.wait_ns),
            memory_bytes: self.memory_bytes,
            peak_bytes: self.peak_bytes,
        }
    }
}

impl Processes {
    /// The process `root` and its descendants as they are now.
    ///
    /// # Errors
    /// Where /proc cannot be read.
    pub fn of(root: u32) -> io::Result<Self> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // A process that has ended meanwhile is no child of ours.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            parents.extend(parent_of(&stat).map(|parent| (pid, parent)));
        }
        Ok(Self { pids: descendants(root, &parents) })
    }

    /// All of them, the first one first.
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// The same first process, with the descendants it has now.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn again(&self) -> io::Result<Self> {
        self.pids.first().map_or_else(|| Ok(self.clone()), |root| Self::of(*root))
    }

    /// The sum over all threads of all processes.
    ///
    /// # Errors
    /// Where the first process is gone, or the kernel keeps no schedstat.
    pub fn usage(&self) -> io::Result<Usage> {
        self.sum(usage_of)
    }

    /// CPU time alone: quick enough to be read while the load runs.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub fn cpu_ns(&self) -> io::Result<u64> {
        Ok(self.sum(times_of)?.cpu_ns)
    }

    /// CPU time with that of children which have ended: workers that made room for others.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub fn spent_ns(&self) -> io::Result<u64> {
        let reaped = self.pids.first().and_then(|pid| reaped_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?));
        Ok(self.cpu_ns()? + reaped.unwrap_or(0) * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
    }

    /// Begins anew to look for the most memory; where the kernel does not allow it, peaks are those since the start.
    pub fn forget_peaks(&self) {
        for pid in &self.pids {
            let _kept = fs::write(format!("/proc/{pid}/clear_refs"), FORGET_PEAK);
        }
    }

    /// What a look sees; CPU time is that of workers, too, which have ended.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub(crate) fn look(&mut self, look: Look) -> io::Result<Usage> {
        match look {
            Look::Within => return Ok(Usage { cpu_ns: self.spent_ns()?, ..Usage::default() }),
            Look::First => self.forget_peaks(),
            Look::Last => *self = self.again()?,
        }
        Ok(Usage { cpu_ns: self.spent_ns()?, ..self.usage()? })
    }

    fn sum(&self, look: fn(&Path) -> io::Result<Usage>) -> io::Result<Usage> {
        let mut sum = Usage::default();
        for (place, pid) in self.pids.iter().enumerate() {
            match look(Path::new(&format!("/proc/{pid}"))) {
                Ok(one) => {
                    sum.cpu_ns += one.cpu_ns;
                    sum.wait_ns += one.wait_ns;
                    sum.memory_bytes += one.memory_bytes;
                    sum.peak_bytes += one.peak_bytes;
                }
                Err(error) if place == 0 => return Err(io::Error::new(error.kind(), format!("process {pid}: {error}"))),
                Err(_) => {}
            }
        }
        Ok(sum)
    }
}

/// CPU time and run-queue wait of all threads.
fn times_of(process: &Path) -> io::Result<Usage> {
    let mut usage = Usage::default();
    for task in fs::read_dir(process.join("task"))? {
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let (cpu_ns, wait_ns) = schedstat(&text).ok_or_else(|| io::Error::other("schedstat is not as expected"))?;
        usage.cpu_ns += cpu_ns;
        usage.wait_ns += wait_ns;
    }
    Ok(usage)
}

fn usage_of(process: &Path) -> io::Result<Usage> {
    let bytes =
        |file: &str, field: &str| fs::read_to_string(process.join(file)).ok().and_then(|text| kilobytes(&text, field)).unwrap_or(0) << 10;
    let mut usage = times_of(process)?;
    usage.memory_bytes = bytes("smaps_rollup", "Pss:");
    usage.peak_bytes = bytes("status", "VmHWM:");
    Ok(usage)
}

/// Time stolen by the hypervisor and all time, in ticks, summed over these CPUs.
///
/// # Errors
/// Where /proc/stat cannot be read.
pub fn stolen(cpus: &[usize]) -> io::Result<(u64, u64)> {
    Ok(stolen_in(&fs::read_to_string("/proc/stat")?, cpus))
}

fn stolen_in(text: &str, cpus: &[usize]) -> (u64, u64) {
    let mut sum = (0, 0);
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let cpu = words.next().and_then(|name| name.strip_prefix("cpu")?.parse::<usize>().ok());
        if cpu.is_some_and(|cpu| cpus.contains(&cpu)) {
            // user nice system idle iowait irq softirq steal; guest time is part of user time.
            let ticks: Vec<u64> = words.take(8).filter_map(|word| word.parse().ok()).collect();
            sum.0 += ticks.get(7).copied().unwrap_or(0);
            sum.1 += ticks.iter().sum::<u64>();
        }
    }
    sum
}

/// Time on a CPU and time waiting for one, in nanoseconds.
fn schedstat(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_ascii_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// The parent in a /proc/PID/stat line; the name before it may hold spaces and brackets.
fn parent_of(stat: &str) -> Option<u32> {
    stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(1)?.parse().ok()
}

/// CPU time of the children that a process has waited for, kernel and user, in a /proc/PID/stat line.
fn reaped_ticks(stat: &str) -> Option<u64> {
    let mut words = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(13);
    Some(words.next()?.parse::<u64>().ok()? + words.next()?.parse::<u64>().ok()?)
}

fn kilobytes(text: &str, field: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(field)?.split_ascii_whitespace().next()?.parse().ok())
}

fn descendants(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process name with spaces and brackets does not hide the parent.
    #[test]
    fn a_parent_is_found_behind_any_name() {
        let table = [
            ("12 (nginx) S 7 12 12 0", Some(7)),
            ("12 (a) b) (c) S 9 1", Some(9)),
            ("12 (tmux: server) R 1 1", Some(1)),
            ("12 nginx S 7", None),
            ("12 (nginx)", None),
            ("", None),
        ];
        for (stat, parent) in table {
            assert_eq!(parent_of(stat), parent, "{stat}");
        }
    }

    /// The time of children that have ended is read behind any name as well.
    #[test]
    fn time_of_ended_children_is_found() {
        let stat = "12 (a) b) S 7 12 12 0 -1 4194560 100 200 0 0 11 22 33 44 20 0 1 0";
        assert_eq!(reaped_ticks(stat), Some(33 + 44));
        assert_eq!(reaped_ticks("12 (nginx) S 7 12"), None);
    }

    /// Grandchildren belong to a proxy, strangers do not.
    #[test]
    fn a_proxy_is_its_whole_family() {
        let parents = [(2, 1), (10, 2), (11, 10), (12, 10), (13, 11), (20, 2)];
        assert_eq!(descendants(10, &parents), [10, 11, 12, 13]);
    }

    /// The two times of a thread are read, and nothing is made of other text.
    #[test]
    fn a_schedstat_line_is_read() {
        assert_eq!(schedstat("123456 789 42\n"), Some((123_456, 789)));
        assert_eq!(schedstat("123456"), None);
        assert_eq!(schedstat("a b c"), None);
    }

    /// Stolen time is counted on the CPUs asked for and on no other.
    #[test]
    fn stolen_time_is_that_of_the_cpus() {
        let text = "cpu  9 9 9 9 9 9 9 99 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 10 0 0 0 0 0 0 5 0 0\nintr 5\n";
        assert_eq!(stolen_in(text, &[0]), (8, 36));
        assert_eq!(stolen_in(text, &[0, 1]), (13, 51));
        assert_eq!(stolen_in(text, &[2]), (0, 0));
    }

    /// Proportional memory is found among its neighbours.
    #[test]
    fn memory_is_read_in_bytes() {
        let text = "55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:  900 kB\nPss:  512 kB\nPss_Anon: 4 kB\n";
        assert_eq!(kilobytes(text, "Pss:"), Some(512));
        assert_eq!(kilobytes("Rss: 1 kB", "Pss:"), None);
    }

    /// A peak is what was the most since it was last forgotten, however much is held by now.
    #[test]
    fn a_peak_is_kept_until_it_is_forgotten() {
        // More than all tests beside this one hold together.
        let much = 256_u64 << 20;
        let own = Processes::of(std::process::id()).unwrap();
        let peak_bytes = || own.usage().unwrap().peak_bytes;
        drop(vec![1_u8; much as usize]);
        assert!(peak_bytes() >= much, "{}", peak_bytes());
        own.forget_peaks();
        assert!(peak_bytes() < much, "{}", peak_bytes());
    }

    /// The own process is on a CPU and in memory.
    #[test]
    fn the_own_process_has_used_something() {
        let usage = Processes::of(std::process::id()).unwrap().usage().unwrap();
        assert!(usage.cpu_ns > 0);
    }
}
