//! Feeds any bytes to `memcheck_harness::fuzz::results`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| memcheck_harness::fuzz::results(bytes));
