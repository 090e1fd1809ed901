//! What a gateway keeps in its directory, and how it is opened.
//!
//! ```text
//! data_dir/streams/0000/identity.toml             name, number of partitions
//!          streams/0000/0001/identity.toml        partition, and what is left of the logs that were removed from its chain
//!          streams/0000/0001/0000/identity.toml   place in the chain, whether it is ended
//!          streams/0000/0001/0000/seg-00000.log   the log
//! ```
//! Directories carry numbers, names stand in the identity files. A partition is a chain of logs: the last one takes events,
//! those before it are only read until every uplink has them, and then removed. Knows nothing of sources and uplinks but the
//! uplinks' numbers.

mod removed;
mod shift;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sedge_config::checked;
use sedge_core::LogId;
use sedge_store::{
    Clock, DataDir, DataDirError, Gone, Numbered, OpenError, Opened, Partition, PartitionOptions,
    Section, Timekeeping, WriteBudget, disk as files, system_clock,
};
use serde::{Deserialize, Serialize};

use crate::ingest::{self, Lane};
use crate::owner::{Claims, Stood};
pub(crate) use removed::Removed;
use removed::RemovedLog;
use shift::shift_behind;

/// The directory of a gateway, with all its logs open.
pub(crate) struct Disk {
    /// In the order of the configuration; what only drains comes last.
    pub(crate) chains: Vec<Chain>,
    /// What is left of logs that were removed before it was opened.
    pub(crate) removed: Vec<Removed>,
    /// Where devices stood in partitions that have no log any more.
    devices: Vec<Stood>,
    /// Held until everything is closed.
    data: Arc<DataDir>,
}

/// A partition: its logs in their order.
pub(crate) struct Chain {
    pub(crate) stream: String,
    pub(crate) partition: u16,
    /// Never empty.
    pub(crate) logs: Vec<OpenLog>,
    /// Not in the configuration any more.
    pub(crate) draining: bool,
    identity: SharedIdentity,
    /// What its logs are opened with.
    options: PartitionOptions,
}

/// A partition's identity, with which several logs may be removed.
type SharedIdentity = Arc<Mutex<Numbered<PartitionIdentity>>>;

/// A log of a chain.
pub(crate) struct OpenLog {
    pub(crate) partition: Partition,
    pub(crate) claims: Claims,
    /// Place in the chain.
    pub(crate) place: u16,
    /// What is added to its offsets where the chain is read as one run.
    pub(crate) shift: u64,
    /// The uplinks whose hubs have all of it, as they said in this life.
    drained: BTreeSet<u32>,
    identity: Numbered<LogIdentity>,
    /// The log itself says that nothing follows.
    at_end: bool,
    opened: Opened,
}

/// What becomes of a log that is larger than its capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenTooLarge {
    /// It stays so.
    Keep,
    /// Its oldest events go, whether or not the uplinks have them.
    Evict,
}

/// What to do when a disk has failed: told once for each log.
pub(crate) type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// What all logs of a gateway are opened with.
pub(crate) struct Outfit {
    pub(crate) when_too_large: WhenTooLarge,
    /// None is the machine's clock as it is.
    pub(crate) time: Option<Arc<dyn Timekeeping>>,
    pub(crate) write_budget: Option<Arc<WriteBudget>>,
    pub(crate) on_fatal: OnFatal,
}

/// Why the directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Somebody else has it, or it cannot be made.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A log in it cannot be used at all.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl DiskError {
    /// Whether it may pass when somebody makes room on the disk.
    pub(crate) fn is_want_of_room(&self) -> bool {
        match self {
            Self::DataDir(DataDirError::Io { source, .. }) | Self::Io { source, .. } => {
                is_full(source)
            }
            Self::DataDir(DataDirError::Held { .. }) => false,
            Self::Log(error) => error.want_of_room().is_some(),
        }
    }
}

/// A disk that has no room, or no more room for us.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// What is left of logs that were removed.
#[derive(Default)]
struct Left {
    removed: Vec<Removed>,
    /// Where devices stood in partitions that have no log any more.
    devices: Vec<Stood>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StreamIdentity {
    name: sedge_store::Name,
    partitions: u16,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PartitionIdentity {
    partition: u16,
    /// The place of the next log is not below this: those below were given to logs that are removed.
    #[serde(default)]
    next_place: u16,
    /// One past the last offset of those, as they are read as one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_shift: Option<u64>,
    /// Where devices stood in logs that are removed, the longest unused first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    devices: Vec<DeviceStood>,
    /// Logs that are removed, in their order, and no more of them than a hub may have to hear of again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<RemovedLog>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct DeviceStood {
    /// The device's log id, 32 hex digits.
    log: String,
    next: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crc_below: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LogIdentity {
    chain: u16,
    ended: bool,
    /// A hub holds another history under this log's id: it is not offered any more, and kept for `sedge inspect`.
    #[serde(default)]
    diverged: bool,
    /// It had ended before that was known: hubs have heard where, and wait for all up to there.
    #[serde(default)]
    announced: bool,
    /// The chain says what only this log has.
    #[serde(default)]
    told: bool,
    /// It ended so that live records pass what it holds. Nothing else has changed: the next log takes over all it knew.
    #[serde(default)]
    passed: bool,
    /// What is added to its offsets where the chain is read as one run: known when it takes its first event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shift: Option<u64>,
}

impl Disk {
    /// Opens the directory, makes what is missing, and opens every log in it. Blocks for the disk.
    ///
    /// # Errors
    /// When the directory is held by another process or cannot be used. Damaged content is no error.
    pub(crate) fn open(agent: &checked::Agent, outfit: &Outfit) -> Result<Self, DiskError> {
        let data = DataDir::open(&agent.gateway.data_dir)?;
        let mut chains = Vec::new();
        let mut left = Left::default();
        let mut streams = data
            .numbered::<StreamIdentity>("streams")
            .map_err(in_dir(data.root()))?;
        let root = data.root().join("streams");
        for stream in &agent.streams {
            let known = streams
                .find(|identity| identity.name.as_str() == &*stream.name)
                .cloned();
            let known = match known {
                Some(known) => known,
                None => {
                    let name = sedge_store::Name::new(stream.name.as_str())
                        .expect("both crates have one rule for names");
                    let identity = StreamIdentity {
                        name,
                        partitions: stream.partitions,
                    };
                    streams.create(identity).map_err(in_dir(&root))?
                }
            };
            let options = options(agent, stream, outfit);
            let partitions = Some(stream.partitions);
            chains.extend(open_stream(
                &data, agent, known, partitions, &options, &mut left,
            )?);
        }
        for known in streams.found() {
            if agent
                .streams
                .iter()
                .all(|stream| &*stream.name != known.identity.name.as_str())
            {
                // Nothing is evicted to write that it ends.
                let options = PartitionOptions {
                    when_full: sedge_core::log::WhenFull::Refuse,
                    record_bytes_max: ingest::unit_bytes_max(agent.gateway.record_bytes_max),
                    on_fatal: Arc::clone(&outfit.on_fatal),
                    time: outfit.time.clone(),
                    ..PartitionOptions::default()
                };
                chains.extend(open_stream(
                    &data,
                    agent,
                    known.clone(),
                    None,
                    &options,
                    &mut left,
                )?);
            }
        }
        Ok(Self {
            chains,
            removed: left.removed,
            devices: left.devices,
            data: Arc::new(data),
        })
    }

    /// The partitions that take events, by stream, in their order. Devices go on where they stood before, in whatever log of whatever partition or stream: the
    /// number of partitions may have changed since, or the port have got another stream.
    pub(crate) fn lanes(&self) -> BTreeMap<String, Vec<Lane>> {
        let mut devices = self.devices.clone();
        for chain in &self.chains {
            devices.extend(lock(&chain.identity).identity.stood());
            devices.extend(chain.logs.iter().flat_map(|log| log.claims.devices()));
        }
        let mut lanes: BTreeMap<String, Vec<Lane>> = BTreeMap::new();
        for chain in self.chains.iter().filter(|chain| !chain.draining) {
            let head = chain.head();
            head.claims.inherit_devices(&devices);
            lanes
                .entry(chain.stream.clone())
                .or_default()
                .push(Lane::new(head.partition.clone(), head.claims.clone()));
        }
        lanes
    }

    /// The next start opens a new log behind that of `log`: this one is not the log that a hub holds under its id.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub(crate) fn renew(&mut self, log: LogId) -> io::Result<()> {
        for open in self.chains.iter_mut().flat_map(|chain| &mut chain.logs) {
            if open.partition.log_id() == log {
                let ended = LogIdentity {
                    ended: true,
                    diverged: true,
                    announced: open.is_ended(),
                    ..open.identity.identity.clone()
                };
                open.identity.rewrite(ended)?;
            }
        }
        Ok(())
    }

    /// Ends `log`, so that the next life takes live records into another one behind it. That one is made at once: its room cannot go to something else any more,
    /// and what `log` knows of sessions has a place to go on. False if it may not be passed.
    ///
    /// # Errors
    /// When the disk has no room for both, or it cannot be written down.
    pub(crate) fn pass(&mut self, log: LogId) -> io::Result<bool> {
        let is_it = |chain: &&mut Chain| chain.head().partition.log_id() == log;
        let Some(chain) = self.chains.iter_mut().find(is_it) else {
            return Ok(false);
        };
        if !chain.may_be_passed() {
            return Ok(false);
        }
        let head = chain.logs.last_mut().expect("a chain has a log");
        if let Some(why) = &head.opened.intake_refused {
            return Err(io::Error::other(why.to_string()));
        }
        let needed = head.disk_bytes();
        let free = files::free(&head.identity.path)?;
        if free < needed {
            return Err(io::Error::other(format!(
                "another log needs {needed} bytes, and {free} are free"
            )));
        }
        let before = head.identity.identity.clone();
        let passed = LogIdentity {
            ended: true,
            passed: true,
            ..before.clone()
        };
        head.identity.rewrite(passed)?;
        match chain.make_room_for_next(&self.data)? {
            None => Ok(true),
            Some(why) => {
                let head = chain.logs.last_mut().expect("a chain has a log");
                head.identity.rewrite(before)?;
                Err(io::Error::other(why))
            }
        }
    }

    /// The hub of `uplink` has all of `log`. If those of all `carriers` of its stream have, the log is taken out of its chain, to be
    /// removed: nobody must be offered it any more.
    pub(crate) fn drained(
        &mut self,
        log: LogId,
        uplink: u32,
        carriers: impl FnOnce(&str) -> BTreeSet<u32>,
    ) -> Option<Drained> {
        let is_it = |open: &OpenLog| open.partition.log_id() == log;
        let at = self
            .chains
            .iter()
            .position(|chain| chain.logs.iter().any(is_it))?;
        let chain = &mut self.chains[at];
        let place = chain.logs.iter().position(is_it)?;
        let takes = !chain.draining && place + 1 == chain.logs.len();
        let open = &mut chain.logs[place];
        open.drained.insert(uplink);
        let carriers = carriers(&chain.stream);
        // A hub that was put back since asks for it again.
        let end = open.partition.next();
        let has_all = |uplink: &u32| {
            let cursor = open.partition.cursor(*uplink);
            open.drained.contains(uplink) && cursor.is_none_or(|cursor| cursor.next >= end)
        };
        let by_all = !carriers.is_empty() && carriers.iter().all(has_all);
        // Without a writer nobody has asked the log where its devices stood.
        let is_known = open.opened.intake_refused.is_none();
        let passed = open.identity.identity.passed;
        // The log that follows may still have to take over what this one knew.
        let heir = chain.logs.get(place + 1).filter(|_| {
            let follows_last = place + 2 == chain.logs.len();
            passed && follows_last && !chain.draining
        });
        let is_awaited = heir.is_some_and(|heir| {
            heir.opened.intake_refused.is_none() && !heir.claims.has_taken_over()
        });
        let owes = !is_known || is_awaited;
        let open = &chain.logs[place];
        if takes || !by_all || !open.is_ended() || !open.is_offered() || owes {
            return None;
        }
        let drained = Drained {
            log: chain.logs.remove(place),
            stream: chain.stream.clone(),
            partition: chain.partition,
            identity: Arc::clone(&chain.identity),
            data: Arc::clone(&self.data),
        };
        if chain.logs.is_empty() {
            self.chains.remove(at);
        }
        Some(drained)
    }

    /// Whether live records may pass what `log` holds.
    pub(crate) fn may_be_passed(&self, log: LogId) -> bool {
        let is_it = |chain: &&Chain| chain.head().partition.log_id() == log;
        self.chains
            .iter()
            .find(is_it)
            .is_some_and(Chain::may_be_passed)
    }

    /// Commits what is staged and marks a clean stop in every log. Blocks for the disk.
    pub(crate) fn close(&self) {
        for log in self.chains.iter().flat_map(|chain| &chain.logs) {
            log.partition.close();
        }
    }
}

impl Chain {
    /// Whether its one log may be closed so that live records pass what it holds. With two of them they do already, and a third would take more disk.
    pub(crate) fn may_be_passed(&self) -> bool {
        let offered = self.logs.iter().filter(|log| log.is_offered()).count();
        !self.draining && offered == 1 && !self.head().is_ended()
    }

    /// Makes the log that the next life takes events into. If the disk has no room for it, nothing is left of it, and this says why.
    fn make_room_for_next(&self, data: &DataDir) -> io::Result<Option<String>> {
        let (within, place) = {
            let partition = lock(&self.identity);
            let place = place_behind(&self.logs, &partition.identity);
            (relative(data, &partition.path), place)
        };
        let mut found = data.numbered::<LogIdentity>(within)?;
        let next = match next_log(&mut found, place, &self.options) {
            Ok(next) => next.map_err(io::Error::other)?,
            Err(error) => return Ok(Some(error.to_string())),
        };
        next.partition.close();
        let Some(why) = next.opened.intake_refused else {
            return Ok(None);
        };
        next.identity.remove()?.finish()?;
        Ok(Some(why.to_string()))
    }

    /// The log that takes events, if any does.
    pub(crate) fn head(&self) -> &OpenLog {
        self.logs.last().expect("a chain has a log")
    }
}

/// A log that every uplink has got, taken out of its chain.
pub(crate) struct Drained {
    log: OpenLog,
    stream: String,
    partition: u16,
    identity: SharedIdentity,
    data: Arc<DataDir>,
}

impl Drained {
    /// What is left of it.
    pub(crate) fn left(&self) -> Removed {
        Removed {
            stream: self.stream.clone(),
            partition: self.partition,
            log: self.log.partition.log_id(),
            place: self.log.place,
            end: self.log.partition.next(),
            uplinks: self.log.drained.clone(),
        }
    }

    /// Removes its directory. What stands beside the log is not lost: where devices stood in it, its place in the chain and its end go into
    /// the partition's identity, what was set aside in it is set aside in the data directory. Blocks for the disk.
    ///
    /// # Errors
    /// When the file system refuses. Then the log is still there, and drained again in the next life.
    pub(crate) fn remove(self) -> io::Result<Gone> {
        let left = self.left();
        let Self {
            log,
            identity,
            data,
            ..
        } = self;
        log.partition.close();
        {
            let mut identity = lock(&identity);
            let kept = identity.identity.without(&log, &left);
            identity.rewrite(kept)?;
        }
        let aside = log.identity.path.join("set-aside");
        if files::is_dir(&aside) {
            for file in files::read_dir(&aside)? {
                data.set_aside(&file, "set aside in a log that is drained")?;
            }
        }
        let gone = log.identity.remove()?;
        log.partition.let_go();
        Ok(gone)
    }
}

/// A panic while it was held leaves what stands in the file, or what was to stand there.
fn lock(identity: &SharedIdentity) -> std::sync::MutexGuard<'_, Numbered<PartitionIdentity>> {
    identity.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PartitionIdentity {
    const fn new(partition: u16) -> Self {
        Self {
            partition,
            next_place: 0,
            next_shift: None,
            devices: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// What it is to say when `log` is removed.
    fn without(&self, log: &OpenLog, left: &Removed) -> Self {
        let claims = Claims::default();
        claims.inherit_devices(&self.stood());
        claims.inherit(&log.claims);
        let stood = |stood: Stood| DeviceStood {
            log: LogId::new(stood.log).to_string(),
            next: stood.next,
            crc_below: stood.crc_below,
        };
        Self {
            partition: self.partition,
            next_place: self.next_place.max(log.place.saturating_add(1)),
            next_shift: Some(self.removed_to().max(log.shift_behind())),
            devices: claims.devices().into_iter().map(stood).collect(),
            removed: removed::with(&self.removed, left),
        }
    }

    fn stood(&self) -> Vec<Stood> {
        let known = self.devices.iter().map(|device| {
            let log: LogId = device.log.parse().ok()?;
            Some(Stood {
                log: *log.as_bytes(),
                next: device.next,
                crc_below: device.crc_below,
            })
        });
        known.flatten().collect()
    }
}

fn options(agent: &checked::Agent, stream: &checked::Stream, outfit: &Outfit) -> PartitionOptions {
    PartitionOptions {
        capacity_bytes: stream.capacity_bytes,
        when_full: match stream.when_full {
            checked::WhenFull::EvictOldest => sedge_core::log::WhenFull::EvictOldest,
            checked::WhenFull::Refuse => sedge_core::log::WhenFull::Refuse,
        },
        shrink_for: match outfit.when_too_large {
            WhenTooLarge::Keep => None,
            WhenTooLarge::Evict => Some(super::carriers(agent, &stream.name).into_keys().collect()),
        },
        retention: stream.retention,
        linger: stream.linger,
        at_risk_max: stream.at_risk_max,
        write_budget: outfit.write_budget.clone(),
        record_bytes_max: ingest::unit_bytes_max(agent.gateway.record_bytes_max),
        time: outfit.time.clone(),
        on_fatal: Arc::clone(&outfit.on_fatal),
        ..PartitionOptions::default()
    }
}

/// Opens the partitions of one stream; `partitions` is how many the configuration wants, none if it has no such stream.
fn open_stream(
    data: &DataDir,
    agent: &checked::Agent,
    mut stream: Numbered<StreamIdentity>,
    partitions: Option<u16>,
    options: &PartitionOptions,
    left: &mut Left,
) -> Result<Vec<Chain>, DiskError> {
    let within = relative(data, &stream.path);
    let name = stream.identity.name.as_str().to_owned();
    let mut found = data
        .numbered::<PartitionIdentity>(&within)
        .map_err(in_dir(&stream.path))?;
    let moved = partitions.is_some_and(|partitions| partitions != stream.identity.partitions);
    if moved {
        tracing::info!(
            stream = name,
            from = stream.identity.partitions,
            to = partitions,
            "the number of partitions changes"
        );
    }
    for partition in 0..partitions.unwrap_or(0) {
        if found
            .find(|identity| identity.partition == partition)
            .is_none()
        {
            found
                .create(PartitionIdentity::new(partition))
                .map_err(in_dir(&stream.path))?;
        }
    }
    let is_carried = !super::carriers(agent, &name).is_empty();
    let mut chains = Vec::new();
    for known in found.found() {
        let number = known.identity.partition;
        let takes = partitions.is_some_and(|partitions| number < partitions);
        // Keys land elsewhere now: the logs of the old arrangement end, so that a reader sees where it changed.
        let logs = open_chain(data, known, takes, is_carried, moved, options)?;
        if let Some(head) = logs.last().filter(|_| takes) {
            tell_size(&name, number, head, options);
        }
        left.removed
            .extend(removed::of(&name, &known.identity, &logs));
        if logs.is_empty() {
            left.devices.extend(known.identity.stood());
        } else {
            chains.push(Chain {
                stream: name.clone(),
                partition: number,
                logs,
                draining: !takes,
                identity: Arc::new(Mutex::new(known.clone())),
                options: options.clone(),
            });
        }
    }
    if let Some(partitions) = partitions.filter(|_| moved) {
        let identity = StreamIdentity {
            partitions,
            ..stream.identity.clone()
        };
        let path = stream.path.clone();
        stream.rewrite(identity).map_err(in_dir(&path))?;
    }
    chains.sort_by_key(|chain| chain.partition);
    Ok(chains)
}

/// Opens the logs of one partition. If it `takes` events, the last of them can; all others have ended. Without an uplink that carries it nothing is told of it.
fn open_chain(
    data: &DataDir,
    partition: &Numbered<PartitionIdentity>,
    takes: bool,
    is_carried: bool,
    end_all: bool,
    options: &PartitionOptions,
) -> Result<Vec<OpenLog>, DiskError> {
    let path = &*partition.path;
    let mut found = data
        .numbered::<LogIdentity>(relative(data, path))
        .map_err(in_dir(path))?;
    let mut logs = Vec::new();
    let wants_head =
        |logs: &[OpenLog]| takes || (is_carried && told::is_owed(logs, &partition.identity));
    let known = found.found().to_vec();
    for (at, identity) in known.iter().enumerate() {
        let is_last = at + 1 == known.len();
        let goes_on = takes && is_last && !end_all && !identity.identity.ended;
        let capacity = if is_last && takes {
            options.capacity_bytes
        } else {
            match bytes_in(&identity.path).map_err(in_dir(path))? {
                0 => DRAIN_BYTES_MIN,
                bytes => bytes,
            }
        };
        let mut log = open_log(
            identity.clone(),
            &PartitionOptions {
                capacity_bytes: capacity,
                shrink_for: options.shrink_for.clone().filter(|_| goes_on),
                ..options.clone()
            },
        )?;
        // One in which nothing stands yet is as good as new: a change that was broken off made it.
        let is_new = log.partition.next() == sedge_core::Offset::ZERO && !identity.identity.ended;
        let goes_on = goes_on || (is_last && is_new && wants_head(&logs));
        // A life that was to end it may have come no further than the log itself.
        if !goes_on || log.at_end {
            log.finish().map_err(in_dir(path))?;
        }
        let behind = shift_behind(&logs, &partition.identity, log.place);
        log.stands_behind(behind);
        logs.push(log);
    }
    if logs.last().is_none_or(OpenLog::is_ended) && wants_head(&logs) {
        let place = place_behind(&logs, &partition.identity);
        let mut options = options.clone();
        if !takes {
            options.capacity_bytes = DRAIN_BYTES_MIN;
        }
        let next = next_log(&mut found, place, &options).map_err(in_dir(path));
        match next.and_then(|next| Ok(next?)) {
            Ok(mut next) => {
                let behind = shift_behind(&logs, &partition.identity, place);
                next.stands_behind(behind);
                logs.push(next);
            }
            // Nobody waits for it but what it is to tell.
            Err(error) if !takes => {
                tracing::warn!(%error, "what only a log has that was set aside is not told now; the next start tries again");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(logs)
}

/// The place behind all logs that a partition has, and all that it ever had.
fn place_behind(logs: &[OpenLog], partition: &PartitionIdentity) -> u16 {
    let behind = logs.iter().map(|log| log.place.saturating_add(1)).max();
    behind.unwrap_or(0).max(partition.next_place)
}

fn next_log(
    found: &mut Section<'_, LogIdentity>,
    place: u16,
    options: &PartitionOptions,
) -> io::Result<Result<OpenLog, OpenError>> {
    Ok(open_log(
        found.create(LogIdentity {
            chain: place,
            ended: false,
            diverged: false,
            announced: false,
            told: false,
            passed: false,
            shift: None,
        })?,
        options,
    ))
}

fn open_log(
    identity: Numbered<LogIdentity>,
    options: &PartitionOptions,
) -> Result<OpenLog, OpenError> {
    let (claims, owner) = Claims::new();
    let clock = options.time.clone().map_or_else(system_clock, |time| {
        let clock: Clock = Arc::new(move || time.now());
        clock
    });
    let (partition, opened) =
        Partition::open(&identity.path, options.clone(), Box::new(owner), clock)?;
    tell(&identity.path, &partition, &opened);
    Ok(OpenLog {
        place: identity.identity.chain,
        shift: identity.identity.shift.unwrap_or(0),
        drained: BTreeSet::new(),
        partition,
        claims,
        identity,
        at_end: opened.ended,
        opened,
    })
}

fn tell(path: &Path, partition: &Partition, opened: &Opened) {
    let (oldest, next) = (partition.oldest().get(), partition.next().get());
    tracing::debug!(path = %path.display(), log = %partition.log_id(), oldest, next, ?opened, "log open");
}

/// Says how the size of the log that takes events differs from what is configured, and what can be done about it.
fn tell_size(stream: &str, partition: u16, log: &OpenLog, options: &PartitionOptions) {
    let (opened, capacity_bytes) = (&log.opened, options.capacity_bytes);
    let holds_bytes = opened.disk_bytes();
    if let Some(shrunk) = opened.shrunk {
        let before_bytes = u64::from(shrunk.segments) * u64::from(opened.segment_bytes);
        let (evicted, handed_over) = (shrunk.evicted, shrunk.handed_over);
        tracing::warn!(
            stream,
            partition,
            before_bytes,
            holds_bytes,
            capacity_bytes,
            evicted,
            handed_over,
            "the log was made smaller: what was evicted is lost, what was handed over had reached every uplink"
        );
    } else if opened.keeps_more() && options.shrink_for.is_some() {
        tracing::warn!(
            stream,
            partition,
            holds_bytes,
            capacity_bytes,
            "the log is larger than its capacity and cannot be made smaller while it is full and may not evict"
        );
    } else if opened.keeps_more() {
        tracing::warn!(
            stream,
            partition,
            holds_bytes,
            capacity_bytes,
            "the log is larger than its capacity and stays so; start the agent once with --allow-eviction to make it smaller by its oldest events"
        );
    } else if holds_bytes > capacity_bytes {
        tracing::info!(
            stream,
            partition,
            holds_bytes,
            capacity_bytes,
            "the log is as small as its segments let it be"
        );
    }
}

impl OpenLog {
    /// Nothing more goes into this log; it is read until the uplinks have it.
    fn finish(&mut self) -> io::Result<()> {
        if !self.at_end {
            self.partition.end();
        }
        if self.identity.identity.ended {
            return Ok(());
        }
        let ended = LogIdentity {
            ended: true,
            ..self.identity.identity.clone()
        };
        self.identity.rewrite(ended)
    }

    /// Whether it ended so that live records pass it: the next log knows what it knew.
    pub(crate) fn is_passed(&self) -> bool {
        self.identity.identity.passed
    }

    /// Whether a hub may be offered it, and not only its end.
    pub(crate) fn is_offered(&self) -> bool {
        !self.identity.identity.diverged
    }

    /// Bytes that its files take.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.opened.disk_bytes()
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.identity.path
    }

    /// Whether it is ended: nothing follows its last offset.
    pub(crate) fn is_ended(&self) -> bool {
        self.identity.identity.ended
    }
}

/// What the segments of a log take: a log that only drains keeps its size.
fn bytes_in(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for file in files::read_dir(path)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("seg-") {
            bytes += files::len(&file)?;
        }
    }
    Ok(bytes)
}

fn relative(data: &DataDir, path: &Path) -> PathBuf {
    path.strip_prefix(data.root())
        .expect("it was found in there")
        .to_owned()
}

fn in_dir(path: &Path) -> impl Fn(io::Error) -> DiskError {
    move |source| DiskError::Io {
        path: path.to_owned(),
        source,
    }
}

/// A log that drains and has no files yet gets so many bytes of them.
const DRAIN_BYTES_MIN: u64 = 1 << 20;

#[cfg(test)]
mod tests;
