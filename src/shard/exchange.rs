//! One request at an endpoint: pick, borrow, send, wait, answer. The bounded retry loop stands in `Exchange::try_endpoints`.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use smallvec::SmallVec;

use crate::filter;
use crate::filter::Admission;
use crate::http::body::BodyDecoder;
use crate::http::fault::DownstreamFault;
use crate::http::fault::Fault;
use crate::http::fault::Sent;
use crate::http::fault::UpstreamFault;
use crate::http::h1::encode;
use crate::http::h1::parse;
use crate::http::head::Framing;
use crate::http::head::ResponseHead;
use crate::http::head::Version;
use crate::http::head::field_storage;
use crate::net::slot::Out;
use crate::net::stream::Filled;
use crate::shard::answer;
use crate::shard::answer::Asked;
use crate::shard::client::After;
use crate::shard::client::Connection;
use crate::shard::client::InState;
use crate::shard::client::WRITE_IDLE_MS_MAX;
use crate::shard::dial;
use crate::shard::lease::Lease;
use crate::shard::plan::Plan;
use crate::shard::record::Record;
use crate::shard::relay;
use crate::shard::relay::Upload;
use crate::shard::state::Shard;
use crate::shard::tunnel;
use crate::shard::world::World;
use crate::snapshot::Snapshot;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::rule::Retry;
use crate::snapshot::rule::Rule;
use crate::telemetry::metrics::ConnectionState;
use crate::upstream::balance::Failure;

/// Interim answers that one request may get.
const INTERIM_MAX: u32 = 16;
/// An endpoint that takes no content is given this much longer than a client that sends none, in milliseconds: whose fault it
/// is shows in who is silent first.
const SEND_SLACK_MS: u64 = 5000;

/// What went wrong, and whether the client has seen part of an answer.
struct Failed {
    fault: Fault,
    answered: bool,
}

/// How one try ended well.
enum Done {
    Answered(After),
    /// The endpoint answered a status that counts as a failed try; nothing of it was forwarded.
    TryNext,
    /// The protocol was switched: bytes are carried from here on.
    Switched(Box<Lease>),
}

/// What the exchange waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// Bytes from the endpoint.
    Bytes,
    /// Room towards the client.
    Room,
}

enum Event {
    Endpoint(io::Result<Filled>),
    Room(io::Result<()>),
    Client(io::Result<Filled>),
    /// The client's content and the endpoint's room are both here.
    Upload,
    UploadRefused,
}

/// What an endpoint made of a request.
enum Outcome {
    /// Answered to the end; `reusable` says whether the connection is as good as before.
    Answered {
        after: After,
        reusable: bool,
    },
    TryNext,
    Switch,
}

/// What became of the bytes of a response head.
enum Answered {
    /// An interim answer, dealt with.
    Interim,
    Switch,
    TryNext,
    Final {
        framing: Framing,
        chunked: bool,
        reusable: bool,
        keep_alive: bool,
        head: Vec<u8>,
    },
}

struct Exchange<'x> {
    shard: &'x Rc<Shard>,
    client: &'x mut Connection,
    snapshot: &'x Snapshot,
    rule: &'x Rule,
    plan: &'x mut Plan,
    record: &'x mut Record,
    upload: Upload,
    retries: RetryGrants,
}

/// Forwards a request and its answer; gives the world back as long as the record still needs it.
///
/// What it is lent stays where it is: a future that owned it would hold it twice, and this one is part of every connection's task.
pub(crate) async fn run(
    shard: &Rc<Shard>,
    client: &mut Connection,
    world: Rc<World>,
    plan: &mut Plan,
    record: &mut Record,
) -> (After, Option<Rc<World>>) {
    let snapshot = world.snapshot();
    let rule = snapshot.rule(plan.rule);
    let upload = Upload::new(plan.framing, rule.policy.body_bytes_max, shard.ring.now_us());
    client.stream.consume(plan.head_bytes);
    record.bytes_in += plan.head_bytes as u64;
    // A tunnel is as long as its connection: it keeps its place under `limit-connections` to the end.
    let _admitted = plan.admission.take().map(|admission| Admitted { shard: shard.clone(), admission: Some(admission) });
    let retries = RetryGrants::begin(shard);
    let mut exchange = Exchange { shard, client, snapshot, rule, plan, record, upload, retries };
    let result = exchange.try_endpoints().await;
    let complete = exchange.upload.is_done();
    drop(exchange);
    shard.ring.recycle(std::mem::take(&mut plan.head));
    let after = match result {
        Ok(Done::Switched(lease)) => {
            let idle_timeout = rule.policy.timeouts.read.max(rule.policy.timeouts.send);
            record.detach(&world);
            // A tunnel may live for days: it must not keep a snapshot alive.
            drop(world);
            let _tunnel = InState::new(shard, client.listener, ConnectionState::Tunnel);
            let mut endpoint = lease.into_stream();
            let carried = tunnel::run(&mut client.stream, &mut endpoint, idle_timeout).await;
            record.bytes_in += carried.bytes_in;
            record.bytes_out += carried.bytes_out;
            if carried.idle_timeout {
                record.flag("tunnel_idle");
            }
            return (After::Close, None);
        }
        Ok(Done::Answered(after)) => after,
        // Never out of `try_endpoints`, which counts the tries; answered as what it is.
        Ok(Done::TryNext) => answer::fault(shard, client, &world, answer::OVERLOADED, record),
        Err(Failed { fault, answered: false }) => {
            let asked = Asked {
                keep_alive: plan.keep_alive && complete && matches!(fault, Fault::Upstream { .. }),
                head_only: plan.is_head,
                http10: plan.version == Version::Http10,
                complete,
            };
            answer::fault_to(shard, client, &world, fault, &plan.facts, asked, record)
        }
        Err(Failed { fault, answered: true }) => {
            record.flag(fault.reason());
            // A close-delimited answer that ends early can only be told from a complete one by a reset.
            if plan.version == Version::Http10 { After::Reset } else { After::Close }
        }
    };
    (after, Some(world))
}

impl Exchange<'_> {
    async fn try_endpoints(&mut self) -> Result<Done, Failed> {
        let retry = self.rule.policy.retry;
        let Some(cluster) = self.snapshot.cluster(self.plan.cluster) else { return Err(no_endpoint(None)) };
        let pool = self.shard.cluster_pool(self.plan.cluster);
        pool.reconcile(cluster);
        self.upload.append_to(&mut self.plan.head, &mut self.client.stream).map_err(downstream)?;
        // What fits into one buffer can be sent again as it was.
        let resendable = self.upload.is_done();
        let repeatable = resendable && (self.plan.idempotent || retry.non_idempotent);
        let started_us = self.shard.ring.now_us();
        let mut excluded = SmallVec::<[u16; 4]>::new();
        let mut fresh_only = false;
        let mut failed_before = None;
        let mut retried_for = None;
        loop {
            let now_us = self.shard.ring.now_us();
            let random = self.shard.random();
            let Some(endpoint) = pool.pick(cluster, &self.snapshot.health, now_us, random, &excluded) else {
                // Everybody was asked: the last failure is the answer.
                return Err(failed_before.unwrap_or_else(|| no_endpoint(cluster.refusal)));
            };
            let address = cluster.endpoints[endpoint].address;
            if !excluded.is_empty() && !self.retries.grant(pool.is_suspect(endpoint, now_us)) {
                self.record.flag("retry_budget");
                return Err(failed_before.unwrap_or_else(|| before_answer(UpstreamFault::ConnectFailed, Sent::Nothing)));
            }
            let last = self.begin_try(address, retried_for.take(), now_us - started_us);
            let connect = self.rule.policy.timeouts.connect;
            let mut lease = match dial::lease(self.shard, &pool, cluster, &self.snapshot.settings, endpoint, connect, fresh_only).await {
                Ok(lease) => lease,
                Err(fault) => {
                    pool.connect_failed(address, fault, self.shard.ring.now_us());
                    excluded.push(endpoint as u16);
                    if last || !retry.on_error {
                        return Err(before_answer(fault, Sent::Nothing));
                    }
                    retried_for = Some("connect_failed");
                    failed_before = Some(before_answer(fault, Sent::Nothing));
                    continue;
                }
            };
            let reused = lease.reused;
            let bytes = if repeatable && (!last || reused) { self.copy_of_head() } else { std::mem::take(&mut self.plan.head) };
            // Where nobody is left to ask, the answer is forwarded as it is.
            let may_try_next = repeatable && !last && excluded.len() + 1 < cluster.endpoints.len();
            let result = self.one_try(&mut lease, bytes, may_try_next).await;
            let failed = match self.settle(cluster, lease, result) {
                Ok(Done::TryNext) => {
                    excluded.push(endpoint as u16);
                    retried_for = Some("status");
                    continue;
                }
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            // An endpoint may close a kept connection in the very moment it is used again: that is nobody's fault.
            let stale = reused && !fresh_only && matches!(failed.fault, Fault::Upstream { fault: UpstreamFault::Closed, .. });
            if failed.answered || !repeatable || !(stale || (!last && wants_retry(&retry, failed.fault))) {
                return Err(failed);
            }
            retried_for = Some(failed.fault.reason());
            if stale {
                fresh_only = true;
            } else {
                excluded.push(endpoint as u16);
                failed_before = Some(failed);
            }
        }
    }

    /// Counts a try, now that there is an endpoint for it, and not where everybody was asked; true where it is the last.
    fn begin_try(&mut self, address: SocketAddr, retried_for: Option<&'static str>, tried_us: u64) -> bool {
        self.record.attempts += 1;
        self.record.upstream = Some(address);
        if let Some(reason) = retried_for {
            self.shard.metrics.retried(reason);
        }
        let retry = &self.rule.policy.retry;
        self.record.attempts >= retry.tries || (!retry.timeout.is_zero() && u128::from(tried_us) >= retry.timeout.as_micros())
    }

    fn copy_of_head(&self) -> Vec<u8> {
        let mut copy = self.shard.ring.spare();
        copy.extend_from_slice(&self.plan.head);
        copy
    }

    /// Sends the request over one connection and brings the answer home.
    async fn one_try(&mut self, lease: &mut Lease, bytes: Vec<u8>, may_try_next: bool) -> Result<Outcome, Failed> {
        let _in_flight = InFlight::new(self.shard);
        let sent_us = self.shard.ring.now_us();
        self.record.upstream_connect_us = lease.connect_us;
        self.record.upstream_status = None;
        lease.stream.queue(Out::Vec(bytes)).map_err(|_| before_answer(UpstreamFault::Closed, Sent::Some))?;
        if self.plan.expects_continue && !self.upload.is_done() && self.client.stream.data().is_empty() {
            self.plan.expects_continue = false;
            let _gone = self.client.stream.queue(Out::Static(b"HTTP/1.1 100 Continue\r\n\r\n"));
        }
        let result = self.answer(lease, may_try_next, sent_us).await;
        self.record.upstream_us = Some(self.shard.ring.now_us() - sent_us);
        result
    }

    /// Decides what becomes of the connection after a try.
    fn settle(&self, cluster: &Arc<Cluster>, mut lease: Lease, result: Result<Outcome, Failed>) -> Result<Done, Failed> {
        match result {
            Ok(Outcome::Answered { after, reusable }) => {
                if reusable && self.upload.is_done() {
                    lease.give_back(cluster, &self.snapshot.settings, self.shard.ring.now_ms());
                }
                Ok(Done::Answered(after))
            }
            Ok(Outcome::Switch) => Ok(Done::Switched(Box::new(lease))),
            Ok(Outcome::TryNext) => {
                lease.failed(Failure::Status, self.shard.ring.now_us());
                Ok(Done::TryNext)
            }
            Err(failed) => {
                if let Fault::Upstream { fault, .. } = failed.fault {
                    let failure = if fault == UpstreamFault::Timeout { Failure::Timeout } else { Failure::Broken };
                    lease.failed(failure, self.shard.ring.now_us());
                }
                Err(failed)
            }
        }
    }

    /// Reads the answer and writes it to the client.
    async fn answer(&mut self, lease: &mut Lease, may_try_next: bool, sent_us: u64) -> Result<Outcome, Failed> {
        let mut interim = 0;
        let (framing, chunked, reusable, keep_alive, head) = loop {
            if !lease.stream.data().is_empty() {
                match self.read_head(lease, may_try_next).map_err(|fault| before_answer(fault, Sent::Some))? {
                    Some(Answered::Final { framing, chunked, reusable, keep_alive, head }) => {
                        break (framing, chunked, reusable, keep_alive, head);
                    }
                    Some(Answered::Interim) => {
                        interim += 1;
                        if interim > INTERIM_MAX {
                            return Err(before_answer(UpstreamFault::MalformedResponse, Sent::Some));
                        }
                        continue;
                    }
                    Some(Answered::Switch) => return Ok(Outcome::Switch),
                    Some(Answered::TryNext) => return Ok(Outcome::TryNext),
                    None => {}
                }
            }
            if self.wait(lease, Want::Bytes).await.map_err(|fault| Failed { fault, answered: false })? == Filled::End {
                return Err(before_answer(UpstreamFault::Closed, Sent::Some));
            }
        };
        let now_us = self.shard.ring.now_us();
        self.record.upstream_first_byte_us = Some(now_us - sent_us);
        lease.answered(now_us);
        let mut body = BodyDecoder::new(framing);
        let result = self.carry(lease, &mut body, framing, chunked, head).await;
        result.map_err(|fault| Failed { fault, answered: true })?;
        let after = match (self.upload.is_done(), keep_alive) {
            (false, _) => After::Linger,
            (true, true) => After::KeepAlive,
            (true, false) => After::Close,
        };
        Ok(Outcome::Answered { after, reusable: reusable && framing != Framing::UntilClose })
    }

    /// Carries the content of the answer, with `head` in front of it, while the client may still be sending its own.
    async fn carry(
        &mut self,
        lease: &mut Lease,
        body: &mut BodyDecoder,
        framing: Framing,
        chunked: bool,
        head: Vec<u8>,
    ) -> Result<(), Fault> {
        const TRUNCATED: Fault = Fault::Upstream { fault: UpstreamFault::Truncated, sent: Sent::Some };
        let mut out = head;
        loop {
            let moved = relay::relay(body, &mut lease.stream, &mut self.client.stream, out, chunked).map_err(|_| TRUNCATED)?;
            self.record.bytes_out += moved;
            if body.is_done() {
                return Ok(());
            }
            if lease.stream.data().is_empty() {
                let filled = match self.wait(lease, Want::Bytes).await {
                    Ok(filled) => filled,
                    Err(Fault::Upstream { .. }) => return Err(TRUNCATED),
                    Err(fault) => return Err(fault),
                };
                if filled == Filled::End {
                    if framing != Framing::UntilClose || lease.stream.is_cut() {
                        return Err(TRUNCATED);
                    }
                    if chunked {
                        let _gone = self.client.stream.queue(Out::Static(encode::LAST_CHUNK));
                    }
                    return Ok(());
                }
            }
            self.wait(lease, Want::Room).await?;
            out = Vec::new();
        }
    }

    /// Reads the head at the front of the endpoint's bytes, if it is complete, and makes the client's head of it.
    fn read_head(&mut self, lease: &mut Lease, may_try_next: bool) -> Result<Option<Answered>, UpstreamFault> {
        let mut storage = field_storage();
        let parsed = parse::response(lease.stream.data(), &mut storage, &self.shard.config.limits, self.plan.is_head)?;
        let Some(response) = parsed else { return Ok(None) };
        let bytes = response.bytes;
        let answered = match response.status {
            101 if self.plan.upgrades && response.upgrades_to_websocket => {
                let mut head = self.shard.ring.spare();
                self.write_head(&mut head, &response, Framing::Empty, true, true);
                self.record.status = 101;
                self.record.upstream_status = Some(101);
                let _gone = self.client.stream.queue(Out::Vec(head));
                Answered::Switch
            }
            101 => return Err(UpstreamFault::MalformedResponse),
            100..=199 => {
                // 100 was answered by us where it was asked for; an HTTP/1.0 client knows none of them.
                if response.status != 100 && self.plan.version == Version::Http11 {
                    let mut head = self.shard.ring.spare();
                    encode::status_line(&mut head, response.status, response.reason);
                    for field in response.end_to_end() {
                        encode::field(&mut head, field.name.as_bytes(), field.value);
                    }
                    encode::end(&mut head);
                    let _gone = self.client.stream.queue(Out::Vec(head));
                }
                Answered::Interim
            }
            status if may_try_next && counts_as_failure(&self.rule.policy.retry, status) => Answered::TryNext,
            status => {
                let (framing, chunked) = match (response.framing, self.plan.version) {
                    (Framing::Chunked | Framing::UntilClose, Version::Http11) => (Framing::Chunked, true),
                    (Framing::Chunked | Framing::UntilClose, Version::Http10) => (Framing::UntilClose, false),
                    (framing, _) => (framing, false),
                };
                let keep_alive =
                    self.plan.keep_alive && !self.shard.draining.get() && framing != Framing::UntilClose && self.upload.is_done();
                let mut head = self.shard.ring.spare();
                self.write_head(&mut head, &response, framing, keep_alive, false);
                self.record.status = status;
                self.record.upstream_status = Some(status);
                Answered::Final { framing: response.framing, chunked, reusable: response.keep_alive, keep_alive, head }
            }
        };
        lease.stream.consume(bytes);
        Ok(Some(answered))
    }

    fn write_head(&self, out: &mut Vec<u8>, response: &ResponseHead<'_, '_>, framing: Framing, keep_alive: bool, upgrade: bool) {
        let to = filter::ResponseTo {
            facts: &self.plan.facts,
            policy: &self.rule.policy,
            settings: &self.snapshot.settings,
            framing,
            keep_alive,
            http10: self.plan.version == Version::Http10,
            upgrade,
        };
        self.shard.with_date(|date| filter::headers::write_downstream_head(out, response, &to, date));
    }

    /// Waits for what is wanted, and meanwhile carries the client's content to the endpoint.
    async fn wait(&mut self, lease: &mut Lease, want: Want) -> Result<Filled, Fault> {
        loop {
            self.set_deadlines(lease, want);
            let uploading = self.upload.is_open();
            let client = &mut self.client.stream;
            let endpoint = &mut lease.stream;
            let event = std::future::poll_fn(|context| {
                match want {
                    Want::Bytes => {
                        if let Poll::Ready(filled) = endpoint.poll_fill(context) {
                            return Poll::Ready(Event::Endpoint(filled));
                        }
                    }
                    Want::Room => {
                        if let Poll::Ready(room) = client.poll_writable(context) {
                            return Poll::Ready(Event::Room(room));
                        }
                    }
                }
                if uploading {
                    match endpoint.poll_writable(context) {
                        Poll::Ready(Ok(())) if !client.data().is_empty() => return Poll::Ready(Event::Upload),
                        Poll::Ready(Ok(())) => return client.poll_fill(context).map(Event::Client),
                        Poll::Ready(Err(_)) => return Poll::Ready(Event::UploadRefused),
                        Poll::Pending => {}
                    }
                } else if want == Want::Bytes && client.data().is_empty() && !client.is_ended() {
                    // Whoever resets the connection no longer waits for the answer.
                    return client.poll_fill(context).map(Event::Client);
                }
                Poll::Pending
            })
            .await;
            match event {
                Event::Endpoint(Ok(filled)) => return Ok(filled),
                Event::Endpoint(Err(error)) => {
                    let fault = if error.kind() == io::ErrorKind::TimedOut { UpstreamFault::Timeout } else { UpstreamFault::Closed };
                    return Err(Fault::Upstream { fault, sent: Sent::Some });
                }
                Event::Room(Ok(())) => return Ok(Filled::More),
                Event::Upload => {
                    let moved = self.upload.carry(&mut self.client.stream, &mut lease.stream, self.shard.ring.now_us());
                    self.record.bytes_in += moved.map_err(Fault::Downstream)?;
                }
                // It may have answered before it stopped reading: that answer is on its way.
                Event::UploadRefused => self.upload.refuse(),
                Event::Client(Ok(Filled::More)) => {}
                // Half closed after a complete request: it still waits for its answer.
                Event::Client(Ok(Filled::End)) if !uploading => {}
                Event::Client(Err(error)) if uploading && error.kind() == io::ErrorKind::TimedOut => {
                    return Err(Fault::Downstream(DownstreamFault::BodyTimeout));
                }
                Event::Client(_) | Event::Room(Err(_)) => return Err(Fault::Downstream(DownstreamFault::Gone)),
            }
        }
    }

    fn set_deadlines(&self, lease: &Lease, want: Want) {
        let timeouts = &self.rule.policy.timeouts;
        let client = self.client.stream.socket();
        if want == Want::Room {
            client.set_deadline(WRITE_IDLE_MS_MAX);
        } else if self.upload.is_open() {
            client.set_deadline(self.snapshot.settings.body_timeout.as_millis() as u64);
        } else {
            client.clear_deadline();
        }
        let patience_ms = if self.upload.is_open() {
            timeouts.send.max(self.snapshot.settings.body_timeout).as_millis() as u64 + SEND_SLACK_MS
        } else {
            timeouts.read.as_millis() as u64
        };
        lease.stream.socket().set_deadline(patience_ms);
    }
}

/// What the limits let in, given back however the request ends.
struct Admitted {
    shard: Rc<Shard>,
    admission: Option<Admission>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            self.shard.filters.borrow_mut().release(admission);
        }
    }
}

/// A request's share in the retry budget of its shard.
struct RetryGrants {
    shard: Rc<Shard>,
    granted: u32,
}

impl RetryGrants {
    fn begin(shard: &Rc<Shard>) -> Self {
        shard.retry_budget.borrow_mut().begin();
        Self { shard: shard.clone(), granted: 0 }
    }

    fn grant(&mut self, suspect: bool) -> bool {
        let granted = self.shard.retry_budget.borrow_mut().grant(suspect);
        self.granted += u32::from(granted && suspect);
        granted
    }
}

impl Drop for RetryGrants {
    fn drop(&mut self) {
        self.shard.retry_budget.borrow_mut().end(self.granted);
    }
}

/// One more request at an endpoint, for the gauge.
struct InFlight(Rc<Shard>);

impl InFlight {
    fn new(shard: &Rc<Shard>) -> Self {
        shard.metrics.upstream_in_flight(1);
        Self(shard.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.upstream_in_flight(-1);
    }
}

/// There is nobody to ask, for the reason that the cluster gives.
fn no_endpoint(refusal: Option<&'static str>) -> Failed {
    before_answer(UpstreamFault::NoEndpoint(refusal.unwrap_or("no_endpoints")), Sent::Nothing)
}

fn before_answer(fault: UpstreamFault, sent: Sent) -> Failed {
    Failed { fault: Fault::Upstream { fault, sent }, answered: false }
}

fn downstream(fault: DownstreamFault) -> Failed {
    Failed { fault: Fault::Downstream(fault), answered: false }
}

fn wants_retry(retry: &Retry, fault: Fault) -> bool {
    match fault {
        Fault::Upstream { fault: UpstreamFault::Timeout, .. } => retry.on_timeout,
        Fault::Upstream { fault: UpstreamFault::Closed | UpstreamFault::ConnectFailed | UpstreamFault::TlsFailed, .. } => retry.on_error,
        _ => false,
    }
}

fn counts_as_failure(retry: &Retry, status: u16) -> bool {
    retry.on_status != 0 && Retry::STATUSES.iter().position(|known| *known == status).is_some_and(|bit| retry.on_status >> bit & 1 == 1)
}
