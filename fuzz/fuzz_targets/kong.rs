//! The target `kong`: what it holds stands in `catena_fuzz::run`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| catena_fuzz::run("kong", data));
