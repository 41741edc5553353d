//! Which kind of request comes next, drawn from a seed: every proxy of a round is asked for the same, in the same order.

use fastrand::Rng;

use crate::scenario::Request;

/// A place among the kinds of requests of a scenario.
pub type Kind = u16;

/// Draws kinds by their shares.
pub struct Mix {
    /// The sum of the shares up to each kind but the last, which takes the rest.
    borders: Vec<f64>,
    random: Rng,
}

impl Mix {
    pub fn new(requests: &[Request], seed: u64) -> Self {
        let mut sum = 0.0;
        let borders = requests.iter().take(requests.len().saturating_sub(1)).map(|request| {
            sum += request.share;
            sum
        });
        // Arrivals are drawn from the seed itself: what comes must not depend on when it comes.
        Self { borders: borders.collect(), random: Rng::with_seed(!seed) }
    }

    /// The kind of the next request.
    pub fn draw(&mut self) -> Kind {
        if self.borders.is_empty() {
            return 0;
        }
        let drawn = self.random.f64();
        self.borders.iter().take_while(|border| **border <= drawn).count() as Kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(shares: &[f64], seed: u64) -> Mix {
        let requests: Vec<Request> = shares.iter().map(|share| Request { share: *share, ..Request::get(1) }).collect();
        Mix::new(&requests, seed)
    }

    /// Kinds come as often as their shares say, in an order that only the seed decides.
    #[test]
    fn kinds_come_by_their_shares() {
        let shares = [0.75, 0.2, 0.05];
        let draws = |seed| {
            let mut mix = mix(&shares, seed);
            (0..100_000).map(|_| mix.draw()).collect::<Vec<_>>()
        };
        let drawn = draws(3);
        for (kind, share) in shares.iter().enumerate() {
            let found = drawn.iter().filter(|drawn| **drawn as usize == kind).count() as f64 / drawn.len() as f64;
            assert!((found - share).abs() < 0.005, "kind {kind}: {found} instead of {share}");
        }
        assert_eq!(drawn, draws(3));
        assert_ne!(drawn, draws(4));
    }

    /// Where all requests are alike there is nothing to draw.
    #[test]
    fn one_kind_is_always_the_same() {
        let mut mix = mix(&[1.0], 1);
        assert!((0..100).all(|_| mix.draw() == 0));
    }
}
