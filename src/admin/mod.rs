//! Health, metrics and inspection over HTTP, on a thread of its own; reads only what others have posted.
//!
//! Read-only: GET and HEAD, no bodies, one request a connection. Keys, passwords and certificates are never shown.

mod dashboard;
mod pages;
mod query;
mod views;
mod windows;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::header;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;

pub use windows::Windows;

/// Connections served at a time; the kernel's queue holds the others.
const CONNECTIONS_MAX: usize = 64;
/// How long a request head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take in all, a slow reader included.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest request head, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Pages bring their own style, load nothing, and run the one line that the dashboard ends with, known by its hash.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-6tJxh+ZXQjVFuunqdXBv/ltf6ubrLsBebXnpnj2Qqwc='; \
                              form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// Accepting rests this long after an error such as too many open files.
const REST: Duration = Duration::from_millis(50);

/// What the admin endpoint is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    pub address: SocketAddr,
}

/// Binds the listener; the thread that runs [`Admin::run`] is boot's to start.
///
/// # Errors
/// The kernel's: address in use, not allowed, not of this host.
pub fn bind(config: &Config) -> std::io::Result<Admin> {
    let listener = TcpListener::bind(config.address)?;
    listener.set_nonblocking(true)?;
    Ok(Admin { address: listener.local_addr()?, listener })
}

/// A bound admin endpoint.
pub struct Admin {
    address: SocketAddr,
    listener: TcpListener,
}

impl Admin {
    /// The address it has really got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` resolves.
    pub fn run(self, windows: Windows, stop: oneshot::Receiver<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                tokio::select! {
                    () = serve(self.listener, windows) => {}
                    _ = stop => {}
                }
            }),
            Err(error) => tracing::error!(%error, "no runtime for the admin endpoint: it answers nobody"),
        }
    }
}

async fn serve(listener: TcpListener, windows: Windows) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the admin endpoint cannot accept"),
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let windows = windows.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| respond(request, &windows));
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_TIMEOUT)
                        .max_buf_size(HEAD_BYTES_MAX)
                        // What is idle would hold a permit.
                        .keep_alive(false)
                        .serve_connection(TokioIo::new(stream), service);
                    // A client that breaks off or dawdles is its own loss.
                    let _outcome = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin endpoint rests for a moment");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

async fn respond(request: Request<Incoming>, windows: &Windows) -> Result<Response<Full<Bytes>>, Infallible> {
    let allowed = matches!(*request.method(), Method::GET | Method::HEAD);
    let page = if allowed {
        let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        pages::find(request.uri().path(), request.uri().query().unwrap_or_default(), accept, windows)
    } else {
        pages::method_not_allowed()
    };
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() = page.status;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(page.content_type));
    fields.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    fields.insert(header::CONTENT_SECURITY_POLICY, header::HeaderValue::from_static(CONTENT_POLICY));
    if !allowed {
        fields.insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;

    /// The line that the dashboard runs is the one that browsers are allowed to run.
    #[test]
    fn the_line_of_the_dashboard_may_run() {
        let page = include_str!("dashboard.html");
        let scripts: Vec<&str> = page.split("<script>").skip(1).filter_map(|rest| rest.split("</script>").next()).collect();
        let [script] = scripts[..] else { panic!("one line, not {scripts:?}") };
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, script.as_bytes());
        let hash = base64::engine::general_purpose::STANDARD.encode(digest);
        assert!(CONTENT_POLICY.contains(&format!("script-src 'sha256-{hash}'")), "its hash is {hash}");
    }
}
