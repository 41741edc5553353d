//! The end of a shard: it stops accepting, tells clients to go, and ends when they have, or at the deadline.

use std::rc::Rc;

use crate::shard::state::Shard;

/// How often the end is looked for, in milliseconds.
const LOOK_MS: u64 = 64;
/// A connection without a request for this long is closed; a younger one may have a request on the wire (RFC 9112 section 9.5).
const IDLE_MS: u64 = 1000;

/// Drains the shard and stops its ring.
pub(crate) async fn run(shard: Rc<Shard>) {
    let deadline_ms = shard.ring.now_ms() + shard.config.drain_timeout.as_millis() as u64;
    shard.ring.stop_accepting();
    loop {
        // Sockets that were accepted or handed over just before are served like all others.
        shard.ring.expire_idle(IDLE_MS);
        if shard.connections.get() == 0 && !shard.ring.has_unsent() {
            break;
        }
        if shard.ring.now_ms() >= deadline_ms {
            tracing::warn!(connections = shard.connections.get(), "the drain deadline has come: remaining connections are cut");
            break;
        }
        shard.ring.sleep(LOOK_MS).await;
    }
    shard.flush_access_log();
    shard.ring.stop();
}
