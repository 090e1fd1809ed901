//! Programs of others that `cargo xtask peers` installs.

use std::path::{Path, PathBuf};

/// Where they are.
#[must_use]
pub fn installed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers")
}

/// Where what they are told stands.
#[must_use]
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}
