//! Network cards: queues, and the CPUs their interrupts come to. On the loopback none of it counts.

use super::Finding;
use super::TUNE;
use super::tree::Tree;

const CARDS: &str = "sys/class/net";
/// Interrupts that are named one by one; a large card has hundreds.
const NAMED_MAX: usize = 8;

pub(super) fn findings(tree: &Tree) -> Vec<Finding> {
    let cards: Vec<String> =
        tree.names(CARDS).into_iter().filter(|card| !tree.names(&format!("{CARDS}/{card}/device")).is_empty()).collect();
    if cards.is_empty() {
        return vec![Finding::good("network cards", "none: traffic stays on the loopback")];
    }
    cards.iter().flat_map(|card| [queues(tree, card), interrupts(tree, card), deferral(tree, card), ring(card)]).collect()
}

fn queues(tree: &Tree, card: &str) -> Finding {
    let name = format!("queues of {card}");
    let queues = tree.names(&format!("{CARDS}/{card}/queues"));
    let count = |direction: &str| queues.iter().filter(|queue| queue.starts_with(direction)).count();
    let (receive, transmit, cpus) = (count("rx-"), count("tx-"), tree.cpus().len());
    if receive == 0 {
        return Finding::unknown(name, format!("`ethtool -l {card}` tells"));
    }
    let cure = format!("{TUNE} apply --nic {card} --cores LIST (nic-queues): one per shard, where the card has as many");
    Finding::when(receive >= cpus, name, format!("{receive} to receive, {transmit} to send, {cpus} CPUs"), cure)
}

/// Each interrupt of the card with its CPUs.
fn interrupts(tree: &Tree, card: &str) -> Finding {
    let name = format!("interrupts of {card}");
    // A virtual card is a device below the one that interrupts.
    let device = format!("{CARDS}/{card}/device");
    let numbers = [device.clone(), device + "/.."].map(|device| tree.names(&format!("{device}/msi_irqs")));
    let Some(numbers) = numbers.into_iter().find(|numbers| !numbers.is_empty()) else {
        return Finding::unknown(name, "/proc/interrupts and /proc/irq/N/smp_affinity_list tell");
    };
    let table = tree.text("proc/interrupts").unwrap_or_default();
    let served: Vec<Interrupt> = numbers.iter().filter_map(|number| Interrupt::of(tree, number, &table)).collect();
    let mut cpus: Vec<&str> = served.iter().filter(|interrupt| interrupt.fired > 0).map(|interrupt| interrupt.cpus.as_str()).collect();
    let busy = cpus.len();
    let spread = cpus.iter().any(|cpus| cpus.contains([',', '-']));
    cpus.sort_unstable();
    cpus.dedup();
    let mut named: Vec<String> =
        served.iter().take(NAMED_MAX).map(|interrupt| format!("{} on CPU {}", interrupt.name, interrupt.cpus)).collect();
    if served.len() > NAMED_MAX {
        named.push(format!("and {} more", served.len() - NAMED_MAX));
    }
    let cure = format!("{TUNE} apply --nic {card} --cores LIST (irqbalance, irq-affinity): each queue on the CPU of its shard");
    Finding::when(!spread && cpus.len() == busy, name, named.join("; "), cure)
}

/// A line of the table of interrupts, and who serves it.
struct Interrupt {
    name: String,
    /// A list as the kernel writes it: `0`, or `0-3`.
    cpus: String,
    fired: u64,
}

impl Interrupt {
    fn of(tree: &Tree, number: &str, table: &str) -> Option<Self> {
        let of = |file: &str| tree.text(&format!("proc/irq/{number}/{file}")).filter(|cpus| !cpus.is_empty());
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix(number)?.strip_prefix(':'))?;
        let counts = line.split_ascii_whitespace().map_while(|word| word.parse::<u64>().ok());
        Some(Self {
            name: line.split_ascii_whitespace().last().unwrap_or(number).to_owned(),
            cpus: of("effective_affinity_list").or_else(|| of("smp_affinity_list"))?,
            fired: counts.sum(),
        })
    }
}

fn deferral(tree: &Tree, card: &str) -> Finding {
    let name = format!("deferral of {card}");
    let of = |file: &str| tree.number(&format!("{CARDS}/{card}/{file}"));
    let Some((flush_ns, rounds)) = of("gro_flush_timeout").zip(of("napi_defer_hard_irqs")) else {
        return Finding::unknown(name, "a kernel without gro_flush_timeout holds nothing back");
    };
    let cure = "packets may be held back so long when little comes: 0 to both, but where the proxy polls the card itself";
    Finding::when(flush_ns == 0 || rounds == 0, name, format!("{flush_ns} ns, {rounds} rounds"), cure)
}

/// Neither is told by a file.
fn ring(card: &str) -> Finding {
    let cure = format!("`ethtool -g {card}` and `ethtool -c {card}` tell; {TUNE} apply --nic {card} (nic-ring, coalescing) sets both");
    Finding::unknown(format!("ring, coalescing of {card}"), cure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;
    use crate::preflight::tree::tests::Host;
    use crate::preflight::tree::tests::host;

    /// A card with two queues on two CPUs, whose interrupts are served as said.
    fn two_queues(name: &str, first: &str, second: &str) -> Host {
        let table =
            "           CPU0       CPU1\n  7:   3   0  config\n 41:  10   5  MSI  eth0-rx-0\n 42:   0   9  MSI  eth0-rx-1\nNMI: 0 0\n";
        host(
            name,
            &[
                ("proc/interrupts", table),
                ("proc/irq/41/effective_affinity_list", first),
                ("proc/irq/42/effective_affinity_list", ""),
                ("proc/irq/42/smp_affinity_list", second),
                ("sys/class/net/eth0/device/msi_irqs/41", ""),
                ("sys/class/net/eth0/device/msi_irqs/42", ""),
                ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0"),
                ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0"),
                ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0"),
                ("sys/class/net/lo/queues/rx-0/rps_cpus", "0"),
                ("sys/devices/system/cpu/cpu0/online", "1"),
                ("sys/devices/system/cpu/cpu1/online", "1"),
            ],
        )
    }

    /// Interrupts are good where each has a CPU of its own, however the kernel tells it.
    #[test]
    fn each_interrupt_wants_a_cpu_of_its_own() {
        let table = [("0", "1", Verdict::Good), ("1", "1", Verdict::Matters), ("0-1", "1", Verdict::Matters)];
        for (first, second, verdict) in table {
            let host = two_queues(&format!("irq-{first}-{second}"), first, second);
            let finding = interrupts(&host.tree(), "eth0");
            assert_eq!(finding.verdict, verdict, "{first} {second}");
            assert_eq!(finding.value, format!("eth0-rx-0 on CPU {first}; eth0-rx-1 on CPU {second}"));
        }
    }

    /// An interrupt that never came shares its CPU with no one; a long list is cut short, and says so.
    #[test]
    fn interrupts_that_never_came_do_not_count() {
        let numbers: Vec<u32> = (100..112).collect();
        let mut table = String::from("CPU0\n");
        let mut files = Vec::new();
        for number in &numbers {
            table += &format!("{number}: {}  MSI q{number}\n", u32::from(*number == 100));
            files.push((format!("proc/irq/{number}/smp_affinity_list"), "0"));
            files.push((format!("sys/class/net/eth0/device/msi_irqs/{number}"), ""));
        }
        files.push(("proc/interrupts".to_owned(), &table));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        let finding = interrupts(&host("irq-many", &files).tree(), "eth0");
        assert_eq!(finding.verdict, Verdict::Good);
        assert!(finding.value.starts_with("q100 on CPU 0; ") && finding.value.ends_with("; and 4 more"), "{}", finding.value);
    }

    /// A card with a queue for each CPU is good, one with fewer is not, and the loopback is no card.
    #[test]
    fn a_card_wants_a_queue_for_each_cpu() {
        let host = two_queues("queues", "0", "1");
        let tree = host.tree();
        assert_eq!(queues(&tree, "eth0").verdict, Verdict::Good);
        host.write("sys/devices/system/cpu/cpu2/online", "1");
        let finding = queues(&tree, "eth0");
        assert_eq!((finding.verdict, finding.value.as_str()), (Verdict::Matters, "2 to receive, 1 to send, 3 CPUs"));
        assert!(findings(&tree).iter().all(|finding| finding.name.ends_with(" of eth0")));
    }

    /// Packets are held back only where both a time and rounds are set.
    #[test]
    fn deferral_needs_both_its_settings() {
        for (flush, rounds, verdict) in [("0", "0", Verdict::Good), ("20000", "0", Verdict::Good), ("20000", "2", Verdict::Matters)] {
            let host = host(
                &format!("deferral-{flush}-{rounds}"),
                &[("sys/class/net/eth0/gro_flush_timeout", flush), ("sys/class/net/eth0/napi_defer_hard_irqs", rounds)],
            );
            assert_eq!(deferral(&host.tree(), "eth0").verdict, verdict, "{flush} {rounds}");
        }
    }
}
