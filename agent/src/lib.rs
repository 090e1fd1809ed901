//! Edge telemetry with custody: the parts of the one binary `sedge`.

pub mod dead_letter;
pub mod demo;
pub mod ingest;
pub mod owner;
pub mod route;
pub mod shutdown;
pub mod source;
pub mod telemetry;
