//! Runs the tests with one mutant after the other.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;

use crate::Wish;
use crate::cases::{self, Case, Ending, Limit};
use crate::copy::{Copy, Tests};
use crate::rewrite::Mutant;

pub(crate) struct Trial<'a> {
    copy: &'a Copy,
    wish: &'a Wish,
    programs: Vec<Tests>,
    cases: Vec<Case>,
    /// One line for each mutant: number, place, change, and what noticed it, or `survived`.
    outcomes: PathBuf,
}

/// Tests of one program that are run together.
struct Batch<'a> {
    program: usize,
    names: Vec<&'a str>,
    took: Duration,
}

impl<'a> Trial<'a> {
    /// Runs each test without a mutant: it passes, takes so long, and comes across these mutants.
    pub(crate) fn new(copy: &'a Copy, programs: Vec<Tests>, wish: &'a Wish) -> Result<Self> {
        let most = wish.within.unwrap_or(PATIENCE);
        let cases = cases::measured(&programs, most, &copy.folder.with_extension("cases"))?;
        Ok(Self {
            copy,
            wish,
            programs,
            cases,
            outcomes: copy.folder.with_extension("outcomes"),
        })
    }

    /// Tries what is asked for and was not tried before, and sums up all that is known.
    pub(crate) fn try_all(&self) -> Result<()> {
        let wish = self.wish;
        let known = self.known()?;
        let chosen = self.chosen(&known);
        let open: Vec<&&Mutant> = chosen
            .iter()
            .filter(|m| known.get(&key(m)).is_none_or(|o| self.is_open(m, o)))
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

    /// It is asked for by its number, or it survived only what is quick and all is to be tried now.
    fn is_open(&self, mutant: &Mutant, outcome: &str) -> bool {
        let is_quick = outcome.starts_with(SURVIVED_WITHIN) && self.wish.within.is_none();
        self.wish.only.contains(&mutant.id) || is_quick
    }

    fn chosen(&self, known: &BTreeMap<String, String>) -> Vec<&Mutant> {
        let wish = self.wish;
        let mut all: Vec<&Mutant> = self.copy.mutants.iter().collect();
        if !wish.only.is_empty() {
            all.retain(|mutant| wish.only.contains(&mutant.id));
        }
        if wish.is_fresh {
            all.retain(|mutant| !known.contains_key(&key(mutant)));
        }
        if let Some(count) = wish.sample {
            all.sort_by_key(|mutant| shuffled(wish.seed, mutant.id));
            all.truncate(count);
        }
        all
    }

    /// Which test notices it.
    fn noticed(&self, mutant: &Mutant) -> Result<String> {
        let batches = self.batches(mutant);
        for batch in &batches {
            let tests = &self.programs[batch.program];
            let ending = cases::run(tests, &batch.names, mutant.id, Limit::of(batch.took))?;
            let program = &tests.name;
            match ending {
                Ending::Passed => {}
                Ending::Failed(name) => return Ok(format!("{program} {name}")),
                Ending::Hung => return Ok(format!("{program}, which hangs")),
            }
        }
        let reached = if batches.is_empty() { NOT_REACHED } else { "" };
        Ok(match self.wish.within {
            Some(most) => format!("{SURVIVED_WITHIN}{most:?}{reached}"),
            None => format!("{SURVIVED}{reached}"),
        })
    }

    /// The tests that come across it, the quickest first and those of a program together.
    fn batches(&self, mutant: &Mutant) -> Vec<Batch<'_>> {
        let mut quick: BTreeMap<usize, Batch<'_>> = BTreeMap::new();
        let mut batches = Vec::new();
        for case in &self.cases {
            if !case.reached.contains(&mutant.id) {
                continue;
            }
            let batch = Batch {
                program: case.program,
                names: vec![&case.name],
                took: case.took,
            };
            if case.took > QUICK {
                batches.push(batch);
                continue;
            }
            quick
                .entry(case.program)
                .and_modify(|all| {
                    all.names.push(&case.name);
                    all.took += case.took;
                })
                .or_insert(batch);
        }
        batches.extend(quick.into_values());
        batches.sort_by_key(|batch| batch.took);
        batches
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
        let (mut by, mut survived): (BTreeMap<String, u32>, u32) = Default::default();
        for (mutant, outcome) in outcomes {
            match outcome.starts_with(SURVIVED) {
                true => {
                    survived += 1;
                    println!("{outcome}: {}", key(mutant));
                }
                false => *by.entry(program_of(outcome)).or_default() += 1,
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

/// Package and program in what is told of one that was noticed.
fn program_of(outcome: &str) -> String {
    let words: Vec<&str> = outcome.split([' ', ',']).take(2).collect();
    words.join(" ")
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
const NOT_REACHED: &str = ", and no test comes across it";
/// Tests that take no longer are run together.
const QUICK: Duration = Duration::from_millis(150);
/// A test that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(1800);
