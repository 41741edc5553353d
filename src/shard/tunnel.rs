//! Bytes both ways, untouched, after a switch of protocols: WebSocket.

use std::io;
use std::task::Poll;
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
    ended: bool,
    bytes: u64,
}

enum Event {
    Moved,
    Ended,
    Broken(io::Error),
}

/// Carries bytes until both sides have ended, one breaks, or nothing moves for `idle_timeout`.
pub(crate) async fn run(client: &mut Stream, endpoint: &mut Stream, idle_timeout: Duration) -> Carried {
    let idle_ms = idle_timeout.as_millis() as u64;
    let mut up = Way::default();
    let mut down = Way::default();
    let mut idle_timeout = false;
    client.socket().clear_deadline();
    while !(up.ended && down.ended) {
        // Either side alone watches the silence: every byte in either direction moves it.
        endpoint.socket().set_deadline(idle_ms);
        let event = std::future::poll_fn(|context| match poll_way(&mut up, client, endpoint, context) {
            Poll::Ready(event) => Poll::Ready(event),
            Poll::Pending => poll_way(&mut down, endpoint, client, context),
        })
        .await;
        match event {
            Event::Moved => {}
            Event::Ended => {
                if up.ended {
                    end(endpoint).await;
                }
                if down.ended {
                    end(client).await;
                }
            }
            Event::Broken(error) => {
                idle_timeout = error.kind() == io::ErrorKind::TimedOut;
                break;
            }
        }
    }
    Carried { bytes_in: up.bytes, bytes_out: down.bytes, idle_timeout }
}

/// Passes an end on: close_notify and FIN, behind everything that was queued.
async fn end(to: &mut Stream) {
    to.announce_end();
    if to.flushed().await.is_ok() {
        to.socket().shutdown_write();
    }
}

fn poll_way(way: &mut Way, from: &mut Stream, to: &mut Stream, context: &std::task::Context<'_>) -> Poll<Event> {
    if way.ended {
        return Poll::Pending;
    }
    if from.data().is_empty() {
        match from.poll_fill(context) {
            Poll::Ready(Ok(Filled::More)) => {}
            Poll::Ready(Ok(Filled::End)) => {
                way.ended = true;
                return Poll::Ready(Event::Ended);
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Event::Broken(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    match to.poll_writable(context) {
        Poll::Ready(Ok(())) => {}
        Poll::Ready(Err(error)) => return Poll::Ready(Event::Broken(error)),
        Poll::Pending => return Poll::Pending,
    }
    let count = from.data().len();
    way.bytes += count as u64;
    let bytes = from.take(count);
    match to.queue(bytes) {
        Ok(()) => Poll::Ready(Event::Moved),
        Err(error) => Poll::Ready(Event::Broken(error)),
    }
}
