//! Clients that ask without a pause and count every answer: what a change or a drain may not cost.

use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crate::support::client::Client;
use crate::support::eventually;

/// Running clients.
pub struct Load {
    threads: Vec<JoinHandle<Vec<String>>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

impl Load {
    /// Starts `count` clients, each on one connection at a time, that ask for `path` of `host` and want 200.
    ///
    /// A connection that an answer has announced to close is opened anew; where nobody listens any more, a client ends.
    pub fn start(address: SocketAddr, host: &str, path: &str, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let threads = (0..count)
            .map(|_| {
                let (stop, answered, request) = (stop.clone(), answered.clone(), request.clone());
                std::thread::spawn(move || ask_on(address, &request, &stop, &answered))
            })
            .collect();
        Self { threads, stop, answered }
    }

    /// Answers so far.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Waits until this many more requests have been answered.
    pub fn wait_for_more(&self, count: usize) {
        let wanted = self.answered() + count;
        eventually("requests are answered", || (self.answered() >= wanted).then_some(()));
    }

    /// Ends the clients; every request that got no answer, or not 200, in words.
    pub fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.join()
    }

    /// Waits until the clients end by themselves, because nobody listens any more.
    pub fn join(self) -> Vec<String> {
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|_| vec!["a client panicked".to_owned()])).collect()
    }
}

fn ask_on(address: SocketAddr, request: &str, stop: &AtomicBool, answered: &AtomicUsize) -> Vec<String> {
    let mut lost = Vec::new();
    'connections: while !stop.load(Ordering::SeqCst) {
        // Refused: nobody listens. Nothing was asked, nothing is lost.
        let Ok(stream) = TcpStream::connect(address) else { return lost };
        let mut client = Client::over(stream);
        while !stop.load(Ordering::SeqCst) {
            client.send(request);
            match client.try_response(false) {
                Ok(response) if response.status == 200 => {
                    answered.fetch_add(1, Ordering::SeqCst);
                    if response.closes() {
                        continue 'connections;
                    }
                }
                Ok(response) => {
                    lost.push(format!("{} {:?}", response.status, response.field("corelane-reason")));
                    if response.closes() {
                        continue 'connections;
                    }
                }
                Err(ended) => {
                    lost.push(format!("{ended:?}"));
                    continue 'connections;
                }
            }
        }
    }
    lost
}
