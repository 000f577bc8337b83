//! The words after `just inspect`.

use std::path::PathBuf;

use memory::Pa;
use viaduct_tests::settings::Settings as Machine;

/// What can be said.
pub const HELP: &str = "\
just inspect FILE [WORDS]    what the hypervisor would make of FILE, a host tree (.dtb) or a bundle (FIT)

  bundle=FILE          with a host tree: what lies in the initrd slot
  module@ADDRESS=FILE  with a host tree: a file that lies in memory there
  machine=virt|raspi4b gic=2|3 cpus=N mem=SIZE append='WORDS'
                       with a bundle: the board is this one of QEMU's; virt with a GICv3, 2 CPUs and 1 GiB if
                       nothing is said
  board=FILE           with a bundle: the board is the one of this host tree
  image=FILE           the hypervisor's image, whose size counts; target/viaduct.img if nothing is said
  tree=GUEST           print the tree that this guest gets, as source, and nothing else
  dtb=FILE             write that tree, as a dtb

Exit status: 0 all is well (warnings are none of it), 1 something is refused or a guest left out, 2 FILE or the
words cannot be used.";

/// The words, read.
#[derive(Debug)]
pub struct Settings {
    /// The file that is inspected.
    pub file: PathBuf,
    /// `bundle=`.
    pub bundle: Option<PathBuf>,
    /// `module@ADDRESS=`.
    pub modules: Vec<(Pa, PathBuf)>,
    /// `board=`.
    pub board: Option<PathBuf>,
    /// Whether any word is about a machine of QEMU's, and which that is.
    pub machine: Option<Machine>,
    /// `image=`.
    pub image: Option<PathBuf>,
    /// `tree=`.
    pub tree: Option<String>,
    /// `dtb=`.
    pub dtb: Option<PathBuf>,
}

impl Settings {
    /// Reads the words.
    ///
    /// # Errors
    /// What makes no sense.
    pub fn parse<I: IntoIterator<Item = String>>(words: I) -> Result<Self, String> {
        let (mut file, mut machine) = (None, Vec::new());
        let (mut bundle, mut board, mut image, mut tree, mut dtb) = (None, None, None, None, None);
        let mut modules = Vec::new();
        for word in words {
            let Some((name, value)) = word.split_once('=') else {
                if let Some(first) = file.replace(PathBuf::from(&word)) {
                    return Err(format!(
                        "one file at a time: {} or {word}?",
                        first.display()
                    ));
                }
                continue;
            };
            if let Some(address) = name.strip_prefix("module@") {
                modules.push((number(address)?, PathBuf::from(value)));
                continue;
            }
            let slot = match name {
                "bundle" => &mut bundle,
                "board" => &mut board,
                "image" => &mut image,
                "dtb" => &mut dtb,
                "tree" => {
                    tree = Some(value.to_owned());
                    continue;
                }
                "machine" | "gic" | "cpus" | "mem" | "append" => {
                    machine.push(word);
                    continue;
                }
                _ => return Err(format!("there is no setting {name:?}")),
            };
            *slot = Some(PathBuf::from(value));
        }
        let machine = match machine.is_empty() {
            true => None,
            false => Some(Machine::parse(machine).map_err(|error| own_part(&error))?),
        };
        if machine.is_some() && board.is_some() {
            return Err(
                "board= is the board, so machine=, gic=, cpus=, mem= and append= say nothing"
                    .into(),
            );
        }
        if dtb.is_some() && tree.is_none() {
            return Err("dtb= writes the tree of the guest that tree= names".into());
        }
        Ok(Self {
            file: file.ok_or("which file?")?,
            bundle,
            modules,
            board,
            machine,
            image,
            tree,
            dtb,
        })
    }
}

/// The machine's settings are read by the code behind `just run`, whose messages end in its own help.
fn own_part(message: &str) -> String {
    message
        .split("; settings:")
        .next()
        .unwrap_or(message)
        .to_owned()
}

fn number(text: &str) -> Result<Pa, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let number = u64::from_str_radix(digits, 16);
    number
        .map(Pa::new)
        .map_err(|_| format!("module@{text}: not an address in hexadecimal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Settings, String> {
        Settings::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn words_in_any_order() {
        let settings = parse("gic=2 a.itb cpus=4 image=i tree=web dtb=out").unwrap();
        assert_eq!(settings.file, PathBuf::from("a.itb"));
        assert_eq!(settings.machine.unwrap().cpus, Some(4));
        assert_eq!(settings.tree.as_deref(), Some("web"));
        let settings = parse("host.dtb bundle=b module@48000000=k module@0x4c000000=r").unwrap();
        assert_eq!(settings.modules[0], (Pa::new(0x4800_0000), "k".into()));
        assert_eq!(settings.modules[1], (Pa::new(0x4c00_0000), "r".into()));
        assert!(settings.machine.is_none() && settings.bundle.is_some());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (line, part) in [
            ("", "which file"),
            ("a b", "one file"),
            ("a colour=red", "colour"),
            ("a gic=4", "gic=4"),
            ("a module@x=k", "module@x"),
            ("a board=b gic=2", "board="),
            ("a dtb=x", "tree="),
        ] {
            let error = parse(line).unwrap_err();
            assert!(
                error.contains(part) && !error.contains("settings:"),
                "{line}: {error}"
            );
        }
    }
}
