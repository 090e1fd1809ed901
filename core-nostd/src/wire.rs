//! postcard's encoding of plain values, by hand: the same bytes, checked against postcard itself, in a quarter of the code and without its panics.
//!
//! ```text
//! u8 bool      one byte                 str bytes   length varint · bytes
//! u16 u32 u64  varint                   Option      0 | 1 · value
//! i64          zigzag varint            struct      its fields in order
//! ```

use crate::gap::{Cause, Gap};
use crate::ids::{LogId, Micros, Offset};
use crate::octets::{Reader, Writer};

/// A value that stands in messages and ledgers.
pub trait Wire<'a>: Sized {
    /// Puts the value; `None` if it does not fit.
    fn put(&self, to: &mut Writer<'_>) -> Option<()>;

    /// Takes a value; `None` if there is none.
    fn take(from: &mut Reader<'a>) -> Option<Self>;
}

/// Writes `value` to the front of `bytes` and says how many it took; `None` if it does not fit.
pub(crate) fn emit<'a, T: Wire<'a>>(value: &T, bytes: &mut [u8]) -> Option<usize> {
    let mut to = Writer::new(bytes);
    value.put(&mut to)?;
    Some(to.len())
}

/// The value at the front of `bytes`, and what stands behind it.
pub(crate) fn take_from<'a, T: Wire<'a>>(bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
    let mut from = Reader::new(bytes);
    let value = T::take(&mut from)?;
    Some((value, from.rest()))
}

/// A value that takes all of `bytes`.
pub(crate) fn whole<'a, T: Wire<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (value, rest) = take_from(bytes)?;
    rest.is_empty().then_some(value)
}

/// [`Wire`] for a struct: these fields, in this order.
macro_rules! wire {
    ($name:ident $(<$life:lifetime>)? { $($field:ident),* $(,)? }) => {
        impl<'a> $crate::wire::Wire<'a> for $name $(<$life>)? {
            fn put(&self, to: &mut $crate::octets::Writer<'_>) -> Option<()> {
                $($crate::wire::Wire::put(&self.$field, to)?;)*
                Some(())
            }

            fn take(from: &mut $crate::octets::Reader<'a>) -> Option<Self> {
                Some(Self {
                    $($field: $crate::wire::Wire::take(from)?,)*
                })
            }
        }
    };
}
pub(crate) use wire;

wire!(Gap {
    from,
    to,
    lost,
    cause,
    when,
    when_last
});

macro_rules! integer {
    ($($integer:ty),*) => {$(
        impl Wire<'_> for $integer {
            fn put(&self, to: &mut Writer<'_>) -> Option<()> {
                to.varint((*self).into())
            }

            fn take(from: &mut Reader<'_>) -> Option<Self> {
                from.varint()?.try_into().ok()
            }
        }
    )*};
}
integer!(u16, u32, u64);

impl Wire<'_> for u8 {
    fn put(&self, to: &mut Writer<'_>) -> Option<()> {
        to.byte(*self)
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        from.byte()
    }
}

impl Wire<'_> for bool {
    fn put(&self, to: &mut Writer<'_>) -> Option<()> {
        to.byte(u8::from(*self))
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        match from.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Wire<'_> for i64 {
    fn put(&self, to: &mut Writer<'_>) -> Option<()> {
        to.signed(*self)
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        from.signed()
    }
}

impl<'a> Wire<'a> for &'a [u8] {
    fn put(&self, to: &mut Writer<'_>) -> Option<()> {
        to.bytes(self)
    }

    fn take(from: &mut Reader<'a>) -> Option<Self> {
        from.bytes()
    }
}

impl<'a> Wire<'a> for &'a str {
    fn put(&self, to: &mut Writer<'_>) -> Option<()> {
        to.bytes(self.as_bytes())
    }

    fn take(from: &mut Reader<'a>) -> Option<Self> {
        from.text()
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Option<T> {
    fn put(&self, to: &mut Writer<'_>) -> Option<()> {
        self.is_some().put(to)?;
        self.as_ref().map_or(Some(()), |value| value.put(to))
    }

    fn take(from: &mut Reader<'a>) -> Option<Self> {
        Some(if bool::take(from)? {
            Some(T::take(from)?)
        } else {
            None
        })
    }
}

impl Wire<'_> for Offset {
    fn put(&self, to: &mut Writer<'_>) -> Option<()> {
        to.varint(self.get())
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        from.varint().map(Self::new)
    }
}

impl Wire<'_> for Micros {
    fn put(&self, to: &mut Writer<'_>) -> Option<()> {
        to.signed(self.get())
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        from.signed().map(Self::new)
    }
}

impl Wire<'_> for LogId {
    fn put(&self, to: &mut Writer<'_>) -> Option<()> {
        to.put(self.as_bytes())
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        from.array().map(Self::new)
    }
}

impl Wire<'_> for Cause {
    fn put(&self, to: &mut Writer<'_>) -> Option<()> {
        to.byte(self.code())
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        Self::from_code(from.byte()?)
    }
}
