//! The side of a connection that is called: shows a certificate, and looks at that of the caller.
//!
//! The files are read again when they have changed, so a new certificate needs no restart. New files that cannot be used are told, and those before stay
//! in force.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::files::{self, Stamp, stamp};
use super::{Certified, TrustError, provider};

/// Which files one who is called works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// Its certificate, and those that this is signed by.
    pub certificate: PathBuf,
    /// The key of the first.
    pub key: PathBuf,
    /// What the certificates of callers are signed by; none asks for no certificate.
    pub client_ca: Option<PathBuf>,
    /// A caller without a certificate is refused.
    pub client_required: bool,
}

/// Takes TLS connections.
#[derive(Debug)]
pub struct Acceptor {
    files: ServerFiles,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    stamps: [Stamp; 3],
    /// Those of files that could not be used, which has been told.
    bad: Option<[Stamp; 3]>,
    looked: Instant,
}

impl Acceptor {
    /// One that works with `files`.
    ///
    /// # Errors
    /// When one of them cannot be used.
    pub fn new(files: ServerFiles) -> Result<Self, TrustError> {
        let stamps = files.stamps();
        let config = files.load()?;
        let loaded = Mutex::new(Loaded {
            config,
            stamps,
            bad: None,
            looked: Instant::now(),
        });
        Ok(Self { files, loaded })
    }

    /// What holds now.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.looked.elapsed() >= LOOK_EVERY {
            loaded.looked = Instant::now();
            let stamps = self.files.stamps();
            if stamps != loaded.stamps {
                match self.files.load() {
                    Ok(config) => {
                        (loaded.config, loaded.stamps, loaded.bad) = (config, stamps, None);
                        tracing::info!(certificate = %self.files.certificate.display(), "new certificate");
                    }
                    Err(_) if loaded.bad == Some(stamps) => {}
                    Err(e) => {
                        loaded.bad = Some(stamps);
                        tracing::error!(error = %e, "the new certificate cannot be used; the one before stays in force")
                    }
                }
            }
        }
        Arc::clone(&loaded.config)
    }

    /// Shakes hands on `socket`. Whoever waits bounds the time.
    ///
    /// # Errors
    /// When the peer breaks off, or shows what is not good; [`explain`](super::explain) says which.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
    ) -> io::Result<(TlsStream<S>, Option<Certified>)> {
        let stream = TlsAcceptor::from(self.config()).accept(socket).await?;
        let certified = certified(stream.get_ref().1);
        Ok((stream, certified))
    }
}

/// What the caller has shown.
#[must_use]
pub fn certified(connection: &ServerConnection) -> Option<Certified> {
    let chain = connection.peer_certificates()?;
    chain.first().map(Certified::of)
}

impl ServerFiles {
    fn load(&self) -> Result<Arc<ServerConfig>, TrustError> {
        let chain = files::certificates(&self.certificate)?;
        let key = files::key(&self.key)?;
        let verifier = match &self.client_ca {
            None => Arc::new(NoClientAuth) as _,
            Some(ca) => {
                let roots = Arc::new(files::roots(ca)?);
                let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                if !self.client_required {
                    verifier = verifier.allow_unauthenticated();
                }
                verifier.build().map_err(|e| TrustError::new(ca, e))?
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| TrustError::new(&self.certificate, e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|e| TrustError::new(&self.certificate, format!("and its key: {e}")))?;
        // Connections last for weeks: what would be kept to shorten the next handshake is memory for nothing.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    fn stamps(&self) -> [Stamp; 3] {
        [
            stamp(&self.certificate),
            stamp(&self.key),
            self.client_ca.as_deref().and_then(stamp),
        ]
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
