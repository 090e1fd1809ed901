//! Running other programs: cargo with the workspace as its directory, output seen as it comes.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the workspace")
        .to_path_buf()
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), Into::into)
}

/// A cargo command in the workspace, with the cargo that started us.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(workspace_root());
    forget_this_package(&mut command);
    command
}

/// What cargo has told this program of itself is nothing that another cargo should know: build scripts (ring's) look at it, and all that depends on
/// them would be built once more when a person calls cargo.
pub(crate) fn forget_this_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if TOLD.iter().any(|begin| told.starts_with(begin)) {
            command.env_remove(name);
        }
    }
}

/// How the names of what cargo tells the program that it runs begin.
const TOLD: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];

/// Runs `command` with our own output; anything but success is an error that names it.
pub(crate) fn expect_success(what: &str, command: &mut Command) -> Result<()> {
    say(what)?;
    let status = command
        .status()
        .with_context(|| format!("{what}: cannot start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{what}: {status}");
    }
    Ok(())
}

/// Runs `command`, passes its standard output on line by line, and shows each line to `watch`. True if it succeeded.
pub(crate) fn watched(command: &mut Command, mut watch: impl FnMut(&str)) -> Result<bool> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("no pipe to cargo")?;
    let mut ours = std::io::stdout().lock();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        writeln!(ours, "{line}")?;
        watch(&line);
    }
    Ok(child.wait()?.success())
}

/// Does `work` with each of `items`, so many at a time. The error of the first that has one, when all threads have ended.
pub(crate) fn with_each<T: Sync>(
    items: &[T],
    at_a_time: usize,
    work: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let some = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_a_time).map(|_| scope.spawn(some)).collect();
        let ended = threads
            .into_iter()
            .map(|it| it.join().expect("it does not panic"));
        ended.collect::<Vec<Result<()>>>().into_iter().collect()
    })
}

/// Whether a program of this name can be started.
pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// Says that `what` is left out for want of `missing`; where `SEDGE_TESTS` is `strict`, that is an error.
pub(crate) fn skip(what: &str, missing: &str) -> Result<()> {
    say(&format!("SKIPPED {what}: {missing}"))?;
    if std::env::var("SEDGE_TESTS").is_ok_and(|value| value == "strict") {
        bail!("{what} must not be left out here");
    }
    Ok(())
}

/// One line of progress, with the seconds since the first.
pub(crate) fn say(what: &str) -> Result<()> {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let seconds = BEGAN.get_or_init(Instant::now).elapsed().as_secs();
    writeln!(std::io::stderr(), "xtask: {seconds:4} s: {what}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn each_item_is_dealt_with_once_and_an_error_is_told() {
        let items: Vec<u32> = (0..100).collect();
        let seen = Mutex::new(Vec::new());
        let outcome = with_each(&items, 2, |item| {
            seen.lock().unwrap().push(*item);
            Ok(())
        });
        assert!(outcome.is_ok());
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, items);
        let refused = with_each(&items, 2, |item| match item {
            99 => bail!("not this one"),
            _ => Ok(()),
        });
        assert!(refused.is_err());
    }
}
