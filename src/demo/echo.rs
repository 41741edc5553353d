//! Echo upstreams: small servers on free loopback ports that answer with what they have seen.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

/// Ports that are tried until one is free on every address it is wanted on.
const TRIES: usize = 32;
/// Accepting rests this long after an error.
const REST: Duration = Duration::from_millis(50);

/// One pod: a name and where it listens.
struct Pod {
    name: String,
    listener: TcpListener,
}

/// Every echo upstream of the demo.
pub struct Echoes {
    pods: Vec<Pod>,
}

/// What a pod answers.
#[derive(serde::Serialize)]
struct Answer<'r> {
    pod: &'r str,
    method: &'r str,
    path: &'r str,
    body_bytes: usize,
    fields: BTreeMap<&'r str, String>,
}

impl Echoes {
    pub(super) fn new() -> Self {
        Self { pods: Vec::new() }
    }

    /// Starts to listen with one pod for each name: on 127.0.0.1, 127.0.0.2, ... and all on the port that is returned.
    ///
    /// # Errors
    /// No such port is free.
    pub(super) fn add(&mut self, names: &[&str]) -> io::Result<u16> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..TRIES {
            match bind_all(names.len()) {
                Ok((port, listeners)) => {
                    let pods = names.iter().zip(listeners).map(|(name, listener)| Pod { name: (*name).to_owned(), listener });
                    self.pods.extend(pods);
                    return Ok(port);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Serves until `stop` resolves; the thread is the caller's.
    pub fn run(self, stop: oneshot::Receiver<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                for pod in self.pods {
                    tokio::spawn(serve(pod));
                }
                let _stopped = stop.await;
            }),
            Err(error) => tracing::error!(%error, "no runtime for the echo upstreams"),
        }
    }
}

fn bind_all(count: usize) -> io::Result<(u16, Vec<TcpListener>)> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = first.local_addr()?.port();
    let mut listeners = vec![first];
    for last in 2..=count {
        listeners.push(TcpListener::bind((Ipv4Addr::new(127, 0, 0, last as u8), port))?);
    }
    listeners.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
    Ok((port, listeners))
}

async fn serve(pod: Pod) {
    let listener = match tokio::net::TcpListener::from_std(pod.listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, pod = pod.name, "an echo upstream cannot accept"),
    };
    let name: Arc<str> = pod.name.into();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let name = name.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| echo(&name, request));
                    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    // Corelane closes pooled connections as it likes.
                    let _closed = connection.await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, pod = &*name, "an echo upstream rests for a moment");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

async fn echo(pod: &str, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut body_bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        body_bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    let fields = head.headers.iter().map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let answer = Answer { pod, method: head.method.as_str(), path, body_bytes, fields: fields.collect() };
    let mut text = serde_json::to_string_pretty(&answer).unwrap_or_default();
    text.push('\n');
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}
