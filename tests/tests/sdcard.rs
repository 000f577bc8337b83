//! The Raspberry Pi 4's card: taken apart by other tools than those that made it, checked against its own
//! `config.txt`, and booted with exactly the files that it holds.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use viaduct_tests::demo::Contents;
use viaduct_tests::sdcard::{Card, PARTITION_START, SECTOR};
use viaduct_tests::{Image, Machine, lines, scratch, seconds};

/// Where the memory ends that the firmware leaves to us below 1 GiB, with its default of 76 MiB for the
/// graphics processor.
const MEMORY_END: u64 = 0x3b40_0000;
/// What the firmware adds to the tree at most, generously: memory, arguments, the board's serial number.
const TREE_ROOM: u64 = 64 << 10;

/// A card with this bundle, and what its image holds: file contents by name.
fn card(name: &str, contents: &Contents) -> (PathBuf, BTreeMap<String, Vec<u8>>) {
    // The demo's bundles have one place each: one test at a time writes and copies them.
    static BUNDLES: Mutex<()> = Mutex::new(());
    let _alone = BUNDLES.lock().unwrap_or_else(PoisonError::into_inner);
    let bundle = contents.bundle(None, None).expect("a bundle");
    let card = Card::of(&bundle, None, None).expect("all files");
    let directory = scratch().join(name);
    let image = scratch().join(format!("{name}.img"));
    card.write_directory(&directory).expect("the directory");
    card.write_image(&directory, &image).expect("the image");
    let files = read_image(&image);
    same_as_directory(&files, &directory);
    (image, files)
}

/// All files of the first partition, by a FAT implementation that did not write them.
fn read_image(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut image = std::fs::read(path).expect("the image");
    let partition = image.split_off(PARTITION_START as usize);
    let volume = fatfs::FileSystem::new(Cursor::new(partition), fatfs::FsOptions::new())
        .expect("a FAT file system");
    assert_eq!(volume.fat_type(), fatfs::FatType::Fat32);
    let mut files = BTreeMap::new();
    for entry in volume.root_dir().iter() {
        let entry = entry.expect("an entry of the root directory");
        if entry.is_file() {
            let mut bytes = Vec::new();
            entry.to_file().read_to_end(&mut bytes).expect("a file");
            files.insert(entry.file_name(), bytes);
        }
    }
    files
}

fn same_as_directory(files: &BTreeMap<String, Vec<u8>>, directory: &Path) {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .expect("the directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    assert_eq!(files.keys().cloned().collect::<Vec<_>>(), names);
    for (name, bytes) in files {
        let copied = std::fs::read(directory.join(name)).expect("a file of the directory");
        assert!(
            *bytes == copied,
            "{name} differs between image and directory"
        );
    }
}

/// `config.txt` as the firmware reads it: `key=value`, and `initramfs FILE ADDRESS`.
fn config(files: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, String> {
    let text = std::str::from_utf8(&files["config.txt"]).expect("text");
    let mut found = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        assert!(
            line.len() <= 98,
            "the firmware cuts lines at 98 characters: {line}"
        );
        let (key, value) = line
            .split_once('=')
            .or_else(|| line.split_once(' '))
            .unwrap_or_else(|| panic!("what is {line:?}?"));
        let before = found.insert(key.to_owned(), value.to_owned());
        assert!(before.is_none(), "{key} is there twice");
    }
    found
}

fn number(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("an address")
}

fn word64(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

/// The ranges of a tree's reservation block: address, size.
fn reservations(tree: &[u8]) -> Vec<(u64, u64)> {
    let word32 = |at: usize| u32::from_be_bytes(tree[at..at + 4].try_into().expect("four bytes"));
    let word64 = |at: usize| u64::from(word32(at)) << 32 | u64::from(word32(at + 4));
    let start = word32(16) as usize;
    (0..)
        .map(|index| (word64(start + 16 * index), word64(start + 16 * index + 8)))
        .take_while(|range| *range != (0, 0))
        .collect()
}

#[test]
fn what_config_txt_names_is_there_and_lies_apart() {
    let (image, files) = card("sdcard", &Contents::Unikernels);
    let config = config(&files);

    assert_eq!(config["arm_64bit"], "1");
    assert_eq!(config["enable_uart"], "1");
    assert!(!config.contains_key("enable_gic"), "the GIC must stay on");
    for name in [
        "start4.elf",
        "fixup4.dat",
        "bcm2711-rpi-4-b.dtb",
        "bcm2711-rpi-400.dtb",
        "bcm2711-rpi-cm4.dtb",
        "README.txt",
    ] {
        assert!(!files[name].is_empty(), "{name}");
    }
    let cmdline = std::str::from_utf8(&files["cmdline.txt"]).expect("text");
    assert_eq!(
        cmdline.trim_end().lines().count(),
        1,
        "cmdline.txt is one line"
    );

    let kernel = &files[&config["kernel"]];
    assert_eq!(&kernel[56..60], b"ARM\x64", "an arm64 Image");
    let kernel_at = number(&config["kernel_address"]);
    assert_eq!(kernel_at % (64 << 10), 0, "a multiple of 64 KiB");
    assert_eq!(word64(kernel, 8), 0, "text_offset");
    let kernel_size = word64(kernel, 16).max(kernel.len() as u64);

    let (bundle, bundle_at) = config["initramfs"].split_once(' ').expect("file, address");
    let tree = &files["bcm2711-rpi-4-b.dtb"];
    let mut ranges = vec![
        ("image", kernel_at, kernel_size),
        (
            "tree",
            number(&config["device_tree_address"]),
            tree.len() as u64 + TREE_ROOM,
        ),
        ("bundle", number(bundle_at), files[bundle].len() as u64),
    ];
    let reserved = reservations(tree);
    assert!(
        reserved.contains(&(0, 0x1000)),
        "the spin table's page: {reserved:x?}"
    );
    ranges.extend(reserved.iter().map(|(at, size)| ("reserved", *at, *size)));
    ranges.sort_by_key(|(_, at, _)| *at);
    for pair in ranges.windows(2) {
        let [(first, at, size), (second, next, _)] = pair else {
            unreachable!("windows of two");
        };
        assert!(
            at + size <= *next,
            "{first} reaches into {second}: {ranges:x?}"
        );
    }
    let end = ranges.iter().map(|(_, at, size)| at + size).max();
    assert!(end < Some(MEMORY_END), "{ranges:x?}");

    partition_is_sound(&image);
}

/// The partition table and the file system, as Linux's own tools see them.
fn partition_is_sound(image: &Path) {
    let dump = administrator("sfdisk").arg("--dump").arg(image).output();
    let dump = dump.expect("sfdisk (./setup installs it)");
    let text = String::from_utf8_lossy(&dump.stdout);
    let partitions: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("start="))
        .collect();
    assert_eq!(partitions.len(), 1, "{text}");
    let start = format!("start= {:>11}", PARTITION_START / SECTOR);
    assert!(
        partitions[0].contains(&start) && partitions[0].contains("type=c"),
        "{text}"
    );

    let partition = image.with_extension("fat");
    let bytes = std::fs::read(image).expect("the image");
    assert!(bytes.len().is_power_of_two(), "QEMU takes no other card");
    std::fs::write(&partition, &bytes[PARTITION_START as usize..]).expect("the partition");
    let check = administrator("fsck.fat").arg("-n").arg(&partition).output();
    let check = check.expect("fsck.fat (./setup installs it)");
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stdout)
    );
    let _ = std::fs::remove_file(partition);
}

/// A program that Debian keeps where only root's shell looks.
fn administrator(name: &str) -> Command {
    let places = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(name));
    let found = places.into_iter().find(|path| path.exists());
    Command::new(found.unwrap_or_else(|| PathBuf::from(name)))
}

/// The kernel, tree and bundle of the image, each as a file again.
fn boots(name: &str, contents: &Contents) -> viaduct_tests::Console {
    let (_, files) = card(name, contents);
    let config = config(&files);
    let (bundle, _) = config["initramfs"].split_once(' ').expect("file, address");
    let take = |file: &str| {
        let path = scratch().join(format!("{name}.from-card.{file}"));
        std::fs::write(&path, &files[file]).expect("a file taken out of the image");
        path
    };
    let cmdline = String::from_utf8_lossy(&files["cmdline.txt"])
        .trim()
        .to_owned();
    Machine::pi4()
        .image(Image::File(take(&config["kernel"])))
        .tree(take("bcm2711-rpi-4-b.dtb"))
        .bundle(take(bundle))
        .argument(&cmdline)
        .argument(lines::POWER_OFF)
        .start(name)
}

#[test]
fn unikernels_boot_from_it() {
    let mut console = boots("sdcard-unikernels", &Contents::Unikernels);
    // Who beats first is not said.
    for _ in 0..2 {
        for name in ["hello-1", "hello-2"] {
            console.expect(&format!("{name}| hello: heartbeat "), seconds(60));
        }
    }
}

#[test]
fn linux_and_unikernels_boot_from_it() {
    let mut console = boots("sdcard-demo", &Contents::Demo);
    console.expect("linux| This is a busybox shell", seconds(300));
    console.expect("hello-1| hello: heartbeat", seconds(60));
    console.expect("hello-2| hello: heartbeat", seconds(60));
    assert!(console.lines_with("viaduct| error").is_empty());
    assert!(console.lines_with("viaduct| warn").is_empty());
}
