//! What two guests write into the store's rings.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| xenstore::exercise::wire(bytes));
