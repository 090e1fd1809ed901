//! The way to the broker: TCP, or TLS over it.
//!
//! rumqttc brings a TLS of its own, which is out of date. So it is given a socket in a directory that only we can enter, and what comes through there goes on
//! to the broker by the TLS of the uplinks.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sedge_uplink::trust::explain;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinHandle;

use super::broker::Target;

/// A connection to a broker.
pub(super) trait Way: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Way for T {}

/// Connects to the broker of `target`.
///
/// # Errors
/// As the network's, or TLS'.
pub(super) async fn connect(target: &Target) -> io::Result<Box<dyn Way>> {
    let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
    tcp.set_nodelay(true)?;
    match &target.tls {
        None => Ok(Box::new(tcp)),
        Some(caller) => Ok(Box::new(caller.connect(tcp, &target.host).await?)),
    }
}

/// A socket here that leads to the broker, for one connection.
#[derive(Debug)]
pub(super) struct Tunnel {
    socket: PathBuf,
    /// Goes with the tunnel.
    _dir: tempfile::TempDir,
    /// Why it does not lead there.
    broken: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl Tunnel {
    /// Opens one; it goes to the broker when somebody enters.
    ///
    /// # Errors
    /// When there is no place for the socket.
    pub(super) fn open(target: &Target) -> io::Result<Self> {
        let only_we = std::fs::Permissions::from_mode(0o700);
        let dir = tempfile::Builder::new()
            .prefix("sedge-")
            .permissions(only_we)
            .tempdir()?;
        let socket = dir.path().join("broker");
        let listener = UnixListener::bind(&socket)?;
        let broken = Arc::new(Mutex::new(None));
        let (target, reason) = (target.clone(), Arc::clone(&broken));
        let task = tokio::spawn(async move {
            if let Err(error) = lead(&listener, &target).await {
                *reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(explain(&error));
            }
        });
        Ok(Self {
            socket,
            _dir: dir,
            broken,
            task,
        })
    }

    /// Where it begins.
    pub(super) fn entrance(&self) -> String {
        self.socket.display().to_string()
    }

    /// What is to be told instead of `lost`, which only knows that the way has ended.
    pub(super) fn why(&self) -> Option<String> {
        let broken = self.broken.lock();
        broken.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn lead(listener: &UnixListener, target: &Target) -> io::Result<()> {
    let (mut here, _) = listener.accept().await?;
    let connecting = tokio::time::timeout(target.connect_timeout, connect(target));
    let mut there = connecting
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    match copy_bidirectional(&mut here, &mut there).await {
        // A broker that closes without TLS' good-bye is as gone as one that says it.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        copied => copied.map(drop),
    }
}
