//! libFuzzer gives any files in a directory; what is done with it, and what must hold, stands in `tests/src/fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    sedge_tests::fuzz::bounded(sedge_tests::fuzz::inspect::inspect_directory, input);
});
