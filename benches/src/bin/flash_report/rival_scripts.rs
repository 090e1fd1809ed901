//! The same kind of scripts over the other contender's queue: pushes and pops, cut anywhere, a new instance behind each cut.
//!
//! It is given what it asks for: cells that may be programmed twice, and erases that hold though they were cut short. What it must show: every item whose push
//! returned and whose pop was not called, in order, and no other; and behind the last cut, pushes and looks that succeed.

use std::collections::VecDeque;

use sedge_tests::flash::FlashTear;
use sedge_tests::random::Random;
use sedge_tests::sim::Sim;
use sequential_storage::Error;

use crate::nor::Chip;
use crate::rival::Queue;
use crate::row::thousands;

/// What the queue shows in `count` scripts for each way to tear.
pub(crate) fn told(count: u64, first_seed: u64) -> String {
    let models: [(&str, &[FlashTear]); 3] = [
        (
            "in byte order, as it is tested",
            &[FlashTear::Prefix, FlashTear::Everything, FlashTear::Nothing],
        ),
        ("any units or bits", &UNORDERED),
        ("units read as errors", &[FlashTear::Poison]),
    ];
    let told: Vec<String> = models
        .iter()
        .map(|(name, tears)| {
            let tally = Tally::of(count / 6, first_seed, tears);
            format!("{name}: {tally}")
        })
        .collect();
    format!(
        "{} scripts each; {}",
        thousands(count / 6 * 6),
        told.join("; ")
    )
}

#[derive(Default)]
struct Tally {
    lost: u64,
    phantom: u64,
    stuck: u64,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} lost, {} phantom, {} stuck",
            thousands(self.lost),
            thousands(self.phantom),
            thousands(self.stuck)
        )
    }
}

impl Tally {
    fn of(count_each: u64, first_seed: u64, tears: &[FlashTear]) -> Self {
        let mut tally = Self::default();
        tally.add::<1>(count_each, first_seed, tears);
        tally.add::<2>(count_each, first_seed, tears);
        tally.add::<4>(count_each, first_seed, tears);
        tally.add::<8>(count_each, first_seed, tears);
        tally.add::<16>(count_each, first_seed, tears);
        tally.add::<32>(count_each, first_seed, tears);
        tally
    }

    fn add<const UNIT: usize>(&mut self, count: u64, first_seed: u64, tears: &[FlashTear]) {
        let starts: Vec<Start<UNIT>> = (0..STARTS).map(Start::after).collect();
        for seed in first_seed..first_seed + count {
            let mut random = Random::new(seed);
            let start = &starts[random.index(starts.len())];
            match Life::begin(start, random).play(tears) {
                Ok(()) => {}
                Err(Wrong::Lost) => self.lost += 1,
                Err(Wrong::Phantom) => self.phantom += 1,
                Err(Wrong::Stuck) => self.stuck += 1,
            }
        }
    }
}

/// A place where scripts begin.
struct Start<const UNIT: usize> {
    chip: Chip<UNIT, PAGE>,
    held: VecDeque<Vec<u8>>,
    number: u64,
}

impl<const UNIT: usize> Start<UNIT> {
    fn after(operations: u64) -> Self {
        let chip = Chip::blank(PAGES, operations);
        let start = Self {
            chip,
            held: VecDeque::new(),
            number: 0,
        };
        let mut life = Life::begin(&start, Random::new(operations));
        for _ in 0..operations * 3 {
            let step = life.step();
            assert!(step.is_ok(), "nothing was cut");
        }
        Self {
            chip: life.queue.chip().copied(),
            held: life.held,
            number: life.number,
        }
    }
}

enum Wrong {
    Lost,
    Phantom,
    Stuck,
}

/// A script under way.
struct Life<const UNIT: usize> {
    queue: Queue<UNIT, PAGE>,
    held: VecDeque<Vec<u8>>,
    number: u64,
    random: Random,
    /// An item whose push was cut.
    tried: Option<Vec<u8>>,
    /// The pop of the first item was cut.
    popping: bool,
}

/// The power failed.
struct Cut;

impl<const UNIT: usize> Life<UNIT> {
    fn begin(start: &Start<UNIT>, random: Random) -> Self {
        Self {
            queue: Queue::boot(start.chip.copied()),
            held: start.held.clone(),
            number: start.number,
            random,
            tried: None,
            popping: false,
        }
    }

    fn play(&mut self, tears: &[FlashTear]) -> Result<(), Wrong> {
        let mut left = 1 + self.random.index(STEPS_MAX);
        for life in 1.. {
            let ops = self.random.below(4 * life);
            self.queue.chip().cells().sim_mut().arm(ops);
            while left > 0 && self.step_or_stuck()?.is_ok() {
                left -= 1;
            }
            if left == 0 {
                break;
            }
            let (tear, seed) = (self.random.pick(tears), self.random.bits());
            self.queue.chip().cells().sim_mut().revive(tear, seed);
            self.queue = Queue::boot(self.queue.chip().clone());
            self.judge()?;
        }
        self.queue.chip().cells().sim_mut().disarm();
        self.queue = Queue::boot(self.queue.chip().clone());
        self.judge()?;
        self.step_or_stuck()?.map_err(|Cut| Wrong::Stuck)?;
        self.judge()
    }

    fn step_or_stuck(&mut self) -> Result<Result<(), Cut>, Wrong> {
        match self.step() {
            Ok(()) => Ok(Ok(())),
            Err(_) if self.queue.chip().cells().sim().is_down() => Ok(Err(Cut)),
            Err(_) => Err(Wrong::Stuck),
        }
    }

    /// A push, or where there is no room for it or by chance, a pop.
    fn step(&mut self) -> Result<(), crate::rival::Failed> {
        if self.random.one_in(4) {
            return self.pop();
        }
        self.number += 1;
        let mut item = vec![0; 9 + self.random.index(28)];
        item[..8].copy_from_slice(&self.number.to_le_bytes());
        self.tried = Some(item.clone());
        match self.queue.push(&item, false) {
            Ok(()) => self.held.push_back(item),
            Err(Error::FullStorage) => {
                self.tried = None;
                return self.pop();
            }
            Err(error) => return Err(error),
        }
        self.tried = None;
        Ok(())
    }

    fn pop(&mut self) -> Result<(), crate::rival::Failed> {
        self.popping = true;
        self.queue.pop()?;
        self.held.pop_front();
        self.popping = false;
        Ok(())
    }

    /// What is shown must be what is held; only what was cut may be there or not.
    fn judge(&mut self) -> Result<(), Wrong> {
        let shown: VecDeque<Vec<u8>> = match self.queue.items() {
            Ok(items) => items.into(),
            Err(_) => return Err(Wrong::Stuck),
        };
        let mut rest: &[Vec<u8>] = &shown.iter().cloned().collect::<Vec<_>>();
        let mut held = self.held.iter().peekable();
        if self.popping && rest.first() != held.peek().copied() {
            held.next();
        }
        for item in held {
            match rest.split_first() {
                Some((first, behind)) if first == item => rest = behind,
                _ => return Err(Wrong::Lost),
            }
        }
        if self.tried.is_some() && rest.first() == self.tried.as_ref() {
            rest = &rest[1..];
        }
        if !rest.is_empty() {
            return Err(Wrong::Phantom);
        }
        self.held = shown;
        self.tried = None;
        self.popping = false;
        Ok(())
    }
}

const PAGES: u32 = 3;
const PAGE: usize = 1024;
const STARTS: u64 = 60;
const STEPS_MAX: usize = 8;
const UNORDERED: [FlashTear; 6] = [
    FlashTear::Nothing,
    FlashTear::Everything,
    FlashTear::Prefix,
    FlashTear::Suffix,
    FlashTear::Subset,
    FlashTear::Bits,
];
