//! See `kimberlite_fuzz::log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kimberlite_fuzz::log::run(input));
