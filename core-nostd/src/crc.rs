//! CRC-32C (Castagnoli), the one checksum of sedge: by hardware with feature `std`, bit by bit without: a table would take 1 KiB of flash.

/// CRC-32C of `bytes`.
///
/// ```
/// assert_eq!(sedge_core::crc::crc32c(b"123456789"), 0xE306_9283);
/// ```
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut digest = Digest::new();
    digest.update(bytes);
    digest.finish()
}

/// A CRC-32C over bytes that come in pieces.
#[derive(Clone)]
pub struct Digest(imp::State);

impl Digest {
    /// A digest of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(imp::start())
    }

    /// Takes further bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        imp::update(&mut self.0, bytes);
    }

    /// The CRC-32C of all bytes taken.
    #[must_use]
    pub fn finish(self) -> u32 {
        imp::finish(self.0)
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "std")]
mod imp {
    pub(super) type State = u32;

    pub(super) fn start() -> State {
        0
    }

    pub(super) fn update(state: &mut State, bytes: &[u8]) {
        *state = ::crc32c::crc32c_append(*state, bytes);
    }

    pub(super) fn finish(state: State) -> u32 {
        state
    }
}

#[cfg(not(feature = "std"))]
mod imp {
    use ::crc::{CRC_32_ISCSI, Crc, NoTable};

    static BIT_BY_BIT: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISCSI);

    pub(super) type State = ::crc::Digest<'static, u32, NoTable>;

    pub(super) fn start() -> State {
        BIT_BY_BIT.digest()
    }

    pub(super) fn update(state: &mut State, bytes: &[u8]) {
        state.update(bytes);
    }

    pub(super) fn finish(state: State) -> u32 {
        state.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_whole_agree() {
        let mut digest = Digest::new();
        digest.update(b"1234");
        digest.update(b"");
        digest.update(b"56789");
        assert_eq!(digest.finish(), crc32c(b"123456789"));
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }
}
