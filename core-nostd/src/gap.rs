//! Loss as a value: a range of offsets that a reader will not see, how many records were lost in it, why and when.

use serde::{Deserialize, Serialize};

use crate::ids::{Micros, Offset};

/// A range of offsets with no entries to show, in its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first offset of the range.
    pub from: Offset,
    /// One past the last.
    pub to: Offset,
    /// How many records were lost in it. Burned offsets were never records: sum this, not the range.
    pub lost: u64,
    /// Why.
    pub cause: Cause,
    /// When it was lost; the first time if there were several.
    pub when: Micros,
    /// The last time.
    pub when_last: Micros,
}

impl Gap {
    /// How many offsets the range takes.
    #[must_use]
    pub const fn span(&self) -> u64 {
        self.to.since(self.from)
    }
}

/// Why a range of offsets has no entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Cause {
    /// The oldest records made room for new ones.
    Evicted,
    /// They were older than the retention time.
    Expired,
    /// Their bytes no longer pass the check.
    Corrupt,
    /// Never used: offsets that a torn commit may have taken. Nothing was lost.
    Burned,
    /// A seam between two logs of one chain.
    NewLog,
    /// Lost on the device, before this log.
    Device,
}

impl Cause {
    /// The number that stands in frames and messages.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Evicted => 1,
            Self::Expired => 2,
            Self::Corrupt => 3,
            Self::Burned => 4,
            Self::NewLog => 5,
            Self::Device => 6,
        }
    }

    /// The cause with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Evicted,
            2 => Self::Expired,
            3 => Self::Corrupt,
            4 => Self::Burned,
            5 => Self::NewLog,
            6 => Self::Device,
            _ => return None,
        })
    }

    /// The word that stands in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Expired => "expired",
            Self::Corrupt => "corrupt",
            Self::Burned => "burned",
            Self::NewLog => "new-log",
            Self::Device => "device",
        }
    }
}

impl From<Cause> for u8 {
    fn from(cause: Cause) -> Self {
        cause.code()
    }
}

impl TryFrom<u8> for Cause {
    type Error = UnknownCause;

    fn try_from(code: u8) -> Result<Self, UnknownCause> {
        Self::from_code(code).ok_or(UnknownCause(code))
    }
}

/// A number that stands for no cause of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCause(pub u8);

impl core::fmt::Display for UnknownCause {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} is no cause of a gap", self.0)
    }
}

impl core::error::Error for UnknownCause {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_names_the_cause_that_wrote_it() {
        let known: std::vec::Vec<_> = (0..=u8::MAX).filter_map(Cause::from_code).collect();
        assert_eq!(known.len(), 6);
        assert!(
            known
                .iter()
                .all(|&cause| Cause::from_code(cause.code()) == Some(cause))
        );
    }
}
