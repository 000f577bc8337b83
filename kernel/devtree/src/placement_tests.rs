//! Placement: Xen's rules, and small guests.

use super::*;
use crate::kernel::Image;

const MIB: u64 = 1 << 20;

fn image(text_offset: u64, size: u64) -> Kernel<'static> {
    Kernel::Image(Image { text_offset, size })
}

fn at(offset: u64) -> Ipa {
    BANK_0.checked_add(offset).unwrap()
}

fn try_place(memory: u64, kernel: &Kernel<'_>, initrd: u64) -> Result<Placement, Error> {
    let banks = banks(memory).unwrap();
    let placement = place(kernel, &banks, initrd, TREE_SIZE, None)?;
    let parts = [
        Some(placement.kernel),
        Some(placement.tree),
        placement.initrd,
    ];
    let parts: Vec<IpaRange> = parts.into_iter().flatten().collect();
    for (number, part) in parts.iter().enumerate() {
        let among = if number < 2 { &banks[..1] } else { &banks[..] };
        assert!(
            among.iter().any(|bank| bank.contains_range(*part)),
            "{part} {memory:#x} {initrd:#x}"
        );
        assert!(
            parts[..number].iter().all(|other| !other.overlaps(*part)),
            "{placement:?}"
        );
    }
    assert_eq!(placement.initrd.map_or(0, |range| range.size()), initrd);
    // The boot protocol wants the tree on 8 bytes, and in one 2 MiB block.
    assert!(placement.tree.start().is_aligned(PAGE_SIZE));
    assert!(placement.tree.start().offset_in(CHUNK_SIZE) + TREE_SIZE <= CHUNK_SIZE);
    Ok(placement)
}

#[test]
fn banks_and_what_lies_beyond() {
    assert_eq!(banks(0), None);
    assert_eq!(banks(4097), None);
    assert_eq!(banks(MAX_MEMORY + PAGE_SIZE), None);
    let gib = 1 << 30;
    assert_eq!(
        banks(3 * gib).unwrap()[..],
        [IpaRange::new(BANK_0, 3 * gib).unwrap()]
    );
    let two = banks(5 * gib).unwrap();
    assert_eq!(two[1], IpaRange::new(BANK_1, 2 * gib).unwrap());
    assert_eq!(banks(MAX_MEMORY).unwrap()[1].end(), LIMIT);

    let regions = extended_regions(64 * MIB + PAGE_SIZE);
    assert_eq!(
        (regions[0].start(), regions[0].end()),
        (at(66 * MIB), Ipa::new(0x1_0000_0000))
    );
    assert_eq!((regions[1].start(), regions[1].end()), (BANK_1, LIMIT));
    // Nothing of 64 MiB is left in bank 0.
    let regions = extended_regions(3 * gib - 63 * MIB);
    assert_eq!(regions[..], [IpaRange::between(BANK_1, LIMIT).unwrap()]);
    assert_eq!(
        extended_regions(4 * gib)[0].start(),
        Ipa::new(0x2_4000_0000)
    );
    assert!(extended_regions(MAX_MEMORY).is_empty());
}

#[test]
fn a_linux_guest_of_256_mib() {
    let placement = try_place(256 * MIB, &image(0, 40 * MIB), 5 * MIB + 1).unwrap();
    assert_eq!(placement.kernel.start(), at(0));
    assert_eq!(placement.entry, at(0));
    assert_eq!(placement.tree.start(), at(128 * MIB));
    assert_eq!(placement.initrd.unwrap().start(), at(130 * MIB));
}

#[test]
fn what_does_not_fit_at_128_mib_goes_to_the_end() {
    let placement = try_place(64 * MIB, &image(0x8_0000, 4 * MIB), 3 * MIB).unwrap();
    assert_eq!(placement.entry, at(0x8_0000));
    assert_eq!(placement.tree.start(), at(58 * MIB));
    // The kernel reaches beyond 128 MiB.
    let placement = try_place(256 * MIB, &image(0, 129 * MIB), MIB).unwrap();
    assert_eq!(placement.tree.start(), at(252 * MIB));
}

#[test]
fn or_below_the_kernel() {
    let placement = try_place(64 * MIB, &image(32 * MIB, 32 * MIB), 3 * MIB).unwrap();
    assert_eq!(placement.tree.start(), at(26 * MIB));
}

#[test]
fn small_guests_are_packed_by_pages() {
    let placement = try_place(4 * MIB, &image(0, MIB), 0).unwrap();
    assert_eq!(placement.tree.start(), at(2 * MIB));
    assert_eq!(placement.initrd, None);
    let placement = try_place(2 * MIB, &image(0, MIB), 0).unwrap();
    assert_eq!(placement.tree.start(), at(2 * MIB - TREE_SIZE));
    let placement = try_place(2 * MIB, &image(0, MIB), 5000).unwrap();
    assert_eq!(placement.initrd.unwrap().start(), at(2 * MIB - 8192));
}

#[test]
fn what_does_not_fit_at_all() {
    let kernel = Err(Error::DoesNotFit("the kernel"));
    assert_eq!(try_place(2 * MIB, &image(0, 3 * MIB), 0), kernel);
    assert_eq!(try_place(2 * MIB, &image(u64::MAX - 4095, 4096), 0), kernel);
    assert_eq!(try_place(2 * MIB, &image(0, u64::MAX), 0), kernel);
    let disk = Err(Error::DoesNotFit("the tree and the initial RAM disk"));
    assert_eq!(try_place(4 * MIB, &image(0, MIB), 3 * MIB), disk);
    assert_eq!(try_place(2 * MIB, &image(0, 2 * MIB - 4096), 0), disk);
    let disk = Err(Error::DoesNotFit("the initial RAM disk"));
    assert_eq!(try_place(4 * MIB, &image(0, MIB), u64::MAX), disk);
}

#[test]
fn nothing_ever_overlaps() {
    for memory in [2, 3, 4, 6, 8, 64, 127, 128, 130, 132, 256, 4096] {
        for offset in [0, 0x8_0000, 2 * MIB, 100 * MIB, 127 * MIB] {
            for size in [PAGE_SIZE, MIB, 2 * MIB, 30 * MIB, 128 * MIB] {
                for initrd in [0, 1, MIB, 2 * MIB, 20 * MIB] {
                    let _ = try_place(memory * MIB, &image(offset, size), initrd);
                }
            }
        }
    }
}

#[test]
fn a_tree_lies_where_its_offset_says() {
    let place_at = |memory: u64, kernel: &Kernel<'_>, initrd: u64, tree: u64| {
        place(
            kernel,
            &banks(memory).unwrap(),
            initrd,
            TREE_SIZE,
            Some(tree),
        )
    };
    // U-Boot: the tree at the start of RAM, the binary behind it.
    let placement = place_at(64 * MIB, &image(2 * MIB, MIB), 0, 0).unwrap();
    assert_eq!(placement.tree, IpaRange::new(at(0), TREE_SIZE).unwrap());
    assert_eq!((placement.entry, placement.initrd), (at(2 * MIB), None));

    // The disk keeps clear of it.
    let kernel = image(0, 10 * MIB);
    let placement = place_at(256 * MIB, &kernel, 5 * MIB, 130 * MIB).unwrap();
    let disk = placement.initrd.unwrap();
    assert!(!disk.overlaps(placement.tree), "{placement:?}");
    let placement = place_at(256 * MIB, &kernel, 5 * MIB, 32 * MIB).unwrap();
    assert_eq!(placement.initrd.unwrap().start(), at(128 * MIB));
    // A guest with no room to spare.
    let placement = place_at(2 * MIB, &image(0, MIB), 512 * 1024, MIB + 65_536).unwrap();
    assert!(!placement.initrd.unwrap().overlaps(placement.tree));

    let wrong = Err(Error::DoesNotFit("the tree at its offset"));
    for offset in [MIB, 64 * MIB - 4096, 64 * MIB, u64::MAX - 7] {
        assert_eq!(
            place_at(64 * MIB, &image(0, 2 * MIB), 0, offset),
            wrong,
            "{offset:#x}"
        );
    }
}

#[test]
fn a_disk_without_room_in_bank_0_lies_in_bank_1() {
    let kernel = image(0, 40 * MIB);
    // 3 GiB in bank 0, and as much behind it.
    let memory = 2 * BANK_0_SIZE;
    let large = BANK_0_SIZE - 30 * MIB;
    let placement = try_place(memory, &kernel, large).unwrap();
    assert_eq!(placement.initrd, IpaRange::new(BANK_1, large));
    assert_eq!(placement.tree.start(), at(128 * MIB));
    // What has room in bank 0 stays there.
    let placement = try_place(memory, &kernel, BANK_0_SIZE - 200 * MIB).unwrap();
    assert_eq!(placement.initrd.unwrap().start(), at(130 * MIB));
    // A second bank that is too small, or none.
    let told = Err(Error::DoesNotFit("the tree and the initial RAM disk"));
    assert_eq!(try_place(BANK_0_SIZE + MIB, &kernel, large), told);
    assert_eq!(try_place(BANK_0_SIZE, &kernel, large), told);
    assert_eq!(
        place(
            &kernel,
            &banks(memory).unwrap(),
            large,
            TREE_SIZE,
            Some(MIB)
        ),
        Err(Error::DoesNotFit("the tree at its offset"))
    );
}
