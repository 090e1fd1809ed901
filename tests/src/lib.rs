//! Simulated media, the oracle, and whole-system tests of sedge.

pub mod rig;
