//! Files of certificates and keys, in PEM.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TrustError;

/// The certificates in `path`, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let bytes = read(path)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let list = list.map_err(|e| TrustError::new(path, format!("is not PEM: {e}")))?;
    if list.is_empty() {
        return Err(TrustError::new(
            path,
            "holds no certificate (expected: -----BEGIN CERTIFICATE-----)",
        ));
    }
    Ok(list)
}

/// The private key in `path`, which others must not be able to read.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TrustError> {
    let bytes = read(path)?;
    let mode = fs::metadata(path).map_or(0, |m| m.mode());
    if mode & 0o004 != 0 {
        let what = format!(
            "everybody may read this private key (mode {:o}); `chmod 600` it",
            mode & 0o777
        );
        return Err(TrustError::new(path, what));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| {
        let what = format!("holds no private key (expected: -----BEGIN PRIVATE KEY-----): {e}");
        TrustError::new(path, what)
    })
}

/// The certificates in `path`, as those that others are signed by.
pub(super) fn roots(path: &Path) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    let list = certificates(path)?;
    let (taken, _) = roots.add_parsable_certificates(list);
    match taken {
        0 => Err(TrustError::new(
            path,
            "holds no certificate that can sign others",
        )),
        _ => Ok(roots),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TrustError> {
    let length = fs::metadata(path).map_or(0, |m| m.len());
    if length > BYTES_MAX {
        return Err(TrustError::new(path, "is too large for certificates"));
    }
    fs::read(path).map_err(|e| TrustError::new(path, format!("cannot be read: {e}")))
}

/// What tells one content of a file from another, without reading it.
pub type Stamp = Option<(i64, i64, u64, u64)>;

/// The stamp of `path`; none if it is not there.
#[must_use]
pub fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.len(),
        metadata.ino(),
    ))
}

/// Makes `dir` for its owner alone, and what is missing above it.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    if let Some(above) = dir.parent() {
        fs::create_dir_all(above)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Writes a file that only its owner may read; afterwards the old or the new content is there, never a mixture.
///
/// # Errors
/// As the file system's.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, 0o600)
}

/// As [`write_private`], for everybody to read.
pub(super) fn write_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, 0o644)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let named = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = named.unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = dir.join(format!(".new-{name}"));
    // One that an earlier attempt left may be readable by others.
    match fs::remove_file(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(dir)?.sync_all()
}

/// No file of certificates is larger; the list that Debian comes with has 0.2 MB.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
