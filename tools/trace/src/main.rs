//! `just trace`: runs a machine with the trace on, or takes what one sent, and writes text, a summary and a timeline.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use viaduct_tests::{Image, Machine, target};
use viaduct_trace_reader::settings::{self, Settings, Source};
use viaduct_trace_reader::{Summary, Table, Trace, timeline};

fn main() -> ExitCode {
    let settings = match Settings::parse(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(message) => {
            eprintln!("just trace: {message}\n\n{}", settings::help());
            return ExitCode::from(2);
        }
    };
    match trace(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("just trace: {message}");
            ExitCode::FAILURE
        }
    }
}

fn trace(settings: &Settings) -> Result<(), String> {
    let out = settings
        .out
        .clone()
        .unwrap_or_else(|| target().join("trace"));
    let cannot = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(&out).map_err(|error| cannot(&out, error))?;
    let (file, elf) = match &settings.source {
        Source::File(path) => (path.clone(), target().join("viaduct.elf")),
        Source::Machine(machine, seconds) => run(machine, *seconds, out.join("trace.bin"))?,
    };
    let elf = settings.elf.clone().unwrap_or(elf);
    let bytes = std::fs::read(&file).map_err(|error| cannot(&file, error))?;
    let image = std::fs::read(&elf).map_err(|error| cannot(&elf, error))?;
    let table = Table::parse(&image)
        .map_err(|error| format!("{}: {error}", elf.display()))?
        .ok_or_else(|| format!("{}: there are no formats of a trace in it", elf.display()))?;
    let trace = Trace::read(&bytes, &table);
    if trace.records.is_empty() {
        return Err(format!("{}: there are no records in it", file.display()));
    }
    let summary = Summary::of(&trace).to_string();
    for (name, text) in [
        ("trace.txt", trace.to_string()),
        ("summary.txt", summary.clone()),
        ("timeline.json", timeline::json(&trace)),
    ] {
        let path = out.join(name);
        std::fs::write(&path, text).map_err(|error| cannot(&path, error))?;
    }
    println!("{summary}");
    println!(
        "{}: trace.txt, summary.txt, timeline.json (ui.perfetto.dev opens it)",
        out.display()
    );
    Ok(())
}

/// Runs a machine; where its trace is, and the ELF file of the image that it ran.
fn run(
    settings: &viaduct_tests::settings::Settings,
    seconds: u64,
    file: PathBuf,
) -> Result<(PathBuf, PathBuf), String> {
    let bundle = settings
        .contents
        .bundle(settings.linux.as_deref(), settings.initrd.as_deref())?;
    let elf = match &settings.image {
        Image::Release => "viaduct.elf",
        Image::Debug => "viaduct-debug.elf",
        Image::Faults => "viaduct-faults.elf",
        Image::Untraced => return Err("that image has no trace".to_owned()),
        Image::File(path) => return Err(format!("{}: its formats are not known", path.display())),
    };
    let machine = Machine::new(settings.board)
        .image(settings.image.clone())
        .bundle(bundle)
        .traced(&file);
    let mut console = settings.apply(machine).start("trace");
    let mut left = seconds * 4;
    while left > 0 && console.is_running() {
        console.run_for(Duration::from_millis(250));
        left -= 1;
    }
    for line in console.lines() {
        println!("{line}");
    }
    drop(console);
    Ok((file, target().join(elf)))
}
