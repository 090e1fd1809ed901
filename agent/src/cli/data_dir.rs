//! Whether a directory for data is there or can be made, as the start would have it. Nothing is made here.

use std::io;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// Says that `dir` is none, or that something on the way to it is none.
pub(super) fn is_none(dir: &Path) -> Option<String> {
    let there = nearest(dir)?;
    let what = match there == dir {
        true => "is no directory".to_owned(),
        false => format!("cannot be made: {} is no directory", there.display()),
    };
    (!there.is_dir()).then(|| format!("\"{}\" {what}", dir.display()))
}

/// Says that this user cannot make `dir`, or cannot write in it.
pub(super) fn is_closed(dir: &Path) -> Option<String> {
    let there = nearest(dir).unwrap_or(Path::new("."));
    let may = accessat(
        CWD,
        there,
        Access::WRITE_OK | Access::EXEC_OK,
        AtFlags::EACCESS,
    );
    let error = io::Error::from(may.err()?);
    Some(match there == dir {
        true => format!("{} cannot be written: {error}", dir.display()),
        false => format!(
            "{} cannot be made: {} cannot be written: {error}",
            dir.display(),
            there.display()
        ),
    })
}

/// `dir`, or of what is above it the nearest that is there.
fn nearest(dir: &Path) -> Option<&Path> {
    dir.ancestors().find(|path| path.symlink_metadata().is_ok())
}
