//! A small authority of the hub's own, for those who have none: it signs the hub's certificate and those of the gateways.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use super::files::{certificates, make_dir, write_private, write_public};
use super::register::Kind;
use super::{TrustError, hex, sha256, unix_s};

/// The files of an authority.
#[derive(Clone, Debug)]
pub struct Authority {
    dir: PathBuf,
}

/// What [`Authority::init`] has made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Whether the authority is new; otherwise only the hub's certificate is.
    pub authority: bool,
    /// SHA-256 of its certificate.
    pub fingerprint: String,
    /// The names in the hub's certificate.
    pub names: Vec<String>,
}

impl Authority {
    /// The authority in `dir`, if it has been made there.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Option<Self> {
        let authority = Self { dir: dir.into() };
        authority.key_file().exists().then_some(authority)
    }

    /// Makes an authority in `dir`, unless there is one, and a certificate of the hub for `names`: host names and addresses.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate, or a file cannot be written.
    pub fn init(dir: &Path, names: &[String]) -> Result<Made, TrustError> {
        let authority = Self { dir: dir.into() };
        let wrong = |e: std::io::Error| TrustError::new(dir, e);
        make_dir(dir).map_err(wrong)?;
        let is_new = !authority.key_file().exists();
        if is_new {
            authority.make()?;
        }
        let made = || -> Result<(String, String), TrustError> {
            let key = KeyPair::generate().map_err(|e| TrustError::new(dir, e))?;
            let mut params = CertificateParams::new(names.to_vec()).map_err(|e| {
                TrustError::new(dir, format!("a name cannot stand in a certificate: {e}"))
            })?;
            params.distinguished_name = called("sedge hub");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            lives(&mut params, HUB_LIFE);
            let certificate = params
                .signed_by(&key, &authority.issuer()?)
                .map_err(|e| TrustError::new(dir, e))?;
            Ok((certificate.pem(), key.serialize_pem()))
        };
        let (certificate, key) = made()?;
        // Whoever only knows the fingerprint of the authority is shown its certificate.
        let chain = format!("{certificate}{}", read(&authority.certificate_file())?);
        write_private(&dir.join(HUB_KEY), key.as_bytes()).map_err(wrong)?;
        write_public(&dir.join(HUB_CERTIFICATE), chain.as_bytes()).map_err(wrong)?;
        Ok(Made {
            authority: is_new,
            fingerprint: hex(&authority.pin()?),
            names: names.to_vec(),
        })
    }

    fn make(&self) -> Result<(), TrustError> {
        let wrong = |e: rcgen::Error| TrustError::new(&self.dir, e);
        let key = KeyPair::generate().map_err(wrong)?;
        let mut params = CertificateParams::default();
        // No two authorities have one name: a certificate is then looked for at the right one.
        let name = format!(
            "sedge hub authority {}",
            &hex(&sha256(key.public_key_raw()))[..8]
        );
        params.distinguished_name = called(&name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        lives(&mut params, AUTHORITY_LIFE);
        let certificate = params.self_signed(&key).map_err(wrong)?;
        let written = |e: std::io::Error| TrustError::new(&self.dir, e);
        write_public(&self.certificate_file(), certificate.pem().as_bytes()).map_err(written)?;
        // Last: with its key the authority is there.
        write_private(&self.key_file(), key.serialize_pem().as_bytes()).map_err(written)
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, TrustError> {
        let path = self.key_file();
        let key = KeyPair::from_pem(&read(&path)?).map_err(|e| TrustError::new(&path, e))?;
        let path = self.certificate_file();
        Issuer::from_ca_cert_pem(&read(&path)?, key).map_err(|e| TrustError::new(&path, e))
    }

    /// SHA-256 of its certificate.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn pin(&self) -> Result<[u8; 32], TrustError> {
        let own = certificates(&self.certificate_file())?;
        Ok(sha256(&own[0]))
    }

    /// A certificate for `name` and its public key (a SubjectPublicKeyInfo in DER), and the authority's own.
    ///
    /// # Errors
    /// When the key is none, or the authority's files cannot be read.
    pub fn issue(
        &self,
        kind: Kind,
        name: &str,
        public_key: &[u8],
    ) -> Result<Vec<CertificateDer<'static>>, TrustError> {
        let wrong = |e: rcgen::Error| TrustError::new(&self.dir, e);
        let public_key = SubjectPublicKeyInfo::from_der(public_key).map_err(wrong)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = called(name);
        let uri = format!("sedge:{}:{name}", kind.as_str());
        let uri = uri.try_into().map_err(wrong)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        lives(&mut params, GATEWAY_LIFE);
        let certificate = params
            .signed_by(&public_key, &self.issuer()?)
            .map_err(wrong)?;
        let mut chain = vec![certificate.der().clone()];
        chain.extend(certificates(&self.certificate_file())?);
        Ok(chain)
    }

    fn key_file(&self) -> PathBuf {
        self.dir.join("ca-key.pem")
    }

    fn certificate_file(&self) -> PathBuf {
        self.dir.join(CA_CERTIFICATE)
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

/// From a day ago, for peers whose clock is behind.
fn lives(params: &mut CertificateParams, life: Duration) {
    let now =
        OffsetDateTime::from_unix_timestamp(unix_s() as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = now - DAY;
    params.not_after = now + life;
}

fn read(path: &Path) -> Result<String, TrustError> {
    fs::read_to_string(path).map_err(|e| TrustError::new(path, format!("cannot be read: {e}")))
}

/// File of the authority's certificate.
pub const CA_CERTIFICATE: &str = "ca.pem";
/// File of the hub's certificate, with those that it is signed by.
pub const HUB_CERTIFICATE: &str = "hub.pem";
/// File of its key.
pub const HUB_KEY: &str = "hub-key.pem";

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);
/// As long as the authority: who can change it has the authority's key beside it.
const HUB_LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);
/// Renewed by the gateway itself after two thirds; long enough for an outage of months.
const GATEWAY_LIFE: Duration = Duration::from_secs(365 * 86_400);
