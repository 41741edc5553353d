//! The network stack: what each packet and each connection passes through.

use super::Finding;
use super::TUNE;
use super::tree::Tree;

/// Ports for connections to endpoints, below which short-lived ones run out within a minute of TIME_WAIT at 1000/s.
const PORTS_MIN: u64 = 50_000;
const QUEUE_MIN: u64 = 65_535;

pub(super) fn findings(tree: &Tree) -> Vec<Finding> {
    let at_least = |name, path, least, knob| {
        number(
            tree,
            name,
            path,
            |value| value >= least,
            format!("{TUNE} apply ({knob}): a burst of connections is dropped, not kept waiting"),
        )
    };
    let polls = "0: each process that waits for a socket spins on the card instead";
    vec![
        rules(tree),
        tracking(tree),
        congestion(tree),
        qdisc(tree),
        at_least("accept queue", "proc/sys/net/core/somaxconn", QUEUE_MIN, "somaxconn"),
        at_least("half-open queue", "proc/sys/net/ipv4/tcp_max_syn_backlog", QUEUE_MIN, "syn-backlog"),
        ports(tree),
        number(
            tree,
            "slow start after idle",
            "proc/sys/net/ipv4/tcp_slow_start_after_idle",
            |on| on == 0,
            format!("{TUNE} apply (slow-start-after-idle): a pooled connection crawls after a pause"),
        ),
        number(tree, "busy_poll", "proc/sys/net/core/busy_poll", |spin_us| spin_us == 0, polls.to_owned()),
        number(tree, "busy_read", "proc/sys/net/core/busy_read", |spin_us| spin_us == 0, polls.to_owned()),
    ]
}

/// A file with one number, held against a rule.
fn number(tree: &Tree, name: &str, path: &str, is_good: impl Fn(u64) -> bool, cure: String) -> Finding {
    match tree.number(path) {
        Some(value) => Finding::when(is_good(value), name, value.to_string(), cure),
        None => Finding::unknown(name, format!("this kernel has no {path}: compare with hosts alike")),
    }
}

fn rules(tree: &Tree) -> Finding {
    let name = "iptables";
    // Only what is in use is in the file, which only root may read; nft's rules are in none.
    match tree.text("proc/net/ip_tables_names") {
        Some(tables) if !tables.is_empty() => {
            let cure = "each packet passes them, on the loopback too: measure on a host without, or let the ports go by untouched";
            Finding::matters(name, tables.lines().collect::<Vec<_>>().join(", "), cure)
        }
        _ => Finding::unknown(name, "no table of the old kind is told; `nft list ruleset` tells the others"),
    }
}

fn tracking(tree: &Tree) -> Finding {
    let name = "conntrack";
    let of = |file: &str| tree.number(&format!("proc/sys/net/netfilter/nf_conntrack_{file}"));
    match of("count").zip(of("max")) {
        None if tree.names("proc/sys/net").is_empty() => Finding::unknown(name, "`conntrack -C` tells"),
        None => Finding::good(name, "not there"),
        Some((count, max)) => {
            let cure = "each packet is looked up, and connections over the limit are dropped: `notrack` for the ports measured on";
            Finding::when(count == 0, name, format!("{count} of {max} connections tracked"), cure)
        }
    }
}

fn congestion(tree: &Tree) -> Finding {
    let name = "congestion control";
    match tree.text("proc/sys/net/ipv4/tcp_congestion_control") {
        Some(control) => {
            let cure = "it paces, which costs timers: cubic, but towards clients far away; compare with hosts that have the same one";
            Finding::when(matches!(control.as_str(), "cubic" | "reno"), name, control, cure)
        }
        None => Finding::unknown(name, "`ss -ti` tells for each connection"),
    }
}

fn qdisc(tree: &Tree) -> Finding {
    let name = "default qdisc";
    match tree.text("proc/sys/net/core/default_qdisc") {
        Some(qdisc) => {
            let cure = "fq or pfifo_fast to net.core.default_qdisc before the card comes up: every packet passes it; the loopback has none";
            Finding::when(matches!(qdisc.as_str(), "fq" | "pfifo_fast" | "mq" | "noqueue"), name, qdisc, cure)
        }
        None => Finding::unknown(name, "`tc qdisc show` tells"),
    }
}

fn ports(tree: &Tree) -> Finding {
    let name = "local ports";
    let text = tree.text("proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let bounds: Vec<u64> = text.split_ascii_whitespace().filter_map(|bound| bound.parse().ok()).collect();
    let [first, last] = bounds[..] else { return Finding::unknown(name, "`sysctl net.ipv4.ip_local_port_range` tells") };
    let cure = format!("{TUNE} apply (local-ports): they run out where each request has a connection of its own");
    Finding::when((last + 1).saturating_sub(first) >= PORTS_MIN, name, format!("{first} to {last}"), cure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;
    use crate::preflight::Verdict::Good;
    use crate::preflight::Verdict::Matters;
    use crate::preflight::Verdict::Unknown;
    use crate::preflight::tree::tests::host;

    /// Each setting of the stack is judged by its own rule, and none that is missing or broken is taken for good.
    #[test]
    fn each_setting_has_its_rule() {
        let table: &[(&str, &str, &str, Verdict, &str)] = &[
            ("accept queue", "sys/net/core/somaxconn", "65535\n", Good, "65535"),
            ("accept queue", "sys/net/core/somaxconn", "4096", Matters, "4096"),
            ("accept queue", "sys/net/core/somaxconn", "many", Unknown, "not told"),
            ("half-open queue", "sys/net/ipv4/tcp_max_syn_backlog", "1024", Matters, "1024"),
            ("local ports", "sys/net/ipv4/ip_local_port_range", "10240\t65535\n", Good, "10240 to 65535"),
            ("local ports", "sys/net/ipv4/ip_local_port_range", "32768\t60999", Matters, "32768 to 60999"),
            ("local ports", "sys/net/ipv4/ip_local_port_range", "65535 1", Matters, "65535 to 1"),
            ("local ports", "sys/net/ipv4/ip_local_port_range", "32768", Unknown, "not told"),
            ("slow start after idle", "sys/net/ipv4/tcp_slow_start_after_idle", "1", Matters, "1"),
            ("slow start after idle", "sys/net/ipv4/tcp_slow_start_after_idle", "0", Good, "0"),
            ("busy_poll", "sys/net/core/busy_poll", "50", Matters, "50"),
            ("busy_read", "sys/net/core/busy_read", "0", Good, "0"),
            ("congestion control", "sys/net/ipv4/tcp_congestion_control", "cubic\n", Good, "cubic"),
            ("congestion control", "sys/net/ipv4/tcp_congestion_control", "bbr\n", Matters, "bbr"),
            ("default qdisc", "sys/net/core/default_qdisc", "fq\n", Good, "fq"),
            ("default qdisc", "sys/net/core/default_qdisc", "fq_codel\n", Matters, "fq_codel"),
            ("iptables", "net/ip_tables_names", "nat\nfilter\n", Matters, "nat, filter"),
            ("iptables", "net/ip_tables_names", "", Unknown, "not told"),
            ("conntrack", "sys/net/core/somaxconn", "1", Good, "not there"),
            ("conntrack", "stat", "", Unknown, "not told"),
        ];
        for (place, (name, path, text, verdict, value)) in table.iter().enumerate() {
            let host = host(&format!("stack-{place}"), &[(&format!("proc/{path}"), text)]);
            let all = findings(&host.tree());
            let finding = all.iter().find(|finding| finding.name == *name).unwrap();
            assert_eq!((finding.verdict, finding.value.as_str()), (*verdict, *value), "{name} {text}");
        }
    }

    /// Connection tracking is good while it has nothing to track.
    #[test]
    fn tracking_matters_once_it_tracks() {
        for (count, verdict) in [("0", Good), ("12", Matters)] {
            let directory = "proc/sys/net/netfilter/nf_conntrack_";
            let host = host(&format!("track-{count}"), &[(&format!("{directory}count"), count), (&format!("{directory}max"), "262144")]);
            let finding = tracking(&host.tree());
            assert_eq!((finding.verdict, finding.value), (verdict, format!("{count} of 262144 connections tracked")));
        }
    }
}
