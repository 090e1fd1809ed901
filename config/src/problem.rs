//! What is wrong with a file: every problem with its place, shown together.

use std::fmt;
use std::path::{Path, PathBuf};

/// All problems of one file, in the order of their lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file as the caller named it.
    pub file: PathBuf,
    /// At least one.
    pub list: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; none for something that is missing.
    pub line: Option<usize>,
    /// Key path, such as `source.boiler.baud`; empty for the file as a whole.
    pub path: String,
    /// The value and what would be accepted.
    pub what: String,
}

impl Problems {
    /// The only problem there is, about the file as a whole.
    #[must_use]
    pub fn whole(file: &Path, what: String) -> Self {
        Self {
            file: file.to_owned(),
            list: vec![Problem {
                line: None,
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
        let mut lines = self.list.iter().map(Problem::to_string);
        if let Some(first) = lines.next() {
            f.write_str(&first)?;
        }
        lines.try_for_each(|line| write!(f, "\n{line}"))
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "  line {line}: ")?,
            None => write!(f, "  ")?,
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)
    }
}

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
