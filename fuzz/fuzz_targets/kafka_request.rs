//! libFuzzer gives any part of a hub's answer to a consumer; what is done with it, and what must hold, stands in `tests/src/fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    sedge_tests::fuzz::bounded(sedge_tests::fuzz::peers::kafka_request, input);
});
