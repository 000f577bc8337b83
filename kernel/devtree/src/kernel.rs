//! What a guest's kernel file is: an arm64 `Image` (Linux, Documentation/arch/arm64/booting), plain or packed
//! by gzip, an ELF64 file for AArch64, or whatever its description says that it is. Other kinds that Xen's
//! users know are recognised, to be refused by name.

use alloc::boxed::Box;

use arrayvec::ArrayVec;
use elf::ElfBytes;
use elf::endian::LittleEndian;
use elf::file::Class;
use memory::{Ipa, IpaRange};

use crate::Error;
use crate::gzip::{Gunzip, is_gzip};

/// Loadable segments of an ELF file.
pub const MAX_SEGMENTS: usize = 16;

/// The largest header that [`probe`] looks at in an `Image`.
const IMAGE_HEADER: usize = 64;
const IMAGE_MAGIC: u32 = 0x644d_5241;
/// First instruction of images older than the magic number: a branch over the header.
const IMAGE_BRANCH: u32 = 0x1400_0008;

/// A kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kernel<'a> {
    /// An arm64 `Image`: copied whole, entered at its first byte.
    Image(Image),
    /// The same, packed by gzip; what is known of it comes from its first bytes, unpacked.
    Packed(Image),
    /// An ELF file.
    Elf(Elf<'a>),
}

/// The header of an arm64 `Image`, or what stands for it with a raw binary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Image {
    /// Bytes from the start of RAM to the image.
    pub text_offset: u64,
    /// Bytes that it needs from there on, BSS included: at least the length of the file.
    pub size: u64,
}

/// An ELF file whose segments have been checked: inside the file, apart from each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Elf<'a> {
    /// Where vCPU 0 starts, physical.
    pub entry: Ipa,
    /// What is loaded, in the file's order.
    pub segments: Box<[Segment<'a>]>,
}

/// A part of an ELF file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment<'a> {
    /// Where it goes, by its physical address; what `data` does not fill is zero.
    pub range: IpaRange,
    /// Its bytes.
    pub data: &'a [u8],
}

fn little_endian<const SIZE: usize>(file: &[u8], offset: usize) -> Option<[u8; SIZE]> {
    file.get(offset..)?.first_chunk::<SIZE>().copied()
}

/// Finds out what kind of kernel a file is, and reads what is needed to load it.
pub fn probe(file: &[u8]) -> Result<Kernel<'_>, Error> {
    if is_gzip(file) {
        return probe_packed(file).map(Kernel::Packed);
    }
    match file {
        [0x7f, b'E', b'L', b'F', ..] => return probe_elf(file).map(Kernel::Elf),
        [0x27, 0x05, 0x19, 0x56, ..] => return Err(Error::KernelKind("a uImage")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return Err(Error::KernelKind("a zstd-compressed kernel")),
        [0x04, 0x22, 0x4d, 0x18, ..] => return Err(Error::KernelKind("an LZ4-compressed kernel")),
        _ => {}
    }
    if is_image(file) {
        return probe_image(file, file.len() as u64).map(Kernel::Image);
    }
    if little_endian(file, 0x24).map(u32::from_le_bytes) == Some(0x016f_2818) {
        return Err(Error::KernelKind("a 32-bit zImage"));
    }
    Err(Error::UnknownKernel)
}

/// A binary of which only its description knows what it is (`viaduct,load-offset`): copied whole, that many
/// bytes from the start of RAM, and entered at its first byte.
#[must_use]
pub fn raw(file: &[u8], load_offset: u64) -> Kernel<'_> {
    Kernel::Image(Image {
        text_offset: load_offset,
        size: file.len() as u64,
    })
}

/// An `Image` in a gzip file: as much is unpacked as its header takes.
fn probe_packed(file: &[u8]) -> Result<Image, Error> {
    let mut unpacking = Gunzip::new(file)?;
    let length = unpacking.length();
    while let Some(start) = unpacking.step()? {
        // A window is far larger than a header, so the first bytes that come hold all of it.
        if !start.is_empty() {
            return match is_image(start) {
                true => probe_image(start, length),
                false => Err(Error::KernelKind(
                    "a gzip file with something else than an Image",
                )),
            };
        }
    }
    Err(Error::Kernel("gzip data: it is empty"))
}

fn is_image(file: &[u8]) -> bool {
    let word = |offset| little_endian(file, offset).map(u32::from_le_bytes);
    word(56) == Some(IMAGE_MAGIC) || word(0) == Some(IMAGE_BRANCH)
}

/// Reads the header at the start of an `Image` of `length` bytes.
fn probe_image(file: &[u8], length: u64) -> Result<Image, Error> {
    if file.len() < IMAGE_HEADER {
        return Err(Error::Kernel("Image header"));
    }
    let long = |offset| {
        little_endian::<8>(file, offset)
            .map(u64::from_le_bytes)
            .unwrap_or(0)
    };
    let image_size = long(16);
    // Images without a size (Linux before 3.17) have an offset of no meaning and are to be at 512 KiB.
    let text_offset = if image_size == 0 { 0x8_0000 } else { long(8) };
    if !text_offset.is_multiple_of(4096) {
        return Err(Error::Kernel("text offset"));
    }
    Ok(Image {
        text_offset,
        size: image_size.max(length),
    })
}

fn probe_elf(file: &[u8]) -> Result<Elf<'_>, Error> {
    let elf =
        ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| Error::Kernel("ELF header"))?;
    if elf.ehdr.class != Class::ELF64 || elf.ehdr.e_machine != elf::abi::EM_AARCH64 {
        return Err(Error::KernelKind("an ELF file for another processor"));
    }
    if !matches!(elf.ehdr.e_type, elf::abi::ET_EXEC | elf::abi::ET_DYN) {
        return Err(Error::KernelKind("an ELF file that is not linked"));
    }
    let mut entry = None;
    let mut segments = ArrayVec::<Segment<'_>, MAX_SEGMENTS>::new();
    let headers = elf.segments().ok_or(Error::Kernel("ELF program headers"))?;
    for header in headers
        .iter()
        .filter(|header| header.p_type == elf::abi::PT_LOAD)
    {
        if header.p_memsz == 0 {
            continue;
        }
        let data = elf
            .segment_data(&header)
            .map_err(|_| Error::Kernel("ELF segment"))?;
        let range = IpaRange::new(Ipa::new(header.p_paddr), header.p_memsz);
        let range = range.ok_or(Error::Kernel("ELF segment address"))?;
        if data.len() as u64 > header.p_memsz {
            return Err(Error::Kernel("ELF segment size"));
        }
        if segments.iter().any(|other| other.range.overlaps(range)) {
            return Err(Error::Kernel("ELF segments: they overlap"));
        }
        // The entry is a virtual address, and the guest starts with its MMU off.
        let offset = elf.ehdr.e_entry.wrapping_sub(header.p_vaddr);
        if elf.ehdr.e_entry >= header.p_vaddr && offset < header.p_memsz {
            entry = range.start().checked_add(offset);
        }
        segments
            .try_push(Segment { range, data })
            .map_err(|_| Error::TooMany("ELF segments"))?;
    }
    let entry = entry
        .filter(|entry| entry.is_aligned(4))
        .ok_or(Error::Kernel("ELF entry point"))?;
    Ok(Elf {
        entry,
        segments: segments.iter().copied().collect(),
    })
}

impl Kernel<'_> {
    /// The smallest range that holds all of the kernel in a guest whose RAM starts at `ram`, and its entry.
    pub(crate) fn span(&self, ram: Ipa) -> Option<(IpaRange, Ipa)> {
        match self {
            Self::Image(image) | Self::Packed(image) => {
                let start = ram.checked_add(image.text_offset)?;
                Some((IpaRange::new(start, image.size)?, start))
            }
            Self::Elf(elf) => {
                let start = elf
                    .segments
                    .iter()
                    .map(|segment| segment.range.start())
                    .min()?;
                let end = elf
                    .segments
                    .iter()
                    .map(|segment| segment.range.end())
                    .max()?;
                Some((IpaRange::between(start, end)?, elf.entry))
            }
        }
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
