//! Single tests: what each takes, and which mutants it comes across. A mutant is tried only with those that come across it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::copy::Tests;

/// One test.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Which of the programs has it.
    pub(crate) program: usize,
    pub(crate) name: String,
    pub(crate) took: Duration,
    pub(crate) reached: BTreeSet<u32>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Passed,
    /// With the test that failed first.
    Failed(String),
    /// It took more than it may.
    Hung,
}

/// What a run may take; one that hangs notices the mutant too.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    /// For one that waits in vain; on a machine with other work it says little.
    pub(crate) wall: Duration,
    pub(crate) processor_s: u64,
}

impl Limit {
    /// For what takes so long without a mutant.
    pub(crate) fn of(took: Duration) -> Self {
        Self {
            wall: took * 10 + Duration::from_secs(30),
            processor_s: took.as_secs() * 5 + 4,
        }
    }
}

/// All tests that take no longer than `most`; what is known of programs that were not built anew since stands in the file `known`.
pub(crate) fn measured(programs: &[Tests], most: Duration, known: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let told = remembered(known)?;
    let mut file = OpenOptions::new().create(true).append(true).open(known)?;
    for (program, tests) in programs.iter().enumerate() {
        let (began, before) = (Instant::now(), cases.len());
        for name in names(tests)? {
            let test = format!("{}\t{name}", tests.name);
            let key = format!("{test}\t{}", built(tests)?);
            // What took too long once is not tried again because it was built again.
            let found = told.get(&key).or_else(|| told.get(&test));
            let found = found.filter(|(asked, took, _)| took.is_some() || *asked >= most);
            let (took, reached) = match found {
                Some((_, took, reached)) => (*took, reached.clone()),
                None => {
                    let (took, reached) = measure(tests, &name, most, known)?;
                    let key = if took.is_some() { &key } else { &test };
                    remember(&mut file, key, most, took, &reached)?;
                    (took, reached)
                }
            };
            match took.filter(|took| *took <= most) {
                Some(took) => cases.push(Case {
                    program,
                    name,
                    took,
                    reached,
                }),
                None => eprintln!("mutants: {} {name} is left out", tests.name),
            }
        }
        eprintln!(
            "mutants: {} has {} tests, looked at in {:.1} s",
            tests.name,
            cases.len() - before,
            began.elapsed().as_secs_f32()
        );
    }
    Ok(cases)
}

/// Runs the named tests of a program with a mutant, until one fails.
pub(crate) fn run(tests: &Tests, names: &[&str], mutant: u32, limit: Limit) -> Result<Ending> {
    let mut command = command(tests, names, limit);
    command.env("SEDGE_MUTANT", mutant.to_string());
    ending(command, limit.wall)
}

fn ending(mut command: Command, wall: Duration) -> Result<Ending> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("it is piped")?).lines();
    let (tell, told) = mpsc::channel();
    // It ends with the program's output.
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if line.ends_with(" ... FAILED") && tell.send(line).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + wall;
    let failed = told.recv_timeout(wall);
    match failed {
        Ok(line) => {
            end(&mut child)?;
            let name = line.trim_start_matches("test ");
            Ok(Ending::Failed(
                name.trim_end_matches(" ... FAILED").to_owned(),
            ))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => loop {
            if let Some(status) = child.try_wait()? {
                return Ok(match status.code() {
                    Some(0) => Ending::Passed,
                    Some(_) => Ending::Failed(String::new()),
                    None => Ending::Hung,
                });
            }
            if Instant::now() > deadline {
                end(&mut child)?;
                return Ok(Ending::Hung);
            }
            std::thread::sleep(Duration::from_millis(1));
        },
        Err(mpsc::RecvTimeoutError::Timeout) => {
            end(&mut child)?;
            Ok(Ending::Hung)
        }
    }
}

fn end(child: &mut Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn command(tests: &Tests, names: &[&str], limit: Limit) -> Command {
    let within = format!(
        "ulimit -c 0; ulimit -v {MEMORY_KIB_MAX}; ulimit -t {}; exec \"$0\" \"$@\"",
        limit.processor_s
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &within])
        .arg(&tests.program)
        .args(["--exact", "--test-threads=1"])
        .args(names)
        .current_dir(&tests.folder)
        .env("CARGO_MANIFEST_DIR", &tests.folder)
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
        .env("RUST_BACKTRACE", "0")
        // Fewer lives by chance than in a test run, and the same ones with each mutant.
        .env("SEDGE_CUTS", "1000")
        .env("SEDGE_BURSTS", "1000")
        .env("SEDGE_PAIRS", "100")
        .env("SEDGE_SEEDS", "3")
        .env("SEDGE_SEED", "100")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn names(tests: &Tests) -> Result<Vec<String>> {
    let output = Command::new(&tests.program)
        .args(["--list", "--format", "terse"])
        .current_dir(&tests.folder)
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

/// `None` if it takes more than `most`.
fn measure(
    tests: &Tests,
    name: &str,
    most: Duration,
    beside: &Path,
) -> Result<(Option<Duration>, BTreeSet<u32>)> {
    let limit = Limit {
        wall: most * 3,
        processor_s: most.as_secs() + 1,
    };
    let reached = beside.with_extension("reached");
    File::create(&reached)?;
    let mut recording = command(tests, &[name], limit);
    recording.env("SEDGE_MUTANTS_REACHED", &reached);
    // Whoever writes down what it comes across takes longer than one that does not.
    match ending(recording, most * 12)? {
        Ending::Passed => {}
        // Those that count what a program opens are also left out.
        Ending::Failed(_) | Ending::Hung => return Ok((None, BTreeSet::new())),
    }
    let text = std::fs::read_to_string(&reached)?;
    let ids = text.lines().map(str::parse).collect::<Result<_, _>>()?;
    let began = Instant::now();
    match run(tests, &[name], 0, limit)? {
        Ending::Passed => Ok((Some(began.elapsed()), ids)),
        Ending::Failed(_) => bail!("{} {name} fails without a mutant", tests.name),
        Ending::Hung => Ok((None, BTreeSet::new())),
    }
}

/// When the program was built.
fn built(tests: &Tests) -> Result<u128> {
    let changed = tests.program.metadata()?.modified()?;
    Ok(changed.duration_since(UNIX_EPOCH)?.as_millis())
}

/// What it was given, what it took if that was enough, and what it came across.
type Told = (Duration, Option<Duration>, BTreeSet<u32>);

fn remember(
    file: &mut File,
    key: &str,
    most: Duration,
    took: Option<Duration>,
    reached: &BTreeSet<u32>,
) -> Result<()> {
    let took = took.map_or_else(|| "-".to_owned(), |took| took.as_millis().to_string());
    let reached: Vec<String> = reached.iter().map(u32::to_string).collect();
    let line = format!("{key}\t{}\t{took}\t{}", most.as_millis(), reached.join(","));
    writeln!(file, "{line}")?;
    Ok(())
}

fn remembered(path: &Path) -> Result<BTreeMap<String, Told>> {
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let told = |line: &str| {
        let mut fields = line.rsplitn(4, '\t');
        let reached = fields.next()?.split(',').filter_map(|id| id.parse().ok());
        let took = fields.next()?.parse().ok().map(Duration::from_millis);
        let asked = Duration::from_millis(fields.next()?.parse().ok()?);
        Some((fields.next()?.to_owned(), (asked, took, reached.collect())))
    };
    Ok(text.lines().filter_map(told).collect())
}

/// A mutant that asks for memory without end is not to take that of others.
const MEMORY_KIB_MAX: u64 = 8 << 20;
