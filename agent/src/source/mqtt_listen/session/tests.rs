//! Stories of a conversation, without socket and disk.

use super::*;
use rumqttc::v5::mqttbytes::v5;

const LIMITS: Limits = Limits {
    inflight_max: 3,
    packet_bytes_max: 1024,
    expiry_s_max: 3600,
    keep_alive_max: Duration::from_secs(600),
    connect_timeout: Duration::from_secs(10),
};

/// A session whose records go to one log that settles when told to.
struct Story {
    session: Session,
    now: Instant,
    out: Vec<u8>,
    staged: u64,
    acknowledged: Vec<u64>,
}

impl Story {
    fn silent() -> Self {
        let now = Instant::now();
        Self {
            session: Session::new(LIMITS, now),
            now,
            out: Vec::new(),
            staged: 0,
            acknowledged: Vec::new(),
        }
    }

    fn live(version: Version, resumed: bool) -> Self {
        let mut story = Self::silent();
        let action = story.packet(Packet::Connect(Connect {
            version,
            ..connect()
        }));
        assert!(matches!(action, Action::Open(_)), "{action:?}");
        story.session.opened(story.now, resumed, &mut story.out);
        story.out.clear();
        story
    }

    fn packet<'a>(&mut self, packet: Packet<'a>) -> Action<'a> {
        self.session
            .handle_packet(self.now, packet, || "given".to_owned(), &mut self.out)
    }

    /// A publish is taken into lane 0 as the session's next, and staged.
    fn publish(&mut self, packet: u16) {
        let action = self.packet(Packet::Publish(publish(packet)));
        assert!(matches!(action, Action::Take { .. }), "{action:?}");
        self.staged += 1;
        self.session.taken(packet, 0, 100, self.staged, 0);
        self.session.staged(0, Ticket(self.staged));
    }

    /// The log has committed so far; what is written, and what was held.
    fn settled(&mut self, ticket: u64) -> (Vec<u8>, usize) {
        let acknowledged = &mut self.acknowledged;
        let (_, freed) = self.session.settle(
            self.now,
            |_| Ticket(ticket),
            |_, next| acknowledged.push(next),
            &mut self.out,
        );
        (std::mem::take(&mut self.out), freed)
    }

    fn after(&mut self, time: Duration) -> Option<Ending> {
        self.now += time;
        self.session.handle_timeout(self.now, true, &mut self.out)
    }
}

fn connect() -> Connect {
    Connect {
        version: Version::V311,
        client: "dev".to_owned(),
        clean: true,
        expiry_s: 0,
        keep_alive_s: 60,
        will_qos: None,
        wants_auth: false,
        login: None,
    }
}

fn publish(packet: u16) -> Publish<'static> {
    Publish {
        dup: false,
        qos: u8::from(packet != 0),
        packet,
        topic: "t",
        payload: b"x",
    }
}

#[test]
fn pubacks_leave_after_their_commit_in_order_and_in_one_piece() {
    let mut story = Story::live(Version::V311, false);
    for packet in [7, 8, 9] {
        story.publish(packet);
    }
    assert_eq!(story.settled(0), (vec![], 0));
    assert_eq!(
        story.settled(2),
        (b"\x40\x02\x00\x07\x40\x02\x00\x08".to_vec(), 200)
    );
    assert_eq!(story.session.waits_for(), Some((0, Ticket(3))));
    assert_eq!(story.settled(3), (b"\x40\x02\x00\x09".to_vec(), 100));
    assert_eq!(story.acknowledged, [2, 3], "told once for each write");
}

/// A PUBACK of 3.1.1 has four bytes, whatever there would be to say.
#[test]
fn that_a_message_was_not_accepted_is_said_to_version_5_only() {
    for (version, said) in [
        (Version::V311, &b"\x40\x02\x00\x07"[..]),
        (Version::V5, b"\x40\x03\x00\x07\x83"),
    ] {
        let mut story = Story::live(version, false);
        story.session.taken(7, 0, 0, 0, 0x83);
        story.session.staged(0, Ticket(1));
        assert_eq!(story.settled(1).0, said);
    }
}

#[test]
fn puback_waits_for_the_slower_lane_before_it() {
    let mut story = Story::live(Version::V311, false);
    story.session.taken(1, 1, 0, 0, 0);
    story.session.taken(2, 0, 0, 0, 0);
    story.session.staged(0, Ticket(1));
    story.session.staged(1, Ticket(1));
    let fast = |lane| if lane == 0 { Ticket(1) } else { Ticket(0) };
    story
        .session
        .settle(story.now, fast, |_, _| {}, &mut story.out);
    assert!(story.out.is_empty());
    assert_eq!(story.session.waits_for(), Some((1, Ticket(1))));
}

#[test]
fn recognised_redelivery_is_answered_in_its_turn_and_holds_nothing() {
    let mut story = Story::live(Version::V311, true);
    let redelivery = Publish {
        dup: true,
        ..publish(5)
    };
    let Action::Take { again: true, .. } = story.packet(Packet::Publish(redelivery)) else {
        panic!("may be known")
    };
    story.session.recognised(5, 0, 1);
    story.publish(6);
    assert_eq!(story.settled(0).0, b"\x40\x02\x00\x05");
    assert_eq!(story.settled(1).0, b"\x40\x02\x00\x06");
}

#[test]
fn dup_in_a_fresh_session_is_news() {
    let mut story = Story::live(Version::V311, false);
    let redelivery = Publish {
        dup: true,
        ..publish(5)
    };
    assert!(matches!(
        story.packet(Packet::Publish(redelivery)),
        Action::Take { again: false, .. }
    ));
}

#[test]
fn nothing_is_acknowledged_when_the_conversation_is_over() {
    let mut story = Story::live(Version::V311, false);
    story.publish(7);
    story.session.over(Ending::Lost, &mut story.out);
    assert_eq!(story.settled(1), (vec![], 100));
    assert!(story.acknowledged.is_empty());
    assert!(story.session.waits_for().is_none());
}

#[test]
fn quality_of_service_0_is_never_answered_but_holds_memory() {
    let mut story = Story::live(Version::V311, false);
    story.publish(0);
    assert_eq!(story.settled(1), (vec![], 100));
}

#[test]
fn client_with_a_full_window_is_not_read() {
    let mut story = Story::live(Version::V311, false);
    for packet in [1, 2, 3] {
        assert!(story.session.has_room());
        story.publish(packet);
    }
    assert!(!story.session.has_room());
    story.settled(1);
    assert!(story.session.has_room());
}

#[test]
fn publish_of_quality_2_ends_the_connection_with_its_code() {
    let two = Publish {
        qos: 2,
        ..publish(1)
    };
    let mut story = Story::live(Version::V5, false);
    assert_eq!(
        story.packet(Packet::Publish(two)),
        Action::End(Ending::QosTwo)
    );
    assert_eq!(story.out, b"\xE0\x01\x9B");
    let mut story = Story::live(Version::V311, false);
    assert_eq!(
        story.packet(Packet::Publish(two)),
        Action::End(Ending::QosTwo)
    );
    assert!(story.out.is_empty(), "3.1.1 has no words for it");
}

#[test]
fn every_filter_of_a_subscribe_is_refused_and_the_connection_goes_on() {
    for (version, suback, unsuback) in [
        (
            Version::V311,
            &b"\x90\x04\x00\x09\x80\x80"[..],
            &b"\xB0\x02\x00\x0A"[..],
        ),
        (
            Version::V5,
            b"\x90\x05\x00\x09\x00\x83\x83",
            b"\xB0\x04\x00\x0A\x00\x11",
        ),
    ] {
        let mut story = Story::live(version, false);
        assert_eq!(story.packet(Packet::Subscribe(9, 2)), Action::None);
        assert_eq!(std::mem::take(&mut story.out), suback);
        assert_eq!(story.packet(Packet::Unsubscribe(10, 1)), Action::None);
        assert_eq!(std::mem::take(&mut story.out), unsuback);
        assert_eq!(story.packet(Packet::Ping), Action::None);
        assert_eq!(story.out, b"\xD0\x00");
    }
}

#[test]
fn connack_of_version_5_says_what_is_offered() {
    let mut story = Story::silent();
    let wish = Connect {
        version: Version::V5,
        client: String::new(),
        expiry_s: 9999,
        keep_alive_s: 0,
        ..connect()
    };
    let Action::Open(opening) = story.packet(Packet::Connect(wish)) else {
        panic!("let in")
    };
    assert_eq!(
        opening,
        Opening {
            client: "given".to_owned(),
            clean: true,
            lasting: true,
            login: None,
        }
    );
    story.session.opened(story.now, false, &mut story.out);
    let mut bytes = bytes::BytesMut::from(&story.out[..]);
    let Ok(v5::Packet::ConnAck(connack)) = v5::Packet::read(&mut bytes, None) else {
        panic!("a CONNACK")
    };
    let offer = connack.properties.expect("properties");
    assert_eq!(
        (offer.max_qos, offer.receive_max, offer.max_packet_size),
        (Some(1), Some(3), Some(1024))
    );
    assert_eq!(
        (offer.session_expiry_interval, offer.server_keep_alive),
        (Some(3600), Some(600))
    );
    assert_eq!(offer.assigned_client_identifier.as_deref(), Some("given"));
    let offered = [
        offer.retain_available,
        offer.wildcard_subscription_available,
        offer.shared_subscription_available,
    ];
    assert_eq!(offered, [Some(0); 3]);
}

#[test]
fn clients_that_cannot_be_let_in_are_told_why() {
    for (wish, refused) in [
        (
            Connect {
                client: String::new(),
                clean: false,
                ..connect()
            },
            &b"\x20\x02\x00\x02"[..],
        ),
        (
            Connect {
                client: "x".repeat(129),
                ..connect()
            },
            b"\x20\x02\x00\x02",
        ),
        (
            Connect {
                version: Version::V5,
                wants_auth: true,
                ..connect()
            },
            b"\x20\x03\x00\x8C\x00",
        ),
        (
            Connect {
                version: Version::V5,
                will_qos: Some(2),
                ..connect()
            },
            b"\x20\x03\x00\x9B\x00",
        ),
    ] {
        let mut story = Story::silent();
        assert!(matches!(
            story.packet(Packet::Connect(wish)),
            Action::End(Ending::Refused(_))
        ));
        assert_eq!(story.out, refused);
    }
    let mut story = Story::silent();
    story.session.handle_fault(Fault::Version, &mut story.out);
    assert_eq!(
        story.out, b"\x20\x02\x00\x01",
        "a version that we do not speak"
    );
}

#[test]
fn will_is_accepted_and_dropped() {
    let mut story = Story::silent();
    let wish = Connect {
        will_qos: Some(2),
        ..connect()
    };
    assert!(matches!(
        story.packet(Packet::Connect(wish)),
        Action::Open(_)
    ));
}

#[test]
fn silence_of_one_and_a_half_keep_alives_ends_it() {
    let mut story = Story::live(Version::V5, false);
    assert_eq!(story.after(Duration::from_secs(89)), None);
    story.packet(Packet::Ping);
    story.out.clear();
    assert_eq!(story.after(Duration::from_secs(89)), None);
    assert_eq!(story.after(Duration::from_secs(2)), Some(Ending::Silence));
    assert_eq!(story.out, b"\xE0\x01\x8D");
}

#[test]
fn silence_is_no_fault_while_we_do_not_read() {
    let mut story = Story::live(Version::V311, false);
    story.now += Duration::from_secs(1000);
    assert_eq!(
        story
            .session
            .handle_timeout(story.now, false, &mut story.out),
        None
    );
    assert_eq!(story.after(Duration::from_secs(89)), None);
    assert_eq!(story.after(Duration::from_secs(2)), Some(Ending::Silence));
}

#[test]
fn connection_without_connect_ends() {
    let mut story = Story::silent();
    assert_eq!(story.after(Duration::from_secs(9)), None);
    assert_eq!(
        story.after(Duration::from_secs(2)),
        Some(Ending::Refused(Refusal::Silent))
    );
}

#[test]
fn disconnect_may_shorten_the_session_but_not_make_it_last() {
    let mut story = Story::live(Version::V5, false);
    assert_eq!(
        story.packet(Packet::Disconnect(Some(60))),
        Action::End(Ending::Fault(Fault::Protocol))
    );
    let mut story = Story::silent();
    story.packet(Packet::Connect(Connect {
        version: Version::V5,
        expiry_s: 60,
        ..connect()
    }));
    story.session.opened(story.now, false, &mut story.out);
    assert_eq!(
        story.packet(Packet::Disconnect(Some(0))),
        Action::End(Ending::Left)
    );
    assert_eq!(story.session.expiry_s(), 0);
}
