//! The objects of one kind as a cluster tells of them: whole lists and single changes, whatever the API server goes through.
//!
//! On top of kube's watcher stand a least distance between two lists, a brake for lists from which most objects have vanished, and
//! a fresh start where the server refuses to resume.

use std::collections::HashSet;
use std::time::Duration;

use futures::Stream;
use futures::StreamExt;
use futures::stream;
use futures::stream::BoxStream;
use kube::Api;
use kube::Resource;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use tokio::time;
use tokio::time::Instant;

use crate::control::kinds;
use crate::control::kinds::Kind;
use crate::snapshot::finding::ObjectKey;

/// Least distance between two lists of one kind: a server that forgets what it said is not asked to say it all again at once.
const RELIST_GAP: Duration = Duration::from_secs(10);
/// A list that lost more than half of at least so many objects has to be confirmed by a second one.
const BRAKE_OBJECTS_MIN: usize = 10;
/// The server ends a watch after this long, and its silence is taken for death 5 s later.
const WATCH_S: u32 = 60;

type Objects<K> = BoxStream<'static, watcher::Result<Event<DeserializeGuard<K>>>>;

/// What a cluster says about one kind.
#[derive(Debug)]
pub(crate) enum News<K> {
    /// This is the complete set.
    Listed(Vec<DeserializeGuard<K>>),
    /// This one is new or has changed.
    Applied(Box<DeserializeGuard<K>>),
    Deleted(ObjectKey),
    /// Something is wrong; it is tried again.
    Trouble(watcher::Error),
    /// A list lost so many objects that it is not believed before it is repeated.
    Doubted {
        known: usize,
        listed: usize,
    },
}

/// Watches one kind for ever. `select` narrows it down.
pub(crate) fn feed<K: Kind>(api: Api<DeserializeGuard<K>>, select: watcher::Config) -> impl Stream<Item = News<K>> {
    stream::unfold(Feed::new(api, select.timeout(WATCH_S)), |mut feed| async move {
        let news = feed.next().await;
        Some((news, feed))
    })
}

struct Feed<K> {
    api: Api<DeserializeGuard<K>>,
    select: watcher::Config,
    events: Objects<K>,
    listed_at: Option<Instant>,
    /// What the last believed list and the changes since hold.
    known: HashSet<ObjectKey>,
    /// The list that is being received.
    listing: Vec<DeserializeGuard<K>>,
    doubted: bool,
}

impl<K: Kind> Feed<K> {
    fn new(api: Api<DeserializeGuard<K>>, select: watcher::Config) -> Self {
        let events = events(&api, &select);
        Self { api, select, events, listed_at: None, known: HashSet::new(), listing: Vec::new(), doubted: false }
    }

    async fn next(&mut self) -> News<K> {
        loop {
            match self.events.next().await {
                Some(Ok(Event::Init)) => {
                    self.listing.clear();
                    if let Some(at) = self.listed_at {
                        time::sleep_until(at + RELIST_GAP).await;
                    }
                }
                Some(Ok(Event::InitApply(object))) => self.listing.push(object),
                Some(Ok(Event::InitDone)) => return self.listed(),
                Some(Ok(Event::Apply(object))) => {
                    self.known.insert(kinds::key(object.meta()));
                    return News::Applied(Box::new(object));
                }
                Some(Ok(Event::Delete(object))) => {
                    let key = kinds::key(object.meta());
                    self.known.remove(&key);
                    return News::Deleted(key);
                }
                Some(Err(error)) => {
                    // The watcher would ask for the same forgotten version for ever.
                    if matches!(&error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410) {
                        self.events = events(&self.api, &self.select);
                    }
                    return News::Trouble(error);
                }
                None => self.events = events(&self.api, &self.select),
            }
        }
    }

    fn listed(&mut self) -> News<K> {
        self.listed_at = Some(Instant::now());
        let objects = std::mem::take(&mut self.listing);
        let (known, listed) = (self.known.len(), objects.len());
        if known >= BRAKE_OBJECTS_MIN && listed * 2 < known && !std::mem::replace(&mut self.doubted, true) {
            self.events = events(&self.api, &self.select);
            return News::Doubted { known, listed };
        }
        self.doubted = false;
        self.known = objects.iter().map(|object| kinds::key(object.meta())).collect();
        News::Listed(objects)
    }
}

fn events<K: Kind>(api: &Api<DeserializeGuard<K>>, select: &watcher::Config) -> Objects<K> {
    let strip = |object: &mut DeserializeGuard<K>| {
        object.managed_fields_mut().clear();
        object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
    };
    watcher(api.clone(), select.clone()).modify(strip).default_backoff().boxed()
}
