//! What every client owes under the limits of its rules: one book for all shards of a host.
//!
//! A client's connections land on any shard, so a book for each would allow it that many times its limit. Only requests of limited
//! rules come here. Nothing is locked and nothing is allocated: an account is two words in a fixed table, changed by
//! compare-and-swap; a flood of addresses overwrites the accounts that owe least.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use foldhash::quality::RandomState;

/// Accounts that one hash may use: one or two cache lines of them.
const WAYS: usize = 8;
/// Accounts of each kind; a power of two. 16 bytes each.
const ACCOUNTS: usize = 1 << 15;

/// What an account counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Second,
    Minute,
    Connections,
}

/// The accounts of one host.
#[derive(Debug)]
pub struct Ledger {
    /// Seeded anew by each process, so that nobody can choose whom they share an account with.
    hasher: RandomState,
    rates: Box<[Account]>,
    places: Box<[Account]>,
}

/// One client under one limit.
#[derive(Debug, Default)]
struct Account {
    /// Whose it is; 0 is nobody's.
    owner: AtomicU64,
    /// When all is paid, in nanoseconds; or the places held.
    owes: AtomicU64,
}

/// A place under `limit-connections`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place(usize);

impl Default for Ledger {
    fn default() -> Self {
        let accounts = || (0..ACCOUNTS).map(|_| Account::default()).collect();
        Self { hasher: RandomState::default(), rates: accounts(), places: accounts() }
    }
}

impl Ledger {
    /// Charges one request, if no more than `burst` are owed; the generic cell rate algorithm, which is nginx's leaky bucket told by
    /// the moment at which it will be empty.
    pub(crate) fn charge(&self, kind: Kind, rule: &str, client: IpAddr, cost_ns: u64, burst: u64, now_ns: u64) -> bool {
        let account = self.rate_account(kind, rule, client, now_ns);
        let most_ns = cost_ns.saturating_mul(burst);
        let charged = account.owes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid_ns| {
            let from_ns = paid_ns.max(now_ns);
            (from_ns - now_ns <= most_ns).then_some(from_ns + cost_ns)
        });
        charged.is_ok()
    }

    /// Takes one charge back: the request was refused for another reason.
    pub(crate) fn refund(&self, kind: Kind, rule: &str, client: IpAddr, cost_ns: u64, now_ns: u64) {
        let owes = &self.rate_account(kind, rule, client, now_ns).owes;
        // Never below nothing: the account may have been overwritten meanwhile.
        let _never_fails = owes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid_ns| Some(paid_ns.saturating_sub(cost_ns)));
    }

    /// Takes one of `most` places. `Ok(None)` where there is no account left to count it in: then it is let in uncounted.
    ///
    /// # Errors
    /// All are taken.
    pub(crate) fn enter(&self, rule: &str, client: IpAddr, most: u32) -> Result<Option<Place>, ()> {
        let owner = self.owner(Kind::Connections, rule, client);
        let Some(index) = find(&self.places, owner, |held| held == 0) else { return Ok(None) };
        let entered =
            self.places[index].owes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| (held < u64::from(most)).then_some(held + 1));
        entered.map(|_| Some(Place(index))).map_err(drop)
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, place: &Place) {
        self.places[place.0].owes.fetch_sub(1, Ordering::Relaxed);
    }

    fn owner(&self, kind: Kind, rule: &str, client: IpAddr) -> u64 {
        self.hasher.hash_one((kind, rule, client)).max(1)
    }

    fn rate_account(&self, kind: Kind, rule: &str, client: IpAddr, now_ns: u64) -> &Account {
        let owner = self.owner(kind, rule, client);
        if let Some(index) = find(&self.rates, owner, |paid_ns| paid_ns <= now_ns) {
            return &self.rates[index];
        }
        // All of them owe: whoever owes least is forgotten. Its next request starts a new account.
        let least = self.rates[ways(owner)].iter().min_by_key(|account| account.owes.load(Ordering::Relaxed)).expect("there are ways");
        least.owner.store(owner, Ordering::Relaxed);
        least.owes.store(now_ns, Ordering::Relaxed);
        least
    }
}

fn ways(owner: u64) -> std::ops::Range<usize> {
    let first = owner as usize % (ACCOUNTS / WAYS) * WAYS;
    first..first + WAYS
}

/// The account of `owner`, taken from somebody for whom `is_settled` holds where there was none.
fn find(accounts: &[Account], owner: u64, is_settled: impl Fn(u64) -> bool) -> Option<usize> {
    let owns = |index: usize| accounts[index].owner.load(Ordering::Relaxed) == owner;
    if let Some(index) = ways(owner).find(|index| owns(*index)) {
        return Some(index);
    }
    ways(owner).find(|index| {
        let account = &accounts[*index];
        let other = account.owner.load(Ordering::Relaxed);
        is_settled(account.owes.load(Ordering::Relaxed))
            && account.owner.compare_exchange(other, owner, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            // Another shard may have taken it for the same client in this very moment.
            || owns(*index)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn client(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    /// Threads that charge one account at once are together allowed what one would be.
    #[test]
    fn all_shards_share_an_account() {
        let ledger = Ledger::default();
        let charged = || (0..1000).filter(|_| ledger.charge(Kind::Second, "r", client(1), SECOND_NS / 10, 20, SECOND_NS)).count();
        let total = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(charged)).collect();
            threads.into_iter().map(|thread| thread.join().expect("it counts")).sum::<usize>()
        });
        assert_eq!(total, 21);
    }

    /// Rules, clients and kinds have accounts of their own.
    #[test]
    fn accounts_are_apart() {
        let ledger = Ledger::default();
        for (kind, rule, number) in [(Kind::Second, "a", 1), (Kind::Second, "b", 1), (Kind::Second, "a", 2), (Kind::Minute, "a", 1)] {
            assert!(ledger.charge(kind, rule, client(number), SECOND_NS, 0, SECOND_NS), "{kind:?} {rule} {number}");
            assert!(!ledger.charge(kind, rule, client(number), SECOND_NS, 0, SECOND_NS), "{kind:?} {rule} {number}");
        }
    }

    /// A refund is as if nothing had been charged.
    #[test]
    fn a_refund_undoes_a_charge() {
        let ledger = Ledger::default();
        for _ in 0..10 {
            assert!(ledger.charge(Kind::Second, "r", client(1), SECOND_NS, 0, 5 * SECOND_NS));
            ledger.refund(Kind::Second, "r", client(1), SECOND_NS, 5 * SECOND_NS);
        }
    }

    /// However many addresses come, new ones are still limited, and who holds a place is not forgotten.
    #[test]
    fn a_flood_of_addresses_keeps_the_book() {
        let ledger = Ledger::default();
        let held = ledger.enter("r", client(0), 1).expect("a place").expect("an account");
        for number in 1..4 * ACCOUNTS as u32 {
            assert!(ledger.charge(Kind::Second, "r", client(number), SECOND_NS, 0, SECOND_NS), "{number}");
            if let Ok(Some(place)) = ledger.enter("r", client(number), 1) {
                ledger.leave(&place);
            }
        }
        let newest = client(4 * ACCOUNTS as u32 - 1);
        assert!(!ledger.charge(Kind::Second, "r", newest, SECOND_NS, 0, SECOND_NS));
        assert_eq!(ledger.enter("r", client(0), 1), Err(()));
        ledger.leave(&held);
        assert!(ledger.enter("r", client(0), 1).is_ok_and(|place| place.is_some()));
    }
}
