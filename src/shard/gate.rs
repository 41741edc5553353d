//! Work that costs a data core long is let through a little at a time, so that a flood of it cannot hold up everything else.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

/// Lets a few through in each turn of the ring; the others wait in the order they came.
#[derive(Debug)]
pub(crate) struct Gate {
    per_turn: u32,
    turn: Cell<u64>,
    passed: Cell<u32>,
    next: Cell<u64>,
    waiting: RefCell<VecDeque<(u64, Waker)>>,
}

impl Gate {
    pub(crate) fn new(per_turn: u32) -> Self {
        Self { per_turn, turn: Cell::new(0), passed: Cell::new(0), next: Cell::new(0), waiting: RefCell::default() }
    }

    /// Resolves when it is the caller's turn; `turn` tells the number of the ring's current turn.
    pub(crate) async fn pass(&self, turn: impl Fn() -> u64) {
        let number = self.next.replace(self.next.get() + 1);
        let mut place = Place { gate: self, number, queued: false };
        std::future::poll_fn(|context| place.poll(turn(), context)).await;
    }
}

/// The place of one who waits; given up when dropped.
struct Place<'g> {
    gate: &'g Gate,
    number: u64,
    queued: bool,
}

impl Place<'_> {
    fn poll(&mut self, turn: u64, context: &Context<'_>) -> Poll<()> {
        let gate = self.gate;
        if gate.turn.replace(turn) != turn {
            gate.passed.set(0);
        }
        let mut waiting = gate.waiting.borrow_mut();
        let is_first = waiting.front().is_none_or(|(first, _)| *first == self.number);
        if is_first && gate.passed.get() < gate.per_turn {
            gate.passed.set(gate.passed.get() + 1);
            return Poll::Ready(());
        }
        if !self.queued {
            self.queued = true;
            waiting.push_back((self.number, context.waker().clone()));
        }
        if is_first {
            // Only the first asks again, once a lap, until the next turn has come; all others sleep.
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.queued {
            return;
        }
        let mut waiting = self.gate.waiting.borrow_mut();
        waiting.retain(|(number, _)| *number != self.number);
        if let Some((_, waker)) = waiting.front() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    /// One a turn passes, in the order they came, and who gives up frees its place.
    #[test]
    fn one_a_turn_in_order() {
        let gate = Gate::new(1);
        let turn = Cell::new(1);
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(gate.pass(|| turn.get()));
        assert_eq!(first.as_mut().poll(&mut context), Poll::Ready(()));
        let mut second = pin!(gate.pass(|| turn.get()));
        let mut third = Box::pin(gate.pass(|| turn.get()));
        let mut fourth = pin!(gate.pass(|| turn.get()));
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(third.as_mut().poll(&mut context).is_pending());
        assert!(fourth.as_mut().poll(&mut context).is_pending());
        turn.set(2);
        assert!(third.as_mut().poll(&mut context).is_pending(), "it came later");
        assert_eq!(second.as_mut().poll(&mut context), Poll::Ready(()));
        turn.set(3);
        assert!(fourth.as_mut().poll(&mut context).is_pending(), "the third is before it");
        drop(third);
        assert_eq!(fourth.as_mut().poll(&mut context), Poll::Ready(()));
        assert!(gate.waiting.borrow().is_empty());
    }
}
