//! `tuning/corelane-tune` keeps its word on a made-up host: nothing is read or written outside a folder of the test.

#![expect(clippy::unwrap_used, reason = "a made-up host that cannot be set up is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

/// A host of four CPUs and one NIC with four queues, as its own folder; commands that knobs need are scripts in it.
struct FakeHost {
    root: PathBuf,
}

/// Answers as ethtool does, from one file per field; `-L`, `-C` and `-G` write it.
const ETHTOOL: &str = r#"#!/bin/sh
dir=$(dirname "$0")/nic
value() { cat "$dir/$1"; }
echo "$@" >> "$dir/../calls"
case "$1" in
-l) printf 'Channel parameters for eth0:\nPre-set maximums:\nRX:\t\tn/a\nCombined:\t8\nCurrent hardware settings:\nCombined:\t%s\n' "$(value combined)" ;;
-g) printf 'Ring parameters for eth0:\nPre-set maximums:\nRX:\t\t4096\nCurrent hardware settings:\nRX:\t\t%s\n' "$(value rx)" ;;
-c) printf 'Coalesce parameters for eth0:\nAdaptive RX: %s  TX: off\nrx-usecs:\t%s\ntx-usecs:\t%s\n' "$(value adaptive-rx)" "$(value rx-usecs)" "$(value tx-usecs)" ;;
*) [ -e "$dir/stubborn" ] && [ "$3" = rx-usecs ] || echo "$4" > "$dir/$3" ;;
esac
"#;

/// Knows irqbalance alone.
const SYSTEMCTL: &str = r#"#!/bin/sh
state=$(dirname "$0")/irqbalance
case "$1" in
show) echo loaded ;;
is-active) cat "$state" ;;
enable) echo active > "$state" ;;
disable) echo inactive > "$state" ;;
esac
"#;

/// Every value of the host before anything is tuned.
const FILES: &[(&str, &str)] = &[
    ("proc/cmdline", "root=/dev/sda1 quiet\n"),
    ("proc/cpuinfo", "processor : 0\nflags\t\t: fpu tsc\n"),
    ("proc/irq/40/smp_affinity_list", "0-3\n"),
    ("proc/irq/41/smp_affinity_list", "0-3\n"),
    ("proc/irq/42/smp_affinity_list", "0-3\n"),
    ("proc/irq/43/smp_affinity_list", "0-3\n"),
    ("proc/sys/fs/file-max", "9223372036854775807\n"),
    ("proc/sys/fs/nr_open", "1048576\n"),
    ("proc/sys/kernel/io_uring_disabled", "2\n"),
    ("proc/sys/kernel/io_uring_group", "-1\n"),
    ("proc/sys/kernel/numa_balancing", "1\n"),
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("proc/sys/net/ipv4/tcp_fin_timeout", "60\n"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "2048\n"),
    ("proc/sys/net/ipv4/tcp_migrate_req", "0\n"),
    ("proc/sys/net/ipv4/tcp_notsent_lowat", "4294967295\n"),
    ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1\n"),
    ("proc/sys/net/ipv4/tcp_tw_reuse", "2\n"),
    ("proc/sys/vm/stat_interval", "1\n"),
    ("proc/sys/vm/swappiness", "60\n"),
    ("sys/class/net/eth0/device/msi_irqs/39", "msix\n"),
    ("sys/class/net/eth0/device/msi_irqs/40", "msix\n"),
    ("sys/class/net/eth0/device/msi_irqs/41", "msix\n"),
    ("sys/class/net/eth0/device/msi_irqs/42", "msix\n"),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "f\n"),
    ("sys/class/net/eth0/queues/tx-0/xps_cpus", "00000000,0000000f\n"),
    ("sys/class/net/eth0/queues/tx-1/xps_cpus", "f\n"),
    ("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n"),
    ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n"),
    ("sys/devices/system/cpu/cpu1/power/pm_qos_resume_latency_us", "0\n"),
    ("sys/devices/system/cpu/cpu2/power/pm_qos_resume_latency_us", "0\n"),
    ("sys/devices/system/cpu/online", "0-3\n"),
    ("sys/devices/virtual/workqueue/cpumask", "f\n"),
    ("sys/kernel/irq/39/actions", "eth0-config\n"),
    ("sys/kernel/irq/40/actions", "eth0-TxRx-0\n"),
    ("sys/kernel/irq/41/actions", "mlx5_comp1@pci:0000:01:00.0\n"),
    ("sys/kernel/irq/42/actions", "virtio0-input.2\n"),
    ("sys/kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
    ("bin/irqbalance", "active\n"),
    ("bin/nic/combined", "4\n"),
    ("bin/nic/rx", "512\n"),
    ("bin/nic/adaptive-rx", "on\n"),
    ("bin/nic/rx-usecs", "50\n"),
    ("bin/nic/tx-usecs", "50\n"),
];

const STATE: &str = "var/lib/corelane/tuning/state.json";
const LATENCY: &[&str] = &["--profile", "latency", "--nic", "eth0", "--cores", "1-2"];

impl FakeHost {
    /// `None` on a machine without Python 3, where the script cannot run either.
    fn new(name: &str) -> Option<Self> {
        if Command::new("python3").arg("--version").output().is_err() {
            eprintln!("not run: this machine has no python3");
            return None;
        }
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tuning-{name}"));
        let _absent = fs::remove_dir_all(&root);
        let host = Self { root };
        for (path, content) in FILES {
            host.write(path, content);
        }
        for (name, script) in [("ethtool", ETHTOOL), ("systemctl", SYSTEMCTL)] {
            let path = format!("bin/{name}");
            host.write(&path, script);
            fs::set_permissions(host.root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
        }
        Some(host)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.root.join(path)).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap().trim().to_owned()
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/corelane-tune");
        let path = format!("{}:{}", self.root.join("bin").display(), std::env::var_os("PATH").unwrap().display());
        let mut run = Command::new(script);
        run.arg(command).args(arguments).arg("--root").arg(&self.root).env("PATH", path);
        run.output().unwrap()
    }

    /// Every value that a knob can touch, without surrounding blanks.
    fn values(&self) -> BTreeMap<&'static str, String> {
        FILES.iter().map(|(path, _)| (*path, self.read(path))).collect()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The row of a knob.
fn row(output: &Output, knob: &str) -> String {
    let text = text(output);
    text.lines().find(|line| line.split_whitespace().next() == Some(knob)).unwrap_or_else(|| panic!("no row {knob} in\n{text}")).to_owned()
}

/// A look changes nothing, says what differs, and its exit code says it too.
#[test]
fn check_and_diff_only_look() {
    let Some(host) = FakeHost::new("look") else { return };
    let before = host.values();
    for command in ["check", "diff"] {
        let output = host.run(command, LATENCY);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(row(&output, "somaxconn").contains("4096") && row(&output, "somaxconn").contains("differs"));
        assert_eq!(host.values(), before);
        assert!(!host.root.join(STATE).exists());
    }
    assert!(row(&host.run("check", LATENCY), "nr-open").ends_with("ok"));
    assert!(!text(&host.run("diff", LATENCY)).contains("nr-open"));
}

/// After apply everything is as wanted, each queue at its own core.
#[test]
fn apply_makes_check_content() {
    let Some(host) = FakeHost::new("apply") else { return };
    let output = host.run("apply", LATENCY);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for (path, value) in [
        ("bin/nic/combined", "2"),
        ("bin/nic/rx", "2048"),
        ("bin/nic/adaptive-rx", "off"),
        ("bin/nic/rx-usecs", "4"),
        ("bin/irqbalance", "inactive"),
        ("proc/irq/40/smp_affinity_list", "1"),
        ("proc/irq/41/smp_affinity_list", "2"),
        ("proc/irq/42/smp_affinity_list", "1"),
        ("sys/class/net/eth0/queues/tx-0/xps_cpus", "2"),
        ("sys/class/net/eth0/queues/tx-1/xps_cpus", "4"),
        // One receive queue for two shards: software spreads.
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "6"),
        ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance"),
        ("sys/devices/system/cpu/cpu2/power/pm_qos_resume_latency_us", "2"),
        ("sys/devices/virtual/workqueue/cpumask", "9"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
        ("proc/sys/net/ipv4/ip_local_port_range", "10240 65535"),
        ("proc/sys/kernel/io_uring_disabled", "0"),
        // Larger than wanted already: left alone.
        ("proc/sys/fs/file-max", "9223372036854775807"),
        // No interrupt of a queue of this interface.
        ("proc/irq/43/smp_affinity_list", "0-3"),
    ] {
        assert_eq!(host.read(path), value, "{path}");
    }
    let check = host.run("check", LATENCY);
    let off: Vec<_> = text(&check).lines().filter(|line| line.ends_with("differs")).map(str::to_owned).collect();
    // The boot parameter is printed, not written.
    assert!(off.len() == 1 && off[0].starts_with("boot"), "{off:?}");
}

/// A second apply writes nothing and keeps the values that were there before the first.
#[test]
fn apply_twice_is_apply_once() {
    let Some(host) = FakeHost::new("twice") else { return };
    host.run("apply", LATENCY);
    let (values, saved) = (host.values(), host.read(STATE));
    host.write("proc/sys/vm/swappiness", "30\n");
    assert_eq!(host.run("apply", LATENCY).status.code(), Some(0));
    assert_eq!(host.values(), values);
    assert_eq!(host.read(STATE), saved);
    assert!(saved.contains("\"60\""), "the host's own swappiness is the one that is kept");
}

/// Revert brings every value back, the newest first, and leaves nothing behind.
#[test]
fn revert_brings_everything_back() {
    let Some(host) = FakeHost::new("revert") else { return };
    let normal = |values: BTreeMap<&'static str, String>| -> Vec<String> {
        // The kernel shows a choice in brackets among the others; a file keeps only what was chosen.
        values
            .into_values()
            .map(|value| value.split('[').nth(1).and_then(|rest| rest.split(']').next()).unwrap_or(&value).replace('\t', " "))
            .collect()
    };
    let before = normal(host.values());
    host.run("apply", &[LATENCY, &["--write-boot"]].concat());
    assert!(host.read("etc/default/grub.d/corelane.cfg").contains("skew_tick=1"));
    host.write("bin/calls", "");
    let output = host.run("revert", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(normal(host.values()), before);
    assert!(!host.root.join(STATE).exists() && !host.root.join("etc/default/grub.d/corelane.cfg").exists());
    let calls = host.read("bin/calls");
    let position = |call: &str| calls.find(call).unwrap_or_else(|| panic!("no {call} in\n{calls}"));
    assert!(position("-C eth0 rx-usecs 50") < position("-L eth0 combined 4"), "what was set first goes back last");
    assert!(text(&host.run("revert", &[])).contains("nothing to take back"));
}

/// A knob that is not there, or not to be turned there, is a row with its reason, and the others are set.
#[test]
fn a_knob_that_is_not_there_stops_no_other() {
    let Some(host) = FakeHost::new("absent") else { return };
    host.write("proc/cpuinfo", "flags : fpu hypervisor tsc\n");
    host.remove("proc/sys/net/ipv4/tcp_migrate_req");
    host.remove("bin/ethtool");
    let output = host.run("apply", &["--profile", "latency", "--cores", "0-3"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for (knob, reason) in [
        ("governor", "n/a: a virtual machine"),
        ("c-states", "n/a: a virtual machine"),
        ("migrate-req", "n/a: this kernel has no tcp_migrate_req"),
        ("irq-affinity", "n/a: needs --nic"),
        ("workqueues", "n/a: every core is a data core"),
    ] {
        assert!(row(&output, knob).contains(reason), "{}", row(&output, knob));
    }
    assert_eq!(host.read("proc/sys/net/core/somaxconn"), "65535");
    assert_eq!(host.read("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor"), "powersave");
}

/// Profile balanced does not touch what only the tail pays for.
#[test]
fn balanced_leaves_the_costly_knobs_alone() {
    let Some(host) = FakeHost::new("balanced") else { return };
    assert_eq!(host.run("apply", &["--nic", "eth0", "--cores", "1-2"]).status.code(), Some(0));
    assert_eq!(host.read("bin/nic/adaptive-rx"), "on");
    assert_eq!(host.read("bin/nic/rx-usecs"), "50");
    assert_eq!(host.read("sys/devices/system/cpu/cpu1/power/pm_qos_resume_latency_us"), "0");
    assert_eq!(host.read("proc/sys/kernel/numa_balancing"), "1");
    assert_eq!(host.run("check", &["--nic", "eth0", "--cores", "1-2"]).status.code(), Some(0));
}

/// A driver that takes a value and does not keep it is reported.
#[test]
fn what_a_driver_ignores_is_said() {
    let Some(host) = FakeHost::new("stubborn") else { return };
    host.write("bin/nic/stubborn", "");
    let output = host.run("apply", LATENCY);
    assert_eq!(output.status.code(), Some(1));
    assert!(row(&output, "coalescing").contains("ignored: reads back 50"), "{}", row(&output, "coalescing"));
    assert_eq!(host.read("proc/sys/net/core/somaxconn"), "65535");
}

/// Wrong usage is refused before anything is read, with what would be right.
#[test]
fn wrong_usage_is_refused() {
    let Some(host) = FakeHost::new("usage") else { return };
    for (arguments, said) in [
        (&["--nic", "eth9"][..], "no such interface; there are eth0"),
        (&["--cores", "1-9"], "CPU 4 is not online"),
        (&["--cores", "one"], "`one` is no CPU number"),
        (&["--profile", "fast"], "invalid choice"),
    ] {
        let output = host.run("apply", arguments);
        assert_eq!(output.status.code(), Some(64), "{}", text(&output));
        assert!(text(&output).contains(said), "{}", text(&output));
    }
    assert_eq!(host.read("proc/sys/net/core/somaxconn"), "4096");
}

/// The README has one row for each knob, in the order of application.
#[test]
fn every_knob_has_its_row_in_the_readme() {
    let Some(host) = FakeHost::new("readme") else { return };
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/README.md")).unwrap();
    let rows: Vec<_> = readme.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned())).collect();
    let output = text(&host.run("check", LATENCY));
    let knobs: Vec<_> = output.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(rows, knobs);
}
