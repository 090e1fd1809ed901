//! Connections: TCP, TLS over it, or those of a network that a simulation brings, for its own thread alone
//! ([decision 0015](../../docs/decisions/0015-simulation.md)).

use std::cell::RefCell;
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsStream;

use crate::trust::connect::Caller;

/// A simulated network.
pub trait Network {
    /// Connects to `address`, a host and a port.
    fn connect(&self, address: &str) -> Connecting;
}

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Socket>>> + Send>>;

/// One end of a connection.
pub trait Socket: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin> Socket for T {}

/// As long as this lives, the thread's connections are made by its network.
#[derive(Debug)]
#[must_use = "the network ends when this is dropped"]
pub struct Entered(PhantomData<Rc<()>>);

/// Puts this thread into `network`.
pub fn enter(network: Rc<dyn Network>) -> Entered {
    NETWORK.with_borrow_mut(|here| *here = Some(network));
    Entered(PhantomData)
}

impl Drop for Entered {
    fn drop(&mut self) {
        NETWORK.with_borrow_mut(Option::take);
    }
}

/// Where connections come in.
#[derive(Debug)]
pub enum Listener {
    /// A port of this machine.
    Tcp(TcpListener),
    /// A simulated one, with its address.
    Simulated(
        SocketAddr,
        mpsc::UnboundedReceiver<(Box<dyn Socket>, SocketAddr)>,
    ),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl Listener {
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Simulated(address, _) => Ok(*address),
        }
    }

    /// The next connection. Cancelling loses none.
    pub(crate) async fn accept(&mut self) -> io::Result<(Connection, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (tcp, peer) = listener.accept().await?;
                Ok((Connection::Tcp(tcp), peer))
            }
            Self::Simulated(_, arriving) => match arriving.recv().await {
                Some((socket, peer)) => Ok((Connection::Simulated(socket), peer)),
                // A network that is gone brings nobody.
                None => std::future::pending().await,
            },
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Connection {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Simulated(Box<dyn Socket>),
}

/// How much the kernel takes of a connection before it is sent. Until something is set, as much as it likes.
#[derive(Debug)]
pub(crate) struct Unsent(OwnedFd);

impl Unsent {
    /// What is set.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u32 {
        let socket = socket2::SockRef::from(&self.0);
        socket.tcp_notsent_lowat().expect("the kernel says")
    }

    /// No more than about so many bytes.
    pub(crate) fn bound(&self, bytes: u32) {
        if let Err(error) = socket2::SockRef::from(&self.0).set_tcp_notsent_lowat(bytes) {
            tracing::debug!(%error, "the kernel takes what it likes");
        }
    }
}

/// The half that is read.
pub(crate) trait Reading: AsyncRead + Debug + Send + Sync + Unpin {}
/// The half that is written.
pub(crate) trait Writing: AsyncWrite + Debug + Send + Sync + Unpin {}

impl<T: AsyncRead + Debug + Send + Sync + Unpin> Reading for T {}
impl<T: AsyncWrite + Debug + Send + Sync + Unpin> Writing for T {}

impl Connection {
    /// Connects to `address`, a host and a port.
    pub(crate) async fn connect(address: &str) -> io::Result<Self> {
        let simulated = NETWORK.with_borrow(|n| n.as_ref().map(|n| n.connect(address)));
        match simulated {
            None => TcpStream::connect(address).await.map(Self::Tcp),
            Some(connecting) => connecting.await.map(Self::Simulated),
        }
    }

    /// Connects to `address`, a host and a port, with TLS.
    pub(crate) async fn connect_tls(address: &str, caller: &Caller) -> io::Result<Self> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        match Self::connect(address).await? {
            Self::Tcp(tcp) => {
                tcp.set_nodelay(true)?;
                let tls = caller.connect(tcp, host).await?;
                Ok(Self::Tls(Box::new(tls.into())))
            }
            // A simulation has no use for secrets.
            other => Ok(other),
        }
    }

    /// Connects to `address` without TLS, which is only done on this machine. `ca` is the file that would make it TLS.
    pub(crate) async fn connect_local(address: &str, ca: Option<&Path>) -> io::Result<Self> {
        let connection = Self::connect(address).await?;
        let is_local = match &connection {
            Self::Tcp(tcp) => tcp.peer_addr()?.ip().is_loopback(),
            _ => true,
        };
        if is_local {
            return Ok(connection);
        }
        let ca = ca.map_or_else(String::new, |ca| {
            format!(" ({} is not there)", ca.display())
        });
        Err(io::Error::other(format!(
            "{address} is another machine, and nothing says by what certificate it is known{ca}: `sedge enroll` with a token of the hub, or name a `ca`"
        )))
    }

    /// What sets how much the kernel takes before it is sent; none in a simulation.
    pub(crate) fn unsent(&self) -> Option<Unsent> {
        let tcp = match self {
            Self::Tcp(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
            Self::Simulated(_) => return None,
        };
        tcp.as_fd().try_clone_to_owned().ok().map(Unsent)
    }

    /// Its two directions.
    pub(crate) fn split(self) -> io::Result<(Box<dyn Reading>, Box<dyn Writing>)> {
        match self {
            Self::Tcp(tcp) => {
                tcp.set_nodelay(true)?;
                let (reader, writer) = tcp.into_split();
                Ok((Box::new(reader), Box::new(writer)))
            }
            Self::Tls(tls) => {
                let (reader, writer) = tokio::io::split(*tls);
                Ok((Box::new(reader), Box::new(writer)))
            }
            Self::Simulated(socket) => {
                let (reader, writer) = tokio::io::split(socket);
                Ok((Box::new(reader), Box::new(writer)))
            }
        }
    }
}

thread_local! {
    static NETWORK: RefCell<Option<Rc<dyn Network>>> = const { RefCell::new(None) };
}

#[cfg(test)]
pub(crate) mod tests;
