//! Links where a Xen guest's kernel lies, by the SDK's script (`guests/runtime/guest.ld`).

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/guest.ld");
    println!("cargo:rerun-if-changed={script}");
    for argument in [
        &format!("-T{script}"),
        "--no-pie",
        "-static",
        "-zmax-page-size=4096",
        "--build-id=none",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
