//! Edge telemetry with custody: the parts of the one binary `sedge`.

pub mod cli;
pub mod control;
pub mod dead_letter;
#[cfg(feature = "hub")]
pub mod demo;
pub mod gateway;
pub mod http;
#[cfg(feature = "hub")]
pub mod hub;
pub mod ingest;
mod lines;
mod metrics;
pub mod notify;
pub mod outlook;
pub mod owner;
mod rates;
pub mod route;
pub mod shutdown;
pub mod source;
pub mod status;
mod tail;
pub mod telemetry;
mod timekeeper;
pub mod vitals;
