//! Certificates for the stories of the sources.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sedge_config::checked::Certificate;
use sedge_uplink::trust::clock::LastGood;
use sedge_uplink::trust::connect::{Anchor, Caller};
use sedge_uplink::trust::write_private;

/// An authority, and what it has signed, in a directory.
pub(crate) struct Papers {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Papers {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), own.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Self { dir, issuer }
    }

    pub(crate) fn certificate(&self, name: &str) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let path = |what: &str| self.dir.path().join(format!("{name}-{what}.pem"));
        std::fs::write(path("own"), signed.pem()).unwrap();
        write_private(&path("key"), key.serialize_pem().as_bytes()).unwrap();
        Certificate {
            certificate: path("own"),
            key: path("key"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn caller(&self, certificate: Option<Certificate>) -> Caller {
        Caller {
            anchor: Anchor::File(self.path("ca.pem")),
            certificate: certificate.map(|c| (c.certificate, c.key)),
            clock: Arc::new(LastGood::in_memory()),
            tls12: false,
        }
    }
}
