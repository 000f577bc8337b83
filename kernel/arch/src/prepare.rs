//! What is the same for every guest on a CPU, set once.

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    CNTHCTL_EL2, CNTV_CTL_EL0, CPTR_EL2, HCR_EL2, ID_AA64MMFR0_EL1, MDCR_EL2, MDSCR_EL1, MIDR_EL1,
    VTCR_EL2, VTTBR_EL2,
};
use tock_registers::interfaces::{Readable, Writeable};

use crate::context::stop_translations;
use crate::registers::{
    CNTHCTL, CPTR, HCRX_EL2, HDFGRTR_EL2, HDFGWTR_EL2, HFGITR_EL2, HFGRTR_EL2, HFGWTR_EL2, HSTR,
    HSTR_EL2, ID_AA64DFR0_EL1, PMCR_EL0, VPIDR_EL2, VSESR_EL2, hypervisor_configuration, identity,
    monitor_debug,
};
use crate::vectors;

/// Sets what is the same for every guest on this CPU, and the vectors. Once per CPU.
pub fn prepare_cpu() {
    vectors::install();
    // Counters that EL2 leaves to EL1 (HPMN); accesses trap all the same.
    let monitors = ID_AA64DFR0_EL1.get() >> 8 & 0xf;
    let counters = if monitors == 0 || monitors == 0xf {
        0
    } else {
        PMCR_EL0.get() >> 11 & 0x1f
    };
    MDCR_EL2.set(monitor_debug(ID_AA64DFR0_EL1.get()) | counters);
    CPTR_EL2.set(CPTR);
    HSTR_EL2.set(HSTR);
    CNTHCTL_EL2.set(CNTHCTL);
    VPIDR_EL2.set(MIDR_EL1.get());
    set_ipa_bits(memory::IPA_BITS);
    // What EL1's registers hold after a reset is unknown, and no stage 2 is there yet to go through.
    stop_translations();
    VTTBR_EL2.set(0);
    // No guest writes it, since it traps: no single step, breakpoint or debug channel of before.
    MDSCR_EL1.set(0);
    barrier::isb(barrier::SY);
    HCR_EL2.set(hypervisor_configuration(identity(4, 0), identity(7, 1)));
    prepare_extensions();
    CNTV_CTL_EL0.set(0);
    barrier::isb(barrier::SY);
}

/// Sets how many bits of address the guests' second stages have, 39 or 40: before the CPU runs one, so that nothing is
/// cached of any, and the entry of the first is the context synchronization that it needs.
pub fn set_ipa_bits(bits: u32) {
    // So many bits of input, start at level 1 (with 40 at two concatenated roots), write-back inner shareable walks, 4
    // KiB, 8-bit VMID, output as wide as the CPU's (DDI 0487 D24.2.193).
    let output = (ID_AA64MMFR0_EL1.get() & 0xf).min(5);
    let input = u64::from(64_u32.wrapping_sub(bits) & 0x3f);
    VTCR_EL2.set(input | 1 << 6 | 1 << 8 | 1 << 10 | 3 << 12 | output << 16 | 1 << 31);
}

/// Sets what only newer CPUs have, and what a reset leaves unknown: no trap that works by a one, and every trap that
/// works by a zero, among them those of registers that no switch carries (`TPIDR2_EL0`, `PIR_EL1` and more).
fn prepare_extensions() {
    let field = |crm, op2, lowest: u32| identity(crm, op2) >> lowest & 0xf;
    if field(7, 1, 40) != 0 {
        HCRX_EL2.set(0);
    }
    if field(7, 0, 56) != 0 {
        HFGRTR_EL2.set(0);
        HFGWTR_EL2.set(0);
        HFGITR_EL2.set(0);
        HDFGRTR_EL2.set(0);
        HDFGWTR_EL2.set(0);
    }
    // RAS.
    if field(4, 0, 28) != 0 {
        VSESR_EL2.set(0);
    }
}
