//! A file and its drop-ins: the directory beside it, whose files are read after it and may add to it and change it.
//!
//! Beside `agent.toml` that is `agent.d`; its files that end in `.toml` are read in the order of their names. Each says only
//! what is different: a key of a table, or of an entry whose name was there before, replaces that key; an entry with another
//! name is one more. Nothing can be taken away.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::Problems;

/// A file and what stands beside it, as text.
#[derive(Debug, Clone)]
pub struct Files {
    /// The file itself, then its drop-ins.
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    path: PathBuf,
    /// Set in by as many empty lines as the parts before it have bytes: so each place in any of them has a number of its own.
    text: String,
    start: usize,
}

/// A line of one of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// 0 is the file itself, 1 the first drop-in.
    pub file: usize,
    /// From 1.
    pub line: usize,
}

impl Files {
    /// Reads the file at `path` and its drop-ins.
    ///
    /// # Errors
    /// The file, or the directory or a file in it, cannot be read or is not text.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let mut files = Self::one(path, &text_of(path)?);
        for drop_in in drop_ins(path)? {
            // A pipe would be waited for.
            if std::fs::metadata(&drop_in).is_ok_and(|seen| !seen.is_file()) {
                return Err(Problems::whole(&drop_in, "is no file".to_owned()));
            }
            files.push(&drop_in, &text_of(&drop_in)?);
        }
        Ok(files)
    }

    /// `text` alone; `path` is only shown.
    #[must_use]
    pub fn one(path: &Path, text: &str) -> Self {
        let mut files = Self { parts: Vec::new() };
        files.push(path, text);
        files
    }

    /// One drop-in more; `path` is only shown.
    pub fn push(&mut self, path: &Path, text: &str) {
        // One more, for the place behind the last byte, where something may be missing.
        let start = self.parts.last().map_or(0, |part| part.text.len() + 1);
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        self.parts.push(Part {
            path: path.to_owned(),
            text: "\n".repeat(start) + text,
            start,
        });
    }

    /// Their paths, the file itself first.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| &*part.path)
    }

    /// Whether they are meant for a hub: the file itself has a `[hub]` table, or a table of it.
    #[must_use]
    pub fn are_of_a_hub(&self) -> bool {
        self.parts[0]
            .text
            .lines()
            .any(|line| line.trim_start().trim_start_matches('[').starts_with("hub"))
    }

    /// Where the byte `at` of their common numbering stands.
    pub(crate) fn place(&self, at: usize) -> Place {
        let file = self.parts.partition_point(|part| part.start <= at) - 1;
        let part = &self.parts[file];
        let before = &part.text.as_bytes()[part.start..at.min(part.text.len())];
        Place {
            file,
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
        }
    }

    /// What all of them come to. What is no TOML goes to `problem`.
    pub(crate) fn merged(&self, mut problem: impl FnMut(Place, String)) -> DeTable<'_> {
        let mut whole = DeTable::new();
        for part in &self.parts {
            let (table, errors) = DeTable::parse_recoverable(&part.text);
            for error in errors {
                let at = error.span().map(|span| span.start);
                let at = at.unwrap_or_else(|| part.start_of_complaints());
                problem(self.place(at), format!("not TOML: {}", error.message()));
            }
            merge(&mut whole, table.into_inner());
        }
        whole
    }
}

impl Part {
    /// Of what is nested too deeply the parser does not say where: the line with which it begins to complain so.
    fn start_of_complaints(&self) -> usize {
        let complains = |&end: &usize| {
            let (_, errors) = DeTable::parse_recoverable(&self.text[..end]);
            errors.iter().any(|error| error.span().is_none())
        };
        let ends: Vec<usize> = self.text[self.start..]
            .match_indices('\n')
            .map(|(at, _)| self.start + at)
            .collect();
        match ends.partition_point(|end| !complains(end)) {
            0 => self.start,
            at => ends[at - 1] + 1,
        }
    }
}

/// `later` over `whole`: key by key where both are tables, entry by entry where both are lists of named tables.
fn merge<'t>(whole: &mut DeTable<'t>, later: DeTable<'t>) {
    for (key, value) in later {
        let mut value = value;
        if let Some(earlier) = whole.get_mut(key.get_ref().as_ref()) {
            match (earlier.get_mut(), value.get_mut()) {
                (DeValue::Table(earlier), DeValue::Table(later)) => {
                    merge(earlier, std::mem::replace(later, DeTable::new()));
                    continue;
                }
                (DeValue::Array(earlier), DeValue::Array(later))
                    if earlier.iter().chain(later.iter()).all(is_table) =>
                {
                    merge_entries(earlier, std::mem::replace(later, DeArray::new()));
                    continue;
                }
                _ => {}
            }
        }
        // A new one stands where it was written last.
        whole.remove(key.get_ref().as_ref());
        whole.insert(key, value);
    }
}

/// Entries of a name that is there change that entry; the others come before it, since the first that fits decides where an
/// order counts, and what a drop-in adds is about something special.
fn merge_entries<'t>(earlier: &mut DeArray<'t>, later: DeArray<'t>) {
    let (mut added, mut changed) = (Vec::new(), Vec::new());
    for mut entry in later {
        let is_it = |other: &Spanned<DeValue<'t>>| name_of(other) == name_of(&entry);
        let there = name_of(&entry).and_then(|_| earlier.iter().position(is_it));
        match there.filter(|there| !changed.contains(there)) {
            Some(there) => {
                changed.push(there);
                if let (DeValue::Table(there), DeValue::Table(entry)) =
                    (earlier.as_mut()[there].get_mut(), entry.get_mut())
                {
                    merge(there, std::mem::replace(entry, DeTable::new()));
                }
            }
            // A second one of this name in one file is a mistake, and is told as one.
            None => added.push(entry),
        }
    }
    added.extend(std::mem::replace(earlier, DeArray::new()));
    *earlier = added.into_iter().collect();
}

fn is_table(value: &Spanned<DeValue<'_>>) -> bool {
    matches!(value.get_ref(), DeValue::Table(_))
}

fn name_of<'v>(entry: &'v Spanned<DeValue<'_>>) -> Option<&'v str> {
    match entry.get_ref() {
        DeValue::Table(table) => table.get("name")?.get_ref().as_str(),
        _ => None,
    }
}

fn text_of(path: &Path) -> Result<String, Problems> {
    let bytes = std::fs::read(path)
        .map_err(|error| Problems::whole(path, format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|_| Problems::whole(path, "is not UTF-8 text".to_owned()))
}

/// The drop-ins of the file at `path`, in their order; none if there is no such directory.
fn drop_ins(path: &Path) -> Result<Vec<PathBuf>, Problems> {
    let directory = path.with_extension("d");
    let cannot =
        |error: std::io::Error| Problems::whole(&directory, format!("cannot be read: {error}"));
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(cannot)?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension() == Some(OsStr::new("toml")) && !is_hidden {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(texts: &[&str]) -> Files {
        let mut files = Files { parts: Vec::new() };
        for (at, text) in texts.iter().enumerate() {
            files.push(Path::new(&format!("{at}.toml")), text);
        }
        files
    }

    fn place(file: usize, line: usize) -> Place {
        Place { file, line }
    }

    #[test]
    fn each_byte_has_its_place() {
        let files = files(&["a = 1\nb = 2", "", "\u{feff}c = 3\n"]);
        let at = |what: &str| {
            let part = files.parts.iter().find(|part| part.text.contains(what));
            part.and_then(|part| part.text.find(what)).expect(what)
        };
        assert_eq!(files.place(at("a =")), place(0, 1));
        assert_eq!(files.place(at("b =")), place(0, 2));
        assert_eq!(files.place(at("b =") + 5), place(0, 2), "its end");
        assert_eq!(files.place(at("c =")), place(2, 1));
        assert_eq!(files.place(at("3\n") + 2), place(2, 2));
    }

    #[test]
    fn what_is_no_toml_is_told_with_the_file_it_stands_in() {
        let deep = format!("\n\nx = {}", "[".repeat(200));
        for (texts, told) in [
            (["a = 1\n", "b = \n"], place(1, 1)),
            (["a = \n", "b = 1\n"], place(0, 1)),
            (["a = [", "b = 1\n"], place(0, 1)),
            (["a = 1\n", &deep], place(1, 3)),
            ([&deep, "a = 1\n"], place(0, 3)),
        ] {
            let mut problems = Vec::new();
            files(&texts).merged(|place, what| problems.push((place, what)));
            assert!(!problems.is_empty(), "{texts:?}");
            assert_eq!(problems[0].0, told, "{texts:?}: {problems:?}");
        }
    }
}
