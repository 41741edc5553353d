//! An API server that does what a test says: real HTTP, real lists, watches and patches, and every way in which the real one fails.
//!
//! It keeps objects of any kind as JSON, numbers every change, and forgets history only when told to. What it does not do: validate,
//! convert, authorise beyond a token, or run controllers.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::sync::watch;

const TOKEN: &str = "a-token-for-tests";
/// How often a watch says how far it is.
const BOOKMARK: Duration = Duration::from_millis(200);

/// Plural, namespace and name.
type Key = (String, String, String);
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A running server; it ends with its owner.
pub struct FakeApi {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Counts whatever a watch may have to look at.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Key, Value>,
    history: Vec<Change>,
    /// Versions below are forgotten.
    oldest: u64,
    /// Who owns `status` of an object by server-side apply.
    owners: BTreeMap<Key, String>,
    seen: Vec<Seen>,
    faults: Faults,
    /// Watches of an earlier generation end.
    generation: u64,
}

struct Change {
    version: u64,
    kind: &'static str,
    key: Key,
    object: Value,
}

/// What a client asked for, and the status it got.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `list`, `watch`, `get`, `patch`, ...
    pub verb: &'static str,
    pub plural: String,
    pub path: String,
    pub status: u16,
}

/// How the server misbehaves at the moment.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Kinds that the client may not read, by plural.
    pub forbidden: BTreeSet<String>,
    /// Every request is answered with this status.
    pub refuse: Option<u16>,
    /// Nothing is answered, and watches are silent.
    pub stalled: bool,
    /// Connections are refused.
    pub offline: bool,
    /// Every watch is told that its version is gone.
    pub forgetful: bool,
    /// Lists of these kinds come back empty.
    pub empty: BTreeSet<String>,
    /// Objects in a page, whatever the client asks for.
    pub page: Option<usize>,
}

impl FakeApi {
    pub fn start() -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), changes: watch::channel(0).0 });
        shared.state().version = 1000;
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = std::sync::mpsc::channel();
        let server = shared.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = serve(server, bound) => {}
                    _ = stopped => {}
                }
            });
        });
        let address = address.recv().expect("the server binds");
        Self { shared, address, stop: Some(stop), thread: Some(thread) }
    }

    /// Writes a kubeconfig for this server.
    pub fn write_kubeconfig(&self, path: &Path) {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "corelane", "user": {"token": TOKEN}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "corelane"}}],
        });
        std::fs::write(path, config.to_string()).expect("a file can be written");
    }

    /// Creates or replaces an object.
    pub fn apply(&self, object: Value) {
        self.shared.change(|state| state.apply(object));
    }

    /// Creates or replaces every object of a file of YAML documents.
    pub fn apply_yaml(&self, text: &str) {
        for object in serde_saphyr::from_multiple::<Value>(text).expect("YAML").into_iter().filter(|object| !object.is_null()) {
            self.apply(object);
        }
    }

    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        self.shared.change(|state| state.delete(&key(plural, namespace, name)));
    }

    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.shared.state().objects.get(&key(plural, namespace, name)).cloned()
    }

    /// Changes how the server misbehaves.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.change(|state| change(&mut state.faults));
    }

    /// Ends every watch in order, as a server does after its timeout.
    pub fn close_watches(&self) {
        self.shared.change(|state| state.generation += 1);
    }

    /// Forgets all history: watches are told 410 in their stream, as etcd's compaction makes a server do.
    pub fn compact(&self) {
        self.shared.change(|state| {
            state.version += 1;
            state.oldest = state.version;
            state.history.clear();
        });
    }

    /// Forgets what was asked so far.
    pub fn forget_requests(&self) {
        self.shared.state().seen.clear();
    }

    /// What was asked, oldest first.
    pub fn requests(&self, verb: &str, plural: &str) -> Vec<Seen> {
        self.shared.state().seen.iter().filter(|seen| seen.verb == verb && seen.plural == plural).cloned().collect()
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock")
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn faults(&self) -> Faults {
        self.state().faults.clone()
    }

    /// Waits until the faults are as `wanted`.
    async fn until(&self, wanted: impl Fn(&Faults) -> bool) {
        let mut changes = self.changes.subscribe();
        while !wanted(&self.faults()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

impl State {
    fn apply(&mut self, mut object: Value) {
        let key = key_of(&object);
        self.version += 1;
        let old = self.objects.get(&key);
        let metadata = &mut object["metadata"];
        if !key.1.is_empty() {
            metadata["namespace"] = key.1.clone().into();
        }
        metadata["resourceVersion"] = self.version.to_string().into();
        metadata["uid"] = format!("uid-{}-{}-{}", key.0, key.1, key.2).into();
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        metadata["managedFields"] = json!([{"manager": "kubectl", "operation": "Update", "apiVersion": "v1"}]);
        // Writing the object leaves the status alone: it has a door of its own.
        if let (Some(status), true) = (old.map(|old| old["status"].clone()), object["status"].is_null())
            && !status.is_null()
        {
            object["status"] = status;
        }
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.objects.insert(key.clone(), object.clone());
        self.history.push(Change { version: self.version, kind, key, object });
    }

    fn delete(&mut self, key: &Key) {
        if let Some(mut object) = self.objects.remove(key) {
            self.version += 1;
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.history.push(Change { version: self.version, kind: "DELETED", key: key.clone(), object });
        }
    }

    /// Replaces the status; a write that changes nothing makes no version, as in the real one.
    fn set_status(&mut self, key: &Key, status: Value) -> Value {
        let Some(object) = self.objects.get_mut(key) else { return Value::Null };
        if object["status"] != status {
            self.version += 1;
            object["status"] = status;
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            let object = object.clone();
            self.history.push(Change { version: self.version, kind: "MODIFIED", key: key.clone(), object });
        }
        self.objects[key].clone()
    }
}

async fn serve(shared: Arc<Shared>, bound: std::sync::mpsc::Sender<SocketAddr>) {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
    loop {
        let listener = tokio::net::TcpListener::bind(address).await.expect("the port is free");
        address = listener.local_addr().expect("bound");
        let _heard_already = bound.send(address);
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((socket, _)) = accepted else { continue };
                    let shared = shared.clone();
                    connections.spawn(async move {
                        let service = service_fn(move |request| answer(shared.clone(), request));
                        drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await);
                    });
                }
                () = shared.until(|faults| faults.offline) => break,
            }
        }
        // Closes the listener, and every connection in the middle of whatever it does.
        drop((listener, connections));
        shared.until(|faults| !faults.offline).await;
    }
}

/// What a path and its query ask for.
struct Question {
    verb: &'static str,
    plural: String,
    namespace: Option<String>,
    name: Option<String>,
    subresource: Option<String>,
    query: BTreeMap<String, String>,
}

impl Question {
    fn parse(method: &Method, uri: &hyper::Uri) -> Option<Self> {
        let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
        let rest = match parts.split_first()? {
            (&"api", ["v1", rest @ ..]) => rest,
            (&"apis", [_group, _version, rest @ ..]) => rest,
            _ => return None,
        };
        let owned = |text: &&str| (*text).to_owned();
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(owned(namespace)), rest),
            rest => (None, rest),
        };
        let (plural, name, subresource) = (rest.first()?, rest.get(1).map(owned), rest.get(2).map(owned));
        let query: BTreeMap<String, String> = uri.query().unwrap_or_default().split('&').filter_map(pair).collect();
        let watches = query.get("watch").is_some_and(|watch| watch == "true" || watch == "1");
        let verb = match (method.as_str(), &name) {
            ("GET", None) if watches => "watch",
            ("GET", None) => "list",
            ("GET", Some(_)) => "get",
            ("PATCH", Some(_)) => "patch",
            ("PUT", Some(_)) => "update",
            _ => return None,
        };
        Some(Self { verb, plural: owned(plural), namespace, name, subresource, query })
    }

    fn selects(&self, key: &Key, object: &Value) -> bool {
        if key.0 != self.plural || self.namespace.as_ref().is_some_and(|namespace| *namespace != key.1) {
            return false;
        }
        let terms =
            |name: &str| self.query.get(name).map(|terms| terms.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default();
        let field = |term: String| match term.split_once('=') {
            Some(("metadata.name", name)) => key.2 == name.trim_start_matches('='),
            Some((field, wanted)) => object[field] == wanted.trim_start_matches('='),
            None => true,
        };
        let label = |term: String| match term.split_once('=') {
            Some((label, wanted)) => object["metadata"]["labels"][label] == wanted.trim_start_matches('='),
            None => object["metadata"]["labels"].get(&term).is_some(),
        };
        terms("fieldSelector").into_iter().all(field) && terms("labelSelector").into_iter().all(label)
    }

    fn key(&self) -> Key {
        key(&self.plural, self.namespace.as_deref().unwrap_or_default(), self.name.as_deref().unwrap_or_default())
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    shared.until(|faults| !faults.stalled).await;
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(|body| body.to_bytes()) else { return Ok(failure(400, "BadRequest", "no body")) };
    let Some(question) = Question::parse(&head.method, &head.uri) else {
        return Ok(failure(404, "NotFound", "the server could not find the requested resource"));
    };
    let authorization = head.headers.get("authorization").and_then(|value| value.to_str().ok());
    let faults = shared.faults();
    let response = if authorization != Some(&format!("Bearer {TOKEN}")) {
        failure(401, "Unauthorized", "Unauthorized")
    } else if let Some(status) = faults.refuse {
        failure(status, "Refused", "the test wants it so")
    } else if faults.forbidden.contains(&question.plural) {
        let message = format!("{} is forbidden: User \"corelane\" cannot {} resource", question.plural, question.verb);
        failure(403, "Forbidden", &message)
    } else {
        let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        match question.verb {
            "list" => list(&shared.state(), &question, &faults),
            "get" => shared.state().objects.get(&question.key()).map_or_else(|| not_found(&question), |object| reply(200, object)),
            "watch" => stream_changes(shared.clone(), &question),
            _ => write(&shared, &question, content_type, &body),
        }
    };
    let seen = Seen { verb: question.verb, plural: question.plural, path: head.uri.to_string(), status: response.status().as_u16() };
    shared.state().seen.push(seen);
    Ok(response)
}

fn list(state: &State, question: &Question, faults: &Faults) -> Response<Body> {
    let limit = question.query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let limit = faults.page.unwrap_or(limit);
    let skip: usize = question.query.get("continue").and_then(|token| token.parse().ok()).unwrap_or(0);
    let none = faults.empty.contains(&question.plural);
    let all: Vec<&Value> =
        state.objects.iter().filter(|(key, object)| !none && question.selects(key, object)).map(|(_, object)| object).collect();
    let items: Vec<&Value> = all.iter().skip(skip).take(limit).copied().collect();
    let mut metadata = json!({ "resourceVersion": state.version.to_string() });
    if skip + items.len() < all.len() {
        metadata["continue"] = (skip + items.len()).to_string().into();
        metadata["remainingItemCount"] = (all.len() - skip - items.len()).into();
    }
    // Items of a typed list do not repeat kind and version.
    let strip = |item: &&Value| {
        let mut item = (*item).clone();
        if let Some(fields) = item.as_object_mut() {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        item
    };
    reply(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items.iter().map(strip).collect::<Vec<_>>()}))
}

/// A watch under way.
struct Watching {
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
    question: Question,
    version: u64,
    generation: u64,
    ends: tokio::time::Instant,
    over: bool,
}

fn stream_changes(shared: Arc<Shared>, question: &Question) -> Response<Body> {
    let number = |name: &str| question.query.get(name).and_then(|text| text.parse::<u64>().ok());
    let generation = shared.state().generation;
    let watching = Watching {
        changes: shared.changes.subscribe(),
        version: number("resourceVersion").unwrap_or(0),
        generation,
        ends: tokio::time::Instant::now() + Duration::from_secs(number("timeoutSeconds").unwrap_or(300)),
        question: Question {
            verb: question.verb,
            plural: question.plural.clone(),
            namespace: question.namespace.clone(),
            name: None,
            subresource: None,
            query: question.query.clone(),
        },
        shared,
        over: false,
    };
    let lines = stream::unfold(watching, |mut watching| async move {
        let line = watching.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(line + "\n"))), watching))
    });
    let body = BodyExt::boxed_unsync(StreamBody::new(lines.fuse()));
    Response::builder().header("content-type", "application/json").body(body).expect("a response")
}

impl Watching {
    /// The next line; `None` ends the stream in order.
    async fn next(&mut self) -> Option<String> {
        loop {
            if self.over {
                return None;
            }
            if let Some(line) = self.due()? {
                return Some(line);
            }
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep(BOOKMARK) => if let Some(line) = self.bookmark() { return Some(line) },
                () = tokio::time::sleep_until(self.ends) => return None,
            }
        }
    }

    #[expect(clippy::option_option, reason = "ended, nothing to say, or a line")]
    fn due(&mut self) -> Option<Option<String>> {
        let state = self.shared.state();
        if state.faults.stalled {
            return Some(None);
        }
        if state.generation != self.generation {
            return None;
        }
        if state.faults.forgetful || self.version < state.oldest {
            self.over = true;
            let message = format!("too old resource version: {} ({})", self.version, state.version);
            return Some(Some(json!({"type": "ERROR", "object": status(410, "Expired", &message)}).to_string()));
        }
        let next = state.history.iter().find(|change| change.version > self.version && self.question.selects(&change.key, &change.object));
        Some(next.map(|change| {
            self.version = change.version;
            json!({"type": change.kind, "object": change.object}).to_string()
        }))
    }

    fn bookmark(&mut self) -> Option<String> {
        let state = self.shared.state();
        if state.faults.stalled || state.version == self.version || !self.question.query.contains_key("allowWatchBookmarks") {
            return None;
        }
        self.version = state.version;
        let object =
            json!({"kind": "Any", "apiVersion": "v1", "metadata": {"resourceVersion": state.version.to_string(), "annotations": {}}});
        Some(json!({"type": "BOOKMARK", "object": object}).to_string())
    }
}

fn write(shared: &Shared, question: &Question, content_type: &str, body: &[u8]) -> Response<Body> {
    let Ok(patch) = serde_json::from_slice::<Value>(body) else { return failure(400, "BadRequest", "the body is not JSON") };
    let key = question.key();
    let mut state = shared.state();
    let Some(object) = state.objects.get(&key).cloned() else { return not_found(question) };
    if question.subresource.as_deref() != Some("status") {
        return failure(405, "MethodNotAllowed", "only the status is written by controllers");
    }
    let status = match (question.verb, content_type) {
        ("patch", "application/apply-patch+yaml") => {
            let Some(manager) = question.query.get("fieldManager") else { return failure(400, "BadRequest", "fieldManager is required") };
            let force = question.query.get("force").is_some_and(|force| force == "true");
            let owner = state.owners.get(&key).filter(|owner| *owner != manager);
            if let (Some(owner), false) = (owner, force) {
                return failure(409, "Conflict", &format!("Apply failed with 1 conflict: conflict with {owner:?}"));
            }
            state.owners.insert(key.clone(), manager.clone());
            merged(object["status"].clone(), &patch["status"])
        }
        ("patch", "application/merge-patch+json") => merged(object["status"].clone(), &patch["status"]),
        ("update", _) if patch["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] => {
            return failure(409, "Conflict", "the object has been modified; please apply your changes to the latest version and try again");
        }
        ("update", _) => patch["status"].clone(),
        _ => return failure(415, "UnsupportedMediaType", content_type),
    };
    let object = state.set_status(&key, status);
    drop(state);
    shared.changes.send_modify(|changes| *changes += 1);
    reply(200, &object)
}

/// RFC 7396: lists are replaced whole, as an atomic list is by server-side apply.
fn merged(old: Value, patch: &Value) -> Value {
    let Value::Object(fields) = patch else { return patch.clone() };
    let mut new = if let Value::Object(old) = old { old } else { serde_json::Map::new() };
    for (name, value) in fields {
        if value.is_null() {
            new.remove(name);
        } else {
            let old = new.remove(name).unwrap_or_default();
            new.insert(name.clone(), merged(old, value));
        }
    }
    Value::Object(new)
}

fn key(plural: &str, namespace: &str, name: &str) -> Key {
    (plural.to_owned(), namespace.to_owned(), name.to_owned())
}

fn key_of(object: &Value) -> Key {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]).to_lowercase();
    let plural = if kind.ends_with("ss") { format!("{kind}es") } else { format!("{kind}s") };
    let cluster_wide = ["nodes", "namespaces", "ingressclasses"].contains(&plural.as_str());
    let mut namespace = text(&object["metadata"]["namespace"]);
    if namespace.is_empty() && !cluster_wide {
        namespace = "default".to_owned();
    }
    assert!(!cluster_wide || namespace.is_empty(), "{kind} has no namespace");
    (plural, namespace, text(&object["metadata"]["name"]))
}

/// `a=b` of a query, unescaped.
fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            other => *other,
        });
    }
    Some((name.to_owned(), String::from_utf8(bytes).ok()?))
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code})
}

fn failure(code: u16, reason: &str, message: &str) -> Response<Body> {
    reply(code, &status(code, reason, message))
}

fn not_found(question: &Question) -> Response<Body> {
    let (plural, _, name) = question.key();
    failure(404, "NotFound", &format!("{plural} {name:?} not found"))
}

fn reply(code: u16, value: &Value) -> Response<Body> {
    let body = BodyExt::boxed_unsync(Full::new(Bytes::from(value.to_string())));
    Response::builder().status(code).header("content-type", "application/json").body(body).expect("a response")
}
