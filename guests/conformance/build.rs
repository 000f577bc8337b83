//! Links as a guest of the SDK (`guests/runtime/guest.ld`).

fn main() {
    for argument in [
        "-Tguest.ld",
        "--no-pie",
        "-static",
        "-zmax-page-size=4096",
        "--build-id=none",
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
