//! Writes FIT bundles, with `mkimage`, as a user would.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::guest::Guest;
use crate::paths::scratch;

/// A bundle being described.
#[derive(Clone, Debug)]
pub struct Bundle {
    name: String,
    guests: Vec<Guest>,
    hash: Option<String>,
    external: bool,
    extra: String,
}

impl Bundle {
    /// An empty bundle; its files are `NAME.its` and `NAME.itb`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            guests: Vec::new(),
            hash: Some("crc32".to_owned()),
            external: false,
            extra: String::new(),
        }
    }

    /// Adds a guest.
    #[must_use]
    pub fn guest(mut self, guest: Guest) -> Self {
        self.guests.push(guest);
        self
    }

    /// The hash of every image: `crc32` unless told, `None` for no hash.
    #[must_use]
    pub fn hash(mut self, algorithm: Option<&str>) -> Self {
        self.hash = algorithm.map(str::to_owned);
        self
    }

    /// Puts the data behind the tree (`mkimage -E`).
    #[must_use]
    pub fn external(mut self) -> Self {
        self.external = true;
        self
    }

    /// Adds source to `/chosen`, after the guests' nodes.
    #[must_use]
    pub fn extra(mut self, source: &str) -> Self {
        self.extra.push_str(source);
        self
    }

    /// Writes the bundle into the tests' folder.
    #[must_use]
    pub fn write(&self) -> PathBuf {
        let path = scratch().join(format!("{}.itb", self.name));
        self.write_to(&path);
        path
    }

    /// Writes the bundle to `path`, its source beside it. Both appear whole: tests that run at once
    /// may write and read the same bundle.
    pub fn write_to(&self, path: &Path) {
        static WRITTEN: AtomicUsize = AtomicUsize::new(0);
        let own = format!(
            "{}-{}",
            std::process::id(),
            WRITTEN.fetch_add(1, Ordering::Relaxed)
        );
        let source = path.with_extension(format!("{own}.its"));
        let image = path.with_extension(format!("{own}.itb"));
        if let Err(error) = std::fs::write(&source, self.source()) {
            panic!("cannot write {}: {error}", source.display());
        }
        let mut command = Command::new("mkimage");
        if self.external {
            command.arg("-E");
        }
        let output = command
            .arg("-q")
            .arg("-f")
            .arg(&source)
            .arg(&image)
            .output();
        match output {
            Ok(output) if output.status.success() && image.exists() => {}
            Ok(output) => panic!(
                "mkimage refused {}: {}",
                source.display(),
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => panic!("cannot run mkimage (./setup installs it): {error}"),
        }
        for (from, to) in [
            (source, path.with_extension("its")),
            (image, path.to_path_buf()),
        ] {
            if let Err(error) = std::fs::rename(&from, &to) {
                panic!(
                    "cannot move {} to {}: {error}",
                    from.display(),
                    to.display()
                );
            }
        }
    }

    fn source(&self) -> String {
        let mut files: Vec<PathBuf> = Vec::new();
        let mut nodes = String::new();
        for guest in &self.guests {
            nodes.push_str(&guest.node(&mut |path| {
                let index = files
                    .iter()
                    .position(|known| known == path)
                    .unwrap_or_else(|| {
                        files.push(path.to_path_buf());
                        files.len() - 1
                    });
                (
                    format!("image = \"{}\";", image_name(index, path)),
                    String::new(),
                )
            }));
        }
        let mut text = String::from("/dts-v1/;\n\n/ {\n");
        let _ = writeln!(
            text,
            "description = \"{}\";\n#address-cells = <1>;\n\nimages {{",
            self.name
        );
        for (index, path) in files.iter().enumerate() {
            let _ = writeln!(text, "{} {{", image_name(index, path));
            let _ = writeln!(text, "    description = {:?};", file_name(path));
            let _ = writeln!(
                text,
                "    data = /incbin/({:?});",
                path.display().to_string()
            );
            let _ = writeln!(text, "    type = \"firmware\";\n    arch = \"arm64\";");
            let _ = writeln!(text, "    compression = \"none\";");
            if let Some(algorithm) = &self.hash {
                let _ = writeln!(text, "    hash-1 {{ algo = \"{algorithm}\"; }};");
            }
            let _ = writeln!(text, "}};");
        }
        let _ = writeln!(text, "}};\n\nchosen {{\n{nodes}{}\n}};\n}};", self.extra);
        text
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// A node name made of a file's name.
fn image_name(index: usize, path: &Path) -> String {
    let name = file_name(path);
    let stem = name.split('.').next().unwrap_or_default();
    let clean: String = stem.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{}-{}", clean.to_lowercase(), index + 1)
}
