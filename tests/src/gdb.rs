//! gdb on a machine that QEMU plays: its command line, with symbols and with the commands of `tools/gdb/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::images::Image;
use crate::paths::{root, target};

/// What QEMU is told so that gdb finds it at `socket`.
#[must_use]
pub fn listen(socket: &Path) -> [String; 2] {
    let _ = std::fs::remove_file(socket);
    let at = socket.display();
    ["-gdb".to_owned(), format!("unix:{at},server=on,wait=off")]
}

/// The ELF file with the symbols of a guest: one of ours by its name, or a file.
#[must_use]
pub fn guest_symbols(word: &str) -> PathBuf {
    let word = word.strip_prefix("symbols=").unwrap_or(word);
    let ours = target()
        .join("aarch64-unknown-none-softfloat/release")
        .join(word);
    if ours.exists() {
        ours
    } else {
        PathBuf::from(word)
    }
}

/// gdb, connected to QEMU at `socket`, with the symbols of this image, where it lies, and of these guests. More words
/// may follow.
///
/// # Errors
/// The image has no ELF file, or a guest's file is not there.
pub fn command(socket: &Path, image: &Image, guests: &[PathBuf]) -> Result<Command, String> {
    let elf = image.path().with_extension("elf");
    for file in guests.iter().chain([&elf]) {
        if !file.exists() {
            return Err(format!("there is no {}", file.display()));
        }
    }
    let mut command = Command::new("gdb-multiarch");
    command.args(["-q", "-ex", "set pagination off", "-ex", "set confirm off"]);
    let mut say = |words: String| {
        command.args(["-ex", &words]);
    };
    say("set architecture aarch64".to_owned());
    say(format!("target remote {}", socket.display()));
    say(format!(
        "source {}",
        root().join("tools/gdb/viaduct.py").display()
    ));
    say(format!("viaduct symbols {}", elf.display()));
    for guest in guests {
        say(format!("add-symbol-file {}", guest.display()));
    }
    Ok(command)
}
