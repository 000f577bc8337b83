//! RAM: the identity map (4 KiB granule, 39-bit addresses, 2 MiB and 1 GiB blocks), the heap, and what
//! the heap leaves.
//!
//! RAM is Normal Write-Back Inner Shareable, as the Xen ABI asks for everything shared; so are the pages
//! that [`map_normal`] adds (grant window, console ring). Devices are mapped one by one. Address 0 is
//! never mapped, so a null pointer faults.

use crate::{entry, sync::Lock, tree::Tree, xen};
use aarch64_cpu::registers::{TTBR0_EL1, Writeable};
use buddy_system_allocator::Heap;
use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::NonNull;

/// Where the image lies, from the start of RAM (`guest.ld`).
pub const TEXT_OFFSET: u64 = 0x8_0000;

/// A page of the Xen ABI.
pub const PAGE: u64 = 4096;

const BLOCK: u64 = 2 << 20;
const GIB: u64 = 1 << 30;
const TOP: u64 = 512 * GIB;

/// Attribute 0: Normal, Write-Back, allocating. Attribute 1: Device-nGnRE (Arm ARM D24.2.109).
pub(crate) const MAIR: u64 = 0x04ff;
/// TTBR0 only, 39 bits, 4 KiB granule, walks Write-Back Inner Shareable (Arm ARM D24.2.178).
pub(crate) const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23;
/// M, C and I of SCTLR_EL1.
pub(crate) const SCTLR_ON: u64 = 1 | 1 << 2 | 1 << 12;

const VALID_BLOCK: u64 = 0b01;
const VALID_TABLE: u64 = 0b11;
const ACCESSED: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 3 << 8;
const NOT_GLOBAL: u64 = 1 << 11;
const EXECUTE_NEVER: u64 = 1 << 53 | 1 << 54;
const DEVICE: u64 = VALID_BLOCK | 1 << 2 | ACCESSED | EXECUTE_NEVER;
const NORMAL: u64 = VALID_BLOCK | ACCESSED | INNER_SHAREABLE;

/// The blocks of the map that `entry.S` starts with.
pub(crate) const BOOT_DEVICE: u64 = DEVICE | NOT_GLOBAL;
pub(crate) const BOOT_NORMAL: u64 = NORMAL | NOT_GLOBAL;

#[repr(C, align(4096))]
struct Table([u64; 512]);

/// Table 0 is the root (level 1), the others are handed out as level 2. All zero at the start, so that
/// it costs nothing in the image.
struct Map {
    tables: [Table; 12],
    second_levels: usize,
}

static MAP: Lock<Map> = Lock::new(Map {
    tables: [const { Table([0; 512]) }; 12],
    second_levels: 0,
});

impl Map {
    fn map(&mut self, range: Range<u64>, attributes: u64) {
        let mut at = range.start & !(BLOCK - 1);
        let end = range.end.min(TOP);
        while at < end {
            let root_index = (at / GIB) as usize;
            let root = self.tables[0].0[root_index];
            if root & VALID_TABLE == VALID_BLOCK {
                at = (at / GIB + 1) * GIB;
                continue;
            }
            if root == 0 && at.is_multiple_of(GIB) && end - at >= GIB {
                self.tables[0].0[root_index] = at | attributes;
                at += GIB;
                continue;
            }
            let table = if root == 0 {
                self.new_table(root_index)
            } else {
                self.find(root)
            };
            let slot = &mut self.tables[table].0[(at % GIB / BLOCK) as usize];
            // What is mapped stays as it is: changing it would need break-before-make.
            if *slot == 0 {
                *slot = at | attributes;
            }
            at += BLOCK;
        }
        // SAFETY: a barrier, so that table walks see the new entries before anything uses them.
        unsafe { core::arch::asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
    }

    fn new_table(&mut self, root_index: usize) -> usize {
        let table = self.second_levels + 1;
        assert!(table < self.tables.len(), "no translation table left");
        self.second_levels = table;
        self.tables[0].0[root_index] = self.tables[table].0.as_ptr() as u64 | VALID_TABLE;
        table
    }

    fn find(&self, root: u64) -> usize {
        let address = root & !(PAGE - 1);
        self.tables
            .iter()
            .position(|table| table.0.as_ptr() as u64 == address)
            .unwrap_or(0)
    }
}

/// Maps a range, widened to 2 MiB, as device memory, where nothing is mapped yet.
///
/// # Panics
/// If there is no table left for it.
pub fn map_device(base: u64, size: u64) {
    MAP.lock().map(base..base.saturating_add(size), DEVICE);
}

/// Maps a range, widened to 2 MiB, as normal memory, where nothing is mapped yet.
///
/// # Panics
/// If there is no table left for it.
pub fn map_normal(base: u64, size: u64) {
    MAP.lock()
        .map(base..base.saturating_add(size), NORMAL | EXECUTE_NEVER);
}

/// Maps 2 MiB of spare RAM at `virtual_address`, where nothing is mapped yet, for programs at EL0. Where they lie;
/// `None` if there is not so much to spare.
pub(crate) fn map_program(virtual_address: u64) -> Option<u64> {
    const FOR_EL0: u64 = 1 << 6 | 1 << 53;
    let spare = spare();
    let block = spare.start.next_multiple_of(BLOCK);
    if block + BLOCK > spare.end {
        return None;
    }
    let mut map = MAP.lock();
    let table = map.new_table((virtual_address / GIB) as usize);
    map.tables[table].0[(virtual_address % GIB / BLOCK) as usize] =
        block | NORMAL | FOR_EL0 | NOT_GLOBAL;
    // SAFETY: a barrier, so that table walks see the new entries before anything uses them.
    unsafe { core::arch::asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
    Some(block)
}

/// Goes from the boot map to the final one; the two have different ASIDs.
pub(crate) fn use_final_map() {
    const ASID: u64 = 1 << 48;
    let root = MAP.lock().tables[0].0.as_ptr() as u64;
    // SAFETY: a barrier before the walks of the new map.
    unsafe { core::arch::asm!("dsb ish", options(nostack, preserves_flags)) };
    TTBR0_EL1.set(root | ASID);
    // SAFETY: a barrier after; both maps are identities over what is in use.
    unsafe { core::arch::asm!("isb", options(nostack, preserves_flags)) };
}

struct GuestHeap(Lock<Heap<40>>);

// SAFETY: the buddy allocator keeps the contract of `GlobalAlloc`; the lock makes it one at a time.
unsafe impl GlobalAlloc for GuestHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0
            .lock()
            .alloc(layout)
            .map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(pointer) = NonNull::new(pointer) {
            // SAFETY: the caller promises that it came from `alloc` with the same layout.
            unsafe { self.0.lock().dealloc(pointer, layout) };
        }
    }
}

#[global_allocator]
static HEAP: GuestHeap = GuestHeap(Lock::new(Heap::empty()));

static SPARE: Lock<Range<u64>> = Lock::new(0..0);

unsafe extern "Rust" {
    static __GUEST_HEAP_LIMIT: usize;
}

/// The RAM banks that the tree names, as base and size.
pub fn banks() -> impl Iterator<Item = (u64, u64)> {
    entry::tree()
        .into_iter()
        .flat_map(|tree| tree.nodes())
        .filter(|node| node.text("device_type") == Some("memory"))
        .flat_map(|node| node.reg())
}

/// The image, from its first to behind its last byte, zeroed data included.
pub fn image() -> Range<u64> {
    unsafe extern "C" {
        static __image_start: u8;
        static __image_end: u8;
    }
    (&raw const __image_start) as u64..(&raw const __image_end) as u64
}

/// The initial ramdisk, if there is one.
pub fn initrd() -> Option<Range<u64>> {
    let chosen = entry::tree()?.find("/chosen")?;
    Some(chosen.number("linux,initrd-start")?..chosen.number("linux,initrd-end")?)
}

/// Free RAM that the heap does not own, never written by this runtime: in the bank of the image, above
/// the heap.
pub fn spare() -> Range<u64> {
    SPARE.lock().clone()
}

/// The free RAM above the image, up to the first thing that lies there.
fn free(tree: &Tree<'_>) -> Range<u64> {
    let image = image();
    let end = banks()
        .find(|(base, size)| (*base..base + size).contains(&image.start))
        .map_or(image.end, |(base, size)| base + size);
    let tree_start = tree.bytes().as_ptr() as u64;
    let initrd_start = initrd().map_or(u64::MAX, |range| range.start);
    let end = [tree_start, initrd_start]
        .into_iter()
        .filter(|start| *start >= image.end)
        .fold(end, u64::min);
    image.end..end & !(PAGE - 1)
}

/// Builds the final map from the tree and puts the heap into the free RAM.
pub(crate) fn init() {
    let Some(tree) = entry::tree() else {
        return;
    };
    {
        let mut map = MAP.lock();
        for (base, size) in banks() {
            map.map(base..base.saturating_add(size), NORMAL);
        }
        // The tree lies in RAM on every machine known; if not, it must still be readable.
        let bytes = tree.bytes().as_ptr_range();
        map.map(bytes.start as u64..bytes.end as u64, NORMAL);
    }
    for (base, size) in xen::shared_regions() {
        map_normal(base, size);
    }
    use_final_map();

    let free = free(&tree);
    // SAFETY: `entry!` defines it.
    let limit = unsafe { __GUEST_HEAP_LIMIT } as u64;
    let heap_end = free.end.min(free.start.saturating_add(limit)) & !(PAGE - 1);
    let mut heap = HEAP.0.lock();
    // SAFETY: RAM that the tree gives, outside image, tree and ramdisk, owned by nobody else.
    unsafe { heap.init(free.start as usize, (heap_end - free.start) as usize) };
    drop(heap);
    *SPARE.lock() = heap_end..free.end;
}
