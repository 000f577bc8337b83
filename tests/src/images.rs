//! The files under test: the hypervisor's image in its variants, our guests, Debian's Linux. Each
//! is brought up to date once per process by the same scripts that `just` runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::paths::{root, target};

/// Which build of the hypervisor boots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Image {
    /// `target/viaduct.img`.
    #[default]
    Release,
    /// `target/viaduct-debug.img`.
    Debug,
    /// `target/viaduct-faults.img`: faults on purpose when the boot argument `fault=` says so.
    Faults,
    /// `target/viaduct-untraced.img`: without the points of the trace.
    Untraced,
    /// This file, built by someone else.
    File(PathBuf),
}

impl Image {
    /// The flat image, built when it is out of date.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let (kind, file) = match self {
            Self::Release => ("release", "viaduct.img"),
            Self::Debug => ("debug", "viaduct-debug.img"),
            Self::Faults => ("faults", "viaduct-faults.img"),
            Self::Untraced => ("untraced", "viaduct-untraced.img"),
            Self::File(path) => return path.clone(),
        };
        once(&root().join("tools/build"), kind);
        target().join(file)
    }
}

/// The ELF file of a guest of ours (`hello`, `probe`), stripped.
#[must_use]
pub fn guest_elf(name: &str) -> PathBuf {
    built(&format!("{name}.elf"))
}

/// The flat arm64 `Image` of a guest of ours.
#[must_use]
pub fn guest_image(name: &str) -> PathBuf {
    built(&format!("{name}.img"))
}

fn built(file: &str) -> PathBuf {
    let _ = Image::Release.path();
    let path = target().join("guests").join(file);
    assert!(path.exists(), "tools/build made no {}", path.display());
    path
}

/// Debian's arm64 kernel as a plain `Image`.
#[must_use]
pub fn linux_kernel() -> PathBuf {
    linux("Image")
}

/// The kernel that Debian's `linux-image-FLAVOUR` of `suite` stands for, as a plain `Image`.
#[must_use]
pub fn debian_kernel(suite: &str, flavour: &str) -> PathBuf {
    let script = root().join("guests/linux/fetch");
    once(&script, &format!("{suite} {flavour}"));
    target().join(format!("guests/linux/{suite}-{flavour}.Image"))
}

/// The busybox initramfs for [`linux_kernel`].
#[must_use]
pub fn linux_initramfs() -> PathBuf {
    linux("initramfs.cpio.gz")
}

/// The same with the kernel's modules for disks, in `/modules`.
#[must_use]
pub fn linux_initramfs_with_disks() -> PathBuf {
    linux("initramfs-disks.cpio.gz")
}

/// The busybox initramfs for [`debian_kernel`], with its modules for grants and event channels, in `/modules`, and our
/// program `exchange`.
#[must_use]
pub fn exchange_initramfs(suite: &str, flavour: &str) -> PathBuf {
    let _ = built("exchange.elf");
    let script = root().join("guests/linux/exchange-initramfs");
    once(&script, &format!("{suite} {flavour}"));
    target().join(format!("guests/linux/{suite}-{flavour}-exchange.cpio.gz"))
}

/// The same with stress-ng and cyclictest, and `/steady`, which runs them.
#[must_use]
pub(crate) fn linux_initramfs_with_loads() -> PathBuf {
    once(&root().join("guests/linux/load"), "");
    target().join("guests/linux/initramfs-load.cpio.gz")
}

/// The Pi 4's device tree, from Debian's kernel package.
#[must_use]
pub fn pi4_tree() -> PathBuf {
    linux("bcm2711-rpi-4-b.dtb")
}

/// Device trees of the Pi 4's family, by the names under which the firmware looks for them on a card.
#[must_use]
pub fn pi4_trees() -> [(&'static str, PathBuf); 3] {
    [
        ("bcm2711-rpi-4-b.dtb", pi4_tree()),
        ("bcm2711-rpi-400.dtb", linux("bcm2711-rpi-400.dtb")),
        // A module's tree is that of its carrier: the usual one.
        ("bcm2711-rpi-cm4.dtb", linux("bcm2711-rpi-cm4-io.dtb")),
    ]
}

/// U-Boot for QEMU's `virt`, from Debian's package: a raw binary.
#[must_use]
pub fn u_boot() -> PathBuf {
    once(&root().join("guests/u-boot/fetch"), "");
    target().join("guests/u-boot.bin")
}

/// Debian's Xen: version, suite, package.
pub const XEN: [(&str, &str, &str); 2] = [
    ("4.17", "bookworm", "xen-hypervisor-4.17-arm64"),
    ("4.20", "trixie", "xen-hypervisor-4.20-arm64"),
];

/// One of [`XEN`], as a flat `Image`.
///
/// # Errors
/// It is none of them, or cannot be fetched.
pub(crate) fn xen(version: &str) -> Result<Image, String> {
    let known = XEN.iter().find(|known| known.0 == version);
    let (_, suite, package) = known.ok_or("Debian has no such version")?;
    let script = Command::new(root().join("tests/xen"))
        .args([suite, package])
        .status();
    match script {
        Ok(status) if status.success() => Ok(Image::File(target().join("xen").join(package))),
        _ => Err(format!("{package} of {suite} could not be fetched")),
    }
}

/// The folder with the Pi 4's firmware, from Debian's package.
pub(crate) fn pi4_firmware() -> PathBuf {
    once(&root().join("platform/rpi4/fetch"), "");
    target().join("rpi4")
}

fn linux(file: &str) -> PathBuf {
    once(&root().join("guests/linux/fetch"), "");
    target().join("guests/linux").join(file)
}

/// Runs a script once per process for each line of arguments; a failure ends every test that needs it.
fn once(script: &Path, arguments: &str) {
    static DONE: Mutex<Vec<(PathBuf, String, bool)>> = Mutex::new(Vec::new());
    // For repeated runs of single tests: what is there is good enough.
    if std::env::var_os("VIADUCT_NO_BUILD").is_some() {
        return;
    }
    let mut done = DONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let known = done
        .iter()
        .find(|(path, text, _)| path == script && text == arguments);
    let good = if let Some((_, _, good)) = known {
        *good
    } else {
        let mut command = Command::new(script);
        command.args(arguments.split_whitespace());
        // What `cargo test` sets for its own build must not reach the cargo that the script runs.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
                command.env_remove(name);
            }
        }
        let good = command.status().is_ok_and(|status| status.success());
        done.push((script.to_path_buf(), arguments.to_owned(), good));
        good
    };
    drop(done);
    assert!(good, "{} {arguments} failed", script.display());
}
