//! Simulated media, the oracle, and whole-system tests of sedge.

pub mod disk;
pub mod flash;
pub mod oracle;
pub mod payload;
pub mod random;
pub mod reference;
pub mod rig;
pub mod script;
pub mod sim;
