//! Test guests.
#![no_std]
#![no_main]
runtime::entry!(main);
fn main() {}
