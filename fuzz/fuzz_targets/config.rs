//! See `kimberlite_fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kimberlite_fuzz::config::run(input));
