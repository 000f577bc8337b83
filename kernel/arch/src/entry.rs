//! Boot of the first CPU and of the others: `entry.S` and what it calls.
//!
//! The boot map holds the image and the device tree, and nothing else: what lies beside them may be a
//! device, and a Normal mapping of a device invites speculative reads. The console's registers are
//! added by [`map_early_device`] once the tree named them. Everything else waits for the final map.

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::asm::barrier;
use memory::{Pa, PaRange, Stage1Kind};

use crate::{cache, mmu};

/// CPUs that Viaduct starts at most.
pub const MAX_CPUS: usize = 8;

/// A build that is not optimised copies what it passes on by value from frame to frame.
const SCALE: usize = if cfg!(debug_assertions) { 2 } else { 1 };

/// Bytes of a CPU's stack.
pub const STACK_SIZE: usize = SCALE * 16 * 1024;

/// Bytes of the stack on which faults of EL2 itself are reported.
pub const EMERGENCY_SIZE: usize = SCALE * 8 * 1024;

/// Bytes of the boot's: what the tree says goes through it by value.
const BOOT_STACK_SIZE: usize = 64 * 1024;

const PAGE: usize = 4096;
const BLOCK: u64 = 2 << 20;
const GIB: u64 = 1 << 30;
/// The image and the tree may each cross a border of 1 GiB, and the console lies elsewhere.
const LEVEL2_TABLES: usize = 5;
/// A tree of more than this is not mapped in the boot map (the format's users stay below 2 MiB).
const MAX_TREE: u64 = 4 << 20;
const FDT_MAGIC: u32 = 0xd00d_feed;

/// What only the boot needs: given to the heap when the boot CPU has left it.
#[repr(C, align(4096))]
struct BootMemory {
    guard: [u8; PAGE],
    stack: [u8; BOOT_STACK_SIZE],
    tables: BootTables,
}

#[repr(C, align(4096))]
struct BootTables {
    level1: [u64; 512],
    level2: [[u64; 512]; LEVEL2_TABLES],
}

#[repr(transparent)]
struct BootCell<T>(UnsafeCell<T>);

// SAFETY: only the boot CPU touches these cells, before any other CPU runs.
unsafe impl<T> Sync for BootCell<T> {}

#[unsafe(link_section = ".bss.boot")]
static BOOT: BootCell<BootMemory> = BootCell(UnsafeCell::new(BootMemory {
    guard: [0; PAGE],
    stack: [0; BOOT_STACK_SIZE],
    tables: BootTables {
        level1: [0; 512],
        level2: [[0; 512]; LEVEL2_TABLES],
    },
}));

/// The tables of the boot map.
fn boot_tables() -> *mut BootTables {
    BOOT.0
        .get()
        .wrapping_byte_add(offset_of!(BootMemory, tables))
        .cast()
}

/// What a CPU that starts must know before it can see anything else. Read with the MMU off.
#[repr(C, align(64))]
pub struct Secondary {
    affinity: AtomicU64,
    stack: AtomicU64,
    root: AtomicU64,
    argument: AtomicU64,
}

static SECONDARIES: [Secondary; MAX_CPUS] = [const {
    Secondary {
        affinity: AtomicU64::new(u64::MAX),
        stack: AtomicU64::new(0),
        root: AtomicU64::new(0),
        argument: AtomicU64::new(0),
    }
}; MAX_CPUS];

unsafe extern "C" {
    static __image_start: u8;
    static __code_end: u8;
    static __constants_end: u8;
    static __image_end: u8;
    fn secondary_start();
    fn viaduct_boot_main(tree: *const u8);
    fn viaduct_boot_refused(tree: *const u8, level: u64, load_address: u64);
    fn viaduct_secondary_main(argument: usize);
}

global_asm!(
    include_str!("entry.S"),
    boot_memory = sym BOOT,
    boot_stack_top = const offset_of!(BootMemory, tables),
    build_boot_map = sym build_boot_map,
    enable_mmu = sym mmu::enable,
    boot_main = sym viaduct_boot_main,
    boot_refused = sym viaduct_boot_refused,
    secondary_main = sym viaduct_secondary_main,
    secondaries = sym SECONDARIES,
    max_cpus = const MAX_CPUS,
    secondary_affinity = const offset_of!(Secondary, affinity),
    secondary_stack = const offset_of!(Secondary, stack),
    secondary_root = const offset_of!(Secondary, root),
    secondary_argument = const offset_of!(Secondary, argument),
    secondary_size = const size_of::<Secondary>(),
);

/// Names the functions of the image that the entry code calls.
///
/// * `boot: fn(tree: &'static [u8])`: the first CPU, MMU on, boot map.
/// * `refused: fn(tree: &'static [u8], level: u64, load_address: u64)`: not at EL2, or misaligned; the
///   MMU is off, so neither atomics nor unaligned accesses.
/// * `secondary: fn(argument: usize)`: another CPU, final map, its own stack.
#[macro_export]
macro_rules! boot_entries {
    (boot: $boot:path, refused: $refused:path, secondary: $secondary:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn viaduct_boot_main(tree: *const u8) {
            // SAFETY: the entry code passes x0 on.
            $boot(unsafe { $crate::entry::tree_bytes(tree) });
        }
        #[unsafe(no_mangle)]
        extern "C" fn viaduct_boot_refused(tree: *const u8, level: u64, load_address: u64) {
            // SAFETY: the entry code passes x0 on.
            $refused(
                unsafe { $crate::entry::tree_bytes(tree) },
                level >> 2 & 3,
                load_address,
            );
        }
        #[unsafe(no_mangle)]
        extern "C" fn viaduct_secondary_main(argument: usize) {
            $secondary(argument);
        }
    };
}

/// Size that a device tree states of itself, or 0 if there is no tree at `tree`.
fn tree_size(tree: *const u8) -> u64 {
    if tree.is_null() || !tree.addr().is_multiple_of(8) {
        return 0;
    }
    let header = tree.cast::<u32>();
    // SAFETY: x0 points to the tree by the boot protocol, aligned to 8 bytes.
    let magic = u32::from_be(unsafe { header.read_volatile() });
    // SAFETY: as above; the header has ten words.
    let size = u32::from_be(unsafe { header.wrapping_add(1).read_volatile() });
    if magic == FDT_MAGIC && u64::from(size) <= MAX_TREE {
        u64::from(size)
    } else {
        0
    }
}

/// The device tree as bytes; empty if `tree` does not point to one.
///
/// # Safety
/// `tree` is what firmware passed in x0: null, or the address of memory that is mapped (or the MMU is off)
/// and that nobody writes.
#[must_use]
pub unsafe fn tree_bytes(tree: *const u8) -> &'static [u8] {
    let size = tree_size(tree) as usize;
    if size == 0 {
        return &[];
    }
    // SAFETY: the tree has that size, is mapped by the boot map (or the MMU is off), and nothing writes
    // it: its range is reserved before any memory is given away.
    unsafe { core::slice::from_raw_parts(tree, size) }
}

/// Fills the boot map. Runs with the MMU off: plain aligned accesses only. Returns its root.
extern "C" fn build_boot_map(image: u64, tree: *const u8) -> u64 {
    let tables = boot_tables();
    let end = image.wrapping_add(image_size());
    map_blocks(
        tables,
        image,
        end,
        Stage1Kind::Data.attributes() & !EXECUTE_NEVER,
    );
    let size = tree_size(tree);
    if size != 0 {
        let start = tree.addr() as u64;
        map_blocks(
            tables,
            start,
            start.wrapping_add(size),
            Stage1Kind::Data.attributes(),
        );
    }
    tables.addr() as u64
}

/// Code runs and data is written from the same 2 MiB blocks until the final map stands.
const EXECUTE_NEVER: u64 = 1 << 54;

fn map_blocks(tables: *mut BootTables, start: u64, end: u64, attributes: u64) -> bool {
    let mut at = start & !(BLOCK - 1);
    while at < end {
        let Some(table) = level2_of(tables, at) else {
            return false;
        };
        let entry = table.wrapping_add((at / BLOCK % 512) as usize);
        // SAFETY: a table of the boot map, which only this CPU writes.
        if unsafe { entry.read_volatile() } == 0 {
            // SAFETY: as above; an invalid entry becomes valid, so nothing stale is cached.
            unsafe { entry.write_volatile(at | attributes | 1) }
        }
        at = at.wrapping_add(BLOCK);
    }
    true
}

/// The level-2 table for the GiB that holds `address`, taken from the spare ones if need be.
fn level2_of(tables: *mut BootTables, address: u64) -> Option<*mut u64> {
    let index = (address / GIB) as usize;
    if index >= 512 {
        return None;
    }
    let base = tables.cast::<u64>();
    let entry = base.wrapping_add(index);
    // SAFETY: an entry of the level-1 table, which only this CPU writes.
    let value = unsafe { entry.read_volatile() };
    if value != 0 {
        return Some((value & !0xfff) as *mut u64);
    }
    for number in 1..=LEVEL2_TABLES {
        let table = base.wrapping_add(number * 512);
        let address = table.addr() as u64;
        let used = (0..512).any(|index| {
            // SAFETY: an entry of the level-1 table.
            let other = unsafe { base.wrapping_add(index).read_volatile() };
            other & !0xfff == address
        });
        if !used {
            // SAFETY: an entry of the level-1 table, invalid until now.
            unsafe { entry.write_volatile(address | 3) }
            return Some(table);
        }
    }
    None
}

/// Adds the 2 MiB block around `device` to the boot map, as Device memory. Only the boot CPU, before
/// the final map. `false` if the map has no room or the block is mapped as memory.
pub fn map_early_device(device: PaRange) -> bool {
    let mapped = map_blocks(
        boot_tables(),
        device.start().get(),
        device.end().get(),
        Stage1Kind::Device.attributes(),
    );
    // New entries must be seen by the walker before the first access (DDI 0487, D8.2.6).
    barrier::dsb(barrier::ISHST);
    barrier::isb(barrier::SY);
    mapped
}

/// Adds memory to the boot map: the first memory of the heap, from which the final map is built.
/// `false` if the map has no room.
pub fn map_early_memory(range: PaRange) -> bool {
    let mapped = map_blocks(
        boot_tables(),
        range.start().get(),
        range.end().get(),
        Stage1Kind::Data.attributes(),
    );
    barrier::dsb(barrier::ISHST);
    barrier::isb(barrier::SY);
    mapped
}

fn image_size() -> u64 {
    (&raw const __image_end).addr() as u64 - (&raw const __image_start).addr() as u64
}

fn between(start: *const u8, end: *const u8) -> Option<PaRange> {
    PaRange::between(Pa::new(start.addr() as u64), Pa::new(end.addr() as u64))
}

/// The parts of the image that the final map tells apart: code, constants, data.
#[must_use]
pub fn image_parts() -> Option<[(PaRange, Stage1Kind); 3]> {
    let (start, code_end) = (&raw const __image_start, &raw const __code_end);
    let (constants_end, end) = (&raw const __constants_end, &raw const __image_end);
    Some([
        (between(start, code_end)?, Stage1Kind::Code),
        (between(code_end, constants_end)?, Stage1Kind::ReadOnly),
        (between(constants_end, end)?, Stage1Kind::Data),
    ])
}

/// Where the image lies, zeroed data included.
#[must_use]
pub fn image() -> Option<PaRange> {
    between(&raw const __image_start, &raw const __image_end)
}

/// What only the boot needs: its stack with the guard page below, and the boot map.
#[must_use]
pub fn boot_memory() -> Option<PaRange> {
    let start = Pa::new(BOOT.0.get().addr() as u64);
    PaRange::new(start, size_of::<BootMemory>() as u64)
}

/// The page under the boot's stack, which the final map must leave out.
#[must_use]
pub fn boot_stack_guard() -> Option<PaRange> {
    PaRange::new(Pa::new(BOOT.0.get().addr() as u64), PAGE as u64)
}

/// The boot's stack.
#[must_use]
pub fn boot_stack() -> Option<PaRange> {
    PaRange::new(boot_stack_guard()?.end(), BOOT_STACK_SIZE as u64)
}

/// Prepares slot `index` for the CPU with this affinity (Aff3..Aff0 as in `MPIDR_EL1`, no other bits),
/// and cleans it to the point of coherency, where a CPU with its MMU off reads it.
pub fn prepare_secondary(index: usize, affinity: u64, stack_top: usize, root: Pa, argument: usize) {
    if let Some(secondary) = SECONDARIES.get(index) {
        secondary.stack.store(stack_top as u64, Ordering::Relaxed);
        secondary.root.store(root.get(), Ordering::Relaxed);
        secondary.argument.store(argument as u64, Ordering::Relaxed);
        secondary.affinity.store(affinity, Ordering::Relaxed);
        let start = Pa::new(ptr::from_ref(secondary).addr() as u64);
        cache::clean_invalidate(start, size_of::<Secondary>() as u64);
    }
}

/// Physical address at which secondary CPUs enter.
#[must_use]
pub fn secondary_entry() -> Pa {
    Pa::new(secondary_start as *const () as u64)
}
