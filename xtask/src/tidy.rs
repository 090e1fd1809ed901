//! What a machine can check about the layout of the project, so that no reviewer has to.
//!
//! Each rule is a function that takes the [`Tree`] and tells its [`Problems`]; all of them run before anything is reported.

mod crates;
mod docs;
mod sources;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::say;

/// Checks every rule.
///
/// # Errors
/// One error that lists every finding.
pub(crate) fn check(root: &Path) -> Result<()> {
    let tree = Tree::read(root)?;
    let mut problems = Problems::default();
    crates::directions(&tree, &mut problems)?;
    crates::reasons(&tree, &mut problems)?;
    sources::heads(&tree, &mut problems);
    sources::lengths(&tree, &mut problems);
    sources::words(&tree, &mut problems);
    docs::named_files_exist(&tree, &mut problems);
    docs::images_are_read_and_shown(&tree, &mut problems);
    docs::decisions_are_numbered(&tree, &mut problems);
    if problems.0.is_empty() {
        return say(&format!("tidy: {} files are in order", tree.files.len()));
    }
    bail!("tidy:\n  {}", problems.0.join("\n  "))
}

/// Every file of the project, by its path from the root, with the text of those that are text.
pub(crate) struct Tree {
    root: PathBuf,
    files: Vec<(String, Option<String>)>,
}

impl Tree {
    fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
                let path = entry?.path();
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                if path.is_dir() {
                    let built = matches!(name.as_str(), "target" | "cache");
                    if !built && (!name.starts_with('.') || name == ".ci") {
                        folders.push(path);
                    }
                } else {
                    let text = std::fs::read(&path)
                        .ok()
                        .and_then(|bytes| String::from_utf8(bytes).ok());
                    files.push((
                        path.strip_prefix(root)?.to_string_lossy().into_owned(),
                        text,
                    ));
                }
            }
        }
        files.sort();
        Ok(Self {
            root: root.to_path_buf(),
            files,
        })
    }

    /// The text files whose path ends with `ending`.
    fn texts<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(ending))
            .filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.files
            .iter()
            .find(|(known, _)| known == path)
            .and_then(|(_, text)| text.as_deref())
    }

    fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }
}

/// What was found, each as one sentence that begins with the file.
#[derive(Default)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, file: &str, sentence: impl std::fmt::Display) {
        self.0.push(format!("{file}: {sentence}"));
    }
}
