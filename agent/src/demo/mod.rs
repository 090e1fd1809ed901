//! `sedge demo`: the parts of a small world to try sedge in.

pub mod device;
