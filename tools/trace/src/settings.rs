//! The `name=value` words of `just trace`.

use std::path::PathBuf;

use viaduct_tests::settings::{self, Settings as Machine};

/// What is to be read, and where the results go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is read.
    pub source: Source,
    /// `elf=`: the hypervisor's ELF file, if it is not the one that was built last.
    pub elf: Option<PathBuf>,
    /// `out=`: the directory for the results.
    pub out: Option<PathBuf>,
}

/// Where the trace comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `file=`: what a UART sent, or a console's log with lines of the trace.
    File(PathBuf),
    /// A machine that is run for so many seconds, or until it ends.
    Machine(Box<Machine>, u64),
}

/// What can be said, for messages.
#[must_use]
pub fn help() -> String {
    format!(
        "settings: file=TRACE elf=FILE out=DIRECTORY, or instead of file= seconds=N and those of `just run`:\n{}",
        settings::HELP
    )
}

impl Settings {
    /// Reads settings.
    ///
    /// # Errors
    /// One line that names the word that makes no sense.
    pub fn parse<I: IntoIterator<Item = String>>(words: I) -> Result<Self, String> {
        let (mut file, mut elf, mut out, mut seconds) = (None, None, None, None);
        let mut rest = Vec::new();
        let mut has_bundle = false;
        for word in words {
            match word.split_once('=') {
                Some(("file", value)) => file = Some(PathBuf::from(value)),
                Some(("elf", value)) => elf = Some(PathBuf::from(value)),
                Some(("out", value)) => out = Some(PathBuf::from(value)),
                Some(("seconds", value)) => {
                    let number = value
                        .parse()
                        .map_err(|_| format!("{word} makes no sense"))?;
                    seconds = Some(number);
                }
                other => {
                    has_bundle |= matches!(other, Some(("bundle" | "linux" | "initrd", _)));
                    rest.push(word);
                }
            }
        }
        let source = match file {
            Some(_) if !rest.is_empty() || seconds.is_some() => {
                return Err(
                    "file= is read as it is: leave out what belongs to a machine".to_owned(),
                );
            }
            Some(path) => Source::File(path),
            None => {
                if !has_bundle {
                    rest.push("bundle=unikernels".to_owned());
                }
                let machine = Machine::parse(rest)?;
                Source::Machine(Box::new(machine), seconds.unwrap_or(15))
            }
        };
        Ok(Self { source, elf, out })
    }
}

#[cfg(test)]
mod tests {
    use super::{Settings, Source};

    fn parse(line: &str) -> Result<Settings, String> {
        Settings::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn words_are_a_files_or_a_machines() {
        let settings = parse("file=a.bin elf=b.elf out=c").unwrap();
        assert_eq!(settings.source, Source::File("a.bin".into()));
        assert_eq!(settings.elf, Some("b.elf".into()));
        assert!(parse("file=a.bin cpus=4").unwrap_err().contains("file="));
        assert!(parse("seconds=soon").unwrap_err().contains("seconds=soon"));
        assert!(parse("speed=9").unwrap_err().contains("speed"));
        let Source::Machine(machine, seconds) = parse("gic=2 cpus=4 seconds=3").unwrap().source
        else {
            panic!("a machine");
        };
        assert_eq!((machine.cpus, seconds), (Some(4), 3));
    }
}
