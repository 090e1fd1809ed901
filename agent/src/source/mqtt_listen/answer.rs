//! What the agent says to a client, as bytes: CONNACK, PUBACK, SUBACK and the rest, in both versions.
//! Knows nothing of why.

use bytes::BytesMut;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use super::session::Limits;
use super::wire::Version;

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A version of the protocol that is not spoken here.
    #[error("not MQTT 3.1.1 or 5 (0x84)")]
    Version,
    /// A client identifier that is too long, or none for a session that is to last.
    #[error("client identifier not accepted (0x85)")]
    Client,
    /// Enhanced authentication.
    #[error("no enhanced authentication here (0x8C)")]
    Auth,
    /// No name and password that are right, and no certificate.
    #[error("bad user name or password (0x86)")]
    Login,
    /// A will of quality of service 2.
    #[error("a will with quality of service 2 (0x9B)")]
    WillQos,
    /// As many clients as may be are connected, or the agent stops.
    #[error("server busy (0x89)")]
    Busy,
    /// What an earlier connection of the client has sent waits for room in a log that is full.
    #[error("no room in the log (0x97)")]
    Full,
    /// No CONNECT came.
    #[error("no CONNECT in time")]
    Silent,
}

impl Refusal {
    /// A word for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Client => "client-id",
            Self::Auth => "auth-method",
            Self::Login => "login",
            Self::WillQos => "qos-2",
            Self::Busy => "clients-max",
            Self::Full => "full",
            Self::Silent => "no-connect",
        }
    }

    const fn code_v4(self) -> v4::ConnectReturnCode {
        match self {
            Self::Version => v4::ConnectReturnCode::RefusedProtocolVersion,
            Self::Client => v4::ConnectReturnCode::BadClientId,
            Self::Auth => v4::ConnectReturnCode::NotAuthorized,
            Self::Login => v4::ConnectReturnCode::BadUserNamePassword,
            Self::WillQos | Self::Busy | Self::Full | Self::Silent => {
                v4::ConnectReturnCode::ServiceUnavailable
            }
        }
    }

    const fn code_v5(self) -> v5::ConnectReturnCode {
        match self {
            Self::Version => v5::ConnectReturnCode::UnsupportedProtocolVersion,
            Self::Client => v5::ConnectReturnCode::ClientIdentifierNotValid,
            Self::Auth => v5::ConnectReturnCode::BadAuthenticationMethod,
            Self::Login => v5::ConnectReturnCode::BadUserNamePassword,
            Self::WillQos => v5::ConnectReturnCode::QoSNotSupported,
            Self::Busy | Self::Silent => v5::ConnectReturnCode::ServerBusy,
            Self::Full => v5::ConnectReturnCode::QuotaExceeded,
        }
    }
}

/// What a client that is let in is told.
#[derive(Debug)]
pub(super) struct Welcome<'a> {
    pub(super) session_present: bool,
    /// The name that we gave it.
    pub(super) name: Option<&'a str>,
    pub(super) expiry_s: u32,
    /// What it has to keep to instead of its own keep-alive.
    pub(super) keep_alive_s: Option<u16>,
    pub(super) limits: &'a Limits,
}

pub(super) fn connack(version: Version, welcome: &Welcome<'_>, out: &mut Vec<u8>) {
    if version == Version::V311 {
        return write_v4(v4::ConnectReturnCode::Success, welcome.session_present, out);
    }
    let properties = v5::ConnAckProperties {
        session_expiry_interval: Some(welcome.expiry_s),
        receive_max: Some(welcome.limits.inflight_max),
        max_qos: Some(1),
        retain_available: Some(0),
        max_packet_size: Some(welcome.limits.packet_bytes_max),
        assigned_client_identifier: welcome.name.map(str::to_owned),
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: Some(0),
        subscription_identifiers_available: Some(0),
        shared_subscription_available: Some(0),
        server_keep_alive: welcome.keep_alive_s,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    };
    write_v5(
        v5::ConnectReturnCode::Success,
        welcome.session_present,
        Some(properties),
        out,
    );
}

pub(super) fn connack_refused(version: Version, refusal: Refusal, out: &mut Vec<u8>) {
    match version {
        Version::V311 => write_v4(refusal.code_v4(), false, out),
        Version::V5 => write_v5(refusal.code_v5(), false, None, out),
    }
}

/// PUBACK is written by hand: it is all that most clients ever get, thousands in one write.
/// Version 3.1.1 has no word for a message that was taken and not accepted.
pub(super) fn puback(version: Version, packet: u16, code: u8, out: &mut Vec<u8>) {
    let [high, low] = packet.to_be_bytes();
    match code {
        _ if version == Version::V311 => out.extend_from_slice(&[0x40, 2, high, low]),
        0 => out.extend_from_slice(&[0x40, 2, high, low]),
        _ => out.extend_from_slice(&[0x40, 3, high, low, code]),
    }
}

/// No subscription is accepted.
pub(super) fn suback(version: Version, packet: u16, filters: usize, out: &mut Vec<u8>) {
    match version {
        Version::V311 => acknowledge(0x90, packet, &[], &vec![0x80; filters], out),
        // Implementation specific error: "valid, but the server does not accept it".
        Version::V5 => acknowledge(0x90, packet, &[0], &vec![0x83; filters], out),
    }
}

/// There is never a subscription to end.
pub(super) fn unsuback(version: Version, packet: u16, filters: usize, out: &mut Vec<u8>) {
    match version {
        Version::V311 => acknowledge(0xB0, packet, &[], &[], out),
        Version::V5 => acknowledge(0xB0, packet, &[0], &vec![0x11; filters], out),
    }
}

/// The DISCONNECT of version 5.
pub(super) fn disconnect(code: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xE0, 1, code]);
}

pub(super) const PINGRESP: &[u8] = &[0xD0, 0];

fn acknowledge(kind: u8, packet: u16, properties: &[u8], codes: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    let mut remaining = 2 + properties.len() + codes.len();
    while remaining > 0x7F {
        out.push((remaining & 0x7F) as u8 | 0x80);
        remaining >>= 7;
    }
    out.push(remaining as u8);
    out.extend_from_slice(&packet.to_be_bytes());
    out.extend_from_slice(properties);
    out.extend_from_slice(codes);
}

fn write_v4(code: v4::ConnectReturnCode, session_present: bool, out: &mut Vec<u8>) {
    let mut bytes = BytesMut::new();
    v4::ConnAck::new(code, session_present)
        .write(&mut bytes)
        .expect("a CONNACK fits a packet");
    out.extend_from_slice(&bytes);
}

fn write_v5(
    code: v5::ConnectReturnCode,
    session_present: bool,
    properties: Option<v5::ConnAckProperties>,
    out: &mut Vec<u8>,
) {
    let mut bytes = BytesMut::new();
    let connack = v5::ConnAck {
        session_present,
        code,
        properties,
    };
    connack.write(&mut bytes).expect("a CONNACK fits a packet");
    out.extend_from_slice(&bytes);
}
