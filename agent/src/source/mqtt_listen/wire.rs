//! MQTT packets as a server meets them: where one ends, what it says, and what cannot be taken.
//!
//! ```text
//! type·flags | remaining length (1 to 4 bytes) | variable header | payload
//! ```
//! A PUBLISH is read in place (docs/decisions: it is all of the traffic); everything else goes through the codec of rumqttc,
//! behind the checks that it lacks. Knows nothing of sessions, time or sockets.

use super::logins::Login;
use bytes::BytesMut;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// A packet from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// CONNECT.
    Connect(Connect),
    /// PUBLISH.
    Publish(Publish<'a>),
    /// SUBSCRIBE with its packet id and number of filters.
    Subscribe(u16, usize),
    /// UNSUBSCRIBE with its packet id and number of filters.
    Unsubscribe(u16, usize),
    /// PINGREQ.
    Ping,
    /// DISCONNECT, with the session expiry in seconds if it brings one.
    Disconnect(Option<u32>),
}

/// What a client says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Its protocol.
    pub version: Version,
    /// Its name; may be empty.
    pub client: String,
    /// Clean session, clean start.
    pub clean: bool,
    /// Seconds for which the session outlives the connection; `u32::MAX` is for ever.
    pub expiry_s: u32,
    /// Seconds; 0 is none.
    pub keep_alive_s: u16,
    /// The will's quality of service, if there is a will.
    pub will_qos: Option<u8>,
    /// It wants enhanced authentication.
    pub wants_auth: bool,
    /// Its user name and password, if it shows any.
    pub login: Option<Login>,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// It may be another delivery of an earlier one.
    pub dup: bool,
    /// Quality of service, 0 to 2.
    pub qos: u8,
    /// Packet id; 0 with quality of service 0.
    pub packet: u16,
    /// Topic name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
}

/// What stands at the front of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Not yet a whole packet: this many bytes from its start are needed to go on.
    Incomplete(usize),
    /// A packet and its length.
    Packet(Packet<'a>, usize),
    /// A PUBLISH that is larger than packets may be. Its payload begins at `head` and ends at `end`, both from the packet's
    /// start; it is to be streamed away. `publish.payload` is what is here of it.
    Oversize {
        /// All but the payload.
        publish: Publish<'a>,
        /// Where the payload begins.
        head: usize,
        /// Where it ends: the packet's length.
        end: usize,
    },
}

/// Why a connection must end, in the words of MQTT 5's reason codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 0x81: the bytes are no packet.
    Malformed,
    /// 0x82: a packet that may not come here or now.
    Protocol,
    /// 0x84: a version of the protocol that is not spoken here.
    Version,
    /// 0x90: a topic name that is none.
    TopicName,
    /// 0x94: a topic alias, though none was offered.
    TopicAlias,
    /// 0x95: a packet other than PUBLISH that is larger than it may be.
    TooLarge,
}

impl Fault {
    /// A word for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Protocol => "protocol",
            Self::Version => "version",
            Self::TopicName => "topic-name",
            Self::TopicAlias => "topic-alias",
            Self::TooLarge => "too-large",
        }
    }

    /// The reason code of MQTT 5.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Malformed => 0x81,
            Self::Protocol => 0x82,
            Self::Version => 0x84,
            Self::TopicName => 0x90,
            Self::TopicAlias => 0x94,
            Self::TooLarge => 0x95,
        }
    }
}

/// Looks at the front of `bytes`. Before the CONNECT `version` is `None`, and nothing else is a packet.
///
/// # Errors
/// What ends the connection.
pub fn step(
    bytes: &[u8],
    version: Option<Version>,
    packet_bytes_max: usize,
) -> Result<Step<'_>, Fault> {
    let Some(&first) = bytes.first() else {
        return Ok(Step::Incomplete(2));
    };
    let Some((remaining, header)) = remaining_length(bytes)? else {
        return Ok(Step::Incomplete(bytes.len().max(1) + 1));
    };
    let end = header + remaining;
    let (kind, flags) = (first >> 4, first & 0x0F);
    match (kind, version) {
        (CONNECT, None) => {}
        (_, None) | (CONNECT, Some(_)) => return Err(Fault::Protocol),
        (PUBLISH, Some(version)) => {
            return publish_step(bytes, flags, header, end, version, packet_bytes_max);
        }
        _ => {}
    }
    if flags
        != if matches!(kind, SUBSCRIBE | UNSUBSCRIBE) {
            2
        } else {
            0
        }
    {
        return Err(Fault::Malformed);
    }
    if end > CONTROL_BYTES_MAX {
        return Err(Fault::TooLarge);
    }
    let Some(whole) = bytes.get(..end) else {
        return Ok(Step::Incomplete(end));
    };
    let packet = match (kind, version) {
        (CONNECT, _) => Packet::Connect(connect(whole, header)?),
        (SUBSCRIBE | UNSUBSCRIBE, Some(Version::V311)) => subscription_v4(whole)?,
        (SUBSCRIBE | UNSUBSCRIBE, Some(Version::V5)) => subscription_v5(whole)?,
        (PINGREQ, _) if remaining == 0 => Packet::Ping,
        (DISCONNECT, Some(Version::V311)) if remaining == 0 => Packet::Disconnect(None),
        (DISCONNECT, Some(Version::V5)) => Packet::Disconnect(disconnect_expiry(whole, remaining)?),
        (PINGREQ | DISCONNECT, _) => return Err(Fault::Malformed),
        // We never publish, so nothing of ours is to be acknowledged; AUTH was not agreed on.
        _ => return Err(Fault::Protocol),
    };
    Ok(Step::Packet(packet, end))
}

fn publish_step(
    bytes: &[u8],
    flags: u8,
    header: usize,
    end: usize,
    version: Version,
    packet_bytes_max: usize,
) -> Result<Step<'_>, Fault> {
    let here = bytes.get(..end).unwrap_or(bytes);
    if here.len() < end && end <= packet_bytes_max {
        return Ok(Step::Incomplete(end));
    }
    let Some((publish, head)) = publish(here, flags, header, version)? else {
        // The part before the payload is cut off: in a whole packet that is a lie about lengths.
        let needed = (here.len() + 1).max(header + HEAD_BYTES_GUESS).min(end);
        return if here.len() == end || here.len() >= header + HEAD_BYTES_MAX {
            Err(Fault::Malformed)
        } else {
            Ok(Step::Incomplete(needed))
        };
    };
    Ok(match end > packet_bytes_max {
        true => Step::Oversize { publish, head, end },
        false => Step::Packet(Packet::Publish(publish), end),
    })
}

/// Reads a PUBLISH of which at least the front is `here`; `None` if its head is not complete.
fn publish(
    here: &[u8],
    flags: u8,
    header: usize,
    version: Version,
) -> Result<Option<(Publish<'_>, usize)>, Fault> {
    let (qos, dup) = (flags >> 1 & 3, flags & 8 != 0);
    if qos == 3 || (qos == 0 && dup) {
        return Err(Fault::Malformed);
    }
    let mut at = header;
    let Some(topic) = sized(here, &mut at) else {
        return Ok(None);
    };
    let packet = match qos {
        0 => 0,
        _ => match number(here, &mut at) {
            Some(0) => return Err(Fault::Protocol),
            Some(packet) => packet,
            None => return Ok(None),
        },
    };
    if version == Version::V5 && !skip_properties(here, &mut at)? {
        return Ok(None);
    }
    let topic = std::str::from_utf8(topic).map_err(|_| Fault::Malformed)?;
    if topic.is_empty() || topic.bytes().any(|byte| matches!(byte, b'+' | b'#' | 0)) {
        return Err(Fault::TopicName);
    }
    let payload = here.get(at..).unwrap_or_default();
    Ok(Some((
        Publish {
            dup,
            qos,
            packet,
            topic,
            payload,
        },
        at,
    )))
}

/// Passes over the properties of a PUBLISH; `false` if they are not complete.
fn skip_properties(here: &[u8], at: &mut usize) -> Result<bool, Fault> {
    let Some((length, length_bytes)) = variable(here.get(*at..).unwrap_or_default())? else {
        return Ok(false);
    };
    let mut place = *at + length_bytes;
    let end = place + length;
    let Some(properties) = here.get(..end) else {
        return Ok(false);
    };
    while let Some(&name) = properties.get(place) {
        place += 1;
        let passed = match name {
            0x01 => skip(&mut place, 1),
            0x02 => skip(&mut place, 4),
            0x03 | 0x08 | 0x09 => sized(properties, &mut place).map(|_| ()),
            0x26 => sized(properties, &mut place)
                .and_then(|_| sized(properties, &mut place))
                .map(|_| ()),
            0x23 => return Err(Fault::TopicAlias),
            0x0B => return Err(Fault::Protocol),
            _ => return Err(Fault::Malformed),
        };
        if passed.is_none() || place > end {
            return Err(Fault::Malformed);
        }
    }
    *at = end;
    Ok(true)
}

fn skip(place: &mut usize, bytes: usize) -> Option<()> {
    *place += bytes;
    Some(())
}

fn connect(whole: &[u8], header: usize) -> Result<Connect, Fault> {
    let mut at = header;
    let name = sized(whole, &mut at).ok_or(Fault::Malformed)?;
    let level = *whole.get(at).ok_or(Fault::Malformed)?;
    let flags = *whole.get(at + 1).ok_or(Fault::Malformed)?;
    match (name, level) {
        (b"MQTT", 4 | 5) => {}
        (b"MQTT" | b"MQIsdp", _) => return Err(Fault::Version),
        _ => return Err(Fault::Malformed),
    }
    if flags & 1 != 0
        || flags & WILL_QOS == WILL_QOS
        || (flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0)
    {
        return Err(Fault::Malformed);
    }
    let mut bytes = BytesMut::from(whole);
    if level == 4 {
        let Ok(v4::Packet::Connect(connect)) = v4::Packet::read(&mut bytes, CONTROL_BYTES_MAX)
        else {
            return Err(Fault::Malformed);
        };
        return Ok(Connect {
            version: Version::V311,
            client: connect.client_id,
            clean: connect.clean_session,
            expiry_s: if connect.clean_session { 0 } else { u32::MAX },
            keep_alive_s: connect.keep_alive,
            will_qos: connect.last_will.map(|will| will.qos as u8),
            wants_auth: false,
            login: connect
                .login
                .map(|login| shown(login.username, login.password)),
        });
    }
    let Ok(v5::Packet::Connect(connect, will, login)) =
        v5::Packet::read(&mut bytes, Some(CONTROL_BYTES_MAX as u32))
    else {
        return Err(Fault::Malformed);
    };
    let properties = connect.properties.as_ref();
    Ok(Connect {
        version: Version::V5,
        client: connect.client_id,
        clean: connect.clean_start,
        expiry_s: properties
            .and_then(|properties| properties.session_expiry_interval)
            .unwrap_or(0),
        keep_alive_s: connect.keep_alive,
        will_qos: will.map(|will| will.qos as u8),
        wants_auth: properties.is_some_and(|properties| properties.authentication_method.is_some()),
        login: login.map(|login| shown(login.username, login.password)),
    })
}

fn shown(user: String, password: String) -> Login {
    Login {
        user,
        password: password.into(),
    }
}

fn subscription_v4(whole: &[u8]) -> Result<Packet<'static>, Fault> {
    match v4::Packet::read(&mut BytesMut::from(whole), CONTROL_BYTES_MAX) {
        Ok(v4::Packet::Subscribe(subscribe)) if subscribe.pkid != 0 => {
            Ok(Packet::Subscribe(subscribe.pkid, subscribe.filters.len()))
        }
        Ok(v4::Packet::Unsubscribe(unsubscribe))
            if unsubscribe.pkid != 0 && !unsubscribe.topics.is_empty() =>
        {
            Ok(Packet::Unsubscribe(
                unsubscribe.pkid,
                unsubscribe.topics.len(),
            ))
        }
        _ => Err(Fault::Malformed),
    }
}

fn subscription_v5(whole: &[u8]) -> Result<Packet<'static>, Fault> {
    match v5::Packet::read(&mut BytesMut::from(whole), Some(CONTROL_BYTES_MAX as u32)) {
        Ok(v5::Packet::Subscribe(subscribe)) if subscribe.pkid != 0 => {
            Ok(Packet::Subscribe(subscribe.pkid, subscribe.filters.len()))
        }
        Ok(v5::Packet::Unsubscribe(unsubscribe))
            if unsubscribe.pkid != 0 && !unsubscribe.filters.is_empty() =>
        {
            Ok(Packet::Unsubscribe(
                unsubscribe.pkid,
                unsubscribe.filters.len(),
            ))
        }
        _ => Err(Fault::Malformed),
    }
}

/// The codec refuses a DISCONNECT without properties or without anything, which are the commonest ones.
fn disconnect_expiry(whole: &[u8], remaining: usize) -> Result<Option<u32>, Fault> {
    if remaining < 2 {
        return Ok(None);
    }
    match v5::Packet::read(&mut BytesMut::from(whole), Some(CONTROL_BYTES_MAX as u32)) {
        Ok(v5::Packet::Disconnect(disconnect)) => Ok(disconnect
            .properties
            .and_then(|properties| properties.session_expiry_interval)),
        _ => Err(Fault::Malformed),
    }
}

/// The remaining length and where it ends; `None` if more bytes are needed to know.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Fault> {
    let after_type = bytes.get(1..).unwrap_or_default();
    Ok(variable(after_type)?.map(|(length, length_bytes)| (length, 1 + length_bytes)))
}

/// A variable byte integer and how many bytes it took.
fn variable(bytes: &[u8]) -> Result<Option<(usize, usize)>, Fault> {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((value, place + 1)));
        }
    }
    if bytes.len() < 4 {
        Ok(None)
    } else {
        Err(Fault::Malformed)
    }
}

fn number(bytes: &[u8], at: &mut usize) -> Option<u16> {
    let number = bytes.get(*at..*at + 2)?;
    *at += 2;
    Some(u16::from_be_bytes([*number.first()?, *number.get(1)?]))
}

fn sized<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let mut place = *at;
    let length = usize::from(number(bytes, &mut place)?);
    let found = bytes.get(place..place + length)?;
    *at = place + length;
    Some(found)
}

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 10;
const PINGREQ: u8 = 12;
const DISCONNECT: u8 = 14;

const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;

/// Packets other than PUBLISH: a CONNECT with the largest will is the largest that makes sense. The codec makes up to ten
/// bytes of memory of one byte of user properties.
const CONTROL_BYTES_MAX: usize = 80 * 1024;

/// What is read first of a PUBLISH whose payload is not kept, and the most that its topic and properties may take.
const HEAD_BYTES_GUESS: usize = 512;
const HEAD_BYTES_MAX: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v311(bytes: &[u8]) -> Result<Step<'_>, Fault> {
        step(bytes, Some(Version::V311), 1024)
    }

    fn v5(bytes: &[u8]) -> Result<Step<'_>, Fault> {
        step(bytes, Some(Version::V5), 1024)
    }

    #[test]
    fn publish_is_read_in_place_like_the_codec_reads_it() {
        let mut bytes = BytesMut::new();
        let mut sent = v4::Publish::new("a/b", rumqttc::QoS::AtLeastOnce, "21.5");
        (sent.pkid, sent.dup) = (7, true);
        sent.write(&mut bytes).expect("a publish");
        let publish = Publish {
            dup: true,
            qos: 1,
            packet: 7,
            topic: "a/b",
            payload: b"21.5",
        };
        assert_eq!(
            v311(&bytes),
            Ok(Step::Packet(Packet::Publish(publish), bytes.len()))
        );
        for cut in 0..bytes.len() {
            assert!(
                matches!(v311(&bytes[..cut]), Ok(Step::Incomplete(needed)) if needed > cut),
                "{cut}"
            );
        }
    }

    #[test]
    fn publish_with_properties_is_read_past_them() {
        let mut bytes = BytesMut::new();
        let properties = v5::PublishProperties {
            message_expiry_interval: Some(60),
            content_type: Some("text/plain".into()),
            user_properties: vec![("unit".into(), "C".into())],
            ..Default::default()
        };
        let mut sent = v5::Publish::new(
            "a",
            rumqttc::v5::mqttbytes::QoS::AtLeastOnce,
            "x",
            Some(properties),
        );
        sent.pkid = 1;
        sent.write(&mut bytes).expect("a publish");
        let Ok(Step::Packet(Packet::Publish(publish), _)) = v5(&bytes) else {
            panic!("a publish was written")
        };
        assert_eq!((publish.topic, publish.payload), ("a", &b"x"[..]));
    }

    #[test]
    fn oversize_publish_shows_its_head_before_its_payload_has_come() {
        let bytes = b"\x32\x84\x80\x80\x01\x00\x01a\x00\x09xyz";
        let publish = Publish {
            dup: false,
            qos: 1,
            packet: 9,
            topic: "a",
            payload: b"xyz",
        };
        assert_eq!(
            v311(bytes),
            Ok(Step::Oversize {
                publish,
                head: 10,
                end: 2_097_161
            })
        );
        assert!(matches!(v311(&bytes[..9]), Ok(Step::Incomplete(_))));
    }

    #[test]
    fn what_no_client_may_send_has_its_reason() {
        assert_eq!(v311(b"\x10\x00"), Err(Fault::Protocol), "a second CONNECT");
        assert_eq!(
            step(b"\x30\x03\x00\x01a", None, 64),
            Err(Fault::Protocol),
            "anything before CONNECT"
        );
        assert_eq!(
            v311(b"\x40\x02\x00\x01"),
            Err(Fault::Protocol),
            "PUBACK to one who never publishes"
        );
        assert_eq!(v5(b"\xF0\x00"), Err(Fault::Protocol), "AUTH");
        assert_eq!(
            v311(b"\x30\xFF\xFF\xFF\xFF\x01"),
            Err(Fault::Malformed),
            "a length of five bytes"
        );
        assert_eq!(
            v311(b"\x36\x05\x00\x01a\x00\x01"),
            Err(Fault::Malformed),
            "quality of service 3"
        );
        assert_eq!(
            v311(b"\x32\x05\x00\x01a\x00\x00"),
            Err(Fault::Protocol),
            "packet id 0"
        );
        assert_eq!(
            v311(b"\x32\x03\x00\x05a"),
            Err(Fault::Malformed),
            "a topic beyond the packet"
        );
        assert_eq!(
            v311(b"\x30\x03\x00\x01#"),
            Err(Fault::TopicName),
            "a wildcard"
        );
        assert_eq!(v311(b"\x30\x02\x00\x00"), Err(Fault::TopicName), "no topic");
        assert_eq!(
            v5(b"\x30\x07\x00\x01a\x03\x23\x00\x01"),
            Err(Fault::TopicAlias)
        );
        assert_eq!(
            v5(b"\x30\x05\x00\x01a\x01\x7F"),
            Err(Fault::Malformed),
            "an unknown property"
        );
        assert_eq!(
            v5(b"\x30\x05\x00\x01a\x01\x02"),
            Err(Fault::Malformed),
            "a property beyond its end"
        );
        assert_eq!(v311(b"\x82\xFF\xFF\x7F"), Err(Fault::TooLarge));
        assert_eq!(
            step(b"\x10\x0E\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00", None, 64),
            Err(Fault::Version)
        );
    }

    #[test]
    fn disconnect_comes_in_all_its_lengths() {
        assert_eq!(
            v311(b"\xE0\x00"),
            Ok(Step::Packet(Packet::Disconnect(None), 2))
        );
        assert_eq!(
            v5(b"\xE0\x00"),
            Ok(Step::Packet(Packet::Disconnect(None), 2))
        );
        assert_eq!(
            v5(b"\xE0\x01\x04"),
            Ok(Step::Packet(Packet::Disconnect(None), 3))
        );
        assert_eq!(
            v5(b"\xE0\x07\x00\x05\x11\x00\x00\x00\x00"),
            Ok(Step::Packet(Packet::Disconnect(Some(0)), 9))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_step_that_stays_inside_them(bytes: Vec<u8>, version in 0_usize..3) {
            let version = [None, Some(Version::V311), Some(Version::V5)][version];
            match step(&bytes, version, 64) {
                Ok(Step::Packet(_, length)) => prop_assert!(length > 0 && length <= bytes.len()),
                Ok(Step::Incomplete(needed)) => prop_assert!(needed > bytes.len()),
                Ok(Step::Oversize { head, end, .. }) => prop_assert!(head <= bytes.len() && head <= end && end > 64),
                Err(_) => {}
            }
        }

        #[test]
        fn flipped_bytes_in_a_connect_never_panic(place in 0_usize..64, value: u8, v5 in any::<bool>()) {
            let mut bytes = BytesMut::new();
            if v5 {
                let connect = v5::Connect { keep_alive: 10, client_id: "dev".into(), clean_start: false, properties: None };
                connect.write(&None, &None, &mut bytes).expect("a connect");
            } else {
                v4::Connect::new("dev").write(&mut bytes).expect("a connect");
            }
            let place = place % bytes.len();
            bytes[place] = value;
            drop(step(&bytes, None, 64));
        }
    }
}
