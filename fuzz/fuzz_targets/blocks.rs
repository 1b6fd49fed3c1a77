//! See `kimberlite_fuzz::blocks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kimberlite_fuzz::blocks::run(input));
