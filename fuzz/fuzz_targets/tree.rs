//! A host's tree or a bundle: all that is read from it, its images' hashes and kernels included.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| devtree::exercise::tree(bytes));
