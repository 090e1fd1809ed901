//! Where clients come in: TCP, TLS over it, or the network of a simulation, for its own thread alone ([decision 0015](../../../../docs/decisions/0015-simulation.md)).

use std::cell::RefCell;
use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::tls::TlsStream;

/// A simulated network, as those see it who listen.
pub trait Network {
    /// Listens: connections come out of the receiver, until it is dropped.
    ///
    /// # Errors
    /// As the kernel's.
    fn listen(&self, address: SocketAddr) -> io::Result<Arriving>;
}

/// Connections that come in.
pub type Arriving = mpsc::UnboundedReceiver<Box<dyn Socket>>;

/// One end of a simulated connection; its functions do what those of a [`TcpStream`] with the same names do.
pub trait Socket: Debug + Send + Sync {
    /// Whether there is something to read, or its end.
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Whether there is room to write.
    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Reads what is there.
    ///
    /// # Errors
    /// `WouldBlock`, if nothing is.
    fn try_read(&self, into: &mut [u8]) -> io::Result<usize>;
    /// Writes what finds room.
    ///
    /// # Errors
    /// `WouldBlock`, if there is none.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Nothing more is written.
    fn shut_down(&self);
}

/// As long as this lives, the thread's clients come by its network.
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

/// A port that is listened on.
#[derive(Debug)]
pub enum Door {
    /// One of this machine.
    Tcp(TcpListener),
    /// A simulated one.
    Simulated(SocketAddr, Arriving),
}

impl From<TcpListener> for Door {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl Door {
    pub(super) async fn open(address: SocketAddr) -> io::Result<Self> {
        let simulated = NETWORK.with_borrow(|n| n.as_ref().map(|n| n.listen(address)));
        match simulated {
            None => TcpListener::bind(address).await.map(Self::Tcp),
            Some(listening) => Ok(Self::Simulated(address, listening?)),
        }
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Simulated(address, _) => Ok(*address),
        }
    }

    /// The next connection. Cancelling loses none.
    pub(super) async fn accept(&mut self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // PUBACKs are written in bulk; waiting to merge them would only delay them.
                drop(stream.set_nodelay(true));
                Ok(Stream::Tcp(stream))
            }
            Self::Simulated(_, arriving) => match arriving.recv().await {
                Some(socket) => Ok(Stream::Simulated(socket)),
                // A network that is gone brings nobody.
                None => std::future::pending().await,
            },
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream>),
    Simulated(Box<dyn Socket>),
    /// Nobody is there any more.
    Closed,
}

impl Stream {
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Tls(stream) => stream.readable().await,
            Self::Simulated(socket) => std::future::poll_fn(|c| socket.poll_read_ready(c)).await,
            Self::Closed => Ok(()),
        }
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Tls(stream) => stream.writable().await,
            Self::Simulated(socket) => std::future::poll_fn(|c| socket.poll_write_ready(c)).await,
            Self::Closed => Ok(()),
        }
    }

    pub(super) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(into),
            Self::Tls(stream) => stream.try_read(into),
            Self::Simulated(socket) => socket.try_read(into),
            Self::Closed => Ok(0),
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Tls(stream) => stream.try_write(bytes),
            Self::Simulated(socket) => socket.try_write(bytes),
            Self::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Whether something that was written has not left.
    pub(super) fn holds_back(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.holds_back(),
            _ => false,
        }
    }

    /// Sends what has not left, as far as it finds room.
    pub(super) fn try_flush(&self) -> io::Result<()> {
        match self {
            Self::Tls(stream) => stream.try_flush(),
            _ => Ok(()),
        }
    }

    /// Whether the client has shown a certificate.
    pub(super) fn is_certified(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.is_certified(),
            _ => false,
        }
    }

    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
            Self::Simulated(socket) => {
                socket.shut_down();
                Ok(())
            }
            Self::Closed => Ok(()),
        }
    }
}

thread_local! {
    static NETWORK: RefCell<Option<Rc<dyn Network>>> = const { RefCell::new(None) };
}
