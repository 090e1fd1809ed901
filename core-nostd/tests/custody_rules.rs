//! Single rules of the custody protocol that a peer may break: each machine alone, against a peer that says what it likes.

use proptest::prelude::*;
use sedge_core::custody::message::{
    Ack, Answer, Clock, Close, Code, Data, Message, Offer, Rewind, SlotGap, Terms, Verdict,
    emit_welcome, kind,
};
use sedge_core::custody::{
    Below, Framing, Now, Received, Receiver, ReceiverSettings, ReceiverSlot, Run, Sender,
    SenderEvent, SenderSettings, SenderSlot, Sent, Want,
};
use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{self, Form, Label};
use sedge_core::framing::link;
use sedge_core::{Cause, Gap, LogId, Micros, Offset};

const LOG: LogId = LogId::new([7; 16]);
const NOW: Now = Now {
    uptime_us: 0,
    unix_us: None,
    trusted: false,
};

fn offer(next: u64) -> Offer<'static> {
    Offer {
        slot: 0,
        log: LOG,
        stream: "telemetry",
        partition: 0,
        oldest: Offset::ZERO,
        next: Offset::new(next),
        tail_crc: None,
        closed: false,
        chain: 0,
    }
}

fn body_of(message: &Message<'_>) -> (u8, Vec<u8>) {
    let mut body = vec![0; 1024];
    let len = message.emit(&mut body).expect("room");
    body.truncate(len);
    (message.kind(), body)
}

/// A frame with one record.
fn frame_at(first: u64) -> Vec<u8> {
    frame_of(first, 1)
}

fn frame_of(first: u64, count: u16) -> Vec<u8> {
    framed(Form::Explicit, first, None, count)
}

fn framed(form: Form, first: u64, time: Option<i64>, count: u16) -> Vec<u8> {
    let record = Record {
        time,
        key: None,
        headers: Headers::NONE,
        value: b"21.5",
    };
    let mut entry = [0; 64];
    let len = Entry::Record(record).encode(&mut entry).expect("room");
    let entries = entry[..len].repeat(count.into());
    let label = Label {
        form,
        first: Offset::new(first),
        time: Micros::new(1),
        first_of_commit: true,
    };
    let mut bytes = vec![0; 128];
    let len = frame::emit_data(&mut bytes, &LOG, label, count, &[], &entries).expect("room");
    bytes.truncate(len);
    bytes
}

/// A sender whose receiver has just welcomed it, with this credit.
fn welcomed_sender(next: u64, credit: u32) -> Sender<[SenderSlot; 1], &'static str> {
    let mut sender = greeting_sender(next);
    let (kind, body) = welcome(1, credit);
    sender.handle_message(NOW, kind, &body);
    assert!(sender.is_live());
    sender
}

const SETTINGS: SenderSettings<&'static str> = SenderSettings {
    identity: "gw-7",
    boot: 1,
    generation: 1,
    framing: Framing::Link,
    body_bytes_max: 1024,
    idle_timeout_us: 30_000_000,
};

fn greeting_sender(next: u64) -> Sender<[SenderSlot; 1], &'static str> {
    let mut sender = Sender::new(SETTINGS, [SenderSlot::default()], NOW);
    assert!(sender.offer(0));
    let said = sender.poll_transmit(NOW, |_| Some(offer(next)), &mut [0; 1024]);
    assert_eq!(said.map(|said| said.kind), Some(kind::HELLO));
    sender
}

fn welcome(generation: u64, credit: u32) -> (u8, Vec<u8>) {
    let mut receiver = welcoming_receiver::<1>(0, generation, credit);
    let mut body = vec![0; 1024];
    let said = receiver.poll_transmit(NOW, &mut body).expect("a Welcome");
    body.truncate(said.len);
    (said.kind, body)
}

/// A receiver that has `next` durable and was offered the log.
fn welcoming_receiver<const SLOTS: usize>(
    next: u64,
    generation: u64,
    credit: u32,
) -> Receiver<[ReceiverSlot; SLOTS]> {
    let settings = ReceiverSettings {
        boot: 2,
        framing: Framing::Stream,
        body_bytes_max: 1024,
        credit,
        idle_timeout_us: 30_000_000,
        features: 0,
    };
    let mut receiver = Receiver::new(settings, [ReceiverSlot::default(); SLOTS], NOW);
    let hello = hello(generation);
    let Received::Hello(hello) = receiver.handle_message(NOW, kind::HELLO, &hello) else {
        panic!("a Hello was sent");
    };
    let resume = Verdict::Resume {
        next: Offset::new(next),
        crc_below: None,
    };
    hello
        .logs
        .iter()
        .for_each(|offer| receiver.answer(&offer, resume));
    receiver.welcome();
    receiver
}

fn live_receiver<const SLOTS: usize>(next: u64) -> Receiver<[ReceiverSlot; SLOTS]> {
    let mut receiver = welcoming_receiver(next, 1, 1000);
    let said = receiver.poll_transmit(NOW, &mut [0; 1024]);
    assert_eq!(said.map(|said| said.kind), Some(kind::WELCOME));
    receiver
}

fn hello(generation: u64) -> Vec<u8> {
    use sedge_core::custody::message::{Clock, Intro, emit_hello};
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
    let (len, _) = emit_hello(&intro, [offer(100)].into_iter(), &mut body).expect("room");
    body.truncate(len);
    body
}

/// The first that is wanted, in a frame of ten bytes.
fn frame_of_ten_bytes(want: &Want) -> Run {
    Run {
        first: want.from,
        next: want.from + 1,
        base_time: Micros::UNKNOWN,
        next_base_time: Micros::UNKNOWN,
        len: 10,
    }
}

/// Sends frames of ten bytes and one offset each until the sender wants no more.
fn send_all(sender: &mut Sender<[SenderSlot; 1], &'static str>) -> u64 {
    let mut sent = 0;
    while let Some(want) = sender.want() {
        let run = frame_of_ten_bytes(&want);
        if sender.data(NOW, &want, run) == Sent::NotNow {
            break;
        }
        sent += 1;
    }
    sent
}

fn released(sender: &mut Sender<[SenderSlot; 1], &'static str>) -> Option<u64> {
    let mut last = None;
    while let Some(event) = sender.poll_event() {
        if let SenderEvent::Released { next, .. } = event {
            last = Some(next.get());
        }
    }
    last
}

fn ack(sender: &mut Sender<[SenderSlot; 1], &'static str>, next: u64, credit: u32) {
    say_ack(sender, next, credit, false);
}

fn say_ack(
    sender: &mut Sender<[SenderSlot; 1], &'static str>,
    next: u64,
    credit: u32,
    ended: bool,
) {
    let (kind, body) = body_of(&Message::Ack(Ack {
        slot: 0,
        next: Offset::new(next),
        credit,
        ended,
    }));
    sender.handle_message(NOW, kind, &body);
}

#[test]
fn a_sender_stays_within_its_credit_and_sends_one_frame_without_any() {
    assert_eq!(send_all(&mut welcomed_sender(100, 35)), 3);
    assert_eq!(send_all(&mut welcomed_sender(100, 0)), 1);
    let mut sender = welcomed_sender(100, 35);
    send_all(&mut sender);
    ack(&mut sender, 2, 35);
    assert_eq!(
        send_all(&mut sender),
        2,
        "one is on its way, so two more fit"
    );
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_releases_nothing() {
    let mut sender = welcomed_sender(100, 35);
    send_all(&mut sender);
    assert_eq!(released(&mut sender), Some(0));
    ack(&mut sender, 4, 35);
    assert_eq!(released(&mut sender), None);
    ack(&mut sender, 3, 35);
    assert_eq!(released(&mut sender), Some(3));
    ack(&mut sender, 2, 35);
    assert_eq!(released(&mut sender), None);
}

/// The last Data was sent twice, so its end is acknowledged twice, once behind Close, which is lost. The receiver does not know yet that the log
/// has ended, and the sender must not forget the log.
#[test]
fn an_end_that_is_acknowledged_twice_is_no_answer_to_close() {
    let mut sender = welcomed_sender(3, 1000);
    send_all(&mut sender);
    sender.closed(0, Offset::new(3));
    ack(&mut sender, 3, 1000);
    let said = sender.poll_transmit(NOW, |_| None, &mut [0; 1024]);
    assert_eq!(said.map(|said| said.kind), Some(kind::CLOSE));
    ack(&mut sender, 3, 1000);
    assert!(!is_closed(&mut sender));
    say_ack(&mut sender, 3, 1000, true);
    assert!(is_closed(&mut sender));
}

/// The window is nearly full, and what goes first is too large for what is left of it. Smaller frames of the other log would fit, and could go on for ever.
#[test]
fn what_goes_first_is_not_passed_over_for_want_of_room() {
    let mut sender = welcomed_sender_of_two(100);
    let frame = |want: &Want, len| Run {
        len,
        ..frame_of_ten_bytes(want)
    };
    for _ in 0..8 {
        let want = sender.want_by(Some).expect("the first has nothing yet");
        assert_eq!(want.slot, 1);
        assert_ne!(sender.data(NOW, &want, frame(&want, 10)), Sent::NotNow);
    }
    sender.grew(0, Offset::new(1));
    let want = sender.want_by(Some).expect("nobody knows its size");
    assert_eq!(want.slot, 0);
    assert_eq!(sender.data(NOW, &want, frame(&want, 50)), Sent::NotNow);
    assert_eq!(sender.want_by(Some), None);
    assert_eq!(
        sender
            .want_by(|slot| (slot == 1).then_some(0))
            .map(|want| want.slot),
        Some(1),
        "a log that is not to be sent now holds nobody up"
    );
    let (kind, body) = body_of(&Message::Ack(Ack {
        slot: 1,
        next: Offset::new(3),
        credit: 100,
        ended: false,
    }));
    sender.handle_message(NOW, kind, &body);
    let want = sender.want_by(Some).expect("there is room");
    assert_eq!(want.slot, 0);
    assert_ne!(sender.data(NOW, &want, frame(&want, 50)), Sent::NotNow);
    assert_eq!(sender.want_by(Some), None, "the window is full");
}

/// A sender of two logs: the first is empty, the second has a hundred offsets.
fn welcomed_sender_of_two(credit: u32) -> Sender<[SenderSlot; 2], &'static str> {
    let mut sender = Sender::new(SETTINGS, [SenderSlot::default(); 2], NOW);
    assert!(sender.offer(0) && sender.offer(1));
    let offered = |slot: u16| {
        Some(Offer {
            slot,
            log: LogId::new([slot as u8; 16]),
            ..offer(100 * u64::from(slot))
        })
    };
    sender.poll_transmit(NOW, offered, &mut [0; 1024]);
    let terms = Terms {
        chosen: 1,
        features: 0,
        generation: 1,
        clock: Clock::default(),
        credit,
    };
    let verdict = Verdict::Resume {
        next: Offset::ZERO,
        crc_below: None,
    };
    let answers = [0, 1].map(|slot| Answer { slot, verdict });
    let mut body = [0; 1024];
    let (len, _) = emit_welcome(&terms, answers.into_iter(), &mut body).expect("room");
    sender.handle_message(NOW, kind::WELCOME, &body[..len]);
    assert!(sender.is_live());
    sender
}

/// Nothing of the log is released, nor sent; and who did not ask is not told.
#[test]
fn a_receiver_that_stands_inside_a_frame_has_another_history() {
    let mut sender = greeting_sender(100);
    let terms = Terms {
        chosen: 1,
        features: 0,
        generation: 1,
        clock: Clock::default(),
        credit: 1000,
    };
    let verdict = Verdict::Resume {
        next: Offset::new(7),
        crc_below: Some(1),
    };
    let answer = Answer { slot: 0, verdict };
    let mut body = [0; 1024];
    let (len, _) = emit_welcome(&terms, [answer].into_iter(), &mut body).expect("room");
    sender.handle_message(NOW, kind::WELCOME, &body[..len]);
    sender.checked(0, Below::Inside);
    let told: Vec<_> = core::iter::from_fn(|| sender.poll_event())
        .skip(1)
        .collect();
    assert_eq!(told, [SenderEvent::Diverged { slot: 0 }]);
    assert_eq!(sender.want(), None);
    let mut sender = welcomed_sender(100, 1000);
    sender.checked(0, Below::Inside);
    assert!(sender.want().is_some());
}

/// The driver was asked for them before, and took its time.
#[test]
fn frames_for_a_place_that_was_passed_are_not_sent_again() {
    let mut sender = welcomed_sender(10, 1000);
    let want = sender.want().expect("there is data");
    let run = frame_of_ten_bytes(&want);
    assert_ne!(sender.data(NOW, &want, run), Sent::NotNow);
    assert_eq!(sender.data(NOW, &want, run), Sent::NotNow);
    let goes_on = sender.want().map(|want| want.from);
    assert_eq!(goes_on, Some(want.from + 1));
}

fn is_closed(sender: &mut Sender<[SenderSlot; 1], &'static str>) -> bool {
    core::iter::from_fn(|| sender.poll_event())
        .any(|event| matches!(event, SenderEvent::Closed { .. }))
}

#[test]
fn a_welcome_to_another_hello_opens_nothing() {
    let mut sender = greeting_sender(100);
    let (kind, body) = welcome(9, 1000);
    sender.handle_message(NOW, kind, &body);
    assert!(!sender.is_live());
}

#[test]
fn a_rewind_beyond_what_was_sent_or_below_what_was_acknowledged_moves_nothing() {
    let mut sender = welcomed_sender(100, 1000);
    for _ in 0..3 {
        let want = sender.want().expect("there is data");
        let run = frame_of_ten_bytes(&want);
        assert_ne!(sender.data(NOW, &want, run), Sent::NotNow);
    }
    ack(&mut sender, 2, 1000);
    for foul in [1, 50] {
        let next = Offset::new(foul);
        let (kind, body) = body_of(&Message::Rewind(Rewind { slot: 0, next }));
        sender.handle_message(NOW, kind, &body);
        assert_eq!(sender.want().map(|want| want.from), Some(Offset::new(3)));
    }
}

/// It was overtaken on its way, and says what was true before.
#[test]
fn an_acknowledgement_below_the_last_one_grants_nothing() {
    let mut sender = welcomed_sender(100, 35);
    send_all(&mut sender);
    ack(&mut sender, 3, 35);
    ack(&mut sender, 2, 1000);
    assert_eq!(send_all(&mut sender), 3);
}

#[test]
fn frames_with_a_hole_between_them_are_taken_up_to_the_hole() {
    let mut receiver = live_receiver::<1>(0);
    let frames = [frame_at(0), frame_at(2)].concat();
    let taken = hears_data(&mut receiver, 0, Some(Micros::UNKNOWN), &frames);
    assert_eq!(taken, Some((0, 1, Micros::UNKNOWN)));
    assert_eq!(said(&mut receiver), ["Rewind 1"]);
}

#[test]
fn what_could_not_be_stored_is_asked_for_at_once() {
    let mut receiver = live_receiver::<1>(0);
    hears_data(&mut receiver, 0, Some(START), &timed_frame(0)).expect("it is new");
    receiver.unstored(0);
    assert_eq!(said(&mut receiver), ["Rewind 0"]);
    receiver.unstored(0);
    assert_eq!(said(&mut receiver), [""; 0], "nothing was handed out since");
}

/// What is sound before the damage is taken, and the rest is asked for at once, not when a timer ends.
#[test]
fn frames_behind_a_damaged_one_are_asked_for_at_once() {
    let mut receiver = live_receiver::<1>(0);
    let mut frames = [frame_at(0), frame_at(1), frame_at(2)].concat();
    frames[frame_at(0).len() + 10] ^= 1;
    let taken = hears_data(&mut receiver, 0, Some(Micros::UNKNOWN), &frames);
    assert_eq!(taken, Some((0, 1, Micros::UNKNOWN)));
    assert_eq!(said(&mut receiver), ["Rewind 1"]);
    let taken = hears_data(&mut receiver, 0, Some(Micros::UNKNOWN), &frames);
    assert_eq!(taken, None);
    assert_eq!(
        said(&mut receiver),
        [""; 0],
        "asked once for each round trip"
    );
}

#[test]
fn frames_that_straddle_the_expected_place_are_not_taken() {
    let mut receiver = live_receiver::<1>(1);
    let taken = hears_data(&mut receiver, 0, Some(Micros::UNKNOWN), &frame_of(0, 2));
    assert_eq!(taken, None);
    assert_eq!(said(&mut receiver), ["Rewind 1"]);
}

/// The first Data was lost, and with it the time from which the second one counts.
#[test]
fn a_data_without_its_base_time_behind_a_lost_one_is_asked_for_again() {
    let mut receiver = live_receiver::<1>(0);
    assert_eq!(hears_data(&mut receiver, 1, None, &timed_frame(1)), None);
    assert_eq!(said(&mut receiver), ["Rewind 0"]);
    let taken = hears_data(&mut receiver, 0, Some(START), &timed_frame(0));
    assert_eq!(taken, Some((0, 1, START)));
    let taken = hears_data(&mut receiver, 1, None, &timed_frame(1));
    assert_eq!(taken, Some((1, 2, after(1))));
}

/// It begins where it should, but in this session no time was told: a peer that talks on after a new Hello.
#[test]
fn a_data_without_its_base_time_at_the_beginning_of_a_session_is_asked_for_again() {
    let mut receiver = live_receiver::<1>(5);
    assert_eq!(hears_data(&mut receiver, 5, None, &timed_frame(5)), None);
    assert_eq!(said(&mut receiver), ["Rewind 5"]);
    let taken = hears_data(&mut receiver, 5, Some(after(5)), &timed_frame(5));
    assert_eq!(taken, Some((5, 6, after(5))));
}

/// The line says that it dropped something: the sender goes back before it has sent much more in vain.
#[test]
fn a_damaged_data_is_asked_for_at_once_and_then_not_again_for_what_was_on_its_way_behind_it() {
    let mut receiver = live_receiver::<1>(0);
    receiver.damaged(NOW, kind::DATA);
    assert_eq!(said(&mut receiver), ["Rewind 0"]);
    receiver.damaged(NOW, kind::DATA);
    for stale in [1, 2] {
        assert_eq!(
            hears_data(&mut receiver, stale, None, &timed_frame(stale)),
            None
        );
    }
    assert_eq!(said(&mut receiver), [""; 0]);
}

#[test]
fn a_damaged_message_of_another_type_asks_for_nothing() {
    let mut receiver = live_receiver::<1>(0);
    receiver.damaged(NOW, kind::PING);
    assert_eq!(said(&mut receiver), [""; 0]);
}

/// Nobody can tell whose it was, and to go back in both would cost more than to wait.
#[test]
fn a_damaged_data_of_one_of_two_logs_asks_for_nothing() {
    let mut receiver = live_receiver::<2>(0);
    let second = Offer {
        slot: 1,
        ..offer(100)
    };
    let resume = Verdict::Resume {
        next: Offset::ZERO,
        crc_below: None,
    };
    receiver.answer(&second, resume);
    assert_eq!(said(&mut receiver), ["Answer"]);
    receiver.damaged(NOW, kind::DATA);
    assert_eq!(said(&mut receiver), [""; 0]);
}

/// What was sent again is lost as well. The one behind it comes a second time, so the sender has gone back, and no timer is waited for.
#[test]
fn a_repetition_that_is_lost_is_asked_for_at_once() {
    let mut receiver = live_receiver::<1>(0);
    for stale in [1, 2] {
        hears_data(&mut receiver, stale, None, &timed_frame(stale));
    }
    assert_eq!(said(&mut receiver), ["Rewind 0"]);
    hears_data(&mut receiver, 1, None, &timed_frame(1));
    assert_eq!(said(&mut receiver), ["Rewind 0"]);
    hears_data(&mut receiver, 2, None, &timed_frame(2));
    assert_eq!(said(&mut receiver), [""; 0]);
}

#[test]
fn what_could_not_be_stored_takes_the_time_behind_it_along() {
    let mut receiver = live_receiver::<1>(0);
    hears_data(&mut receiver, 0, Some(START), &timed_frame(0)).expect("it is new");
    receiver.unstored(0);
    assert_eq!(hears_data(&mut receiver, 0, None, &timed_frame(0)), None);
    assert_eq!(said(&mut receiver), ["Rewind 0"]);
}

#[test]
fn behind_a_gap_the_base_time_must_be_said() {
    let mut receiver = live_receiver::<1>(0);
    hears_data(&mut receiver, 0, Some(START), &timed_frame(0)).expect("it is new");
    let gap = Gap {
        from: Offset::new(1),
        to: Offset::new(4),
        lost: 3,
        cause: Cause::Evicted,
        when: Micros::UNKNOWN,
        when_last: Micros::UNKNOWN,
    };
    let (kind, body) = body_of(&Message::Gap(SlotGap { slot: 0, gap }));
    assert!(matches!(
        receiver.handle_message(NOW, kind, &body),
        Received::Gap(_)
    ));
    assert_eq!(hears_data(&mut receiver, 4, None, &timed_frame(4)), None);
    assert_eq!(said(&mut receiver), ["Rewind 4"]);
}

/// An acknowledgement was lost, and the sender goes back further than it needs to: the time at the expected place is known from before.
#[test]
fn a_repetition_goes_on_from_the_time_that_was_reached_before_it() {
    let mut receiver = live_receiver::<1>(0);
    let both = [timed_frame(0), timed_frame(1)].concat();
    hears_data(&mut receiver, 0, Some(START), &both).expect("it is new");
    assert_eq!(
        hears_data(&mut receiver, 0, Some(START), &timed_frame(0)),
        None
    );
    let repeated = [timed_frame(1), timed_frame(2)].concat();
    let taken = hears_data(&mut receiver, 1, None, &repeated);
    assert_eq!(taken, Some((2, 3, after(2))));
}

#[test]
fn after_a_rewind_the_base_time_is_said_again() {
    let mut sender = welcomed_sender(100, 1000);
    assert_eq!(send_timed(&mut sender, START), Some(START));
    assert_eq!(send_timed(&mut sender, after(1)), None);
    assert_eq!(send_timed(&mut sender, after(2)), None);
    let (kind, body) = body_of(&Message::Rewind(Rewind {
        slot: 0,
        next: Offset::new(2),
    }));
    sender.handle_message(NOW, kind, &body);
    assert_eq!(send_timed(&mut sender, after(2)), Some(after(2)));
    assert_eq!(send_timed(&mut sender, after(3)), None);
}

#[test]
fn after_a_timeout_the_base_time_is_said_again() {
    let mut sender = welcomed_sender(100, 1000);
    send_timed(&mut sender, START);
    let late = Now {
        uptime_us: sender.next_timeout().expect("an answer is awaited"),
        ..NOW
    };
    sender.handle_timeout(late);
    assert_eq!(send_timed(&mut sender, START), Some(START));
}

/// A device that is told the time gives the next segment of its log that time: it does not follow from the record before.
#[test]
fn a_time_that_does_not_go_on_from_the_last_record_is_said() {
    let mut sender = welcomed_sender(100, 1000);
    send_timed(&mut sender, START);
    assert_eq!(send_timed(&mut sender, after(60)), Some(after(60)));
}

/// Sends the next record of a log in which each takes [`ELAPSED_MS`]; the base time that was said.
fn send_timed(
    sender: &mut Sender<[SenderSlot; 1], &'static str>,
    base_time: Micros,
) -> Option<Micros> {
    let want = sender.want().expect("there is data");
    let frame = timed_frame(want.from.get());
    let run = Run {
        first: want.from,
        next: want.from + 1,
        base_time,
        next_base_time: Micros::new(base_time.get() + ELAPSED_MS * 1000),
        len: frame.len(),
    };
    let Sent::Data { head, head_len } = sender.data(NOW, &want, run) else {
        panic!("there is room");
    };
    let body = [&head[..head_len], &frame].concat();
    match Message::parse(kind::DATA, &body) {
        Ok(Message::Data(data)) => data.base_time,
        other => panic!("Data was sent, not {other:?}"),
    }
}

/// What the receiver takes of a Data: from where, to where, and from which time.
fn hears_data(
    receiver: &mut Receiver<[ReceiverSlot; 1]>,
    first: u64,
    base_time: Option<Micros>,
    frames: &[u8],
) -> Option<(u64, u64, Micros)> {
    let data = Data {
        slot: 0,
        first: Offset::new(first),
        base_time,
        frames,
    };
    let (kind, body) = body_of(&Message::Data(data));
    match receiver.handle_message(NOW, kind, &body) {
        Received::Store(store) => Some((store.first.get(), store.next.get(), store.base_time)),
        Received::Nothing => None,
        other => panic!("Data was sent, not {other:?}"),
    }
}

/// A compact frame with one record, made [`ELAPSED_MS`] after the one before it.
fn timed_frame(first: u64) -> Vec<u8> {
    framed(Form::Compact, first, Some(ELAPSED_MS), 1)
}

/// The time after so many records.
fn after(records: i64) -> Micros {
    Micros::new(START.get() + records * ELAPSED_MS * 1000)
}

const START: Micros = Micros::new(1_790_000_000_000_000);
const ELAPSED_MS: i64 = 20;

/// Only the sender knows how many of the lost were told before: it is shown where this end stands, and says again what is missing.
#[test]
fn a_gap_over_a_passed_place_is_answered_with_ack_and_rewind() {
    let mut receiver = live_receiver::<1>(50);
    let gap = Gap {
        from: Offset::new(0),
        to: Offset::new(80),
        lost: 80,
        cause: Cause::Evicted,
        when: Micros::UNKNOWN,
        when_last: Micros::UNKNOWN,
    };
    let (kind, body) = body_of(&Message::Gap(SlotGap { slot: 0, gap }));
    assert!(matches!(
        receiver.handle_message(NOW, kind, &body),
        Received::Nothing
    ));
    assert_eq!(said(&mut receiver), ["Ack 50", "Rewind 50"]);
}

/// The end of a log is acknowledged only after it was written: the answer to Close says that nothing more is owed.
#[test]
fn a_log_that_is_refused_in_mid_session_frees_the_window_for_others() {
    let mut receiver = live_receiver::<1>(0);
    receiver.refuse(0, Code::DISK_FULL, "full");
    let mut body = [0; 400];
    let sent = receiver.poll_transmit(NOW, &mut body).unwrap();
    assert_eq!(sent.kind, kind::ANSWER);
    let mut sender = welcomed_sender(100, 30);
    send_all(&mut sender);
    assert_eq!(sender.want(), None, "the window is full");
    sender.handle_message(NOW, sent.kind, &body[..sent.len]);
    let refused = std::iter::from_fn(|| sender.poll_event()).last();
    assert_eq!(
        refused,
        Some(SenderEvent::Refused {
            slot: 0,
            code: Code::DISK_FULL
        })
    );
    sender.offer(0);
    let again = sender
        .poll_transmit(NOW, |_| Some(offer(100)), &mut body)
        .unwrap();
    assert_eq!(again.kind, kind::OFFER, "it may be offered again");
}

#[test]
fn close_is_answered_when_the_end_is_durable() {
    let mut receiver = live_receiver::<1>(50);
    let end = Offset::new(50);
    let (kind, body) = body_of(&Message::Close(Close { slot: 0, end }));
    receiver.handle_message(NOW, kind, &body);
    assert_eq!(said(&mut receiver), [""; 0]);
    assert!(receiver.poll_event().is_some());
    receiver.stored(0, end);
    assert_eq!(said(&mut receiver), ["Ack 50"]);
}

fn said<const SLOTS: usize>(receiver: &mut Receiver<[ReceiverSlot; SLOTS]>) -> Vec<String> {
    let (mut body, mut all) = ([0; 1024], Vec::new());
    while let Some(said) = receiver.poll_transmit(NOW, &mut body) {
        all.push(
            match Message::parse(said.kind, &body[..said.len]).expect("well formed") {
                Message::Ack(ack) => format!("Ack {}", ack.next),
                Message::Rewind(rewind) => format!("Rewind {}", rewind.next),
                Message::Answer(Answer { .. }) => "Answer".to_owned(),
                other => format!("{other:?}"),
            },
        );
    }
    all
}

proptest! {
    /// Whatever comes over the wire, both ends go on, and neither says anything without end.
    #[test]
    fn foul_messages_are_survived(foul in prop::collection::vec((0u8..12, prop::collection::vec(any::<u8>(), 0..60)), 0..40)) {
        let mut sender = welcomed_sender(100, 1000);
        let mut receiver = live_receiver::<1>(0);
        for (kind, body) in &foul {
            sender.handle_message(NOW, *kind, body);
            let received = receiver.handle_message(NOW, *kind, body);
            prop_assert!(!matches!(received, Received::Store(_)), "no frame of this log is in there");
            receiver.welcome();
        }
        released(&mut sender);
        let mut body = [0; 1024];
        let more_than_enough = 4 * (foul.len() + 1);
        let said = std::iter::from_fn(|| sender.poll_transmit(NOW, |_| Some(offer(100)), &mut body));
        prop_assert!(said.take(more_than_enough).count() < more_than_enough);
        prop_assert!(said_count(&mut receiver, more_than_enough) < more_than_enough);
    }

    /// A line that carries anything at all: what is found in it has passed its CRC, so nothing is.
    #[test]
    fn noise_on_a_line_is_no_message(noise in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..2000)) {
        let mut decoder = link::Decoder::new([0; 64]);
        let mut bytes = &noise[..];
        prop_assert_eq!(decoder.advance(&mut bytes), None);
    }
}

fn said_count(receiver: &mut Receiver<[ReceiverSlot; 1]>, at_most: usize) -> usize {
    let mut body = [0; 1024];
    std::iter::from_fn(|| receiver.poll_transmit(NOW, &mut body))
        .take(at_most)
        .count()
}
