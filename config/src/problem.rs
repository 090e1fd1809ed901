//! What is wrong with a file: every problem with its place, shown together.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::drop_in::{Files, Place};

/// All problems of a file and its drop-ins, in the order of their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file as the caller named it.
    pub file: PathBuf,
    /// Its drop-ins, as they are shown.
    pub drop_ins: Vec<PathBuf>,
    /// At least one.
    pub list: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// None for something that is missing.
    pub place: Option<Place>,
    /// Key path, such as `source.boiler.baud`; empty for the file as a whole.
    pub path: String,
    /// The value and what would be accepted.
    pub what: String,
}

impl Problems {
    /// `list`, in its order, if there is any.
    pub(crate) fn of(files: &Files, mut list: Vec<Problem>) -> Result<(), Self> {
        if list.is_empty() {
            return Ok(());
        }
        list.sort_by_key(|problem| (problem.place.is_none(), problem.place));
        let mut paths = files.paths().map(Path::to_owned);
        Err(Self {
            file: paths.next().unwrap_or_default(),
            drop_ins: paths.collect(),
            list,
        })
    }

    /// The only problem there is, about the file as a whole.
    #[must_use]
    pub fn whole(file: &Path, what: String) -> Self {
        Self {
            file: file.to_owned(),
            drop_ins: Vec::new(),
            list: vec![Problem {
                place: None,
                path: String::new(),
                what,
            }],
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len();
        writeln!(
            f,
            "{}: {count} problem{}",
            self.file.display(),
            if count == 1 { "" } else { "s" }
        )?;
        for (at, problem) in self.list.iter().enumerate() {
            f.write_str(if at == 0 { "  " } else { "\n  " })?;
            if let Some(place) = problem.place {
                if let Some(drop_in) = place.file.checked_sub(1) {
                    write!(f, "{} ", self.drop_ins[drop_in].display())?;
                }
                write!(f, "line {}: ", place.line)?;
            }
            if !problem.path.is_empty() {
                write!(f, "{}: ", problem.path)?;
            }
            f.write_str(&problem.what)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// `; did you mean "baud"?`, or nothing when no candidate is near.
pub(crate) fn did_you_mean<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(written, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= NEAR_MAX && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| format!("; did you mean \"{candidate}\"?"))
        .unwrap_or_default()
}

/// Two slips of the finger are a typing error; three are another word.
const NEAR_MAX: usize = 2;
