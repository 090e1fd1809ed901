//! How a call to a simulated disk fails: the errors of a kernel, and what they leave.

use std::io;

use rustix::io::Errno;

/// What a program asks of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// To open a file that is there.
    Open,
    /// To open a file, and to make it if it is not there.
    Create,
    /// To rename.
    Rename,
    /// To remove a file.
    Remove,
    /// To remove a directory.
    RemoveDir,
    /// To make a directory.
    MakeDir,
    /// To list a directory.
    ReadDir,
    /// To make durable what was done in a directory.
    SyncDir,
    /// To read.
    Read,
    /// To write.
    Write,
    /// To be told the length.
    Length,
    /// To change the length.
    SetLength,
    /// To make durable what was written.
    Sync,
    /// To forget what is cached.
    Forget,
    /// To lock.
    Lock,
    /// To look what stands at a path.
    Look,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// EIO, and nothing was done; a sync: the pages are dirty still.
    Io,
    /// ENOSPC, and nothing was done.
    NoSpace,
    /// A part is written, then EIO.
    ShortIo,
    /// A part is written, then ENOSPC.
    ShortNoSpace,
    /// A sync reports EIO; the pages pass for written, and are not.
    Dropped,
}

/// Which call fails, and whether it is the only one.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Its number, from when calls are counted.
    pub at: u64,
    /// How it fails.
    pub way: Way,
    /// What fails behind it, until somebody heals the disk.
    pub then: Then,
}

/// What fails behind a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// Every call of its kind.
    ItsKind,
    /// Every call that takes room, or changes anything.
    Changes,
    /// Every call.
    All,
}

/// The calls to one disk that fail.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Calls so far, if somebody counts them.
    calls: Option<Vec<Call>>,
    planned: Vec<Failing>,
}

/// A failure, and whether it has begun.
#[derive(Clone, Copy, Debug)]
struct Failing {
    failure: Failure,
    first: Option<Call>,
}

impl Then {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::ItsKind, Self::Changes, Self::All];
}

impl Call {
    /// The ways in which it can fail.
    #[must_use]
    pub const fn ways(self) -> &'static [Way] {
        match self {
            Self::Open
            | Self::Remove
            | Self::RemoveDir
            | Self::ReadDir
            | Self::SyncDir
            | Self::Read
            | Self::Length
            | Self::Lock
            | Self::Look => &[Way::Io],
            Self::Create | Self::Rename | Self::MakeDir | Self::SetLength => {
                &[Way::Io, Way::NoSpace]
            }
            Self::Write => &[Way::Io, Way::NoSpace, Way::ShortIo, Way::ShortNoSpace],
            Self::Sync => &[Way::Io, Way::NoSpace, Way::Dropped],
            Self::Forget => &[],
        }
    }

    /// Whether it changes something, and can fail.
    #[must_use]
    pub const fn changes(self) -> bool {
        matches!(
            self,
            Self::Create
                | Self::Rename
                | Self::Remove
                | Self::RemoveDir
                | Self::MakeDir
                | Self::SyncDir
                | Self::Write
                | Self::SetLength
                | Self::Sync
        )
    }
}

impl Way {
    /// What the kernel says.
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::NoSpace | Self::ShortNoSpace => Errno::NOSPC.into(),
            Self::Io | Self::ShortIo | Self::Dropped => Errno::IO.into(),
        }
    }

    /// Whether something was written all the same.
    pub(super) const fn is_short(self) -> bool {
        matches!(self, Self::ShortIo | Self::ShortNoSpace)
    }
}

impl Failures {
    /// Calls are counted from now on, and these fail.
    pub(super) fn plan(&mut self, failures: &[Failure]) {
        let failing = |failure: &Failure| Failing {
            failure: *failure,
            first: None,
        };
        self.planned = failures.iter().map(failing).collect();
        self.calls = Some(Vec::new());
    }

    /// No further call fails.
    pub(super) fn end(&mut self) {
        for failing in &mut self.planned {
            failing.failure.then = Then::Nothing;
        }
    }

    /// The calls that were counted.
    #[must_use]
    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.clone().unwrap_or_default()
    }

    /// With which call each failure began.
    #[must_use]
    pub(super) fn begun(&self) -> Vec<Option<Call>> {
        self.planned.iter().map(|failing| failing.first).collect()
    }

    /// How this call fails, if it does.
    pub(super) fn way_of(&mut self, call: Call) -> Option<Way> {
        let calls = self.calls.as_mut()?;
        let number = calls.len() as u64;
        calls.push(call);
        let mut planned = self.planned.iter_mut();
        planned.find_map(|failing| failing.way(number, call))
    }
}

impl Failing {
    /// How the call with this number fails, if it does.
    fn way(&mut self, number: u64, call: Call) -> Option<Way> {
        let ways = call.ways();
        let Some(first) = self.first else {
            if number != self.failure.at {
                return None;
            }
            if ways.is_empty() {
                return None;
            }
            self.first = Some(call);
            let way = self.failure.way;
            return Some(if ways.contains(&way) { way } else { ways[0] });
        };
        let fails = match self.failure.then {
            Then::Nothing => false,
            Then::ItsKind => call == first,
            Then::Changes => call.changes(),
            Then::All => true,
        };
        (fails && !ways.is_empty()).then(|| ways[number as usize % ways.len()])
    }
}
