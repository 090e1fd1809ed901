//! Who is at the door, and what they may do: the register, asked for each who comes and as long as they stay.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use sedge_store::watch;
use sedge_store::{Name, world};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsStream;

use super::lobby::Chair;
use super::options::HubTrust;
use super::{Ended, Farewell, Shared};
use crate::stream::{Incoming, Stream};
use crate::trust::accept::Acceptor;
use crate::trust::authority::Authority;
use crate::trust::register::{Denied, Identity, Kind, Register, Table};
use crate::trust::{Certified, TrustError, unix_s};
use crate::wire::{self, bye};

/// What a hub knows those by who come.
#[derive(Debug)]
pub(super) struct Guard {
    acceptor: Acceptor,
    register: Register,
    authority: Option<Authority>,
}

/// Who is at the other end of a connection, as far as it has shown.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// Somebody on this machine, at a hub that serves nobody else.
    Local,
    /// Somebody who has come by TLS, with a certificate or without.
    Remote(Option<Certified>),
}

/// What somebody may do, as long as the register says so.
#[derive(Debug)]
pub(super) struct Grant(Option<Held>);

#[derive(Debug)]
struct Held {
    kind: Kind,
    name: Name,
    shown: Shown,
    table: watch::Receiver<Arc<Table>>,
    /// A token may also end without a change of the register.
    look_at: Instant,
}

/// By what somebody is known.
#[derive(Clone)]
enum Shown {
    Certificate(Certified),
    Token(Vec<u8>),
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate(_) => "Certificate",
            Self::Token(_) => "Token(***)",
        })
    }
}

/// A grant that can be asked from many tasks.
#[derive(Clone, Debug)]
pub(super) struct Streams(Option<(Kind, Name, watch::Receiver<Arc<Table>>)>);

impl Guard {
    pub(super) fn new(trust: &HubTrust) -> Result<Self, TrustError> {
        Ok(Self {
            acceptor: Acceptor::new(trust.files.clone())?,
            register: Register::open(&trust.dir),
            authority: Authority::in_dir(&trust.dir),
        })
    }

    /// Shakes hands.
    pub(super) async fn meet(
        &self,
        tcp: TcpStream,
    ) -> std::io::Result<(TlsStream<TcpStream>, Caller)> {
        tcp.set_nodelay(true)?;
        self.shake_hands(tcp).await
    }

    /// The same on a connection of any kind.
    pub(super) async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
    ) -> std::io::Result<(TlsStream<S>, Caller)> {
        let (stream, certified) = self.acceptor.accept(socket).await?;
        Ok((stream.into(), Caller::Remote(certified)))
    }

    /// Reads the register again, if it has changed.
    pub(super) fn look(&self) {
        self.register.look();
    }
}

/// The place of a consumer among those who are served, while it is.
pub(super) struct Seat {
    shared: Arc<Shared>,
    _chair: Chair,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.counters.consumer_went();
    }
}

impl Shared {
    /// A seat for one more of a consumer, unless it has as many as it may.
    pub(super) fn seat(self: &Arc<Self>, grant: &Grant) -> Option<Seat> {
        let chair = self.chairs.take(grant.name())?;
        self.counters.consumer_came();
        Some(Seat {
            shared: Arc::clone(self),
            _chair: chair,
        })
    }

    /// What the gateway `name` may write.
    pub(super) fn admit_gateway(&self, caller: &Caller, name: &Name) -> Result<Grant, Denied> {
        self.admit(caller, |certified| {
            let certified = certified
                .ok_or_else(|| Denied::because("a gateway needs a certificate; enrol it first"))?;
            Ok((
                Kind::Gateway,
                name.clone(),
                Shown::Certificate(certified.clone()),
            ))
        })
    }

    /// What a consumer may read who shows `credential`, or its certificate.
    pub(super) fn admit_consumer(
        &self,
        caller: &Caller,
        credential: &[u8],
    ) -> Result<Grant, Denied> {
        self.admit(caller, |certified| {
            if !credential.is_empty() {
                let table = self.table();
                let identity = table.with_token(Kind::Consumer, credential, unix_s())?;
                let shown = Shown::Token(credential.to_vec());
                return Ok((Kind::Consumer, identity.name.clone(), shown));
            }
            let named = certified.and_then(|c| Some((c, c.name(Kind::Consumer)?)));
            let (certified, name) = named.ok_or_else(|| {
                Denied::because("a consumer needs a token, or a certificate of a consumer")
            })?;
            let name = Name::new(name)
                .map_err(|_| Denied::because("the name in the certificate is none"))?;
            Ok((Kind::Consumer, name, Shown::Certificate(certified.clone())))
        })
    }

    fn admit(
        &self,
        caller: &Caller,
        who: impl FnOnce(Option<&Certified>) -> Result<(Kind, Name, Shown), Denied>,
    ) -> Result<Grant, Denied> {
        let Some(guard) = &self.guard else {
            return Ok(Grant::everything());
        };
        // One that was enrolled a moment ago is known already.
        guard.look();
        let certified = match caller {
            Caller::Local => None,
            Caller::Remote(certified) => certified.as_ref(),
        };
        let (kind, name, shown) = who(certified)?;
        let held = Held {
            kind,
            name,
            shown,
            table: guard.register.watch(),
            look_at: Instant::now() + LOOK_EVERY,
        };
        held.check()?;
        Ok(Grant(Some(held)))
    }

    fn table(&self) -> Arc<Table> {
        let guard = self.guard.as_ref();
        guard.map_or_else(Arc::default, |g| g.register.now())
    }
}

impl Held {
    fn check(&self) -> Result<Identity, Denied> {
        let table = self.table.borrow();
        let found = match &self.shown {
            Shown::Certificate(c) => table.with_certificate(self.kind, self.name.as_str(), c),
            Shown::Token(secret) => table.with_token(self.kind, secret, unix_s()),
        };
        found.cloned()
    }
}

impl Grant {
    /// To whoever is on a machine that serves nobody else.
    pub(super) const fn everything() -> Self {
        Self(None)
    }

    /// Who it is; nobody in particular on a hub that serves this machine only.
    pub(super) fn name(&self) -> Option<&Name> {
        self.0.as_ref().map(|held| &held.name)
    }

    /// Which streams it is for.
    pub(super) fn streams(&self) -> Streams {
        let held = self.0.as_ref();
        Streams(held.map(|h| (h.kind, h.name.clone(), h.table.clone())))
    }

    /// When the register has changed, or it is taken back: why.
    pub(super) async fn changed(&mut self) -> Result<(), Denied> {
        let Some(held) = &mut self.0 else {
            return pending().await;
        };
        loop {
            let changed = tokio::time::timeout_at(held.look_at, held.table.changed()).await;
            held.look_at = Instant::now() + LOOK_EVERY;
            held.check()?;
            match changed {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) => return pending().await,
                Err(_) => {}
            }
        }
    }

    /// When it is taken back: why.
    pub(super) async fn withdrawn(&mut self) -> Denied {
        loop {
            if let Err(denied) = self.changed().await {
                return denied;
            }
        }
    }

    /// The gateway has shown the newest of its certificates: those before are good no more. Blocks for the disk.
    pub(super) fn settle_certificate(&self, shared: &Shared) {
        let (Some(guard), Some(held)) = (&shared.guard, &self.0) else {
            return;
        };
        let Shown::Certificate(shown) = &held.shown else {
            return;
        };
        let is_newest = |identity: &Identity| {
            identity.certificates.len() > 1
                && identity.certificates.last() == Some(&shown.fingerprint)
        };
        if !held.check().is_ok_and(|identity| is_newest(&identity)) {
            return;
        }
        let changed = guard.register.change(|table| {
            let identity = table.entry(held.kind, &held.name);
            if is_newest(identity) {
                identity.certificates = vec![shown.fingerprint.clone()];
            }
        });
        if let Err(e) = changed {
            tracing::warn!(gateway = %held.name, error = %e, "its certificate before the last one stays good");
        }
    }
}

impl Streams {
    /// Whether it is for `stream`, as the register says now.
    pub(super) fn has(&self, stream: &str) -> bool {
        let Some((kind, name, table)) = &self.0 else {
            return true;
        };
        let table = table.borrow();
        let identity = table.get(*kind, name.as_str());
        identity.is_some_and(|i| i.may_use(stream))
    }

    /// Whether it is for every stream, those included that are still to come.
    pub(super) fn are_all(&self) -> bool {
        let Some((kind, name, table)) = &self.0 else {
            return true;
        };
        let table = table.borrow();
        let identity = table.get(*kind, name.as_str());
        identity.is_some_and(Identity::may_use_all)
    }
}

/// Gives a gateway that said `first`, an Enrol, a certificate.
pub(super) async fn enrol(
    shared: &Arc<Shared>,
    mut stream: Stream,
    first: Incoming,
    caller: Caller,
) -> Ended {
    let Ok(asked) = wire::parse::<wire::Enrol>(&first.body) else {
        return Err(Farewell::new(stream, bye::MALFORMED, "malformed Enrol"));
    };
    let issuing = {
        let shared = Arc::clone(shared);
        world::blocking(move || shared.issue(&asked, &caller))
    };
    match issuing.await {
        Ok(Ok(enrolled)) => {
            stream.push(&enrolled);
            stream
                .end(bye::SHUTTING_DOWN, "come again with the certificate")
                .await;
            Ok(())
        }
        Ok(Err(Denied(why))) => Err(Farewell::new(stream, bye::NOT_ALLOWED, why)),
        Err(_) => Err(Farewell::new(stream, bye::INTERNAL, "interrupted")),
    }
}

impl Shared {
    fn issue(&self, asked: &wire::Enrol, caller: &Caller) -> Result<wire::Enrolled, Denied> {
        let Some(guard) = &self.guard else {
            return Err(Denied::because(
                "this hub has no certificates and serves its own machine only",
            ));
        };
        let Some(authority) = &guard.authority else {
            return Err(Denied::because(
                "this hub signs no certificates: its operator has an authority of their own",
            ));
        };
        let name = Name::new(asked.gateway.as_str()).map_err(|e| Denied(e.to_string()))?;
        guard.look();
        // Who may have one is looked at before it is made, and again when it is put down: a token is good for one.
        let certified = match caller {
            Caller::Remote(certified) => certified.as_ref(),
            Caller::Local => None,
        };
        entitled(&self.table(), &name, &asked.secret, certified)?;
        let failed = |e: TrustError| {
            tracing::error!(gateway = %name, error = %e, "a certificate could not be made");
            Denied::because("the hub cannot make a certificate now; its log says why")
        };
        let chain = authority
            .issue(Kind::Gateway, name.as_str(), &asked.public_key)
            .map_err(failed)?;
        let fingerprint = crate::trust::hex(&crate::trust::sha256(&chain[0]));
        let put_down = guard.register.change(|table| -> Result<(), Denied> {
            entitled(table, &name, &asked.secret, certified)?;
            let entry = table.entry(Kind::Gateway, &name);
            match certified.filter(|_| asked.secret.is_empty()) {
                // The one in use is good until the other has been kept.
                Some(old) => entry.certificates = vec![old.fingerprint.clone(), fingerprint],
                None => {
                    entry.tokens.clear();
                    entry.certificates = vec![fingerprint];
                }
            }
            Ok(())
        });
        put_down.map_err(failed)??;
        tracing::info!(gateway = %name, by = if asked.secret.is_empty() { "certificate" } else { "token" }, "enrolled");
        Ok(wire::Enrolled {
            certificates: chain.iter().map(|c| c.to_vec()).collect(),
        })
    }
}

/// Whether a certificate may be made for `name`.
fn entitled(
    table: &Table,
    name: &Name,
    secret: &[u8],
    certified: Option<&Certified>,
) -> Result<(), Denied> {
    if secret.is_empty() {
        let certified =
            certified.ok_or_else(|| Denied::because("neither a token nor a certificate"))?;
        return table
            .with_certificate(Kind::Gateway, name.as_str(), certified)
            .map(|_| ());
    }
    let holder = table.with_token(Kind::Gateway, secret, unix_s())?;
    match holder.name == *name {
        true => Ok(()),
        false => Err(Denied(format!("the token is not that of gateway {name}"))),
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(5);
