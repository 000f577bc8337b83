//! `just sdcard`: a Raspberry Pi 4's SD card, as a directory and as an image.

use std::path::PathBuf;
use std::process::ExitCode;

use viaduct_tests::demo::Contents;
use viaduct_tests::sdcard::Card;
use viaduct_tests::target;

const HELP: &str = "settings: bundle=demo|unikernels|FILE firmware=DIRECTORY cmdline='WORDS'";

fn main() -> ExitCode {
    match make() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("just sdcard: {message}");
            ExitCode::FAILURE
        }
    }
}

fn make() -> Result<(), String> {
    let mut contents = Contents::Demo;
    let mut firmware = std::env::var_os("FIRMWARE").map(PathBuf::from);
    let mut cmdline = None;
    for word in std::env::args().skip(1) {
        match word.split_once('=') {
            Some(("bundle", value)) => contents = Contents::parse(value),
            Some(("firmware", value)) => firmware = Some(PathBuf::from(value)),
            Some(("cmdline", value)) => cmdline = Some(value.to_owned()),
            _ => return Err(format!("{word:?} makes no sense; {HELP}")),
        }
    }
    let bundle = contents.bundle(None, None)?;
    let card = Card::of(&bundle, firmware.as_deref(), cmdline.as_deref())?;
    let (directory, image) = (target().join("sdcard"), target().join("sdcard.img"));
    card.write_directory(&directory)?;
    card.write_image(&directory, &image)?;
    println!(
        "{}: copy what is in it to the card's FAT partition, or",
        directory.display()
    );
    println!(
        "{}: write it onto the whole card; README.txt says the rest",
        image.display()
    );
    Ok(())
}
