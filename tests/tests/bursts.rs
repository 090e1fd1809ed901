//! A run of bytes of any length is overwritten, anywhere in a full log: by anything, by zeros, by ones, by bytes from elsewhere. No record is shown that was
//! not given, the log goes on, and no offset is given twice but where the log may not know any more that it was longer.
//!
//! `SEDGE_BURSTS` says how many on each medium (default 50,000), `SEDGE_SEED` where to begin. A failure prints its seed.

use std::ops::Range;

use sedge_core::segment::{Medium, OpenHeader, Role, STAMP_LEN};
use sedge_tests::disk::SimDisk;
use sedge_tests::oracle::Damage;
use sedge_tests::random::{Random, seed_for};
use sedge_tests::reference;
use sedge_tests::rig::tell;
use sedge_tests::script::{self, Step};
use sedge_tests::short::{UNITS, blank_flash};
use sedge_tests::sim::Sim;
use sedge_tests::world::{Ended, Setting, World};

/// A log that has gone round its ring.
struct Full<S> {
    world: World<S>,
    setting: Setting,
    image: Vec<u8>,
    /// The head, and where in it the first frame stands.
    head: (u32, u32),
    /// Where in the image the last commit stands.
    last: Range<usize>,
}

impl<S: Sim> Full<S> {
    /// None where the last commit begins a segment.
    fn of(setting: Setting, sim: S, steps: usize, seed: u64) -> Option<Self> {
        let mut world = World::new(setting, sim, &script::filling(seed, steps, 4), seed);
        assert_eq!(world.run(), Ok(Ended::Done));
        let commit = Step::Commit(vec![2]);
        let mut before = world.branch();
        before.play(std::slice::from_ref(&commit));
        assert_eq!(before.run(), Ok(Ended::Done));
        world.play(&[commit.clone(), commit]);
        assert_eq!(world.run(), Ok(Ended::Done));
        world.read_once();
        let (before, image) = (before.sim().sim().image(), world.sim().sim().image());
        let differs = |&at: &usize| before[at] != image[at];
        let first = (0..image.len()).find(differs)?;
        let end = (0..image.len()).rfind(differs)? + 1;
        let segment_bytes = setting.geometry.segment_bytes() as usize;
        let head = reference::head(&mut *world.sim().sim_mut(), &setting.geometry)?;
        (first / segment_bytes == (end - 1) / segment_bytes).then_some(Self {
            world,
            setting,
            image,
            head,
            last: first..end,
        })
    }

    /// Overwrites one run of bytes, and goes on. Says how many records it cost.
    fn hit(&self, random: &mut Random, border: Option<usize>) -> Result<usize, String> {
        let bytes = self.setting.geometry.segment_bytes() as usize;
        let anywhere = random.index(self.image.len());
        let from = border.map_or(anywhere, |border| {
            let begins = [0, STAMP_LEN, self.head.1 as usize];
            anywhere - anywhere % bytes + begins[border]
        });
        let longest = random.pick(&[8, 64, 512, bytes]);
        let room = bytes - from % bytes;
        let end = from + (1 + random.index(longest)).min(room);
        let mut burst = vec![random.pick(&[0, 0xFF]); end - from];
        match random.below(4) {
            0 | 1 => random.fill(&mut burst),
            2 => {}
            _ => {
                let source = random.index(self.image.len() - burst.len());
                burst = self.image[source..source + burst.len()].to_vec();
            }
        }
        let mut world = self.world.branch();
        let (segment, position) = ((from / bytes) as u32, (from % bytes) as u32);
        world.sim().sim_mut().overwrite(segment, position, &burst);
        let told = format!(
            "{:?}: {segment}:{position}, {} bytes like {:?}, last commit at {:?}",
            self.setting,
            burst.len(),
            &burst[..burst.len().min(4)],
            self.last
        );
        let _told = Told(told.clone());
        if self.may_end_elsewhere(from, &burst) || self.misleads(from, &burst) {
            world.lies();
        }
        world.damaged(Damage::Rot);
        let held = world.oracle().held();
        world.play(&[Step::Maintain, Step::Commit(vec![2]), Step::Restart]);
        match world.run() {
            Ok(Ended::Done) => Ok(held.saturating_sub(world.oracle().shown_of_acked())),
            other => Err(format!("{other:?}: {told}")),
        }
    }

    /// Whether a log that ends earlier may be all that is left, so that offsets are given again.
    /// In files, where more than the last commit is gone from the end; a mirror is filled again with the same frames. On flash, where cells look erased for as
    /// long as a frame may be, since no log looks behind these; and where one burst takes the header of the head together with the frame that would prove it.
    fn may_end_elsewhere(&self, from: usize, burst: &[u8]) -> bool {
        let hit = from..from + burst.len();
        match (self.setting.geometry.medium(), self.setting.geometry.role()) {
            (Medium::Nor, _) => self.leaves_blank(&hit, burst) || self.beheads(&hit),
            (Medium::File, Role::Origin) => {
                hit.start < self.last.start && hit.end > self.last.start
            }
            (Medium::File, Role::Mirror) => false,
        }
    }

    /// Whether the head has got the whole header of an earlier lap, and so reads as one that waits to be used.
    fn misleads(&self, from: usize, burst: &[u8]) -> bool {
        let segment_bytes = self.setting.geometry.segment_bytes() as usize;
        let begin = self.head.0 as usize * segment_bytes;
        let mut image = self.image.clone();
        image[from..from + burst.len()].copy_from_slice(burst);
        let behind_stamp = &image[begin + STAMP_LEN..begin + segment_bytes];
        OpenHeader::parse(behind_stamp).is_some_and(|(header, _)| {
            let sim = self.world.sim();
            let bases = reference::bases(&mut *sim.sim_mut(), &self.setting.geometry);
            Some(&header.base.get()) < bases.first()
        })
    }

    fn leaves_blank(&self, hit: &Range<usize>, burst: &[u8]) -> bool {
        let frame = self.setting.geometry.frame_bytes_max() as usize;
        let segment_bytes = self.setting.geometry.segment_bytes() as usize;
        let end = hit.start.next_multiple_of(segment_bytes).max(hit.end);
        let behind = &self.image[hit.end..end];
        let segment = [burst, behind].concat();
        (0..burst.len()).any(|at| {
            let cells = &segment[at..(at + frame).min(segment.len())];
            cells.iter().all(|&cell| cell == 0xFF)
        })
    }

    fn beheads(&self, hit: &Range<usize>) -> bool {
        let segment_bytes = self.setting.geometry.segment_bytes() as usize;
        let (segment, begin) = self.head;
        let begin = segment as usize * segment_bytes + begin as usize;
        hit.start < begin && hit.end > begin
    }
}

/// Says which burst it was, if it panics.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn cost_no_wrong_record<S: Sim>(medium: &str, logs: &[Full<S>]) {
    let (first, bursts) = (number("SEDGE_SEED", 1), number("SEDGE_BURSTS", 50_000));
    let mut hidden = 0;
    let mut wrong = Vec::new();
    for seed in first..first + bursts {
        let _told = Told(format!("SEDGE_SEED={seed} SEDGE_BURSTS=1"));
        let mut random = Random::new(seed_for(seed, 7));
        // One in ten begins where something begins in a segment.
        let border = Random::new(seed_for(seed, 8)).index(30);
        let border = Some(border).filter(|&border| border < 3);
        match logs[random.index(logs.len())].hit(&mut random, border) {
            Ok(records) => hidden += records as u64,
            Err(what) => wrong.push(format!("SEDGE_SEED={seed} SEDGE_BURSTS=1: {what}")),
        }
    }
    assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
    tell(&format!(
        "{medium}: {bursts} bursts from seed {first}, {hidden} records hidden in all"
    ));
}

#[test]
fn a_burst_on_flash_costs_no_wrong_record() {
    let mut logs = Vec::new();
    for unit in UNITS {
        let setting = Setting::flash(unit);
        for blocks in 0..4 {
            let sim = blank_flash(setting, 1, 1);
            logs.extend(Full::of(setting, sim, 220 + 7 * blocks, u64::from(unit)));
        }
    }
    cost_no_wrong_record("flash", &logs);
}

#[test]
fn a_burst_in_files_costs_no_wrong_record() {
    let mut logs = Vec::new();
    for role in [Role::Origin, Role::Mirror] {
        for segments in [3, 5] {
            let setting = Setting::files(role).segments(segments);
            for more in 0..4 {
                let sim = SimDisk::new(segments, setting.geometry.segment_bytes());
                logs.extend(Full::of(setting, sim, 200 + 7 * more, u64::from(segments)));
            }
        }
    }
    cost_no_wrong_record("files", &logs);
}
