//! Password hashes that are slow by design are checked on a thread of their own; the request waits, the shard does not.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::Poll;
use std::task::Waker;

use crate::filter::PasswordCheck;
use crate::net::Remote;
use crate::net::executor;
use crate::snapshot::channel;
use crate::snapshot::channel::Mailbox;
use crate::snapshot::channel::Postbox;

/// Checks that may wait; one more is answered 503.
const CHECKS_MAX: usize = 256;

/// One check on its way to the thread.
struct Job {
    number: u64,
    check: PasswordCheck,
    answers: Postbox<Answer>,
}

/// What the thread found.
pub(crate) struct Answer {
    number: u64,
    pub(crate) check: PasswordCheck,
    pub(crate) holds: bool,
}

/// The way to the checking thread, shared by all shards.
#[derive(Clone)]
pub(crate) struct Checker(mpsc::SyncSender<Job>);

impl Checker {
    /// Starts the thread; it ends with the last shard.
    pub(crate) fn start() -> Self {
        let (sender, jobs) = mpsc::sync_channel::<Job>(CHECKS_MAX);
        executor::background("passwords", move || {
            for Job { number, check, answers } in jobs {
                let holds = check.run();
                // The shard is gone or full of answers: the request has ended or will time out.
                let _gone = answers.send(Answer { number, check, holds });
            }
        });
        Self(sender)
    }
}

/// The requests of one shard that wait for a check.
pub(crate) struct Waiting {
    next: Cell<u64>,
    postbox: Postbox<Answer>,
    mailbox: Mailbox<Answer>,
    waiting: RefCell<HashMap<u64, State>>,
}

enum State {
    Asked(Option<Waker>),
    Answered(Answer),
}

impl Waiting {
    pub(crate) fn new(remote: Remote) -> Self {
        let (postbox, mailbox) = channel::mailbox(CHECKS_MAX, Arc::new(move || remote.wake()));
        Self { next: Cell::new(0), postbox, mailbox, waiting: RefCell::new(HashMap::new()) }
    }

    /// Has `check` run by `checker` and waits for what it finds; `None` where too many checks wait already.
    pub(crate) async fn run(&self, checker: &Checker, check: PasswordCheck) -> Option<Answer> {
        let number = self.next.get();
        self.next.set(number + 1);
        let job = Job { number, check, answers: self.postbox.clone() };
        checker.0.try_send(job).ok()?;
        self.waiting.borrow_mut().insert(number, State::Asked(None));
        let answer = std::future::poll_fn(|context| {
            let mut waiting = self.waiting.borrow_mut();
            match waiting.get_mut(&number) {
                Some(State::Asked(waker)) => {
                    *waker = Some(context.waker().clone());
                    Poll::Pending
                }
                Some(State::Answered(_)) => match waiting.remove(&number) {
                    Some(State::Answered(answer)) => Poll::Ready(answer),
                    _ => Poll::Pending,
                },
                None => Poll::Pending,
            }
        });
        Some(answer.await)
    }

    /// Hands answers to the requests that wait for them.
    pub(crate) fn take_answers(&self) {
        while let Some(answer) = self.mailbox.try_take() {
            if let Some(state) = self.waiting.borrow_mut().get_mut(&answer.number)
                && let State::Asked(waker) = std::mem::replace(state, State::Answered(answer))
                && let Some(waker) = waker
            {
                waker.wake();
            }
        }
    }
}
