//! See `kimberlite_fuzz::sql`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kimberlite_fuzz::sql::run(input));
