//! System calls of a real program that fail when a test says so: `strace` injects the error, the call is not made.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::Missing;
use super::daemon::Daemon;

/// One call that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its name, as strace has it.
    pub call: &'static str,
    /// The error, as `errno(3)` names it.
    pub error: &'static str,
    /// Which of the calls of this name in the program's life, from 1.
    pub when: u32,
    /// All behind it fail as well.
    pub for_ever: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.for_ever { "+" } else { "" };
        write!(
            f,
            "{}:error={}:when={}{more}",
            self.call, self.error, self.when
        )
    }
}

/// Whether strace may trace on this machine.
///
/// # Errors
/// What is missing.
pub fn can_inject() -> Result<(), Missing> {
    let mut probe = Command::new("strace");
    let probe = probe
        .args(["-f", "-qq", "-o", "/dev/null", "true"])
        .stderr(Stdio::null())
        .status();
    match probe {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Missing::Machine(format!(
            "strace cannot trace here: {status}"
        ))),
        Err(_) => Err(Missing::Program("strace")),
    }
}

/// `command` under strace, which writes the calls of these names to `log`, and lets one fail. The process that is started is the program itself, the tracer
/// stands beside it.
#[must_use]
pub fn traced(command: &Command, calls: &[&str], failure: Option<Failure>, log: &Path) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-D", "-f", "-qq", "-o"]).arg(log);
    traced.arg("-e").arg(format!("trace={}", calls.join(",")));
    if let Some(failure) = failure {
        traced.arg("-e").arg(format!("inject={failure}"));
    }
    traced.arg(command.get_program()).args(command.get_args());
    traced
}

/// How often each call stands in what strace wrote.
///
/// # Panics
/// If it wrote nothing.
#[must_use]
pub fn counted(log: &Path) -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string(log).expect("what strace wrote");
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        // 4711 openat(AT_FDCWD, … ; the second half of a call that another thread interrupted is not one more.
        let name = line
            .split_whitespace()
            .nth(1)
            .and_then(|rest| rest.split_once('('));
        if let Some((name, _)) = name {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// `command` under strace, in which each call of this name begins late: in each thread from its `when`th on.
#[must_use]
pub fn slowed(command: &Command, call: &str, when: u32, delay: Duration) -> Command {
    let mut slowed = Command::new("strace");
    slowed.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e"]);
    slowed.arg(format!("trace={call}")).arg("-e");
    let us = delay.as_micros();
    slowed.arg(format!("inject={call}:delay_enter={us}:when={when}+"));
    slowed.arg(command.get_program()).args(command.get_args());
    slowed
}

/// Kills a program that was started by [`slowed`]. A call that has not begun yet would keep it from its end as long as the tracer is there.
///
/// # Panics
/// If nobody traces it.
pub fn kill_slowed(program: Daemon) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid()));
    let status = status.expect("it runs");
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:")?.trim().parse().ok())
        .and_then(Pid::from_raw)
        .expect("strace traces it");
    // We have started it, with the program.
    kill_process(tracer, Signal::KILL).expect("our own tracer");
    program.kill();
}
