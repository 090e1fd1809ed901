//! A copy of the project with all mutants in it, and the tests that are built of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::Part;
use crate::rewrite::{Mutant, rewrite};

/// The copy.
pub(crate) struct Copy {
    pub(crate) folder: PathBuf,
    pub(crate) part: &'static Part,
    pub(crate) mutants: Vec<Mutant>,
    /// Source files of the part, as they were.
    sources: Vec<(String, String)>,
    /// Those that do not compile.
    refused: BTreeSet<u32>,
}

/// A built program of tests.
#[derive(Clone, Debug)]
pub(crate) struct Tests {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) folder: PathBuf,
}

impl Copy {
    /// Copies what git knows of `root`.
    pub(crate) fn make(root: &Path, part: &'static Part) -> Result<Self> {
        let folder = root.join("target/mutants").join(part.name);
        let listed = Command::new("git")
            .args(["ls-files", "-z"])
            .current_dir(root)
            .output()?;
        let listed = String::from_utf8(listed.stdout)?;
        let mut sources = Vec::new();
        for name in listed.split('\0').filter(|name| !name.is_empty()) {
            let (from, to) = (root.join(name), folder.join(name));
            if !from.is_file() {
                continue;
            }
            if is_source_of(part, name) {
                sources.push((name.to_owned(), std::fs::read_to_string(&from)?));
                continue;
            }
            let mut bytes = std::fs::read(&from)?;
            if name == "core-nostd/src/lib.rs" {
                bytes.extend(b"\n#[doc(hidden)]\npub mod mutants;\n");
            }
            put(&to, &bytes)?;
        }
        put(&folder.join("core-nostd/src/mutants.rs"), CHOICE.as_bytes())?;
        let mut copy = Self {
            folder,
            part,
            mutants: Vec::new(),
            sources,
            refused: BTreeSet::new(),
        };
        copy.refused = copy.refused_before();
        Ok(copy)
    }

    /// What did not compile of these same sources the last time, so that what was built then still stands.
    fn refused_before(&self) -> BTreeSet<u32> {
        let text = std::fs::read_to_string(self.refused_file()).unwrap_or_default();
        match text.split_once('\n') {
            Some((of, ids)) if of == self.fingerprint() => {
                ids.lines().filter_map(|id| id.parse().ok()).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    fn remember_refused(&self) -> Result<()> {
        let ids = self.refused.iter().map(|id| format!("{id}\n"));
        let text = format!("{}\n{}", self.fingerprint(), ids.collect::<String>());
        put(&self.refused_file(), text.as_bytes())
    }

    fn refused_file(&self) -> PathBuf {
        self.folder.with_extension("refused")
    }

    fn fingerprint(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.sources.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// Builds the tests of the part, leaving out what does not compile.
    pub(crate) fn build(&mut self) -> Result<Vec<Tests>> {
        for _ in 0..ATTEMPTS_MAX {
            self.write()?;
            eprintln!(
                "mutants: {} to build, {} left out",
                self.mutants.len(),
                self.refused.len()
            );
            let (succeeded, messages) = self.cargo()?;
            if succeeded {
                self.remember_refused()?;
                return self.tests(&messages);
            }
            let wrong = self.blamed(&messages);
            if wrong.is_empty() {
                bail!(
                    "does not compile, for reasons of its own:\n{}",
                    rendered(&messages)
                );
            }
            self.refused.extend(wrong);
        }
        bail!("still does not compile")
    }

    fn write(&mut self) -> Result<()> {
        self.mutants.clear();
        let mut first = 1;
        for (name, source) in &self.sources {
            let (text, mutants) = rewrite(name, source, first, &|id| !self.refused.contains(&id))?;
            // Numbers do not depend on what is left out.
            first += IDS_OF_A_FILE;
            put(&self.folder.join(name), text.as_bytes())?;
            self.mutants.extend(mutants);
        }
        Ok(())
    }

    /// A compiler that warns of nothing, for our own crates alone: those of others are then the same as in any other build.
    fn quiet_compiler(&self) -> Result<PathBuf> {
        let path = self.folder.with_file_name("rustc");
        put(&path, b"#!/bin/sh\nexec \"$@\" --cap-lints=allow\n")?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(path)
    }

    fn cargo(&self) -> Result<(bool, Vec<Value>)> {
        let mut command = Command::new("cargo");
        command
            .args([
                "test",
                "--no-run",
                "--message-format=json",
                "--features",
                "sedge-core/planted",
            ])
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", self.folder.with_file_name("target"))
            .env("RUSTC_WORKSPACE_WRAPPER", self.quiet_compiler()?);
        let packages: BTreeSet<&str> = self
            .part
            .tests
            .iter()
            .map(|(package, _)| *package)
            .collect();
        for package in packages {
            command.args(["--package", package]);
        }
        let names: BTreeSet<&str> = self.part.tests.iter().map(|(_, test)| *test).collect();
        for name in names.iter().filter(|name| !name.starts_with("sedge_")) {
            command.args(["--test", name]);
        }
        let output = command.arg("--lib").stderr(Stdio::inherit()).output()?;
        let told = String::from_utf8_lossy(&output.stdout);
        let messages = told
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        Ok((output.status.success(), messages))
    }

    /// The mutants at which errors point: the nearest number at or before each of their lines, or within them.
    fn blamed(&self, messages: &[Value]) -> BTreeSet<u32> {
        let mut wrong = BTreeSet::new();
        let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for message in messages
            .iter()
            .map(|m| &m["message"])
            .filter(|m| m["level"] == "error")
        {
            for span in message["spans"].as_array().into_iter().flatten() {
                if span["is_primary"] != true {
                    continue;
                }
                let file = span["file_name"].as_str().unwrap_or_default().to_owned();
                let path = self.folder.join(&file);
                let lines = texts.entry(file).or_insert_with(|| {
                    let text = std::fs::read_to_string(&path).unwrap_or_default();
                    text.lines().map(str::to_owned).collect()
                });
                let from = span["line_start"].as_u64().unwrap_or(1) as usize;
                let to = span["line_end"].as_u64().unwrap_or(1) as usize;
                let within: Vec<u32> = lines[from - 1..to.min(lines.len())]
                    .iter()
                    .flat_map(|line| numbers(line))
                    .collect();
                if within.is_empty() {
                    let before = lines[..from.min(lines.len())].iter().rev().take(LINES_BACK);
                    wrong.extend(before.flat_map(|line| numbers(line)).next());
                } else {
                    wrong.extend(within);
                }
            }
        }
        wrong
    }

    fn tests(&self, messages: &[Value]) -> Result<Vec<Tests>> {
        let mut built = BTreeMap::new();
        for message in messages {
            let Some(program) = message["executable"].as_str() else {
                continue;
            };
            if message["profile"]["test"] != true {
                continue;
            }
            let manifest = PathBuf::from(message["manifest_path"].as_str().unwrap_or_default());
            let folder = manifest
                .parent()
                .context("a manifest has a folder")?
                .to_path_buf();
            let text: toml::Table = toml::from_str(&std::fs::read_to_string(&manifest)?)?;
            let package = text["package"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let name = message["target"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let tests = Tests {
                name: format!("{package} {name}"),
                program: program.into(),
                folder,
            };
            built.insert((package, name), tests);
        }
        let wanted = self.part.tests.iter().map(|(package, name)| {
            let key = ((*package).to_owned(), (*name).to_owned());
            built
                .get(&key)
                .cloned()
                .with_context(|| format!("{package} has no tests {name}"))
        });
        wanted.collect()
    }
}

fn is_source_of(part: &Part, name: &str) -> bool {
    let within = part.folders.iter().any(|folder| name.starts_with(folder));
    within && name.ends_with(".rs") && !KEPT.contains(&name) && !name.contains("/tests")
}

fn numbers(line: &str) -> Vec<u32> {
    let after = line.split("mutants::is(").skip(1);
    after
        .filter_map(|rest| rest.split("u32").next()?.parse().ok())
        .collect()
}

fn rendered(messages: &[Value]) -> String {
    let errors = messages
        .iter()
        .map(|m| &m["message"])
        .filter(|m| m["level"] == "error");
    errors
        .filter_map(|m| m["rendered"].as_str())
        .take(5)
        .collect()
}

/// Writes a file that is not so already.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// Files that are part of how it is tested.
const KEPT: [&str; 2] = ["core-nostd/src/planted.rs", "core-nostd/src/lib.rs"];
const ATTEMPTS_MAX: u32 = 40;
const LINES_BACK: usize = 12;
const IDS_OF_A_FILE: u32 = 10_000;
/// Which mutant a process has, or the file that it is to write those into that it comes across.
const CHOICE: &str = r#"#![allow(missing_docs)]
extern crate std;

use std::io::Write;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

static CHOSEN: AtomicU32 = AtomicU32::new(UNKNOWN);
static SEEN: [AtomicU64; 1 << 14] = [const { AtomicU64::new(0) }; 1 << 14];
const UNKNOWN: u32 = u32::MAX;
const RECORDING: u32 = u32::MAX - 1;

#[inline]
pub fn is(id: u32) -> bool {
    match CHOSEN.load(Ordering::Relaxed) {
        UNKNOWN | RECORDING => looked_up(id),
        chosen => chosen == id,
    }
}

#[cold]
fn looked_up(id: u32) -> bool {
    if CHOSEN.load(Ordering::Relaxed) == UNKNOWN {
        let number = std::env::var("SEDGE_MUTANT").ok().and_then(|id| id.parse().ok()).unwrap_or(0);
        let is_recording = std::env::var_os("SEDGE_MUTANTS_REACHED").is_some();
        CHOSEN.store(if is_recording { RECORDING } else { number }, Ordering::Relaxed);
        return is(id);
    }
    let (word, bit) = (&SEEN[id as usize / 64], 1 << (id % 64));
    if word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        let path = std::env::var_os("SEDGE_MUTANTS_REACHED").expect("it was there");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        // In one piece: other threads write too.
        let line = std::format!("{id}\n");
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("it can be written");
    }
    false
}
"#;
