//! libFuzzer gives any bytes as a chip's flash to `sedge inspect`; what is done with it, and what must hold, stands in `tests/src/fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    sedge_tests::fuzz::bounded(sedge_tests::fuzz::inspect::inspect_flash, input);
});
