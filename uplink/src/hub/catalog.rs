//! The hub's index in SQLite: gateways, streams, partitions and their numbers; groups and their offsets.
//!
//! It is beside the data, never in front of it: no Ack waits for it, and all but the groups' offsets can be read again from the identity files.
//! A catalog that fails its check is set aside; the last copy takes its place, or an empty one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, ffi, params};

use sedge_store::{Patience, system_clock};

use crate::wire::Place;

/// The open catalog.
#[derive(Debug)]
pub(crate) struct Catalog {
    place: CatalogPlace,
    connection: Mutex<Connection>,
}

/// Where a catalog and its copy are, and where a bad one goes.
#[derive(Clone, Debug)]
struct CatalogPlace {
    main: PathBuf,
    copy: PathBuf,
    aside: PathBuf,
}

/// A partition that the catalog knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownPartition {
    pub(crate) stream: String,
    pub(crate) number: u32,
    pub(crate) gateway: String,
    pub(crate) partition: u16,
}

/// How far a group has come in one run of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupPlace {
    pub(crate) group: String,
    pub(crate) stream: String,
    pub(crate) place: Place,
}

/// How far a group has come in one run of a partition, as it was told over Kafka's protocol or HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) stream: String,
    pub(crate) place: Place,
    /// Epoch of the log that was read last; -1 is not told.
    pub(crate) epoch: i32,
    /// What the consumer wants to find beside it.
    pub(crate) note: String,
}

/// What becomes of the places of a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revision {
    /// First these are forgotten: a partition of a stream, or all of a stream.
    pub(crate) forgotten: Vec<(String, Option<u32>)>,
    /// Then these are put down; of one partition in the order of their runs.
    pub(crate) kept: Vec<Kept>,
}

/// What came of a [`Revision`].
#[derive(Debug)]
pub(crate) enum Revised {
    /// It is done.
    Done {
        /// In force now, in the order of the streams.
        generations: Vec<u64>,
        /// All places of the group, as they are now; none if nobody looked at them before.
        after: Vec<Kept>,
    },
    /// The places are not as they should be; nothing is changed.
    IsOtherwise,
    /// There would be too many groups; nothing is changed.
    TooMany,
}

impl Catalog {
    /// Opens the catalog in `dir`, or what can be had in its place.
    ///
    /// # Errors
    /// When not even an empty one can be made.
    pub(crate) fn open(dir: &Path) -> Result<Self, CatalogError> {
        let is_real = !sedge_store::world::is_simulated();
        let place = CatalogPlace {
            main: dir.join(MAIN),
            copy: dir.join(COPY),
            aside: dir.join("set-aside"),
        };
        let connection = match is_real {
            true => place.open().map_err(|e| e.at(&place.main))?,
            // SQLite stands on files of its own, which no simulation cuts: there, each life begins without a catalog.
            false => open_checked(Path::new(":memory:"))?,
        };
        let connection = Mutex::new(connection);
        Ok(Self { place, connection })
    }

    /// Makes sure that `known` stands in the catalog, its gateway and stream with it.
    ///
    /// # Errors
    /// When the catalog cannot be written.
    pub(crate) fn note(&self, known: &[KnownPartition]) -> Result<(), CatalogError> {
        self.write(|tx| {
            for k in known {
                tx.execute("INSERT OR IGNORE INTO gateway(name) VALUES (?1)", [&k.gateway])?;
                tx.execute("INSERT OR IGNORE INTO stream(name) VALUES (?1)", [&k.stream])?;
                tx.execute(
                    "INSERT OR REPLACE INTO partition(stream, number, gateway, partition) VALUES (?1, ?2, ?3, ?4)",
                    params![k.stream, k.number, k.gateway, k.partition],
                )?;
            }
            Ok(())
        })
    }

    /// Every partition that was ever noted.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub(crate) fn partitions(&self) -> Result<Vec<KnownPartition>, CatalogError> {
        let connection = self.lock();
        let mut query =
            connection.prepare("SELECT stream, number, gateway, partition FROM partition")?;
        let rows = query.query_map([], |row| {
            let (stream, gateway) = (row.get(0)?, row.get(2)?);
            Ok(KnownPartition {
                stream,
                number: row.get(1)?,
                gateway,
                partition: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A member joins: the group's next generation and its offsets.
    ///
    /// # Errors
    /// When the catalog cannot be written.
    pub(crate) fn join(
        &self,
        group: &str,
        stream: &str,
    ) -> Result<Option<(u64, Vec<Place>)>, CatalogError> {
        self.write(|tx| {
            if generation_of(tx, group, stream)?.is_none() && !has_room_for_group(tx)? {
                return Ok(None);
            }
            let generation = next_generation(tx, group, stream)?;
            let mut query = tx.prepare(
                "SELECT number, first, next FROM group_run WHERE name = ?1 AND stream = ?2",
            )?;
            let places = query.query_map([group, stream], |row| place(row, 0))?;
            Ok(Some((generation, places.collect::<Result<_, _>>()?)))
        })
    }

    /// A member of `generation` has come to `places`. False, and nothing is changed, when that is not the newest generation.
    ///
    /// # Errors
    /// When the catalog cannot be written.
    pub(crate) fn commit(
        &self,
        group: &str,
        stream: &str,
        generation: u64,
        places: &[Place],
    ) -> Result<bool, CatalogError> {
        self.write(|tx| {
            if generation_of(tx, group, stream)? != Some(generation) {
                return Ok(false);
            }
            for place in places {
                put_place(tx, group, stream, place, -1, "")?;
            }
            Ok(true)
        })
    }

    /// Does to the places of `group` what `revision` says if `only_if`, where there is one, finds them as they should be, all of it or nothing. Each of `streams` has the generation in
    /// force that is named with it, or gets a new one, so that members who joined before are fenced.
    ///
    /// # Errors
    /// When the catalog cannot be written.
    pub(crate) fn revise(
        &self,
        group: &str,
        streams: &[(String, Option<u64>)],
        revision: &Revision,
        only_if: Option<impl FnOnce(&[Kept]) -> bool>,
    ) -> Result<Revised, CatalogError> {
        self.write(|tx| {
            let is_looked_at = only_if.is_some();
            if let Some(only_if) = only_if
                && !only_if(&kept_of(tx, group)?)
            {
                return Ok(Revised::IsOtherwise);
            }
            let mut generations = Vec::with_capacity(streams.len());
            for (stream, known) in streams {
                let newest = generation_of(tx, group, stream)?;
                if newest.is_none() && !has_room_for_group(tx)? {
                    return Ok(Revised::TooMany);
                }
                generations.push(match newest {
                    Some(newest) if Some(newest) == *known => newest,
                    _ => next_generation(tx, group, stream)?,
                });
            }
            for (stream, number) in &revision.forgotten {
                forget_places(tx, group, Some(stream), *number)?;
            }
            for of in &revision.kept {
                put_place(tx, group, &of.stream, &of.place, of.epoch, &of.note)?;
            }
            if !revision.forgotten.is_empty() {
                for (stream, _) in streams {
                    prune(tx, Some(group), Some(stream))?;
                }
            }
            let after = match is_looked_at {
                true => kept_of(tx, group)?,
                false => Vec::new(),
            };
            Ok(Revised::Done { generations, after })
        })
    }

    /// Where `group` has come to in every stream.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub(crate) fn kept(&self, group: &str) -> Result<Vec<Kept>, CatalogError> {
        Ok(kept_of(&self.lock(), group)?)
    }

    /// Every group with each stream in which it has come to some place, in order.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub(crate) fn group_streams(&self) -> Result<Vec<(String, String)>, CatalogError> {
        let connection = self.lock();
        let mut query = connection
            .prepare("SELECT DISTINCT name, stream FROM group_run ORDER BY name, stream")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The names of all groups that have come to some place, in order.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub(crate) fn group_names(&self) -> Result<Vec<String>, CatalogError> {
        let connection = self.lock();
        let mut query = connection.prepare("SELECT DISTINCT name FROM group_run ORDER BY name")?;
        let names = query.query_map([], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// Forgets where `group` has come to, in this partition of a stream, or everywhere. Its members are fenced. Whether there was anything.
    ///
    /// # Errors
    /// When the catalog cannot be written.
    pub(crate) fn forget(
        &self,
        group: &str,
        of: Option<(&str, u32)>,
    ) -> Result<bool, CatalogError> {
        self.write(|tx| {
            let (stream, number) = of.unzip();
            let forgotten = forget_places(tx, group, stream, number)?;
            tx.execute(
                "UPDATE consumer_group SET generation = generation + 1 WHERE name = ?1 AND (?2 IS NULL OR stream = ?2)",
                params![group, stream],
            )?;
            prune(tx, Some(group), stream)?;
            Ok(forgotten > 0)
        })
    }

    /// Every offset of every group, in the order of groups, streams, partitions and runs.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub(crate) fn group_places(&self) -> Result<Vec<GroupPlace>, CatalogError> {
        let connection = self.lock();
        let mut query =
            connection.prepare("SELECT name, stream, number, first, next FROM group_run ORDER BY name, stream, number, first")?;
        let rows = query.query_map([], |row| {
            let (group, stream) = (row.get(0)?, row.get(1)?);
            Ok(GroupPlace {
                group,
                stream,
                place: place(row, 2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Writes the copy anew: whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written; the copy before it stays.
    pub(crate) fn copy(&self) -> Result<(), CatalogError> {
        if sedge_store::world::is_simulated() {
            return Ok(());
        }
        self.write_copy().map_err(|e| e.at(&self.place.copy))
    }

    fn write_copy(&self) -> Result<(), CatalogError> {
        let unfinished = self.place.copy.with_extension("copy-unfinished");
        remove_if_there(&unfinished)?;
        let name = unfinished.to_string_lossy().into_owned();
        let connection = self.lock();
        // A filler holds nothing, and what the last copy has may be all there is.
        if is_filler(&connection) {
            return Err(CatalogError::from(io::Error::other(
                "there is no catalog just now",
            )));
        }
        connection.execute("VACUUM INTO ?1", [name])?;
        drop(connection);
        fs::File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, &self.place.copy)?;
        Ok(sync_parent(&self.place.copy)?)
    }

    /// One transaction. When the file turns out to be damaged, it is set aside and the next call finds its replacement.
    fn write<T>(
        &self,
        steps: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        let mut connection = self.lock();
        if is_filler(&connection) && !sedge_store::world::is_simulated() {
            *connection = self.place.open().map_err(|e| e.at(&self.place.main))?;
        }
        let done = connection.transaction().and_then(|tx| {
            let value = steps(&tx)?;
            tx.commit()?;
            Ok(value)
        });
        match done {
            Err(e) if is_damage(&e) => {
                tracing::error!(error = %e, "the catalog is damaged");
                // The damaged file is closed before it is moved; the place in memory is a filler, for as long as the disk takes no other.
                *connection = Connection::open_in_memory()?;
                self.place.set_aside("damaged while in use")?;
                *connection = self.place.open()?;
                Err(e.into())
            }
            other => other.map_err(|e| CatalogError::from(e).at(&self.place.main)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolled it back; the connection itself is sound.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl CatalogPlace {
    fn open(&self) -> Result<Connection, CatalogError> {
        self.open_by(open_checked)
    }

    fn open_by(
        &self,
        open: impl Fn(&Path) -> rusqlite::Result<Connection>,
    ) -> Result<Connection, CatalogError> {
        let patience = Patience::with(self.main.with_extension("unreadable"), system_clock()());
        // To SQLite, a file without a byte is a sound database.
        let is_empty = fs::metadata(&self.main).is_ok_and(|of| of.len() == 0);
        if !self.main.exists() || (is_empty && self.copy.exists()) {
            // A write-ahead log without its database would be played into whatever takes the database's place.
            self.set_aside("its database is gone")?;
            self.take_copy(&patience)?;
        }
        let connection = match open(&self.main) {
            Ok(connection) => connection,
            Err(e) => {
                self.give_up(e, "", &patience)?;
                self.take_copy(&patience)?;
                open(&self.main).or_else(|e| {
                    self.give_up(e, "the copy: ", &patience)?;
                    Ok::<_, CatalogError>(open(&self.main)?)
                })?
            }
        };
        patience.end()?;
        Ok(connection)
    }

    /// Sets a catalog aside that is damaged. One that the disk does not give counts as that when patience is over: it may be there again.
    fn give_up(
        &self,
        e: rusqlite::Error,
        which: &str,
        patience: &Patience,
    ) -> Result<(), CatalogError> {
        let why = format!("{which}{e}");
        match is_unreadable(&e) {
            true => patience.try_again_later(MAIN, &io::Error::other(e))?,
            false if is_damage(&e) => {}
            false => return Err(e.into()),
        }
        Ok(self.set_aside(&why)?)
    }

    /// Puts the copy into the catalog's place. One that the disk does not give is none when patience is over.
    fn take_copy(&self, patience: &Patience) -> io::Result<()> {
        let copy = match fs::read(&self.copy) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if sedge_store::is_unreadable(&e) => {
                return patience.try_again_later(COPY, &e);
            }
            read => read?,
        };
        let unfinished = self.main.with_extension("unfinished");
        fs::write(&unfinished, copy)?;
        fs::File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, &self.main)?;
        tracing::warn!(copy = %self.copy.display(), "the catalog is its last copy: groups go back to the offsets in it");
        sync_parent(&self.main)
    }

    fn set_aside(&self, why: &str) -> io::Result<()> {
        for suffix in ["", "-wal", "-shm"] {
            let mut file = self.main.clone().into_os_string();
            file.push(suffix);
            let file = PathBuf::from(file);
            if !file.exists() {
                continue;
            }
            fs::create_dir_all(&self.aside)?;
            let free = (0..)
                .map(|n| self.aside.join(format!("{n:04}-catalog.sqlite{suffix}")))
                .find(|to| !to.exists())
                .expect("a free number exists");
            fs::rename(&file, &free)?;
            tracing::warn!(file = %file.display(), to = %free.display(), why, "set aside");
        }
        sync_parent(&self.main)
    }
}

/// Whether it is in memory, in the place of one that is to come.
fn is_filler(connection: &Connection) -> bool {
    connection.path().is_none_or(str::is_empty)
}

/// Opens `path` as [`open_with`] does. Where the disk has no room for the file through which others could look on, nobody can until the next start.
fn open_checked(path: &Path) -> rusqlite::Result<Connection> {
    match open_with(path, "NORMAL") {
        Err(e) if wants_room(&e) => {
            tracing::warn!(catalog = %path.display(), error = %e, "the catalog is opened without a file beside it, perhaps for want of room");
            open_with(path, "EXCLUSIVE")
        }
        opened => opened,
    }
}

/// Opens `path` with the settings that make a commit survive a power cut, and checks every page.
fn open_with(path: &Path, locking_mode: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update_and_check(None, "locking_mode", locking_mode, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    for (name, value) in [
        ("synchronous", "FULL"),
        ("mmap_size", "0"),
        ("journal_size_limit", "1048576"),
        ("foreign_keys", "ON"),
        ("trusted_schema", "OFF"),
        ("cell_size_check", "ON"),
        ("cache_size", "-512"),
    ] {
        connection
            .pragma_update_and_check(None, name, value, |_| Ok(()))
            .optional()?;
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        let code = match verdict.contains(NO_PAGE) {
            true => ffi::SQLITE_IOERR_READ,
            false => ffi::SQLITE_CORRUPT,
        };
        let code = ffi::Error::new(code);
        return Err(rusqlite::Error::SqliteFailure(code, Some(verdict)));
    }
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    connection.execute_batch(SCHEMA)?;
    match version {
        0 => connection.pragma_update(None, "user_version", VERSION)?,
        1 => connection.execute_batch(FROM_VERSION_1)?,
        2 => connection.execute_batch(FROM_VERSION_2)?,
        _ => {}
    }
    Ok(connection)
}

/// The generation in force.
fn generation_of(tx: &Transaction<'_>, group: &str, stream: &str) -> rusqlite::Result<Option<u64>> {
    let newest = tx.query_row(
        "SELECT generation FROM consumer_group WHERE name = ?1 AND stream = ?2",
        [group, stream],
        |row| row.get::<_, i64>(0),
    );
    Ok(newest.optional()?.map(offset))
}

fn next_generation(tx: &Transaction<'_>, group: &str, stream: &str) -> rusqlite::Result<u64> {
    let generation = tx.query_row(
        "INSERT INTO consumer_group(name, stream, generation)
         VALUES (?1, ?2, 1 + coalesce((SELECT generation FROM consumer_group WHERE name = ''), 0))
         ON CONFLICT DO UPDATE SET generation = generation + 1 RETURNING generation",
        [group, stream],
        |row| row.get::<_, i64>(0),
    );
    generation.map(offset)
}

/// Whether there is room for one more, if need be that of groups that have come to no place.
fn has_room_for_group(tx: &Transaction<'_>) -> rusqlite::Result<bool> {
    let count = || -> rusqlite::Result<i64> {
        tx.query_row(
            "SELECT count(*) FROM consumer_group WHERE name <> ''",
            [],
            |row| row.get(0),
        )
    };
    if count()? < GROUPS_MAX {
        return Ok(true);
    }
    prune(tx, None, None)?;
    Ok(count()? < GROUPS_MAX)
}

/// Takes out `group`, or any, where it has come to no place in `stream`, or in any. The highest generation of those that are gone stays, under a name that no group has: one that comes again
/// goes on behind it, and fences who joined before.
fn prune(tx: &Transaction<'_>, group: Option<&str>, stream: Option<&str>) -> rusqlite::Result<()> {
    let mut gone = tx.prepare(
        "DELETE FROM consumer_group AS c WHERE c.name <> '' AND (?1 IS NULL OR c.name = ?1) AND (?2 IS NULL OR c.stream = ?2)
         AND NOT EXISTS (SELECT 1 FROM group_run AS r WHERE r.name = c.name AND r.stream = c.stream) RETURNING generation",
    )?;
    let mut highest = None;
    for generation in gone.query_map([group, stream], |row| row.get::<_, i64>(0))? {
        highest = highest.max(Some(generation?));
    }
    if let Some(highest) = highest {
        tx.execute(
            "INSERT INTO consumer_group(name, stream, generation) VALUES ('', '', ?1)
             ON CONFLICT DO UPDATE SET generation = max(generation, excluded.generation)",
            [highest],
        )?;
    }
    Ok(())
}

/// The places of `group` in the order of streams, partitions and runs.
fn kept_of(connection: &Connection, group: &str) -> rusqlite::Result<Vec<Kept>> {
    let mut query = connection.prepare(
        "SELECT stream, number, first, next, epoch, note FROM group_run WHERE name = ?1 ORDER BY stream, number, first",
    )?;
    let rows = query.query_map([group], |row| {
        Ok(Kept {
            stream: row.get(0)?,
            place: place(row, 1)?,
            epoch: row.get(4)?,
            note: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// How many places there were.
fn forget_places(
    tx: &Transaction<'_>,
    group: &str,
    stream: Option<&str>,
    number: Option<u32>,
) -> rusqlite::Result<usize> {
    tx.execute(
        "DELETE FROM group_run WHERE name = ?1 AND (?2 IS NULL OR stream = ?2) AND (?3 IS NULL OR number = ?3)",
        params![group, stream, number],
    )
}

fn put_place(
    tx: &Transaction<'_>,
    group: &str,
    stream: &str,
    Place {
        number,
        first,
        next,
    }: &Place,
    epoch: i32,
    note: &str,
) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT OR REPLACE INTO group_run(name, stream, number, first, next, epoch, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![group, stream, number, column(*first), column(*next), epoch, note],
    )?;
    // It has come to where a later run begins: that is the same run now.
    tx.execute(
        "DELETE FROM group_run WHERE name = ?1 AND stream = ?2 AND number = ?3 AND first > ?4 AND first <= ?5",
        params![group, stream, number, column(*first), column(*next)],
    )?;
    Ok(())
}

/// The disk does not give a page of it.
fn is_unreadable(e: &rusqlite::Error) -> bool {
    let code = e.sqlite_error().map(|e| e.extended_code);
    code == Some(ffi::SQLITE_IOERR_READ)
}

fn is_damage(e: &rusqlite::Error) -> bool {
    matches!(
        e.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// SQLite does not always say that the disk is full where it is.
fn wants_room(e: &rusqlite::Error) -> bool {
    matches!(
        e.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure)
    )
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
}

/// A place whose number stands in column `at`.
fn place(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Place> {
    Ok(Place {
        number: row.get(at)?,
        first: offset(row.get(at + 1)?),
        next: offset(row.get(at + 2)?),
    })
}

/// SQLite's integers are signed; the bits are what matters.
fn column(offset: u64) -> i64 {
    offset.cast_signed()
}

fn offset(column: i64) -> u64 {
    column.cast_unsigned()
}

/// Why the catalog did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// SQLite says so.
    #[error("catalog: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file system says so.
    #[error("catalog: {0}")]
    Io(#[from] io::Error),
    /// SQLite could not write.
    #[error("{}: the catalog cannot be written, perhaps for want of room for it: {source}", place.display())]
    Unwritten {
        /// The file.
        place: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl CatalogError {
    /// Whoever looks for room has to know where.
    fn at(self, place: &Path) -> Self {
        match self {
            Self::Sqlite(source) if wants_room(&source) => {
                let place = place.to_path_buf();
                Self::Unwritten { place, source }
            }
            Self::Io(e) => {
                let told = format!("{}: {e}", place.display());
                Self::Io(io::Error::new(e.kind(), told))
            }
            other => other,
        }
    }
}

const MAIN: &str = "catalog.sqlite";
const COPY: &str = "catalog.copy";
/// What `quick_check` says of a page that cannot be read: the number is `SQLITE_IOERR_READ`.
const NO_PAGE: &str = "error code=266";

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS gateway(name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stream(name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS partition(
    stream TEXT NOT NULL REFERENCES stream, number INTEGER NOT NULL,
    gateway TEXT NOT NULL REFERENCES gateway, partition INTEGER NOT NULL,
    PRIMARY KEY (stream, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consumer_group(
    name TEXT NOT NULL, stream TEXT NOT NULL, generation INTEGER NOT NULL,
    PRIMARY KEY (name, stream)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS group_run(
    name TEXT NOT NULL, stream TEXT NOT NULL, number INTEGER NOT NULL, first INTEGER NOT NULL, next INTEGER NOT NULL,
    epoch INTEGER NOT NULL DEFAULT -1, note TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (name, stream, number, first)) WITHOUT ROWID;
";

const VERSION: i64 = 3;

/// In the first version a group had one place in each partition.
const FROM_VERSION_1: &str = "
BEGIN;
INSERT OR IGNORE INTO group_run(name, stream, number, first, next) SELECT name, stream, number, 0, next FROM group_place;
DROP TABLE group_place;
PRAGMA user_version = 3;
COMMIT;
";

/// In the second version nobody could tell an epoch, or leave a note.
const FROM_VERSION_2: &str = "
BEGIN;
ALTER TABLE group_run ADD COLUMN epoch INTEGER NOT NULL DEFAULT -1;
ALTER TABLE group_run ADD COLUMN note TEXT NOT NULL DEFAULT '';
PRAGMA user_version = 3;
COMMIT;
";

/// Groups of all streams: each takes room for ever.
const GROUPS_MAX: i64 = 100_000;

#[cfg(test)]
mod tests;
