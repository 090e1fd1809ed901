//! How a gateway gets its certificate: with a token, once; later with the certificate that it has, before that ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use super::clock::LastGood;
use super::connect::{Anchor, Caller};
use super::files::{certificates, write_private, write_public};
use super::peer::{explain, life};
use super::token::Token;
use crate::address::{self, BadAddress};
use crate::net::Connection;
use crate::stream::{Stream, StreamError};
use crate::wire::{self, kind};

/// The files of a gateway for one hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayFiles {
    /// What the hub's certificate is signed by.
    pub ca: PathBuf,
    /// The gateway's certificate, and those that it is signed by.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl GatewayFiles {
    /// Those that [`enrol`] writes into `dir`.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            ca: dir.join("ca.pem"),
            certificate: dir.join("gateway.pem"),
            key: dir.join("gateway.pem"),
        }
    }

    /// How a connection is made with them.
    #[must_use]
    pub fn caller(&self, clock: &Arc<LastGood>) -> Caller {
        Caller {
            anchor: Anchor::File(self.ca.clone()),
            certificate: Some((self.certificate.clone(), self.key.clone())),
            clock: Arc::clone(clock),
            tls12: false,
        }
    }

    /// From when to when the certificate is good, in seconds since 1970; none if there is none.
    #[must_use]
    pub fn life(&self) -> Option<(u64, u64)> {
        life(certificates(&self.certificate).ok()?.first()?)
    }

    /// Whether it is time for another certificate: two thirds of the life of this one, which came from the hub, are over.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        let from_hub = self.certificate == self.key;
        self.life()
            .filter(|_| from_hub)
            .is_some_and(|(from, to)| now >= from + (to.saturating_sub(from)) / 3 * 2)
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// It is not clear where the hub is.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// The token does not say which hub is the right one, and no certificate is given that does.
    #[error(
        "the token does not say by what the hub is known: name its certificate authority (--ca FILE)"
    )]
    NoAnchor,
    /// The network says so, or the handshake.
    #[error("no connection to {hub}: {what}")]
    Connection {
        /// Which hub.
        hub: String,
        /// What happened.
        what: String,
    },
    /// The hub does not give one.
    #[error("the hub refuses: {0}")]
    Refused(String),
    /// What it answers is none.
    #[error("the answer is not what a hub says")]
    Malformed,
    /// It cannot be kept.
    #[error("{}: {error}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Gets a certificate for `gateway` from the hub at `url` with `token`, and keeps it in `files`.
///
/// # Errors
/// [`EnrolError`]; the token may have been used up only if the hub did give one.
pub async fn enrol(
    url: &str,
    gateway: &str,
    token: &Token,
    ca: Option<&Path>,
    files: &GatewayFiles,
) -> Result<(), EnrolError> {
    let anchor = match (ca, token.pin()) {
        (Some(path), _) => Anchor::File(path.into()),
        (None, Some(pin)) => Anchor::Pin(pin),
        (None, None) => return Err(EnrolError::NoAnchor),
    };
    let caller = Caller {
        anchor,
        certificate: None,
        // Whoever enrols sits before the machine: a wrong clock is better told than forgiven.
        clock: Arc::new(LastGood::in_memory()),
        tls12: false,
    };
    obtain(url, gateway, token.secret(), &caller, files).await
}

/// Gets another certificate with the one in `files`.
///
/// # Errors
/// [`EnrolError`]; the certificate at hand stays as it is.
pub async fn renew(
    url: &str,
    gateway: &str,
    files: &GatewayFiles,
    clock: &Arc<LastGood>,
) -> Result<(), EnrolError> {
    obtain(url, gateway, &[], &files.caller(clock), files).await
}

async fn obtain(
    url: &str,
    gateway: &str,
    secret: &[u8],
    caller: &Caller,
    files: &GatewayFiles,
) -> Result<(), EnrolError> {
    let made = |e: rcgen::Error| EnrolError::Io {
        path: files.key.clone(),
        error: io::Error::other(e),
    };
    let key = KeyPair::generate().map_err(made)?;
    let asked = ask(url, gateway, secret, caller, key.subject_public_key_info());
    let answered = timeout(PATIENCE, asked).await;
    let chain = answered.unwrap_or_else(|_| {
        Err(EnrolError::Connection {
            hub: url.into(),
            what: "it does not answer".into(),
        })
    })?;
    keep(&chain, &key, files)
}

async fn ask(
    url: &str,
    gateway: &str,
    secret: &[u8],
    caller: &Caller,
    public_key: Vec<u8>,
) -> Result<Vec<CertificateDer<'static>>, EnrolError> {
    let lost = |what: String| EnrolError::Connection {
        hub: url.into(),
        what,
    };
    let address = address::of(url)?;
    let connection = Connection::connect_tls(&address, caller)
        .await
        .map_err(|e| lost(explain(&e)))?;
    let mut stream =
        Stream::new(connection, wire::REQUEST_BYTES_MAX).map_err(|e| lost(e.to_string()))?;
    stream.push(&wire::Enrol {
        gateway: gateway.into(),
        secret: secret.to_vec(),
        public_key,
    });
    loop {
        let message = stream.receive().await.map_err(|e| match &e {
            StreamError::Io(e) => lost(explain(e)),
            e => lost(e.to_string()),
        })?;
        match message.kind {
            kind::ENROLLED => {
                let enrolled: wire::Enrolled =
                    wire::parse(&message.body).map_err(|_| EnrolError::Malformed)?;
                let chain: Vec<_> = enrolled
                    .certificates
                    .into_iter()
                    .map(CertificateDer::from)
                    .collect();
                return match chain.len() {
                    2.. => Ok(chain),
                    _ => Err(EnrolError::Malformed),
                };
            }
            kind::BYE => {
                let bye: wire::Bye =
                    wire::parse(&message.body).map_err(|_| EnrolError::Malformed)?;
                return Err(EnrolError::Refused(bye.reason));
            }
            _ => {}
        }
    }
}

/// Certificate and key stand in one file, so that no power cut can come between them.
fn keep(
    chain: &[CertificateDer<'_>],
    key: &KeyPair,
    files: &GatewayFiles,
) -> Result<(), EnrolError> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |error| EnrolError::Io { path, error }
    };
    if let Some(dir) = files.certificate.parent() {
        fs::create_dir_all(dir).map_err(wrong(dir))?;
    }
    let pem = |list: &[CertificateDer<'_>]| -> String { list.iter().map(|c| armour(c)).collect() };
    let own = format!("{}{}", key.serialize_pem(), pem(chain));
    write_private(&files.certificate, own.as_bytes()).map_err(wrong(&files.certificate))?;
    let ca = pem(&chain[chain.len() - 1..]);
    // Whoever follows a renewal must not find it missing for a moment.
    if fs::read_to_string(&files.ca).is_ok_and(|there| there == ca) {
        return Ok(());
    }
    write_public(&files.ca, ca.as_bytes()).map_err(wrong(&files.ca))
}

fn armour(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap_or_default())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

/// Certificates are made in no time; the way may be long.
const PATIENCE: Duration = Duration::from_secs(30);
