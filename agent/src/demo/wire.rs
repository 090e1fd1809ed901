//! The network between gateway and hub, with a switch: a TCP relay that can be cut.

use std::io;
use std::net::SocketAddr;

use sedge_store::watch;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A relay to one address. Dropped, it is gone.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    whole: watch::Sender<bool>,
    _relay: JoinSet<()>,
}

impl Wire {
    /// Lays a wire to `target`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn to(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (whole, watched) = watch::channel(true);
        let mut relay = JoinSet::new();
        relay.spawn(run(listener, target, watched));
        Ok(Self {
            address,
            whole,
            _relay: relay,
        })
    }

    /// The near end.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every connection breaks, and new ones are refused.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// New connections come through again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn run(listener: TcpListener, target: SocketAddr, whole: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((near, _)) = listener.accept() => {
                if *whole.borrow() {
                    connections.spawn(relay(near, target, whole.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay(mut near: TcpStream, target: SocketAddr, mut whole: watch::Receiver<bool>) {
    let Ok(mut far) = TcpStream::connect(target).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}
