//! What power cuts do not do: rotten bits, lost sectors, failing syncs, full disks, worn-out blocks, and bytes that never were a log.
//! Nothing wrong is ever shown as a record, what is not hit stays readable, and the log starts.

use sedge_core::ids::{LogId, Micros};
use sedge_core::log::{Fresh, Log, OpenError, Options};
use sedge_core::segment::{Medium, Role};
use sedge_tests::disk::{DiskTear, On, Plan, SimDisk};
use sedge_tests::flash::{BadBlock, FlashShape, SimFlash};
use sedge_tests::oracle::Damage;
use sedge_tests::random::Random;
use sedge_tests::reader;
use sedge_tests::script::{self, Step};
use sedge_tests::sim::{Fault, Shared, Sim};
use sedge_tests::world::{Ended, Setting, World};

fn flash(setting: Setting) -> SimFlash {
    let dimensions = setting.geometry.dimensions();
    let shape = FlashShape {
        segments: dimensions.segment_count,
        segment_bytes: dimensions.segment_bytes,
        blocks: 1,
        write_unit: dimensions.write_unit,
    };
    SimFlash::new(shape, 1)
}

fn disk(setting: Setting) -> SimDisk {
    SimDisk::new(
        setting.geometry.segment_count(),
        setting.geometry.segment_bytes(),
    )
}

/// A log that has gone round its ring at least once.
fn full<S: Sim>(setting: Setting, sim: S, steps: usize) -> World<S> {
    let mut world = World::new(setting, sim, &script::filling(5, steps, 4), 5);
    assert_eq!(world.run(), Ok(Ended::Done));
    assert!(
        world.counts().erases.iter().all(|&erases| erases > 1),
        "the ring was not gone round"
    );
    world.play(&[]);
    world
}

/// Each bit of the image, flipped alone: no payload is wrong, no offset is given twice, and the log goes on. Says how many records were hit, over all flips.
fn flip_each_bit<S: Sim>(world: &World<S>, setting: Setting) -> u64 {
    let bytes = setting.geometry.segment_bytes();
    let held = world.oracle().held();
    let mut hidden = 0;
    for segment in 0..setting.geometry.segment_count() {
        for position in 0..bytes {
            for bit in 0..8 {
                let mut world = world.branch();
                world.sim().sim_mut().flip(segment, position, bit);
                world.damaged(Damage::Rot);
                world.play(&[Step::Maintain, Step::Commit(vec![2]), Step::Restart]);
                let ended = world.run();
                assert_eq!(ended, Ok(Ended::Done), "bit {bit} of {segment}:{position}");
                hidden += (held - world.oracle().shown_of_acked().min(held)) as u64;
            }
        }
    }
    hidden
}

fn flips(setting: Setting) -> u64 {
    8 * u64::from(setting.geometry.segment_count() * setting.geometry.segment_bytes())
}

#[test]
fn any_flipped_bit_of_a_flash_image_costs_no_wrong_record() {
    let setting = Setting::flash(4);
    let world = full(setting, flash(setting), 220);
    let hidden = flip_each_bit(&world, setting);
    assert!(
        hidden < 4 * flips(setting),
        "{hidden} records hidden in all"
    );
}

/// A flipped bit in a frame costs that frame; one in a header costs its segment: on average fewer records than one frame holds.
#[test]
fn any_flipped_bit_of_a_file_image_costs_no_wrong_record() {
    let setting = Setting::files(Role::Origin);
    let world = full(setting, disk(setting), 120);
    let hidden = flip_each_bit(&world, setting);
    assert!(
        hidden < 3 * flips(setting),
        "{hidden} records hidden in all"
    );
}

#[test]
fn any_lost_sector_costs_no_wrong_record() {
    for role in [Role::Origin, Role::Mirror] {
        let setting = Setting::files(role);
        let world = full(setting, disk(setting), 120);
        for segment in 0..setting.geometry.segment_count() {
            for sector in 0..setting.geometry.segment_bytes() / 512 {
                let mut world = world.branch();
                world.sim().sim_mut().zero_sector(segment, sector);
                world.damaged(Damage::Rot);
                world.play(&[Step::Maintain, Step::Commit(vec![2]), Step::Restart]);
                assert_eq!(world.run(), Ok(Ended::Done), "sector {sector} of {segment}");
            }
        }
    }
}

#[test]
fn ten_thousand_kills_without_input_evict_nothing() {
    for role in [Role::Origin, Role::Mirror] {
        let setting = Setting::files(role);
        starts_evict_nothing(full(setting, disk(setting), 120));
    }
    let setting = Setting::flash(8);
    let world = full(setting, flash(setting), 220);
    let programs = world.counts().programs;
    assert_eq!(
        starts_evict_nothing(world),
        programs,
        "a start of a log on flash writes nothing"
    );
}

fn starts_evict_nothing<S: Sim>(mut world: World<S>) -> u64 {
    let (held, erases) = (world.oracle().held(), world.counts().erases);
    world.play(&vec![Step::Restart; 10_000]);
    assert_eq!(world.run(), Ok(Ended::Done));
    assert_eq!(
        (world.oracle().held(), world.counts().erases),
        (held, erases)
    );
    world.counts().programs
}

/// A sync fails once, at any place. The kernel then shows bytes that the disk does not have: they must not be believed.
#[test]
fn a_failed_sync_loses_nothing_that_was_acknowledged() {
    for role in [Role::Origin, Role::Mirror] {
        let setting = Setting::files(role).segments(5);
        for after in 0.. {
            let mut world = World::new(setting, disk(setting), &script::mixed(9, 90, 4), after);
            world.sim().sim_mut().plan(Plan {
                on: On::Sync,
                after,
                for_ever: false,
                fault: Fault::Io,
            });
            world.expect_errors(1);
            match world.run() {
                Ok(Ended::Done) => {}
                Err(wrong) if after < 2 => {
                    assert!(wrong.contains("does not open"), "{wrong}");
                    continue;
                }
                other => panic!("sync {after} failed: {other:?}"),
            }
            let failed = !world.sim().sim().has_plan();
            world.sim().sim_mut().heal();
            world.sim().sim_mut().cut(DiskTear::Nothing, after);
            assert_eq!(world.settle(), Ok(()), "sync {after} failed");
            if !failed {
                assert!(after > 50, "only {after} syncs");
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_for_a_while_loses_nothing_that_was_acknowledged() {
    let setting = Setting::files(Role::Origin).segments(5);
    let (segments, bytes) = (5, setting.geometry.segment_bytes());
    for on in [On::Program, On::Erase] {
        for after in 1.. {
            let sim = SimDisk::without_files(segments, bytes);
            let mut world = World::new(setting, sim, &script::mixed(9, 90, 4), after);
            world.sim().sim_mut().plan(Plan {
                on,
                after,
                for_ever: false,
                fault: Fault::NoSpace,
            });
            world.expect_errors(1);
            match world.run() {
                Ok(Ended::Done) => {}
                Err(wrong) if wrong.contains("does not open") && wrong.contains("NoSpace") => {
                    continue;
                }
                other => panic!("{on:?} {after} failed: {other:?}"),
            }
            let failed = !world.sim().sim().has_plan();
            world.sim().sim_mut().heal();
            world.sim().sim_mut().cut(DiskTear::Nothing, after);
            assert_eq!(world.settle(), Ok(()), "{on:?} {after} failed");
            if !failed {
                break;
            }
        }
    }
}

/// Worn-out segments are passed over; the ring is smaller, nothing acknowledged is lost before its time.
#[test]
fn a_worn_out_segment_is_passed_over() {
    for how in [
        BadBlock::EraseFails,
        BadBlock::ProgramFails,
        BadBlock::BothFail,
    ] {
        for segment in 1..5 {
            let setting = Setting::flash(4).segments(5);
            let mut sim = flash(setting);
            sim.break_segment(segment, how);
            let mut world = World::new(setting, sim, &script::filling(6, 250, 4), 6);
            world.expect_errors(1000);
            assert_eq!(world.run(), Ok(Ended::Done), "{how:?} {segment}");
            assert_eq!(world.settle(), Ok(()), "{how:?} {segment}");
        }
    }
}

/// A disk that does not sync when it says so loses acknowledged records at a cut; what it shows then is still never wrong.
#[test]
fn a_lying_flush_shows_nothing_wrong() {
    for seed in 0..300 {
        let setting = Setting::files(Role::Origin);
        let mut world = World::new(setting, disk(setting), &script::mixed(seed, 60, 4), seed);
        assert_eq!(world.run(), Ok(Ended::Done));
        world.sim().sim_mut().lie();
        world.play(&script::mixed(seed + 1, 40, 4));
        assert_eq!(world.run(), Ok(Ended::Done));
        world.sim().sim_mut().cut(DiskTear::Any, seed);
        world.lies();
        world.play(&[]);
        assert_eq!(world.run(), Ok(Ended::Done), "seed {seed}");
    }
}

/// Random bytes, and logs of which random parts were overwritten: the log opens or says why not, and ends within steps that the geometry bounds.
#[test]
fn any_image_opens_in_bounded_steps() {
    let flash_setting = Setting::flash(4);
    let file_setting = Setting::files(Role::Origin);
    let flash_image = full(flash_setting, flash(flash_setting), 220)
        .sim()
        .sim()
        .image();
    let file_image = full(file_setting, disk(file_setting), 120)
        .sim()
        .sim()
        .image();
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let image = scribbled(&flash_image, &mut random);
        let shape = flash(flash_setting).shape();
        open_any(
            flash_setting,
            SimFlash::with_image(shape, &image, seed),
            seed,
        );
        let image = scribbled(&file_image, &mut random);
        open_any(
            file_setting,
            SimDisk::with_image(3, file_setting.geometry.segment_bytes(), &image),
            seed,
        );
    }
}

fn scribbled(image: &[u8], random: &mut Random) -> Vec<u8> {
    let mut image = image.to_vec();
    if random.one_in(4) {
        random.fill(&mut image);
    }
    for _ in 0..random.below(6) {
        let from = random.index(image.len());
        let end = (from + 1 + random.index(600)).min(image.len());
        match random.below(4) {
            0 => image[from..end].fill(0),
            1 => image[from..end].fill(0xFF),
            2 => random.fill(&mut image[from..end]),
            _ => {
                let source = random.index(image.len() - (end - from));
                image.copy_within(source..source + (end - from), from);
            }
        }
    }
    image
}

fn open_any<S: Sim>(setting: Setting, sim: S, seed: u64) {
    let sim = Shared::new(sim);
    let options = Options::new(setting.geometry, setting.when_full);
    let fresh = Fresh {
        log_id: LogId::new([1; 16]),
        now: Micros::new(seed.cast_signed()),
        boot: 1,
    };
    let scratch = vec![0; setting.geometry.scratch_bytes()];
    match Log::open(sim.clone(), options, fresh, scratch) {
        Ok((log, _)) => {
            drop(reader::read(
                &sim,
                &setting.geometry,
                &log.log_id(),
                log.view(),
            ));
        }
        Err(OpenError::Refused(_) | OpenError::Unreadable) => {}
        Err(OpenError::NoSpare) if setting.geometry.medium() == Medium::File => {}
        Err(error) => panic!("seed {seed}: {error:?}"),
    }
    let reads_max = 4
        * u64::from(setting.geometry.segment_count())
        * u64::from(setting.geometry.segment_bytes());
    let reads = sim.sim().counts().reads;
    assert!(reads < reads_max, "seed {seed}: {reads} reads");
}
