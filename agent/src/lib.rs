//! Edge telemetry with custody: the parts of the one binary `sedge`.

pub mod shutdown;
pub mod telemetry;
