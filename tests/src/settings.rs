//! The `name=value` settings of `just run`.

use std::path::PathBuf;

use crate::demo::Contents;
use crate::images::Image;
use crate::machine::{Board, Gic, Machine};

/// The settings, with what holds where nothing is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `machine=virt|raspi4b` and `gic=2|3`.
    pub board: Board,
    /// `cpus=`.
    pub cpus: Option<u32>,
    /// `mem=`, in MiB (`mem=2G` and `mem=512M` work too).
    pub memory_mib: Option<u64>,
    /// `bundle=demo|unikernels|FILE`.
    pub contents: Contents,
    /// `linux=`: another kernel.
    pub linux: Option<PathBuf>,
    /// `initrd=`: another RAM disk.
    pub initrd: Option<PathBuf>,
    /// `profile=release|debug`.
    pub image: Image,
    /// `append=`: boot arguments of the hypervisor.
    pub append: Option<String>,
}

/// What can be said, for messages.
pub const HELP: &str = "settings: machine=virt|raspi4b gic=2|3 cpus=N mem=MIB bundle=demo|unikernels|FILE \
                        linux=PATH initrd=PATH profile=release|debug append='WORDS'";

impl Settings {
    /// Reads settings.
    ///
    /// # Errors
    /// One line that names the word that makes no sense, and what would.
    pub fn parse<I: IntoIterator<Item = String>>(words: I) -> Result<Self, String> {
        let mut machine = "virt".to_owned();
        let mut gic = None;
        let mut settings = Self {
            board: Board::Virt(Gic::V3),
            cpus: None,
            memory_mib: None,
            contents: Contents::Demo,
            linux: None,
            initrd: None,
            image: Image::Release,
            append: None,
        };
        for word in words {
            let Some((name, value)) = word.split_once('=') else {
                return Err(format!("{word:?} is no name=value; {HELP}"));
            };
            let bad = || format!("{name}={value} makes no sense; {HELP}");
            match name {
                "machine" => value.clone_into(&mut machine),
                "gic" => {
                    gic = Some(match value {
                        "2" => Gic::V2,
                        "3" => Gic::V3,
                        _ => return Err(bad()),
                    });
                }
                "cpus" => settings.cpus = Some(value.parse().map_err(|_| bad())?),
                "mem" => settings.memory_mib = Some(mebibytes(value).ok_or_else(bad)?),
                "bundle" => settings.contents = Contents::parse(value),
                "linux" => settings.linux = Some(PathBuf::from(value)),
                "initrd" => settings.initrd = Some(PathBuf::from(value)),
                "profile" => {
                    settings.image = match value {
                        "release" => Image::Release,
                        "debug" => Image::Debug,
                        _ => return Err(bad()),
                    }
                }
                "append" => settings.append = Some(value.to_owned()),
                _ => return Err(format!("there is no setting {name:?}; {HELP}")),
            }
        }
        settings.board = match (machine.as_str(), gic) {
            ("virt", gic) => Board::Virt(gic.unwrap_or(Gic::V3)),
            ("raspi4b", None) => Board::RaspberryPi4,
            ("raspi4b", Some(_)) => return Err("a raspi4b has a GICv2; leave out gic=".to_owned()),
            _ => return Err(format!("machine={machine} is none of virt, raspi4b")),
        };
        if settings.board == Board::RaspberryPi4 {
            if settings.cpus.is_some_and(|cpus| cpus != 4) {
                return Err("a raspi4b has 4 CPUs; leave out cpus=".to_owned());
            }
            if settings.memory_mib.is_some_and(|mib| mib != 2048) {
                return Err("QEMU's raspi4b has 2 GiB; leave out mem=".to_owned());
            }
        }
        if settings.contents != Contents::Demo
            && (settings.linux.is_some() || settings.initrd.is_some())
        {
            return Err("linux= and initrd= change the demo bundle; leave out bundle=".to_owned());
        }
        Ok(settings)
    }

    /// What is said of a machine's hardware and of the boot arguments, done to `machine`.
    #[must_use]
    pub fn apply(&self, mut machine: Machine) -> Machine {
        if let Some(cpus) = self.cpus {
            machine = machine.cpus(cpus);
        }
        if let Some(mib) = self.memory_mib {
            machine = machine.memory_mib(mib);
        }
        match &self.append {
            Some(words) => machine.argument(words),
            None => machine,
        }
    }
}

fn mebibytes(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'G' | b'g' => (text.get(..text.len() - 1)?, 1024),
        b'M' | b'm' => (text.get(..text.len() - 1)?, 1),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::{Board, Contents, Gic, Image, Settings, mebibytes};
    use std::path::PathBuf;

    fn parse(line: &str) -> Result<Settings, String> {
        Settings::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn nothing_said_is_the_demo_on_virt() {
        let settings = parse("").unwrap();
        assert_eq!(settings.board, Board::Virt(Gic::V3));
        assert_eq!(
            (settings.contents, settings.image),
            (Contents::Demo, Image::Release)
        );
    }

    #[test]
    fn settings_are_read_in_any_order() {
        let settings = parse("cpus=4 bundle=x.itb gic=2 mem=2G profile=debug").unwrap();
        assert_eq!(settings.board, Board::Virt(Gic::V2));
        assert_eq!((settings.cpus, settings.memory_mib), (Some(4), Some(2048)));
        assert_eq!(settings.contents, Contents::File(PathBuf::from("x.itb")));
        assert_eq!(settings.image, Image::Debug);
        assert_eq!(parse("machine=raspi4b").unwrap().board, Board::RaspberryPi4);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (line, part) in [
            ("gic=4", "gic=4"),
            ("fast", "\"fast\""),
            ("speed=9", "\"speed\""),
            ("machine=pi5", "machine=pi5"),
            ("machine=raspi4b gic=2", "gic="),
            ("machine=raspi4b cpus=2", "cpus="),
            ("bundle=unikernels linux=Image", "linux="),
            ("mem=lots", "mem=lots"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(mebibytes("512"), Some(512));
        assert_eq!(mebibytes("512M"), Some(512));
        assert_eq!(mebibytes("8g"), Some(8192));
        assert_eq!((mebibytes(""), mebibytes("G")), (None, None));
    }
}
