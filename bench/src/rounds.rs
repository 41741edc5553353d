//! The blocks of a series that count, and what those of a peer, or of two peers in the same rounds, say together.

use fastrand::Rng;
use hdrhistogram::Histogram;

use crate::compare::Block;
use crate::compare::Series;
use crate::floor;
use crate::statistics;
use crate::statistics::Ratio;
use crate::tally::Tally;

/// One of the histograms of a round.
pub(crate) type Times = fn(&Tally) -> &Histogram<u64>;

/// The blocks a table counts: the clean ones, where every peer has at least half of them clean; else all that are not fatal.
///
/// Proxies and the relays of the floor are judged apart: a relay answers sooner, and so is late sooner.
pub(crate) fn counted(series: &Series) -> impl Fn(&Block) -> bool {
    let is_clean = |peer: &String| {
        // What fails by itself, as a proxy that loses requests whenever it is changed, says nothing of the quiet others had.
        let sound: Vec<&Block> = series.blocks.iter().filter(|block| block.peer == *peer && !block.is_void()).collect();
        let clean = sound.iter().filter(|block| block.marks.is_empty()).count();
        clean * 2 >= sound.len()
    };
    let (floors, proxies): (Vec<&String>, Vec<&String>) = series.peers.iter().partition(|peer| floor::is_floor(peer));
    let (floors, proxies) = (floors.into_iter().all(is_clean), proxies.into_iter().all(is_clean));
    move |block| {
        let strict = if floor::is_floor(&block.peer) { floors } else { proxies };
        if strict { block.marks.is_empty() } else { !block.is_void() }
    }
}

/// A peer's blocks that count.
pub(crate) fn blocks_of<'a>(series: &'a Series, peer: &str) -> Vec<&'a Block> {
    let counts = counted(series);
    series.blocks.iter().filter(|block| block.peer == peer && counts(block)).collect()
}

/// Blocks of the same round, subject first: whatever disturbed the round disturbed both.
pub(crate) fn paired<'a>(subject: &[&'a Block], peer: &[&'a Block]) -> Vec<(&'a Block, &'a Block)> {
    subject.iter().filter_map(|ours| Some((*ours, *peer.iter().find(|theirs| theirs.number == ours.number)?))).collect()
}

/// The median of what blocks say, without those that say nothing.
pub(crate) fn middle(blocks: &[&Block], value: impl Fn(&Block) -> Option<f64>) -> Option<f64> {
    statistics::median(&blocks.iter().filter_map(|block| value(block)).collect::<Vec<_>>())
}

/// The ratio of a value over the pairs in which both blocks have one, first over second.
pub(crate) fn ratio_of(pairs: &[(&Block, &Block)], value: impl Fn(&Block) -> Option<f64>) -> Option<Ratio> {
    let (ours, theirs): (Vec<f64>, Vec<f64>) = pairs.iter().filter_map(|(ours, theirs)| Some((value(ours)?, value(theirs)?))).unzip();
    statistics::paired_ratio(&ours, &theirs, &mut Rng::with_seed(statistics::SEED))
}

/// The sum of one kind of times.
pub(crate) fn pooled(blocks: &[&Block], times: Times) -> Histogram<u64> {
    statistics::pool(blocks.iter().map(|block| times(&block.round.tally)))
}

/// The ratio of a quantile of one kind of times, first over second.
pub(crate) fn times_ratio(pairs: &[(&Block, &Block)], times: Times, quantile: f64) -> Option<Ratio> {
    let (ours, theirs): (Vec<&Histogram<u64>>, Vec<&Histogram<u64>>) =
        pairs.iter().map(|(ours, theirs)| (times(&ours.round.tally), times(&theirs.round.tally))).unzip();
    statistics::quantile_ratio(&ours, &theirs, quantile, &mut Rng::with_seed(statistics::SEED))
}
