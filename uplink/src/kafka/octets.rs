//! The primitives: <https://kafka.apache.org/protocol#protocol_types>.

use sedge_core::varint;

/// Bytes that are not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed request")]
pub(crate) struct Malformed;

/// What is left of a request.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What was not read.
    #[cfg(test)]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub(crate) fn i8(&mut self) -> Result<i8, Malformed> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub(crate) fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.i8()? != 0)
    }

    pub(crate) fn nullable_string(&mut self) -> Result<Option<String>, Malformed> {
        let len = self.i16()?;
        match usize::try_from(len) {
            Ok(len) => self.text(len).map(Some),
            Err(_) if len == -1 => Ok(None),
            Err(_) => Err(Malformed),
        }
    }

    pub(crate) fn string(&mut self) -> Result<String, Malformed> {
        self.nullable_string()?.ok_or(Malformed)
    }

    /// A string as flexible versions have it.
    pub(crate) fn compact_string(&mut self) -> Result<String, Malformed> {
        let len = self.unsigned_varint()?.checked_sub(1).ok_or(Malformed)?;
        self.text(len as usize)
    }

    fn text(&mut self, len: usize) -> Result<String, Malformed> {
        let text = str::from_utf8(self.take(len)?).map_err(|_| Malformed)?;
        Ok(text.to_owned())
    }

    pub(crate) fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let len = self.i32()?;
        match usize::try_from(len) {
            Ok(len) => self.take(len).map(Some),
            Err(_) if len == -1 => Ok(None),
            Err(_) => Err(Malformed),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        self.nullable_bytes()?.ok_or(Malformed)
    }

    /// As many of `each` as there are said to be; none if the list is null. Nothing is kept for more than there are bytes for.
    pub(crate) fn nullable_list<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Malformed> {
        let count = self.i32()?;
        if count == -1 {
            return Ok(None);
        }
        let count = usize::try_from(count).map_err(|_| Malformed)?;
        if count > self.0.len() {
            return Err(Malformed);
        }
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(each(self)?);
        }
        Ok(Some(list))
    }

    pub(crate) fn list<T>(
        &mut self,
        each: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        self.nullable_list(each)?.ok_or(Malformed)
    }

    /// Skips the tagged fields that end a flexible structure.
    pub(crate) fn tagged_fields(&mut self) -> Result<(), Malformed> {
        for _ in 0..self.unsigned_varint()? {
            self.unsigned_varint()?;
            let len = self.unsigned_varint()?;
            self.take(len as usize)?;
        }
        Ok(())
    }

    fn unsigned_varint(&mut self) -> Result<u32, Malformed> {
        let (value, len) = varint::decode(self.0).ok_or(Malformed)?;
        self.take(len)?;
        let fits = u32::try_from(value)
            .ok()
            .filter(|_| len <= VARINT_BYTES_MAX);
        fits.ok_or(Malformed)
    }
}

/// A response that is being written.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// One that goes on behind `bytes`.
    pub(crate) const fn on(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.i8(i8::from(value));
    }

    /// At most 32,767 bytes of it.
    pub(crate) fn string(&mut self, text: &str) {
        let mut len = text.len().min(usize::from(i16::MAX.unsigned_abs()));
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        self.i16(i16::try_from(len).expect("it is no longer than that"));
        self.0.extend_from_slice(&text.as_bytes()[..len]);
    }

    pub(crate) fn nullable_string(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.string(text),
            None => self.i16(-1),
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.i32(length(bytes.len()));
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.i32(length(items.len()));
        items.iter().for_each(|item| each(self, item));
    }

    /// The head of a list whose items a flexible version has.
    pub(crate) fn compact_count(&mut self, count: usize) {
        put_varint(&mut self.0, count as u64 + 1);
    }

    pub(crate) fn no_tagged_fields(&mut self) {
        self.0.push(0);
    }
}

/// Puts `value` behind what stands in `into`.
pub(super) fn put_varint(into: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        return into.push(value as u8);
    }
    let mut bytes = [0; varint::LEN_MAX];
    let len = varint::encode(value, &mut bytes).expect("it has room for every number");
    into.extend_from_slice(&bytes[..len]);
}

/// As many bytes as a number of 32 bits takes.
const VARINT_BYTES_MAX: usize = 5;

/// What is written is bounded far below 2 GiB.
fn length(len: usize) -> i32 {
    i32::try_from(len).expect("a response is far below 2 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_beyond_the_bytes_are_malformed_and_nothing_is_kept_for_them() {
        for count in [1_i32, 0x3FFF_FFFF, i32::MAX, -2, i32::MIN] {
            let bytes = count.to_be_bytes();
            assert_eq!(Reader::new(&bytes).list(Reader::i8), Err(Malformed));
            assert!(Reader::new(&bytes).bytes().is_err());
        }
        let empty = 0_i32.to_be_bytes();
        assert_eq!(Reader::new(&empty).list(Reader::i8), Ok(vec![]));
        let null = (-1_i32).to_be_bytes();
        assert_eq!(Reader::new(&null).nullable_list(Reader::i8), Ok(None));
        assert_eq!(Reader::new(&null).list(Reader::i8), Err(Malformed));
    }

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.i8(-3);
        writer.i16(-300);
        writer.i32(70_000);
        writer.i64(-5_000_000_000);
        writer.bool(true);
        writer.string("gw-1");
        writer.nullable_string(None);
        writer.bytes(b"abc");
        writer.list(&[1, 2], |w, n| w.i32(*n));
        writer.compact_count(299);
        writer.no_tagged_fields();
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.i8(), Ok(-3));
        assert_eq!(reader.i16(), Ok(-300));
        assert_eq!(reader.i32(), Ok(70_000));
        assert_eq!(reader.i64(), Ok(-5_000_000_000));
        assert_eq!(reader.bool(), Ok(true));
        assert_eq!(reader.string().as_deref(), Ok("gw-1"));
        assert_eq!(reader.nullable_string(), Ok(None));
        assert_eq!(reader.bytes(), Ok(&b"abc"[..]));
        assert_eq!(reader.list(Reader::i32), Ok(vec![1, 2]));
        assert_eq!(reader.unsigned_varint(), Ok(300));
        assert_eq!(reader.tagged_fields(), Ok(()));
        assert!(reader.rest().is_empty());
        assert_eq!(reader.i8(), Err(Malformed));
    }

    #[test]
    fn a_text_too_long_for_its_length_is_cut_at_a_character() {
        let mut writer = Writer::default();
        writer.string(&"ä".repeat(20_000));
        let bytes = writer.into_bytes();
        assert_eq!(Reader::new(&bytes).string().map(|s| s.len()), Ok(32_766));
    }
}
