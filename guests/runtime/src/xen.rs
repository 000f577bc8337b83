//! Whether there is a hypervisor that speaks the Xen ABI, and what it says about itself.

use crate::{entry, event, hypercall, memory, sync::Once};
use abi::{hypercall as number, sched, version};

struct Xen {
    /// Guest-physical window for grant frames and other pages that the hypervisor owns.
    window: (u64, u64),
    upcall: u32,
}

static XEN: Once<Xen> = Once::new();

/// Finds the hypervisor node.
pub(crate) fn init() {
    let Some(node) = entry::tree().and_then(|tree| tree.compatible("xen,xen")) else {
        return;
    };
    XEN.set(Xen {
        window: node.reg().next().unwrap_or((0, 0)),
        upcall: node.interrupts().next().unwrap_or(31),
    });
}

pub(crate) fn init_cpu() {
    if present() {
        event::init_cpu();
    }
}

/// Whether the tree has a hypervisor node. Without it no hypercall may be made.
pub fn present() -> bool {
    XEN.get().is_some()
}

/// Guest-physical addresses, as base and size, with nothing behind them at the start: for grant frames
/// from its base, for shared_info in its last page.
pub fn window() -> Option<(u64, u64)> {
    XEN.get()
        .map(|xen| xen.window)
        .filter(|(_, size)| *size >= 2 * memory::PAGE)
}

/// The interrupt that announces events.
pub fn upcall_intid() -> u32 {
    XEN.get().map_or(31, |xen| xen.upcall)
}

/// What must be mapped as normal memory besides RAM.
pub(crate) fn shared_regions() -> impl Iterator<Item = (u64, u64)> {
    let gfn = if present() {
        hypercall::parameter(abi::hvm::PARAM_CONSOLE_PFN).unwrap_or(0)
    } else {
        0
    };
    let console = (gfn != 0).then_some((gfn.saturating_mul(memory::PAGE), memory::PAGE));
    window().into_iter().chain(console)
}

/// The version, major in the upper 16 bits; 0 without a hypervisor.
pub fn version() -> u64 {
    if !present() {
        return 0;
    }
    // SAFETY: sub-operation 0 ignores its pointer.
    let value = unsafe { hypercall::call(number::XEN_VERSION, [version::VERSION, 0, 0, 0, 0]) };
    u64::try_from(value).unwrap_or(0)
}

/// Tells the hypervisor that this guest has crashed; returns only without one.
pub fn crash() {
    if present() {
        let _ = hypercall::shutdown(sched::SHUTDOWN_CRASH);
    }
}
