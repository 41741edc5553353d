//! The end of a shard: it stops accepting, tells clients to go, and ends when they have, or at the deadline.

use std::rc::Rc;

use crate::shard::state::Shard;

/// How often the end is looked for, in milliseconds.
const LOOK_MS: u64 = 64;
/// A connection without a request for this long is closed; a younger one may have a request on the wire (RFC 9112 section 9.5).
const IDLE_MS: u64 = 1000;

/// Handshakes that have begun get this long to end before the listeners close, in milliseconds.
const HANDSHAKE_MS: u64 = 1000;

/// Drains the shard and stops its ring.
pub(crate) async fn run(shard: Rc<Shard>) {
    let timeout_ms = shard.config.drain_timeout.as_millis() as u64;
    let begun_ms = shard.ring.now_ms();
    let deadline_ms = begun_ms + timeout_ms;
    shard.ring.turn_away();
    let mut accepting = true;
    loop {
        shard.ring.expire_idle(IDLE_MS);
        if accepting && shard.ring.now_ms() >= begun_ms + HANDSHAKE_MS.min(timeout_ms) {
            // What the accept queues still hold is served, here or where it is handed to: the end is not looked for in this turn, be
            // it the deadline. A ring that ended with it would keep the listeners open beyond the end of the process.
            shard.ring.stop_accepting();
            accepting = false;
        } else if !accepting && shard.connections.get() == 0 && !shard.ring.has_unsent() {
            break;
        } else if shard.ring.now_ms() >= deadline_ms {
            let connections = shard.connections.get();
            if connections > 0 {
                tracing::warn!(connections, "the drain deadline has come: remaining connections are cut");
            }
            break;
        }
        shard.ring.sleep(LOOK_MS).await;
    }
    // Tasks that are cut keep the shard alive, and with it whatever it holds.
    shard.end_access_log();
    shard.ring.stop();
}
