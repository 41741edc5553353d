//! Bytes both ways, untouched, after a switch of protocols: WebSocket.

use std::io;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use crate::net::stream::Filled;
use crate::net::stream::Stream;

/// How a tunnel ended, with the bytes it carried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carried {
    /// From the client.
    pub(crate) bytes_in: u64,
    /// To the client.
    pub(crate) bytes_out: u64,
    pub(crate) idle_timeout: bool,
}

/// One direction of a tunnel.
#[derive(Default)]
struct Way {
    phase: Phase,
    bytes: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// Its source has ended; what was queued still leaves.
    Ending,
    Ended,
}

/// Carries bytes until both sides have ended, one breaks, or nothing moves for `idle_timeout`.
pub(crate) async fn run(client: &mut Stream, endpoint: &mut Stream, idle_timeout: Duration) -> Carried {
    let idle_ms = idle_timeout.as_millis() as u64;
    let mut up = Way::default();
    let mut down = Way::default();
    let mut idle_timeout = false;
    while up.phase != Phase::Ended || down.phase != Phase::Ended {
        // Every byte in either direction moves both: a side that takes nothing is as silent as one that sends nothing.
        client.socket().set_deadline(idle_ms);
        endpoint.socket().set_deadline(idle_ms);
        let moved = std::future::poll_fn(|context| {
            // Both, each time: a way that always has something to carry must not hold up the other.
            match (poll_way(&mut up, client, endpoint, context), poll_way(&mut down, endpoint, client, context)) {
                (Poll::Pending, Poll::Pending) => Poll::Pending,
                (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                _ => Poll::Ready(Ok(())),
            }
        })
        .await;
        if let Err(error) = moved {
            idle_timeout = error.kind() == io::ErrorKind::TimedOut;
            break;
        }
    }
    Carried { bytes_in: up.bytes, bytes_out: down.bytes, idle_timeout }
}

/// Moves what `from` has to `to`; at the end of `from` passes the end on, behind everything that was queued.
fn poll_way(way: &mut Way, from: &mut Stream, to: &mut Stream, context: &Context<'_>) -> Poll<io::Result<()>> {
    match way.phase {
        Phase::Open => {}
        Phase::Ending => {
            ready!(to.poll_flushed(context))?;
            to.socket().shutdown_write();
            way.phase = Phase::Ended;
            return Poll::Ready(Ok(()));
        }
        Phase::Ended => return Poll::Pending,
    }
    if from.data().is_empty() && ready!(from.poll_fill(context))? == Filled::End {
        to.announce_end();
        way.phase = Phase::Ending;
        return Poll::Ready(Ok(()));
    }
    ready!(to.poll_writable(context))?;
    let count = from.data().len();
    way.bytes += count as u64;
    let bytes = from.take(count);
    to.queue(bytes)?;
    Poll::Ready(Ok(()))
}
