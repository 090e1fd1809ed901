//! The inputs that fuzzing begins with: logs in every state that an open tells apart, and conversations. Made by code, so that a change of format changes them too.
//!
//! `cargo run -p sedge-tests --bin fuzz-corpus` writes them to `fuzz/corpus`. What a fuzzer finds beside them is kept there under a name that tells what it is.

use sedge_core::custody::message::{
    Ack, Bye, Clock, Close, Code, Intro, Message, Offer, Ping, Rewind, SlotGap, VERSION,
    emit_hello, emit_welcome, kind,
};
use sedge_core::custody::message::{Answer, Data, Terms, Verdict};
use sedge_core::driver::Ram;
use sedge_core::frame::Form;
use sedge_core::framing::link;
use sedge_core::log::{CommitError, Fresh, Log, Options, WhenFull};
use sedge_core::segment::{Geometry, Medium, STAMP_LEN};
use sedge_core::{Cause, Gap, LogId, Micros, Offset};

use super::{image, inspect, seeds};
use crate::commit;
use crate::oracle::Planned;

/// An input that is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Of which target.
    pub target: &'static str,
    /// Its file's name.
    pub name: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// All inputs that are made.
#[must_use]
pub fn made() -> Vec<Input> {
    let mut inputs = Vec::new();
    let mut put = |target, name, bytes| {
        inputs.push(Input {
            target,
            name,
            bytes,
        });
    };
    for (target, medium) in [
        ("open_flash_image", Medium::Nor),
        ("open_file_image", Medium::File),
    ] {
        for (name, bytes) in images(medium) {
            put(target, name, bytes);
        }
    }
    put(
        "custody_message",
        "a-session-of-a-sender",
        said(&of_sender()),
    );
    put(
        "custody_message",
        "a-session-of-a-receiver",
        said(&of_receiver()),
    );
    put(
        "link_decoder",
        "a-session-of-a-sender",
        on_a_line(&of_sender()),
    );
    put(
        "link_decoder",
        "a-session-of-a-receiver",
        on_a_line(&of_receiver()),
    );
    put("link_decoder", "noise-between-messages", noisy());
    for (name, bytes) in chips() {
        put("inspect_flash", name, bytes);
    }
    for (name, bytes) in directories() {
        put("inspect_directory", name, bytes);
    }
    inputs.extend(seeds::made());
    inputs
}

/// A flash as a probe reads it: nothing is left out, and other things may stand before the log.
fn chips() -> Vec<(&'static str, Vec<u8>)> {
    let log = |shape| Writer::new(Medium::Nor, shape);
    let chip = |before: usize, hints: [u8; 2], log: Writer| {
        [&hints[..], &vec![0x5A; before], &log.bytes].concat()
    };
    vec![
        ("a-few-records", chip(0, [0, 4], log(1).write(6))),
        ("behind-a-program", chip(6144, [0, 4], log(0).write(300))),
        ("torn-tail", chip(0, [0, 4], log(0).write(9).torn())),
        (
            "rotten-record",
            chip(0, [0, 4], log(0).write(300).rotten_record()),
        ),
        (
            "dimensions-given",
            chip(0, [3, 4], log(0).write(9).rotten(0)),
        ),
    ]
}

/// The segments of a log as files, and what may stand beside them.
fn directories() -> Vec<(&'static str, Vec<u8>)> {
    let log = |shape| Writer::new(Medium::File, shape);
    let beside: [(&str, &[u8]); 5] = [
        ("identity.toml", b"stream = \"telemetry\"\npartition = 0\n"),
        ("sync-failed", b"seg-00001.log\n"),
        ("set-aside/seg-00000.log", b"sdg1"),
        ("notes.txt", b"do not delete"),
        ("streams/0/seg-00000.log", &[0; 64]),
    ];
    vec![
        ("a-few-records", log(1).write(6).files(&[])),
        ("went-around", log(0).write(600).files(&beside[..1])),
        ("torn-tail", log(0).write(9).torn().files(&[])),
        (
            "rotten-record",
            log(0).write(300).rotten_record().files(&[]),
        ),
        ("mirror", log(0x81).write(9).files(&beside[..1])),
        ("many-things", log(2).write(9).close().files(&beside)),
        ("newer-version", log(0).write(9).newer().files(&[])),
        (
            "rotten-stamp-of-the-head",
            log(1).write(6).rotten(8).files(&[]),
        ),
        (
            "rotten-mark",
            log(0)
                .write(9)
                .files(&[("sync-failed", b"seg-\xFF0001.log\nseg-00001.log\n")]),
        ),
    ]
}

fn images(medium: Medium) -> Vec<(&'static str, Vec<u8>)> {
    let log = |shape| Writer::new(medium, shape);
    let mut images = vec![
        ("blank", vec![0, 0]),
        ("a-few-records", log(1).write(6).input(1, 0)),
        ("went-around", log(0).write(600).input(0, 0)),
        ("full-and-refusing", log(3).write(120).input(3, 1)),
        ("nine-segments", log(4).write(700).input(4, 0)),
        ("large-frames", log(5).write(20).input(5, 2)),
        ("clean-stop", log(2).write(9).close().input(2, 0)),
        ("ended", log(0).write(9).end().input(0, 0)),
        ("torn-tail", log(0).write(9).torn().input(0, 0)),
        ("torn-tail-not-trusted", log(2).write(9).torn().input(2, 2)),
        (
            "torn-twice",
            log(0)
                .write(9)
                .torn()
                .reopened()
                .write(1)
                .torn()
                .input(0, 0),
        ),
        (
            "burned",
            log(1).write(9).torn().reopened().write(3).input(1, 0),
        ),
        (
            "rotten-record",
            log(0).write(300).rotten_record().input(0, 0),
        ),
        (
            "rotten-stamp-of-the-head",
            log(0).write(300).rotten(0).input(0, 0),
        ),
        (
            "rotten-header-of-the-head",
            log(0).write(300).rotten(STAMP_LEN + 8).input(0, 0),
        ),
        ("newer-version", log(0).write(9).newer().input(0, 0)),
    ];
    if medium == Medium::File {
        images.push(("in-doubt", log(0).write(300).input(0, 4 | 1 << 4)));
        images.push(("mirror", log(0x81).write(9).torn().input(0x81, 0)));
    }
    images
}

/// Writes a log and breaks it.
struct Writer {
    geometry: Geometry,
    bytes: Vec<u8>,
    head: (u32, u32),
    next: u64,
}

type RamLog = Log<Ram<Vec<u8>>, Vec<u8>>;

impl Writer {
    fn new(medium: Medium, shape: u8) -> Self {
        let geometry = image::geometry(medium, shape);
        let len = geometry.segment_bytes() as usize * geometry.segment_count() as usize;
        Self {
            geometry,
            bytes: vec![0xFF; len],
            head: (0, 0),
            next: 0,
        }
    }

    /// Lets a log live for a while on the bytes.
    fn live(mut self, work: impl FnOnce(&mut RamLog)) -> Self {
        let fresh = Fresh {
            log_id: LogId::new(*b"a log to be torn"),
            now: NOW,
            boot: 1,
        };
        let ram = Ram::new(self.bytes, self.geometry.segment_bytes());
        let options = Options::new(self.geometry, WhenFull::EvictOldest);
        let scratch = vec![0; self.geometry.scratch_bytes()];
        let (mut log, _) = Log::open(ram, options, fresh, scratch).expect("it opens");
        work(&mut log);
        (self.head, self.next) = (log.head(), log.next().get());
        self.bytes = log.into_media().into_inner();
        self
    }

    /// Commits so many records, the uplink three behind.
    fn write(self, records: u64) -> Self {
        self.live(|log| {
            for _ in 0..records {
                let next = log.next();
                let place = log.set_cursor(1, Offset::new(next.get().saturating_sub(3)));
                place.expect("there is one uplink");
                while let Err(error) = commit_one(log) {
                    assert_eq!(error, CommitError::NeedsMaintain);
                    log.maintain(NOW).expect("room is made");
                }
            }
        })
    }

    fn close(self) -> Self {
        self.live(|log| log.close(NOW).expect("it is closed"))
    }

    fn end(self) -> Self {
        self.live(|log| log.end(&[], NOW).expect("it ends"))
    }

    /// The next life begins, and writes.
    fn reopened(self) -> Self {
        self.live(|log| commit_one(log).expect("there is room"))
    }

    /// The last bytes are not what was written.
    fn torn(mut self) -> Self {
        let end = self.at_head(self.head.1 as usize);
        self.bytes[end - 5..end].fill(0x13);
        self
    }

    fn rotten_record(self) -> Self {
        let middle = self.head.1 as usize / 2 + 64;
        self.rotten(middle)
    }

    /// One bit of the head has flipped.
    fn rotten(mut self, position: usize) -> Self {
        let at = self.at_head(position);
        self.bytes[at] ^= 4;
        self
    }

    /// A later version has stamped the segment behind the head.
    fn newer(mut self) -> Self {
        let segment_bytes = self.geometry.segment_bytes() as usize;
        let mut stamp = self.bytes[..STAMP_LEN].to_vec();
        stamp[4] += 1;
        let crc = sedge_core::crc::crc32c(&stamp[..28]);
        stamp[28..].copy_from_slice(&crc.to_le_bytes());
        self.bytes[segment_bytes..][..STAMP_LEN].copy_from_slice(&stamp);
        self
    }

    fn at_head(&self, position: usize) -> usize {
        self.head.0 as usize * self.geometry.segment_bytes() as usize + position
    }

    /// The input that holds it as files, and others beside it. What is erased at the end of a file is left out.
    fn files(self, beside: &[(&str, &[u8])]) -> Vec<u8> {
        let mut input = Vec::new();
        let mut put = |name: usize, bytes: &[u8]| {
            input.push(u8::try_from(name).expect("a few names"));
            let len = u16::try_from(bytes.len()).expect("segments are short");
            input.extend_from_slice(&len.to_le_bytes());
            input.extend_from_slice(bytes);
        };
        let segments = self.bytes.chunks(self.geometry.segment_bytes() as usize);
        for (number, segment) in segments.enumerate().take(4) {
            let used = segment.iter().rposition(|&byte| byte != 0xFF);
            put(number, &segment[..used.map_or(0, |last| last + 1)]);
        }
        for (file, bytes) in beside {
            let name = inspect::NAMES.iter().position(|name| name == file);
            put(name.expect("one of the names"), bytes);
        }
        input
    }

    /// The input that holds it: what is erased at the end is left out.
    fn input(self, shape: u8, options: u8) -> Vec<u8> {
        let used = self.bytes.iter().rposition(|&byte| byte != 0xFF);
        let image = &self.bytes[..used.map_or(0, |last| last + 1)];
        [&[shape, options], image].concat()
    }
}

fn commit_one(log: &mut RamLog) -> Result<(), CommitError<sedge_core::driver::OutOfBounds>> {
    let form = match log.geometry().medium() {
        Medium::Nor => Form::Compact,
        Medium::File => Form::Explicit,
    };
    let (first, id) = (log.next().get(), log.log_id());
    let value = format!("{first}").into_bytes();
    let (frame, span) = commit::encode(form, &id, first, NOW, &[Planned::Records(vec![value])]);
    log.commit(&frame, span, &[], NOW)?;
    Ok(())
}

/// What a sender says in a session.
fn of_sender() -> Vec<(u8, Vec<u8>)> {
    let id = LogId::new([7; 16]);
    let offer = Offer {
        slot: 0,
        log: id,
        stream: "telemetry",
        partition: 0,
        oldest: Offset::ZERO,
        next: Offset::new(15),
        tail_crc: Some(7),
        closed: false,
        chain: 0,
    };
    let intro = Intro {
        protocol_min: VERSION,
        protocol_max: VERSION,
        features: 0,
        identity: "device",
        generation: 3,
        clock: CLOCK,
        credential: b"",
    };
    let mut hello = vec![0; 256];
    let (len, _) = emit_hello(&intro, [offer].into_iter(), &mut hello).expect("it fits");
    hello.truncate(len);
    let frame = |first, value: &[u8]| {
        let records = Planned::Records(vec![value.to_vec()]);
        commit::encode(Form::Compact, &id, first, NOW, &[records]).0
    };
    let (first, second) = (frame(5, b"20.5"), frame(6, b"21"));
    let data = Data {
        slot: 0,
        first: Offset::new(5),
        base_time: Some(NOW),
        frames: &first,
    };
    let goes_on = Data {
        first: Offset::new(6),
        base_time: None,
        frames: &second,
        ..data
    };
    let gap = Gap {
        from: Offset::new(7),
        to: Offset::new(9),
        lost: 1,
        cause: Cause::Evicted,
        when: NOW,
        when_last: NOW,
    };
    let end = Offset::new(9);
    let mut messages = vec![(kind::HELLO, hello)];
    messages.extend(
        [
            Message::Data(data),
            Message::Data(goes_on),
            Message::Gap(SlotGap { slot: 0, gap }),
            Message::Offer(Offer { slot: 1, ..offer }),
            PING,
            Message::Close(Close { slot: 0, end }),
            BYE,
        ]
        .map(written),
    );
    messages
}

/// What a receiver says in a session.
fn of_receiver() -> Vec<(u8, Vec<u8>)> {
    let answer = |slot, verdict| Answer { slot, verdict };
    let resume = Verdict::Resume {
        next: Offset::new(5),
        crc_below: Some(7),
    };
    let refused = Verdict::Refused {
        code: Code::BUSY,
        reason: "busy",
    };
    let terms = Terms {
        chosen: VERSION,
        features: 0,
        generation: 1,
        clock: CLOCK,
        credit: 4096,
    };
    let mut welcome = vec![0; 256];
    let (len, _) =
        emit_welcome(&terms, [answer(0, resume)].into_iter(), &mut welcome).expect("it fits");
    welcome.truncate(len);
    let ack = |next, ended| {
        Message::Ack(Ack {
            slot: 0,
            next: Offset::new(next),
            credit: 4096,
            ended,
        })
    };
    let next = Offset::new(8);
    let mut messages = vec![(kind::WELCOME, welcome)];
    messages.extend(
        [
            ack(9, false),
            Message::Rewind(Rewind { slot: 0, next }),
            Message::Answer(answer(1, refused)),
            PING,
            ack(15, true),
            BYE,
        ]
        .map(written),
    );
    messages
}

fn written(message: Message<'_>) -> (u8, Vec<u8>) {
    let mut bytes = vec![0; 256];
    let len = message.emit(&mut bytes).expect("it is short");
    bytes.truncate(len);
    (message.kind(), bytes)
}

fn said(messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let one = |(kind, body): &(u8, Vec<u8>)| {
        let len = u8::try_from(body.len()).expect("it is short");
        [&[*kind, len], body.as_slice()].concat()
    };
    messages.iter().flat_map(one).collect()
}

fn on_a_line(messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let one = |(kind, body): &(u8, Vec<u8>)| {
        let mut line = vec![0; link::encoded_len_max(body.len())];
        let len = link::encode(*kind, &[body], &mut line).expect("it fits");
        line.truncate(len);
        line
    };
    messages.iter().flat_map(one).collect()
}

/// Text on the same wire, a delimiter that was lost, and a message longer than the decoder holds.
fn noisy() -> Vec<u8> {
    let messages = on_a_line(&of_sender());
    let long = on_a_line(&[(kind::DATA, vec![7; 700])]);
    [
        b"boot ok\r\n",
        messages.as_slice(),
        b"panicked",
        &long[1..],
        &messages,
    ]
    .concat()
}

pub(super) const NOW: Micros = Micros::new(1_700_000_000_000_000);
const CLOCK: Clock = Clock {
    unix_us: Some(1_700_000_000_000_000),
    uptime_us: 5,
    boot: 1,
    trusted: true,
};
const PING: Message<'static> = Message::Ping(Ping {
    token: 9,
    reply: false,
});
const BYE: Message<'static> = Message::Bye(Bye {
    code: Code::SHUTTING_DOWN,
    reason: "stopping",
});
