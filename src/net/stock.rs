//! Which receive buffers the kernel is offered: as few as serve, so that few are ever touched, and those that were used last.
//!
//! The kernel takes offered buffers in turn. Were all of them offered, all would be in use after a while, however little there is to
//! receive: the caches would be full of them, and the memory of a long body would never be given back.

/// Buffers that are always offered.
const OFFERED_MIN: usize = 32;

/// The buffers of a pool, by number: offered to the kernel, lent to somebody, or on the shelf.
pub(crate) struct Stock {
    count: usize,
    /// The one returned last is on top.
    shelf: Vec<u16>,
    /// The fewest that lay on the shelf since the last look: those at its bottom have not been used since.
    shelf_min: usize,
    /// So many at the bottom have not been used from one look to the next.
    rested: usize,
    /// So many of them hold no memory.
    cleaned: usize,
    offered: usize,
    wanted: usize,
    /// Taken by the kernel in this turn, and the most in any since the last look.
    taken: usize,
    taken_max: usize,
}

impl Stock {
    /// All of `count` on the shelf.
    pub(crate) fn new(count: u16) -> Self {
        let shelf: Vec<u16> = (0..count).rev().collect();
        let count = usize::from(count);
        Self {
            count,
            shelf,
            shelf_min: count,
            rested: 0,
            cleaned: count,
            offered: 0,
            wanted: OFFERED_MIN.min(count),
            taken: 0,
            taken_max: 0,
        }
    }

    /// Buffers that are lent to nobody.
    pub(crate) fn available(&self) -> usize {
        self.offered + self.shelf.len()
    }

    /// There are so many sockets now: each may receive something in the same turn.
    pub(crate) fn expect(&mut self, sockets: usize) {
        self.wanted = self.wanted.max(sockets.min(self.count));
    }

    /// The kernel found none: from now on it is offered all there are.
    pub(crate) fn ran_out(&mut self) {
        self.wanted = self.count;
    }

    /// The kernel has taken one.
    #[inline]
    pub(crate) fn take(&mut self) {
        self.offered -= 1;
        self.taken += 1;
    }

    /// One has come back.
    #[inline]
    pub(crate) fn give_back(&mut self, id: u16) {
        self.shelf.push(id);
    }

    /// A turn is over. Twice as many are offered as one turn has ever taken, so that the next may take more.
    #[inline]
    pub(crate) fn end_turn(&mut self) {
        self.taken_max = self.taken_max.max(self.taken);
        self.wanted = self.wanted.max((self.taken * 2).min(self.count));
        self.taken = 0;
    }

    /// The next one to offer to the kernel; none where it has as many as wanted.
    #[inline]
    pub(crate) fn offer(&mut self) -> Option<u16> {
        if self.offered >= self.wanted {
            return None;
        }
        let id = self.shelf.pop()?;
        self.offered += 1;
        let left = self.shelf.len();
        self.shelf_min = self.shelf_min.min(left);
        self.rested = self.rested.min(left);
        self.cleaned = self.cleaned.min(left);
        Some(id)
    }

    /// Forgets what was needed before the last look, from time to time.
    pub(crate) fn look(&mut self, sockets: usize) {
        self.wanted = (self.taken_max * 2).max(sockets).max(OFFERED_MIN).min(self.count);
        self.taken_max = 0;
        self.rested = self.shelf_min;
        self.shelf_min = self.shelf.len();
    }

    /// One that has not been used from one look to the next, and whose memory may go; each comes out once.
    #[inline]
    pub(crate) fn clean(&mut self) -> Option<u16> {
        if self.cleaned >= self.rested {
            return None;
        }
        self.cleaned += 1;
        Some(self.shelf[self.cleaned - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A turn: the kernel is offered what it may have, takes `count`, and all of them come back.
    fn turn(stock: &mut Stock, count: u16) -> Vec<u16> {
        let offered: Vec<u16> = std::iter::from_fn(|| stock.offer()).collect();
        (0..count).for_each(|_| stock.take());
        stock.end_turn();
        (0..count).for_each(|id| stock.give_back(id));
        offered
    }

    /// However long little is received, few buffers are ever used.
    #[test]
    fn little_traffic_touches_few_buffers() {
        let mut stock = Stock::new(256);
        // The kernel takes them in the order in which they were offered.
        let mut ring = std::collections::VecDeque::new();
        let mut used = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            ring.extend(std::iter::from_fn(|| stock.offer()));
            for _ in 0..3 {
                let id = ring.pop_front().expect("enough are offered");
                stock.take();
                stock.give_back(id);
                used.insert(id);
            }
            stock.end_turn();
        }
        assert!(used.len() <= OFFERED_MIN + 3, "{} buffers", used.len());
        assert_eq!(stock.available(), 256);
    }

    /// More is offered as soon as there are more sockets, a turn takes many, or one finds none; and less again when that is over.
    #[test]
    fn the_offer_follows_the_need() {
        type Happens = fn(&mut Stock);
        let cases: [(&str, Happens, usize); 5] = [
            ("few sockets", |stock| stock.expect(5), 32),
            ("a hundred sockets", |stock| stock.expect(100), 100),
            ("more sockets than buffers", |stock| stock.expect(1000), 256),
            ("a turn that takes many", |stock| drop(turn(stock, 30)), 60),
            ("a turn that found none", Stock::ran_out, 256),
        ];
        for (name, happens, offered) in cases {
            let mut stock = Stock::new(256);
            happens(&mut stock);
            turn(&mut stock, 0);
            assert_eq!(stock.offered, offered, "{name}");
            stock.look(0);
            stock.look(0);
            assert_eq!(stock.wanted, OFFERED_MIN, "{name}");
        }
    }

    /// Memory goes from buffers that were used and then rest from one look to the next, once; never from one that is in use.
    #[test]
    fn memory_of_rested_buffers_goes_once() {
        let mut stock = Stock::new(64);
        assert_eq!(stock.clean(), None, "nothing was used");
        stock.ran_out();
        let offered = turn(&mut stock, 0);
        assert_eq!(offered.len(), 64);
        stock.look(0);
        // All but the wanted ones come back to the shelf, and stay.
        offered.iter().take(32).for_each(|id| {
            stock.take();
            stock.give_back(*id);
        });
        assert_eq!(stock.clean(), None, "they have only just come back");
        stock.look(0);
        stock.look(0);
        let cleaned: Vec<u16> = std::iter::from_fn(|| stock.clean()).collect();
        assert_eq!(cleaned, &offered[..32]);
        assert_eq!(stock.clean(), None);
    }
}
