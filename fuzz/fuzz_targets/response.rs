#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| coatroom_fuzz::response::check(input));
