//! A hub with certificates, and what its consumers need for it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sedge_tests::rig::daemon::sedge;

/// A connection, in the clear or not.
pub type Line = Box<dyn Connection>;

/// Bytes go both ways.
pub trait Connection: Read + Write + Send {}

impl<T: Read + Write + Send> Connection for T {}

/// By what a hub is known, and what it knows a consumer by.
#[derive(Clone, Debug)]
pub struct Login {
    tls: Arc<ClientConfig>,
    token: String,
    file: PathBuf,
}

impl Login {
    /// Gives the hub whose configuration is in `path`, and which does not run yet, certificates, and makes a token for a consumer `reader`.
    ///
    /// # Errors
    /// If that does not work.
    pub fn init(path: &Path) -> Result<Self> {
        said(path, &["init", "--name", "127.0.0.1"])?;
        let token = token_in(&said(path, &["tokens", "add", "reader"])?)?;
        let file = path.join("token");
        std::fs::write(&file, &token)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(
            path.join("hub/trust/ca.pem"),
        )?)?;
        let tls = ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: tls.into(),
            token,
            file,
        })
    }

    /// Gives the gateway `bench` a certificate; the hub runs.
    ///
    /// # Errors
    /// If the hub does not.
    pub fn enroll(path: &Path) -> Result<()> {
        let invitation = path.join("invitation");
        std::fs::write(&invitation, token_in(&said(path, &["enroll", "bench"])?)?)?;
        let mut command = Command::new(sedge());
        command.arg("enroll").arg("--config");
        command.arg(path.join("agent.toml"));
        let output = command.arg("--token-file").arg(invitation).output()?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{why}");
        Ok(())
    }

    /// With TLS for somebody, else as it is. The handshake comes with the first bytes.
    ///
    /// # Errors
    /// Never for a hub's address.
    pub fn over(login: Option<&Self>, connection: TcpStream) -> Result<Line> {
        let Some(login) = login else {
            return Ok(Box::new(connection));
        };
        let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let tls = ClientConnection::new(login.tls.clone(), name)?;
        Ok(Box::new(StreamOwned::new(tls, connection)))
    }

    /// A password.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A file with it.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// What `sedge hub` says.
fn said(path: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(sedge());
    command
        .arg("hub")
        .arg("--config")
        .arg(path.join("hub.toml"));
    let output = command.args(arguments).output()?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {why}");
    Ok(String::from_utf8(output.stdout)?)
}

fn token_in(said: &str) -> Result<String> {
    let mut lines = said.lines();
    let token = lines.find(|line| line.starts_with("sedge1."));
    Ok(token.context("no token")?.trim().to_owned())
}
