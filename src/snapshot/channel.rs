//! The way from control to a shard and back: the newest snapshot down, the old one up to be freed there.
//!
//! A crossbeam receiver holds no waker and a shard sleeps in its own ring, so each end is given a function that wakes the other.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;
use crossbeam_channel::TrySendError;

use crate::snapshot::Snapshot;

/// Wakes the thread at the other end.
pub type Wake = Box<dyn Fn() + Send>;

/// What a shard says to control.
#[derive(Debug)]
pub enum Served {
    /// Every new request of this shard sees this version now.
    Since { version: u64, at: Instant },
    /// A snapshot that no request of this shard needs any more: dropped by the receiver of this message, never on a data core.
    Retired(Arc<Snapshot>),
}

/// Control's end of the way to one shard.
pub struct Publisher {
    snapshots: Sender<Arc<Snapshot>>,
    stale: Receiver<Arc<Snapshot>>,
    served: Receiver<Served>,
    wake_shard: Wake,
}

/// A shard's end of the way from control.
pub struct Subscriber {
    snapshots: Receiver<Arc<Snapshot>>,
    served: Sender<Served>,
    wake_control: Wake,
}

/// Makes the way between control and one shard.
pub fn lane(wake_shard: Wake, wake_control: Wake) -> (Publisher, Subscriber) {
    let (snapshots, receiver) = crossbeam_channel::bounded(1);
    let (served_sender, served) = crossbeam_channel::unbounded();
    let publisher = Publisher { snapshots, stale: receiver.clone(), served, wake_shard };
    (publisher, Subscriber { snapshots: receiver, served: served_sender, wake_control })
}

impl Publisher {
    /// Hands `snapshot` to the shard; a snapshot that it has not taken yet is replaced. False once the shard is gone.
    pub fn publish(&self, snapshot: &Arc<Snapshot>) -> bool {
        let mut next = snapshot.clone();
        loop {
            match self.snapshots.try_send(next) {
                Ok(()) => {
                    (self.wake_shard)();
                    return true;
                }
                Err(TrySendError::Full(back)) => {
                    // The shard may take it in between: then the next try finds room.
                    drop(self.stale.try_recv());
                    next = back;
                }
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
    }

    /// The next word from the shard, if there is one.
    pub fn try_served(&self) -> Option<Served> {
        self.served.try_recv().ok()
    }
}

impl Subscriber {
    /// The newest snapshot, if one waits.
    pub fn try_take(&self) -> Option<Arc<Snapshot>> {
        self.snapshots.try_recv().ok()
    }

    /// Tells control what is served now and gives the old snapshot back.
    pub fn report(&self, served: Served) {
        // Control gone means that the process ends: nobody is left to tell.
        if self.served.send(served).is_ok() {
            (self.wake_control)();
        }
    }
}

/// A bounded queue into one shard, for what another thread hands it (accepted sockets, answers of workers).
pub fn mailbox<T: Send>(capacity: usize, wake: Arc<dyn Fn() + Send + Sync>) -> (Postbox<T>, Mailbox<T>) {
    let (sender, receiver) = crossbeam_channel::bounded(capacity);
    (Postbox { sender, wake }, Mailbox { receiver })
}

/// The sending end of a mailbox.
pub struct Postbox<T> {
    sender: Sender<T>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl<T> Clone for Postbox<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), wake: self.wake.clone() }
    }
}

impl<T> Postbox<T> {
    /// Puts `item` into the queue and wakes its owner.
    ///
    /// # Errors
    /// The item itself, where the queue is full or its owner is gone.
    pub fn send(&self, item: T) -> Result<(), T> {
        self.sender.try_send(item).map_err(TrySendError::into_inner)?;
        (self.wake)();
        Ok(())
    }
}

/// The receiving end of a mailbox, owned by one shard.
pub struct Mailbox<T> {
    receiver: Receiver<T>,
}

impl<T> Mailbox<T> {
    /// The next item, if one waits.
    pub fn try_take(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}
