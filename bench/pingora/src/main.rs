//! Pingora as a peer of the benchmark: the least program on it that does the work of the other proxies.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use clap::Parser;
use mimalloc::MiMalloc;
use pingora_core::Error;
use pingora_core::ErrorType;
use pingora_core::Result;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use pingora_proxy::ProxyHttp;
use pingora_proxy::Session;
use pingora_proxy::http_proxy_service;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an idle client may stay. Above 900 s Pingora takes a timer of its runtime for each request in place of its own fast ones.
const KEEP_ALIVE_S: u64 = 900;
/// Idle upstream connections that are kept.
const POOL: usize = 1024;

#[derive(Parser)]
#[command(name = "pingora", version = concat!(env!("CARGO_PKG_VERSION"), " (rustls)"))]
struct Arguments {
    #[arg(long)]
    http: SocketAddr,
    #[arg(long)]
    https: SocketAddr,
    /// PEM
    #[arg(long)]
    certificate: String,
    /// PEM
    #[arg(long)]
    key: String,
    /// Members of both clusters
    #[arg(long, value_delimiter = ',', required = true)]
    endpoints: Vec<SocketAddr>,
    /// A file of further hosts, one a line, each with /api/ and /static/ to cluster a and all else to b
    #[arg(long)]
    hosts: PathBuf,
}

/// Endpoints in turn.
struct Cluster {
    peers: Vec<HttpPeer>,
    turn: AtomicUsize,
}

impl Cluster {
    fn new(endpoints: &[SocketAddr]) -> Self {
        let peers = endpoints.iter().map(|endpoint| {
            let mut peer = HttpPeer::new(endpoint, false, String::new());
            peer.options.connection_timeout = Some(CONNECT_TIMEOUT);
            peer
        });
        Self { peers: peers.collect(), turn: AtomicUsize::new(0) }
    }

    fn next(&self) -> Box<HttpPeer> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Box::new(self.peers[turn % self.peers.len()].clone())
    }
}

struct Proxy {
    a: Cluster,
    b: Cluster,
    /// A wildcard without its star.
    hosts: HashSet<String>,
}

impl Proxy {
    /// Where a request goes; `None` is a 404.
    fn route(&self, head: &RequestHeader) -> Option<&Cluster> {
        let named = || head.headers.get("host")?.to_str().ok()?.split(':').next();
        let host = head.uri.host().or_else(named)?;
        let path = head.uri.path();
        let to_a = match host {
            "app.bench.local" => path.starts_with("/api/") || path.starts_with("/ws"),
            "alt.bench.local" => true,
            host if self.knows(host) => path.starts_with("/api/") || path.starts_with("/static/"),
            _ => return None,
        };
        Some(if to_a { &self.a } else { &self.b })
    }

    fn knows(&self, host: &str) -> bool {
        self.hosts.contains(host) || host.find('.').is_some_and(|dot| self.hosts.contains(&host[dot..]))
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, _context: &mut ()) -> Result<Box<HttpPeer>> {
        session.set_keepalive(Some(KEEP_ALIVE_S));
        match self.route(session.req_header()) {
            Some(cluster) => Ok(cluster.next()),
            None => Error::e_explain(ErrorType::HTTPStatus(404), "no route"),
        }
    }

    async fn upstream_request_filter(&self, session: &mut Session, head: &mut RequestHeader, _context: &mut ()) -> Result<()> {
        if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
            head.insert_header("X-Forwarded-For", client.ip().to_string())?;
        }
        let is_tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        head.insert_header("X-Forwarded-Proto", if is_tls { "https" } else { "http" })
    }
}

fn main() -> std::result::Result<(), Box<dyn StdError>> {
    let arguments = Arguments::parse();
    let hosts = fs::read_to_string(&arguments.hosts).map_err(|error| format!("{}: {error}", arguments.hosts.display()))?;
    let proxy = Proxy {
        a: Cluster::new(&arguments.endpoints),
        b: Cluster::new(&arguments.endpoints),
        hosts: hosts.lines().map(|host| host.trim_start_matches('*').to_owned()).collect(),
    };
    // One worker without a scheduler for several; one attempt, so no retry; and no drain, for nobody is waited for at the end of a block.
    let settings = ServerConf {
        threads: 1,
        work_stealing: false,
        max_retries: 1,
        upstream_keepalive_pool_size: POOL,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, settings);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, proxy);
    service.add_tcp(&arguments.http.to_string());
    let mut tls = TlsSettings::intermediate(&arguments.certificate, &arguments.key)?;
    tls.enable_h2();
    service.add_tls_with_settings(&arguments.https.to_string(), None, tls);
    server.add_service(service);
    server.run_forever()
}
