//! The consumers' side of the hub: a [`Client`] asks questions over one connection, a [`Reader`] gives the records of a
//! stream from all its gateways, in order within each partition, across reconnects.

mod connection;
pub(crate) mod decode;
mod here;
mod item;
pub(crate) mod positions;
mod reader;
#[cfg(test)]
mod tests;

pub use connection::{Access, Client, ClientError, Joined, Membership};
pub use here::items_of;
pub use item::{Clock, Gap, Item, Origin, Record};
pub use reader::{PullError, PullOptions, Reader, Start};

pub use crate::address::BadAddress;
pub use crate::wire::{Partition, Place, Run};
