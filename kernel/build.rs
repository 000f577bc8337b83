//! Link settings of the image: position-independent, laid out by `linker.ld`, with defmt's strings in a
//! section that is not loaded.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../linker.ld");
    println!("cargo:rerun-if-changed={script}");
    for argument in [
        "-pie",
        "--no-dynamic-linker",
        "--hash-style=sysv",
        "-znotext",
        "--pack-dyn-relocs=relr",
        "-Tdefmt.x",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-T{script}");
}
