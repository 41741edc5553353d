//! The life of a request: head, route, filters, then an answer of our own or an exchange with an endpoint, and one line of log.

use std::io;
use std::rc::Rc;

use crate::filter;
use crate::filter::Admission;
use crate::filter::Answer;
use crate::filter::Facts;
use crate::filter::Passage;
use crate::filter::PasswordCheck;
use crate::filter::ResponseFacts;
use crate::filter::Verdict;
use crate::http::fault::DownstreamFault;
use crate::http::fault::Fault;
use crate::http::h1::parse;
use crate::http::head::Framing;
use crate::http::head::RequestHead;
use crate::http::head::field_storage;
use crate::net::stream::Filled;
use crate::route::Lookup;
use crate::shard::answer;
use crate::shard::client::After;
use crate::shard::client::Connection;
use crate::shard::client::InState;
use crate::shard::client::WRITE_IDLE_MS_MAX;
use crate::shard::exchange;
use crate::shard::plan::Asker;
use crate::shard::plan::Plan;
use crate::shard::record::Record;
use crate::shard::state::Shard;
use crate::shard::world::World;
use crate::snapshot::Snapshot;
use crate::snapshot::rule::Host;
use crate::snapshot::rule::RuleId;
use crate::snapshot::settings::Settings;
use crate::telemetry::metrics::ConnectionState;

/// Answers to requests in a row that may wait to leave together.
const ANSWERS_AHEAD_MAX: u32 = 64;

/// What the bytes at hand amount to.
enum Step {
    /// The head is not complete.
    More,
    Fault(DownstreamFault),
    Answer {
        answer: Answer,
        to: Asker,
    },
    Verify(PasswordCheck),
    Forward(Plan),
}

/// What a request has come to before an endpoint is asked.
enum Prepared {
    Forward {
        plan: Plan,
        world: Rc<World>,
    },
    Answered {
        after: After,
        world: Rc<World>,
    },
    /// The client has left before it had asked for anything.
    Gone,
}

/// Serves the next request of a connection.
pub(crate) async fn serve(shard: &Rc<Shard>, connection: &mut Connection) -> After {
    let begun =
        if connection.stream.data().is_empty() { wait_for_request(shard, connection).await } else { wait_for_room(connection).await };
    if begun.is_none() {
        return After::Close;
    }
    let mut record = Record::new(shard.ring.now_us());
    let (after, world) = match prepare(shard, connection, &mut record).await {
        Prepared::Forward { mut plan, world } => {
            connection.requests += 1;
            exchange::run(shard, connection, world, &mut plan, &mut record).await
        }
        Prepared::Answered { after, world } => (after, Some(world)),
        Prepared::Gone => return After::Close,
    };
    record.finish(shard, connection, world.as_deref());
    after
}

/// Reads a head, finds its rule and asks the filters; answers at once what no endpoint has to be asked for.
async fn prepare(shard: &Rc<Shard>, connection: &mut Connection, record: &mut Record) -> Prepared {
    let mut head_deadline_ms = None;
    let mut verified = false;
    let mut admission = None;
    loop {
        let world = shard.world();
        let step = examine(shard, &world, connection, record, &mut admission);
        if !matches!(step, Step::Verify(_)) {
            give_back(shard, &mut admission);
        }
        match step {
            Step::Forward(plan) => return Prepared::Forward { plan, world },
            Step::Answer { answer, to } => {
                connection.requests += 1;
                return Prepared::Answered { after: answer::local(shard, connection, &world, &answer, &to, record), world };
            }
            Step::Verify(check) => {
                // Once is enough: the filters remember the result.
                if verified || !shard.verify_password(check).await {
                    record.flag("password_check_overloaded");
                    give_back(shard, &mut admission);
                    return Prepared::Answered { after: answer::fault(shard, connection, &world, answer::OVERLOADED, record), world };
                }
                verified = true;
            }
            Step::Fault(fault) => {
                return Prepared::Answered { after: answer::fault(shard, connection, &world, Fault::Downstream(fault), record), world };
            }
            Step::More => {
                let now_ms = shard.ring.now_ms();
                let head_timeout_ms = world.snapshot().settings.head_timeout.as_millis() as u64;
                // Absolute: a byte now and then does not move it.
                let end_ms = *head_deadline_ms.get_or_insert(now_ms + head_timeout_ms);
                connection.stream.socket().set_deadline(end_ms.saturating_sub(now_ms));
                match connection.stream.fill().await {
                    Ok(Filled::More) if shard.ring.now_ms() < end_ms => {}
                    Ok(Filled::End) => return Prepared::Gone,
                    Err(error) if error.kind() != io::ErrorKind::TimedOut => return Prepared::Gone,
                    Ok(Filled::More) | Err(_) => {
                        let fault = Fault::Downstream(DownstreamFault::HeadTimeout);
                        return Prepared::Answered { after: answer::fault(shard, connection, &world, fault, record), world };
                    }
                }
            }
        }
    }
}

/// A request that was let in ends without an exchange.
fn give_back(shard: &Shard, admission: &mut Option<Admission>) {
    if let Some(admission) = admission.take() {
        shard.filters.borrow_mut().release(admission);
    }
}

/// Waits, holding nothing, until the first byte of a request; `None` where none comes.
async fn wait_for_request(shard: &Rc<Shard>, connection: &mut Connection) -> Option<()> {
    let world = shard.world();
    let settings = &world.snapshot().settings;
    let patience = if connection.requests == 0 { settings.head_timeout } else { settings.keep_alive };
    let patience_ms = patience.as_millis() as u64;
    drop(world);
    let _idle = InState::new(shard, connection.listener, ConnectionState::Idle);
    let socket = connection.stream.socket();
    socket.set_deadline(patience_ms);
    socket.set_idle(true);
    let filled = connection.stream.fill().await;
    connection.stream.socket().set_idle(false);
    match filled {
        Ok(Filled::More) => Some(()),
        Ok(Filled::End) | Err(_) => None,
    }
}

/// Waits until a client that sends one request after the other takes the answers; `None` where it does not.
///
/// Without it a client that only sends would have its answers pile up here, and one that is quick would have the shard to itself.
async fn wait_for_room(connection: &Connection) -> Option<()> {
    connection.stream.socket().set_deadline(WRITE_IDLE_MS_MAX);
    if connection.requests.is_multiple_of(ANSWERS_AHEAD_MAX) {
        connection.stream.flushed().await.ok()
    } else {
        connection.stream.writable().await.ok()
    }
}

/// Parses, routes and filters: no await, so that the head can stay borrowed from the bytes it came in.
fn examine(shard: &Shard, world: &World, connection: &Connection, record: &mut Record, admission: &mut Option<Admission>) -> Step {
    let snapshot = world.snapshot();
    let mut storage = field_storage();
    let head = match parse::request(connection.stream.data(), &mut storage, &shard.config.limits) {
        Ok(Some(head)) => head,
        Ok(None) => return Step::More,
        Err(fault) => return Step::Fault(fault),
    };
    let request_id = filter::headers::request_id(&head, &snapshot.settings, [shard.random(), shard.random()]);
    if shard.access_log_on {
        record.keep(&head, request_id.as_bytes(), shard);
    }
    let keep_alive = head.keep_alive && !shard.draining.get() && connection.requests + 1 < snapshot.settings.keep_alive_requests;
    let asker = |facts: ResponseFacts| Asker {
        head_bytes: head.bytes,
        framing: head.framing,
        keep_alive,
        is_head: head.method == b"HEAD",
        version: head.version,
        facts,
    };
    if let Some(refusal) = head.refusal {
        let mut answer = Answer::plain(refusal.status().unwrap_or(400), refusal.reason());
        if answer.status == 405 {
            // RFC 9110 section 15.5.6: it says what is allowed.
            answer.fields.push(("Allow", b"GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS".to_vec()));
        }
        return Step::Answer { answer, to: asker(ResponseFacts::without_rule(&head, connection.stream.is_tls())) };
    }
    let Some((host, rule_id)) = route(snapshot, &head) else {
        let answer = if *head.path == *b"*" { Answer::plain(200, "options") } else { Answer::plain(404, "no_route") };
        return Step::Answer { answer, to: asker(ResponseFacts::without_rule(&head, connection.stream.is_tls())) };
    };
    record.rule = Some(rule_id);
    let rule = snapshot.rule(rule_id);
    let facts = Facts {
        head: &head,
        client: connection.client.ip(),
        peer_trusted: is_trusted(&snapshot.settings, connection),
        tls: connection.stream.is_tls(),
        came_over_https: connection.came_over_https,
        http_port: shard.http_port,
        https_port: shard.https_port,
        host,
        rule,
        settings: &snapshot.settings,
        now_us: shard.host_us(),
        random: shard.random(),
    };
    // Before the filters, as nginx: what they lend a request (a place among its connections) would have to be given back.
    if let (Framing::Length(length), Some(most)) = (head.framing, rule.policy.body_bytes_max)
        && length > most
    {
        let answer = Answer::plain(413, DownstreamFault::BodyTooLarge.reason());
        return Step::Answer { answer, to: asker(ResponseFacts::new(&facts)) };
    }
    let passage = match filter::on_request(&facts, &mut shard.filters.borrow_mut(), admission) {
        Verdict::Continue(passage) => passage,
        Verdict::Answer(answer) => return Step::Answer { answer, to: asker(ResponseFacts::new(&facts)) },
        Verdict::VerifyPassword(check) => return Step::Verify(check),
    };
    Step::Forward(plan(&facts, passage, rule_id, request_id.as_bytes(), keep_alive, shard.ring.spare()))
}

/// Writes the head for the upstream into `out`, and keeps what the exchange will ask.
fn plan(facts: &Facts<'_, '_, '_>, passage: Passage, rule: RuleId, request_id: &[u8], keep_alive: bool, mut out: Vec<u8>) -> Plan {
    let head = facts.head;
    filter::headers::write_upstream_head(&mut out, facts, &passage, request_id, head.framing, head.upgrades_to_websocket);
    Plan {
        head: out,
        head_bytes: head.bytes,
        framing: head.framing,
        rule,
        cluster: passage.cluster,
        version: head.version,
        keep_alive,
        is_head: head.method == b"HEAD",
        idempotent: matches!(head.method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE"),
        expects_continue: head.expects_continue,
        upgrades: head.upgrades_to_websocket,
        facts: ResponseFacts::new(facts),
        admission: passage.admission,
    }
}

/// The host and the rule of a request; `None` where nobody serves it.
fn route<'s>(snapshot: &'s Snapshot, head: &RequestHead<'_, '_>) -> Option<(&'s Host, RuleId)> {
    match snapshot.routes.find(head.host, &head.path) {
        Lookup::Rule { host, rule } => Some((host, *rule)),
        Lookup::NoPath { host } => Some((host, host.default_rule.or(snapshot.default_rule)?)),
        Lookup::NoHost => {
            static NOBODY: std::sync::LazyLock<Host> =
                std::sync::LazyLock::new(|| Host { name: "".into(), tls: false, app_root: None, default_rule: None });
            Some((&NOBODY, snapshot.default_rule?))
        }
    }
}

/// Whether what the peer says about its client is believed.
fn is_trusted(settings: &Settings, connection: &Connection) -> bool {
    settings.use_forwarded_headers && (settings.trusted.is_empty() || crate::snapshot::rule::contains(&settings.trusted, connection.peer))
}
