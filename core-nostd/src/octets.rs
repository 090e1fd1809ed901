//! A reader and a writer that walk over octets; every format of this crate is read and written through them. They know no format.

use crate::varint;

/// Takes fields from the front of a slice; `None` means that the slice ends too early or the field is malformed.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the front of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been taken yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes `len` bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// Takes `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// Takes one byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    /// Takes a fixed little-endian `u16`.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Takes a fixed little-endian `u32`.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes a fixed little-endian `u64`.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes a fixed little-endian `i64`.
    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// Takes a varint.
    pub fn varint(&mut self) -> Option<u64> {
        let (value, len) = varint::decode(self.rest)?;
        self.take(len)?;
        Some(value)
    }

    /// Takes a signed varint.
    pub fn signed(&mut self) -> Option<i64> {
        self.varint().map(varint::unzigzag)
    }

    /// Takes a varint length and that many bytes.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        self.take(len)
    }

    /// Takes a varint length and that much UTF-8.
    pub fn text(&mut self) -> Option<&'a str> {
        core::str::from_utf8(self.bytes()?).ok()
    }
}

/// Copies `from` to the front of `into`; `None` if it does not fit. Unlike [`slice::copy_from_slice`] it cannot panic, whatever the optimizer sees.
///
/// [`slice::copy_from_slice`]: slice::copy_from_slice
#[must_use]
pub fn copy(from: &[u8], into: &mut [u8]) -> Option<()> {
    let into = into.get_mut(..from.len())?;
    into.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    Some(())
}

/// Puts fields into a slice from its front; `None` means that a field does not fit (and the content is then void).
#[derive(Debug)]
pub struct Writer<'a> {
    into: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// A writer at the front of `into`.
    pub const fn new(into: &'a mut [u8]) -> Self {
        Self { into, at: 0 }
    }

    /// How many bytes have been put.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.at
    }

    /// Whether nothing has been put.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// What has been put.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        self.into.get(..self.at).unwrap_or_default()
    }

    /// Puts `bytes` as they are.
    pub fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let behind = self.into.get_mut(self.at..)?;
        copy(bytes, behind)?;
        self.at += bytes.len();
        Some(())
    }

    /// Puts one byte.
    pub fn byte(&mut self, byte: u8) -> Option<()> {
        self.put(&[byte])
    }

    /// Puts a varint.
    pub fn varint(&mut self, value: u64) -> Option<()> {
        let mut buffer = [0; varint::LEN_MAX];
        let len = varint::encode(value, &mut buffer)?;
        self.put(buffer.get(..len)?)
    }

    /// Puts a signed varint.
    pub fn signed(&mut self, value: i64) -> Option<()> {
        self.varint(varint::zigzag(value))
    }

    /// Puts a varint length and `bytes`.
    pub fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.varint(bytes.len() as u64)?;
        self.put(bytes)
    }
}
