//! What a producer was told of its events, and how many of them have not come.

/// What a producer knows of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Not acknowledged: it may be there or not.
    Doubt,
    /// It will come.
    Acked,
    /// The same, or be counted once another log follows the one that it stands in, and that may have begun already.
    Adrift,
    /// It was acknowledged, and may have gone with its disk.
    Gone,
}

/// Events that did not come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Missing {
    /// Acknowledged.
    pub(super) acked: u64,
    /// Acknowledged while another log may have begun already that counts them.
    pub(super) adrift: u64,
    /// Of which nobody was told.
    pub(super) doubt: u64,
    /// Gone with a disk.
    pub(super) gone: u64,
}

impl Missing {
    /// Those of `events`.
    #[must_use]
    pub(super) fn of(events: &[Told]) -> Self {
        let count = |told| events.iter().filter(|known| **known == told).count() as u64;
        Self {
            acked: count(Told::Acked),
            adrift: count(Told::Adrift),
            doubt: count(Told::Doubt),
            gone: count(Told::Gone),
        }
    }

    /// Those that were acknowledged: at the end all of them are counted.
    #[must_use]
    pub(super) fn told(&self) -> u64 {
        self.acked + self.adrift
    }

    /// One of those is not missing.
    pub(super) fn take(&mut self, told: Told) {
        match told {
            Told::Doubt => self.doubt -= 1,
            Told::Acked => self.acked -= 1,
            Told::Adrift => self.adrift -= 1,
            Told::Gone => self.gone -= 1,
        }
    }

    /// Those, too.
    pub(super) fn add(&mut self, other: Self) {
        self.acked += other.acked;
        self.adrift += other.adrift;
        self.doubt += other.doubt;
        self.gone += other.gone;
    }
}
