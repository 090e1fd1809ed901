//! libFuzzer gives any bytes on a serial line; what is done with them, and what must hold, stands in `tests/src/fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    sedge_tests::fuzz::bounded(sedge_tests::fuzz::wire::link_decoder, input);
});
