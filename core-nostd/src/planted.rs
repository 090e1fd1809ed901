//! Faults that are planted on purpose, to see whether the tests find them ([decision 0017](../../docs/decisions/0017-planted-faults.md)).
//!
//! With the feature `planted` a process has the one fault that the environment variable `SEDGE_PLANTED` names, or none. Without the feature there is none,
//! and nothing of this is left in the code. `cargo xtask planted` says which test finds which, and holds them to it.

macro_rules! faults {
    ($($(#[doc = $what:literal])+ $fault:ident = $name:literal,)+) => {
        /// One mistake that could be made where it is asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[doc = $what])+ $fault,)+
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$fault,)+];

            /// What `SEDGE_PLANTED` calls it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$fault => $name,)+
                }
            }
        }
    };
}

faults! {
    /// A commit is acknowledged without a sync.
    AckBeforeSync = "ack-before-sync",
    /// Publishes are acknowledged when they are staged, before the commit.
    AckBeforeCommit = "ack-before-commit",
    /// After a kill the offsets of the torn commit are given again.
    BurnNothing = "burn-nothing",
    /// After a kill one offset is burned, not all that a commit may have taken.
    BurnOneOffset = "burn-one-offset",
    /// On flash, what does not read behind the last frame burns what one commit may have taken, however many small ones stood there.
    BurnByCommitOnly = "burn-by-commit-only",
    /// A mirror burns offsets, which are the origin's.
    MirrorBurns = "mirror-burns",
    /// On flash, what comes next is programmed where a torn frame may stand.
    AppendAfterTornTail = "append-after-torn-tail",
    /// What an open finds behind the last sync is believed as it stands in the page cache.
    TrustPageCache = "trust-page-cache",
    /// After a failed sync the page cache is believed.
    TrustAfterFailedSync = "trust-after-failed-sync",
    /// A sync that failed is tried again, and its second answer believed.
    RetryFailedSync = "retry-failed-sync",
    /// A damaged place in the head is taken for its torn end.
    RotIsTheEnd = "rot-is-the-end",
    /// A head whose own beginning is damaged is passed over.
    PassOverLostHead = "pass-over-lost-head",
    /// The oldest segment is wiped before it is durably accounted for.
    RecycleBeforeLedger = "recycle-before-ledger",
    /// Files of a log are removed before they are durably accounted for.
    UnlinkBeforeLedger = "unlink-before-ledger",
    /// A segment is used again without having been erased.
    SkipErase = "skip-erase",
    /// A log that may not evict does.
    RefusingLogEvicts = "refusing-log-evicts",
    /// What is evicted is not counted for the uplinks.
    ForgetLoss = "forget-loss",
    /// The next segment is prepared though it holds records.
    PrepareLiveSegment = "prepare-live-segment",
    /// A ledger rides along with a commit that burns.
    LedgerRidesWithBurn = "ledger-rides-with-burn",
    /// Directories are not synced.
    SkipDirectorySync = "skip-directory-sync",
    /// A small file takes its name before its content is durable.
    RenameBeforeSync = "rename-before-sync",
    /// What cannot be read for a moment is taken for blank.
    UnreadableIsBlank = "unreadable-is-blank",
    /// What a reader cannot read for a moment is a gap.
    ReadersWaitForNothing = "readers-wait-for-nothing",
    /// A segment that cannot be written any more is used again.
    UseWornSegments = "use-worn-segments",
    /// A receiver takes frames that begin behind what it expects.
    AcceptHole = "accept-hole",
    /// A receiver hands out again what it was sent twice.
    AcceptRepeated = "accept-repeated",
    /// A receiver acknowledges what it has handed out, durable or not.
    AckBeforeStored = "ack-before-stored",
    /// A sender takes a receiver with another history for its own.
    IgnoreOtherHistory = "ignore-other-history",
    /// A sender does not go back when it is asked to.
    IgnoreRewind = "ignore-rewind",
    /// A gap that was told is told again by the next.
    TellLossTwice = "tell-loss-twice",
    /// The cursor of an uplink goes as far as was read, not as far as was acknowledged.
    CursorRunsAhead = "cursor-runs-ahead",
    /// PUBACKs of a broken connection are sent on the next.
    StalePuback = "stale-puback",
    /// A redelivery is stored again.
    StoreRedelivery = "store-redelivery",
    /// A publish with DUP is taken for a redelivery of whatever had its packet id.
    EveryDupIsKnown = "every-dup-is-known",
}

#[cfg(feature = "planted")]
impl Fault {
    /// Whether this process has it.
    ///
    /// # Panics
    /// If `SEDGE_PLANTED` names none.
    #[must_use]
    pub fn is_planted(self) -> bool {
        static CHOSEN: std::sync::OnceLock<Option<Fault>> = std::sync::OnceLock::new();
        let chosen = || {
            let name = std::env::var("SEDGE_PLANTED").ok()?;
            let fault = Self::ALL.iter().find(|fault| fault.name() == name);
            assert!(fault.is_some(), "no fault is called {name}");
            fault.copied()
        };
        *CHOSEN.get_or_init(chosen) == Some(self)
    }
}

#[cfg(not(feature = "planted"))]
impl Fault {
    /// Never: the code is what it is.
    #[inline]
    #[must_use]
    pub const fn is_planted(self) -> bool {
        false
    }
}
