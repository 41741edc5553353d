//! The timer wheel of a shard: adding, moving and expiring cost the same whatever the number of deadlines.
//!
//! Entries are lazy: moving a deadline is a store in its owner, and the owner is asked again when the old slot comes round.

/// Length of a slot in milliseconds: the resolution of every deadline.
pub const TICK_MS: u64 = 64;
const SLOTS: usize = 1024;

/// What a slot of the wheel points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A socket's deadline, with the generation of its slot.
    Socket { index: u32, generation: u32 },
    /// A sleeping task.
    Sleeper(u32),
}

/// 1024 slots of 64 ms; a deadline further away waits in the last one and is asked again.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<Entry>>,
    occupied: [u64; SLOTS / 64],
    tick: u64,
}

impl Default for Wheel {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), occupied: [0; SLOTS / 64], tick: 0 }
    }
}

impl Wheel {
    /// Asks for `entry` to come out of [`Self::expire`] once `at_ms` has passed, or earlier where that is further away than the
    /// wheel reaches; returns when it comes out.
    pub fn add(&mut self, entry: Entry, at_ms: u64) -> u64 {
        let tick = (at_ms / TICK_MS + 1).clamp(self.tick + 1, self.tick + SLOTS as u64 - 1);
        let slot = tick as usize % SLOTS;
        self.slots[slot].push(entry);
        self.occupied[slot / 64] |= 1 << (slot % 64);
        tick * TICK_MS
    }

    /// When the next occupied slot is due, in milliseconds.
    pub fn next_due_ms(&self) -> Option<u64> {
        let start = (self.tick + 1) as usize % SLOTS;
        let mut word = start / 64;
        let mut bits = self.occupied[word] & (!0 << (start % 64));
        for _ in 0..=SLOTS / 64 {
            if bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                let distance = (slot + SLOTS - start) % SLOTS;
                return Some((self.tick + 1 + distance as u64) * TICK_MS);
            }
            word = (word + 1) % (SLOTS / 64);
            bits = self.occupied[word];
        }
        None
    }

    /// Moves time to `now_ms` and puts every entry whose slot has passed into `due`; owners decide whether it was the right time.
    pub fn expire(&mut self, now_ms: u64, due: &mut Vec<Entry>) {
        let now = now_ms / TICK_MS;
        // After a pause longer than one turn of the wheel every slot is due once.
        self.tick = self.tick.max(now.saturating_sub(SLOTS as u64));
        while self.tick < now {
            self.tick += 1;
            let slot = self.tick as usize % SLOTS;
            if self.occupied[slot / 64] >> (slot % 64) & 1 == 1 {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
                due.append(&mut self.slots[slot]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_at(wheel: &mut Wheel, now_ms: u64) -> Vec<Entry> {
        let mut due = Vec::new();
        wheel.expire(now_ms, &mut due);
        due
    }

    /// An entry comes out once, never before its time, and at most one tick late.
    #[test]
    fn an_entry_is_due_once_and_never_early() {
        for at_ms in [0, 1, 63, 64, 65, 1000, 60_000, 65_000] {
            let mut wheel = Wheel::default();
            let due_ms = wheel.add(Entry::Sleeper(7), at_ms);
            let mut fired = Vec::new();
            for now_ms in 0..=at_ms + 2 * TICK_MS {
                for entry in due_at(&mut wheel, now_ms) {
                    fired.push((now_ms, entry));
                }
            }
            assert_eq!(fired.len(), 1, "{at_ms}: {fired:?}");
            assert_eq!(fired[0].0, due_ms);
            assert!(fired[0].0 >= at_ms && fired[0].0 <= at_ms + TICK_MS, "{at_ms}: {fired:?}");
        }
    }

    /// A deadline beyond one turn of the wheel comes out early once, so that its owner can ask again; never is it lost.
    #[test]
    fn a_far_deadline_is_asked_again() {
        let mut wheel = Wheel::default();
        let at_ms = 3 * SLOTS as u64 * TICK_MS;
        wheel.add(Entry::Sleeper(1), at_ms);
        let mut asked = 0;
        let mut now_ms = 0;
        while now_ms < at_ms + 2 * TICK_MS {
            now_ms += TICK_MS;
            for entry in due_at(&mut wheel, now_ms) {
                asked += 1;
                if now_ms < at_ms {
                    wheel.add(entry, at_ms);
                }
            }
        }
        assert!(asked >= 3, "{asked}");
    }

    /// The next due time is the earliest slot, and nothing where the wheel is empty.
    #[test]
    fn the_earliest_slot_is_next() {
        let mut wheel = Wheel::default();
        assert_eq!(wheel.next_due_ms(), None);
        wheel.add(Entry::Sleeper(1), 10 * TICK_MS);
        wheel.add(Entry::Sleeper(2), 3 * TICK_MS);
        assert_eq!(wheel.next_due_ms(), Some(4 * TICK_MS));
        assert_eq!(due_at(&mut wheel, 5 * TICK_MS), [Entry::Sleeper(2)]);
        assert_eq!(wheel.next_due_ms(), Some(11 * TICK_MS));
    }

    /// After a pause longer than the wheel everything that was due comes out at once.
    #[test]
    fn a_long_pause_loses_nothing() {
        let mut wheel = Wheel::default();
        for index in 0..100 {
            wheel.add(Entry::Sleeper(index), u64::from(index) * 500);
        }
        assert_eq!(due_at(&mut wheel, 10 * SLOTS as u64 * TICK_MS).len(), 100);
    }
}
