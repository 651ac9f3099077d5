//! The door: TLS 1.3 (RFC 8446), and HTTP/1.1 behind it. Who has a certificate of our authority
//! shows it; who has none is let through to what needs none.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::ServerError;
use crate::authority::subject;
use crate::caller::Peer;
use crate::server::Server;

/// Connections at one time: more endpoints than one server is for.
const CONNECTIONS_MAX: usize = 60_000;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the headers of a request may take.
const HEADERS: Duration = Duration::from_secs(15);
/// How long calls that are under way may take when the server ends.
const ENDING: Duration = Duration::from_secs(10);
/// How long it waits when it cannot accept: no descriptors are left, most likely.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the server makes itself a new certificate.
const RENEW: Duration = Duration::from_secs(24 * 3600);

/// Serves until `stop` comes to its end.
pub async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let certificate = Arc::new(Current::of(&server)?);
    let acceptor = TlsAcceptor::from(Arc::new(config(&server, certificate.clone())?));
    let (graceful, room) = (GracefulShutdown::new(), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let mut renew = tokio::time::interval(RENEW);
    renew.tick().await;
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            _ = renew.tick() => {
                certificate.renew(&server);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, from)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = room.clone().try_acquire_owned() else {
            server.metrics.refused.inc();
            continue;
        };
        let (server, acceptor, router) = (server.clone(), acceptor.clone(), router.clone());
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            attend(&server, &acceptor, router, (stream, from.ip()), watcher).await;
            drop(place);
        });
    }
    drop(listener);
    // Who is not done by then is cut off.
    let _ = tokio::time::timeout(ENDING, graceful.shutdown()).await;
    Ok(())
}

/// One connection.
async fn attend(
    server: &Server,
    acceptor: &TlsAcceptor,
    router: Router,
    (stream, address): (TcpStream, IpAddr),
    watcher: hyper_util::server::graceful::Watcher,
) {
    // A reply that waits to be sent with another is late.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else {
        server.metrics.refused.inc();
        return;
    };
    server.metrics.handshakes.inc();
    let certificates = stream.get_ref().1.peer_certificates();
    let certified = certificates.and_then(<[_]>::first).and_then(subject);
    let service = TowerToHyperService::new(
        router.layer(Extension(Peer { certified, address: Some(address) })),
    );
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off has broken nothing.
    let _ = watcher.watch(connection).await;
}

fn config(server: &Arc<Server>, current: Arc<Current>) -> Result<ServerConfig, ServerError> {
    let failed = |error: &dyn std::fmt::Display| ServerError::Authority(error.to_string());
    let mut roots = RootCertStore::empty();
    roots.add(server.authority.der().clone()).map_err(|error| failed(&error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| failed(&error))?;
    let clock = Arc::new(Time(server.clone()));
    let mut config = ServerConfig::builder_with_details(provider, clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(&error))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(current);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The server's clock, for certificates.
struct Time(Arc<Server>);

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.clock.now_unix()))
    }
}

/// The server's own certificate.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    fn of(server: &Server) -> Result<Self, ServerError> {
        Ok(Self(RwLock::new(server.authority.serve(&server.names, server.now())?)))
    }

    fn renew(&self, server: &Server) {
        match server.authority.serve(&server.names, server.now()) {
            Ok(new) => *self.0.write().unwrap_or_else(PoisonError::into_inner) = new,
            // The old one is good for weeks.
            Err(error) => server.log.tell(&json!({
                "at": server.now(), "level": "error", "event": "certificate",
                "error": error.to_string(),
            })),
        }
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}
