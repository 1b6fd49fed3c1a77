//! See `kimberlite_fuzz::ffi`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kimberlite_fuzz::ffi::run(input));
