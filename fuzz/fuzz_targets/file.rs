//! A kernel's file: an Image, an ELF file, something else, or one of them gzip'ed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| devtree::exercise::file(bytes));
