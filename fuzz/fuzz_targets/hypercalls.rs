//! Any hypercalls of three domains, over any memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| xen::exercise::hypercalls(bytes));
