//! What the functions of the header promise, called as C calls them.

mod rig;

use std::ffi::c_int;
use std::ptr;

use rig::{BATCH, Device, FRAME, GATEWAY, OK, Seen, Trouble, bytes};
use sedge_core::Offset;
use sedge_core::custody::message::Verdict;
use sedge_core::custody::{Framing, Now, Received, Receiver, ReceiverSettings, ReceiverSlot};
use sedge_core::framing::link::{self, Decoder};
use sedge_core_c::sedge_error::*;
use sedge_core_c::*;

#[test]
fn state_that_was_never_opened_is_an_error_everywhere() {
    let mut device = Device::new();
    let not_open = SEDGE_ERR_NOT_OPEN as c_int;
    assert_eq!(device.append(b"1"), not_open);
    assert_eq!(device.flush(), not_open);
    assert_eq!(device.maintain(), not_open);
    let (log, link, nothing) = (
        &raw mut *device.log,
        &raw mut *device.link,
        ptr::null_mut::<u8>(),
    );
    // SAFETY: memory of the rig, or null.
    unsafe {
        assert_eq!(sedge_log_needs_maintain(log), not_open);
        assert_eq!(sedge_log_range(log, nothing.cast()), not_open);
        assert_eq!(sedge_log_erase(log), not_open);
        assert_eq!(sedge_link_state(link, nothing.cast()), not_open);
        assert_eq!(
            sedge_log_flush(nothing.cast(), 0, nothing.cast()),
            SEDGE_ERR_NULL as c_int
        );
        let odd = log.cast::<u8>().wrapping_add(1).cast();
        assert_eq!(sedge_log_maintain(odd, 0), SEDGE_ERR_ARGUMENT as c_int);
    }
}

/// Each of these is one mistake in a configuration that is otherwise good.
#[test]
fn mistaken_configuration_is_refused_and_the_log_stays_closed() {
    let refused = |mistake: fn(&mut sedge_config), error: sedge_error| {
        let mut device = Device::started();
        mistake(&mut device.config);
        assert_eq!(device.open(), error as c_int);
        assert_eq!(device.append(b"1"), SEDGE_ERR_NOT_OPEN as c_int);
    };
    refused(|config| config.program = None, SEDGE_ERR_NULL);
    refused(|config| config.scratch = ptr::null_mut(), SEDGE_ERR_NULL);
    refused(|config| config.scratch_len -= 1, SEDGE_ERR_BUFFER);
    refused(|config| config.batch_len -= 1, SEDGE_ERR_BUFFER);
    refused(|config| config.write_unit = 3, SEDGE_ERR_GEOMETRY);
    refused(|config| config.segment_count = 1 << 20, SEDGE_ERR_GEOMETRY);
    refused(|config| config.batch_records_max = 256, SEDGE_ERR_ARGUMENT);
    refused(|config| config.when_full = 7, SEDGE_ERR_ARGUMENT);
    refused(|config| config.tail = 7, SEDGE_ERR_ARGUMENT);
    refused(|config| config.log_id = [0; 16], SEDGE_ERR_ARGUMENT);
    refused(|config| config.write_unit = 8, SEDGE_ERR_FOREIGN);
}

#[test]
fn batch_is_one_program_and_is_durable_when_flush_returns() {
    let mut device = Device::started();
    let programs = device.flash.programs;
    for value in [b"1", b"2", b"3"] {
        assert_eq!(device.append(value), OK);
    }
    let range = device.range();
    assert_eq!((range.durable, range.next, range.waiting), (0, 3, 3));
    assert_eq!(device.flush(), OK);
    assert_eq!(device.flash.programs, programs + 1);
    assert_eq!(device.append(b"4"), OK);
    device.power_cut();
    assert_eq!(device.values(), ["1", "2", "3"]);
}

#[test]
fn record_that_the_batch_has_no_room_for_goes_into_the_next() {
    let mut device = Device::started();
    for _ in 0..BATCH {
        assert_eq!(device.append(b"small"), OK);
    }
    assert_eq!(device.append(b"small"), SEDGE_ERR_BATCH_FULL as c_int);
    assert_eq!(device.flush(), OK);
    assert_eq!(device.append(&[b'a'; 150]), OK);
    assert_eq!(device.append(&[b'b'; 150]), SEDGE_ERR_BATCH_FULL as c_int);
    assert_eq!(device.append(&[b'c'; FRAME]), SEDGE_ERR_TOO_LARGE as c_int);
    assert_eq!(device.flush(), OK);
    assert_eq!(device.append(&[b'b'; 150]), OK);
    assert_eq!(device.range().next, u64::from(BATCH) + 2);
}

/// A program that fails may have left nothing, a part or the whole frame. Whichever it is, the batch is written once.
#[test]
fn batch_whose_write_failed_is_there_once_after_the_next_flush() {
    for trouble in [Trouble::Untouched, Trouble::Half, Trouble::Whole] {
        let mut device = Device::started();
        device.keep(b"before");
        device.flash.next_program = trouble;
        assert_eq!(device.append(b"1"), OK);
        assert_eq!(device.append(b"2"), OK);
        let first = device.flush();
        let is_there = trouble == Trouble::Whole;
        assert_eq!(first == OK, is_there, "{trouble:?}: {first}");
        assert_eq!(device.flush(), OK, "{trouble:?}");
        device.keep(b"behind");
        let expected = ["before", "1", "2", "behind"];
        assert_eq!(device.values(), expected, "{trouble:?}");
        device.power_cut();
        assert_eq!(device.values(), expected, "{trouble:?} and a power cut");
        let lost: u64 = device.read(0).iter().map(lost).sum();
        assert_eq!(lost, 0, "{trouble:?}");
    }
}

#[test]
fn reader_meets_a_gap_where_the_oldest_made_room() {
    let mut device = Device::started();
    let mut kept = 0;
    while device.range().oldest == 0 {
        device.keep(format!("{kept:0>100}").as_bytes());
        kept += 1;
    }
    let oldest = device.range().oldest;
    let seen = device.read(3);
    let gap = Seen::Gap {
        from: 3,
        to: oldest,
        lost: oldest - 3,
    };
    assert_eq!(seen[0], gap);
    let records: Vec<u64> = seen[1..].iter().filter_map(offset).collect();
    assert!(records.iter().copied().eq(oldest..kept), "{records:?}");
    let mut ledger = sedge_ledger::default();
    // SAFETY: memory of the rig.
    let outcome = unsafe { sedge_log_ledger(&mut *device.log, &mut ledger) };
    assert_eq!(outcome, OK);
    assert_eq!(ledger.evicted, oldest);
}

#[test]
fn full_log_that_refuses_goes_on_when_its_consumer_has_released() {
    let mut device = Device::new();
    device.config.when_full = sedge_when_full::SEDGE_REFUSE as u32;
    assert_eq!(device.open(), OK);
    let log = &raw mut *device.log;
    // SAFETY: memory of the rig.
    let outcome = unsafe { sedge_log_release(log, GATEWAY, 0) };
    assert_eq!(outcome, OK);
    let full = loop {
        assert_eq!(device.append(&[b'x'; 100]), OK);
        if device.flush() != OK {
            match device.maintain() {
                OK => assert_eq!(device.flush(), OK),
                error => break error,
            }
        }
    };
    assert_eq!(full, SEDGE_ERR_FULL as c_int);
    let waiting = device.range();
    // SAFETY: memory of the rig.
    unsafe {
        assert_eq!(sedge_log_refused(log, 5), OK);
        assert_eq!(sedge_log_release(log, GATEWAY, waiting.durable), OK);
    }
    assert_eq!(device.maintain(), OK);
    assert_eq!(device.flush(), OK, "the batch had waited");
    assert_eq!(device.range().durable, waiting.durable + 1);
    let (mut ledger, mut next) = (sedge_ledger::default(), 0);
    // SAFETY: memory of the rig.
    unsafe {
        assert_eq!(sedge_log_ledger(log, &mut ledger), OK);
        assert_eq!(sedge_log_released(log, GATEWAY, &mut next), OK);
        assert_eq!(
            sedge_log_released(log, 9, &mut next),
            SEDGE_ERR_NONE as c_int
        );
    }
    assert_eq!((ledger.evicted, ledger.refused), (0, 5));
    assert_eq!(next, waiting.durable);
}

#[test]
fn header_with_a_name_that_is_no_text_is_refused() {
    let mut device = Device::started();
    let headers = [sedge_header {
        name: bytes(&[0xFF]),
        value: bytes(b"celsius"),
    }];
    let record = sedge_record {
        time_us: SEDGE_TIME_UNKNOWN,
        key: bytes(b""),
        value: bytes(b"1"),
        headers: headers.as_ptr(),
        header_count: 1,
    };
    let many = sedge_record {
        header_count: SEDGE_HEADERS_MAX + 1,
        ..record
    };
    for record in [record, many] {
        // SAFETY: memory of the rig; as many headers as can be looked at are there.
        let appended = unsafe { sedge_log_append(&mut *device.log, &record, ptr::null_mut()) };
        assert_eq!(appended, SEDGE_ERR_ARGUMENT as c_int);
    }
}

/// The gateway takes what it hears. Three messages in a row are lost on the way, and the device sends them again when its deadline has come.
#[test]
fn link_hands_over_what_is_durable_and_releases_it() {
    let mut device = Device::started();
    for value in 0..10 {
        device.keep(format!("{value}").as_bytes());
    }
    device.open_link();
    let mut gateway = Gateway::new();
    let mut uptime_us = 0;
    for turn in 0..200 {
        let said = device.say(uptime_us);
        if !(3..6).contains(&turn) {
            gateway.hear(uptime_us, &said);
        }
        let answer = gateway.say(uptime_us);
        device.hear(uptime_us, &answer);
        if device.link().released == 10 {
            break;
        }
        uptime_us = device_deadline(&mut device).min(uptime_us + 10_000);
    }
    let report = device.link();
    assert_eq!(report.standing, sedge_link_standing::SEDGE_LINK_LIVE as u32);
    assert_eq!((report.released, report.damaged), (10, 0));
    let mut released = 0;
    // SAFETY: memory of the rig.
    unsafe {
        assert_eq!(
            sedge_log_released(&mut *device.log, GATEWAY, &mut released),
            OK
        );
        let mut unix_us = 0;
        assert_eq!(
            sedge_link_time(&mut *device.link, uptime_us, &mut unix_us),
            OK
        );
        assert!((GATEWAY_BOOTED..GATEWAY_BOOTED + 60_000_000).contains(&unix_us));
    }
    assert_eq!(released, 10);
}

/// A gateway whose own clock was never set says what it shows, and that it does not believe it.
#[test]
fn a_time_that_the_gateway_does_not_trust_is_not_taken() {
    let mut device = Device::started();
    device.open_link();
    let mut gateway = Gateway::new();
    for (knows_time, outcome) in [(false, SEDGE_ERR_NONE as c_int), (true, OK)] {
        gateway.knows_time = knows_time;
        let mut uptime_us = 0;
        // A session of its own, in which Welcome tells the time.
        device.open_link();
        for _ in 0..200 {
            let said = device.say(uptime_us);
            gateway.hear(uptime_us, &said);
            let answer = gateway.say(uptime_us);
            device.hear(uptime_us, &answer);
            uptime_us = device_deadline(&mut device).min(uptime_us + 10_000);
        }
        let live = sedge_link_standing::SEDGE_LINK_LIVE as u32;
        assert_eq!(device.link().standing, live);
        let mut unix_us = 0;
        // SAFETY: memory of the rig.
        let told = unsafe { sedge_link_time(&mut *device.link, uptime_us, &mut unix_us) };
        assert_eq!(told, outcome);
    }
}

/// The gateway has more of this log than the device: an old copy of the flash.
#[test]
fn link_to_a_gateway_that_has_more_of_the_log_says_so() {
    let mut device = Device::started();
    device.keep(b"1");
    device.open_link();
    let mut gateway = Gateway::new();
    gateway.stored = Offset::new(7);
    let said = device.say(0);
    gateway.hear(0, &said);
    let answer = gateway.say(0);
    device.hear(0, &answer);
    let standing = device.link().standing;
    assert_eq!(standing, sedge_link_standing::SEDGE_LINK_DIVERGED as u32);
    // SAFETY: memory of the rig.
    let outcome = unsafe { sedge_log_erase(&mut *device.log) };
    assert_eq!(outcome, OK);
    device.config.log_id = *b"another 16 bytes";
    assert_eq!(device.open(), OK);
    let mut line = [0; FRAME + 40];
    let now = sedge_now {
        uptime_us: 1,
        unix_us: SEDGE_TIME_UNKNOWN,
    };
    let (to, len) = (line.as_mut_ptr(), line.len());
    // SAFETY: memory of the rig.
    let other = unsafe { sedge_link_tx(&mut *device.link, &mut *device.log, &now, to, len) };
    assert_eq!(
        other, SEDGE_ERR_OTHER_LOG as c_int,
        "the link is of the old one"
    );
}

fn device_deadline(device: &mut Device) -> u64 {
    let mut uptime_us = 0;
    // SAFETY: memory of the rig.
    let outcome = unsafe { sedge_link_deadline(&mut *device.link, &mut uptime_us) };
    assert_eq!(outcome, OK);
    uptime_us
}

/// The other end of the link, whose disk is never slow.
struct Gateway {
    receiver: Receiver<[ReceiverSlot; 1]>,
    decoder: Decoder<Vec<u8>>,
    stored: Offset,
    /// It knows what time it is.
    knows_time: bool,
}

impl Gateway {
    fn new() -> Self {
        let settings = ReceiverSettings {
            boot: 1,
            framing: Framing::Link,
            body_bytes_max: 300,
            credit: 4096,
            idle_timeout_us: 30_000_000,
            features: 0,
        };
        Self {
            receiver: Receiver::new(settings, Default::default(), gateway_now(0)),
            decoder: Decoder::new(vec![0; 1024]),
            stored: Offset::ZERO,
            knows_time: true,
        }
    }

    fn hear(&mut self, uptime_us: u64, mut line: &[u8]) {
        while let Some(packet) = self.decoder.advance(&mut line) {
            let now = gateway_now(uptime_us);
            match self.receiver.handle_message(now, packet.kind, packet.body) {
                Received::Hello(hello) => {
                    for offer in &hello.logs {
                        let verdict = Verdict::Resume {
                            next: self.stored,
                            crc_below: None,
                        };
                        self.receiver.answer(&offer, verdict);
                    }
                    self.receiver.welcome();
                }
                Received::Store(store) => {
                    self.stored = store.next;
                    self.receiver.stored(store.slot, store.next);
                }
                Received::Gap(gap) => {
                    self.stored = gap.gap.to;
                    self.receiver.stored(gap.slot, gap.gap.to);
                }
                Received::Offer(_) | Received::Nothing => {}
            }
        }
    }

    fn say(&mut self, uptime_us: u64) -> Vec<u8> {
        let mut said = Vec::new();
        let mut body = [0; 300];
        let now = Now {
            trusted: self.knows_time,
            ..gateway_now(uptime_us)
        };
        while let Some(message) = self.receiver.poll_transmit(now, &mut body) {
            let mut line = [0; 340];
            let parts = [&body[..message.len]];
            let len = link::encode(message.kind, &parts, &mut line).expect("it fits");
            said.extend_from_slice(&line[..len]);
        }
        said
    }
}

fn gateway_now(uptime_us: u64) -> Now {
    Now {
        uptime_us,
        unix_us: Some(GATEWAY_BOOTED + uptime_us as i64),
        trusted: true,
    }
}

fn lost(seen: &Seen) -> u64 {
    match seen {
        Seen::Gap { lost, .. } => *lost,
        Seen::Record(..) => 0,
    }
}

fn offset(seen: &Seen) -> Option<u64> {
    match seen {
        Seen::Record(offset, _) => Some(*offset),
        Seen::Gap { .. } => None,
    }
}

const GATEWAY_BOOTED: i64 = 1_763_633_000_000_000;
