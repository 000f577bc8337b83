//! Ports, grants and pages that three domains share.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| xen::exercise::sharing(bytes));
