//! The SD card of a Raspberry Pi 4: one directory to copy to a FAT partition, and an image of a whole
//! card made of the same files.
//!
//! The firmware on the card's first FAT partition reads `config.txt`, loads what that names, and starts
//! the image; nothing else is needed. Files are made by `mtools`, so no root and no mount.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::images::{self, Image};
use crate::paths::{root, scratch};

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Where the partition begins: 4 MiB, a multiple of every card's erase blocks.
pub const PARTITION_START: u64 = 4 << 20;
/// Bytes of the smallest image. FAT32 needs 65,525 clusters; cards are larger by far.
const SMALLEST: u64 = 256 << 20;
/// The firmware's files that a Pi 4 needs: its first stage is in the board's own flash.
const FIRMWARE: [&str; 2] = ["start4.elf", "fixup4.dat"];
/// Partition type: FAT32 addressed by sectors, the one that the firmware looks for.
const FAT32_LBA: u8 = 0x0c;

/// What goes on a card.
#[derive(Clone, Debug)]
pub struct Card {
    /// Files by the name that they have on the card; `/` for folders.
    files: Vec<(String, PathBuf)>,
}

impl Card {
    /// The card that boots Viaduct with `bundle`. The firmware is Debian's package unless a directory with
    /// its files is given; `cmdline` is the boot arguments, if they are to be others.
    ///
    /// # Errors
    /// What is missing.
    pub fn of(
        bundle: &Path,
        firmware: Option<&Path>,
        cmdline: Option<&str>,
    ) -> Result<Self, String> {
        let ours = root().join("platform/rpi4");
        let firmware = firmware.map_or_else(images::pi4_firmware, Path::to_path_buf);
        let mut files: Vec<(String, PathBuf)> = vec![
            ("viaduct.img".into(), Image::Release.path()),
            ("bundle.itb".into(), bundle.to_path_buf()),
            ("config.txt".into(), ours.join("config.txt")),
            ("cmdline.txt".into(), ours.join("cmdline.txt")),
            ("README.txt".into(), ours.join("card.txt")),
        ];
        if let Some(line) = cmdline {
            let path = scratch().join("cmdline.txt");
            fs::write(&path, format!("{line}\n")).map_err(|error| at(&path, &error))?;
            files[3].1 = path;
        }
        files.extend(images::pi4_trees().map(|(name, path)| (name.into(), path)));
        for name in FIRMWARE {
            let path = firmware.join(name);
            if !path.is_file() {
                return Err(format!("the firmware lacks {}", path.display()));
            }
            files.push((name.into(), path));
        }
        let licence = firmware.join("LICENCE.broadcom");
        if licence.is_file() {
            files.push(("LICENCE.broadcom".into(), licence));
        }
        Ok(Self::new(files))
    }

    /// A card with `files`: name on the card, and where it is now.
    #[must_use]
    pub fn new(files: Vec<(String, PathBuf)>) -> Self {
        Self { files }
    }

    /// Writes the directory anew.
    ///
    /// # Errors
    /// The file that cannot be read or written.
    pub fn write_directory(&self, directory: &Path) -> Result<(), String> {
        if directory.exists() {
            fs::remove_dir_all(directory).map_err(|error| at(directory, &error))?;
        }
        for (name, source) in &self.files {
            let target = directory.join(name);
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder).map_err(|error| at(folder, &error))?;
            }
            fs::copy(source, &target).map_err(|error| at(source, &error))?;
        }
        Ok(())
    }

    /// Writes the image of a card whose one partition holds what lies in `directory`. Its size is a power
    /// of two, as QEMU wants a card to be.
    ///
    /// # Errors
    /// What failed, and what the program that failed said.
    pub fn write_image(&self, directory: &Path, image: &Path) -> Result<(), String> {
        let mut content = 0;
        for (name, _) in &self.files {
            let path = directory.join(name);
            content += fs::metadata(&path)
                .map_err(|error| at(&path, &error))?
                .len();
        }
        // Room for the tables, for half-filled clusters, and for somebody's larger bundle.
        let size = (content + content / 4 + PARTITION_START)
            .next_power_of_two()
            .max(SMALLEST);
        let partition = size - PARTITION_START;
        let fresh = image.with_extension("img.new");
        write_partition_table(&fresh, size, partition).map_err(|error| at(&fresh, &error))?;

        let place = format!("{}@@{PARTITION_START}", fresh.display());
        let sectors = (partition / SECTOR).to_string();
        let hidden = (PARTITION_START / SECTOR).to_string();
        mtools(
            Command::new("mformat")
                .args(["-i", &place, "-F", "-v", "VIADUCT", "-T", &sectors])
                .args(["-h", "255", "-s", "63", "-H", &hidden, "::"]),
        )?;
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory).map_err(|error| at(directory, &error))? {
            entries.push(entry.map_err(|error| at(directory, &error))?.path());
        }
        entries.sort();
        mtools(
            Command::new("mcopy")
                .args(["-i", &place, "-s", "-m", "-Q"])
                .args(entries)
                .arg("::"),
        )?;
        fs::rename(&fresh, image).map_err(|error| at(image, &error))
    }
}

/// An empty card, sparse, with a master boot record that names one partition.
fn write_partition_table(path: &Path, size: u64, partition: u64) -> std::io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.set_len(size)?;
    let mut record = [0_u8; SECTOR as usize];
    let (first, count) = (PARTITION_START / SECTOR, partition / SECTOR);
    // Addresses in cylinders, heads and sectors are too small for cards: all ones, "use the numbers".
    let entry = &mut record[446..462];
    entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
    entry[4] = FAT32_LBA;
    entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&(first as u32).to_le_bytes());
    entry[12..16].copy_from_slice(&(count as u32).to_le_bytes());
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&record)
}

fn mtools(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.env("MTOOLS_SKIP_CHECK", "1").output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("cannot run {name} (./setup installs it): {error}")),
    }
}

fn at(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
