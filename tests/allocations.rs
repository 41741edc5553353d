//! What a shard asks of the heap: nothing for a request on a kept connection, little for a connection that rests.
//!
//! Corelane runs inside this test, for its allocator counts. Only the thread of the one shard is counted, so that clients, upstream
//! and admin endpoint do not matter; aws-lc, which is C, is not seen.

mod support;

use std::net::SocketAddr;
use std::net::TcpStream;

use corelane::boot;
use corelane::config;
use corelane::config::Invocation;
use mimalloc::MiMalloc;

use support::Directory;
use support::client::Client;
use support::eventually;
use support::heap;
use support::heap::Counting;
use support::manifests::Ingress;
use support::manifests::Manifests;
use support::tls::Authority;
use support::upstream::Upstream;

#[global_allocator]
static ALLOCATOR: Counting = Counting(MiMalloc);

/// A ratchet: what one request allocates, timers apart (one in four requests may see one), and what a resting connection holds in
/// bytes. It only goes down.
const PLAIN: Bounds = Bounds { allocations: 0, idle_bytes: 3 << 10 };
/// rustls copies the plaintext of each record that it has read, and makes a vector for each that it writes.
const TLS: Bounds = Bounds { allocations: 2, idle_bytes: 10 << 10 };

struct Bounds {
    allocations: u64,
    idle_bytes: i64,
}

/// Corelane with one shard, inside this process until it ends.
struct Inside {
    http: SocketAddr,
    https: SocketAddr,
}

impl Inside {
    fn start(directory: &Directory) -> Self {
        // An address that no other process of this host has: the whole of 127/8 is loopback.
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let address = |port: u16| SocketAddr::from(([127, 64 | high & 63, middle, low.clamp(1, 254)], port));
        let inside = Self { http: address(8080), https: address(8443) };
        let (http, https, admin) = (inside.http.to_string(), inside.https.to_string(), address(9900).to_string());
        let manifests = directory.path().display().to_string();
        let arguments = [
            "corelane",
            "run",
            "--manifests",
            &manifests,
            "--http",
            &http,
            "--https",
            &https,
            "--admin",
            &admin,
            "--shards",
            "1",
            "--backend-mode",
            "endpoints",
            "--configmap",
            "corelane/settings",
            // As in service: it is written, only nobody keeps it.
            "--access-log",
            "/dev/null",
            "--state-dir",
            "",
            "--log-level",
            "off",
        ];
        let Ok(Invocation::Run(run)) = config::read(arguments.map(Into::into)) else { panic!("these are arguments of run") };
        support::spawn(move || {
            let ended = boot::run(boot::Config {
                listeners: run.listeners,
                placement: run.placement,
                drain_timeout: run.drain_timeout,
                pre_stop_delay: run.pre_stop_delay,
                admin: run.admin,
                control: run.control,
                access_log: run.access_log,
                access_log_format: run.access_log_format,
                log: run.log,
            });
            panic!("it has ended: {ended:?}");
        });
        eventually("it listens", || TcpStream::connect(inside.http).ok());
        heap::watch(eventually("there is a shard", shard_thread));
        inside
    }
}

/// The thread of the first shard.
fn shard_thread() -> Option<i32> {
    std::fs::read_dir("/proc/self/task").ok()?.flatten().find_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        if name.starts_with("shard-0") { task.file_name().to_str()?.parse().ok() } else { None }
    })
}

/// A request on a kept connection allocates no more than its bound, and a connection that rests holds no more than its own.
#[test]
fn the_heap_is_left_alone() {
    let upstream = Upstream::answering(|_| format!("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n{}", "x".repeat(1024)).into_bytes());
    let authority = Authority::new();
    let directory = Directory::new();
    let manifests = Manifests::new()
        .service("app", &[upstream.address])
        .tls_secret("app", &authority.ecdsa(&["app.test"]))
        .ingress(&Ingress::new("app").annotation("ssl-redirect", "false").tls("app.test", "app").host("app.test", "app"));
    directory.write("objects.yaml", manifests.to_yaml());
    let edge = Inside::start(&directory);
    let config = authority.client();
    look("plain", &PLAIN, || Client::connect(edge.http));
    look("TLS", &TLS, || Client::connect_tls(edge.https, &config, "app.test"));
}

/// Requests that are looked at together.
const WINDOW: u64 = 80;
const WINDOWS: usize = 10;
const IDLE: i64 = 500;

fn look(kind: &str, bounds: &Bounds, connect: impl Fn() -> Client) {
    let mut client = connect();
    let mut ask = |count| (0..count).for_each(|_| assert_eq!(client.get("app.test", "/").status, 200));
    // Whatever is kept for reuse is there after the first.
    ask(100);
    let counted = |work: &mut dyn FnMut()| {
        let before = heap::allocations();
        work();
        heap::allocations() - before
    };
    // The best of the windows: timers allocate now and then, and the slower the machine the more of them fall into one.
    let fewest = (0..WINDOWS).map(|_| counted(&mut || ask(WINDOW))).min().unwrap_or_default();
    if fewest > bounds.allocations * WINDOW + WINDOW / 4 {
        let origins = heap::origins(8, || ask(4));
        panic!("{kind}: {fewest} allocations for {WINDOW} requests, more than {} for each{origins}", bounds.allocations);
    }
    let resting = || {
        let mut client = connect();
        assert_eq!(client.get("app.test", "/").status, 200);
        client
    };
    // Whatever grows only once has grown.
    let _warm: Vec<Client> = (0..50).map(|_| resting()).collect();
    let before = heap::live_bytes();
    let _idle: Vec<Client> = (0..IDLE).map(|_| resting()).collect();
    let each = (heap::live_bytes() - before) / IDLE;
    assert!(each < bounds.idle_bytes, "{kind}: {each} bytes of heap for a connection that rests, more than {}", bounds.idle_bytes);
}
