//! Those who come to a port that has a gate: this machine's with TLS or without, others with TLS, which wait in the hub's lobby until they have shown who they are.
//!
//! ```text
//! elsewhere ── lobby ── handshake ── requests ── one with a consumer's token or certificate ── a place ── requests
//! here ─────── a place ── handshake, or none ── requests
//! ```

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use sedge_uplink::hub::{Gate, Newcomer, Origin, Stay};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connections::{Limits, Patient, converse};
use crate::shutdown::Shutdown;

/// A port with a gate.
pub(super) struct Port {
    pub(super) router: Router,
    pub(super) limits: Limits,
    /// Of those from other machines.
    pub(super) places: Arc<Semaphore>,
    /// Of this machine's.
    pub(super) here: Arc<Semaphore>,
    pub(super) gate: Gate,
    pub(super) shutdown: Shutdown,
}

impl Port {
    /// Looks after one who has come. Returns when the next may.
    pub(super) async fn arrived(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let port = Arc::clone(self);
        if peer.ip().to_canonical().is_loopback() {
            if let Ok(place) = Arc::clone(&self.here).acquire_owned().await {
                tokio::spawn(async move { port.neighbour(stream, place).await });
            }
            return;
        }
        let (newcomer, stay) = self.gate.receive(peer.ip());
        tokio::spawn(async move { port.stranger(stream, newcomer, stay).await });
    }

    async fn neighbour(&self, stream: TcpStream, _place: OwnedSemaphorePermit) {
        let patience = self.limits.head_patience;
        let Ok(Ok(is_tls)) = timeout(patience, begins_tls(&stream)).await else {
            return;
        };
        let stream = Patient::new(stream, self.limits);
        if !is_tls {
            let service = self.service(Origin::here(), None);
            return converse(stream, service, self.limits, self.shutdown.clone()).await;
        }
        if let Ok(Ok((stream, origin))) =
            timeout(patience, self.gate.shake_hands(stream, true)).await
        {
            let service = self.service(origin, None);
            converse(stream, service, self.limits, self.shutdown.clone()).await;
        }
    }

    async fn stranger(&self, stream: TcpStream, newcomer: Newcomer, stay: Stay) {
        tokio::select! {
            biased;
            () = stay.over() => {}
            ended = self.talk(stream, newcomer) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "no TLS connection for HTTP");
                }
            }
        }
    }

    async fn talk(&self, stream: TcpStream, newcomer: Newcomer) -> io::Result<()> {
        if !begins_tls(&stream).await? {
            return turn_away(stream).await;
        }
        stream.set_nodelay(true)?;
        let stream = Patient::new(stream, self.limits);
        let (stream, origin) = self.gate.shake_hands(stream, false).await?;
        let lobby = Lobby {
            newcomer,
            places: Arc::clone(&self.places),
            place: OnceLock::new(),
        };
        let limits = Limits {
            head_bytes_max: HEAD_BYTES_MAX,
            ..self.limits
        };
        let service = self.service(origin, Some(lobby));
        converse(stream, service, limits, self.shutdown.clone()).await;
        Ok(())
    }

    fn service(&self, origin: Origin, lobby: Option<Lobby>) -> Introduced {
        Introduced {
            router: TowerToHyperService::new(self.router.clone()),
            origin,
            lobby: lobby.map(Arc::new),
        }
    }
}

/// What answers on one connection, and says with each request who asks.
struct Introduced {
    router: TowerToHyperService<Router>,
    origin: Origin,
    /// Of one from another machine.
    lobby: Option<Arc<Lobby>>,
}

struct Lobby {
    newcomer: Newcomer,
    places: Arc<Semaphore>,
    /// Among those who are served, once it is known.
    place: OnceLock<OwnedSemaphorePermit>,
}

impl Service<Request<Incoming>> for Introduced {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let (router, lobby) = (self.router.clone(), self.lobby.clone());
        let origin = self.origin.clone();
        Box::pin(async move {
            if let Some(lobby) = lobby {
                lobby.asked(&origin, &request).await;
            }
            request.extensions_mut().insert(origin);
            router.call(request).await
        })
    }
}

impl Lobby {
    /// Who shows who it is waits for a place where all are taken, and leaves the lobby then.
    async fn asked(&self, origin: &Origin, request: &Request<Incoming>) {
        if self.newcomer.shows(origin, request.headers())
            && let Ok(place) = Arc::clone(&self.places).acquire_owned().await
        {
            self.place.get_or_init(|| place);
            self.newcomer.let_in();
        }
    }
}

/// Whether what comes first is a greeting in TLS.
async fn begins_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0] == HANDSHAKE),
    }
}

/// Tells one who speaks no TLS what to do. What it has said is heard to its end or for as long as it may stay, since it would not see the answer if
/// the connection ended with something unread.
async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(ASK_WITH_HTTPS.as_bytes()).await?;
    stream.shutdown().await?;
    let mut unheard = [0; 4096];
    while stream.read(&mut unheard).await? > 0 {}
    Ok(())
}

const ASK_WITH_HTTPS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"error\":\"this port speaks TLS with other machines; ask for https://\"}\n";
/// The first byte of a record of TLS that shakes hands.
const HANDSHAKE: u8 = 0x16;
/// What a request's head may have that comes from another machine, but for what is read with its last piece: a cursor of some ten thousand gateways, and less than would hurt where nobody knows who asks.
const HEAD_BYTES_MAX: usize = 128 * 1024;

#[cfg(test)]
mod tests;
