//! The interrupt controller that the tree names: GICv2 (IHI 0048) or GICv3 (IHI 0069), affinity routing
//! on, one security state as far as a guest can tell.

pub mod v2;
pub mod v3;

use crate::{cpu, entry, mmio::Mmio, sync::Once};

pub use v2::V2;
pub use v3::V3;

/// Distributor registers, common to both versions.
pub mod distributor {
    /// Control.
    pub const CTLR: usize = 0x000;
    /// What is implemented.
    pub const TYPER: usize = 0x004;
    /// Who made it.
    pub const IIDR: usize = 0x008;
    /// Groups, a bit an interrupt.
    pub const IGROUPR: usize = 0x080;
    /// Set enable, a bit an interrupt.
    pub const ISENABLER: usize = 0x100;
    /// Clear enable.
    pub const ICENABLER: usize = 0x180;
    /// Set pending.
    pub const ISPENDR: usize = 0x200;
    /// Clear pending.
    pub const ICPENDR: usize = 0x280;
    /// Set active.
    pub const ISACTIVER: usize = 0x300;
    /// Clear active.
    pub const ICACTIVER: usize = 0x380;
    /// Priority, a byte an interrupt.
    pub const IPRIORITYR: usize = 0x400;
    /// Targets, a byte an interrupt (v2).
    pub const ITARGETSR: usize = 0x800;
    /// Configuration, two bits an interrupt.
    pub const ICFGR: usize = 0xc00;
    /// Software generated interrupt (v2).
    pub const SGIR: usize = 0xf00;
    /// Routing, 64 bits an interrupt (v3).
    pub const IROUTER: usize = 0x6000;
}

/// The priority that [`enable`] gives.
pub const PRIORITY: u8 = 0xa0;

/// The driver.
#[derive(Clone, Copy, Debug)]
pub enum Gic {
    /// Memory-mapped CPU interface.
    V2(V2),
    /// System registers, a redistributor a CPU.
    V3(V3),
}

static GIC: Once<Gic> = Once::new();

/// An acknowledged interrupt, to be ended.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Taken(u32);

impl Taken {
    /// The interrupt id.
    pub fn intid(self) -> u32 {
        // A GICv2 SGI carries its sender above bit 10; other ids, also GICv3's, are below 1024 here.
        self.0 & 0x3ff
    }

    /// The CPU that sent a GICv2 SGI.
    pub fn source(self) -> u32 {
        self.0 >> 10 & 7
    }
}

/// Whom a software generated interrupt goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// One CPU, by number.
    Cpu(usize),
    /// This CPU.
    Myself,
    /// Every CPU but this.
    Others,
}

/// The driver, once the tree was read.
pub fn driver() -> Option<Gic> {
    GIC.get().copied()
}

/// Finds the controller and switches its distributor on.
pub(crate) fn init() {
    let Some(tree) = entry::tree() else {
        return;
    };
    let v2 = ["arm,gic-400", "arm,cortex-a15-gic", "arm,cortex-a9-gic"];
    let found = if let Some(node) = tree.compatible("arm,gic-v3") {
        V3::new(&node).map(Gic::V3)
    } else {
        v2.iter()
            .find_map(|name| tree.compatible(name))
            .and_then(|node| V2::new(&node))
            .map(Gic::V2)
    };
    match found {
        Some(gic) => GIC.set(gic),
        None => crate::println!("no interrupt controller in the tree"),
    }
}

/// Switches this CPU's interface on.
pub(crate) fn init_cpu() {
    match driver() {
        Some(Gic::V2(gic)) => gic.init_cpu(),
        Some(Gic::V3(gic)) => gic.init_cpu(),
        None => {}
    }
}

/// The register block that holds the bits of `intid` for this CPU: the distributor, or the SGI frame of
/// a GICv3 redistributor.
pub fn block(intid: u32) -> Option<Mmio> {
    Some(match driver()? {
        Gic::V2(gic) => gic.distributor,
        Gic::V3(gic) if intid < 32 => gic.sgi_frame()?,
        Gic::V3(gic) => gic.distributor,
    })
}

fn set_bit(register: usize, intid: u32) {
    if let Some(block) = block(intid) {
        block.write32(register + intid as usize / 32 * 4, 1 << (intid % 32));
    }
}

fn bit(register: usize, intid: u32) -> bool {
    block(intid).is_some_and(|block| {
        block.read32(register + intid as usize / 32 * 4) & 1 << (intid % 32) != 0
    })
}

/// Enables `intid` at the usual priority; an SPI is routed to CPU 0.
pub fn enable(intid: u32) {
    set_priority(intid, PRIORITY);
    if intid >= 32 {
        route(intid, 0);
    }
    set_bit(distributor::ISENABLER, intid);
}

/// Disables `intid`.
pub fn disable(intid: u32) {
    set_bit(distributor::ICENABLER, intid);
}

/// Whether `intid` is enabled.
pub fn is_enabled(intid: u32) -> bool {
    bit(distributor::ISENABLER, intid)
}

/// Makes `intid` pending.
pub fn set_pending(intid: u32) {
    set_bit(distributor::ISPENDR, intid);
}

/// Makes `intid` not pending.
pub fn clear_pending(intid: u32) {
    set_bit(distributor::ICPENDR, intid);
}

/// Whether `intid` is pending.
pub fn is_pending(intid: u32) -> bool {
    bit(distributor::ISPENDR, intid)
}

/// Whether `intid` is active.
pub fn is_active(intid: u32) -> bool {
    bit(distributor::ISACTIVER, intid)
}

/// Makes `intid` active, as if it had been acknowledged.
pub fn set_active(intid: u32) {
    set_bit(distributor::ISACTIVER, intid);
}

/// Makes `intid` not active.
pub fn clear_active(intid: u32) {
    set_bit(distributor::ICACTIVER, intid);
}

/// Makes an SPI edge-triggered, or level-sensitive as it is at first.
pub fn set_edge(intid: u32, edge: bool) {
    if let Some(block) = block(intid) {
        let register = distributor::ICFGR + intid as usize / 16 * 4;
        let mask = 2 << (intid % 16 * 2);
        let others = block.read32(register) & !mask;
        block.write32(register, if edge { others | mask } else { others });
    }
}

/// Sets the priority; lower numbers go first.
pub fn set_priority(intid: u32, priority: u8) {
    if let Some(block) = block(intid) {
        block.write8(distributor::IPRIORITYR + intid as usize, priority);
    }
}

/// The priority.
pub fn priority(intid: u32) -> u8 {
    block(intid).map_or(0, |block| {
        block.read8(distributor::IPRIORITYR + intid as usize)
    })
}

/// Routes an SPI to a CPU.
pub fn route(intid: u32, cpu: usize) {
    match driver() {
        Some(Gic::V2(gic)) => {
            gic.distributor
                .write8(distributor::ITARGETSR + intid as usize, 1 << (cpu & 7));
        }
        Some(Gic::V3(gic)) => {
            let affinity = cpu::affinity(cpu).unwrap_or(0);
            gic.distributor
                .write64(distributor::IROUTER + intid as usize * 8, affinity);
        }
        None => {}
    }
}

/// Lets only priorities higher (lower numbers) than `priority` through to this CPU.
pub fn set_priority_mask(priority: u8) {
    match driver() {
        Some(Gic::V2(gic)) => gic.set_priority_mask(priority),
        Some(Gic::V3(_)) => crate::sysreg::set_icc_pmr(u64::from(priority)),
        None => {}
    }
}

/// The mask of [`set_priority_mask`].
pub fn priority_mask() -> u8 {
    match driver() {
        Some(Gic::V2(gic)) => gic.priority_mask(),
        Some(Gic::V3(_)) => crate::sysreg::icc_pmr() as u8,
        None => 0,
    }
}

/// The priority of what this CPU handles; a high number if it handles nothing.
pub fn running_priority() -> u8 {
    match driver() {
        Some(Gic::V2(gic)) => gic.running_priority(),
        Some(Gic::V3(_)) => crate::sysreg::icc_rpr() as u8,
        None => 0xff,
    }
}

/// Says how many of the lower bits of a priority do not count when one interrupt is to interrupt another: in the way
/// in which the version counts.
pub fn set_binary_point(point: u8) {
    match driver() {
        Some(Gic::V2(gic)) => gic.set_binary_point(point),
        Some(Gic::V3(_)) => crate::sysreg::set_icc_bpr1(u64::from(point)),
        None => {}
    }
}

/// What [`set_binary_point`] set.
pub fn binary_point() -> u8 {
    match driver() {
        Some(Gic::V2(gic)) => gic.binary_point(),
        Some(Gic::V3(_)) => crate::sysreg::icc_bpr1() as u8,
        None => 0,
    }
}

/// Whether [`end`] only drops the priority on this CPU, and [`deactivate`] has to follow (EOImode).
pub fn split_end(split: bool) {
    match driver() {
        Some(Gic::V2(gic)) => gic.split_end(split),
        Some(Gic::V3(_)) => crate::sysreg::set_icc_ctlr(u64::from(split) << 1),
        None => {}
    }
}

/// Sends software generated interrupt `intid` (0 to 15).
pub fn send(intid: u32, target: Target) {
    match driver() {
        Some(Gic::V2(gic)) => gic.send(intid, target),
        Some(Gic::V3(_)) => v3::send(intid, target),
        None => {}
    }
}

/// Takes the most urgent pending interrupt, if there is one.
#[inline]
pub fn acknowledge() -> Option<Taken> {
    let raw = match GIC.get()? {
        Gic::V2(gic) => gic.acknowledge(),
        Gic::V3(_) => v3::acknowledge(),
    };
    // 1020 to 1023 are special: nothing to take.
    (raw & 0x3ff < 1020).then_some(Taken(raw))
}

/// Ends what [`acknowledge`] took.
#[inline]
pub fn end(taken: Taken) {
    match GIC.get() {
        Some(Gic::V2(gic)) => gic.end(taken.0),
        Some(Gic::V3(_)) => crate::sysreg::set_icc_eoir1(u64::from(taken.0)),
        None => {}
    }
}

/// The second half of the end, after [`split_end`].
pub fn deactivate(taken: Taken) {
    match GIC.get() {
        Some(Gic::V2(gic)) => gic.deactivate(taken.0),
        Some(Gic::V3(_)) => crate::sysreg::set_icc_dir(u64::from(taken.0)),
        None => {}
    }
}
