//! The way to an endpoint: a kept connection, or a new one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::http::fault::UpstreamFault;
use crate::net::limits;
use crate::net::limits::Shortage;
use crate::net::socket::Socket;
use crate::net::stream::Stream;
use crate::net::tls::Session;
use crate::shard::lease::ClusterPool;
use crate::shard::lease::Lease;
use crate::shard::state::Shard;
use crate::snapshot::cluster::Cluster;
use crate::snapshot::cluster::Protocol;
use crate::snapshot::settings::Settings;

/// Borrows a connection to this endpoint of the cluster, or opens one within `connect_timeout`.
///
/// `fresh_only`: a kept connection has failed this request already.
///
/// # Errors
/// `ConnectFailed`, `NoPort`, `NoSocket`, `TlsFailed`: no byte of the request was sent.
pub(crate) async fn lease(
    shard: &Rc<Shard>,
    pool: &Rc<ClusterPool>,
    cluster: &Arc<Cluster>,
    settings: &Settings,
    endpoint: usize,
    connect_timeout: Duration,
    fresh_only: bool,
) -> Result<Lease, UpstreamFault> {
    let address = cluster.endpoints[endpoint].address;
    let started_us = shard.ring.now_us();
    if !fresh_only && let Some(lease) = pool.borrow(cluster, settings, address, started_us) {
        return Ok(lease);
    }
    let opening = pool.open(address, started_us);
    let connecting = Socket::connect(&shard.ring, address, connect_timeout.as_millis() as u64);
    let socket = connecting.await.map_err(|error| {
        tracing::debug!(%address, %error, "connecting to an endpoint failed");
        match limits::shortage(&error) {
            Some(Shortage::Ports) => UpstreamFault::NoPort,
            Some(Shortage::Sockets) => UpstreamFault::NoSocket,
            None => UpstreamFault::ConnectFailed,
        }
    })?;
    shard.metrics.upstream_connection_opened();
    let mut stream = Stream::plain(socket);
    if cluster.protocol == Protocol::Https {
        let session = Session::client(shard.client_tls.clone(), address.ip()).map_err(|_| UpstreamFault::TlsFailed)?;
        stream.socket().set_deadline(connect_timeout.as_millis() as u64);
        stream.start_tls(session).map_err(|_| UpstreamFault::TlsFailed)?;
        stream.handshake().await.map_err(|_| UpstreamFault::TlsFailed)?;
        stream.socket().clear_deadline();
    }
    Ok(opening.lease(stream, shard.ring.now_us()))
}
