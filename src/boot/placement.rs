//! Which CPUs get a shard, and which are left for everything else.

use crate::boot::failure::Failure;
use crate::shard::Placement;

/// With fewer CPUs than this none is spared: a shard is worth more than a quiet control thread.
const SPARE_FROM: usize = 3;

/// Who runs where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cores {
    /// One shard on each; a CPU can stand here more than once.
    pub(crate) shards: Vec<usize>,
    /// CPUs without a shard, for control, admin and logs; may be empty, then these go wherever there is room.
    pub(crate) housekeeping: Vec<usize>,
}

/// Lays shards out over the CPUs this process may use.
///
/// # Errors
/// A CPU is named that this process may not use.
pub(crate) fn place(placement: &Placement, allowed: &[usize]) -> Result<Cores, Failure> {
    if allowed.is_empty() {
        return Err(Failure::general("this process may run on no CPU: check its cpuset".to_owned()));
    }
    let shards: Vec<usize> = match placement {
        Placement::Spare if allowed.len() < SPARE_FROM => allowed.to_vec(),
        // The first CPU is where the kernel puts most of its own work.
        Placement::Spare => allowed[1..].to_vec(),
        Placement::Count(count) => {
            if *count > allowed.len() {
                tracing::warn!(shards = count, cpus = allowed.len(), "more shards than CPUs: they share, and latency suffers");
            }
            allowed.iter().rev().copied().cycle().take(*count).collect()
        }
        Placement::Cpus(cpus) => {
            let foreign: Vec<String> = cpus.iter().filter(|cpu| !allowed.contains(cpu)).map(ToString::to_string).collect();
            if !foreign.is_empty() {
                let message = format!("shards: CPU {} is not for this process, which may use {allowed:?}: name those", foreign.join(", "));
                return Err(Failure::configuration(message));
            }
            cpus.clone()
        }
    };
    let housekeeping = allowed.iter().filter(|cpu| !shards.contains(cpu)).copied().collect();
    Ok(Cores { shards, housekeeping })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every CPU but one gets a shard, unless there are too few; what is asked for is given where it can be.
    #[test]
    fn shards_are_laid_out_over_the_allowed_cpus() {
        for (placement, allowed, shards, housekeeping) in [
            (Placement::Spare, vec![0], vec![0], vec![]),
            (Placement::Spare, vec![4, 5], vec![4, 5], vec![]),
            (Placement::Spare, vec![0, 1, 2], vec![1, 2], vec![0]),
            (Placement::Spare, vec![2, 3, 6, 7], vec![3, 6, 7], vec![2]),
            (Placement::Count(1), vec![0, 1], vec![1], vec![0]),
            (Placement::Count(3), vec![0, 1], vec![1, 0, 1], vec![]),
            (Placement::Cpus(vec![0, 2]), vec![0, 1, 2, 3], vec![0, 2], vec![1, 3]),
        ] {
            let got = place(&placement, &allowed);
            assert_eq!(got, Ok(Cores { shards, housekeeping }), "{placement:?} on {allowed:?}");
        }
    }

    /// A CPU of somebody else is refused by name, with those that could be named instead.
    #[test]
    fn a_foreign_cpu_is_refused() {
        let refusal = place(&Placement::Cpus(vec![1, 9]), &[0, 1]).expect_err("CPU 9 is not allowed");
        assert_eq!(refusal.code, 78);
        assert!(refusal.message.contains('9') && refusal.message.contains("[0, 1]"), "{}", refusal.message);
        assert_eq!(place(&Placement::Spare, &[]).map_err(|refusal| refusal.code), Err(1));
    }
}
