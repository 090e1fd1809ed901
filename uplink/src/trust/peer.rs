//! What a peer has shown: the names in its certificate; and what went wrong on the way, in words.

use std::error::Error;
use std::io;

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::register::Kind;
use super::{hex, sha256};

/// A certificate that was found to be good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// Its subject alternative names: DNS names and URIs.
    pub names: Vec<String>,
    /// SHA-256 of the whole, in hexadecimal digits.
    pub fingerprint: String,
}

impl Certified {
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        Self {
            names: names(certificate),
            fingerprint: hex(&sha256(certificate)),
        }
    }

    /// Whether it is that of this name: `sedge:KIND:NAME` as URI, for gateways `NAME` as DNS name too.
    #[must_use]
    pub fn is(&self, kind: Kind, name: &str) -> bool {
        self.names
            .iter()
            .any(|shown| name_in(kind, shown) == Some(name))
    }

    /// The first name of this kind.
    #[must_use]
    pub fn name(&self, kind: Kind) -> Option<&str> {
        self.names.iter().find_map(|shown| name_in(kind, shown))
    }

    pub(super) fn names_of(&self, kind: Kind) -> String {
        let all: Vec<_> = self.names.iter().filter_map(|n| name_in(kind, n)).collect();
        match all.is_empty() {
            true => format!("no {}", kind.as_str()),
            false => all.join(", "),
        }
    }
}

fn name_in(kind: Kind, shown: &str) -> Option<&str> {
    match shown.strip_prefix("sedge:") {
        Some(rest) => rest.strip_prefix(kind.as_str())?.strip_prefix(':'),
        None => (kind == Kind::Gateway && !shown.contains(':')).then_some(shown),
    }
}

fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = parse_x509_certificate(certificate) else {
        return Vec::new();
    };
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).collect()
}

/// From when to when a certificate is good, in seconds since 1970.
pub(super) fn life(certificate: &CertificateDer<'_>) -> Option<(u64, u64)> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).ok();
    let validity = parsed.validity();
    Some((
        seconds(validity.not_before).unwrap_or(0),
        seconds(validity.not_after)?,
    ))
}

/// What `e` says, in words that say whose certificate is meant and what is wrong with it.
#[must_use]
pub fn explain(e: &io::Error) -> String {
    let mut source: Option<&(dyn Error + 'static)> = e.get_ref().map(|inner| inner as _);
    while let Some(error) = source {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return of_tls(tls);
        }
        source = error.source();
    }
    e.to_string()
}

fn of_tls(e: &rustls::Error) -> String {
    match e {
        rustls::Error::InvalidCertificate(what) => {
            format!("the peer's certificate {}", wrong(what))
        }
        rustls::Error::AlertReceived(alert) => {
            format!("the peer refuses our certificate: {}", alerted(*alert))
        }
        rustls::Error::NoCertificatesPresented => "the peer shows no certificate".into(),
        rustls::Error::InvalidMessage(_) => {
            "the peer does not speak TLS (or something between us answers for it)".into()
        }
        rustls::Error::PeerIncompatible(_) => format!("the peer speaks another TLS: {e}"),
        other => other.to_string(),
    }
}

fn wrong(what: &CertificateError) -> String {
    match what {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired (or a clock is wrong)".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet (or a clock is wrong)".into()
        }
        // Of the right name and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is signed by nobody that is trusted here".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name than the one that was called".into()
        }
        CertificateError::Revoked => "was revoked".into(),
        other => format!("is not good: {other:?}"),
    }
}

fn alerted(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => {
            "it has expired, or is not valid yet (or a clock is wrong)".into()
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it is signed by nobody that is trusted there".into()
        }
        AlertDescription::CertificateRequired => "it asks for one and got none".into(),
        AlertDescription::CertificateRevoked => "it was revoked".into(),
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "it is not good there".into()
        }
        AlertDescription::ProtocolVersion => "it speaks another version of TLS".into(),
        other => format!("{other:?}"),
    }
}
