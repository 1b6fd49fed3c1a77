//! See `kimberlite_fuzz::session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kimberlite_fuzz::session::run(input));
