//! Who talks to whom: TLS on every connection that leaves the machine, and what those who come may do.
//!
//! A hub shows a certificate. A gateway shows one too, with its name in it; a consumer shows a token, or a certificate. What each may write or read
//! stands in the hub's `register`. `authority` makes the certificates if nobody else does. Reasons: [decision 0022](../../docs/decisions/0022-trust.md).

pub mod accept;
pub mod authority;
pub mod clock;
pub mod connect;
pub mod enrol;
mod files;
mod peer;
pub mod register;
pub mod token;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use files::{Stamp, stamp, write_private};
pub use peer::{Certified, explain};

/// Something about a file of certificates, keys or names.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct TrustError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl TrustError {
    pub(crate) fn new(path: &Path, what: impl std::fmt::Display) -> Self {
        Self {
            path: path.into(),
            what: what.to_string(),
        }
    }
}

impl From<TrustError> for io::Error {
    fn from(e: TrustError) -> Self {
        Self::new(io::ErrorKind::InvalidData, e)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// 32 bytes of SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Seconds since 1970, by the clock of the system.
#[must_use]
pub fn unix_s() -> u64 {
    crate::forward::unix_us().max(0) as u64 / 1_000_000
}
