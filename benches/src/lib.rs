//! What the load generator, the floor model and the comparison share.
//!
//! None of it knows sedge from inside: it sees an MQTT port, a process id and a block device.

pub mod doors;
pub mod figures;
pub mod folder;
pub mod load;
pub mod login;
pub mod observe;
pub mod peers;
pub mod subscriber;
pub mod table;
