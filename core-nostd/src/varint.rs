//! LEB128 integers as postcard writes them: seven bits a byte, lowest first, the top bit says "more"; signed ones in zigzag.

/// Most bytes that a `u64` takes.
pub const LEN_MAX: usize = 10;

/// How many bytes `value` takes.
#[must_use]
pub const fn encoded_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Writes `value` to the front of `into` and says how many bytes it took; `None` if it does not fit.
#[must_use]
pub fn encode(value: u64, into: &mut [u8]) -> Option<usize> {
    let len = encoded_len(value);
    let room = into.get_mut(..len)?;
    let mut rest = value;
    for byte in room.iter_mut() {
        *byte = 0x80 | low_seven(rest);
        rest >>= 7;
    }
    if let Some(last) = room.last_mut() {
        *last &= 0x7F;
    }
    Some(len)
}

/// Reads a value from the front of `bytes` and says how many bytes it took; `None` if it is cut off or exceeds a `u64`.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (at, &byte) in bytes.iter().take(LEN_MAX).enumerate() {
        if at == LEN_MAX - 1 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

/// Small magnitudes to small numbers: 0, -1, 1, -2, 2 …
#[must_use]
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Undoes [`zigzag`].
#[must_use]
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

fn low_seven(value: u64) -> u8 {
    value.to_le_bytes().first().map_or(0, |byte| byte & 0x7F)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_postcard(value: u64, signed: i64) {
            let (mut ours, mut theirs) = ([0; LEN_MAX], [0; LEN_MAX]);
            let len = encode(value, &mut ours).unwrap();
            prop_assert_eq!(&ours[..len], &*postcard::to_slice(&value, &mut theirs).unwrap());
            prop_assert_eq!(decode(&ours), Some((value, len)));
            let len = encode(zigzag(signed), &mut ours).unwrap();
            prop_assert_eq!(&ours[..len], &*postcard::to_slice(&signed, &mut theirs).unwrap());
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }

        #[test]
        fn any_bytes_are_read_or_refused_as_postcard_does(bytes: [u8; 12]) {
            let theirs = postcard::take_from_bytes::<u64>(&bytes).ok().map(|(value, rest)| (value, 12 - rest.len()));
            prop_assert_eq!(decode(&bytes), theirs);
        }
    }

    #[test]
    fn cut_off_and_oversize_are_refused() {
        assert_eq!(decode(&[0x80]), None);
        assert_eq!(decode(&[0xFF; 11]), None);
        assert_eq!(encode(128, &mut [0]), None);
        assert_eq!(encoded_len(0), 1);
        assert_eq!(encoded_len(u64::MAX), 10);
    }
}
