//! libFuzzer gives any bytes on flash; what is done with them, and what must hold, stands in `tests/src/fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    sedge_tests::fuzz::bounded(sedge_tests::fuzz::image::open_flash_image, input);
});
