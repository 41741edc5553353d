//! What a shard serves right now: a snapshot, and what this shard has made of it.

use std::rc::Rc;
use std::sync::Arc;

use crate::net::tls::ServerTls;
use crate::snapshot::Snapshot;
use crate::snapshot::channel::Served;
use crate::snapshot::channel::Subscriber;

/// One snapshot in service. Requests hold an `Rc` of it from their first byte to their log line.
pub(crate) struct World {
    snapshot: Option<Arc<Snapshot>>,
    /// This shard's own, so that no two cores count references to one.
    pub(crate) tls: Option<ServerTls>,
    subscriber: Rc<Subscriber>,
}

impl World {
    pub(crate) fn new(snapshot: Arc<Snapshot>, tls: Option<ServerTls>, subscriber: Rc<Subscriber>) -> Self {
        Self { snapshot: Some(snapshot), tls, subscriber }
    }

    /// The snapshot.
    #[inline]
    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        self.snapshot.as_ref().expect("a world gives its snapshot away only when it is dropped")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The last request of this world has ended. Control frees the snapshot: on a data core it would cost milliseconds.
        if let Some(retired) = self.snapshot.take() {
            self.subscriber.report(Served::Retired(retired));
        }
    }
}
