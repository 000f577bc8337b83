//! `just debug`: boots Viaduct on QEMU as `just run` does, in the debug build, and opens gdb on it, with the symbols of the
//! hypervisor and of a guest and with commands that look into it (`tools/gdb/`, docs/debugging.md).

use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use viaduct_tests::settings::Settings;
use viaduct_tests::{Image, Machine, gdb, lines, scratch};

const HELP: &str = "beside those of `just run`: symbols=hello|probe|FILE (a guest's ELF file)";

fn main() -> ExitCode {
    match debug() {
        Ok(code) => code,
        Err(message) => {
            eprintln!("just debug: {message}");
            ExitCode::FAILURE
        }
    }
}

/// QEMU, which ends when gdb has.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn debug() -> Result<ExitCode, String> {
    let (symbols, others): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|word| word.starts_with("symbols="));
    let says_profile = others.iter().any(|word| word.starts_with("profile="));
    let mut settings = Settings::parse(others).map_err(|error| format!("{error}; {HELP}"))?;
    if !says_profile {
        settings.image = Image::Debug;
    }
    let contents = &settings.contents;
    let bundle = contents.bundle(settings.linux.as_deref(), settings.initrd.as_deref())?;
    let machine = Machine::new(settings.board)
        .image(settings.image.clone())
        .bundle(bundle);
    let machine = settings.apply(machine);

    let socket = scratch().join("debug.gdb");
    let console = scratch().join("debug.console.log");
    let _ = std::fs::remove_file(&console);
    let mut command = Command::new("qemu-system-aarch64");
    machine.arguments("debug", &mut command);
    command.args(["-display", "none", "-monitor", "none", "-chardev"]);
    command.arg(format!("pty,id=console,logfile={}", console.display()));
    machine.serials("chardev:console", &mut command);
    command.args(gdb::listen(&socket));
    // Ctrl-C is for gdb.
    command.stdin(Stdio::null());
    let mut command_in_session = Command::new("setsid");
    command_in_session
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null());
    let qemu = command_in_session.spawn();
    let _qemu =
        Qemu(qemu.map_err(|error| format!("cannot start QEMU: {error} (./setup installs it)"))?);
    println!(
        "the console is the device above, and is kept in {}",
        console.display()
    );

    let deadline = Instant::now() + Duration::from_secs(60);
    let said = || std::fs::read_to_string(&console).unwrap_or_default();
    while !said().contains(lines::GUESTS_START) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let guests: Vec<PathBuf> = symbols
        .iter()
        .map(|word| gdb::guest_symbols(word))
        .collect();
    let mut gdb = gdb::command(&socket, &settings.image, &guests)?;
    let status = gdb
        .status()
        .map_err(|error| format!("cannot start gdb: {error} (./setup installs gdb-multiarch)"))?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
