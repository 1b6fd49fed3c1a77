//! See `kimberlite_fuzz::messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kimberlite_fuzz::messages::run(input));
