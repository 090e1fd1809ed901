//! Simulated media, the oracle, and whole-system tests of sedge.

pub mod commit;
pub mod disk;
pub mod drops;
pub mod error_sweep;
pub mod errors;
pub mod flash;
pub mod fuzz;
pub mod oracle;
pub mod payload;
pub mod random;
pub mod reader;
pub mod reference;
pub mod rig;
pub mod script;
pub mod short;
pub mod sim;
pub mod simulator;
pub mod sweep;
pub mod waiting;
pub mod world;
