//! A ring with real sockets and without an executor: the test enters it, and moves its clock.

use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Wake;

use super::*;
use crate::net::share::TURN_BYTES_MAX;
use crate::net::socket::Socket;

/// A waker that remembers.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A socket on a ring of its own, and its peer, which does not block.
fn pair() -> (Rc<Ring>, Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    peer.set_nonblocking(true).expect("a mode can be set");
    let (ours, _) = listener.accept().expect("it has connected");
    let ring = Ring::new(Remote::new().expect("an eventfd")).expect("io_uring");
    let socket = Socket::adopt(&ring, ours.into_raw_fd());
    (ring, socket, peer)
}

/// Sends while nobody reads: chunks pile up until the socket receives on demand; returns the bytes.
fn pile_up(ring: &Ring, peer: &mut TcpStream) -> usize {
    let mut sent = 0;
    for _ in 0..64 {
        sent += peer.write(&[b'x'; 256 << 10]).unwrap_or(0);
        ring.enter(false);
    }
    sent
}

/// Takes what the socket hands out in this turn; returns the bytes.
fn take_turn(socket: &Socket, woken: &Arc<Woken>) -> usize {
    woken.0.store(false, Ordering::SeqCst);
    let waker = Waker::from(woken.clone());
    let mut bytes = 0;
    while let Poll::Ready(chunk) = socket.poll_receive(&Context::from_waker(&waker)) {
        bytes += chunk.expect("no error").expect("no end").len();
    }
    bytes
}

/// However much has arrived from one peer, a turn hands out little more than its share, and the rest comes unasked in the next ones.
#[test]
fn a_fast_stream_gets_its_share_of_a_turn() {
    let (ring, socket, mut peer) = pair();
    let sent = pile_up(&ring, &mut peer);
    let piled: usize = ring.inner.borrow().slots[0].received.iter().map(|chunk| chunk.len()).sum();
    assert!(piled > TURN_BYTES_MAX + BUFFER_BYTES, "{piled} bytes are too few to say anything");
    let woken = Arc::new(Woken::default());
    let mut taken = 0;
    while taken < sent {
        let bytes = take_turn(&socket, &woken);
        assert!(bytes < TURN_BYTES_MAX + BUFFER_BYTES, "{bytes} bytes in one turn");
        taken += bytes;
        // Sleeps only if nothing is left, and then until more comes.
        ring.enter(taken < sent);
        assert!(taken == sent || woken.0.load(Ordering::SeqCst), "{taken} of {sent} bytes, and nobody says that there are more");
    }
}

/// A socket whose bytes once piled up receives without being asked again after it has been idle.
#[test]
fn an_idle_socket_is_heard_unasked_again() {
    let (ring, socket, mut peer) = pair();
    let mut sent = pile_up(&ring, &mut peer);
    assert!(ring.inner.borrow().slots[0].bulk, "too few bytes to pile up");
    let woken = Arc::new(Woken::default());
    while sent > 0 {
        sent -= take_turn(&socket, &woken);
        ring.enter(sent > 0);
    }
    socket.set_idle(true);
    let mut before = None;
    for _ in 0..10 {
        peer.write_all(b"x").expect("room for a byte");
        while take_turn(&socket, &woken) == 0 {
            ring.enter(true);
        }
        before.get_or_insert_with(|| ring.stats().submissions);
    }
    assert_eq!(before, Some(ring.stats().submissions), "nothing is asked for after the first byte");
}

/// Moves the clock of the ring past the deadline of slot 0, and looks.
fn pass_deadline(ring: &Ring) -> bool {
    let mut inner = ring.inner.borrow_mut();
    inner.now_ms = inner.slots[0].deadline_ms.max(inner.slots[0].asked_at_ms);
    let generation = inner.slots[0].generation;
    inner.expire_socket(0, generation);
    inner.slots[0].timed_out
}

/// A peer that takes bytes slowly is not cut while it takes any, though its send is not through; one that takes none is.
#[test]
fn a_slow_reader_is_cut_only_when_it_stops() {
    let (ring, socket, _peer) = pair();
    socket.queue(Out::Vec(vec![b'x'; 32 << 20]));
    ring.enter(false);
    assert!(ring.inner.borrow().slots[0].blocked, "more than the kernel takes at once");
    // Bytes have left within this hour, and within the next, whatever the clock of the ring says.
    socket.set_deadline(3_600_000);
    assert!(!pass_deadline(&ring) && !pass_deadline(&ring));
    // None leaves for a whole millisecond: the peer has no room.
    let cut = (0..10_000).any(|_| {
        limits::pause(Duration::from_millis(2));
        let mut inner = ring.inner.borrow_mut();
        let at_ms = inner.now_ms + 1;
        inner.set_deadline(0, at_ms);
        drop(inner);
        pass_deadline(&ring)
    });
    assert!(cut, "a reader that has stopped is waited for without end");
}
