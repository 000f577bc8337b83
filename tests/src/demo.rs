//! The guests of the demo, as `just run` boots them and `just sdcard` puts them on a card.

use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::guest::Guest;
use crate::images::{linux_initramfs, linux_kernel};
use crate::paths::target;

/// What the bundle holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Linux and two unikernels.
    Demo,
    /// The two unikernels alone: nothing is downloaded.
    Unikernels,
    /// This bundle.
    File(PathBuf),
}

impl Contents {
    /// `demo`, `unikernels`, or a file.
    #[must_use]
    pub fn parse(value: &str) -> Self {
        match value {
            "demo" => Self::Demo,
            "unikernels" => Self::Unikernels,
            _ => Self::File(PathBuf::from(value)),
        }
    }

    /// The bundle, written if it is one of ours, with `linux` and `initrd` in place of Debian's files.
    ///
    /// # Errors
    /// A file that is not there.
    pub fn bundle(&self, linux: Option<&Path>, initrd: Option<&Path>) -> Result<PathBuf, String> {
        let or = |given: Option<&Path>, ours: fn() -> PathBuf| {
            given.map_or_else(ours, Path::to_path_buf)
        };
        match self {
            Self::File(path) if path.is_file() => Ok(path.clone()),
            Self::File(path) => Err(format!("there is no file {}", path.display())),
            Self::Unikernels => Ok(unikernels(Bundle::new("unikernels"), "unikernels.itb")),
            Self::Demo => {
                let linux = Guest::new("linux", or(linux, linux_kernel))
                    .ramdisk(or(initrd, linux_initramfs))
                    .memory_mib(256)
                    .cpus(2)
                    .boot_arguments("console=hvc0 quiet")
                    .extra("viaduct,console-focus;");
                Ok(unikernels(Bundle::new("demo").guest(linux), "demo.itb"))
            }
        }
    }
}

/// Adds the two heartbeats and writes the bundle.
fn unikernels(bundle: Bundle, file: &str) -> PathBuf {
    let path = target().join(file);
    let heartbeat = |name| Guest::hello(name).boot_arguments("period=5s");
    bundle
        .guest(heartbeat("hello-1"))
        .guest(heartbeat("hello-2"))
        .write_to(&path);
    path
}
