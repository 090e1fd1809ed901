//! The bodies of the fuzz targets on a stable compiler: every input that is kept, and mutations of it, by seed.

use std::path::{Path, PathBuf};

use sedge_tests::fuzz::{TARGETS, Target, corpus, mutated};
use sedge_tests::random::seed_for;

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target.name)
}

/// Every input that is kept for a target, by the name of its file.
fn kept(target: &Target) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder(target)).expect("the inputs are kept");
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        (name.into_owned(), std::fs::read(&path).expect("a file"))
    };
    let mut kept: Vec<_> = files
        .map(|file| read(file.expect("a file").path()))
        .collect();
    kept.sort();
    kept
}

/// Says which input it was if the body panics.
struct Tried<'t>(&'t Target, &'t str, Option<u64>);

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(target, name, seed) = self;
            eprintln!("{}: {name}, mutated by {seed:?}", target.name);
        }
    }
}

fn try_kept(target: &Target) {
    let kept = kept(target);
    assert!(!kept.is_empty(), "no input is kept for {}", target.name);
    for (name, input) in &kept {
        let _tried = Tried(target, name, None);
        (target.body)(input);
    }
    for number in 0..mutations() {
        let seed = seed_for(seed(), number);
        let (name, input) = &kept[number as usize % kept.len()];
        let _tried = Tried(target, name, Some(seed));
        (target.body)(&mutated(input, seed));
    }
}

fn target(name: &str) -> &'static Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.expect("a target of this name")
}

#[test]
fn any_bytes_on_flash_open_in_bounded_steps_and_take_a_record() {
    try_kept(target("open_flash_image"));
}

#[test]
fn any_bytes_in_files_open_in_bounded_steps_and_take_a_record() {
    try_kept(target("open_file_image"));
}

#[test]
fn any_bytes_on_a_line_leave_the_decoder_ready_for_the_next_message() {
    try_kept(target("link_decoder"));
}

#[test]
fn any_messages_leave_both_ends_of_a_conversation_within_their_bounds() {
    try_kept(target("custody_message"));
}

/// A change of format changes what is made; then what is kept must be made anew.
#[test]
fn kept_inputs_are_those_that_are_made() {
    for input in corpus::made() {
        let kept = kept(target(input.target));
        let same = kept.iter().find(|(name, _)| name == input.name);
        let same = same.is_some_and(|(_, bytes)| *bytes == input.bytes);
        assert!(
            same,
            "{}/{} is not what is made now: cargo run -p sedge-tests --bin fuzz-corpus",
            input.target, input.name
        );
    }
}

/// Every target has its file for libFuzzer.
#[test]
fn each_target_has_its_file_for_the_fuzzer() {
    let manifest = include_str!("../../fuzz/Cargo.toml");
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)));
        let path = format!("../fuzz/fuzz_targets/{}.rs", target.name);
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
        assert!(text.expect("its file").contains(target.name));
    }
}

/// `SEDGE_MUTATIONS=N` tries more.
fn mutations() -> u64 {
    number("SEDGE_MUTATIONS").unwrap_or(3_000)
}

/// `SEDGE_SEED=N` tries others.
fn seed() -> u64 {
    number("SEDGE_SEED").unwrap_or(1)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
