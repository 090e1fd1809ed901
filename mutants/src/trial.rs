//! Runs the tests with one mutant after the other.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::Wish;
use crate::copy::{Copy, Tests};
use crate::rewrite::Mutant;

/// What a run may take; a test that hangs notices the mutant too.
#[derive(Clone, Copy)]
struct Limit {
    wall: Duration,
    processor_s: u64,
}

pub(crate) struct Trial<'a> {
    copy: &'a Copy,
    wish: &'a Wish,
    /// The quickest first, with what each may take.
    tests: Vec<(Tests, Limit)>,
    /// One line for each mutant: number, place, change, and what noticed it, or `survived`.
    outcomes: PathBuf,
}

impl<'a> Trial<'a> {
    /// Runs all tests once without a mutant: they pass, and take so long.
    pub(crate) fn new(copy: &'a Copy, tests: Vec<Tests>, wish: &'a Wish) -> Result<Self> {
        let most = wish.within.unwrap_or(PATIENCE);
        let patient = Limit {
            wall: PATIENCE,
            processor_s: most.as_secs() + 1,
        };
        let mut timed = Vec::new();
        for tests in tests {
            let began = Instant::now();
            let passes = passes(&tests, 0, patient)?;
            let took = began.elapsed();
            let (name, seconds) = (&tests.name, took.as_secs_f32());
            match passes {
                true => {}
                false if took > most => {
                    eprintln!("mutants: {name} is left out, it takes more than {most:?}");
                    continue;
                }
                false => bail!("{name} fails without a mutant"),
            }
            eprintln!("mutants: {name} passes in {seconds:.1} s");
            // The wall's clock is for a deadlock; on a machine with other work it says little.
            let limit = Limit {
                wall: took * 10 + Duration::from_secs(120),
                processor_s: took.as_secs() * 5 + 10,
            };
            timed.push((took, tests, limit));
        }
        timed.sort_by_key(|(took, ..)| *took);
        Ok(Self {
            copy,
            wish,
            tests: timed
                .into_iter()
                .map(|(_, tests, limit)| (tests, limit))
                .collect(),
            outcomes: copy.folder.with_extension("outcomes"),
        })
    }

    /// Tries what is asked for and was not tried before, and sums up all that is known.
    pub(crate) fn try_all(&self) -> Result<()> {
        let wish = self.wish;
        let known = self.known()?;
        let chosen = self.chosen();
        let open: Vec<&&Mutant> = chosen
            .iter()
            .filter(|m| known.get(&key(m)).is_none_or(|o| self.is_open(o)))
            .collect();
        eprintln!(
            "mutants: {} of {}, {} were tried before",
            chosen.len(),
            self.copy.mutants.len(),
            chosen.len() - open.len()
        );
        let file = Mutex::new(
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.outcomes)?,
        );
        let next = Mutex::new(open.into_iter());
        let work = || -> Result<()> {
            loop {
                let Some(mutant) = next.lock().expect("nobody panics").next() else {
                    return Ok(());
                };
                let noticed = self.noticed(mutant)?;
                writeln!(
                    file.lock().expect("nobody panics"),
                    "{}\t{noticed}",
                    key(mutant)
                )?;
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..wish.jobs.max(1)).map(|_| scope.spawn(work)).collect();
            work()?;
            others
                .into_iter()
                .try_for_each(|other| other.join().expect("it does not panic"))
        })?;
        self.sum_up(&chosen)
    }

    /// It survived only what is quick, and all is to be tried now.
    fn is_open(&self, outcome: &str) -> bool {
        outcome.starts_with(SURVIVED_WITHIN) && self.wish.within.is_none()
    }

    fn chosen(&self) -> Vec<&Mutant> {
        let wish = self.wish;
        let mut all: Vec<&Mutant> = self.copy.mutants.iter().collect();
        if let Some(count) = wish.sample {
            all.sort_by_key(|mutant| shuffled(wish.seed, mutant.id));
            all.truncate(count);
        }
        all
    }

    /// Which tests notice it.
    fn noticed(&self, mutant: &Mutant) -> Result<String> {
        for (tests, limit) in &self.tests {
            if !passes(tests, mutant.id, *limit)? {
                return Ok(tests.name.clone());
            }
        }
        Ok(match self.wish.within {
            Some(most) => format!("{SURVIVED_WITHIN}{most:?}"),
            None => SURVIVED.to_owned(),
        })
    }

    fn known(&self) -> Result<BTreeMap<String, String>> {
        let text = match std::fs::read_to_string(&self.outcomes) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let pairs = text.lines().filter_map(|line| line.rsplit_once('\t'));
        Ok(pairs
            .map(|(key, outcome)| (key.to_owned(), outcome.to_owned()))
            .collect())
    }

    fn sum_up(&self, chosen: &[&Mutant]) -> Result<()> {
        let known = self.known()?;
        let outcomes = chosen.iter().filter_map(|m| Some((m, known.get(&key(m))?)));
        let (mut by, mut survived): (BTreeMap<&str, u32>, u32) = Default::default();
        for (mutant, outcome) in outcomes {
            match outcome.starts_with(SURVIVED) {
                true => {
                    survived += 1;
                    println!("{outcome}: {}", key(mutant));
                }
                false => *by.entry(outcome).or_default() += 1,
            }
        }
        let all = survived + by.values().sum::<u32>();
        for (tests, count) in by {
            println!("{count} noticed by {tests}");
        }
        let caught = all - survived;
        println!(
            "{caught} of {all} noticed, {:.1} %",
            100.0 * f64::from(caught) / f64::from(all.max(1))
        );
        Ok(())
    }
}

fn key(mutant: &Mutant) -> String {
    let Mutant {
        file,
        line,
        function,
        change,
        id,
    } = mutant;
    format!("{id} {file}:{line} {function} {change}")
}

/// Whether the tests pass with a mutant, in time.
fn passes(tests: &Tests, mutant: u32, limit: Limit) -> Result<bool> {
    let null = File::open("/dev/null")?;
    let within = format!("ulimit -t {}; exec \"$0\"", limit.processor_s);
    let mut child = Command::new("sh")
        .args(["-c", &within])
        .arg(&tests.program)
        .current_dir(&tests.folder)
        .env("CARGO_MANIFEST_DIR", &tests.folder)
        .env("SEDGE_MUTANT", mutant.to_string())
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
        .env("RUST_BACKTRACE", "0")
        .stdin(null)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + limit.wall;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An order by chance.
fn shuffled(seed: u64, id: u32) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(id);
    for _ in 0..3 {
        mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    }
    mixed ^ (mixed >> 29)
}

const SURVIVED: &str = "survived";
/// By those tests that take no longer.
const SURVIVED_WITHIN: &str = "survived within ";
/// A test that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(1800);
