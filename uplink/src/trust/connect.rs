//! The side of a connection that calls: looks at the certificate of who is called, and shows its own.
//!
//! The files are read for each connection, so a new certificate needs no restart.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::clock::LastGood;
use super::{TrustError, files, provider, sha256};

/// By what the one who is called is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its certificate is signed by one of those in this file.
    File(PathBuf),
    /// Its certificate is signed by the one with this SHA-256, which it shows.
    Pin([u8; 32]),
}

/// With what one who calls works.
#[derive(Clone, Debug)]
pub struct Caller {
    /// By what the other is known.
    pub anchor: Anchor,
    /// Its own certificate and key, if it has any.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The time that certificates are judged by.
    pub clock: Arc<LastGood>,
    /// TLS 1.2 will do: brokers of others may know nothing newer.
    pub tls12: bool,
}

impl Caller {
    /// Shakes hands on `socket` with `host`.
    ///
    /// # Errors
    /// When a file cannot be used, or the other is not who was called; [`explain`](super::explain) says which.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
        host: &str,
    ) -> io::Result<TlsStream<S>> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            let what = format!("{host:?} is not a name that a certificate can hold");
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })?;
        self.clock.attempt();
        let config = Arc::new(self.config()?);
        TlsConnector::from(config).connect(name, socket).await
    }

    fn config(&self) -> Result<ClientConfig, TrustError> {
        const ONLY_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
        const BOTH: &[&SupportedProtocolVersion] =
            &[&rustls::version::TLS13, &rustls::version::TLS12];
        let provider = provider();
        let wrong = |e: rustls::Error| match &self.anchor {
            Anchor::File(path) => TrustError::new(path, e),
            Anchor::Pin(_) => TrustError::new(std::path::Path::new("TLS"), e),
        };
        let time = Arc::clone(&self.clock);
        let builder = ClientConfig::builder_with_details(Arc::clone(&provider), time)
            .with_protocol_versions(if self.tls12 { BOTH } else { ONLY_13 })
            .map_err(wrong)?;
        let builder = match &self.anchor {
            Anchor::File(path) => builder.with_root_certificates(files::roots(path)?),
            Anchor::Pin(pin) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Pinned {
                    pin: *pin,
                    provider,
                })),
        };
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(files::certificates(certificate)?, files::key(key)?)
                .map_err(|e| TrustError::new(certificate, format!("and its key: {e}")))?,
        };
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// Verifies as usual, from the certificate that has the right SHA-256 among those that are shown.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let pinned = intermediates
            .iter()
            .find(|shown| sha256(shown) == self.pin)
            .ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let usual = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&self.provider),
        )
        .build()
        .map_err(|_| unknown())?;
        usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
