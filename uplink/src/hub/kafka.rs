//! The door for Kafka's consumers: a stream is a topic, each partition of each gateway one of its partitions.
//!
//! `connection.rs` takes requests one after the other, `visit.rs` says who asks, `streams.rs` and `groups.rs` answer, `members.rs` has the groups with members, whose rules are in
//! `coordinator.rs`. The wire format is `crate::kafka`. What is not as in Kafka: docs/guide/kafka.md.

mod connection;
mod coordinator;
mod groups;
mod members;
mod streams;
mod visit;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub(super) use members::Members;

use super::{HubError, HubHandle, Shared, not_accepted};

/// How the door is to be.
#[derive(Clone, Debug, Default)]
pub struct KafkaOptions {
    /// Where clients are told to connect; none is where they have connected already.
    pub advertised: Option<Advertised>,
    /// A gap is given as a record without a value, with a header `sedge-gap`.
    pub shows_gaps: bool,
}

/// A host and its port, as clients are told them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A door that may be opened.
#[derive(Debug)]
pub struct KafkaDoor {
    shared: Arc<Shared>,
    listener: TcpListener,
    options: Arc<KafkaOptions>,
}

impl HubHandle {
    /// A door for Kafka's consumers, who connect to `listener`.
    ///
    /// # Errors
    /// [`HubError::NotLoopback`] when it could be reached from elsewhere and nothing says who may come.
    pub fn kafka(
        &self,
        listener: TcpListener,
        options: KafkaOptions,
    ) -> Result<KafkaDoor, HubError> {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() && self.shared.guard.is_none() {
            return Err(HubError::NotLoopback { address });
        }
        tracing::info!(%address, tls = self.shared.guard.is_some(), "Kafka's consumers are served");
        Ok(KafkaDoor {
            shared: Arc::clone(&self.shared),
            listener,
            options: Arc::new(options),
        })
    }
}

impl KafkaDoor {
    /// Serves whoever comes, until the hub ends.
    pub async fn serve(self) {
        let mut connections = JoinSet::new();
        let shared = Arc::clone(&self.shared);
        connections.spawn(async move { members::keep_time(&shared).await });
        loop {
            tokio::select! {
                biased;
                () = self.shared.stopped() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, peer)) => self.visited(socket, peer, &mut connections),
                    Err(e) => not_accepted(&e).await,
                },
            }
        }
        connections.shutdown().await;
    }

    fn visited(&self, socket: TcpStream, peer: SocketAddr, connections: &mut JoinSet<()>) {
        let (shared, options) = (Arc::clone(&self.shared), Arc::clone(&self.options));
        connections.spawn(async move {
            match connection::serve(&shared, socket, peer, &options).await {
                Ok(()) => {}
                Err(why) => {
                    shared.counters.broken();
                    tracing::debug!(%peer, %why, "a Kafka connection ended");
                }
            }
        });
    }
}
