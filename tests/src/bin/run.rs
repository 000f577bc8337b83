//! `just run`: boots Viaduct on QEMU with the demo bundle, in this terminal.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use viaduct_tests::Machine;
use viaduct_tests::settings::Settings;

fn main() -> ExitCode {
    let settings = match Settings::parse(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(message) => {
            eprintln!("just run: {message}");
            return ExitCode::FAILURE;
        }
    };
    let bundle = settings
        .contents
        .bundle(settings.linux.as_deref(), settings.initrd.as_deref());
    let bundle = match bundle {
        Ok(bundle) => bundle,
        Err(message) => {
            eprintln!("just run: {message}");
            return ExitCode::FAILURE;
        }
    };
    let machine = Machine::new(settings.board)
        .image(settings.image.clone())
        .bundle(bundle);
    let machine = settings.apply(machine);
    let mut command = Command::new("qemu-system-aarch64");
    machine.arguments("run", &mut command);
    command.args(["-display", "none"]);
    // QEMU's escape key is Ctrl-] here, so that Ctrl-A reaches Viaduct.
    machine.serials("mon:stdio", &mut command);
    command.args(["-echr", "0x1d"]);
    println!("Ctrl-A three times: input to the next guest.   Ctrl-] then x: quit.");
    let error = command.exec();
    eprintln!("just run: cannot start qemu-system-aarch64: {error} (./setup installs it)");
    ExitCode::FAILURE
}
