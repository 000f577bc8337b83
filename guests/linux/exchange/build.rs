//! Links as a static program of Linux's: the metal target's code, with nothing beneath it but system calls.

fn main() {
    for argument in ["--no-pie", "-static", "--build-id=none"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
