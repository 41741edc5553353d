//! Changes of the proxy while it serves, at a rate: made by a thread of their own, counted where the driver hears of them.
//!
//! A change renders files and may wait for an answer at a socket. The driver would stand still for that long, so it is done by a
//! thread that sleeps most of the time. On the driver's CPU, where it has no other, it takes that time from the driver all the same:
//! lateness shows how much.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::Beside;
use super::Company;
use super::Deeds;
use crate::change::Change;
use crate::change::Kind;
use crate::change::Rhythm;
use crate::clock::Clock;
use crate::peers::Peer;

/// So far a thread that was held up catches up; what is due before that is left out, and the count tells.
const CATCH_UP_NS: u64 = 1_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// One step that a proxy was made to take.
pub(super) struct Step {
    /// Which of the company it belongs to.
    pub(super) member: usize,
    /// Changes put together in it, or why it failed.
    pub(super) made: Result<u32, String>,
    /// The members of the cluster since then.
    pub(super) members: Vec<SocketAddr>,
}

/// One kind of change, and when it is due next.
struct Work {
    member: usize,
    kind: Kind,
    rhythm: Rhythm,
    due_ns: u64,
}

/// Does `round` with this company, while the peer is changed as all of these say.
pub fn during<T>(all: &[Beside], peer: &mut Peer, mut company: Company, round: impl FnOnce(Company) -> T) -> T {
    if !company.changes() {
        return round(company);
    }
    let (tells, told) = mpsc::channel();
    let (end, ends) = mpsc::channel();
    company.told = Some(told);
    std::thread::scope(|scope| {
        scope.spawn(move || make(all, peer, &ends, &tells));
        let done = round(company);
        drop(end);
        done
    })
}

/// Changes the peer until `ends` has no other end.
fn make(all: &[Beside], peer: &mut Peer, ends: &Receiver<()>, tells: &Sender<Step>) {
    let clock = Clock::start();
    let work = |(member, beside): (usize, &Beside)| {
        let (kind, per_s) = beside.change()?;
        let rhythm = peer.rhythm(kind, per_s);
        Some(Work { member, kind, rhythm, due_ns: period_ns(rhythm) })
    };
    let mut works: Vec<Work> = all.iter().enumerate().filter_map(work).collect();
    while let Some(work) = works.iter_mut().min_by_key(|work| work.due_ns) {
        let wait = Duration::from_nanos(work.due_ns.saturating_sub(clock.now_ns()));
        if ends.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        work.due_ns = work.due_ns.max(clock.now_ns().saturating_sub(CATCH_UP_NS)) + period_ns(work.rhythm);
        let (change, changes) = match work.kind {
            Kind::Endpoints => (Change::Endpoints(work.rhythm.together), work.rhythm.together),
            Kind::Routes => (Change::Routes(work.rhythm.together), work.rhythm.together),
            Kind::Reload => (Change::Reload, 1),
        };
        let made = peer.apply(change).map(|()| changes).map_err(|error| error.to_string());
        if tells.send(Step { member: work.member, made, members: peer.members().collect() }).is_err() {
            return;
        }
    }
}

fn period_ns(rhythm: Rhythm) -> u64 {
    (SECOND_NS as f64 / rhythm.per_s) as u64
}

/// What has been heard of changes of one kind.
pub(super) struct Heard {
    kind: Kind,
    /// Of the window, if it has begun.
    from_ns: Option<u64>,
    /// When a step was heard of within the window, and how many changes it was.
    steps: Vec<(u64, u32)>,
    failed: u64,
    failure: Option<String>,
}

impl Heard {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, from_ns: None, steps: Vec::new(), failed: 0, failure: None }
    }

    pub(super) fn enter(&mut self, now_ns: u64) {
        self.from_ns = Some(now_ns);
    }

    pub(super) fn count(&mut self, made: Result<u32, String>, now_ns: u64) {
        match (made, self.from_ns) {
            (Ok(changes), Some(from_ns)) => self.steps.push((now_ns.saturating_sub(from_ns), changes)),
            (Ok(_), None) => {}
            (Err(failure), _) => {
                self.failed += 1;
                self.failure.get_or_insert(failure);
            }
        }
    }

    pub(super) fn leave(&self) -> Deeds {
        Deeds {
            changed: self.steps.iter().map(|(_, changes)| u64::from(*changes)).sum(),
            steps: self.steps.len() as u64,
            failed: self.failed,
            failure: self.failure.clone(),
            ..Deeds::default()
        }
    }

    /// Each step at its second; those of one second together, at the first of them.
    pub(super) fn moments(&self) -> Vec<(f64, String)> {
        let together = self.steps.chunk_by(|(one_ns, _), (other_ns, _)| one_ns / SECOND_NS == other_ns / SECOND_NS);
        let moment = |steps: &[(u64, u32)]| {
            let changes: u32 = steps.iter().map(|(_, changes)| changes).sum();
            let what = match (self.kind, changes) {
                (Kind::Endpoints, 1) => "a change of endpoints".to_owned(),
                (Kind::Endpoints, _) => format!("{changes} changes of endpoints"),
                (Kind::Routes, 1) => "a change of routes".to_owned(),
                (Kind::Routes, _) => format!("{changes} changes of routes"),
                (Kind::Reload, 1) => "a reload".to_owned(),
                (Kind::Reload, _) => format!("{changes} reloads"),
            };
            Some((steps.first()?.0 as f64 / SECOND_NS as f64, what))
        };
        together.filter_map(moment).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was made is counted from the beginning of the window, what failed from the first change on.
    #[test]
    fn changes_are_counted_within_the_window() {
        let mut heard = Heard::new(Kind::Endpoints);
        heard.count(Ok(3), 1);
        heard.count(Err("refused".to_owned()), 2);
        heard.count(Err("gone".to_owned()), 3);
        heard.enter(10 * SECOND_NS);
        for (at_ns, changes) in [(10 * SECOND_NS + 5, 1), (11 * SECOND_NS + SECOND_NS / 2, 2), (12 * SECOND_NS - 1, 2)] {
            heard.count(Ok(changes), at_ns);
        }
        let deeds = Deeds { changed: 5, steps: 3, failed: 2, failure: Some("refused".to_owned()), ..Deeds::default() };
        assert_eq!(heard.leave(), deeds);
        assert_eq!(heard.moments(), [(5e-9, "a change of endpoints".to_owned()), (1.5, "4 changes of endpoints".to_owned())]);
    }
}
