//! CPUs: how fast they are when a request comes, and what they have to do besides.

use super::Finding;
use super::TUNE;
use super::tree::Tree;

const SYSTEM: &str = "sys/devices/system/cpu";
/// Waking from a deeper sleep costs about what a request does; the same bound as the script's, in microseconds.
const WAKE_US_MAX: u64 = 3;

pub(super) fn findings(tree: &Tree) -> Vec<Finding> {
    vec![governor(tree), turbo(tree), sleep(tree), siblings(tree), isolation(tree), mitigations(tree), clock(tree)]
}

fn governor(tree: &Tree) -> Finding {
    let mut governors: Vec<String> = tree.cpus().iter().filter_map(|cpu| tree.text(&format!("{cpu}/cpufreq/scaling_governor"))).collect();
    governors.sort();
    governors.dedup();
    if governors.is_empty() {
        return Finding::unknown("governor", "a virtual machine is not told: ask whoever runs the machine below it");
    }
    let cure = format!("{TUNE} apply (governor): a clock that ramps up is too late for a request");
    Finding::when(governors == ["performance"], "governor", governors.join(", "), cure)
}

fn turbo(tree: &Tree) -> Finding {
    let off = tree.number(&format!("{SYSTEM}/intel_pstate/no_turbo")).map(|no_turbo| no_turbo == 1);
    let off = off.or_else(|| tree.number(&format!("{SYSTEM}/cpufreq/boost")).map(|boost| boost == 0));
    let cure = "on for service; for figures that repeat: 1 to intel_pstate/no_turbo or 0 to cpufreq/boost";
    match off {
        Some(off) => Finding::when(off, "turbo", if off { "off" } else { "on" }, cure),
        None => Finding::unknown("turbo", "a virtual machine is not told: the clock may follow its neighbours' load"),
    }
}

/// The deepest sleep of any CPU, among the states that are neither disabled nor slower to leave than is allowed.
fn sleep(tree: &Tree) -> Finding {
    let name = "C-states";
    if tree.text(&format!("{SYSTEM}/cpuidle/current_driver")).as_deref() == Some("haltpoll") {
        let cure = "a CPU that halts is woken late, by the machine below: tails at low rates are mostly that, for all proxies alike";
        return Finding::matters(name, "haltpoll, in a virtual machine", cure);
    }
    let mut deepest: Option<(u64, String)> = None;
    for cpu in tree.cpus() {
        let allowed_us = match tree.text(&format!("{cpu}/power/pm_qos_resume_latency_us")).as_deref() {
            // In this file, zero is "no constraint".
            Some("n/a") => 0,
            Some("0") | None => u64::MAX,
            Some(limit) => limit.parse().unwrap_or(u64::MAX),
        };
        for state in tree.names(&format!("{cpu}/cpuidle")) {
            let of = |field: &str| format!("{cpu}/cpuidle/{state}/{field}");
            let Some(wake_us) = tree.number(&of("latency")).filter(|wake_us| *wake_us <= allowed_us) else { continue };
            if tree.number(&of("disable")) != Some(1) && deepest.as_ref().is_none_or(|(most_us, _)| wake_us > *most_us) {
                deepest = Some((wake_us, tree.text(&of("name")).unwrap_or(state)));
            }
        }
    }
    match deepest {
        Some((wake_us, state)) => {
            let cure = format!("{TUNE} apply --profile latency (c-states), or boot with a bound on them");
            Finding::when(wake_us <= WAKE_US_MAX, name, format!("{state}, {wake_us} µs to wake up"), cure)
        }
        None => Finding::unknown(name, "a virtual machine's CPU halts and is woken by the one below: tails at low rates are mostly that"),
    }
}

fn siblings(tree: &Tree) -> Finding {
    match tree.number(&format!("{SYSTEM}/smt/active")) {
        Some(active) => {
            let cure = "leave the siblings of the CPUs measured on idle (thread_siblings_list), or `off` to smt/control";
            Finding::when(active == 0, "SMT", if active == 0 { "off" } else { "on" }, cure)
        }
        None => Finding::unknown("SMT", "see that no other thread runs on the cores measured on"),
    }
}

fn isolation(tree: &Tree) -> Finding {
    let words = ["isolcpus=", "nohz_full=", "rcu_nocbs=", "idle=", "skew_tick="];
    let line = tree.text("proc/cmdline").unwrap_or_default();
    let mut found: Vec<String> =
        line.split_ascii_whitespace().filter(|word| words.iter().any(|name| word.starts_with(name))).map(str::to_owned).collect();
    // A cgroup partition isolates without a boot parameter.
    let isolated = tree.text(&format!("{SYSTEM}/isolated")).filter(|cpus| !cpus.is_empty());
    if let Some(cpus) = &isolated {
        found.push(format!("isolated: {cpus}"));
    }
    let name = "isolation";
    if found.iter().any(|word| word.starts_with("nohz_full=") || word == "idle=poll") {
        let cure = "nohz_full makes each system call dearer, idle=poll the host hot: measure without";
        return Finding::matters(name, found.join(" "), cure);
    }
    if line.is_empty() && isolated.is_none() {
        return Finding::unknown(name, "see that nothing else runs on the CPUs measured on");
    }
    let cure = "others may run on the CPUs measured on: cpuset.cpus.partition=isolated for them, or a host that does nothing else";
    Finding::when(isolated.is_some(), name, if found.is_empty() { "none".to_owned() } else { found.join(" ") }, cure)
}

fn mitigations(tree: &Tree) -> Finding {
    let directory = format!("{SYSTEM}/vulnerabilities");
    let states: Vec<(String, String)> =
        tree.names(&directory).into_iter().filter_map(|name| Some((name.clone(), tree.text(&format!("{directory}/{name}"))?))).collect();
    if states.is_empty() {
        return Finding::unknown("mitigations", "compare with hosts of the same kernel and processor only");
    }
    let on: Vec<&str> = states.iter().filter(|(_, state)| state.starts_with("Mitigation")).map(|(name, _)| name.as_str()).collect();
    let value = if on.is_empty() { "none on".to_owned() } else { on.join(", ") };
    let cure =
        "each system call pays for them: compare with hosts that have the same ones; whether they are needed is no question of speed";
    Finding::when(on.is_empty(), "mitigations", value, cure)
}

fn clock(tree: &Tree) -> Finding {
    let directory = "sys/devices/system/clocksource/clocksource0";
    let Some(source) = tree.text(&format!("{directory}/current_clocksource")) else {
        return Finding::unknown("clock source", "dmesg names it");
    };
    let offered = tree.text(&format!("{directory}/available_clocksource")).unwrap_or_default();
    let cure = if offered.split(' ').any(|offer| offer == "tsc") {
        format!("{TUNE} apply (clocksource): others are dearer to read")
    } else {
        "no tsc is offered here: each reading of the clock is dearer, for the driver as for the proxy".to_owned()
    };
    Finding::when(source == "tsc", "clock source", source, cure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;
    use crate::preflight::Verdict::Good;
    use crate::preflight::Verdict::Matters;
    use crate::preflight::Verdict::Unknown;
    use crate::preflight::tree::tests::host;

    type Row<'a> = (&'a [(&'a str, &'a str)], Verdict, &'a str);

    fn hold(name: &str, look: fn(&Tree) -> Finding, rows: &[Row<'_>]) {
        for (place, (files, verdict, value)) in rows.iter().enumerate() {
            let files: Vec<(String, &str)> = files.iter().map(|(path, text)| (format!("{SYSTEM}/{path}"), *text)).collect();
            let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
            let host = host(&format!("{name}-{place}"), &files);
            let finding = look(&host.tree());
            assert_eq!((finding.verdict, finding.value.as_str()), (*verdict, *value), "{files:?}");
        }
    }

    /// One CPU with another governor is enough to matter; a host without any does not tell.
    #[test]
    fn a_governor_is_that_of_all_cpus() {
        let (one, other) = ("cpu0/cpufreq/scaling_governor", "cpu1/cpufreq/scaling_governor");
        hold(
            "governor",
            governor,
            &[
                (&[(one, "performance\n"), (other, "performance\n")], Good, "performance"),
                (&[(one, "performance"), (other, "schedutil")], Matters, "performance, schedutil"),
                (&[], Unknown, "not told"),
            ],
        );
    }

    /// Turbo is told by either driver, each in its own sense.
    #[test]
    fn turbo_is_told_by_either_driver() {
        let (intel, others) = ("intel_pstate/no_turbo", "cpufreq/boost");
        hold(
            "turbo",
            turbo,
            &[
                (&[(intel, "1")], Good, "off"),
                (&[(intel, "0")], Matters, "on"),
                (&[(others, "0")], Good, "off"),
                (&[(others, "1")], Matters, "on"),
                (&[], Unknown, "not told"),
            ],
        );
    }

    /// The deepest sleep that can still happen counts: not a disabled one, nor one that is slower than allowed.
    #[test]
    fn the_deepest_possible_sleep_counts() {
        let idle = ("cpu0/cpuidle/state0/latency", "0");
        let (light, light_name) = (("cpu0/cpuidle/state1/latency", "2"), ("cpu0/cpuidle/state1/name", "C1"));
        let (deep, deep_name) = (("cpu1/cpuidle/state2/latency", "133"), ("cpu1/cpuidle/state2/name", "C6"));
        let limit = "cpu1/power/pm_qos_resume_latency_us";
        hold(
            "sleep",
            sleep,
            &[
                (&[idle, light, light_name, deep, deep_name], Matters, "C6, 133 µs to wake up"),
                (&[idle, light, light_name, deep, deep_name, (limit, "0")], Matters, "C6, 133 µs to wake up"),
                (&[idle, light, light_name, deep, deep_name, (limit, "2")], Good, "C1, 2 µs to wake up"),
                (&[idle, light, light_name, deep, deep_name, (limit, "n/a")], Good, "C1, 2 µs to wake up"),
                (&[idle, light, light_name, deep, deep_name, ("cpu1/cpuidle/state2/disable", "1")], Good, "C1, 2 µs to wake up"),
                // What a guest says of its sleep leaves out who wakes it.
                (&[light, light_name, ("cpuidle/current_driver", "haltpoll\n")], Matters, "haltpoll, in a virtual machine"),
                (&[], Unknown, "not told"),
            ],
        );
    }

    /// Two threads on a core matter while both may run.
    #[test]
    fn siblings_matter_while_they_are_active() {
        let active = "smt/active";
        hold("siblings", siblings, &[(&[(active, "1")], Matters, "on"), (&[(active, "0")], Good, "off"), (&[], Unknown, "not told")]);
    }

    /// Isolated CPUs are good however they came to be; parameters that make calls dearer are not; of the line nothing else is told.
    #[test]
    fn isolation_is_told_from_line_and_kernel() {
        let line = "../../../../proc/cmdline";
        hold(
            "isolation",
            isolation,
            &[
                (&[(line, "root=/dev/vda secret=1 quiet")], Matters, "none"),
                (&[(line, "quiet isolcpus=1-3 skew_tick=1"), ("isolated", "1-3")], Good, "isolcpus=1-3 skew_tick=1 isolated: 1-3"),
                (&[(line, "quiet"), ("isolated", "2\n")], Good, "isolated: 2"),
                (&[(line, "nohz_full=1"), ("isolated", "1")], Matters, "nohz_full=1 isolated: 1"),
                (&[(line, "idle=poll")], Matters, "idle=poll"),
                (&[("isolated", "\n")], Unknown, "not told"),
            ],
        );
    }

    /// Only what is mitigated costs; what the processor does not need is not named.
    #[test]
    fn mitigations_that_are_on_are_named() {
        let (l1tf, mds, v2) = ("vulnerabilities/l1tf", "vulnerabilities/mds", "vulnerabilities/spectre_v2");
        hold(
            "mitigations",
            mitigations,
            &[
                (&[(l1tf, "Not affected"), (mds, "Mitigation: Clear"), (v2, "Mitigation: Retpolines")], Matters, "mds, spectre_v2"),
                (&[(l1tf, "Not affected"), (v2, "Vulnerable")], Good, "none on"),
                (&[], Unknown, "not told"),
            ],
        );
    }

    /// Every clock but the processor's own matters, and the script is named only where it can help.
    #[test]
    fn a_slow_clock_matters() {
        let (current, offered) = ("../clocksource/clocksource0/current_clocksource", "../clocksource/clocksource0/available_clocksource");
        hold(
            "clock",
            clock,
            &[
                (&[(current, "tsc\n"), (offered, "tsc hpet")], Good, "tsc"),
                (&[(current, "hpet"), (offered, "tsc hpet")], Matters, "hpet"),
                (&[], Unknown, "not told"),
            ],
        );
        let host = host("clock-cure", &[("sys/devices/system/clocksource/clocksource0/current_clocksource", "kvm-clock")]);
        assert!(!clock(&host.tree()).cure.contains(TUNE));
    }
}
