//! A list inside a message: counted, borrowed from the message's bytes, walked once when it is parsed.

use core::marker::PhantomData;

use crate::wire::{Wire, take_from};

/// A list inside a message, borrowed from its bytes and already checked.
#[derive(Debug)]
pub struct List<'a, T> {
    count: u16,
    items: &'a [u8],
    of: PhantomData<fn() -> T>,
}

impl<'a, T: Wire<'a>> List<'a, T> {
    /// A list with nothing in it.
    pub const EMPTY: Self = Self::new(0, &[]);

    const fn new(count: u16, items: &'a [u8]) -> Self {
        Self {
            count,
            items,
            of: PhantomData,
        }
    }

    /// Reads a list that takes all of the bytes, and walks it once.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (count, items) = take_from::<u16>(bytes)?;
        let list = Self::new(count, items);
        let mut walk = list.iter();
        let good = walk.by_ref().count();
        (good == list.len() && walk.rest.is_empty()).then_some(list)
    }

    /// How many items.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The items in order.
    pub const fn iter(&self) -> Items<'a, T> {
        Items {
            left: self.count,
            rest: self.items,
            of: PhantomData,
        }
    }
}

impl<T> Clone for List<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<'_, T> {}

impl<T> PartialEq for List<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        (self.count, self.items) == (other.count, other.items)
    }
}

impl<T> Eq for List<'_, T> {}

impl<'a, T: Wire<'a>> IntoIterator for &List<'a, T> {
    type Item = T;
    type IntoIter = Items<'a, T>;
    fn into_iter(self) -> Items<'a, T> {
        self.iter()
    }
}

/// Walks a [`List`].
#[derive(Clone, Debug)]
pub struct Items<'a, T> {
    left: u16,
    rest: &'a [u8],
    of: PhantomData<fn() -> T>,
}

impl<'a, T: Wire<'a>> Iterator for Items<'a, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        let (item, rest) = take_from(self.rest)?;
        self.rest = rest;
        Some(item)
    }
}
