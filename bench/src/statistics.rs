//! Medians, ratios and their uncertainty: what may be claimed from interleaved rounds.

use fastrand::Rng;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::tally;

/// Resamples of a ratio of plain numbers.
pub const RESAMPLES: usize = 10_000;
/// Resamples of a ratio of pooled quantiles.
pub const QUANTILE_RESAMPLES: usize = 1_000;
/// Intervals are resampled from this seed: the same blocks give the same page.
pub(crate) const SEED: u64 = 1;
/// Events beyond a quantile below which it is not stated.
pub(crate) const EVENTS_BEYOND_MIN: f64 = 100.0;
/// An effect smaller than this is called none, however certain.
const EFFECT_MIN: f64 = 0.03;

/// A ratio with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    pub ratio: f64,
    pub low: f64,
    pub high: f64,
}

/// What a ratio of costs allows to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Claim {
    Lower,
    Higher,
    /// The interval holds 1, or the effect is below 3 %.
    Level,
}

impl Ratio {
    pub fn claim(self) -> Claim {
        if self.high < 1.0 && self.ratio <= 1.0 - EFFECT_MIN {
            Claim::Lower
        } else if self.low > 1.0 && self.ratio >= 1.0 + EFFECT_MIN {
            Claim::Higher
        } else {
            Claim::Level
        }
    }
}

/// The middle value; of two middle ones their mean.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Geometric mean of `subject / peer` over rounds, with an interval by resampling whole rounds.
///
/// Both slices hold one value per round, in the same order; `None` without two rounds.
pub fn paired_ratio(subject: &[f64], peer: &[f64], random: &mut Rng) -> Option<Ratio> {
    let logs: Vec<f64> = subject.iter().zip(peer).map(|(subject, peer)| (subject / peer).ln()).filter(|log| log.is_finite()).collect();
    if logs.len() < 2 {
        return None;
    }
    let mean = |picks: &mut dyn Iterator<Item = f64>| (picks.sum::<f64>() / logs.len() as f64).exp();
    let ratio = mean(&mut logs.iter().copied());
    let resampled = (0..RESAMPLES).map(|_| mean(&mut (0..logs.len()).map(|_| logs[random.usize(..logs.len())])));
    let (low, high) = interval(resampled.collect());
    Some(Ratio { ratio, low, high })
}

/// The ratio of pooled quantiles, with an interval by resampling whole rounds and pooling anew: percentiles are never averaged.
///
/// `None` without two rounds, or where either pool holds too few events beyond the quantile.
pub fn quantile_ratio(subject: &[&Histogram<u64>], peer: &[&Histogram<u64>], quantile: f64, random: &mut Rng) -> Option<Ratio> {
    let rounds = subject.len().min(peer.len());
    let whole = |histograms: &[&Histogram<u64>]| pooled_quantile_us(&pool(histograms.iter().copied()), quantile);
    let ratio = whole(&subject[..rounds])? / whole(&peer[..rounds])?;
    if rounds < 2 {
        return None;
    }
    let (subject, peer) = (Sums::of(&subject[..rounds]), Sums::of(&peer[..rounds]));
    let resampled = (0..QUANTILE_RESAMPLES).map(|_| {
        let picks: Vec<usize> = (0..rounds).map(|_| random.usize(..rounds)).collect();
        subject.quantile(&picks, quantile) as f64 / peer.quantile(&picks, quantile) as f64
    });
    let (low, high) = interval(resampled.collect());
    Some(Ratio { ratio, low, high })
}

/// Running counts of several histograms over the values that occur in any of them: the quantile of any pool is a search away.
pub(crate) struct Sums {
    values: Vec<u64>,
    /// For each histogram, how many of its events are at or below each value.
    counts: Vec<Vec<u64>>,
}

impl Sums {
    pub(crate) fn of(histograms: &[&Histogram<u64>]) -> Self {
        let values: Vec<u64> = pool(histograms.iter().copied()).iter_recorded().map(|step| step.value_iterated_to()).collect();
        let running = |histogram: &&Histogram<u64>| {
            let mut sum = 0;
            let mut up_to = |value: &u64| {
                sum += histogram.count_at(*value);
                sum
            };
            values.iter().map(&mut up_to).collect()
        };
        Self { counts: histograms.iter().map(running).collect(), values }
    }

    /// The value at a quantile of the pool of these histograms, any of which may be picked more than once.
    pub(crate) fn quantile(&self, picks: &[usize], quantile: f64) -> u64 {
        let below = |place: usize| picks.iter().map(|pick| self.counts[*pick][place]).sum::<u64>();
        let Some(last) = self.values.len().checked_sub(1).filter(|last| below(*last) > 0) else { return 0 };
        let wanted = ((below(last) as f64 * quantile).ceil() as u64).max(1);
        let (mut low, mut high) = (0, last);
        while low < high {
            let middle = usize::midpoint(low, high);
            if below(middle) < wanted { low = middle + 1 } else { high = middle }
        }
        self.values[low]
    }
}

/// The sum of histograms.
pub fn pool<'a>(histograms: impl Iterator<Item = &'a Histogram<u64>>) -> Histogram<u64> {
    let mut sum = tally::histogram();
    for one in histograms {
        sum.add(one).expect("all histograms of a run have the same bounds");
    }
    sum
}

/// A quantile in microseconds, where enough events lie beyond it.
pub fn pooled_quantile_us(pooled: &Histogram<u64>, quantile: f64) -> Option<f64> {
    quantile_us_if(pooled, quantile, EVENTS_BEYOND_MIN)
}

/// A quantile in microseconds, where at least `beyond_min` events lie beyond it.
pub(crate) fn quantile_us_if(pooled: &Histogram<u64>, quantile: f64, beyond_min: f64) -> Option<f64> {
    // A tenth of an event is forgiven: (1 - 0.999) is not exact.
    let beyond = pooled.len() as f64 * (1.0 - quantile);
    (beyond + 0.1 >= beyond_min).then(|| tally::quantile_us(pooled, quantile))
}

/// The 2.5th and 97.5th percentile.
pub(crate) fn interval(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    (at(0.025), at(0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(spans_us: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = tally::histogram();
        for span_us in spans_us {
            tally::record(&mut histogram, span_us * 1000);
        }
        histogram
    }

    /// The median ignores order and outliers.
    #[test]
    fn a_median_is_the_middle() {
        let table = [(vec![], None), (vec![3.0], Some(3.0)), (vec![9.0, 1.0, 2.0], Some(2.0)), (vec![4.0, 1.0, 2.0, 900.0], Some(3.0))];
        for (values, middle) in table {
            assert_eq!(median(&values), middle, "{values:?}");
        }
    }

    /// A constant ratio has no uncertainty, whatever the rounds themselves did.
    #[test]
    fn a_constant_ratio_is_certain() {
        let peer = [10.0, 30.0, 17.0, 22.0];
        let subject = peer.map(|value| value * 0.5);
        let ratio = paired_ratio(&subject, &peer, &mut Rng::with_seed(1)).unwrap();
        assert!((ratio.ratio - 0.5).abs() < 1e-9 && (ratio.high - ratio.low).abs() < 1e-9);
        assert_eq!(ratio.claim(), Claim::Lower);
    }

    /// Rounds that disagree leave an interval around 1, and nothing is claimed.
    #[test]
    fn noise_claims_nothing() {
        let subject = [10.0, 14.0, 9.0, 13.0, 11.0, 12.0];
        let peer = [12.0, 11.0, 13.0, 9.0, 14.0, 10.0];
        let ratio = paired_ratio(&subject, &peer, &mut Rng::with_seed(1)).unwrap();
        assert!(ratio.low < 1.0 && ratio.high > 1.0, "{ratio:?}");
        assert_eq!(ratio.claim(), Claim::Level);
    }

    /// An effect below 3 % is none, however certain.
    #[test]
    fn a_small_effect_is_not_claimed() {
        assert_eq!(Ratio { ratio: 0.98, low: 0.979, high: 0.981 }.claim(), Claim::Level);
        assert_eq!(Ratio { ratio: 1.2, low: 1.1, high: 1.3 }.claim(), Claim::Higher);
        assert_eq!(Ratio { ratio: 1.2, low: 0.9, high: 1.5 }.claim(), Claim::Level);
    }

    /// The interval of a known spread is about two standard errors to each side.
    #[test]
    fn an_interval_is_as_wide_as_the_spread_says() {
        let mut random = Rng::with_seed(5);
        let peer = vec![1.0; 100];
        let subject: Vec<f64> = (0..100).map(|_| (random.f64() - 0.5).exp()).collect();
        let ratio = paired_ratio(&subject, &peer, &mut random).unwrap();
        let half_width = (ratio.high / ratio.low).ln() / 2.0;
        let expected = 1.96 * (1.0_f64 / 12.0).sqrt() / 10.0;
        assert!((half_width / expected - 1.0).abs() < 0.25, "{half_width} against {expected}");
    }

    /// Fewer than two rounds have no interval.
    #[test]
    fn one_round_is_no_ratio() {
        assert_eq!(paired_ratio(&[1.0], &[2.0], &mut Rng::with_seed(1)), None);
        let one = times(0..200_000);
        assert_eq!(quantile_ratio(&[&one], &[&one], 0.5, &mut Rng::with_seed(1)), None);
    }

    /// Quantiles come from the pool: one slow round of two is not averaged away.
    #[test]
    fn a_quantile_is_that_of_the_pool() {
        let fast = times(std::iter::repeat_n(100, 10_000));
        let slow = times(std::iter::repeat_n(1000, 10_000));
        let pooled = pool([&fast, &slow].into_iter());
        for (quantile, spans_us) in [(0.4, 100.0), (0.99, 1000.0)] {
            let told_us = pooled_quantile_us(&pooled, quantile).unwrap();
            assert!((told_us / spans_us - 1.0).abs() < 0.002, "{told_us} at {quantile}");
        }
        let ratio = quantile_ratio(&[&fast, &fast], &[&slow, &slow], 0.99, &mut Rng::with_seed(1)).unwrap();
        assert!((ratio.ratio - 0.1).abs() < 0.001 && ratio.claim() == Claim::Lower);
    }

    /// A quantile found in running counts is the one of the histograms' sum.
    #[test]
    fn a_quantile_of_running_counts_is_that_of_the_pool() {
        let histograms = [times(1..5000), times([7; 100]), times((1..900).map(|number| number * number)), times([])];
        let histograms: Vec<&Histogram<u64>> = histograms.iter().collect();
        let sums = Sums::of(&histograms);
        for picks in [vec![0, 1, 2, 3], vec![2, 2, 2, 1], vec![1, 1, 1, 1]] {
            let pooled = pool(picks.iter().map(|pick| histograms[*pick]));
            for quantile in [0.0001, 0.5, 0.9, 0.999, 1.0] {
                assert_eq!(sums.quantile(&picks, quantile), pooled.value_at_quantile(quantile), "{picks:?} at {quantile}");
            }
        }
    }

    /// A quantile with fewer than 100 events beyond it is not stated.
    #[test]
    fn a_thin_quantile_is_not_stated() {
        assert!(pooled_quantile_us(&times(0..100_000), 0.999).is_some());
        assert!(pooled_quantile_us(&times(0..99_000), 0.999).is_none());
    }
}
