//! The demo: a scene with echo upstreams, served by the ordinary house, with an invitation when it stands.

use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::time::Duration;

use crate::admin;
use crate::boot::config::Config;
use crate::boot::failure::Failure;
use crate::boot::house;
use crate::boot::house::Bound;
use crate::boot::thread;
use crate::control;
use crate::demo;
use crate::demo::Addresses;
use crate::demo::Stage;
use crate::shard::ListenerConfig;
use crate::shard::Placement;
use crate::telemetry::access_log;
use crate::telemetry::program_log;

/// Whoever presses Ctrl-C wants to have the prompt back.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// Ports that are easy to remember, taken where nobody else has them.
const HTTP_PORT: u16 = 8080;
const HTTPS_PORT: u16 = 8443;
const ADMIN_PORT: u16 = 9900;

/// Serves the built-in manifests until Ctrl-C.
///
/// # Errors
/// The directory cannot be written, or what [`crate::boot::run`] says.
pub fn demo(scene: &demo::Config, placement: Placement, log: program_log::Config) -> Result<(), Failure> {
    let where_to = || scene.directory.as_ref().map_or_else(|| "the directory of the demo".to_owned(), |path| path.display().to_string());
    let (stage, echoes) = Stage::set(scene.directory.as_deref()).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::configuration(format!(
            "{error}: nothing is written over: name another directory with --dir, or serve this one with corelane run --manifests"
        )),
        _ => Failure::of_io(&where_to(), &error),
    })?;
    program_log::start(&log);
    let (stop, stops) = tokio::sync::oneshot::channel();
    let echo = thread::spawn("echo", move || echoes.run(stops))?;
    let listener = |scheme: &str, tls, given, port| {
        let address = given_or_free(given, port);
        ListenerConfig { name: format!("{scheme}/{address}"), address, tls }
    };
    let config = Config {
        listeners: vec![listener("http", false, scene.http, HTTP_PORT), listener("https", true, scene.https, HTTPS_PORT)],
        placement,
        drain_timeout: DRAIN_TIMEOUT,
        pre_stop_delay: Duration::ZERO,
        admin: admin::Config { address: given_or_free(scene.admin, ADMIN_PORT) },
        control: control::Config::of_manifests(vec![stage.directory().to_owned()]),
        access_log: access_log::Destination::Off,
        access_log_format: access_log::Format::Json,
        log,
    };
    let mut invitation = stage.invitation(Addresses { http: ANY, https: ANY, admin: ANY });
    let invite = move |bound: &Bound| {
        let of = |tls| bound.listeners.iter().find(|listener| listener.0 == tls).map_or(ANY, |listener| listener.1);
        invitation.addresses = Addresses { http: of(false), https: of(true), admin: bound.admin };
        // A closed stdout keeps nobody from serving.
        let _closed = std::io::stdout().lock().write_all(invitation.to_string().as_bytes());
    };
    let ended = house::stand(config, Box::new(invite));
    drop(stop);
    if echo.join().is_err() {
        tracing::error!("the echo upstreams ended by a panic");
    }
    ended
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The address that was asked for; else the usual port on loopback, or any free one where that is taken.
fn given_or_free(given: Option<SocketAddr>, port: u16) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    given.unwrap_or_else(|| if TcpListener::bind(usual).is_ok() { usual } else { ANY })
}
