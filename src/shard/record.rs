//! What is remembered of a request for its line in the access log and its place in the metrics.

use std::net::SocketAddr;
use std::ops::Range;

use crate::http::head::RequestHead;
use crate::http::head::Version;
use crate::shard::client::Connection;
use crate::shard::state::Shard;
use crate::shard::world::World;
use crate::snapshot::rule::RuleId;
use crate::snapshot::rule::RuleSource;
use crate::telemetry::access_log::AccessRecord;
use crate::telemetry::metrics::Protocol;
use crate::telemetry::metrics::RequestSample;

/// Reasons one request can collect.
const FLAGS_MAX: usize = 4;

/// The story of one request so far. The bytes are copied only where there is a log to write them to.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) started_us: u64,
    pub(crate) rule: Option<RuleId>,
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) upstream_status: Option<u16>,
    pub(crate) upstream_connect_us: Option<u64>,
    pub(crate) upstream_first_byte_us: Option<u64>,
    pub(crate) upstream_us: Option<u64>,
    pub(crate) attempts: u32,
    flags: [&'static str; FLAGS_MAX],
    flag_count: usize,
    http10: bool,
    bytes: Vec<u8>,
    request_id: Range<usize>,
    method: Range<usize>,
    host: Range<usize>,
    target: Range<usize>,
    user_agent: Option<Range<usize>>,
    referer: Option<Range<usize>>,
    /// Boxed: few requests outlive their snapshot, and every connection has room for a record.
    detached: Option<Box<Labels>>,
}

/// Whom a request is counted for, taken out of its snapshot.
struct Labels {
    series: u32,
    source: Option<RuleSource>,
    access_log: bool,
}

impl Record {
    pub(crate) fn new(started_us: u64) -> Self {
        Self { started_us, ..Self::default() }
    }

    /// Adds why the request ended as it did.
    pub(crate) fn flag(&mut self, reason: &'static str) {
        if self.flag_count < FLAGS_MAX && !self.flags[..self.flag_count].contains(&reason) {
            self.flags[self.flag_count] = reason;
            self.flag_count += 1;
        }
    }

    /// Copies what the log shows of a head.
    pub(crate) fn keep(&mut self, head: &RequestHead<'_, '_>, request_id: &[u8], shard: &Shard) {
        // A head is looked at twice where a password had to be checked in between.
        if self.bytes.capacity() == 0 {
            self.bytes = shard.ring.spare();
        }
        self.bytes.clear();
        self.http10 = head.version == Version::Http10;
        self.request_id = self.copy(request_id);
        self.method = self.copy(head.method);
        self.host = self.copy(head.authority);
        self.target = self.copy(head.target);
        self.user_agent = head.field("user-agent").map(|value| self.copy(value));
        self.referer = head.field("referer").map(|value| self.copy(value));
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// Takes along what the end will need of the snapshot, for a request that outlives it.
    pub(crate) fn detach(&mut self, world: &World) {
        let snapshot = world.snapshot();
        let rule = self.rule.map(|rule| snapshot.rule(rule));
        self.bytes.shrink_to_fit();
        self.detached = Some(Box::new(Labels {
            series: self.series(world),
            source: rule.map(|rule| rule.source.clone()),
            access_log: rule.is_none_or(|rule| rule.policy.access_log),
        }));
    }

    fn series(&self, world: &World) -> u32 {
        self.rule.map_or(0, |rule| world.snapshot().series.get(rule.0 as usize).copied().unwrap_or(0))
    }

    /// Counts the request and writes its line; `world` is not needed where the record was detached from it.
    pub(crate) fn finish(self, shard: &Shard, connection: &Connection, world: Option<&World>) {
        let duration_us = shard.ring.now_us().saturating_sub(self.started_us);
        let series = match (&self.detached, world) {
            (Some(labels), _) => labels.series,
            (None, Some(world)) => self.series(world),
            (None, None) => 0,
        };
        let sample = RequestSample { series, status: self.status, protocol: Protocol::Http1, duration_us, upstream_us: self.upstream_us };
        shard.metrics.request(&sample);
        if shard.access_log_on {
            self.log(shard, connection, world, duration_us);
            shard.ring.recycle(self.bytes);
        }
    }

    fn log(&self, shard: &Shard, connection: &Connection, world: Option<&World>, duration_us: u64) {
        let rule = self.rule.zip(world).map(|(rule, world)| world.snapshot().rule(rule));
        let (source, wanted) = match (&self.detached, rule) {
            (Some(labels), _) => (labels.source.as_ref(), labels.access_log),
            (None, Some(rule)) => (Some(&rule.source), rule.policy.access_log),
            (None, None) => (None, true),
        };
        if !wanted {
            return;
        }
        let agreement = connection.agreement.as_ref();
        let record = AccessRecord {
            at: shard.time_at(self.started_us),
            request_id: &self.bytes[self.request_id.clone()],
            client: connection.client.ip(),
            client_port: connection.client.port(),
            listener: &shard.config.listeners[connection.listener].name,
            proto: if self.http10 { "HTTP/1.0" } else { "HTTP/1.1" },
            tls_version: agreement.map(|agreement| agreement.version),
            tls_cipher: agreement.map(|agreement| agreement.cipher),
            sni: agreement.and_then(|agreement| agreement.server_name.as_deref()),
            method: &self.bytes[self.method.clone()],
            host: &self.bytes[self.host.clone()],
            path: &self.bytes[self.target.clone()],
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration_us,
            upstream: self.upstream,
            upstream_status: self.upstream_status,
            upstream_connect_us: self.upstream_connect_us,
            upstream_first_byte_us: self.upstream_first_byte_us,
            attempts: self.attempts,
            namespace: source.map_or("", |source| &source.namespace),
            ingress: source.map_or("", |source| &source.ingress),
            service: source.map_or("", |source| &source.service),
            user_agent: self.user_agent.clone().map(|range| &self.bytes[range]),
            referer: self.referer.clone().map(|range| &self.bytes[range]),
            flags: &self.flags[..self.flag_count],
        };
        let dropped = shard.access_log().write(&record);
        if dropped > 0 {
            shard.metrics.access_log_dropped(dropped);
        }
    }
}
