//! The upstream of a run on a host of its own: a thread that answers, and counts of what it has done.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::words::Ask;
use super::words::Count;
use super::words::Say;
use crate::clock::Clock;
use crate::cpu;
use crate::poller::Poller;
use crate::poller::Role;
use crate::upstream::Upstream;

/// Addresses one upstream may answer on.
const ADDRESSES_MAX: usize = 256;

/// The upstream of one run; its drop ends it.
pub(super) struct Endpoints {
    cpu: usize,
    serving: Option<Serving>,
}

struct Serving {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// What the answering thread and the talking one share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    accepted: AtomicU64,
    answered: AtomicU64,
}

impl Endpoints {
    pub(super) fn new(cpu: usize) -> Self {
        Self { cpu, serving: None }
    }

    /// # Errors
    /// Where an address is not this host's, and whatever made the upstream end.
    pub(super) fn answer(&mut self, ask: Ask) -> io::Result<Say> {
        match (ask, &mut self.serving) {
            (Ask::Serve { addresses }, _) => {
                // The earlier one gives its ports back first.
                self.serving = None;
                let (serving, endpoints) = Serving::start(&addresses, self.cpu)?;
                self.serving = Some(serving);
                Ok(Say::Serving { endpoints })
            }
            (Ask::Count, Some(serving)) => serving.count().map(Say::Counted),
            (Ask::Count, None) => Err(io::Error::other("it serves nothing yet")),
            _ => Err(io::Error::other("an upstream starts no proxies")),
        }
    }
}

impl Serving {
    #[expect(clippy::disallowed_methods, reason = "an agent hears its driver while the upstream answers")]
    fn start(addresses: &[IpAddr], cpu: usize) -> io::Result<(Self, Vec<SocketAddr>)> {
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
            return Err(io::Error::other(format!("{} addresses, must be 1 to {ADDRESSES_MAX}", addresses.len())));
        }
        let shared = Arc::new(Shared::default());
        let (theirs, addresses) = (Arc::clone(&shared), addresses.to_vec());
        let (bound, heard) = mpsc::channel();
        let thread = std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            cpu::pin(cpu)?;
            let poller = Poller::new()?;
            let upstream = Upstream::bind_on(&poller, &addresses)?;
            // Whoever has asked waits for it.
            let _heard = bound.send(upstream.addresses().to_vec());
            serve(poller, upstream, &theirs)
        })?;
        match heard.recv() {
            Ok(endpoints) => Ok((Self { shared, thread: Some(thread) }, endpoints)),
            Err(_) => Err(fault_of(thread)),
        }
    }

    fn count(&mut self) -> io::Result<Count> {
        match self.thread.take() {
            Some(thread) if !thread.is_finished() => {
                self.thread = Some(thread);
                let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
                Ok(Count { accepted: of(&self.shared.accepted), answered: of(&self.shared.answered) })
            }
            Some(thread) => Err(fault_of(thread)),
            None => Err(io::Error::other("the upstream has ended")),
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _told_when_it_was_counted = thread.join();
        }
    }
}

/// Why an upstream has ended that nobody has stopped.
fn fault_of(thread: JoinHandle<io::Result<()>>) -> io::Error {
    match thread.join() {
        Ok(Err(error)) => error,
        _ => io::Error::other("the upstream has ended unasked"),
    }
}

/// Answers until it is stopped, without ever sleeping: a wake-up would be part of every answer.
fn serve(mut poller: Poller, mut upstream: Upstream, shared: &Shared) -> io::Result<()> {
    let clock = Clock::start();
    let mut events = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        poller.poll(&mut events)?;
        for event in &events {
            match event.token.role {
                Role::Listener => upstream.accept(event.token.slot, &poller)?,
                Role::Upstream => upstream.serve(*event, &clock),
                Role::Client | Role::Beside => {}
            }
        }
        let resumed = upstream.resume(&clock);
        if resumed || !events.is_empty() {
            shared.accepted.store(upstream.accepted, Ordering::Relaxed);
            shared.answered.store(upstream.answered, Ordering::Relaxed);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;
    use std::io::Read;
    use std::io::Write;
    use std::net::TcpStream;

    /// An upstream answers on every address it was given, counts what it has done, and gives its ports back.
    #[test]
    fn an_upstream_answers_where_it_was_told_and_counts() {
        let cpu = cpu::allowed().unwrap()[0];
        let mut upstream = Endpoints::new(cpu);
        assert!(upstream.answer(Ask::Count).is_err());
        let addresses: Vec<IpAddr> = ["127.0.0.9", "127.0.0.10"].map(|address| address.parse().unwrap()).to_vec();
        let Ok(Say::Serving { endpoints }) = upstream.answer(Ask::Serve { addresses: addresses.clone() }) else { panic!("it serves") };
        assert_eq!(endpoints.iter().map(SocketAddr::ip).collect::<Vec<_>>(), addresses);
        for endpoint in &endpoints {
            let mut stream = TcpStream::connect(endpoint).unwrap();
            stream.write_all(&wire::request("h", "/", wire::Wanted { slot: 0, body_bytes: 10 }, 0, true)).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
        // The counts follow each turn, not each answer.
        let counted = (0..1000).any(|_| {
            std::thread::yield_now();
            matches!(upstream.answer(Ask::Count), Ok(Say::Counted(Count { accepted: 2, answered: 2 })))
        });
        assert!(counted);
        drop(upstream);
        assert!(TcpStream::connect(endpoints[0]).is_err());
    }

    /// No address, too many, and one that is another host's are refused.
    #[test]
    fn an_upstream_has_addresses_of_its_own() {
        let mut upstream = Endpoints::new(cpu::allowed().unwrap()[0]);
        for addresses in [vec![], vec!["127.0.0.1".parse().unwrap(); ADDRESSES_MAX + 1], vec!["192.0.2.1".parse().unwrap()]] {
            assert!(upstream.answer(Ask::Serve { addresses }).is_err());
        }
    }
}
