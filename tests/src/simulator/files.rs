//! The disk of a simulated machine: a file system with a page cache, which a kill spares and a power cut does not.
//!
//! ```text
//! program ──► page cache ──sync──► disk      power cut: of each sector that was not synced either state, of each
//!             (what reads show)              change to a directory that was not synced either outcome
//! ```
//! Every operation counts, so that a machine can go down inside any of them. Handles of an earlier life are dead.

pub(super) mod rot;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::io::Errno;
use sedge_core::segment::STAMP_LEN;
use sedge_store::disk::{Files, Kind, Open, Opened};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::failure::{Call, Failures, Way};
use super::story::Story;
use crate::random::Random;

/// A machine's disk. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    state: Arc<Mutex<State>>,
    /// Rung when the machine goes down inside an operation.
    pub(super) went_down: Arc<Notify>,
    story: Story,
    machine: u64,
}

#[derive(Debug)]
struct State {
    random: Random,
    capacity: u64,
    /// What others on this machine have written.
    foreign: u64,
    life: u64,
    down: bool,
    /// Operations that are left before the machine goes down.
    fuse: Option<u64>,
    /// Syncs say that they have worked, and do nothing.
    lies: bool,
    /// Syncs that are left before one fails.
    bad_sync: Option<u64>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// What stands where, as programs see it, and as it is on the disk.
    names: BTreeMap<PathBuf, Node>,
    durable_names: BTreeMap<PathBuf, Node>,
    /// Changes of names that no sync has made durable.
    pending: Vec<Change>,
    /// What somebody has taken a copy of.
    copy: Option<Content>,
    /// Pages that cannot be read until then.
    unreadable: BTreeMap<(u64, u64), Instant>,
    /// Pages that keep what they have for ever: a sync that is to write one fails, each time.
    worn: BTreeSet<(u64, u64)>,
    /// Who was written to last, of the files of each directory.
    heads: BTreeMap<PathBuf, u64>,
    failures: Failures,
}

/// All files of a disk.
#[derive(Clone, Debug)]
struct Content {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(u64),
}

#[derive(Clone, Debug)]
enum Change {
    Made(PathBuf, Node),
    Removed(PathBuf),
    Renamed(PathBuf, PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    len: u64,
    durable_len: u64,
    /// `None` is zeros.
    pages: BTreeMap<u64, Page>,
    /// What the disk has where the cache has something newer; the sync that would have written it has not come.
    dirty: BTreeMap<u64, Option<Page>>,
    /// The same, behind a sync that failed: no later sync will write it.
    lost: BTreeMap<u64, Option<Page>>,
    locked_by: Option<u64>,
}

type Page = Box<[u8; PAGE_BYTES]>;

/// How a machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Down {
    /// The process is told to stop, and does.
    Stop,
    /// The process is killed: the page cache stays.
    Kill,
    /// The machine loses power.
    PowerCut,
}

impl Down {
    /// What it is called.
    #[must_use]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stop => "a stop",
            Self::Kill => "a kill",
            Self::PowerCut => "a power cut",
        }
    }
}

impl Disk {
    /// An empty disk of `capacity` bytes.
    #[must_use]
    pub(super) fn new(machine: u64, seed: u64, capacity: u64, story: Story) -> Self {
        let names = bare();
        let state = State {
            random: Random::new(seed),
            capacity,
            foreign: 0,
            life: 0,
            down: false,
            fuse: None,
            lies: false,
            bad_sync: None,
            inodes: BTreeMap::new(),
            next_inode: 0,
            durable_names: names.clone(),
            names,
            pending: Vec::new(),
            copy: None,
            unreadable: BTreeMap::new(),
            worn: BTreeSet::new(),
            heads: BTreeMap::new(),
            failures: Failures::default(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            went_down: Arc::default(),
            story,
            machine,
        }
    }

    /// The machine goes down inside the operation behind the next `operations`.
    pub(super) fn arm(&self, operations: u64) {
        self.lock().fuse = Some(operations);
    }

    /// One of the next syncs fails.
    pub(super) fn spoil_sync(&self, syncs: u64) {
        self.lock().bad_sync = Some(syncs);
    }

    /// What has become of calls, and is to become of them.
    pub(super) fn failures<T>(&self, with: impl FnOnce(&mut Failures) -> T) -> T {
        with(&mut self.lock().failures)
    }

    /// From now on syncs do nothing.
    pub(super) fn lie(&self) {
        self.lock().lies = true;
    }

    /// Others fill the disk up to so many free bytes, or leave again.
    pub(super) fn leave_free(&self, bytes: Option<u64>) {
        let mut state = self.lock();
        let used = state.used();
        state.foreign = bytes.map_or(0, |free| state.capacity.saturating_sub(used + free));
    }

    /// No planned trouble comes any more.
    pub(super) fn heal(&self) {
        let mut state = self.lock();
        (state.fuse, state.bad_sync, state.foreign) = (None, None, 0);
        state.unreadable.clear();
    }

    /// The machine is down: nothing works until [`Disk::come_up`].
    pub(super) fn go_down(&self) {
        let mut state = self.lock();
        state.down = true;
        state.fuse = None;
    }

    /// A new life begins with what the way it went down has left.
    pub(super) fn come_up(&self, down: Down) {
        let mut state = self.lock();
        if down == Down::PowerCut {
            state.lose_power();
        }
        state.life += 1;
        (state.down, state.fuse) = (false, None);
        for inode in state.inodes.values_mut() {
            inode.locked_by = None;
        }
    }

    /// Somebody takes a copy of all files.
    pub(super) fn take_copy(&self) {
        let mut state = self.lock();
        state.copy = Some(Content {
            inodes: state.inodes.clone(),
            names: state.names.clone(),
        });
    }

    /// Everything is as in the copy that was taken last.
    pub(super) fn put_back(&self) {
        let mut state = self.lock();
        let copy = state.copy.clone().expect("a copy was taken");
        state.hold(copy);
    }

    /// Everything is as in the copy of `other`, which is another machine's, in the place of that machine's directory.
    pub(super) fn become_copy_of(&self, other: &Self, theirs: &Path, ours: &Path) {
        let mut copy = other.lock().copy.clone().expect("a copy was taken");
        State::relocate(&mut copy.names, theirs, ours);
        self.lock().hold(copy);
    }

    /// Another disk, with nothing on it.
    pub(super) fn exchange(&self) {
        let nothing = Content {
            inodes: BTreeMap::new(),
            names: bare(),
        };
        self.lock().hold(nothing);
    }

    /// A page of a log cannot be read for so long. Whether there is one.
    pub(super) fn hide_page(&self, length: Duration) -> bool {
        let mut state = self.lock();
        let Some(place) = state.any_page(false) else {
            return false;
        };
        state.unreadable.insert(place, Instant::now() + length);
        true
    }

    /// A page of a log takes no writes any more. Whether there is one.
    pub(super) fn wear_out(&self) -> bool {
        let mut state = self.lock();
        let Some(place) = state.any_place() else {
            return false;
        };
        state.worn.insert(place)
    }

    /// Pages that take no writes.
    #[must_use]
    pub(super) fn worn(&self) -> usize {
        self.lock().worn.len()
    }

    /// Directories that are `depth` levels below `dir`.
    #[must_use]
    pub(super) fn directories(&self, dir: &Path, depth: usize) -> usize {
        let state = self.lock();
        let is_it = |(path, node): &(&PathBuf, &Node)| {
            let below = path.strip_prefix(dir).map(|rest| rest.components().count());
            **node == Node::Directory && below == Ok(depth)
        };
        state.names.iter().filter(is_it).count()
    }

    /// Bytes that files take.
    #[must_use]
    pub(super) fn used(&self) -> u64 {
        self.lock().used()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Counts an operation. The `bool`: the machine goes down inside it.
    fn begin(
        &self,
        life: Option<u64>,
        call: Call,
        where_to: u64,
    ) -> io::Result<(MutexGuard<'_, State>, bool)> {
        match self.begin_or_fail(life, call, where_to)? {
            (state, is_last, None) => Ok((state, is_last)),
            (_, _, Some(way)) => Err(way.error()),
        }
    }

    /// The same, for a call that does something though it fails.
    fn begin_or_fail(
        &self,
        life: Option<u64>,
        call: Call,
        where_to: u64,
    ) -> io::Result<(MutexGuard<'_, State>, bool, Option<Way>)> {
        let mut state = self.lock();
        if state.down || life.is_some_and(|life| life != state.life) {
            return Err(Errno::IO.into());
        }
        let way = state.failures.way_of(call);
        if let Some(way) = way {
            self.story.tell(&format!(
                "machine {}: {call:?} fails: {way:?}",
                self.machine
            ));
        }
        self.story.mix(&[self.machine, call as u64, where_to]);
        let is_last = state.fuse == Some(0);
        state.fuse = state.fuse.map(|left| left.saturating_sub(1));
        if is_last {
            state.fuse = None;
            state.down = true;
            self.went_down.notify_one();
        }
        Ok((state, is_last, way))
    }

    fn change(
        &self,
        what: Call,
        change: impl FnOnce(&mut State) -> io::Result<Change>,
    ) -> io::Result<()> {
        let (mut state, is_last) = self.begin(None, what, 0)?;
        if is_last && state.random.one_in(2) {
            return Err(Errno::IO.into());
        }
        let change = change(&mut state)?;
        state.pending.push(change);
        if is_last {
            return Err(Errno::IO.into());
        }
        Ok(())
    }
}

impl State {
    /// All of `content` is on the disk, and nothing else.
    fn hold(&mut self, content: Content) {
        let Content { mut inodes, names } = content;
        for inode in inodes.values_mut() {
            inode.dirty.clear();
            inode.lost.clear();
            inode.durable_len = inode.len;
            inode.locked_by = None;
        }
        self.next_inode = self
            .next_inode
            .max(inodes.keys().last().map_or(0, |at| at + 1));
        self.inodes = inodes;
        self.durable_names = names.clone();
        self.names = names;
        self.pending.clear();
    }

    fn is_readable(&self, inode: u64, position: u64, bytes: usize) -> bool {
        let pages =
            (position / PAGE_BYTES as u64)..(position + bytes as u64).div_ceil(PAGE_BYTES as u64);
        let places = self
            .unreadable
            .range((inode, pages.start)..(inode, pages.end));
        places
            .map(|(_, until)| until)
            .all(|until| *until <= Instant::now())
    }

    fn used(&self) -> u64 {
        let live = self.names.values().filter_map(|node| match node {
            Node::File(inode) => self.inodes.get(inode),
            Node::Directory => None,
        });
        live.map(|inode| inode.len).sum()
    }

    fn take_room(&self, bytes: u64) -> io::Result<()> {
        if self.used() + self.foreign + bytes > self.capacity {
            return Err(Errno::NOSPC.into());
        }
        Ok(())
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        self.names.get(path).copied().ok_or(Errno::NOENT.into())
    }

    /// Makes what stands at `path` and under it stand at `to`.
    fn relocate(names: &mut BTreeMap<PathBuf, Node>, from: &Path, to: &Path) -> bool {
        let moved: Vec<PathBuf> = names
            .keys()
            .filter(|p| p.starts_with(from))
            .cloned()
            .collect();
        if moved.is_empty() || !to.parent().is_some_and(|dir| names.contains_key(dir)) {
            return false;
        }
        for path in moved {
            let rest = path.strip_prefix(from).expect("it starts with it");
            let target = match rest.as_os_str().is_empty() {
                true => to.to_owned(),
                false => to.join(rest),
            };
            let node = names.remove(&path).expect("it was just listed");
            names.insert(target, node);
        }
        true
    }

    fn apply(names: &mut BTreeMap<PathBuf, Node>, change: &Change) {
        match change {
            Change::Made(path, node) => {
                if path.parent().is_some_and(|dir| names.contains_key(dir)) {
                    names.insert(path.clone(), *node);
                }
            }
            Change::Removed(path) => names.retain(|p, _| !p.starts_with(path)),
            Change::Renamed(from, to) => drop(Self::relocate(names, from, to)),
        }
    }

    fn sync_dir(&mut self, dir: &Path) {
        let pending = std::mem::take(&mut self.pending);
        for change in pending {
            // With a directory, the way to it becomes durable.
            let in_dir = |path: &PathBuf| path.parent() == Some(dir) || dir.starts_with(path);
            let is_here = match &change {
                Change::Made(path, _) | Change::Removed(path) => in_dir(path),
                Change::Renamed(from, to) => in_dir(from) || in_dir(to),
            };
            match is_here {
                true => Self::apply(&mut self.durable_names, &change),
                false => self.pending.push(change),
            }
        }
    }

    fn lose_power(&mut self) {
        // A journal writes changes in their order; without one, any of them may be there.
        let in_order = self.random.one_in(2);
        let kept = self.random.index(self.pending.len() + 1);
        for (at, change) in std::mem::take(&mut self.pending).iter().enumerate() {
            let is_kept = match in_order {
                true => at < kept,
                false => self.random.one_in(2),
            };
            if is_kept {
                Self::apply(&mut self.durable_names, change);
            }
        }
        self.names = self.durable_names.clone();
        let random = &mut self.random;
        for inode in self.inodes.values_mut() {
            inode.lose_power(random);
        }
    }
}

impl Inode {
    fn write(&mut self, bytes: &[u8], position: u64) {
        let mut at = 0;
        while at < bytes.len() {
            let here = position + at as u64;
            let (page, within) = (
                here / PAGE_BYTES as u64,
                (here % PAGE_BYTES as u64) as usize,
            );
            let n = (PAGE_BYTES - within).min(bytes.len() - at);
            let part = &bytes[at..at + n];
            let held = self.pages.get(&page);
            self.dirty.entry(page).or_insert_with(|| held.cloned());
            if held.is_some() || !is_blank(part) {
                let page = self.pages.entry(page).or_insert_with(blank);
                page[within..within + n].copy_from_slice(part);
            }
            at += n;
        }
        self.len = self.len.max(position + bytes.len() as u64);
    }

    fn read(&self, into: &mut [u8], position: u64) -> usize {
        let end = into.len().min(self.len.saturating_sub(position) as usize);
        let mut at = 0;
        while at < end {
            let here = position + at as u64;
            let (page, within) = (
                here / PAGE_BYTES as u64,
                (here % PAGE_BYTES as u64) as usize,
            );
            let n = (PAGE_BYTES - within).min(end - at);
            match self.pages.get(&page) {
                Some(page) => into[at..at + n].copy_from_slice(&page[within..within + n]),
                None => into[at..at + n].fill(0),
            }
            at += n;
        }
        end
    }

    fn sync(&mut self) {
        for page in self.dirty.keys() {
            self.lost.remove(page);
        }
        self.dirty.clear();
        self.durable_len = self.len;
    }

    /// The same, and these pages pass for written, and are not.
    fn sync_all_but(&mut self, worn: &[u64]) {
        let missing: Vec<(u64, Option<Page>)> = worn
            .iter()
            .filter_map(|page| self.dirty.remove_entry(page))
            .collect();
        self.sync();
        for (page, old) in missing {
            self.lost.entry(page).or_insert(old);
        }
    }

    /// The pages pass for written, and are not.
    fn fail_sync(&mut self) {
        for (page, old) in std::mem::take(&mut self.dirty) {
            self.lost.entry(page).or_insert(old);
        }
    }

    fn put(&mut self, page: u64, content: Option<Page>) {
        match content {
            Some(content) => drop(self.pages.insert(page, content)),
            None => drop(self.pages.remove(&page)),
        }
    }

    fn forget_lost(&mut self) {
        for (page, old) in std::mem::take(&mut self.lost) {
            if !self.dirty.contains_key(&page) {
                self.put(page, old);
            }
        }
    }

    fn lose_power(&mut self, random: &mut Random) {
        // Nothing of it, all of it, or any part.
        let mode = random.below(6);
        let lost = std::mem::take(&mut self.lost);
        for (page, old) in std::mem::take(&mut self.dirty) {
            let mut there = old.unwrap_or_else(blank);
            let new = self.pages.get(&page).cloned().unwrap_or_else(blank);
            for sector in (0..PAGE_BYTES).step_by(SECTOR_BYTES) {
                let range = sector..sector + SECTOR_BYTES;
                let chance = match mode {
                    0 => 7,
                    1 => 0,
                    _ => random.below(8),
                };
                match chance {
                    0..=3 => there[range.clone()].copy_from_slice(&new[range]),
                    // Torn within the sector: a part of it, from its beginning on.
                    4 => {
                        let torn = sector..sector + random.index(SECTOR_BYTES);
                        there[torn.clone()].copy_from_slice(&new[torn]);
                    }
                    _ => {}
                }
            }
            self.put(page, Some(there));
        }
        for (page, old) in lost {
            self.put(page, old);
        }
        if self.len != self.durable_len && random.one_in(2) {
            self.len = self.durable_len;
        }
        self.durable_len = self.len;
        let end = self.len.div_ceil(PAGE_BYTES as u64);
        self.pages.retain(|page, _| *page < end);
    }
}

impl Files for Disk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn Opened>> {
        let call = match how {
            Open::Read | Open::Write => Call::Open,
            Open::Create | Open::Keep => Call::Create,
        };
        let (mut state, is_last) = self.begin(None, call, 0)?;
        if is_last {
            return Err(Errno::IO.into());
        }
        let inode = match (state.node(path), how) {
            (Ok(Node::Directory), _) => return Err(Errno::ISDIR.into()),
            (Ok(Node::File(inode)), Open::Create) => {
                let held = state.inodes.get_mut(&inode).expect("a name has its file");
                let pages: Vec<u64> = held.pages.keys().copied().collect();
                for page in pages {
                    let old = held.pages.remove(&page);
                    held.dirty.entry(page).or_insert(old);
                }
                held.len = 0;
                inode
            }
            (Ok(Node::File(inode)), _) => inode,
            (Err(e), Open::Read | Open::Write) => return Err(e),
            (Err(_), Open::Create | Open::Keep) => {
                let dir = path.parent().unwrap_or(Path::new("/"));
                state.node(dir)?;
                state.take_room(PAGE_BYTES as u64)?;
                let inode = state.next_inode;
                state.next_inode += 1;
                state.inodes.insert(inode, Inode::default());
                let node = Node::File(inode);
                state.names.insert(path.to_owned(), node);
                state.pending.push(Change::Made(path.to_owned(), node));
                inode
            }
        };
        let life = state.life;
        drop(state);
        Ok(Box::new(Handle {
            disk: self.clone(),
            inode,
            dir: path
                .extension()
                .filter(|e| *e == "log")
                .and_then(|_| path.parent())
                .map(Path::to_owned),
            life,
            locks: Mutex::new(false),
        }))
    }

    fn kind(&self, path: &Path) -> Option<Kind> {
        // Who cannot look takes it that nothing is there.
        let (state, _) = self.begin(None, Call::Look, 0).ok()?;
        match state.names.get(path)? {
            Node::Directory => Some(Kind::Directory),
            Node::File(_) => Some(Kind::File),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Call::Rename, |state| {
            if state.node(from)? == Node::Directory && state.names.contains_key(to) {
                return Err(Errno::NOTEMPTY.into());
            }
            match State::relocate(&mut state.names, from, to) {
                true => Ok(Change::Renamed(from.to_owned(), to.to_owned())),
                false => Err(Errno::NOENT.into()),
            }
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(Call::Remove, |state| match state.node(path)? {
            Node::Directory => Err(Errno::ISDIR.into()),
            Node::File(_) => {
                state.names.remove(path);
                Ok(Change::Removed(path.to_owned()))
            }
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change(Call::RemoveDir, |state| {
            state.node(path)?;
            state.names.retain(|p, _| !p.starts_with(path));
            Ok(Change::Removed(path.to_owned()))
        })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change(Call::MakeDir, |state| {
            if state.node(path).is_ok() {
                return Err(Errno::EXIST.into());
            }
            state.node(path.parent().unwrap_or(Path::new("/")))?;
            state.names.insert(path.to_owned(), Node::Directory);
            Ok(Change::Made(path.to_owned(), Node::Directory))
        })
    }

    fn free(&self, _path: &Path) -> io::Result<u64> {
        let (state, _) = self.begin(None, Call::ReadDir, 0)?;
        let taken = state.used() + state.foreign;
        Ok(state.capacity.saturating_sub(taken))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let (state, _) = self.begin(None, Call::ReadDir, 0)?;
        match state.node(path)? {
            Node::File(_) => Err(Errno::NOTDIR.into()),
            Node::Directory => {
                let within = state.names.range(path.to_owned()..);
                let within = within.map(|(p, _)| p).take_while(|p| p.starts_with(path));
                Ok(within
                    .filter(|p| p.parent() == Some(path))
                    .cloned()
                    .collect())
            }
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let (mut state, is_last) = self.begin(None, Call::SyncDir, 0)?;
        if is_last && state.random.one_in(2) {
            return Err(Errno::IO.into());
        }
        state.sync_dir(path);
        match is_last {
            true => Err(Errno::IO.into()),
            false => Ok(()),
        }
    }
}

/// An open file.
#[derive(Debug)]
struct Handle {
    disk: Disk,
    inode: u64,
    /// Of a segment: where its log is.
    dir: Option<PathBuf>,
    life: u64,
    locks: Mutex<bool>,
}

impl Handle {
    fn begin(&self, call: Call, where_to: u64) -> io::Result<(MutexGuard<'_, State>, bool)> {
        self.disk
            .begin(Some(self.life), call, where_to ^ (self.inode << 40))
    }

    fn begin_or_fail(
        &self,
        call: Call,
        where_to: u64,
    ) -> io::Result<(MutexGuard<'_, State>, bool, Option<Way>)> {
        self.disk
            .begin_or_fail(Some(self.life), call, where_to ^ (self.inode << 40))
    }
}

impl Opened for Handle {
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        let (state, is_last) = self.begin(Call::Read, position)?;
        match is_last || !state.is_readable(self.inode, position, into.len()) {
            true => Err(Errno::IO.into()),
            false => Ok(state.inodes[&self.inode].read(into, position)),
        }
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let (mut state, is_last, fails) = self.begin_or_fail(Call::Write, position)?;
        let more = (position + bytes.len() as u64).saturating_sub(state.inodes[&self.inode].len);
        if more > 0 {
            state.take_room(more)?;
        }
        let written = match (is_last, fails) {
            (true, _) => state.random.index(bytes.len() + 1),
            (false, Some(way)) if way.is_short() => bytes.len() / 2,
            (false, Some(_)) => 0,
            (false, None) => bytes.len(),
        };
        let inode = state.inodes.get_mut(&self.inode).expect("it is open");
        if written > 0 {
            inode.write(&bytes[..written], position);
        }
        // Zeros are written to a segment before it is used, and a stamp when it is made ready: another one is written to still.
        let is_filled = !is_blank(bytes) && position + bytes.len() as u64 > STAMP_LEN as u64;
        if let Some(dir) = self.dir.as_ref().filter(|_| is_filled) {
            state.heads.insert(dir.clone(), self.inode);
        }
        match (is_last, fails) {
            (_, Some(way)) => Err(way.error()),
            (true, None) => Err(Errno::IO.into()),
            (false, None) => Ok(()),
        }
    }

    fn length(&self) -> io::Result<u64> {
        let (state, _) = self.begin(Call::Length, 0)?;
        Ok(state.inodes[&self.inode].len)
    }

    fn set_len(&self, bytes: u64, reserve: bool) -> io::Result<()> {
        let (mut state, is_last) = self.begin(Call::SetLength, bytes)?;
        if is_last {
            return Err(Errno::IO.into());
        }
        let len = state.inodes[&self.inode].len;
        if bytes > len {
            state.take_room(bytes - len)?;
        }
        let inode = state.inodes.get_mut(&self.inode).expect("it is open");
        if reserve {
            inode.len = len.max(bytes);
        } else {
            inode.len = bytes;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let (mut state, is_last, way) = self.begin_or_fail(Call::Sync, 0)?;
        if let Some(way) = way.filter(|way| *way != Way::Dropped) {
            return Err(way.error());
        }
        if is_last && state.random.one_in(2) {
            return Err(Errno::IO.into());
        }
        if state.lies {
            return Ok(());
        }
        let fails = state.bad_sync == Some(0) || way.is_some();
        state.bad_sync = state.bad_sync.filter(|_| !fails).map(|left| left - 1);
        let of_this = state.worn.range((self.inode, 0)..=(self.inode, u64::MAX));
        let mut worn: Vec<u64> = of_this.map(|(_, page)| *page).collect();
        let inode = state.inodes.get_mut(&self.inode).expect("it is open");
        worn.retain(|page| inode.dirty.contains_key(page));
        match fails {
            true => inode.fail_sync(),
            false => inode.sync_all_but(&worn),
        }
        match fails || is_last || !worn.is_empty() {
            true => Err(Errno::IO.into()),
            false => Ok(()),
        }
    }

    fn forget_cached(&self) {
        if let Ok((mut state, false)) = self.begin(Call::Forget, 0) {
            let inode = state.inodes.get_mut(&self.inode).expect("it is open");
            inode.forget_lost();
        }
    }

    fn lock(&self) -> io::Result<bool> {
        let (mut state, _) = self.begin(Call::Lock, 0)?;
        let inode = state.inodes.get_mut(&self.inode).expect("it is open");
        if inode.locked_by == Some(self.life) {
            return Ok(false);
        }
        inode.locked_by = Some(self.life);
        *self.locks.lock().expect("no holder panics") = true;
        Ok(true)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !*self.locks.lock().expect("no holder panics") {
            return;
        }
        let mut state = self.disk.lock();
        if state.life == self.life
            && let Some(inode) = state.inodes.get_mut(&self.inode)
        {
            inode.locked_by = None;
        }
    }
}

/// The names on an empty disk.
fn bare() -> BTreeMap<PathBuf, Node> {
    let root = PathBuf::from(super::ROOT);
    let ways = root.ancestors();
    ways.map(|path| (path.to_owned(), Node::Directory))
        .collect()
}

fn is_blank(bytes: &[u8]) -> bool {
    let is_zero = |block: &[u8]| block.iter().fold(0, |all, byte| all | byte) == 0;
    bytes.chunks(256).all(is_zero)
}

fn blank() -> Page {
    Box::new([0; PAGE_BYTES])
}

const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;
