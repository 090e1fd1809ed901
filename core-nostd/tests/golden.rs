//! Golden images: bytes that every later version must read, and that this one still writes. docs/spec/log.md shows them.

mod fixture;

use std::fmt::Write as _;

use fixture::*;
use sedge_core::frame::Control;
use sedge_core::segment::Dimensions;
use sedge_core::{LogId, Offset};

const FLASH_ORIGIN: &str = include_str!("golden/flash-origin.hex");
const FILE_ORIGIN: &str = include_str!("golden/file-origin.hex");
const FILE_MIRROR: &str = include_str!("golden/file-mirror.hex");
const SPEC: &str = include_str!("../../docs/spec/log.md");

/// A commit of two records, one of another, and a cursor.
fn write_flash_origin() -> TestLog {
    let mut log = new_log(FLASH);
    try_commit(&mut log, &[b"20.5", b"21"]).unwrap();
    try_commit(&mut log, &[b"21.5"]).unwrap();
    log.set_cursor(7, Offset::new(2)).unwrap();
    log.close(NOW).unwrap();
    log
}

/// A life that ends without a word, and one that burns what that one may have used.
fn write_file_origin() -> TestLog {
    let mut log = new_log(FILE);
    commit(&mut log, b"before");
    let (mut log, _) = open(FILE, log.into_media());
    commit(&mut log, b"behind");
    log.close(NOW).unwrap();
    log
}

/// Two commits and the end.
fn write_file_mirror() -> TestLog {
    let mut log = new_log(MIRROR);
    commit(&mut log, b"one");
    commit(&mut log, b"two");
    log.end(b"", NOW).unwrap();
    log
}

#[test]
fn log_is_written_as_the_images_show() {
    for (name, image, log) in [
        ("flash-origin", FLASH_ORIGIN, write_flash_origin()),
        ("file-origin", FILE_ORIGIN, write_file_origin()),
        ("file-mirror", FILE_MIRROR, write_file_mirror()),
    ] {
        let written = dump(&log.into_media().ram.into_inner());
        assert!(written == image, "{name}.hex should be\n{written}");
    }
}

#[test]
fn images_are_read() {
    let mut log = read(FLASH, FLASH_ORIGIN);
    assert_eq!(
        held(&mut log),
        [
            (0, b"20.5".to_vec()),
            (1, b"21".to_vec()),
            (2, b"21.5".to_vec())
        ]
    );
    assert_eq!(log.ledger().cursor(7).unwrap().next, Offset::new(2));

    let mut log = read(FILE, FILE_ORIGIN);
    assert_eq!(
        held(&mut log),
        [(0, b"before".to_vec()), (17, b"behind".to_vec())]
    );
    assert_eq!((log.next(), log.ledger().skipped), (Offset::new(18), 16));

    let mut log = read(MIRROR, FILE_MIRROR);
    assert_eq!(values(&mut log), ["one", "two"]);
    assert!(log.is_ended());
    let mut marks = 0;
    log.replay(|found| marks += u32::from(found.frame.control() == Some(Control::Mark)));
    assert_eq!((log.log_id(), marks), (LogId::new(*b"a log in memory!"), 3));
}

#[test]
fn spec_shows_the_images() {
    for image in [FLASH_ORIGIN, FILE_ORIGIN, FILE_MIRROR] {
        let missing: Vec<_> = image.lines().filter(|line| !SPEC.contains(line)).collect();
        assert!(
            missing.is_empty(),
            "docs/spec/log.md does not show\n{}",
            missing.join("\n")
        );
    }
}

fn read(dimensions: Dimensions, image: &str) -> TestLog {
    let (log, recovered) = open(
        dimensions,
        Disk::holding(&dimensions, undump(&dimensions, image)),
    );
    assert!(!recovered.formatted && recovered.clean);
    log
}

/// Sixteen bytes a line, behind their segment and position; lines of erased bytes are left out.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (at, line) in bytes
        .chunks(16)
        .enumerate()
        .filter(|(_, line)| line.iter().any(|&byte| byte != 0xFF))
    {
        write!(text, "{}:{:04x} ", at * 16 / 4096, at * 16 % 4096).unwrap();
        line.iter()
            .for_each(|byte| write!(text, " {byte:02x}").unwrap());
        let printable = |&byte: &u8| {
            if (b' '..=b'~').contains(&byte) {
                char::from(byte)
            } else {
                '.'
            }
        };
        writeln!(text, "  {}", line.iter().map(printable).collect::<String>()).unwrap();
    }
    text
}

fn undump(dimensions: &Dimensions, image: &str) -> Vec<u8> {
    let mut bytes = vec![0xFF; (dimensions.segment_bytes * dimensions.segment_count) as usize];
    for line in image.lines() {
        let (segment, position) = (
            usize::from_str_radix(&line[..1], 16),
            usize::from_str_radix(&line[2..6], 16),
        );
        let start = segment.unwrap() * 4096 + position.unwrap();
        for (to, hex) in bytes[start..start + 16]
            .iter_mut()
            .zip(line[7..].split_whitespace())
        {
            *to = u8::from_str_radix(hex, 16).unwrap();
        }
    }
    bytes
}
