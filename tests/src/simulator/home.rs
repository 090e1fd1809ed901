//! Where a producer's events land, by names.

use std::fmt;

use sedge_uplink::client::Origin;

/// A partition of a stream of a gateway.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Home {
    stream: String,
    pub(super) gateway: String,
    partition: u16,
}

impl Home {
    /// By its names.
    #[must_use]
    pub(super) fn new(stream: &str, gateway: &str, partition: u16) -> Self {
        Self {
            stream: stream.to_owned(),
            gateway: gateway.to_owned(),
            partition,
        }
    }

    /// Of what a consumer was given.
    #[must_use]
    pub(super) fn of(origin: &Origin) -> Self {
        Self::new(&origin.stream, &origin.gateway, origin.partition)
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.gateway, self.stream, self.partition)
    }
}
