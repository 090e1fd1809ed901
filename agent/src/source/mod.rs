//! The sources: each a folder of its own, all looking alike. `run(config, ingest, telemetry, shutdown)` is their one door.

pub mod mqtt;
pub mod mqtt_listen;
pub mod serial;
#[cfg(test)]
pub(crate) mod yard;
