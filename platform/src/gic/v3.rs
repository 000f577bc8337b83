//! GICv3 with affinity routing, CPU interface by system registers (IHI 0069). A GICv4 is used as one.
//!
//! * Group 1 throughout: with one security state every interrupt is put there; with two it is the group
//!   of the Non-secure side, firmware has chosen, and our writes are ignored.
//! * Ends are split in two (`ICC_CTLR_EL1.EOImode` 1), as for GICv2.
//! * A CPU's redistributor is the one whose `GICR_TYPER` has its affinity, looked for in all regions;
//!   a redistributor of a GICv4 takes four frames instead of two.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aarch64_cpu::registers as cpu_registers;
use aarch64_cpu::registers::{ICC_SRE_EL2, ICH_HCR_EL2, ICH_MISR_EL2, ICH_VMCR_EL2, ICH_VTR_EL2};
use arrayvec::ArrayVec;
use memory::PaRange;
use sync::SpinLock;
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};

use super::bank::{Bank, CTLR};
use super::v3_registers::{Distributor, GICR_CTLR, GICR_TYPER, GICR_WAKER, Redistributor};
use super::v3_registers::{active_priorities, indexed, list, write_list};
use super::{Acknowledged, Error, IntId, MAX_REGIONS, Trigger, VirtualState, address_of};
use crate::mmio::Mmio;
use crate::sysreg::{
    ICC_AP1R0_EL1, ICC_BPR1_EL1, ICC_CTLR, ICC_CTLR_EL1, ICC_DIR_EL1, ICC_EOIR1_EL1,
    ICC_HPPIR1_EL1, ICC_IAR1_EL1, ICC_IGRPEN1_EL1, ICC_PMR_EL1, ICC_SGI1R, ICC_SGI1R_EL1,
    ICC_SRE_EL1, ICH_EISR_EL2, ICH_ELRSR_EL2,
};
use crate::{MAX_CPUS, barrier};

/// Times a register is read before the hardware is given up: far above a second's worth.
const PATIENCE: u32 = 1 << 24;

/// Room for redistributors: two frames each, four with GICv4.
const MAX_REDISTRIBUTORS: usize = 2 * MAX_CPUS + MAX_REGIONS;

/// A number that stands for "this CPU has not been here".
const ABSENT: u32 = u32::MAX;

/// A GICv3.
pub struct Gic {
    distributor: Mmio<Distributor>,
    /// Every redistributor found, with the affinity of its CPU.
    redistributors: ArrayVec<(u32, Mmio<Redistributor>), MAX_REDISTRIBUTORS>,
    regions: ArrayVec<PaRange, MAX_REGIONS>,
    lists: u8,
    /// A bit for each.
    all_lists: u32,
    /// Words of active priorities in each group: 1, 2 or 4.
    priority_words: u8,
    cpus: [Cpu; MAX_CPUS],
    /// Held while a register that several interrupts share is read and written back.
    trigger: SpinLock<()>,
}

/// What is known about a logical CPU.
struct Cpu {
    /// Which of the redistributors; `ABSENT` until the CPU has been here.
    redistributor: AtomicU32,
    /// The value for `ICC_SGI1R_EL1` that reaches it, without the interrupt's number.
    sgi_target: AtomicU64,
}

impl Gic {
    /// The GICv3 with these frames (the tree's `reg`: the distributor, then the redistributor regions).
    ///
    /// # Errors
    ///
    /// [`Error::Region`] if one is too small or misplaced, [`Error::TooManyRegions`].
    ///
    /// # Safety
    ///
    /// The ranges are those of a GICv3, mapped one to one as Device memory for as long as the value
    /// lives, and nobody else drives it. The CPUs that use it execute at EL2.
    pub unsafe fn new(distributor: PaRange, redistributors: &[PaRange]) -> Result<Self, Error> {
        // SAFETY: the distributor, by the caller's promise; size and alignment are checked.
        let distributor_registers = unsafe { Mmio::new(address_of::<Distributor>(distributor)?) };
        let mut regions = ArrayVec::new();
        regions.push(distributor);
        let mut found = ArrayVec::new();
        for &region in redistributors {
            regions
                .try_push(region)
                .map_err(|_| Error::TooManyRegions)?;
            // SAFETY: a region of redistributors of the same GIC, by the caller's promise.
            unsafe { walk(region, &mut found) }?;
        }
        Ok(Self {
            distributor: distributor_registers,
            redistributors: found,
            regions,
            lists: 0,
            all_lists: 0,
            priority_words: 0,
            cpus: [const {
                Cpu {
                    redistributor: AtomicU32::new(ABSENT),
                    sgi_target: AtomicU64::new(0),
                }
            }; MAX_CPUS],
            trigger: SpinLock::new(()),
        }
        .measured())
    }

    /// With the sizes that `ICH_VTR_EL2` tells. They are those of the boot CPU: the manual asks for the
    /// same in all (12.4, ICH_VTR_EL2).
    fn measured(mut self) -> Self {
        // Elsewhere than on the metal (tests) there are none to be measured.
        if cfg!(target_arch = "aarch64") && request_system_registers().is_ok() {
            self.lists = (ICH_VTR_EL2.read(cpu_registers::ICH_VTR_EL2::ListRegs) as u8 & 15) + 1;
            self.all_lists = (1 << self.lists) - 1;
            self.priority_words = match ICH_VTR_EL2.read(cpu_registers::ICH_VTR_EL2::PREbits) + 1 {
                7.. => 4,
                6 => 2,
                _ => 1,
            };
        }
        self
    }

    /// The affinities of the CPUs that have a redistributor, as `GICR_TYPER` has them.
    pub fn affinities(&self) -> impl Iterator<Item = u32> {
        self.redistributors.iter().map(|&(affinity, _)| affinity)
    }

    pub(super) fn regions(&self) -> &[PaRange] {
        &self.regions
    }

    pub(super) fn interrupts(&self) -> u32 {
        self.distributor.bank.interrupts()
    }

    pub(super) fn init_distributor(&self) -> Result<(), Error> {
        let bank = &self.distributor.bank;
        bank.ctlr.set(0);
        self.distributor_settled()?;
        let words = bank.interrupts().div_ceil(32) as usize;
        for modifier in &bank.igrpmodr[1..words] {
            modifier.set(0);
        }
        bank.reset_words(1, words - 1, !0);
        self.distributor_settled()?;
        // Group 1 with affinity routing; in the Non-secure view of two security states these two bits
        // mean just that as well. ARE is set before the groups are enabled (12.9, GICD_CTLR).
        bank.ctlr.write(CTLR::ARE::SET);
        self.distributor_settled()?;
        bank.ctlr.write(CTLR::ARE::SET + CTLR::EnableGroup1::SET);
        self.distributor_settled()
    }

    fn distributor_settled(&self) -> Result<(), Error> {
        let ctlr = &self.distributor.bank.ctlr;
        settled(|| !ctlr.is_set(CTLR::RWP), "GICD_CTLR.RWP")
    }

    pub(super) fn init_cpu(&self, cpu: usize, mpidr: u64) -> Result<(), Error> {
        let slot = self.cpus.get(cpu).ok_or(Error::CpuNumber(cpu))?;
        let affinity = affinity(mpidr);
        let index = self
            .redistributors
            .iter()
            .position(|&(of, _)| of == affinity)
            .ok_or(Error::NoRedistributor(u64::from(affinity)))?;
        let redistributor = &self.redistributors[index].1;

        redistributor
            .waker
            .modify(GICR_WAKER::ProcessorSleep::CLEAR);
        let awake = || !redistributor.waker.is_set(GICR_WAKER::ChildrenAsleep);
        settled(awake, "GICR_WAKER.ChildrenAsleep")?;
        redistributor.bank.igrpmodr[0].set(0);
        redistributor.bank.reset_words(0, 1, !0);
        settled(
            || !redistributor.ctlr.is_set(GICR_CTLR::RWP),
            "GICR_CTLR.RWP",
        )?;

        request_system_registers()?;
        // The guest has no other interface to its GICv3 than system registers either.
        ICC_SRE_EL1.set(0b111);
        ICC_PMR_EL1.set(0xff);
        ICC_BPR1_EL1.set(0);
        ICC_AP1R0_EL1.set(0);
        ICC_CTLR_EL1.write(ICC_CTLR::EOImode::SET);
        barrier::synchronize();
        ICC_IGRPEN1_EL1.set(1);

        ICH_HCR_EL2.set(0);
        for list in 0..self.list_count() {
            self.write_list(list, 0);
        }
        self.load_virtual(&VirtualState::default());
        barrier::synchronize();

        slot.sgi_target
            .store(sgi_target(affinity), Ordering::Relaxed);
        slot.redistributor.store(index as u32, Ordering::Release);
        Ok(())
    }

    fn cpu(&self, cpu: usize) -> Result<(&Cpu, &Mmio<Redistributor>), Error> {
        let of = self.cpus.get(cpu).ok_or(Error::CpuNumber(cpu))?;
        let index = of.redistributor.load(Ordering::Acquire) as usize;
        match self.redistributors.get(index) {
            Some((_, redistributor)) => Ok((of, redistributor)),
            None => Err(Error::CpuNumber(cpu)),
        }
    }

    #[inline]
    pub(super) fn acknowledge(&self) -> Option<Acknowledged> {
        let acknowledged = Acknowledged::new(ICC_IAR1_EL1.get() as u32)?;
        // The acknowledge has taken effect, and what an SGI's sender wrote is read, only after this
        // (IHI 0069 12.1, observability of the effects of accesses to the GIC registers).
        barrier::complete_all();
        Some(acknowledged)
    }

    pub(super) fn highest_pending(&self) -> Option<Acknowledged> {
        Acknowledged::new(ICC_HPPIR1_EL1.get() as u32)
    }

    #[inline]
    pub(super) fn priority_drop(&self, acknowledged: Acknowledged) {
        ICC_EOIR1_EL1.set(u64::from(acknowledged.raw()));
        barrier::synchronize();
    }

    #[inline]
    pub(super) fn deactivate(&self, acknowledged: Acknowledged) {
        // As for GICv2: the device's line has to be low by then.
        barrier::complete_all();
        ICC_DIR_EL1.set(u64::from(acknowledged.raw()));
        barrier::synchronize();
    }

    #[inline]
    pub(super) fn bank(&self, cpu: usize, intid: IntId) -> Result<&Bank, Error> {
        if intid.is_private() {
            Ok(&self.cpu(cpu)?.1.bank)
        } else {
            Ok(&self.distributor.bank)
        }
    }

    /// Waits until a disable has arrived at all CPUs.
    pub(super) fn settle(&self, cpu: usize, intid: IntId) -> Result<(), Error> {
        if !intid.is_private() {
            return self.distributor_settled();
        }
        let ctlr = &self.cpu(cpu)?.1.ctlr;
        settled(|| !ctlr.is_set(GICR_CTLR::RWP), "GICR_CTLR.RWP")
    }

    pub(super) fn set_trigger(
        &self,
        cpu: usize,
        intid: IntId,
        trigger: Trigger,
    ) -> Result<(), Error> {
        let bank = self.bank(cpu, intid)?;
        let _serialised = self.trigger.lock();
        bank.set_trigger(intid, trigger);
        Ok(())
    }

    pub(super) fn set_target(&self, intid: IntId, cpu: usize) -> Result<(), Error> {
        let index = self.cpu(cpu)?.0.redistributor.load(Ordering::Relaxed) as usize;
        let affinity = u64::from(self.redistributors[index].0);
        // Affinity level 3 stands at bits 39:32, not 31:24 (12.9, GICD_IROUTER).
        let route = (affinity & 0xff00_0000) << 8 | affinity & 0x00ff_ffff;
        self.distributor.irouter[intid.get() as usize & 1023].set(route);
        Ok(())
    }

    #[inline]
    pub(super) fn send_sgi(&self, cpu: usize, sgi: u32) -> Result<(), Error> {
        let target = self.cpu(cpu)?.0.sgi_target.load(Ordering::Relaxed);
        // The mailbox that the receiver will look into is written before the interrupt is sent.
        barrier::complete_stores();
        ICC_SGI1R_EL1.set(target | ICC_SGI1R::INTID.val(u64::from(sgi)).value);
        barrier::synchronize();
        Ok(())
    }

    #[inline]
    pub(super) fn list_count(&self) -> usize {
        usize::from(self.lists)
    }

    #[inline]
    pub(super) fn empty_lists(&self) -> u32 {
        // A list register that was just written shows here only after this.
        barrier::synchronize();
        ICH_ELRSR_EL2.get() as u32 & self.all_lists
    }

    pub(super) fn ended_lists(&self) -> u32 {
        ICH_EISR_EL2.get() as u32
    }

    pub(super) fn maintenance_status(&self) -> u32 {
        ICH_MISR_EL2.get() as u32
    }

    pub(super) fn enable_virtual(&self, on: bool) {
        ICH_HCR_EL2.modify(cpu_registers::ICH_HCR_EL2::En.val(u64::from(on)));
    }

    #[inline]
    pub(super) fn set_maintenance(&self, conditions: u32) {
        // The count of unlisted ends lives in the same register and is kept.
        let others = ICH_HCR_EL2.get() & !(1 << 14 | 0xfe);
        // TDIR, bit 14, goes with LRENPIE, bit 2, if ICH_VTR_EL2.TDS, bit 19, says that there is such a trap.
        let trap = ICH_VTR_EL2.get() >> 19 & u64::from(conditions >> 2 & 1);
        ICH_HCR_EL2.set(others | trap << 14 | u64::from(conditions & 0xfe));
    }

    #[inline]
    pub(super) fn take_end_count(&self) -> u32 {
        let hcr = ICH_HCR_EL2.extract();
        let count = hcr.read(cpu_registers::ICH_HCR_EL2::EOIcount);
        if count != 0 {
            ICH_HCR_EL2.modify_no_read(hcr, cpu_registers::ICH_HCR_EL2::EOIcount::CLEAR);
        }
        // Of ends in two steps (VMCR.VEOIM, bit 9) the second traps then. QEMU counts the first, which ends nothing.
        let trapped = hcr.is_set(cpu_registers::ICH_HCR_EL2::TDIR);
        let traps = trapped && ICH_VMCR_EL2.get() & 1 << 9 != 0;
        if traps { 0 } else { count as u32 }
    }

    pub(super) fn vmcr(&self) -> u64 {
        ICH_VMCR_EL2.get()
    }

    pub(super) fn set_vmcr(&self, raw: u64) {
        ICH_VMCR_EL2.set(raw);
    }
}

impl Gic {
    #[inline]
    pub(super) fn read_list(&self, index: usize) -> u64 {
        list!(index => |register| register.get(), else 0)
    }

    #[inline]
    pub(super) fn write_list(&self, index: usize, raw: u64) {
        write_list(index, raw);
    }

    /// The numbers, in `VirtualState::active_priorities`, of the words that exist beside the first of each group. The
    /// others are UNDEFINED here.
    fn other_priority_words(&self) -> impl Iterator<Item = usize> + use<> {
        let words = usize::from(self.priority_words);
        (1..words).chain(5..4 + words)
    }

    #[inline]
    pub(super) fn save_virtual(&self, state: &VirtualState) {
        state.vmcr.store(self.vmcr(), Ordering::Relaxed);
        let [group_0, .., group_1, _, _, _] = &state.active_priorities;
        group_0.store(cpu_registers::ICH_AP0R0_EL2.get() as u32, Ordering::Relaxed);
        group_1.store(cpu_registers::ICH_AP1R0_EL2.get() as u32, Ordering::Relaxed);
        if self.priority_words > 1 {
            self.save_other_priorities(state);
        }
    }

    #[cold]
    fn save_other_priorities(&self, state: &VirtualState) {
        for index in self.other_priority_words() {
            let word = active_priorities!(index => |register| register.get(), else 0) as u32;
            state.active_priorities[index].store(word, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn load_virtual(&self, state: &VirtualState) {
        // Where the legacy interface exists a guest can turn the system registers off for itself; the
        // next one finds them on (IHI 0069 12.2.25). VMCR means what it says only then.
        ICC_SRE_EL1.set(0b111);
        barrier::synchronize();
        self.set_vmcr(state.vmcr.load(Ordering::Relaxed));
        let word = |index: usize| u64::from(state.active_priorities[index].load(Ordering::Relaxed));
        cpu_registers::ICH_AP0R0_EL2.set(word(0));
        cpu_registers::ICH_AP1R0_EL2.set(word(4));
        if self.priority_words > 1 {
            self.load_other_priorities(state);
        }
    }

    #[cold]
    fn load_other_priorities(&self, state: &VirtualState) {
        for index in self.other_priority_words() {
            let word = u64::from(state.active_priorities[index].load(Ordering::Relaxed));
            active_priorities!(index => |register| register.set(word), else ());
        }
    }
}

/// Turns the system register interface on for EL2, and lets EL1 see it.
fn request_system_registers() -> Result<(), Error> {
    use cpu_registers::ICC_SRE_EL2::{DFB, DIB, ENABLE, SRE};
    ICC_SRE_EL2.modify(SRE::SET + DFB::SET + DIB::SET + ENABLE::SET);
    barrier::synchronize();
    if ICC_SRE_EL2.is_set(SRE) {
        Ok(())
    } else {
        Err(Error::NoSystemRegisters)
    }
}

/// Reads until `done`, with patience but not for ever.
fn settled(done: impl Fn() -> bool, register: &'static str) -> Result<(), Error> {
    for _ in 0..PATIENCE {
        if done() {
            return Ok(());
        }
        core::hint::spin_loop();
    }
    Err(Error::NoAnswer(register))
}

/// Affinity levels 3 to 0 in 32 bits, as `GICR_TYPER` has them, from `MPIDR_EL1`.
fn affinity(mpidr: u64) -> u32 {
    ((mpidr >> 8) as u32 & 0xff00_0000) | (mpidr as u32 & 0x00ff_ffff)
}

/// What `ICC_SGI1R_EL1` needs to reach the CPU of this affinity, without the interrupt's number.
fn sgi_target(affinity: u32) -> u64 {
    let level = |number: u32| u64::from(affinity >> (8 * number) & 0xff);
    (ICC_SGI1R::Aff3.val(level(3))
        + ICC_SGI1R::Aff2.val(level(2))
        + ICC_SGI1R::Aff1.val(level(1))
        + ICC_SGI1R::RS.val(level(0) >> 4)
        + ICC_SGI1R::TargetList.val(1 << (level(0) & 15)))
    .value
}

/// Adds the redistributors of a region. More than there is room for are left out: their CPUs will not
/// find them and say so.
///
/// # Safety
///
/// The range is a region of GICv3 redistributors, mapped one to one as Device memory from now on.
unsafe fn walk(
    region: PaRange,
    found: &mut ArrayVec<(u32, Mmio<Redistributor>), MAX_REDISTRIBUTORS>,
) -> Result<(), Error> {
    const TWO_FRAMES: u64 = size_of::<Redistributor>() as u64;
    let first = address_of::<Redistributor>(region)?;
    let mut offset = 0;
    while offset + TWO_FRAMES <= region.size() {
        // SAFETY: inside the region by the condition of the loop, aligned as the first is, since the
        // steps are multiples of 128 KiB.
        let redistributor: Mmio<Redistributor> = unsafe { Mmio::new(first + offset as usize) };
        let typer = redistributor.typer.extract();
        let affinity = typer.read(GICR_TYPER::Affinity) as u32;
        if found.try_push((affinity, redistributor)).is_err() || typer.is_set(GICR_TYPER::Last) {
            break;
        }
        offset += if typer.is_set(GICR_TYPER::VLPIS) {
            2 * TWO_FRAMES
        } else {
            TWO_FRAMES
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_packs_level_3_beside_the_others() {
        assert_eq!(affinity(0x8000_0000), 0);
        assert_eq!(affinity(0x12_c134_5678), 0x1234_5678);
    }

    #[test]
    fn sgi_target_has_one_bit_in_the_list_of_sixteen() {
        assert_eq!(sgi_target(0), 1);
        assert_eq!(sgi_target(0x0000_0103), 1 << 16 | 1 << 3);
        assert_eq!(
            sgi_target(0x0403_0215),
            4 << 48 | 3 << 32 | 2 << 16 | 1 << 44 | 1 << 5
        );
    }
}
