//! Edge telemetry with custody.
