//! `just run`: boots Viaduct on QEMU with the demo bundle, in this terminal.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use viaduct_tests::settings::{Contents, Settings};
use viaduct_tests::{Board, Bundle, Guest, Machine, linux_initramfs, linux_kernel, target};

fn main() -> ExitCode {
    let settings = match Settings::parse(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(message) => {
            eprintln!("just run: {message}");
            return ExitCode::FAILURE;
        }
    };
    let bundle = match &settings.contents {
        Contents::File(path) if path.is_file() => path.clone(),
        Contents::File(path) => {
            eprintln!("just run: there is no file {}", path.display());
            return ExitCode::FAILURE;
        }
        Contents::Unikernels => unikernels(Bundle::new("unikernels"), "unikernels.itb"),
        Contents::Demo => {
            let kernel = settings.linux.clone().unwrap_or_else(linux_kernel);
            let initrd = settings.initrd.clone().unwrap_or_else(linux_initramfs);
            let linux = Guest::new("linux", kernel)
                .ramdisk(initrd)
                .memory_mib(256)
                .cpus(2)
                .boot_arguments("console=hvc0 quiet")
                .extra("viaduct,console-focus;");
            unikernels(Bundle::new("demo").guest(linux), "demo.itb")
        }
    };
    let mut machine = Machine::new(settings.board)
        .image(settings.image.clone())
        .bundle(bundle);
    if let Some(cpus) = settings.cpus {
        machine = machine.cpus(cpus);
    }
    if let Some(mib) = settings.memory_mib {
        machine = machine.memory_mib(mib);
    }
    if let Some(words) = &settings.append {
        machine = machine.argument(words);
    }
    let mut command = Command::new("qemu-system-aarch64");
    machine.arguments("run", &mut command);
    command.args(["-display", "none"]);
    if settings.board == Board::RaspberryPi4 {
        command.args(["-serial", "null"]);
    }
    // QEMU's escape key is Ctrl-] here, so that Ctrl-A reaches Viaduct.
    command.args(["-serial", "mon:stdio", "-echr", "0x1d"]);
    println!("Ctrl-A three times: input to the next guest.   Ctrl-] then x: quit.");
    let error = command.exec();
    eprintln!("just run: cannot start qemu-system-aarch64: {error} (./setup installs it)");
    ExitCode::FAILURE
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
