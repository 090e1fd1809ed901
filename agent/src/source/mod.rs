//! The sources: each a folder of its own, all looking alike. `run(config, ingest, telemetry, shutdown)` is their one door.

pub mod mqtt;
pub mod mqtt_listen;
#[cfg(test)]
pub(crate) mod papers;
pub mod serial;
#[cfg(test)]
pub(crate) mod yard;
