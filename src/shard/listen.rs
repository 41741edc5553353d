//! Accepting, and sharing what was accepted: SO_REUSEPORT spreads by hash, this evens it out.

use std::os::fd::RawFd;
use std::rc::Rc;

use crate::net::limits;
use crate::shard::connection;
use crate::shard::loads::Handover;
use crate::shard::state::Shard;

/// How long accepting rests after an error such as too many open files, in milliseconds.
const REST_MS: u64 = 50;

/// Accepts until the end of the shard.
pub(crate) async fn run(shard: Rc<Shard>) {
    loop {
        match shard.ring.accept().await {
            (listener, Ok(fd)) => admit(&shard, listener, fd),
            (listener, Err(error)) => {
                shard.metrics.rejected("accept_failed");
                tracing::warn!(listener = shard.config.listeners[listener].name, %error, "accepting rests for a moment");
                shard.ring.sleep(REST_MS).await;
                shard.ring.resume_accepting();
            }
        }
    }
}

/// Serves an accepted socket here, or gives it to the shard with the fewest connections.
fn admit(shard: &Rc<Shard>, listener: usize, fd: RawFd) {
    if shard.neighbours.loads.total() >= shard.config.connections_max {
        shard.metrics.rejected("too_many_connections");
        limits::close_unseen(fd);
        return;
    }
    let own = shard.neighbours.index;
    let chosen = shard.neighbours.loads.place(own);
    if chosen != own {
        match shard.neighbours.postboxes[chosen].send(Handover { listener, fd }) {
            Ok(()) => return,
            // Its mailbox is full or it has ended: better here than not at all.
            Err(_) => shard.neighbours.loads.moved(chosen, own),
        }
    }
    connection::start(shard, listener, fd);
}

/// Serves what other shards have accepted for this one.
pub(crate) fn take_handovers(shard: &Rc<Shard>) {
    while let Some(Handover { listener, fd }) = shard.neighbours.mailbox.try_take() {
        connection::start(shard, listener, fd);
    }
}
