//! The gate of the HTTP port at a hub with certificates: TLS, and the lobby for those who come from other machines until they have shown who they are.
//!
//! It knows nothing of how requests are served; what serves them asks it.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsStream;

use super::{Refusal, token_in};
use crate::hub::guard::{Caller, Grant, Guard};
use crate::hub::lobby::{Chair, Place};
use crate::hub::{HANDSHAKE_PATIENCE, HubError, HubHandle, Shared};

/// The gate.
#[derive(Clone, Debug)]
pub struct Gate {
    shared: Arc<Shared>,
}

/// Who asks, as far as the connection tells; each request that came through a [`Gate`] has it among its extensions.
#[derive(Clone, Debug)]
pub struct Origin {
    is_here: bool,
    pub(super) caller: Caller,
}

/// One who has come from another machine.
#[derive(Debug)]
pub struct Newcomer {
    gate: Gate,
    stage: watch::Sender<Stage>,
    /// Among the connections of its consumer, once it is known.
    chair: OnceLock<Chair>,
}

/// Its stay in the lobby.
#[derive(Debug)]
pub struct Stay {
    gate: Gate,
    place: Place,
    known_by: Instant,
    stage: watch::Receiver<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Silent,
    Asking,
    Known,
}

impl HubHandle {
    /// The gate of the port of `listener`; none where the hub has no certificates and serves its own machine.
    ///
    /// # Errors
    /// [`HubError::NotLoopback`] when it could be reached from elsewhere and nothing says who may come.
    pub fn http_gate(&self, listener: &TcpListener) -> Result<Option<Gate>, HubError> {
        let address = listener.local_addr()?;
        if self.shared.guard.is_none() {
            return match address.ip().is_loopback() {
                true => Ok(None),
                false => Err(HubError::NotLoopback { address }),
            };
        }
        let shared = Arc::clone(&self.shared);
        Ok(Some(Gate { shared }))
    }
}

impl Gate {
    /// Gives one who comes from `address` a place in the lobby.
    #[must_use]
    pub fn receive(&self, address: IpAddr) -> (Newcomer, Stay) {
        let (stage, seen) = watch::channel(Stage::Silent);
        let newcomer = Newcomer {
            gate: self.clone(),
            stage,
            chair: OnceLock::new(),
        };
        let stay = Stay {
            gate: self.clone(),
            place: self.shared.lobby.enter(address),
            known_by: Instant::now() + HANDSHAKE_PATIENCE,
            stage: seen,
        };
        (newcomer, stay)
    }

    /// Shakes hands with who comes by `socket`, from this machine or another. Whoever waits bounds the time.
    ///
    /// # Errors
    /// When the peer breaks off, or shows a certificate that is not good.
    pub async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
        is_here: bool,
    ) -> io::Result<(TlsStream<S>, Origin)> {
        let met = self.guard().shake_hands(socket).await;
        let (stream, caller) = met.inspect_err(|_| self.shared.counters.unknown())?;
        Ok((stream, Origin { is_here, caller }))
    }

    /// Whether `asked` may be told what concerns the whole hub: this machine, and a consumer that may read every stream.
    ///
    /// # Errors
    /// What it is told instead.
    pub fn may_see_all(&self, asked: &Parts) -> Result<(), Box<Response>> {
        let origin = asked.extensions.get::<Origin>();
        if origin.is_some_and(|origin| origin.is_here) {
            return Ok(());
        }
        let told = |refusal: Refusal| Box::new(refusal.into_response());
        let grant = self.shared.granted(origin, &asked.headers).map_err(told)?;
        match grant.streams().are_all() {
            true => Ok(()),
            false => Err(told(Refusal::new(
                StatusCode::FORBIDDEN,
                "here are names of all streams; it takes a consumer that may read every stream (`sedge hub tokens add NAME`)",
            ))),
        }
    }

    fn guard(&self) -> &Guard {
        let guard = self.shared.guard.as_ref();
        guard.expect("a hub without it has no gate")
    }
}

impl Shared {
    /// What may be read by who asks with `headers`.
    pub(super) fn granted(
        &self,
        origin: Option<&Origin>,
        headers: &HeaderMap,
    ) -> Result<Grant, Refusal> {
        let caller = match (&self.guard, origin) {
            (None, _) => Caller::Local,
            (Some(_), Some(origin)) => origin.caller.clone(),
            (Some(_), None) => Caller::Remote(None),
        };
        let token = token_in(headers)?;
        let secret = token.as_ref().map_or(&[][..], |token| token.secret());
        self.admit_consumer(&caller, secret).map_err(|denied| {
            self.counters.unknown();
            Refusal::new(StatusCode::UNAUTHORIZED, denied.0)
        })
    }
}

impl Origin {
    /// One on this machine, who has come without TLS.
    #[must_use]
    pub const fn here() -> Self {
        Self {
            is_here: true,
            caller: Caller::Remote(None),
        }
    }
}

impl Newcomer {
    /// It asks. Whether it shows with `headers` who it is, and has not before: then it is to be [let in](Self::let_in).
    pub fn shows(&self, origin: &Origin, headers: &HeaderMap) -> bool {
        if *self.stage.borrow() == Stage::Known {
            return false;
        }
        self.stage.send_replace(Stage::Asking);
        let shared = &self.gate.shared;
        let token = token_in(headers).ok().flatten();
        let secret = token.as_ref().map_or(&[][..], |token| token.secret());
        let Ok(grant) = shared.admit_consumer(&origin.caller, secret) else {
            return false;
        };
        // Who has as many connections as it may is served in the lobby, for as long as there is room.
        let chair = shared.http_chairs.take(grant.name());
        chair.is_some_and(|chair| self.chair.set(chair).is_ok())
    }

    /// It leaves the lobby.
    pub fn let_in(&self) {
        self.stage.send_replace(Stage::Known);
    }
}

impl Stay {
    /// When the newcomer has to go. Who is let in is not told to.
    pub async fn over(self) {
        let Self {
            gate,
            mut place,
            known_by,
            mut stage,
        } = self;
        let mut first = stage.clone();
        let silent = async {
            let asks = first.wait_for(|stage| *stage != Stage::Silent);
            if timeout_at(known_by, asks).await.is_ok() {
                std::future::pending().await
            }
        };
        tokio::select! {
            biased;
            // Where the newcomer is gone there is nobody to be told.
            _ = stage.wait_for(|stage| *stage == Stage::Known) => {}
            () = place.pushed_out() => return gate.shared.counters.refused(),
            () = silent => return gate.shared.counters.broken(),
        }
        drop(place);
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::hub::{Hub, HubOptions};

    /// Whether it is over at `end` and not a moment before.
    async fn is_over_at(end: Instant, stay: impl Future<Output = ()>) -> bool {
        let mut stay = pin!(stay);
        let is_early = timeout_at(end - MOMENT, &mut stay).await.is_ok();
        !is_early && timeout_at(end + MOMENT, &mut stay).await.is_ok()
    }

    /// Whoever asks may take its time to show who it is, as long as nobody else needs its place; whoever is let in has it no more.
    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_has_to_go_and_who_asks_only_where_there_is_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let hub = Hub::open(HubOptions::new(dir.path())).await.unwrap();
        let shared = Arc::clone(&hub.shared);
        let gate = Gate { shared };
        let address = IpAddr::from([192, 0, 2, 1]);
        let counted = || {
            let status = gate.shared.status();
            (status.broken, status.refused)
        };

        let (_silent, stay) = gate.receive(address);
        let patience = Instant::now() + HANDSHAKE_PATIENCE;
        assert!(is_over_at(patience, stay.over()).await);
        assert_eq!(counted(), (1, 0));

        let (asks, asked) = gate.receive(address);
        let (welcome, welcomed) = gate.receive(address);
        let (mut asked, mut welcomed) = (pin!(asked.over()), pin!(welcomed.over()));
        sleep(HANDSHAKE_PATIENCE / 2).await;
        for newcomer in [&asks, &welcome] {
            assert!(newcomer.shows(&Origin::here(), &HeaderMap::new()));
        }
        let in_vain = timeout(10 * HANDSHAKE_PATIENCE, &mut asked).await;
        assert!(in_vain.is_err());
        welcome.let_in();
        assert!(timeout(MOMENT, &mut welcomed).await.is_err());
        let _crowd: Vec<_> = (0..1_000).map(|_| gate.receive(address)).collect();
        timeout(MOMENT, asked).await.unwrap();
        assert!(timeout(HANDSHAKE_PATIENCE, welcomed).await.is_err());
        assert_eq!(counted(), (1, 1));
    }

    const MOMENT: Duration = Duration::from_millis(10);
}
