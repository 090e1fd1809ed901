//! The log that is waited for does what the log does that is called: the same life, told alike, leaves the same bytes.

mod fixture;

use core::task::{Context, Poll, Waker};
use std::pin::pin;

use fixture::*;
use sedge_core::custody::Want;
use sedge_core::driver::OutOfBounds;
use sedge_core::log::{AsyncLog, Log};
use sedge_core::media::{Media, Misfit, Operations};
use sedge_core::read::Read;
use sedge_core::segment::{Dimensions, Geometry};
use sedge_core::{Micros, Offset, blocking, waiting};

/// A medium that is waited for, and never makes anybody wait.
struct Prompt(Disk);

impl Operations for Prompt {
    type Error = OutOfBounds;

    async fn read(&mut self, segment: u32, at: u32, into: &mut [u8]) -> Result<(), OutOfBounds> {
        self.0.read(segment, at, into)
    }

    async fn program(&mut self, segment: u32, at: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
        self.0.program(segment, at, bytes)
    }

    async fn erase(&mut self, segment: u32) -> Result<(), OutOfBounds> {
        self.0.erase(segment)
    }

    async fn sync(&mut self) -> Result<(), OutOfBounds> {
        self.0.sync()
    }

    fn misfit(&self, geometry: &Geometry) -> Option<Misfit> {
        self.0.ram.misfit(geometry)
    }
}

fn done<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("nothing waits"),
    }
}

/// As it stands.
macro_rules! called {
    ($call:expr) => {
        $call
    };
}

macro_rules! waited {
    ($call:expr) => {
        done($call)
    };
}

fn at(second: i64) -> Micros {
    Micros::new(NOW.get() + second * 1_000_000)
}

/// A life with everything in it that a log can be asked for; what came of each request.
macro_rules! life {
    ($log:expr, $reader:expr, $done:ident) => {{
        let (log, reader) = ($log, $reader);
        let mut told = Vec::new();
        macro_rules! tell {
            ($what:expr) => {
                told.push(format!("{:?}", $what))
            };
        }
        for second in 1..=150 {
            if log.needs_maintain() {
                tell!($done!(log.maintain(at(second))));
            }
            let frame = compact_frame_later(log.next(), log.log_id(), Some(1000), &[b'.'; 100]);
            tell!($done!(log.commit(&frame, 1, b"state", at(second))));
        }
        log.set_cursor(1, Offset::new(20)).unwrap();
        tell!($done!(log.save_ledger(at(150))));
        tell!($done!(log.stretch(reader, 1, &want(0), &mut [0; 600])));
        tell!($done!(log.stretch(reader, 1, &want(130), &mut [0; 600])));
        tell!($done!(log.offset_for_time(reader, at(140))));
        reader.seek(Offset::new(147));
        while let Read::Frame { frame, .. } = $done!(log.read(reader)) {
            tell!(frame.header);
        }
        tell!($done!(log.expire(at(1), at(151))));
        tell!($done!(log.expire(at(130), at(151))));
        tell!($done!(log.checkpoint()));
        let mut replayed = 0;
        $done!(log.replay(|_| replayed += 1));
        tell!(replayed);
        told
    }};
}

fn want(from: u64) -> Want {
    Want {
        slot: 0,
        from: Offset::new(from),
        bytes_max: 600,
    }
}

/// The bytes of a log on flash, what it told, and how often it was made durable: `waits` says which of the twins it is.
fn lived(waits: bool, ends: bool) -> (Vec<u8>, Vec<String>, u64) {
    let dimensions = Dimensions {
        write_unit: 8,
        ..FLASH
    };
    let options = options(dimensions);
    let (disk, from) = (Disk::blank(&dimensions), Offset::ZERO);
    if waits {
        let mut medium = Prompt(disk);
        let scratch = vec![0; options.geometry.scratch_bytes()];
        let (mut log, _) = done(AsyncLog::open(&mut medium, options, FRESH, scratch)).unwrap();
        let mut reader = waiting::Reader::new(LOG, options.geometry, from);
        let mut told = life!(&mut log, &mut reader, waited);
        told.push(match ends {
            true => format!("{:?}", done(log.end(b"over", at(152)))),
            false => format!("{:?}", done(log.close(at(152)))),
        });
        drop(log);
        let syncs = medium.0.syncs;
        return (medium.0.ram.into_inner(), told, syncs);
    }
    let scratch = vec![0; options.geometry.scratch_bytes()];
    let (mut log, _) = Log::open(disk, options, FRESH, scratch).unwrap();
    let mut reader = blocking::Reader::new(LOG, options.geometry, from);
    let mut told = life!(&mut log, &mut reader, called);
    told.push(match ends {
        true => format!("{:?}", log.end(b"over", at(152))),
        false => format!("{:?}", log.close(at(152))),
    });
    let disk = log.into_media();
    (disk.ram.into_inner(), told, disk.syncs)
}

#[test]
fn a_log_that_is_waited_for_lives_as_one_that_is_called() {
    for ends in [false, true] {
        let (called, waited) = (lived(false, ends), lived(true, ends));
        assert_eq!(called.1, waited.1);
        for fact in FACTS {
            let is_told = called.1.iter().any(|line| line.starts_with(fact));
            assert!(is_told, "{fact}: {:#?}", called.1);
        }
        assert!(called.0 == waited.0, "other bytes");
        assert_eq!(called.2, waited.2, "made durable as often");
    }
}

/// What came of it whichever of the two it was.
const FACTS: [&str; 6] = [
    "Some(Gap(Gap { from: Offset(0), to: Offset(62), lost: 62, cause: Evicted",
    "Some(Frames(Run { first: Offset(130), next: Offset(135)",
    "Offset(139)",
    "Ok(false)",
    "Ok(true)",
    "[115, 116, 97, 116, 101]",
];
