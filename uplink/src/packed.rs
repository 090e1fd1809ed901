//! Data messages made smaller, for links that are slow or cost: `raw length u32 LE · LZ4 block` of the whole body.
//!
//! The frames in it stay what they are: who receives a packed message has the same bytes before anything looks at them.

use bytes::Bytes;
use lz4_flex::block;

use crate::wire::MESSAGE_BYTES_MAX;

/// Packs messages as long as that saves something.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    /// So many messages go as they are: what came before them did not get smaller.
    passes: u32,
    raw: Vec<u8>,
}

impl Packer {
    /// The body that consists of `parts`, packed; `None` if it is better sent as it is.
    pub(crate) fn pack(&mut self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        if self.passes > 0 {
            self.passes -= 1;
            return None;
        }
        self.raw.clear();
        parts
            .iter()
            .for_each(|part| self.raw.extend_from_slice(part));
        let length = u32::try_from(self.raw.len()).ok()?;
        let mut packed = vec![0; HEAD_BYTES + block::get_maximum_output_size(self.raw.len())];
        packed[..HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
        let written = block::compress_into(&self.raw, &mut packed[HEAD_BYTES..]).ok()?;
        packed.truncate(HEAD_BYTES + written);
        if packed.len() > self.raw.len() - self.raw.len() / SAVED_AT_LEAST {
            self.passes = PASSES;
            return None;
        }
        Some(packed)
    }
}

/// The body that was packed. Nothing is allocated for a length that no message has.
pub(crate) fn unpack(packed: &[u8]) -> Option<Bytes> {
    let (length, packed) = packed.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length > MESSAGE_BYTES_MAX {
        return None;
    }
    let mut raw = vec![0; length];
    let written = block::decompress_into(packed, &mut raw).ok()?;
    (written == length).then(|| raw.into())
}

const HEAD_BYTES: usize = 4;
/// A tenth.
const SAVED_AT_LEAST: usize = 10;
/// After this many messages that went as they were, another one is tried.
const PASSES: u32 = 15;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_repeats_itself_is_sent_in_a_third() {
        let events: String = (0..400)
            .map(|n| {
                format!(
                    r#"{{"sensor":"boiler-{}","temp":{}.5,"unit":"C"}}"#,
                    n % 7,
                    20 + n % 9
                )
            })
            .collect();
        let packed = Packer::default()
            .pack(&[b"head", events.as_bytes()])
            .unwrap();
        assert!(
            packed.len() * 3 < events.len(),
            "{} of {}",
            packed.len(),
            events.len()
        );
        assert_eq!(unpack(&packed).unwrap(), format!("head{events}"));
    }

    #[test]
    fn what_does_not_get_smaller_is_left_alone_for_a_while() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .take(2_000)
        .collect();
        let (mut packer, zeros) = (Packer::default(), [0; 2_000]);
        assert!(packer.pack(&[&noise]).is_none());
        for _ in 0..PASSES {
            assert!(packer.pack(&[&zeros]).is_none());
        }
        assert!(packer.pack(&[&zeros]).is_some());
    }

    #[test]
    fn a_length_that_no_message_has_is_refused_before_it_is_believed() {
        let zeros = vec![0; MESSAGE_BYTES_MAX + 1];
        let packed = Packer::default().pack(&[&zeros]).unwrap();
        assert!(unpack(&packed).is_none());
        let packed = Packer::default().pack(&[&zeros[1..]]).unwrap();
        assert_eq!(unpack(&packed).unwrap().len(), MESSAGE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_unpacked_or_refused(bytes in vec(any::<u8>(), 0..300)) {
            unpack(&bytes);
            let mut short = 400_u32.to_le_bytes().to_vec();
            short.extend(bytes);
            prop_assert!(unpack(&short).is_none_or(|raw| raw.len() == 400));
        }
    }
}
