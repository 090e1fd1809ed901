//! Sizes and durations as people write them: a whole number and a unit, `"256MiB"`, `"5ms"`.

use std::time::Duration;

/// Bytes in `text`, or none when it is not a whole number with a unit of [`SIZE_UNITS`].
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    parse(text, SIZE_UNITS)
}

/// The duration in `text`, or none when it is not a whole number with a unit of [`DURATION_UNITS`].
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, DURATION_UNITS).map(Duration::from_micros)
}

/// `bytes` in the largest binary unit that shows it exactly, as it would be written in a file.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    show(bytes, &SIZE_UNITS[..5])
}

/// `duration` in the largest unit that shows it exactly.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    show(
        u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        DURATION_UNITS,
    )
}

/// Bits a second in `text`, or none when it is not a whole number with a unit of [`RATE_UNITS`].
#[must_use]
pub fn parse_rate(text: &str) -> Option<u64> {
    parse(text, RATE_UNITS)
}

/// `bits` a second in the largest unit that shows it exactly.
#[must_use]
pub fn show_rate(bits: u64) -> String {
    show(bits, RATE_UNITS)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show(value: u64, units: &[(&str, u64)]) -> String {
    let (unit, factor) = units
        .iter()
        .rev()
        .find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor))
        .unwrap_or(&units[0]);
    format!("{}{unit}", value / factor)
}

/// Units of sizes and their bytes; the binary ones first.
pub const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Units of durations and their microseconds.
pub const DURATION_UNITS: &[(&str, u64)] = &[
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

/// Units of rates and their bits a second.
pub const RATE_UNITS: &[(&str, u64)] = &[
    ("bit/s", 1),
    ("kbit/s", 1_000),
    ("Mbit/s", 1_000_000),
    ("Gbit/s", 1_000_000_000),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_reads_back_as_it_was_shown() {
        for text in ["0B", "512B", "64KiB", "256MiB", "1GiB", "3TiB"] {
            assert_eq!(show_size(parse_size(text).expect(text)), text);
        }
        for text in ["9600bit/s", "256kbit/s", "10Mbit/s", "1Gbit/s"] {
            assert_eq!(show_rate(parse_rate(text).expect(text)), text);
        }
        for text in ["250us", "5ms", "90s", "7h", "30d"] {
            assert_eq!(show_duration(parse_duration(text).expect(text)), text);
        }
    }

    #[test]
    fn a_number_without_a_unit_is_not_a_quantity() {
        for text in [
            "256",
            "MiB",
            "",
            "1.5GiB",
            "-1s",
            "1 parsec",
            "99999999999TiB",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
