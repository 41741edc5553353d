//! News for a shard: new snapshots, sockets from other shards, the order to drain; and its regular chores.

use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::net::tls;
use crate::shard::drain;
use crate::shard::listen;
use crate::shard::state::Shard;
use crate::shard::world::World;
use crate::snapshot::Snapshot;
use crate::snapshot::channel::Served;
use crate::telemetry::metrics::RingSample;

/// How often the access log is handed on and pools are swept, in milliseconds.
const CHORES_MS: u64 = 100;

/// The first task of a shard: waits for its first snapshot, then listens, then follows the news to the end.
pub(crate) async fn run(shard: Rc<Shard>, listeners: Vec<RawFd>) {
    // Without a world there is nothing to serve: until then the kernel's accept queues hold who comes.
    loop {
        take_news(&shard);
        if shard.has_world() || shard.neighbours.draining.load(Ordering::SeqCst) {
            break;
        }
        shard.ring.rung().await;
    }
    for fd in listeners {
        shard.ring.listen(fd);
    }
    shard.ring.spawn_vital(listen::run(shard.clone()));
    shard.ring.spawn_vital(chores(shard.clone()));
    loop {
        take_news(&shard);
        if shard.neighbours.draining.load(Ordering::SeqCst) && !shard.draining.replace(true) {
            shard.ring.spawn_vital(drain::run(shard.clone()));
        }
        shard.ring.rung().await;
    }
}

fn take_news(shard: &Rc<Shard>) {
    while let Some(snapshot) = shard.subscriber.try_take() {
        swap(shard, snapshot);
    }
    if shard.has_world() {
        listen::take_handovers(shard);
    }
    shard.passwords.take_answers();
}

/// Puts a snapshot into service: between two requests, without touching a connection.
fn swap(shard: &Shard, snapshot: Arc<Snapshot>) {
    let old = shard.current_world();
    let same_tls = old.as_ref().is_some_and(|old| {
        Arc::ptr_eq(&old.snapshot().certificates, &snapshot.certificates) && old.snapshot().settings.tls12 == snapshot.settings.tls12
    });
    let tls = match &old {
        Some(old) if same_tls => old.tls.clone(),
        _ => Some(tls::server_config(
            shard.crypto.clone(),
            snapshot.certificates.clone(),
            snapshot.certificates.tickets.clone(),
            snapshot.settings.tls12,
        )),
    };
    drop(old);
    let version = snapshot.version;
    shard.enter_world(Rc::new(World::new(snapshot, tls, shard.subscriber.clone())));
    shard.metrics.snapshot_version(version);
    let at = shard.ring.started() + Duration::from_micros(shard.ring.now_us());
    shard.subscriber.report(Served::Since { version, at });
}

async fn chores(shard: Rc<Shard>) {
    loop {
        shard.ring.sleep(CHORES_MS).await;
        shard.flush_access_log();
        shard.sweep_pools();
        let stats = shard.ring.stats();
        shard.metrics.loop_turn(stats.busy_us, stats.asleep_us);
        shard.metrics.ring(&RingSample {
            enters: stats.enters,
            submissions: stats.submissions,
            completions: stats.completions,
            starved: stats.starved,
            panics: stats.panics,
            sockets: stats.slots - stats.free_slots,
            buffers_lent: stats.buffers - stats.buffers_available,
        });
        // Last of all: who has seen it counted sees the rest of this look too.
        shard.metrics.loop_lag(shard.ring.take_longest_turn_us());
    }
}
