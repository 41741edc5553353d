//! Answers that Corelane makes itself, and what they mean for the connection.

use crate::filter;
use crate::filter::Answer;
use crate::filter::AnswerTo;
use crate::filter::ResponseFacts;
use crate::http::body::BodyDecoder;
use crate::http::fault::DownstreamFault;
use crate::http::fault::Fault;
use crate::http::fault::Sent;
use crate::http::fault::UpstreamFault;
use crate::http::head::Framing;
use crate::http::head::Version;
use crate::net::slot::Out;
use crate::shard::client::After;
use crate::shard::client::Connection;
use crate::shard::plan::Asker;
use crate::shard::record::Record;
use crate::shard::state::Shard;
use crate::shard::world::World;

/// A bound of ours was reached before any byte was sent.
pub(crate) const OVERLOADED: Fault = Fault::Upstream { fault: UpstreamFault::Overloaded, sent: Sent::Nothing };

/// Answers a complete, well-formed head; keeps the connection where the whole request has been read.
pub(crate) fn local(shard: &Shard, connection: &mut Connection, world: &World, answer: &Answer, to: &Asker, record: &mut Record) -> After {
    connection.stream.consume(to.head_bytes);
    let complete = swallow(connection, to.framing);
    let keep_alive = to.keep_alive && complete;
    let mut out = shard.ring.spare();
    let to_whom = AnswerTo {
        facts: &to.facts,
        settings: &world.snapshot().settings,
        keep_alive,
        http10: to.version == Version::Http10,
        head_only: to.is_head,
    };
    shard.with_date(|date| filter::headers::write_answer(&mut out, answer, &to_whom, date));
    record.status = answer.status;
    record.bytes_out = out.len() as u64;
    record.flag(answer.reason);
    shard.metrics.rejected(answer.reason);
    match (connection.stream.queue(Out::Vec(out)), keep_alive, complete) {
        (Err(_), ..) => After::Close,
        (Ok(()), true, _) => After::KeepAlive,
        (Ok(()), false, true) => After::Close,
        (Ok(()), false, false) => After::Linger,
    }
}

/// Consumes the content as far as it is here; true where that was all of it.
fn swallow(connection: &mut Connection, framing: Framing) -> bool {
    let mut body = BodyDecoder::new(framing);
    while !body.is_done() && !connection.stream.data().is_empty() {
        match body.feed(connection.stream.data()) {
            Ok(piece) if piece.consumed > 0 => connection.stream.consume(piece.consumed),
            _ => return false,
        }
    }
    body.is_done()
}

/// Answers a fault, as long as nothing was answered yet, and ends the connection.
pub(crate) fn fault(shard: &Shard, connection: &mut Connection, world: &World, fault: Fault, record: &mut Record) -> After {
    let facts = ResponseFacts::unread(connection.stream.is_tls());
    fault_to(shard, connection, world, fault, &facts, Asked { keep_alive: false, head_only: false, http10: false, complete: false }, record)
}

/// How a request that met a fault was asked.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) keep_alive: bool,
    pub(crate) head_only: bool,
    pub(crate) http10: bool,
    /// Whether the whole request was read: nothing is left to wait for before the close.
    pub(crate) complete: bool,
}

/// Answers a fault of a request whose head was understood.
pub(crate) fn fault_to(
    shard: &Shard,
    connection: &mut Connection,
    world: &World,
    fault: Fault,
    facts: &ResponseFacts,
    asked: Asked,
    record: &mut Record,
) -> After {
    record.flag(fault.reason());
    shard.metrics.rejected(fault.reason());
    let Some(status) = fault.status() else { return After::Close };
    let mut answer = Answer::plain(status, fault.reason());
    if matches!(fault, Fault::Upstream { fault: UpstreamFault::Overloaded, .. }) {
        // Shed, not broken: the client may come again (RFC 9110 section 10.2.3).
        answer.fields.push(("Retry-After", b"1".to_vec()));
    }
    let mut out = shard.ring.spare();
    let to = AnswerTo {
        facts,
        settings: &world.snapshot().settings,
        keep_alive: asked.keep_alive,
        http10: asked.http10,
        head_only: asked.head_only,
    };
    shard.with_date(|date| filter::headers::write_answer(&mut out, &answer, &to, date));
    record.status = status;
    record.bytes_out = out.len() as u64;
    match connection.stream.queue(Out::Vec(out)) {
        Err(_) => After::Close,
        Ok(()) if asked.keep_alive => After::KeepAlive,
        Ok(()) if asked.complete || matches!(fault, Fault::Downstream(DownstreamFault::HeadTimeout)) => After::Close,
        Ok(()) => After::Linger,
    }
}
