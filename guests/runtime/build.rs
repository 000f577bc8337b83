//! Puts the guests' linker script on the linker's search path. A guest's own `build.rs` asks for it by
//! name (`-Tguest.ld`), because link arguments do not travel from a library to its users.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rustc-link-search={folder}");
    println!("cargo:rerun-if-changed=guest.ld");
    println!("cargo:rerun-if-changed=src/entry.S");
    println!("cargo:rerun-if-changed=src/vectors.S");
}
