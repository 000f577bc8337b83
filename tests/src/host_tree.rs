//! Host trees with guests in them (Xen's dom0less way): the machine's own tree with domain nodes
//! added by `dtc`, and modules that QEMU's loader devices put in memory.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::paths::scratch;

use crate::guest::Guest;

/// A file that lies in memory when the machine starts.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) address: u64,
    pub(crate) path: PathBuf,
}

/// Modules start at multiples of this.
const ALIGNMENT: u64 = 0x20_0000;

/// Text to merge into a tree, and the files that it speaks of. Modules are laid out from `base`.
pub(crate) fn chosen(guests: &[Guest], extra: &str, base: u64) -> (String, Vec<Loaded>) {
    let mut loaded: Vec<Loaded> = Vec::new();
    let mut next = base;
    let mut nodes = String::new();
    for guest in guests {
        for path in guest.files() {
            if loaded.iter().all(|known| known.path != path) {
                loaded.push(Loaded {
                    address: next,
                    path: path.to_path_buf(),
                });
                next = (next + size(path)).next_multiple_of(ALIGNMENT);
            }
        }
        nodes.push_str(&guest.node(&mut |path| {
            let address = loaded
                .iter()
                .find(|known| known.path == path)
                .map_or(0, |known| known.address);
            let reg = format!(
                "reg = <{:#x} {:#x} {:#x} {:#x}>;",
                address >> 32,
                address & 0xffff_ffff,
                size(path) >> 32,
                size(path) & 0xffff_ffff
            );
            (reg, format!("@{address:x}"))
        }));
    }
    let mut text = String::from("\n/ { chosen {\n#address-cells = <2>;\n#size-cells = <2>;\n");
    let _ = write!(text, "{extra}\n{nodes}}}; }};\n");
    (text, loaded)
}

/// Adds `source` to the tree `from` and writes the result to `to`.
pub(crate) fn merge(from: &Path, source: &str, to: &Path) {
    let text = dtc(
        &["-I", "dtb", "-O", "dts"],
        from,
        &to.with_extension("base.dts"),
    );
    let Ok(mut text) = std::fs::read_to_string(&text) else {
        panic!("cannot read {}", text.display());
    };
    text.push_str(source);
    let merged = to.with_extension("dts");
    if let Err(error) = std::fs::write(&merged, text) {
        panic!("cannot write {}: {error}", merged.display());
    }
    dtc(&["-I", "dts", "-O", "dtb"], &merged, to);
}

/// Compiles a partial tree whose root holds `source`.
pub(crate) fn partial(name: &str, source: &str) -> PathBuf {
    let text = format!("/dts-v1/; / {{ #address-cells = <2>; #size-cells = <2>; {source} }};");
    // Tests run side by side, and guests of two may have one name.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (process, number) = (std::process::id(), COUNT.fetch_add(1, Relaxed));
    let stem = format!("{name}-{process}-{number}.devices");
    let from = scratch().join(format!("{stem}.dts"));
    if let Err(error) = std::fs::write(&from, text) {
        panic!("cannot write {}: {error}", from.display());
    }
    let to = scratch().join(format!("{stem}.dtb"));
    dtc(&["-I", "dts", "-O", "dtb"], &from, &to)
}

/// Writes the tree `from` to `to` without a node.
pub(crate) fn remove(from: &Path, node: &str, to: &Path) {
    if let Err(error) = std::fs::copy(from, to) {
        panic!("cannot copy {}: {error}", from.display());
    }
    let status = Command::new("fdtput").arg("-r").arg(to).arg(node).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "cannot remove {node} from {} by fdtput (./setup installs it)",
        from.display()
    );
}

fn dtc(how: &[&str], from: &Path, to: &Path) -> PathBuf {
    let output = Command::new("dtc")
        .args(["-q", "-o"])
        .arg(to)
        .args(how)
        .arg(from)
        .output();
    match output {
        Ok(output) if output.status.success() => to.to_path_buf(),
        Ok(output) => panic!(
            "dtc {}: {}",
            from.display(),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => panic!("cannot run dtc (./setup installs it): {error}"),
    }
}

fn size(path: &Path) -> u64 {
    match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}
