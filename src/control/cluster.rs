//! A Kubernetes cluster as a source of objects: one watch for each kind, and single requests for what is only referred to.
//!
//! While the API server is away, forgets, stalls or talks nonsense, what was last good stays. A kind that was never listed whole is
//! not an empty set: until every kind that routing needs is there, there is no first snapshot.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use futures::Stream;
use futures::StreamExt;
use futures::stream::BoxStream;
use futures::stream::SelectAll;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::networking::v1::IngressClass;
use kube::Client;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use tokio::time;

use crate::control::config::ClusterConfig;
use crate::control::config::SecretsMode;
use crate::control::config::StartError;
use crate::control::connect;
use crate::control::feed;
use crate::control::feed::News;
use crate::control::kinds;
use crate::control::kinds::Kind;
use crate::control::kinds::Objects;
use crate::control::referenced::Read;
use crate::control::referenced::Referenced;
use crate::control::status::StatusWriter;
use crate::control::trouble;
use crate::snapshot::finding::Finding;
use crate::snapshot::finding::ObjectKey;
use crate::snapshot::finding::Severity;
use crate::snapshot::overview::IngressStatus;
use crate::snapshot::overview::SourceState;
use crate::translate::BackendMode;
use crate::translate::Options;
use crate::translate::Translation;
use crate::translate::resources::Resources;

/// How often due requests are looked for.
const CHORES: Duration = Duration::from_millis(500);
/// A watch that fails says so again within this time, so that silence means that it recovered.
const TROUBLE_MAX: Duration = Duration::from_secs(60);

/// The kinds that are kept only where something refers to them.
const CONFIG_MAP: &str = <ConfigMap as k8s_openapi::Resource>::KIND;
const SECRET: &str = <Secret as k8s_openapi::Resource>::KIND;

/// Takes one piece of news in; true if objects or findings are others now.
type Update = Box<dyn FnOnce(&mut View, Instant) -> bool + Send>;

/// The cluster and what is known of it.
pub(crate) struct Cluster {
    client: Client,
    namespaces: Vec<String>,
    secrets_mode: SecretsMode,
    news: SelectAll<BoxStream<'static, Update>>,
    view: View,
    status: StatusWriter,
    chores: time::Interval,
}

/// The objects, and how each watch does.
struct View {
    resources: Resources,
    watches: Vec<Watch>,
    secrets: Referenced<Secret>,
    config_maps: Referenced<ConfigMap>,
    /// Whether the first snapshot waits for objects that others refer to.
    waits: bool,
    /// Objects that do not decode, by kind and key.
    invalid: BTreeMap<(&'static str, ObjectKey), Finding>,
    findings: Vec<Finding>,
}

/// One kind in one namespace, or in all.
struct Watch {
    plural: String,
    kind: &'static str,
    namespace: Option<String>,
    /// The only object that it lists.
    name: Option<String>,
    /// Whether there can be no snapshot without it.
    essential: bool,
    listed: bool,
    trouble: Option<Trouble>,
}

/// What is wrong with a watch.
struct Trouble {
    text: String,
    since: Instant,
    last: Instant,
}

impl Cluster {
    /// Finds the way to the cluster and begins to watch it.
    ///
    /// # Errors
    /// There is no usable kubeconfig.
    pub(crate) async fn open(config: &ClusterConfig, options: &Options) -> Result<Self, StartError> {
        let client = connect::client(config).await?;
        let view = View {
            resources: Resources::default(),
            watches: Vec::new(),
            secrets: Referenced::new(client.clone()),
            config_maps: Referenced::new(client.clone()),
            waits: false,
            invalid: BTreeMap::new(),
            findings: Vec::new(),
        };
        let mut chores = time::interval(CHORES);
        chores.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let status = StatusWriter::new(client.clone());
        let (namespaces, secrets_mode) = (config.namespaces.clone(), config.secrets);
        let mut cluster = Self { client, namespaces, secrets_mode, news: SelectAll::new(), view, status, chores };
        let all = watcher::Config::default;
        cluster.watch::<Ingress>(&all(), true);
        cluster.watch::<IngressClass>(&all(), true);
        cluster.watch::<Service>(&all(), true);
        cluster.watch::<EndpointSlice>(&all().labels("kubernetes.io/service-name"), true);
        cluster.watch::<Node>(&all(), options.backend_mode == BackendMode::NodePort);
        cluster.watch::<Namespace>(&all(), false);
        if let Some(key) = &options.config_map {
            let select = all().fields(&format!("metadata.name={}", key.name));
            cluster.watch_in::<ConfigMap>(Some(&key.namespace), Some(&key.name), &select, true);
        }
        Ok(cluster)
    }

    fn watch<K: Kind>(&mut self, select: &watcher::Config, essential: bool) {
        if !K::NAMESPACED || self.namespaces.is_empty() {
            return self.watch_in::<K>(None, None, select, essential);
        }
        for namespace in self.namespaces.clone() {
            self.watch_in::<K>(Some(&namespace), None, select, essential);
        }
    }

    fn watch_in<K: Kind>(&mut self, namespace: Option<&str>, name: Option<&str>, select: &watcher::Config, essential: bool) {
        let index = self.view.watches.len();
        self.view.watches.push(Watch {
            plural: kinds::plural::<K>(),
            kind: K::KIND,
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            essential,
            listed: false,
            trouble: None,
        });
        self.news.push(updates(feed::feed::<K>(K::api(&self.client, namespace), select.clone()), index).boxed());
    }

    /// Waits until objects or findings have changed; says when that was seen. Safe to drop while it waits.
    pub(crate) async fn changed(&mut self) -> Instant {
        loop {
            let changed = tokio::select! {
                Some(update) = self.news.next() => update(&mut self.view, now()),
                answer = self.view.secrets.answer() => {
                    let read = self.view.secrets.take(answer, now());
                    self.view.take_read(read)
                }
                answer = self.view.config_maps.answer() => {
                    let read = self.view.config_maps.take(answer, now());
                    self.view.take_read(read)
                }
                outcome = self.status.written() => {
                    let changed = self.status.take(outcome, now());
                    self.status.write(&self.view.resources.ingresses);
                    changed
                }
                _ = self.chores.tick() => {
                    self.status.review(&self.view.resources.ingresses, now());
                    self.status.write(&self.view.resources.ingresses);
                    self.view.forget_troubles(now());
                    false
                }
            };
            self.ask();
            if changed {
                let View { invalid, secrets, config_maps, .. } = &self.view;
                let findings = invalid.values().chain(secrets.findings()).chain(config_maps.findings()).chain(self.status.findings());
                self.view.findings = findings.cloned().collect();
                return now();
            }
        }
    }

    /// Learns what translation made of the objects: which Secrets it refers to, and which Ingresses are served.
    pub(crate) fn learn(&mut self, translation: &Translation, status: &[IngressStatus]) {
        for gone in self.view.secrets.want(&translation.references.secrets, now()) {
            self.view.resources.secrets.remove(&gone);
        }
        let mut config_maps = translation.references.config_maps.clone();
        // The one with global settings has a watch of its own.
        config_maps.retain(|key| !self.view.watches.iter().any(|watch| watch.kind == CONFIG_MAP && watch.covers(key)));
        for gone in self.view.config_maps.want(&config_maps, now()) {
            self.view.resources.config_maps.remove(&gone);
        }
        self.view.waits = self.view.unread() > 0;
        // Only now, so that of the first list nothing needs to be kept that nobody refers to.
        if self.secrets_mode == SecretsMode::Watch && !self.view.watches.iter().any(|watch| watch.kind == SECRET) {
            self.watch::<Secret>(&watcher::Config::default().fields("type=kubernetes.io/tls"), false);
        }
        self.ask();
        self.status.want(status);
        self.status.review(&self.view.resources.ingresses, now());
        self.status.write(&self.view.resources.ingresses);
    }

    /// Asks for objects that others refer to, as soon as a watch had its chance to tell of them.
    fn ask(&mut self) {
        if self.view.watches.iter().all(|watch| watch.kind != SECRET || watch.listed || watch.trouble.is_some()) {
            self.view.secrets.ask(now());
            self.view.config_maps.ask(now());
        }
    }

    pub(crate) fn resources(&self) -> &Resources {
        &self.view.resources
    }

    pub(crate) fn findings(&self) -> &[Finding] {
        &self.view.findings
    }

    /// What is missing before objects can be translated.
    pub(crate) fn unlisted(&self) -> Option<String> {
        let missing: Vec<String> = self.view.watches.iter().filter(|watch| watch.is_missing()).map(Watch::describe).collect();
        if missing.is_empty() { None } else { Some(missing.join("; ")) }
    }

    /// What is missing before the first snapshot.
    pub(crate) fn missing(&self) -> Option<String> {
        let unread = self.view.unread();
        self.unlisted().or_else(|| (unread > 0).then(|| format!("waiting for {unread} Secrets and ConfigMaps that objects refer to")))
    }

    pub(crate) fn states(&self, now: Instant) -> Vec<SourceState> {
        let state = |watch: &Watch| SourceState {
            name: watch.name(),
            trouble: watch.trouble.as_ref().map(|trouble| trouble.text.clone()),
            // A watch that is not in trouble is current: a silent server is found out after a minute.
            current_at: watch.listed.then(|| watch.trouble.as_ref().map_or(now, |trouble| trouble.since)),
            objects: self.view.objects(watch),
        };
        self.view.watches.iter().map(state).collect()
    }
}

fn updates<K: Kind>(news: impl Stream<Item = News<K>> + Send + 'static, watch: usize) -> impl Stream<Item = Update> + Send {
    news.map(move |news| -> Update { Box::new(move |view, now| view.take(watch, news, now)) })
}

fn now() -> Instant {
    time::Instant::now().into_std()
}

impl Watch {
    fn name(&self) -> String {
        self.namespace.as_ref().map_or_else(|| self.plural.clone(), |namespace| format!("{} in {namespace}", self.plural))
    }

    /// A kind that is merely useful is waited for as long as nothing speaks against it.
    fn is_missing(&self) -> bool {
        !self.listed && self.kind != SECRET && (self.essential || self.trouble.is_none())
    }

    fn describe(&self) -> String {
        let trouble = self.trouble.as_ref().map_or("not listed yet", |trouble| &trouble.text);
        format!("waiting for {}: {trouble}", self.name())
    }

    fn covers(&self, key: &ObjectKey) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
            && self.name.as_ref().is_none_or(|name| *name == key.name)
    }
}

impl View {
    /// Takes in what a watch says; true if objects or findings are others now.
    fn take<K: Kind>(&mut self, watch: usize, news: News<K>, now: Instant) -> bool {
        match news {
            News::Listed(objects) => {
                let first = !std::mem::replace(&mut self.watches[watch].listed, true);
                self.watches[watch].trouble = None;
                self.replace(watch, objects, now) || first
            }
            News::Applied(object) => {
                self.watches[watch].trouble = None;
                self.put(*object, now)
            }
            News::Deleted(key) => {
                self.watches[watch].trouble = None;
                self.remove::<K>(&key, now)
            }
            News::Trouble(error) => {
                let watch = &mut self.watches[watch];
                let text = trouble::watching(&error, &watch.plural, watch.namespace.as_deref());
                if watch.trouble.as_ref().is_none_or(|old| old.text != text) {
                    tracing::warn!(watch = %watch.name(), "{text}");
                }
                let since = watch.trouble.as_ref().map_or(now, |old| old.since);
                // A first snapshot may have waited to hear that this kind will not come.
                watch.trouble.replace(Trouble { text, since, last: now }).is_none()
            }
            News::Doubted { known, listed } => {
                let watch = &mut self.watches[watch];
                let text =
                    format!("only {listed} of {known} objects are listed; what was last good is served until a second list confirms it");
                tracing::error!(watch = %watch.name(), "{text}");
                watch.trouble = Some(Trouble { text, since: now, last: now });
                false
            }
        }
    }

    fn replace<K: Kind>(&mut self, watch: usize, objects: Vec<DeserializeGuard<K>>, now: Instant) -> bool {
        let listed: BTreeSet<ObjectKey> = objects.iter().map(|object| kinds::key(object.meta())).collect();
        // The watch lists one type of Secret only: of others it knows nothing.
        let told = |key: &ObjectKey| self.watches[watch].covers(key) && (K::KIND != SECRET || self.secrets.is_watched(key));
        let gone: Vec<ObjectKey> = K::of(&self.resources).keys().filter(|key| told(key) && !listed.contains(key)).cloned().collect();
        let mut changed = false;
        for object in objects {
            changed |= self.put(object, now);
        }
        for key in gone {
            changed |= self.remove::<K>(&key, now);
        }
        changed
    }

    fn put<K: Kind>(&mut self, object: DeserializeGuard<K>, now: Instant) -> bool {
        let key = kinds::key(object.meta());
        if K::KIND == SECRET {
            if !self.secrets.wants(&key) {
                return false;
            }
            self.secrets.watched(&key, true, now);
        }
        self.store(key, object)
    }

    /// Stores an object, or says why it cannot be used: what was last good of it stays.
    fn store<K: Kind>(&mut self, key: ObjectKey, object: DeserializeGuard<K>) -> bool {
        let name = (K::KIND, key);
        match object.0 {
            Ok(mut object) => {
                let healed = self.invalid.remove(&name).is_some();
                object.admit();
                let objects: &mut Objects<K> = K::of_mut(&mut self.resources);
                // Listed again unchanged: the object that translation already knows stays.
                let version = object.metadata().resource_version.as_ref();
                let same = objects.get(&name.1).is_some_and(|old| version.is_some() && old.metadata().resource_version.as_ref() == version);
                if !same {
                    objects.insert(name.1, Arc::new(object));
                }
                healed || !same
            }
            Err(invalid) => {
                let finding = Finding {
                    severity: Severity::Error,
                    kind: K::KIND,
                    object: name.1.clone(),
                    field: String::new(),
                    reason: "ObjectInvalid",
                    message: format!("it does not read as {} {}: {}", K::API_VERSION, K::KIND, invalid.error),
                    cure: "Correct the object; what was last good of it is served.".to_owned(),
                };
                self.invalid.insert(name, finding.clone()) != Some(finding)
            }
        }
    }

    fn remove<K: Kind>(&mut self, key: &ObjectKey, now: Instant) -> bool {
        if K::KIND == SECRET {
            self.secrets.watched(key, false, now);
        }
        let healed = self.invalid.remove(&(K::KIND, key.clone())).is_some();
        K::of_mut(&mut self.resources).remove(key).is_some() || healed
    }

    /// Takes in what became of a request; true if objects or findings are others now, or nothing is waited for any more.
    fn take_read<K: Kind>(&mut self, read: Read<K>) -> bool {
        let changed = match read {
            Read::Found(key, object) => self.store(key, *object),
            Read::Absent(key) => K::of_mut(&mut self.resources).remove(&key).is_some(),
            Read::Failed(new) => new,
        };
        let waits = self.unread() > 0;
        let waited = std::mem::replace(&mut self.waits, waits);
        changed || waited && !self.waits
    }

    /// How many objects that others refer to are not known yet.
    fn unread(&self) -> usize {
        self.secrets.unsettled() + self.config_maps.unsettled()
    }

    /// A watch that recovered has nothing to say; its trouble is over when it is not repeated.
    fn forget_troubles(&mut self, now: Instant) {
        for watch in self.watches.iter_mut().filter(|watch| watch.listed) {
            if watch.trouble.as_ref().is_some_and(|trouble| now.saturating_duration_since(trouble.last) > TROUBLE_MAX) {
                watch.trouble = None;
            }
        }
    }

    fn objects(&self, watch: &Watch) -> usize {
        struct Count<'v>(&'v View, &'v Watch, usize);
        impl kinds::Visitor for Count<'_> {
            fn visit<K: Kind>(&mut self) {
                if K::KIND == self.1.kind {
                    let objects = K::of(&self.0.resources);
                    self.2 =
                        if self.1.namespace.is_none() { objects.len() } else { objects.keys().filter(|key| self.1.covers(key)).count() };
                }
            }
        }
        let mut count = Count(self, watch, 0);
        kinds::each(&mut count);
        count.2
    }
}
