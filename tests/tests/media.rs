//! The simulated media keep their own promises: otherwise the sweeps prove nothing.

use sedge_tests::disk::{DiskTear, On, Plan, SimDisk};
use sedge_tests::flash::{BadBlock, FlashShape, FlashTear, SimFlash};
use sedge_tests::sim::{Fault, Sim};

const SHAPE: FlashShape = FlashShape {
    segments: 3,
    segment_bytes: 1024,
    blocks: 2,
    write_unit: 8,
};

fn read<S: Sim>(sim: &mut S, segment: u32, position: u32, bytes: usize) -> Vec<u8> {
    let mut into = vec![0; bytes];
    sim.read(segment, position, &mut into).expect("readable");
    into
}

#[test]
fn flash_shows_what_was_programmed() {
    let mut flash = SimFlash::new(SHAPE, 1);
    flash.program(1, 16, &[7; 24]).expect("fits");
    assert_eq!(
        read(&mut flash, 1, 8, 40),
        [vec![0xFF; 8], vec![7; 24], vec![0xFF; 8]].concat()
    );
    flash.erase(1).expect("erases");
    assert_eq!(read(&mut flash, 1, 8, 40), vec![0xFF; 40]);
}

#[test]
#[should_panic(expected = "which is Programmed")]
fn flash_refuses_a_second_program() {
    let mut flash = SimFlash::new(SHAPE, 1);
    flash.program(0, 0, &[0xFF; 8]).expect("first");
    flash.program(0, 0, &[0; 8]).expect("never");
}

#[test]
#[should_panic(expected = "not aligned")]
fn flash_refuses_half_a_unit() {
    SimFlash::new(SHAPE, 1)
        .program(0, 4, &[0; 8])
        .expect("never");
}

#[test]
#[should_panic(expected = "which is Spent")]
fn flash_refuses_a_program_after_half_an_erase() {
    let mut flash = SimFlash::new(SHAPE, 1);
    flash.arm(0);
    assert_eq!(flash.erase(0), Err(Fault::PowerCut));
    flash.revive(FlashTear::Spent, 0);
    let spent = (0..2).find(|block| {
        let mut flash = flash.clone();
        std::panic::catch_unwind(move || flash.program(0, block * 512, &[0; 8])).is_err()
    });
    flash
        .program(0, spent.expect("a block is spent") * 512, &[0; 8])
        .expect("never");
}

/// Each tear of a program leaves what its name says, and nothing outside of the program.
#[test]
fn torn_programs_stay_inside_their_units() {
    for tear in FlashTear::STEADY {
        for seed in 0..50 {
            let mut flash = SimFlash::new(SHAPE, 1);
            flash.program(0, 0, &[1; 8]).expect("fits");
            flash.arm(0);
            assert_eq!(flash.program(0, 8, &[0; 32]), Err(Fault::PowerCut));
            assert_eq!(
                flash.read(0, 0, &mut [0]),
                Err(Fault::PowerCut),
                "down until revived"
            );
            flash.revive(tear, seed);
            assert_eq!(read(&mut flash, 0, 0, 8), vec![1; 8]);
            assert_eq!(read(&mut flash, 0, 40, 100), vec![0xFF; 100]);
            let mut inside = vec![0; 32];
            match (tear, flash.read(0, 8, &mut inside)) {
                (FlashTear::Nothing | FlashTear::Spent, Ok(())) => {
                    assert_eq!(inside, vec![0xFF; 32])
                }
                (FlashTear::Everything, Ok(())) => assert_eq!(inside, vec![0; 32]),
                (FlashTear::Prefix, Ok(())) => assert_eq!((inside[0], inside[31]), (0, 0xFF)),
                (FlashTear::Suffix, Ok(())) => assert_eq!((inside[0], inside[31]), (0xFF, 0)),
                (FlashTear::AllButFirst, Ok(())) => {
                    assert_eq!(inside, [vec![0xFF; 8], vec![0; 24]].concat())
                }
                (FlashTear::Poison, Err(Fault::Ecc)) | (_, Ok(())) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn flickering_cells_settle() {
    let mut differed = false;
    for seed in 0..50 {
        let mut flash = SimFlash::new(SHAPE, 1);
        flash.arm(0);
        assert_eq!(flash.program(0, 8, &[0; 32]), Err(Fault::PowerCut));
        flash.revive(FlashTear::Flicker, seed);
        let first = read(&mut flash, 0, 8, 32);
        for _ in 0..4 {
            differed |= read(&mut flash, 0, 8, 32) != first;
        }
        assert_eq!(read(&mut flash, 0, 8, 32), read(&mut flash, 0, 8, 32));
    }
    assert!(differed);
}

#[test]
fn poison_is_gone_after_an_erase() {
    let mut flash = SimFlash::new(SHAPE, 1);
    flash.arm(0);
    assert_eq!(flash.program(2, 0, &[0; 64]), Err(Fault::PowerCut));
    flash.revive(FlashTear::Poison, 3);
    assert_eq!(flash.read(2, 0, &mut [0; 64]), Err(Fault::Ecc));
    flash.erase(2).expect("erases");
    assert_eq!(read(&mut flash, 2, 0, 64), vec![0xFF; 64]);
}

#[test]
fn a_bad_block_says_so() {
    let mut flash = SimFlash::new(SHAPE, 1);
    flash.break_segment(1, BadBlock::BothFail);
    assert_eq!(flash.program(1, 0, &[0; 8]), Err(Fault::Io));
    assert_eq!(flash.erase(1), Err(Fault::Io));
    assert_eq!(flash.program(0, 0, &[0; 8]), Ok(()));
}

#[test]
fn a_clone_is_another_flash() {
    let mut flash = SimFlash::new(SHAPE, 1);
    let mut branch = flash.clone();
    branch.program(0, 0, &[0; 8]).expect("fits");
    assert_eq!(read(&mut flash, 0, 0, 8), vec![0xFF; 8]);
    assert_eq!(flash.counts().programs, 0);
}

fn disk_with(bytes: &[u8]) -> SimDisk {
    let mut disk = SimDisk::new(3, 4096);
    disk.program(0, 100, bytes).expect("fits");
    disk
}

#[test]
fn a_cut_keeps_what_was_synced_and_any_part_of_the_rest() {
    let mut lost = 0;
    for seed in 0..200 {
        let mut disk = disk_with(&[1; 2000]);
        disk.sync().expect("syncs");
        disk.program(0, 2100, &[2; 1500]).expect("fits");
        disk.program(0, 3600, &[3; 10]).expect("fits");
        disk.cut(DiskTear::Any, seed);
        assert_eq!(read(&mut disk, 0, 100, 2000), vec![1; 2000]);
        assert!(
            read(&mut disk, 0, 2100, 1500)
                .iter()
                .all(|&byte| byte == 0 || byte == 2)
        );
        lost += u32::from(read(&mut disk, 0, 2100, 1500).contains(&0));
    }
    assert!((20..200).contains(&lost));
}

#[test]
fn a_kill_keeps_the_page_cache_and_a_cut_after_it_does_not() {
    let mut disk = disk_with(&[1; 8]);
    disk.arm(0);
    assert_eq!(disk.sync(), Err(Fault::PowerCut));
    disk.revive(DiskTear::Kill, 1);
    assert_eq!(read(&mut disk, 0, 100, 8), vec![1; 8]);
    disk.cut(DiskTear::Nothing, 1);
    assert_eq!(read(&mut disk, 0, 100, 8), vec![0; 8]);
}

#[test]
fn a_failed_sync_is_told_once_and_the_cache_goes_on_showing_what_the_disk_lost() {
    let mut disk = disk_with(&[1; 8]);
    disk.plan(Plan {
        on: On::Sync,
        after: 0,
        for_ever: false,
        fault: Fault::Io,
    });
    assert_eq!(disk.sync(), Err(Fault::Io));
    assert_eq!(disk.sync(), Ok(()));
    assert_eq!(read(&mut disk, 0, 100, 8), vec![1; 8]);
    disk.cut(DiskTear::Everything, 1);
    assert_eq!(read(&mut disk, 0, 100, 8), vec![0; 8]);
}

#[test]
fn a_lying_flush_loses_everything_since() {
    let mut disk = disk_with(&[1; 8]);
    disk.lie();
    assert_eq!(disk.sync(), Ok(()));
    disk.cut(DiskTear::Nothing, 1);
    assert_eq!(read(&mut disk, 0, 100, 8), vec![0; 8]);
}

#[test]
fn a_full_disk_takes_a_part_of_the_write() {
    let mut disk = SimDisk::new(3, 4096);
    disk.plan(Plan {
        on: On::Program,
        after: 1,
        for_ever: true,
        fault: Fault::NoSpace,
    });
    disk.program(0, 0, &[1; 8]).expect("the first passes");
    assert_eq!(disk.program(0, 8, &[2; 8]), Err(Fault::NoSpace));
    assert_eq!(disk.program(0, 8, &[2; 8]), Err(Fault::NoSpace));
    assert_eq!(
        read(&mut disk, 0, 0, 16),
        [[1; 8], [2, 2, 2, 2, 0, 0, 0, 0]].concat()
    );
}

#[test]
fn a_file_is_made_by_an_erase_and_durable_by_a_sync() {
    let mut disk = SimDisk::without_files(3, 4096);
    assert_eq!(read(&mut disk, 0, 0, 8), vec![0xFF; 8]);
    disk.erase(0).expect("makes the file");
    disk.program(0, 0, &[1; 8]).expect("fits");
    let mut cut = disk.clone();
    cut.cut(DiskTear::Nothing, 1);
    assert_eq!(read(&mut cut, 0, 0, 8), vec![0xFF; 8]);
    disk.sync().expect("syncs");
    disk.cut(DiskTear::Nothing, 1);
    assert_eq!(read(&mut disk, 0, 0, 8), vec![1; 8]);
}

#[test]
fn a_zeroed_sector_is_512_bytes() {
    let mut disk = disk_with(&[1; 2000]);
    disk.zero_sector(0, 1);
    let bytes = read(&mut disk, 0, 0, 2100);
    assert_eq!(bytes[512..1024], [0; 512]);
    assert_eq!((bytes[511], bytes[1024]), (1, 1));
}
