//! A hub that serves the network, and those who come to it, for the stories about who may do what.
#![allow(dead_code, missing_docs, reason = "each story uses a part of it")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use sedge_store::Name;
use sedge_uplink::client::Access;
use sedge_uplink::forward::GatewayTrust;
use sedge_uplink::hub::{HubOptions, HubTrust};
use sedge_uplink::trust::authority::Authority;
use sedge_uplink::trust::clock::LastGood;
use sedge_uplink::trust::enrol::{self, GatewayFiles};
use sedge_uplink::trust::register::{self, Kind};
use sedge_uplink::trust::token::Token;
use time::OffsetDateTime;

use crate::rig::RunningHub;

/// A hub with an authority of its own, in a directory of its own.
pub(crate) struct TrustedHub {
    pub(crate) hub: RunningHub,
    pub(crate) dir: tempfile::TempDir,
}

impl TrustedHub {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut HubOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        Authority::init(&dir.path().join("trust"), &names).unwrap();
        let mut options = Self::options(dir.path());
        change(&mut options);
        let hub = RunningHub::start_with(options, "127.0.0.1:0".parse().unwrap()).await;
        Self { hub, dir }
    }

    fn options(dir: &Path) -> HubOptions {
        HubOptions {
            trust: Some(HubTrust::in_dir(&dir.join("trust"))),
            ..HubOptions::new(dir.join("hub"))
        }
    }

    /// A hub on what stands in `dir`.
    pub(crate) async fn run(dir: &Path, address: SocketAddr) -> RunningHub {
        RunningHub::start_with(Self::options(dir), address).await
    }

    pub(crate) fn trust(&self) -> PathBuf {
        self.dir.path().join("trust")
    }

    pub(crate) fn url(&self) -> String {
        self.hub.url()
    }

    fn pin(&self) -> [u8; 32] {
        Authority::in_dir(&self.trust()).unwrap().pin().unwrap()
    }

    /// Lets a gateway in, and gives the token for it.
    pub(crate) fn invite(&self, gateway: &str, streams: &[&str]) -> Token {
        let name = Name::new(gateway).unwrap();
        self.admit((Kind::Gateway, &name), streams, Some(3_600))
    }

    /// Lets a consumer in, and gives what it comes with.
    pub(crate) fn consumer(&self, name: &str, streams: &[&str], life: Option<u64>) -> Access {
        let name = Name::new(name).unwrap();
        let token = self.admit((Kind::Consumer, &name), streams, life);
        Access {
            token: Some(token),
            ..Access::default()
        }
    }

    fn admit(&self, who: (Kind, &Name), streams: &[&str], life: Option<u64>) -> Token {
        let streams: Vec<_> = streams.iter().map(|s| (*s).to_owned()).collect();
        let token = Some((Some(self.pin()), life));
        register::admit(&self.trust(), who, &streams, token)
            .unwrap()
            .unwrap()
    }

    /// A gateway that has enrolled.
    pub(crate) async fn gateway(&self, name: &str, streams: &[&str]) -> GatewayTrust {
        let token = self.invite(name, streams);
        let files = GatewayFiles::in_dir(&self.dir.path().join(name));
        enrol::enrol(&self.url(), name, &token, None, &files)
            .await
            .unwrap();
        trust(files)
    }

    pub(crate) fn revoke(&self, kind: Kind, name: &str) {
        assert!(register::revoke(&self.trust(), kind, name).unwrap());
    }
}

pub(crate) fn trust(files: GatewayFiles) -> GatewayTrust {
    GatewayTrust {
        files,
        clock: Arc::new(LastGood::in_memory()),
    }
}

/// An authority that the stories have in hand: what it signs may be wrong in any way.
pub(crate) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// What is to be in a certificate.
pub(crate) struct Wish<'a> {
    pub(crate) names: &'a [&'a str],
    pub(crate) server: bool,
    /// From when to when, in days from now.
    pub(crate) days: (i64, i64),
}

impl Signer {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "somebody's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// Writes a certificate and its key into `dir`, and this authority's own beside them.
    pub(crate) fn sign(&self, dir: &Path, wish: &Wish<'_>) -> GatewayFiles {
        std::fs::create_dir_all(dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = wish.names.iter().filter(|n| !n.starts_with("sedge:"));
        let mut params =
            CertificateParams::new(names.map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        for uri in wish.names.iter().filter(|n| n.starts_with("sedge:")) {
            let uri = (*uri).try_into().unwrap();
            params.subject_alt_names.push(rcgen::SanType::URI(uri));
        }
        params.extended_key_usages = vec![match wish.server {
            true => ExtendedKeyUsagePurpose::ServerAuth,
            false => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let now = OffsetDateTime::now_utc();
        params.not_before = now + time::Duration::days(wish.days.0);
        params.not_after = now + time::Duration::days(wish.days.1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = GatewayFiles {
            ca: dir.join("ca.pem"),
            certificate: dir.join("own.pem"),
            key: dir.join("key.pem"),
        };
        std::fs::write(&files.ca, &self.pem).unwrap();
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        sedge_uplink::trust::write_private(&files.key, key.serialize_pem().as_bytes()).unwrap();
        files
    }
}

pub(crate) const DAY: u64 = 86_400;
pub(crate) const SOON: Duration = Duration::from_secs(10);
