//! The bodies of the fuzz targets on a stable compiler: every input that is kept, and mutations of it, by seed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sedge_tests::fuzz::{TARGETS, Target, bounded, corpus, mutated};
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
    let mut slowest = Slowest::default();
    for (name, input) in &kept {
        let tried = Tried(target, name, None);
        slowest.time(&tried, input);
    }
    for number in 0..mutations(target) {
        let seed = seed_for(seed(), number);
        let (name, input) = &kept[number as usize % kept.len()];
        let tried = Tried(target, name, Some(seed));
        slowest.time(&tried, &mutated(input, seed));
    }
    eprintln!(
        "{}: the slowest took {:?}: {}",
        target.name, slowest.took, slowest.input
    );
}

/// The input that took most.
#[derive(Default)]
struct Slowest {
    took: Duration,
    input: String,
}

impl Slowest {
    fn time(&mut self, tried: &Tried<'_>, input: &[u8]) {
        let took = bounded(tried.0.body, input);
        if took > self.took {
            self.took = took;
            self.input = format!("{}, mutated by {:?}", tried.1, tried.2);
        }
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

#[test]
fn any_files_in_a_directory_are_inspected_in_bounded_steps_and_left_alone() {
    try_kept(target("inspect_directory"));
}

#[test]
fn any_bytes_of_a_chip_are_inspected_and_what_is_shown_is_what_is_counted() {
    try_kept(target("inspect_flash"));
}

#[test]
fn any_bytes_as_a_frame_are_refused_or_written_as_they_were_read() {
    try_kept(target("frame"));
}

#[test]
fn any_bytes_as_entries_are_refused_or_written_as_they_were_read() {
    try_kept(target("entries"));
}

#[test]
fn any_bytes_on_a_connection_are_heard_the_same_however_they_are_cut() {
    try_kept(target("stream_messages"));
}

#[test]
fn any_part_of_a_hubs_answer_is_shown_without_a_hole() {
    try_kept(target("fetched"));
}

#[test]
fn any_bytes_of_a_device_are_acknowledged_only_behind_their_commit() {
    try_kept(target("mqtt_session"));
}

#[test]
fn any_bytes_on_a_port_fall_into_the_same_lines_however_they_are_cut() {
    try_kept(target("serial_lines"));
}

#[test]
fn any_text_is_a_configuration_or_is_told_the_places_of_its_problems() {
    try_kept(target("config_file"));
}

#[test]
fn any_template_and_message_make_the_same_key_or_a_reason() {
    try_kept(target("key_template"));
}

#[test]
fn any_request_is_answered_in_http_and_the_next_one_is_served() {
    try_kept(target("http_request"));
}

#[test]
fn any_request_of_kafkas_protocol_takes_no_more_than_it_brings() {
    try_kept(target("kafka_request"));
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

/// `SEDGE_MUTATIONS=N` tries more. Where files are written or connections made, a tenth of it.
fn mutations(target: &Target) -> u64 {
    let dear = matches!(target.name, "inspect_directory" | "http_request");
    number("SEDGE_MUTATIONS").unwrap_or(3_000) / if dear { 10 } else { 1 }
}

/// `SEDGE_SEED=N` tries others.
fn seed() -> u64 {
    number("SEDGE_SEED").unwrap_or(1)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
