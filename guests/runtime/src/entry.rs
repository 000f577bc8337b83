//! From the first instruction to `main`: `entry.S` and what follows it.

use crate::{console, cpu, event, gic, memory, psci, sync::Once, timer, tree::Tree, xen};
use core::arch::global_asm;

global_asm!(
    include_str!("entry.S"),
    text_offset = const memory::TEXT_OFFSET,
    stack = sym BOOT_STACK,
    stack_size = const size_of::<Stack>(),
    start = sym start,
    secondary_start = sym cpu::secondary_start,
    mair = const memory::MAIR,
    tcr = const memory::TCR,
    sctlr_on = const memory::SCTLR_ON,
    device_block = const memory::BOOT_DEVICE,
    normal_block = const memory::BOOT_NORMAL,
);

#[repr(C, align(16))]
struct Stack(core::cell::UnsafeCell<[u8; 32 * 1024]>);

// SAFETY: only the boot CPU's stack pointer ever points into it.
unsafe impl Sync for Stack {}

static BOOT_STACK: Stack = Stack(core::cell::UnsafeCell::new([0; 32 * 1024]));

/// What the first instruction found, for tests of the entry state.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// x0: address of the device tree.
    pub tree: u64,
    /// x1 to x3, or-ed together.
    pub arguments: u64,
    /// x4 to x30, or-ed together.
    pub others: u64,
    /// CurrentEL.
    pub current_el: u64,
    /// DAIF.
    pub daif: u64,
    /// SPSel.
    pub stack_select: u64,
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// CPACR_EL1.
    pub cpacr: u64,
    /// CNTV_CTL_EL0.
    pub virtual_timer: u64,
    reserved: u64,
}

const _: () = assert!(size_of::<State>() == 80);

static STATE: Once<State> = Once::new();
static TREE: Once<Tree<'static>> = Once::new();

/// What the first instruction found.
///
/// # Panics
/// Never after entry.
pub fn state() -> State {
    *STATE.get().expect("set at entry")
}

/// The device tree, if x0 pointed to one.
pub fn tree() -> Option<Tree<'static>> {
    TREE.get().copied()
}

unsafe extern "Rust" {
    fn __guest_main();
}

fn read_tree(address: u64) -> Option<Tree<'static>> {
    if address == 0 || !address.is_multiple_of(8) {
        return None;
    }
    let header = address as *const [u8; 8];
    // SAFETY: the boot protocol puts the tree at x0, in memory that the boot map contains; nothing
    // writes it.
    let header = unsafe { header.read() };
    let [.., a, b, c, d] = header;
    let size = u32::from_be_bytes([a, b, c, d]) as usize;
    if size > 2 << 20 {
        return None;
    }
    // SAFETY: as above, with the size that the tree itself gives, at most the 2 MiB of the protocol.
    let bytes = unsafe { core::slice::from_raw_parts(address as *const u8, size) };
    Tree::new(bytes)
}

extern "C" fn start(state: &State) -> ! {
    STATE.set(*state);
    if let Some(tree) = read_tree(state.tree) {
        TREE.set(tree);
    }
    cpu::init();
    xen::init();
    memory::init();
    console::init();
    gic::init();
    gic::init_cpu();
    timer::init();
    timer::init_cpu();
    event::init();
    cpu::unmask();
    // SAFETY: `entry!` defines it, with this signature.
    unsafe { __guest_main() };
    psci::system_off()
}
