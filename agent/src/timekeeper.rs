//! The time of a gateway whose machine may have none: what is stamped, how old it is, and who vouches for it.
//!
//! `keeper` decides, `starts` remembers, `machine` looks. While nobody vouches for the time, the logs' clock gives uptimes
//! ([`sedge_core::Micros::of_uptime`]), and nobody is told that it is 1970.

mod keeper;
mod machine;
mod starts;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sedge_config::checked;
use sedge_core::Micros;
use sedge_store::{Beginning, Timekeeping, read_toml, system_clock, world, write_toml};
use sedge_uplink::trust::clock::LastGood;

use crate::shutdown::Shutdown;
use keeper::{Change, Keeper, Known, Look};
use starts::{SEEN_EVERY_US, Starts};

/// The time of this machine. One for each data directory.
pub(crate) struct Timekeeper {
    state: Mutex<State>,
    path: PathBuf,
    last_good: Arc<LastGood>,
    /// The world has a clock of its own, which is right.
    simulated: bool,
}

struct State {
    keeper: Keeper,
    starts: Starts,
    /// This start has a name by which it is known again.
    names: bool,
    /// The number of this start can be relied on: it stands on the disk.
    kept: bool,
    kept_at_us: i64,
    /// What the hub said last.
    heard: u64,
    /// What was told last of a clock that is off.
    quiet: bool,
}

/// How it is with the time, for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Who vouches for the time; none if nobody does.
    pub(crate) by: Option<&'static str>,
    /// By how much the machine's clock is wrong, and whether it is ahead, if it was set and nobody vouches for that.
    pub(crate) off: Option<(Duration, bool)>,
}

impl Timekeeper {
    /// The time of the machine that runs this gateway.
    pub(crate) fn open(agent: &checked::Agent) -> Arc<Self> {
        let gateway = &agent.gateway;
        let last_good = crate::gateway::trust_clock(&gateway.data_dir);
        for uplink in &agent.uplinks {
            // Who was enrolled and has never connected knows no other time.
            let life = crate::gateway::trust_files(uplink).life();
            last_good.has_been(life.map_or(0, |(begin, _)| begin));
        }
        let believes = match gateway.clock {
            checked::Clock::Auto => machine::keeps_time(),
            checked::Clock::Believe => true,
            checked::Clock::Prove => false,
        };
        let path = gateway.data_dir.join(PLACE);
        if world::is_simulated() {
            return Arc::new(Self::simulated(path, last_good));
        }
        let boot = machine::boot();
        // Who cannot tell one start from another remembers none.
        let mut starts = boot
            .as_ref()
            .map_or_else(Starts::default, |_| remembered(&path));
        starts.begin(boot.as_deref().unwrap_or_default(), drawn());
        starts.lasts(machine::up_us());
        let (known, ntp) = starts.known();
        let state = State {
            keeper: Keeper::new(believes, known, ntp),
            names: boot.is_some(),
            kept: boot.is_some() && keep(&path, &starts),
            starts,
            kept_at_us: machine::up_us(),
            heard: 0,
            quiet: false,
        };
        let time = Self {
            state: Mutex::new(state),
            path,
            last_good,
            simulated: false,
        };
        time.look();
        Arc::new(time)
    }

    fn simulated(path: PathBuf, last_good: Arc<LastGood>) -> Self {
        let state = State {
            keeper: Keeper::new(true, None, None),
            starts: Starts::default(),
            names: false,
            kept: false,
            kept_at_us: 0,
            heard: 0,
            quiet: false,
        };
        Self {
            state: Mutex::new(state),
            path,
            last_good,
            simulated: true,
        }
    }

    /// The last time that is known to have been good, by which certificates are judged.
    pub(crate) fn last_good(&self) -> &Arc<LastGood> {
        &self.last_good
    }

    fn time(&self) -> Micros {
        let up_us = machine::up_us();
        let mut state = self.state();
        if let Some(time) = state.keeper.time(up_us) {
            return time;
        }
        if !state.kept {
            return Micros::UNKNOWN;
        }
        if state.starts.has_no_time() {
            self.keep(&mut state, up_us);
        }
        Micros::of_uptime(state.starts.number(), up_us.unsigned_abs())
    }

    /// How it is.
    pub(crate) fn standing(&self) -> Standing {
        if self.simulated {
            let by = Some("itself");
            return Standing { by, off: None };
        }
        let state = self.state();
        Standing {
            by: state.keeper.known().map(|known| known.by.word()),
            off: state.keeper.off(),
        }
    }

    /// Looks at the machine's clock, and at what the hub has said.
    fn look(&self) {
        let look = self.see();
        let mut state = self.state();
        let seen = state.keeper.look(look);
        self.changed(&mut state, look, seen);
        if let Some(heard) = self
            .last_good
            .heard()
            .filter(|heard| heard.count != state.heard)
        {
            state.heard = heard.count;
            let since_us = i64::try_from(heard.at.elapsed().as_micros()).unwrap_or(i64::MAX);
            let theirs_us = i64::try_from(heard.theirs).unwrap_or(i64::MAX);
            let theirs_us = theirs_us.saturating_mul(1_000_000).saturating_add(since_us);
            let told = state.keeper.heard(look, theirs_us);
            self.changed(&mut state, look, told);
        }
        state.starts.lasts(look.up_us);
        let age_us = look.up_us.saturating_sub(state.kept_at_us);
        if age_us.unsigned_abs() >= SEEN_EVERY_US {
            self.keep(&mut state, look.up_us);
        }
    }

    fn see(&self) -> Look {
        let system_us = machine::system_us();
        let seconds = u64::try_from(system_us / 1_000_000).unwrap_or(0);
        Look {
            up_us: machine::up_us(),
            system_us,
            ntp: machine::ntp(),
            plausible: self.last_good.is_plausible(seconds),
        }
    }

    fn changed(&self, state: &mut State, look: Look, change: Option<Change>) {
        let learn = |state: &mut State, known: Known, moved| {
            let ntp = state.keeper.ntp();
            state.starts.lasts(look.up_us);
            state.starts.learn(known, ntp, moved);
            self.keep(state, look.up_us);
            let now = known.zero_us.saturating_add(look.up_us) / 1_000_000;
            if let Some(now) = u64::try_from(now).ok().filter(|_| known.by.is_confirmed()) {
                self.last_good.learn(now, now);
            }
        };
        match change {
            None => {}
            Some(Change::Learned(known)) => {
                learn(state, known, false);
                tracing::info!(by = known.by.word(), "it is known what time it is");
            }
            Some(Change::Confirmed(known)) => learn(state, known, false),
            Some(Change::Moved(known, by_us)) => {
                learn(state, known, true);
                tracing::warn!(
                    by = known.by.word(),
                    seconds = by_us / 1_000_000,
                    "the time was wrong, and is set right"
                );
            }
            Some(Change::Jumped(off_us)) => tracing::warn!(
                seconds = off_us / 1_000_000,
                "the machine's clock is off, and neither NTP nor a hub vouches for it; the time goes on by the uptime"
            ),
        }
    }

    fn keep(&self, state: &mut State, up_us: i64) {
        state.kept_at_us = up_us;
        state.starts.lasts(up_us);
        if !state.names {
            return;
        }
        let kept = keep(&self.path, &state.starts);
        if !kept && !state.quiet {
            tracing::warn!(path = %self.path.display(), "the starts of the machine cannot be kept");
        }
        state.quiet = !kept;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks every second until the shutdown.
    pub(crate) async fn watch(self: Arc<Self>, mut shutdown: Shutdown) {
        if self.simulated {
            return;
        }
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                _ = second.tick() => {
                    let time = Arc::clone(&self);
                    // It may write a file.
                    drop(world::blocking(move || time.look()).await);
                }
            }
        }
    }
}

impl Timekeeping for Timekeeper {
    fn now(&self) -> Micros {
        match self.simulated {
            true => system_clock()(),
            false => self.time(),
        }
    }

    fn beginning(&self) -> Option<Beginning> {
        let (start, zero_us) = self.state().starts.correction()?;
        Some(Beginning {
            start,
            unix_us: zero_us,
        })
    }

    fn beginnings(&self) -> Vec<Beginning> {
        let state = self.state();
        let known = state.starts.beginnings();
        known
            .map(|(start, unix_us)| Beginning { start, unix_us })
            .collect()
    }

    fn voucher(&self) -> Option<&'static str> {
        self.standing().by
    }

    fn age(&self, time: Micros) -> Option<Duration> {
        if self.simulated {
            let age_us = self.now().get().saturating_sub(time.get());
            return Some(Duration::from_micros(u64::try_from(age_us).unwrap_or(0)));
        }
        let state = self.state();
        state
            .starts
            .age(time, machine::up_us(), state.keeper.known())
    }
}

impl fmt::Debug for Timekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timekeeper").field(&self.standing()).finish()
    }
}

fn remembered(path: &Path) -> Starts {
    match read_toml(path) {
        Ok(starts) => starts,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "earlier starts of the machine are forgotten");
            }
            Starts::default()
        }
    }
}

fn keep(path: &Path, starts: &Starts) -> bool {
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| write_toml(path, starts)).is_ok()
}

/// The number of the first start, so that those of a machine whose disk was exchanged are others.
fn drawn() -> u32 {
    let mut bytes = [0; 4];
    let drawn = world::entropy(&mut bytes).map(|()| u32::from_le_bytes(bytes));
    drawn.unwrap_or_default()
}

/// In the data directory.
const PLACE: &str = "trust/starts.toml";
