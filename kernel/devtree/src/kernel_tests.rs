//! Kernel files, made by hand.

use super::*;

fn image(text_offset: u64, image_size: u64, length: usize) -> Vec<u8> {
    let mut file = vec![0; length];
    file[8..16].copy_from_slice(&text_offset.to_le_bytes());
    file[16..24].copy_from_slice(&image_size.to_le_bytes());
    file[56..60].copy_from_slice(&IMAGE_MAGIC.to_le_bytes());
    file
}

/// Physical address, virtual address, size in file, size in memory.
type Load = (u64, u64, u64, u64);

fn elf(entry: u64, loads: &[Load]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for half in [elf::abi::ET_EXEC, elf::abi::EM_AARCH64, 1, 0] {
        file.extend(half.to_le_bytes());
    }
    for long in [entry, 64, 0] {
        file.extend(long.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64, 56, loads.len() as u16, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let mut offset = 64 + 56 * loads.len() as u64;
    for &(physical, virtual_address, file_size, memory_size) in loads {
        file.extend(elf::abi::PT_LOAD.to_le_bytes());
        file.extend(5_u32.to_le_bytes());
        for long in [
            offset,
            virtual_address,
            physical,
            file_size,
            memory_size,
            4096,
        ] {
            file.extend(long.to_le_bytes());
        }
        offset = offset.wrapping_add(file_size);
    }
    let data: u64 = loads.iter().map(|load| load.2.min(4096)).sum();
    file.extend((0..data).map(|number| number as u8));
    file
}

#[test]
fn images_say_where_and_how_large() {
    let linux = Image {
        text_offset: 0,
        size: 0x20_0000,
    };
    assert_eq!(probe(&image(0, 0x20_0000, 4096)), Ok(Kernel::Image(linux)));
    // A file may be longer than it says.
    let file = image(0x8_0000, 64, 4096);
    let probed = probe(&file);
    assert_eq!(
        probed,
        Ok(Kernel::Image(Image {
            text_offset: 0x8_0000,
            size: 4096
        }))
    );
    // No size: an old one, its offset means nothing.
    let file = image(0x1234, 0, 4096);
    let probed = probe(&file);
    assert_eq!(
        probed,
        Ok(Kernel::Image(Image {
            text_offset: 0x8_0000,
            size: 4096
        }))
    );
    assert_eq!(
        probe(&image(0x123, 64, 4096)),
        Err(Error::Kernel("text offset"))
    );
    assert_eq!(probe(&image(0, 64, 60)), Err(Error::Kernel("Image header")));
    let mut branch = vec![0; 64];
    branch[..4].copy_from_slice(&IMAGE_BRANCH.to_le_bytes());
    assert!(matches!(probe(&branch), Ok(Kernel::Image(_))));
}

#[test]
fn other_kinds_are_refused_by_name() {
    for (start, kind) in [
        (&[0x27, 0x05, 0x19, 0x56], "uImage"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (&[0x04, 0x22, 0x4d, 0x18], "LZ4"),
    ] {
        assert!(matches!(probe(start), Err(Error::KernelKind(name)) if name.contains(kind)));
    }
    let mut zimage = vec![0; 64];
    zimage[0x24..0x28].copy_from_slice(&0x016f_2818_u32.to_le_bytes());
    assert_eq!(probe(&zimage), Err(Error::KernelKind("a 32-bit zImage")));
    for file in [&b""[..], b"\x7fEL", b"hello, world", &[0; 4096]] {
        assert_eq!(probe(file), Err(Error::UnknownKernel));
    }
    let mut other = elf(0, &[]);
    other[18] = 62;
    assert!(matches!(probe(&other), Err(Error::KernelKind(_))));
    let mut object = elf(0, &[]);
    object[16] = 1;
    assert!(matches!(probe(&object), Err(Error::KernelKind(_))));
}

#[test]
fn elf_segments_and_a_physical_entry() {
    let file = elf(
        0xffff_0000_0000_1004,
        &[
            (0x4000_0000, 0xffff_0000_0000_0000, 16, 16),
            (0x4000_1000, 0xffff_0000_0000_1000, 8, 0x3000),
            (0x5000_0000, 0, 0, 0),
        ],
    );
    let Ok(Kernel::Elf(elf)) = probe(&file) else {
        panic!("{:?}", probe(&file))
    };
    assert_eq!(elf.entry, Ipa::new(0x4000_1004));
    assert_eq!(elf.segments.len(), 2);
    assert_eq!(elf.segments[0].data, (0..16).collect::<Vec<u8>>());
    assert_eq!(elf.segments[1].data, (16..24).collect::<Vec<u8>>());
    assert_eq!(
        elf.segments[1].range,
        IpaRange::new(Ipa::new(0x4000_1000), 0x3000).unwrap()
    );
    let (span, entry) = Kernel::Elf(elf).span(Ipa::new(0)).unwrap();
    assert_eq!(
        (span.start(), span.end()),
        (Ipa::new(0x4000_0000), Ipa::new(0x4000_4000))
    );
    assert_eq!(entry, Ipa::new(0x4000_1004));
}

#[test]
fn elf_files_that_make_no_sense() {
    let cases: [(u64, &[Load], Error); 8] = [
        (0, &[], Error::Kernel("ELF entry point")),
        (0x10, &[(0, 0, 16, 16)], Error::Kernel("ELF entry point")),
        (2, &[(0, 0, 16, 16)], Error::Kernel("ELF entry point")),
        (0, &[(0, 0, 17, 16)], Error::Kernel("ELF segment size")),
        (
            0,
            &[(0, 0, 0x1_0000, 0x1_0000)],
            Error::Kernel("ELF segment"),
        ),
        (
            0,
            &[(0, 0, u64::MAX - 100, u64::MAX)],
            Error::Kernel("ELF segment"),
        ),
        (
            0,
            &[(u64::MAX, 0, 16, 16)],
            Error::Kernel("ELF segment address"),
        ),
        (
            0,
            &[(0, 0, 16, 16), (15, 0x1000, 16, 16)],
            Error::Kernel("ELF segments: they overlap"),
        ),
    ];
    for (entry, loads, expected) in cases {
        assert_eq!(probe(&elf(entry, loads)), Err(expected), "{loads:?}");
    }
    let many: Vec<Load> = (0..17)
        .map(|number| (number << 12, number << 12, 4, 4))
        .collect();
    assert_eq!(probe(&elf(0, &many)), Err(Error::TooMany("ELF segments")));
    assert_eq!(
        probe(&elf(0, &[(0, 0, 4, 4)])[..60]),
        Err(Error::Kernel("ELF header"))
    );
    // No program headers at all.
    let mut none = elf(0, &[]);
    none[32..40].fill(0);
    assert!(probe(&none).is_err());
}

#[test]
fn an_image_may_be_packed() {
    use crate::gzip::tests::pack;
    let plain = image(0x8_0000, 0x30_0000, 100_000);
    let size = 0x30_0000;
    let known = Kernel::Packed(Image {
        text_offset: 0x8_0000,
        size,
    });
    assert_eq!(probe(&pack(&plain, 0, &[])), Ok(known));
    // Longer than its header says: what comes out counts.
    let Ok(Kernel::Packed(probed)) = probe(&pack(&image(0, 64, 100_000), 0, &[])) else {
        panic!("not packed");
    };
    assert_eq!(probed.size, 100_000);

    let other = "a gzip file with something else than an Image";
    for content in [&elf(0, &[])[..], &[0; 100], b"short"] {
        assert_eq!(probe(&pack(content, 0, &[])), Err(Error::KernelKind(other)));
    }
    assert_eq!(
        probe(&pack(&[], 0, &[])),
        Err(Error::Kernel("gzip data: it is empty"))
    );
    assert!(probe(&[0x1f, 0x8b, 8]).is_err());
}

#[test]
fn a_raw_binary_is_what_its_description_says() {
    assert_eq!(
        raw(b"anything", 0x20_0000),
        Kernel::Image(Image {
            text_offset: 0x20_0000,
            size: 8
        })
    );
}
