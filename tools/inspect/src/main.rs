//! `just inspect`: reads the words, gets the board's tree, prints the report.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use devtree::Tree;
use viaduct_inspect::settings::{HELP, Settings};
use viaduct_inspect::{Fate, Inputs, Report};
use viaduct_tests::{Board, Gic, Image, Machine, target};

fn main() -> ExitCode {
    let settings = match Settings::parse(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(message) => {
            eprintln!("just inspect: {message}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match inspect(&settings) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("just inspect: {message}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is well.
fn inspect(settings: &Settings) -> Result<bool, String> {
    let file = read(&settings.file)?;
    let image = settings
        .image
        .clone()
        .unwrap_or_else(|| target().join("viaduct.img"));
    let is_bundle = Tree::new(&file)
        .map_err(|error| format!("{}: {error}", settings.file.display()))?
        .find("/images")
        .is_some();
    let (tree, bundle) = if is_bundle {
        if settings.bundle.is_some() || !settings.modules.is_empty() {
            return Err("bundle= and module@ are for a host tree; this is a bundle".into());
        }
        let tree = match &settings.board {
            Some(board) => read(board)?,
            None => machine(settings, &image)?.tree_at_boot("inspect")?,
        };
        (tree, Some(file))
    } else {
        if settings.board.is_some() || settings.machine.is_some() {
            return Err(
                "a host tree is the board: leave out board=, machine= and what belongs to it"
                    .into(),
            );
        }
        let bundle = settings.bundle.as_deref().map(read).transpose()?;
        (file, bundle)
    };
    let modules = settings.modules.iter();
    let modules = modules.map(|(at, path)| Ok((*at, read(path)?)));
    let modules = modules.collect::<Result<Vec<_>, String>>()?;
    let inputs = Inputs {
        tree: &tree,
        bundle: bundle.as_deref(),
        image_size: viaduct_inspect::image_size(&image)?,
        modules: &modules,
    };
    let report = Report::new(&inputs).map_err(|error| format!("the board: {error}"))?;
    match &settings.tree {
        Some(guest) => guest_tree(&report, guest, settings.dtb.as_deref())?,
        None => print(&report.to_string())?,
    }
    Ok(report.all_well())
}

/// The machine of QEMU's that a bundle is inspected for, the bundle in its initrd slot.
fn machine(settings: &Settings, image: &Path) -> Result<Machine, String> {
    let board = settings.machine.as_ref();
    let mut machine = Machine::new(board.map_or(Board::Virt(Gic::V3), |words| words.board))
        .image(Image::File(image.to_path_buf()))
        .bundle(&settings.file);
    if let Some(words) = board {
        machine = words.apply(machine);
    }
    Ok(machine)
}

/// Prints the tree that a guest gets, or writes it to a file.
fn guest_tree(report: &Report<'_>, name: &str, to: Option<&Path>) -> Result<(), String> {
    let named = report.guests.iter().find(|guest| guest.config.name == name);
    let names = || report.guests.iter().map(|guest| guest.config.name.as_str());
    let guest = named.ok_or_else(|| {
        let names: Vec<_> = names().collect();
        format!(
            "tree={name}: no such guest; there are: {}",
            names.join(", ")
        )
    })?;
    let Fate::Built(plan) = &guest.fate else {
        return Err(format!(
            "tree={name}: it is not built, or its files were not given"
        ));
    };
    if let Some(path) = to {
        return std::fs::write(path, &plan.tree).map_err(|error| at(path, &error));
    }
    let cannot = |error: std::io::Error| format!("cannot run dtc (./setup installs it): {error}");
    let mut dtc = Command::new("dtc")
        .args(["-q", "-I", "dtb", "-O", "dts"])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    if let Some(mut input) = dtc.stdin.take() {
        input.write_all(&plan.tree).map_err(cannot)?;
    }
    match dtc.wait().map_err(cannot)?.success() {
        true => Ok(()),
        false => Err("dtc failed".into()),
    }
}

/// A reader that goes away early (`| head`) is no failure.
fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, String> {
    std::fs::read(&path).map_err(|error| at(path.as_ref(), &error))
}

fn at(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", PathBuf::from(path).display())
}
