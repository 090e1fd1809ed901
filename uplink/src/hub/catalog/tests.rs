//! Stories of the catalog: what is kept of groups, and what takes the place of a catalog that is damaged.

use super::*;

fn known(number: u32) -> KnownPartition {
    KnownPartition {
        stream: "telemetry".into(),
        number,
        gateway: format!("gw-{number}"),
        partition: 0,
    }
}

fn at(number: u32, next: u64) -> Place {
    Place {
        number,
        first: 0,
        next,
    }
}

#[test]
fn runs_that_have_met_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let (generation, _) = catalog.join("billing", "telemetry").unwrap().unwrap();
    let ahead = |next| Place {
        first: 300,
        ..at(0, next)
    };
    let commit = |places: &[Place]| catalog.commit("billing", "telemetry", generation, places);
    assert!(commit(&[at(0, 120), ahead(330), at(1, 500)]).unwrap());
    assert!(commit(&[at(0, 299)]).unwrap());
    assert_eq!(catalog.group_places().unwrap().len(), 3);
    assert!(commit(&[at(0, 340)]).unwrap());
    let (_, places) = catalog.join("billing", "telemetry").unwrap().unwrap();
    assert_eq!(places, [at(0, 340), at(1, 500)]);
}

#[test]
fn a_commit_of_an_older_generation_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let (first, places) = catalog.join("billing", "telemetry").unwrap().unwrap();
    assert_eq!((first, places), (1, vec![]));
    assert!(
        catalog
            .commit("billing", "telemetry", first, &[at(0, 40), at(1, u64::MAX)])
            .unwrap()
    );
    let (second, places) = catalog.join("billing", "telemetry").unwrap().unwrap();
    assert_eq!((second, places), (2, vec![at(0, 40), at(1, u64::MAX)]));
    assert!(
        !catalog
            .commit("billing", "telemetry", first, &[at(0, 99)])
            .unwrap()
    );
    assert_eq!(catalog.group_places().unwrap()[0].place.next, 40);
}

/// Nothing is left of a group that is forgotten; one that comes under its name fences those who were in it nonetheless.
#[test]
fn a_forgotten_group_takes_no_room_and_its_members_stay_fenced() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let rows = || -> i64 {
        let count = "SELECT count(*) FROM consumer_group WHERE name <> ''";
        let connection = catalog.lock();
        connection.query_row(count, [], |row| row.get(0)).unwrap()
    };
    let join = || catalog.join("billing", "telemetry").unwrap().unwrap().0;
    let commit = |generation| catalog.commit("billing", "telemetry", generation, &[at(0, 40)]);
    let (mut before, _) = (join(), join());
    for _ in 0..3 {
        let generation = join();
        assert!(before < generation);
        assert!(!commit(before).unwrap() && commit(generation).unwrap());
        assert!(catalog.forget("billing", None).unwrap());
        assert_eq!(rows(), 0);
        assert!(!commit(generation).unwrap());
        before = generation;
    }
}

/// As many groups as may be, of which none but one has come to a place: a new one takes the room of these. Where all have, there is none.
#[test]
fn a_group_too_many_takes_the_room_of_those_without_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let fill = |sql: &str| {
        let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)";
        let sql = format!("{many} {sql}");
        catalog.lock().execute(&sql, [GROUPS_MAX - 1]).unwrap();
    };
    fill("INSERT INTO consumer_group SELECT 'g' || i, 'telemetry', 7 FROM n");
    let join = |group| catalog.join(group, "telemetry").unwrap();
    let (generation, _) = join("billing").unwrap();
    let commit = catalog.commit("billing", "telemetry", generation, &[at(0, 40)]);
    assert!(commit.unwrap());
    let (other, _) = join("other").unwrap();
    assert_eq!(other, 8, "behind all that are gone");
    assert_eq!(join("billing").unwrap(), (generation + 1, vec![at(0, 40)]));

    fill("INSERT OR REPLACE INTO consumer_group SELECT 'g' || i, 'telemetry', 7 FROM n");
    fill(
        "INSERT INTO group_run(name, stream, number, first, next) SELECT 'g' || i, 'telemetry', 0, 0, 5 FROM n",
    );
    assert_eq!(join("one more"), None);
    assert!(join("g1").is_some() && join("billing").is_some());
    assert!(catalog.forget("g1", None).unwrap());
    assert!(join("one more").is_some());
}

#[test]
fn a_catalog_of_the_first_version_keeps_its_groups() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    catalog.join("billing", "telemetry").unwrap().unwrap();
    let first_version = "
        DROP TABLE group_run;
        CREATE TABLE group_place(
            name TEXT NOT NULL, stream TEXT NOT NULL, number INTEGER NOT NULL, next INTEGER NOT NULL,
            PRIMARY KEY (name, stream, number)) WITHOUT ROWID;
        INSERT INTO group_place VALUES ('billing', 'telemetry', 0, 40);
        PRAGMA user_version = 1;";
    catalog.lock().execute_batch(first_version).unwrap();
    drop(catalog);
    for _ in 0..2 {
        let catalog = Catalog::open(dir.path()).unwrap();
        let (_, places) = catalog.join("billing", "telemetry").unwrap().unwrap();
        assert_eq!(places, [at(0, 40)]);
    }
}

#[test]
fn a_deleted_catalog_comes_back_from_its_copy() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    catalog.note(&[known(0)]).unwrap();
    let (generation, _) = catalog.join("billing", "telemetry").unwrap().unwrap();
    catalog
        .commit("billing", "telemetry", generation, &[at(0, 40)])
        .unwrap();
    catalog.copy().unwrap();
    catalog
        .commit("billing", "telemetry", generation, &[at(0, 50)])
        .unwrap();
    drop(catalog);
    // The write-ahead log stays behind on purpose: it must not be played into the copy.
    fs::write(dir.path().join("catalog.sqlite-wal"), b"of another life").unwrap();
    fs::remove_file(dir.path().join("catalog.sqlite")).unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    assert_eq!(catalog.partitions().unwrap(), [known(0)]);
    assert_eq!(catalog.group_places().unwrap()[0].place.next, 40);
}

#[test]
fn a_damaged_catalog_is_set_aside_wherever_it_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.sqlite");
    for page in 0..3 {
        let catalog = Catalog::open(dir.path()).unwrap();
        catalog
            .note(&(0..200).map(known).collect::<Vec<_>>())
            .unwrap();
        drop(catalog);
        let mut bytes = fs::read(&path).unwrap();
        let at = page * 4096;
        bytes[at..at + 100].fill(0x5A);
        fs::write(&path, bytes).unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        assert_eq!(
            catalog.partitions().unwrap(),
            [],
            "page {page}: nothing to take its place"
        );
    }
    assert_eq!(
        fs::read_dir(dir.path().join("set-aside")).unwrap().count(),
        3
    );
}

/// A disk that fails or is full, and another who writes, are no reason to set a catalog aside.
#[test]
fn only_what_is_no_database_any_more_is_damage() {
    let failure = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
    for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB] {
        assert!(is_damage(&failure(code)));
    }
    for code in [
        ffi::SQLITE_IOERR,
        ffi::SQLITE_FULL,
        ffi::SQLITE_BUSY,
        ffi::SQLITE_CANTOPEN,
    ] {
        assert!(!is_damage(&failure(code)));
    }
    assert!(!is_damage(&rusqlite::Error::QueryReturnedNoRows));
}

/// It may be there again. For ever it keeps no hub from starting: then it is as damaged, and so is a copy of which a sector is gone.
#[test]
fn a_catalog_that_cannot_be_read_is_waited_for_and_then_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    catalog.note(&[known(0)]).unwrap();
    catalog.copy().unwrap();
    catalog.note(&[known(1)]).unwrap();
    let place = catalog.place.clone();
    drop(catalog);
    let counter = dir.path().join("catalog.unreadable");
    let wait = || fs::write(&counter, "opens = 3\nlast_us = 0\n").unwrap();
    let aside = || fs::read_dir(dir.path().join("set-aside")).map_or(0, Iterator::count);
    let start = |fail_first: bool| {
        let fails = std::cell::Cell::new(fail_first);
        let opened = place.open_by(|path| match fails.take() {
            true => {
                let code = ffi::Error::new(ffi::SQLITE_IOERR_READ);
                Err(rusqlite::Error::SqliteFailure(code, None))
            }
            false => open_checked(path),
        });
        let count = "SELECT count(*) FROM partition";
        opened.map(|c| c.query_row(count, [], |row| row.get::<_, u32>(0)).unwrap())
    };
    for _ in 0..5 {
        start(true).unwrap_err();
    }
    assert!(counter.exists() && aside() == 0);
    assert_eq!(start(false).unwrap(), 2);
    assert!(!counter.exists(), "all patience is given back");
    wait();
    assert_eq!(start(true).unwrap(), 1, "the copy");
    assert!(!counter.exists() && aside() == 1);
    // Of `/proc/self/mem` the first page cannot be read.
    fs::remove_file(&place.copy).unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", &place.copy).unwrap();
    fs::remove_file(&place.main).unwrap();
    start(false).unwrap_err();
    assert!(!place.main.exists());
    wait();
    assert_eq!(start(false).unwrap(), 0, "an empty one");
}

/// It rots under a hub that runs: the write that finds it out fails, and the next one finds another catalog, with what the copy has.
#[test]
fn a_catalog_that_is_damaged_in_use_is_replaced_for_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    catalog.note(&[known(0)]).unwrap();
    catalog.copy().unwrap();
    let written = "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA shrink_memory;";
    catalog.lock().execute_batch(written).unwrap();
    let path = dir.path().join("catalog.sqlite");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0x5A);
    fs::write(&path, bytes).unwrap();
    assert!(catalog.note(&[known(1)]).is_err());
    catalog.note(&[known(2)]).unwrap();
    assert_eq!(catalog.partitions().unwrap(), [known(0), known(2)]);
    let aside = fs::read_dir(dir.path().join("set-aside")).unwrap();
    assert!(aside.count() >= 1);
    drop(catalog);
    let catalog = Catalog::open(dir.path()).unwrap();
    assert_eq!(catalog.partitions().unwrap(), [known(0), known(2)]);
}

#[test]
fn whoever_looks_for_room_is_told_where() {
    let place = Path::new("/data/catalog.sqlite");
    let told = |code| {
        let failure = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        let told = CatalogError::from(failure).at(place);
        matches!(told, CatalogError::Unwritten { .. })
    };
    assert!(told(ffi::SQLITE_FULL) && told(ffi::SQLITE_IOERR));
    assert!(!told(ffi::SQLITE_BUSY));
    let full = io::Error::from(io::ErrorKind::StorageFull);
    let told = CatalogError::from(full).at(place).to_string();
    assert!(told.contains("/data/catalog.sqlite: "), "{told}");
}

/// SQLite takes a file without a byte for an empty database, and what it takes for one was to become the copy.
#[test]
fn a_catalog_that_was_cut_to_nothing_is_its_copy() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    catalog.note(&[known(0)]).unwrap();
    catalog.copy().unwrap();
    let main = catalog.place.main.clone();
    drop(catalog);
    fs::write(&main, b"").unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    catalog.copy().unwrap();
    assert_eq!(catalog.partitions().unwrap(), [known(0)]);
}

/// The damaged file cannot be set aside, as on a disk without room.
#[test]
fn what_is_damaged_in_use_and_cannot_be_replaced_becomes_no_copy() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    catalog.note(&[known(0)]).unwrap();
    catalog.copy().unwrap();
    let aside = dir.path().join("set-aside");
    fs::write(&aside, b"no folder").unwrap();
    let damage = || {
        let code = ffi::Error::new(ffi::SQLITE_CORRUPT);
        rusqlite::Error::SqliteFailure(code, None)
    };
    catalog.write(|_| Err::<(), _>(damage())).unwrap_err();
    catalog.copy().unwrap_err();
    fs::remove_file(&aside).unwrap();
    catalog.note(&[known(1)]).unwrap();
    assert_eq!(catalog.partitions().unwrap(), [known(0), known(1)]);
}
