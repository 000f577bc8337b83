//! Where things go in guest RAM, by the rules of Xen's boot-time domains
//! (xen/arch/arm/kernel.c, xen/common/device-tree/kernel.c), and one of our own for small guests.

use arrayvec::ArrayVec;
use memory::{CHUNK_SIZE, Ipa, IpaRange, PAGE_SIZE};

use crate::Error;
use crate::kernel::Kernel;

/// Start of RAM bank 0 (xen/include/public/arch-arm.h).
pub const BANK_0: Ipa = Ipa::new(0x4000_0000);
/// The most that bank 0 holds.
pub const BANK_0_SIZE: u64 = 0xc000_0000;
/// Start of RAM bank 1, used by guests of more than bank 0 holds.
pub const BANK_1: Ipa = Ipa::new(0x2_0000_0000);
/// End of what a guest can address: 40 bits.
pub const LIMIT: Ipa = Ipa::new(1 << 40);
/// The most memory that a guest can have.
pub const MAX_MEMORY: u64 = BANK_0_SIZE + (LIMIT.get() - BANK_1.get());
/// Room for a guest's tree.
pub const TREE_SIZE: u64 = 64 * 1024;

/// Most banks of a guest's RAM: two, unless its memory has its own places.
pub const MAX_BANKS: usize = 8;

/// The banks of a guest's RAM.
pub type Banks = ArrayVec<IpaRange, MAX_BANKS>;

/// Where things go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// The kernel with its BSS. An `Image` is copied to the start; ELF segments know their place.
    pub kernel: IpaRange,
    /// Where vCPU 0 starts.
    pub entry: Ipa,
    /// Room for the tree: [`TREE_SIZE`], or more where it is the board's.
    pub tree: IpaRange,
    /// The initial RAM disk, exactly.
    pub initrd: Option<IpaRange>,
}

/// The banks of a guest with so many bytes of RAM; `None` if it is none, more than [`MAX_MEMORY`], or not a
/// multiple of 4 KiB.
pub fn banks(memory: u64) -> Option<Banks> {
    if memory == 0 || memory > MAX_MEMORY || !memory.is_multiple_of(PAGE_SIZE) {
        return None;
    }
    let first = memory.min(BANK_0_SIZE);
    let mut banks = Banks::new();
    banks.push(IpaRange::new(BANK_0, first)?);
    if memory > first {
        banks.push(IpaRange::new(BANK_1, memory.checked_sub(first)?)?);
    }
    Some(banks)
}

/// Pieces that a guest may map grants and foreign frames in, at most.
pub const MAX_EXTENDED: usize = 4;
/// Where a guest may map grants and foreign frames.
pub type Extended = ArrayVec<IpaRange, MAX_EXTENDED>;

/// Guest addresses without RAM or devices, where a guest may map grants and foreign frames: from the end of
/// RAM to the end of each bank.
pub fn extended_regions(memory: u64) -> Extended {
    let banks = banks(memory).unwrap_or_default();
    let places = [
        (BANK_0, BANK_0.checked_add(BANK_0_SIZE)),
        (BANK_1, Some(LIMIT)),
    ];
    let regions = places
        .iter()
        .enumerate()
        .filter_map(|(number, &(start, end))| {
            let used = banks.get(number).map_or(start, |bank| bank.end());
            IpaRange::between(used.align_up(CHUNK_SIZE)?, end?)
        });
    cut(regions, &[])
}

/// What `taken` leaves of `regions`: 2 MiB aligned, pieces of at least 64 MiB (xen/arch/arm/domain_build.c), as many as
/// there is room for.
pub fn cut(regions: impl Iterator<Item = IpaRange>, taken: &[IpaRange]) -> Extended {
    const SMALLEST: u64 = 64 << 20;
    let mut left = Extended::new();
    for region in regions {
        let mut at = region.start();
        while at < region.end() {
            let ahead = taken.iter().filter(|taken| taken.end() > at);
            let next = ahead.min_by_key(|taken| taken.start());
            let end = next.map_or(region.end(), |next| next.start().min(region.end()));
            let piece = at.align_up(CHUNK_SIZE);
            let piece = piece.and_then(|at| IpaRange::between(at, end.align_down(CHUNK_SIZE)));
            if let Some(piece) = piece.filter(|piece| piece.size() >= SMALLEST) {
                // More pieces than there is room for are of no use.
                let _ = left.try_push(piece);
            }
            at = next.map_or(region.end(), |next| next.end());
        }
    }
    left
}

/// Places a kernel, a tree of at most `tree_size` bytes and an initial RAM disk of `initrd` bytes (0: none).
///
/// Xen's rules: tree and disk, each rounded up to 2 MiB, lie together at 128 MiB from the start of RAM if they
/// fit there and the kernel ends below; else at the end of bank 0 if that is above the kernel; else just below
/// the kernel. Guests too small for that get them rounded to pages, at the end of bank 0. With `tree_offset`
/// the tree lies that many bytes from the start of RAM, and the rules hold for the disk alone. A disk that finds
/// no room in bank 0 so lies at the start of bank 1, if there is one.
pub fn place(
    kernel: &Kernel<'_>,
    banks: &Banks,
    initrd: u64,
    tree_size: u64,
    tree_offset: Option<u64>,
) -> Result<Placement, Error> {
    let together = place_in_first(kernel, banks, initrd, tree_size, tree_offset);
    let (Err(_), Some(second)) = (&together, banks.get(1)) else {
        return together;
    };
    let disk = IpaRange::new(second.start(), initrd).filter(|disk| second.contains_range(*disk));
    let alone = place_in_first(kernel, banks, 0, tree_size, tree_offset);
    match (alone, disk) {
        (Ok(placement), Some(disk)) if initrd > 0 => Ok(Placement {
            initrd: Some(disk),
            ..placement
        }),
        _ => together,
    }
}

fn place_in_first(
    kernel: &Kernel<'_>,
    banks: &Banks,
    initrd: u64,
    tree_size: u64,
    tree_offset: Option<u64>,
) -> Result<Placement, Error> {
    const PREFERRED: u64 = 128 << 20;
    let ram = *banks.first().ok_or(Error::DoesNotFit("the kernel"))?;
    let span = kernel
        .span(ram.start())
        .filter(|(span, _)| ram.contains_range(*span));
    let (kernel_range, entry) = span.ok_or(Error::DoesNotFit("the kernel"))?;

    let fixed = match tree_offset {
        None => None,
        Some(offset) => {
            let range = ram.start().checked_add(offset);
            let range = range.and_then(|start| IpaRange::new(start, tree_size));
            let range = range.filter(|tree| ram.contains_range(*tree));
            let range = range.filter(|tree| !tree.overlaps(kernel_range));
            Some(range.ok_or(Error::DoesNotFit("the tree at its offset"))?)
        }
    };
    // Room for the tree before the disk.
    let (tree_room, small_room) = match fixed {
        None => (CHUNK_SIZE, tree_size),
        Some(_) => (0, 0),
    };

    let too_big = Error::DoesNotFit("the initial RAM disk");
    let rounded = initrd.checked_next_multiple_of(CHUNK_SIZE).ok_or(too_big)?;
    let block = rounded.checked_add(tree_room).ok_or(too_big)?;
    let pages = initrd.checked_next_multiple_of(PAGE_SIZE).ok_or(too_big)?;
    let small_block = pages.checked_add(small_room).ok_or(too_big)?;

    let from_end = |block: u64, alignment: u64| {
        let start = ram.end().get().checked_sub(block)?;
        Some(Ipa::new(start).align_down(alignment))
    };
    let candidates = [
        (ram.start().checked_add(PREFERRED), block, tree_room),
        (from_end(block, CHUNK_SIZE), block, tree_room),
        (
            kernel_range
                .start()
                .get()
                .checked_sub(block)
                .map(|start| Ipa::new(start).align_down(CHUNK_SIZE)),
            block,
            tree_room,
        ),
        (from_end(small_block, PAGE_SIZE), small_block, small_room),
    ];
    let place = candidates.iter().find_map(|&(start, size, tree_room)| {
        let range = IpaRange::new(start?, size)?;
        let fits = ram.contains_range(range)
            && !range.overlaps(kernel_range)
            && !fixed.is_some_and(|tree| tree.overlaps(range));
        fits.then_some((range, tree_room))
    });
    let (place, tree_room) = place.ok_or(Error::DoesNotFit("the tree and the initial RAM disk"))?;
    let tree = fixed.or_else(|| IpaRange::new(place.start(), tree_size));
    let tree = tree.ok_or(too_big)?;
    let initrd_start = place.start().checked_add(tree_room).ok_or(too_big)?;
    let initrd = match initrd {
        0 => None,
        size => Some(IpaRange::new(initrd_start, size).ok_or(too_big)?),
    };
    Ok(Placement {
        kernel: kernel_range,
        entry,
        tree,
        initrd,
    })
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
