//! When each end of a conversation speaks, to the microsecond, and whose turn it is: each machine alone, with a clock that the story turns.

use sedge_core::custody::message::{
    Ack, Answer, Bye, Clock, Code, Data, Intro, List, Message, Offer, Ping, Rewind, Terms, Verdict,
    emit_hello, emit_welcome, feature, kind,
};
use sedge_core::custody::{
    Framing, Now, Received, Receiver, ReceiverEvent, ReceiverSettings, ReceiverSlot, Run, Sender,
    SenderEvent, SenderSettings, SenderSlot, Sent, Want,
};
use sedge_core::{Cause, Gap, LogId, Micros, Offset};

const SECOND: u64 = 1_000_000;
const IDLE: u64 = 300 * SECOND;
const LOG: LogId = LogId::new([7; 16]);

type TestSender = Sender<Vec<SenderSlot>, &'static str>;
type TestReceiver = Receiver<Vec<ReceiverSlot>>;

fn at(uptime_us: u64) -> Now {
    Now {
        uptime_us,
        unix_us: None,
        trusted: false,
    }
}

fn offer(slot: u16) -> Offer<'static> {
    Offer {
        slot,
        log: LOG,
        stream: "telemetry",
        partition: 0,
        oldest: Offset::ZERO,
        next: Offset::new(100),
        tail_crc: None,
        closed: false,
        chain: 0,
    }
}

fn new_sender(framing: Framing, slots: u16) -> TestSender {
    let settings = SenderSettings {
        identity: "gw-7",
        boot: 1,
        generation: 1,
        framing,
        body_bytes_max: 1024,
        idle_timeout_us: IDLE,
    };
    let mut sender = Sender::new(settings, vec![SenderSlot::default(); slots.into()], at(0));
    assert!((0..slots).all(|slot| sender.offer(slot)));
    assert!(!sender.offer(slots), "there is no such slot");
    sender
}

/// A sender of logs that each hold a hundred offsets, whose session began at 0 with this credit.
fn live_sender(framing: Framing, slots: u16, credit: u32) -> TestSender {
    let mut sender = new_sender(framing, slots);
    assert_eq!(says(&mut sender, 0), [kind::HELLO]);
    sender.welcomed_by(1, slots, credit);
    assert!(sender.is_live());
    while sender.poll_event().is_some() {}
    sender
}

trait Hears {
    fn hears(&mut self, uptime_us: u64, message: &Message<'_>);
}

impl Hears for TestSender {
    fn hears(&mut self, uptime_us: u64, message: &Message<'_>) {
        let (kind, body) = bytes_of(message);
        self.handle_message(at(uptime_us), kind, &body);
    }
}

impl Hears for TestReceiver {
    fn hears(&mut self, uptime_us: u64, message: &Message<'_>) {
        let (kind, body) = bytes_of(message);
        self.handle_message(at(uptime_us), kind, &body);
    }
}

trait Welcomed {
    fn welcomed_by(&mut self, generation: u64, slots: u16, credit: u32);
}

impl Welcomed for TestSender {
    fn welcomed_by(&mut self, generation: u64, slots: u16, credit: u32) {
        let terms = Terms {
            chosen: 1,
            features: 0,
            generation,
            clock: Clock::default(),
            credit,
        };
        let verdict = Verdict::Resume {
            next: Offset::ZERO,
            crc_below: None,
        };
        let answers = (0..slots).map(|slot| Answer { slot, verdict });
        let mut body = [0; 1024];
        let (len, _) = emit_welcome(&terms, answers, &mut body).expect("room");
        self.handle_message(at(0), kind::WELCOME, &body[..len]);
    }
}

fn bytes_of(message: &Message<'_>) -> (u8, Vec<u8>) {
    let mut body = vec![0; 1024];
    let len = message.emit(&mut body).expect("room");
    body.truncate(len);
    (message.kind(), body)
}

fn hello_of(generation: u64) -> Vec<u8> {
    let intro = Intro {
        protocol_min: 1,
        protocol_max: 1,
        features: 0,
        identity: "gw-7",
        generation,
        clock: Clock::default(),
        credential: &[],
    };
    let mut body = vec![0; 1024];
    let (len, _) = emit_hello(&intro, [offer(0)].into_iter(), &mut body).expect("room");
    body.truncate(len);
    body
}

fn new_receiver(framing: Framing) -> TestReceiver {
    let settings = ReceiverSettings {
        features: 0,
        boot: 2,
        framing,
        body_bytes_max: 1024,
        credit: 1000,
        idle_timeout_us: IDLE,
    };
    Receiver::new(settings, vec![ReceiverSlot::default()], at(0))
}

/// A receiver whose session began at 0, with one log of which it has nothing.
fn live_receiver(framing: Framing) -> TestReceiver {
    let mut receiver = new_receiver(framing);
    begin(&mut receiver, 0);
    receiver
}

fn begin(receiver: &mut TestReceiver, uptime_us: u64) {
    let hello = hello_of(1);
    let heard = receiver.handle_message(at(uptime_us), kind::HELLO, &hello);
    let Received::Hello(hello) = heard else {
        panic!("a Hello was sent");
    };
    let resume = Verdict::Resume {
        next: Offset::ZERO,
        crc_below: None,
    };
    hello.logs.iter().for_each(|o| receiver.answer(&o, resume));
    receiver.welcome();
    assert_eq!(replies(receiver, uptime_us), [kind::WELCOME]);
    assert!(receiver.is_live());
}

/// The kinds of all that it says now.
fn says(sender: &mut TestSender, uptime_us: u64) -> Vec<u8> {
    let mut body = [0; 1024];
    let said = || sender.poll_transmit(at(uptime_us), |slot| Some(offer(slot)), &mut body);
    std::iter::from_fn(said).map(|said| said.kind).collect()
}

fn replies(receiver: &mut TestReceiver, uptime_us: u64) -> Vec<u8> {
    let mut body = [0; 1024];
    let said = || receiver.poll_transmit(at(uptime_us), &mut body);
    std::iter::from_fn(said).map(|said| said.kind).collect()
}

/// Sends what is wanted next, as a frame of one offset and ten bytes; where it begins.
fn sends(sender: &mut TestSender, uptime_us: u64) -> Option<(u16, u64)> {
    let want = sender.want()?;
    send(sender, uptime_us, &want).then_some((want.slot, want.from.get()))
}

fn send(sender: &mut TestSender, uptime_us: u64, want: &Want) -> bool {
    let run = Run {
        first: want.from,
        next: want.from + 1,
        base_time: Micros::UNKNOWN,
        next_base_time: Micros::UNKNOWN,
        len: 10,
    };
    sender.data(at(uptime_us), want, run) != Sent::NotNow
}

fn acknowledges(sender: &mut TestSender, uptime_us: u64, next: u64) {
    let ack = Ack {
        slot: 0,
        next: Offset::new(next),
        credit: 1000,
        ended: false,
    };
    sender.hears(uptime_us, &Message::Ack(ack));
}

fn endings(sender: &mut TestSender) -> Vec<Code> {
    std::iter::from_fn(|| sender.poll_event())
        .filter_map(|event| match event {
            SenderEvent::Ended { code } => Some(code),
            _ => None,
        })
        .collect()
}

#[test]
fn a_hello_without_an_answer_is_said_again_on_a_link_ever_later() {
    let mut sender = new_sender(Framing::Link, 1);
    let mut waits = Vec::new();
    let mut now = 0;
    for _ in 0..9 {
        assert_eq!(says(&mut sender, now), [kind::HELLO]);
        let next = sender.next_timeout().expect("it goes on");
        assert_eq!(says(&mut sender, next - 1), []);
        waits.push((next - now) / 1000);
        now = next;
    }
    let slowest = 10_000;
    let doubled = [200, 400, 800, 1600, 3200, 6400, slowest, slowest, slowest];
    assert_eq!(waits, doubled);
}

/// A connection delivers it: said once, and given up when nothing at all is heard.
#[test]
fn a_hello_without_an_answer_on_a_stream_ends_it_when_patience_does() {
    let mut sender = new_sender(Framing::Stream, 1);
    assert_eq!(says(&mut sender, 0), [kind::HELLO]);
    assert_eq!(sender.next_timeout(), Some(IDLE));
    assert_eq!(says(&mut sender, IDLE - 1), []);
    assert_eq!(says(&mut sender, IDLE), [kind::BYE]);
    assert_eq!(endings(&mut sender), [Code::BUSY]);
    assert_eq!(sender.next_timeout(), None);
    assert_eq!(says(&mut sender, 2 * IDLE), []);
}

/// Each time it waits twice as long, and one at a time though there is credit for more; then the receiver has surely forgotten the session.
#[test]
fn what_is_not_acknowledged_on_a_link_is_sent_again_and_then_a_session_begun_anew() {
    let mut sender = live_sender(Framing::Link, 1, 1000);
    let mut now = 0;
    for wait in [1, 2, 4, 8] {
        assert_eq!(sends(&mut sender, now), Some((0, 0)));
        if now == 0 {
            assert_eq!(sends(&mut sender, now), Some((0, 1)), "there is credit");
        } else {
            assert_eq!(sends(&mut sender, now), None, "one at a time");
        }
        let next = now + wait * SECOND;
        assert_eq!(sender.next_timeout(), Some(next));
        sender.handle_timeout(at(next - 1));
        assert_eq!(says(&mut sender, next - 1), []);
        sender.handle_timeout(at(next));
        now = next;
    }
    assert!(!sender.is_live());
    assert_eq!(says(&mut sender, now), [kind::HELLO]);
}

/// One frame goes and comes back: what the line takes is what it waits for the next time.
#[test]
fn an_answer_that_comes_late_is_waited_for_as_long_the_next_time() {
    let mut sender = live_sender(Framing::Link, 1, 1000);
    sends(&mut sender, 0);
    acknowledges(&mut sender, 400_000, 1);
    sends(&mut sender, SECOND);
    // The round trip and four times half of it (RFC 6298).
    assert_eq!(sender.next_timeout(), Some(SECOND + 1_200_000));
    acknowledges(&mut sender, SECOND + 400_000, 2);
    sends(&mut sender, 2 * SECOND);
    // The same again: the variation shrinks by a quarter.
    assert_eq!(sender.next_timeout(), Some(2 * SECOND + 1_000_000));
    acknowledges(&mut sender, 2 * SECOND + 900_000, 3);
    sends(&mut sender, 4 * SECOND);
    // (7 · 400 + 900) / 8 ms, and four times (3 · 150 + 500) / 4 ms.
    assert_eq!(sender.next_timeout(), Some(4 * SECOND + 1_412_500));
}

/// What is on its way behind it is waited for anew from there.
#[test]
fn an_acknowledgement_moves_the_deadline_of_what_follows() {
    let mut sender = live_sender(Framing::Link, 1, 1000);
    sends(&mut sender, 0);
    sends(&mut sender, 0);
    acknowledges(&mut sender, 100_000, 1);
    assert_eq!(sender.next_timeout(), Some(100_000 + 300_000));
    acknowledges(&mut sender, 200_000, 2);
    assert_eq!(sender.next_timeout(), Some(200_000 + IDLE / 3));
}

#[test]
fn a_quiet_stream_is_asked_after_a_third_of_the_patience_by_both_ends() {
    let mut sender = live_sender(Framing::Stream, 1, 1000);
    let mut receiver = live_receiver(Framing::Stream);
    for now in [IDLE / 3, 2 * IDLE / 3] {
        assert_eq!(sender.next_timeout(), Some(now));
        assert_eq!(says(&mut sender, now - 1), []);
        assert_eq!(says(&mut sender, now), [kind::PING]);
        assert_eq!(receiver.next_timeout(), Some(now));
        assert_eq!(replies(&mut receiver, now - 1), []);
        assert_eq!(replies(&mut receiver, now), [kind::PING]);
    }
    assert_eq!(
        (sender.next_timeout(), receiver.next_timeout()),
        (Some(IDLE), Some(IDLE))
    );
    assert_eq!(says(&mut sender, IDLE - 1), []);
    assert_eq!(says(&mut sender, IDLE), [kind::BYE]);
    assert_eq!(replies(&mut receiver, IDLE - 1), []);
    assert_eq!(replies(&mut receiver, IDLE), [kind::BYE]);
    let over = ReceiverEvent::Ended { code: Code::BUSY };
    assert_eq!(receiver.poll_event(), Some(over));
    assert_eq!(receiver.next_timeout(), None);
}

/// A question is answered with its token, an answer is not; both show that somebody is there.
#[test]
fn a_ping_is_answered_and_counts_as_a_sign_of_life() {
    let mut sender = live_sender(Framing::Stream, 1, 1000);
    let mut receiver = live_receiver(Framing::Stream);
    let ping = |reply| Message::Ping(Ping { token: 77, reply });
    let (later, mut body) = (5 * SECOND, [0; 64]);
    sender.hears(later, &ping(false));
    receiver.hears(later, &ping(false));
    assert_eq!((sender.heard_us(), receiver.heard_us()), (later, later));
    let said = sender.poll_transmit(at(later), |_| None, &mut body);
    let len = said.expect("an answer").len;
    assert_eq!(Message::parse(kind::PING, &body[..len]), Ok(ping(true)));
    let said = receiver.poll_transmit(at(later), &mut body);
    let len = said.expect("an answer").len;
    assert_eq!(Message::parse(kind::PING, &body[..len]), Ok(ping(true)));
    sender.hears(later + 1, &ping(true));
    receiver.hears(later + 1, &ping(true));
    assert_eq!(says(&mut sender, later + 1), []);
    assert_eq!(replies(&mut receiver, later + 1), []);
    let next = Some(later + 1 + IDLE / 3);
    assert_eq!(
        (sender.next_timeout(), receiver.next_timeout()),
        (next, next)
    );
}

/// A device may sleep: its receiver answers, and never asks.
#[test]
fn a_receiver_on_a_link_has_nothing_to_wait_for() {
    let mut receiver = live_receiver(Framing::Link);
    assert_eq!(receiver.next_timeout(), None);
    assert_eq!(replies(&mut receiver, 10 * IDLE), []);
    let token = 1;
    receiver.hears(
        10 * IDLE,
        &Message::Ping(Ping {
            token,
            reply: false,
        }),
    );
    assert_eq!(replies(&mut receiver, 10 * IDLE), [kind::PING]);
}

/// At once when it has just started, then only if somebody talks on, and once a second.
#[test]
fn a_receiver_on_a_link_asks_for_a_hello_once_a_second_at_most() {
    let mut receiver = new_receiver(Framing::Link);
    let talk = Message::Data(Data {
        slot: 0,
        first: Offset::ZERO,
        base_time: None,
        frames: &[],
    });
    let start = 5 * SECOND;
    assert_eq!(replies(&mut receiver, start), [kind::WELCOME]);
    assert_eq!(receiver.next_timeout(), None);
    assert_eq!(replies(&mut receiver, start + 9 * SECOND), []);
    receiver.hears(start + 1, &talk);
    assert_eq!(receiver.next_timeout(), Some(start + SECOND));
    receiver.hears(start + 2, &talk);
    assert_eq!(replies(&mut receiver, start + SECOND - 1), []);
    assert_eq!(replies(&mut receiver, start + SECOND), [kind::WELCOME]);
    receiver.hears(start + 7 * SECOND, &talk);
    assert_eq!(replies(&mut receiver, start + 7 * SECOND), [kind::WELCOME]);
    let mut stream = new_receiver(Framing::Stream);
    stream.hears(1, &talk);
    assert_eq!(replies(&mut stream, 9 * SECOND), []);
}

#[test]
fn both_ends_of_a_link_pause_behind_a_bye() {
    let bye = Message::Bye(Bye {
        code: Code::BUSY,
        reason: "",
    });
    let mut sender = live_sender(Framing::Link, 1, 1000);
    sender.hears(SECOND, &bye);
    assert_eq!(endings(&mut sender), [Code::BUSY]);
    assert_eq!(sender.next_timeout(), Some(11 * SECOND));
    assert_eq!(says(&mut sender, 11 * SECOND - 1), []);
    assert_eq!(says(&mut sender, 11 * SECOND), [kind::HELLO]);
    let mut receiver = live_receiver(Framing::Link);
    receiver.hears(SECOND, &bye);
    assert_eq!(receiver.next_timeout(), Some(2 * SECOND));
    assert_eq!(replies(&mut receiver, 2 * SECOND - 1), []);
    assert_eq!(replies(&mut receiver, 2 * SECOND), [kind::WELCOME]);
}

/// What is missing is asked for, and again after about a round trip, if it has not come by then.
#[test]
fn a_hole_is_asked_for_four_times_a_second_at_most() {
    let mut receiver = live_receiver(Framing::Stream);
    let mut hole = |now, first| {
        let first = Offset::new(first);
        let (base_time, frames) = (None, &[1, 2, 3][..]);
        let data = Data {
            slot: 0,
            first,
            base_time,
            frames,
        };
        receiver.hears(now, &Message::Data(data));
        replies(&mut receiver, now)
    };
    assert_eq!(hole(10, 5), [kind::REWIND]);
    assert_eq!(hole(250_009, 6), []);
    assert_eq!(hole(250_010, 7), [kind::REWIND]);
    assert_eq!(hole(250_011, 8), []);
}

#[test]
fn credit_that_was_set_is_granted_with_the_next_acknowledgement() {
    let mut receiver = live_receiver(Framing::Stream);
    receiver.set_credit(5);
    receiver.stored(0, Offset::ZERO);
    let mut body = [0; 64];
    let said = receiver.poll_transmit(at(1), &mut body).expect("an Ack");
    let ack = Ack {
        slot: 0,
        next: Offset::ZERO,
        credit: 5,
        ended: false,
    };
    assert_eq!(
        Message::parse(said.kind, &body[..said.len]),
        Ok(Message::Ack(ack))
    );
}

#[test]
fn logs_take_turns_and_a_driver_may_rank_them() {
    let mut sender = live_sender(Framing::Stream, 3, 1000);
    let turns: Vec<_> = (0..5).filter_map(|_| sends(&mut sender, 0)).collect();
    assert_eq!(turns, [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]);
    let ranked = |sender: &mut TestSender, ranks: [Option<u8>; 3]| {
        let want = sender.want_by(|slot| ranks[usize::from(slot)])?;
        assert_eq!(want.bytes_max, 1000 - 50);
        Some((want.slot, want.from.get()))
    };
    assert_eq!(
        ranked(&mut sender, [Some(2), Some(1), Some(3)]),
        Some((1, 2))
    );
    assert_eq!(ranked(&mut sender, [Some(2), None, Some(3)]), Some((0, 2)));
    assert_eq!(ranked(&mut sender, [None; 3]), None);
    sender.leave(Code::BUSY, "");
    says(&mut sender, 0);
    assert_eq!(
        ranked(&mut sender, [Some(1); 3]),
        None,
        "the session is over"
    );
    assert_eq!(sender.want(), None);
}

#[test]
fn a_session_that_is_started_over_is_greeted_at_once_and_has_another_number() {
    let mut sender = live_sender(Framing::Stream, 1, 1000);
    sends(&mut sender, 0);
    sender.start_over(at(SECOND));
    assert!(!sender.is_live());
    assert_eq!(says(&mut sender, SECOND), [kind::HELLO]);
    sender.welcomed_by(1, 1, 1000);
    assert!(!sender.is_live(), "that was the Hello before");
    sender.welcomed_by(2, 1, 1000);
    assert!(sender.is_live());
    assert_eq!(sends(&mut sender, SECOND), Some((0, 0)));
}

/// Of what was sent again an acknowledgement of the first sending comes late: a gap in front of it is still to be told, one behind it is not.
#[test]
fn a_gap_is_told_unless_the_receiver_is_past_it() {
    for (acked, told) in [(1, vec![kind::GAP]), (2, vec![])] {
        let mut sender = live_sender(Framing::Stream, 1, 1000);
        for _ in 0..3 {
            sends(&mut sender, 0);
        }
        let next = Offset::new(1);
        sender.hears(0, &Message::Rewind(Rewind { slot: 0, next }));
        let want = sender.want().expect("there is data");
        assert_eq!(want.from, next);
        let gap = Gap {
            from: next,
            to: Offset::new(50),
            lost: 49,
            cause: Cause::Evicted,
            when: Micros::UNKNOWN,
            when_last: Micros::UNKNOWN,
        };
        sender.gap(&want, gap);
        assert_eq!(sender.want(), None, "the gap goes first");
        acknowledges(&mut sender, 0, acked);
        assert_eq!(says(&mut sender, 0), told, "acknowledged {acked}");
    }
}

/// An answer to an offer is heard once; a later one says only that the log is not taken any more, and only of a log that was.
#[test]
fn an_answer_that_is_repeated_moves_nothing() {
    let mut sender = live_sender(Framing::Stream, 1, 1000);
    sends(&mut sender, 0);
    let back = Verdict::Resume {
        next: Offset::ZERO,
        crc_below: None,
    };
    let answer = |verdict| Message::Answer(Answer { slot: 0, verdict });
    sender.hears(0, &answer(back));
    assert_eq!(sender.poll_event(), None);
    assert_eq!(sends(&mut sender, 0), Some((0, 1)));
    sender.withdraw(0);
    let code = Code::DISK_FULL;
    let refused = Verdict::Refused { code, reason: "" };
    sender.hears(0, &answer(refused));
    assert_eq!(sender.poll_event(), None);
}

/// A Hello takes as many offers as there is room for; the others are offered once the session has begun, each once.
#[test]
fn logs_that_do_not_fit_into_a_hello_are_offered_behind_it() {
    let mut sender = new_sender(Framing::Stream, 4);
    let mut body = [0; 130];
    let said = sender.poll_transmit(at(0), |slot| Some(offer(slot)), &mut body);
    let said = said.expect("a Hello");
    let Ok(Message::Hello(hello)) = Message::parse(said.kind, &body[..said.len]) else {
        panic!("a Hello")
    };
    let fitting: Vec<_> = hello.logs.iter().map(|offer| offer.slot).collect();
    assert!((1..4).contains(&fitting.len()), "{fitting:?}");
    assert_eq!(hello.intro.features, feature::MORE_FOLLOW);
    assert_eq!(hello.intro.identity, "gw-7");
    let mut whole = [0; 130];
    let said = new_sender(Framing::Stream, 1)
        .poll_transmit(at(0), |slot| Some(offer(slot)), &mut whole)
        .expect("a Hello");
    let Ok(Message::Hello(one)) = Message::parse(said.kind, &whole[..said.len]) else {
        panic!("a Hello")
    };
    assert_eq!(one.intro.features, 0, "it names every log");
    sender.welcomed_by(1, fitting.len() as u16, 1000);
    let mut offered = Vec::new();
    while let Some(said) = sender.poll_transmit(at(0), |slot| Some(offer(slot)), &mut body) {
        match Message::parse(said.kind, &body[..said.len]) {
            Ok(Message::Offer(offer)) => offered.push(offer.slot),
            other => panic!("an Offer, not {other:?}"),
        }
    }
    assert_eq!([fitting, offered].concat(), [0, 1, 2, 3]);
}

/// The same at the other end: what does not fit into a Welcome is answered behind it.
#[test]
fn answers_that_do_not_fit_into_a_welcome_are_given_behind_it() {
    let mut receiver = new_receiver(Framing::Stream);
    *receiver.slots_mut() = vec![ReceiverSlot::default(); 6];
    let hello = hello_of(1);
    receiver.handle_message(at(0), kind::HELLO, &hello);
    let resume = Verdict::Resume {
        next: Offset::ZERO,
        crc_below: None,
    };
    (0..6).for_each(|slot| receiver.answer(&offer(slot), resume));
    receiver.welcome();
    let mut body = [0; 26];
    let said = receiver.poll_transmit(at(0), &mut body);
    let said = said.expect("a Welcome");
    let Ok(Message::Welcome(welcome)) = Message::parse(said.kind, &body[..said.len]) else {
        panic!("a Welcome")
    };
    let fitting: Vec<_> = welcome.logs.iter().map(|answer| answer.slot).collect();
    assert!((1..6).contains(&fitting.len()), "{fitting:?}");
    let mut answered = Vec::new();
    while let Some(said) = receiver.poll_transmit(at(0), &mut body) {
        match Message::parse(said.kind, &body[..said.len]) {
            Ok(Message::Answer(answer)) => answered.push(answer.slot),
            other => panic!("an Answer, not {other:?}"),
        }
    }
    assert_eq!([fitting, answered].concat(), [0, 1, 2, 3, 4, 5]);
}

/// Lists in messages are the same if they say the same.
#[test]
fn lists_in_messages_can_be_compared() {
    let (one, other) = (hello_of(1), hello_of(2));
    let logs = |body| match Message::parse(kind::HELLO, body) {
        Ok(Message::Hello(hello)) => hello.logs,
        other => panic!("a Hello, not {other:?}"),
    };
    assert_eq!(logs(&one), logs(&other));
    assert_ne!(logs(&one), List::EMPTY);
}
