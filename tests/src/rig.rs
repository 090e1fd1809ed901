//! The rig of the whole-system tests: real programs started and killed by pid, devices that speak MQTT, and what they know.
//!
//! Nothing here knows how sedge works inside. It sees ports, exit codes, and the lines of `sedge pull`.

pub mod packets;
