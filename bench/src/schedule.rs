//! When requests are due, fixed before the first one is sent.

use fastrand::Rng;
use serde::Deserialize;
use serde::Serialize;

/// How arrivals are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Equal gaps.
    Uniform,
    /// Exponential gaps: independent users.
    Poisson,
}

/// Due times in nanoseconds from the start of the round, ascending, all below `until_ns`.
///
/// The same seed gives the same times: every peer of a round meets the same arrivals.
pub fn due_times(arrivals: Arrivals, rate_per_s: f64, until_ns: u64, seed: u64) -> Vec<u64> {
    let gap_ns = 1e9 / rate_per_s;
    let mut random = Rng::with_seed(seed);
    let mut due = Vec::with_capacity((until_ns as f64 / gap_ns * 1.02) as usize + 16);
    let mut at_ns = 0.0;
    loop {
        at_ns += match arrivals {
            Arrivals::Uniform => gap_ns,
            // 1 - u lies in (0, 1]: its logarithm is finite.
            Arrivals::Poisson => -(1.0 - random.f64()).ln() * gap_ns,
        };
        if at_ns >= until_ns as f64 {
            return due;
        }
        due.push(at_ns as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn gaps(due: &[u64]) -> Vec<f64> {
        due.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect()
    }

    /// Uniform arrivals are as many as the rate says, at equal gaps.
    #[test]
    fn uniform_arrivals_keep_their_gap() {
        let due = due_times(Arrivals::Uniform, 1000.0, SECOND_NS, 1);
        assert_eq!(due.len(), 999, "the first one is due after one gap, the last before the end");
        assert!(gaps(&due).iter().all(|gap| (gap - 1e6).abs() <= 1.0));
    }

    /// Poisson arrivals have the mean gap of their rate and a deviation as large as the mean.
    #[test]
    fn poisson_arrivals_are_exponential() {
        let due = due_times(Arrivals::Poisson, 10_000.0, 10 * SECOND_NS, 7);
        let gaps = gaps(&due);
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean / 1e5 - 1.0).abs() < 0.02, "mean {mean}");
        assert!((deviation / mean - 1.0).abs() < 0.03, "deviation {deviation}");
        assert!(due.is_sorted());
        assert!(due.iter().all(|at| *at < 10 * SECOND_NS));
    }

    /// A seed fixes the schedule; another seed gives another one.
    #[test]
    fn a_seed_fixes_the_schedule() {
        let schedule = |seed| due_times(Arrivals::Poisson, 5000.0, SECOND_NS, seed);
        assert_eq!(schedule(3), schedule(3));
        assert_ne!(schedule(3), schedule(4));
    }
}
