//! Device trees of the Pi 4's family, as the firmware hands them over.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{pi4_trees, scratch};

/// Cells that the firmware writes into `/memory@0`, and MiB.
const MEMORY: [(&str, u64); 4] = [
    ("0 0 0x3b400000", 948),
    ("0 0 0x3b400000 0 0x40000000 0x40000000", 948 + 1024),
    ("0 0 0x3b400000 0 0x40000000 0xbc000000", 948 + 3008),
    (
        "0 0 0x3b400000 0 0x40000000 0xbc000000 1 0 0x80000000 1 0x80000000 0x80000000",
        948 + 3008 + 4096,
    ),
];

/// A copy of `tree` on which `fdtput` was run with each list of words.
///
/// # Panics
/// It cannot be edited.
#[must_use]
pub fn edited(tree: &Path, name: &str, edits: &[&[&str]]) -> PathBuf {
    let path = scratch().join(name);
    std::fs::copy(tree, &path).expect("a tree to edit");
    for words in edits {
        let (options, rest) = words.split_at(usize::from(["-r", "-c", "-d"].contains(&words[0])));
        let kind: &[&str] = if options.is_empty() { &words[..2] } else { &[] };
        let rest = if kind.is_empty() { rest } else { &words[2..] };
        let status = Command::new("fdtput")
            .args(options)
            .args(kind)
            .arg(&path)
            .args(rest)
            .status();
        assert!(
            status.expect("fdtput (./setup installs it)").success(),
            "{words:?}"
        );
    }
    path
}

/// Every tree of the family with every size of memory, and a bundle of so many bytes at 128 MiB: name of the tree,
/// MiB of memory, the file.
pub fn family(bundle: usize) -> impl Iterator<Item = (&'static str, u64, PathBuf)> {
    let trees = pi4_trees().into_iter();
    trees.flat_map(move |(board, tree)| {
        MEMORY.into_iter().map(move |(memory, mib)| {
            let cells = memory.split(' ').map(|cell| cell.trim_start_matches("0x"));
            let words: Vec<&str> = ["-t", "x", "/memory@0", "reg"]
                .into_iter()
                .chain(cells)
                .collect();
            let end = format!("{:x}", 0x800_0000 + bundle);
            let edits: [&[&str]; 3] = [
                &words,
                &["-t", "x", "/chosen", "linux,initrd-start", "8000000"],
                &["-t", "x", "/chosen", "linux,initrd-end", &end],
            ];
            // Tests run side by side.
            let name = format!("family-{}-{mib}-{bundle}-{board}", std::process::id());
            (board, mib, edited(&tree, &name, &edits))
        })
    })
}
