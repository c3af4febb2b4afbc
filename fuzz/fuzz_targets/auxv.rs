//! Feeds any bytes to `memcheck_harness::fuzz::auxv`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| memcheck_harness::fuzz::auxv(bytes));
