//! The feature registers that a guest reads: what the CPU has, less what does not work here.
//!
//! The list names what is shown, not what is hidden, so that a feature of a later CPU stays out until
//! somebody has looked at it. Not shown are: what EL2 traps or does not switch (SVE, SME, MTE, pointer
//! authentication, MPAM, AMU, PMU, trace, statistical profiling, MOPS, TCR2, WFIT), other exception levels
//! (EL2, EL3, nested virtualisation), RAS, and tables for wider addresses than stage 2 takes.
//!
//! In the masks each hexadecimal digit is one field of the register, least significant last
//! (Arm DDI 0487, D24.2 "ID_AA64..." and G8.2 "ID_...").

use super::{Encoding, GicInterface, Host};

/// Physical addresses that a guest may use, as `ID_AA64MMFR0_EL1.PARange` has it: 40 bits.
const PHYSICAL_40_BITS: u64 = 2;
/// `ID_AA64DFR0_EL1`: Armv8 debug, two breakpoints and two watchpoints (the architecture's least, and
/// ours have no effect), no trace, no PMU, no profiling.
const DEBUG_FEATURES: u64 = 0x0010_1006;

/// `DBGDIDR`, the same as AArch32 has it (Arm DDI 0487, G8.3.17): breakpoints, watchpoints and version.
pub(crate) const fn breakpoint_identity() -> u64 {
    let (watchpoints, breakpoints) = (digit(DEBUG_FEATURES, 20), digit(DEBUG_FEATURES, 12));
    let (contexts, version) = (digit(DEBUG_FEATURES, 28), digit(DEBUG_FEATURES, 0));
    watchpoints << 28 | breakpoints << 24 | contexts << 20 | version << 16 | 1 << 15
}

/// All of them, by CRm * 8 + op2.
pub(super) fn registers(host: &impl Host, gic: GicInterface) -> [u64; 64] {
    let read = |crm, op2| host.identity(Encoding::new(3, 0, 0, crm, op2));
    // Without AArch32 its registers hold nothing of meaning.
    let aarch32 = read(4, 0) & 0xf == 2;
    let mut registers = [0; 64];
    for (register, index) in registers.iter_mut().zip(0_u32..) {
        let (crm, op2) = (index >> 3, index & 7);
        let shown = mask(crm, op2);
        // Reserved numbers, and all that is not shown, are not even read.
        if shown != 0 && (crm > 3 || aarch32) {
            *register = adjust(crm, op2, read(crm, op2) & shown, gic);
        }
        if (crm, op2) == (5, 0) {
            *register = DEBUG_FEATURES;
        }
    }
    registers
}

/// The fields that are shown of the register with this CRm and op2.
const fn mask(crm: u32, op2: u32) -> u64 {
    match (crm, op2) {
        // ID_PFR0: not RAS, AMU, ThumbEE.
        (1, 0) => 0x0f0f_0fff,
        // ID_PFR1: not the security and virtualisation extensions; GIC is set below.
        (1, 1) => 0x000f_000f,
        // ID_DFR0: debug by coprocessor registers only.
        (1, 2) => 0xf,
        // ID_MMFR0 to 3, ID_ISAR0 to 5, ID_MMFR4, ID_ISAR6, MVFR0 to 2.
        (1, 4..=7) | (2, _) | (3, 0..=2) => 0xffff_ffff,
        // ID_PFR2: CSV3, SSBS. ID_MMFR5: ETS, nTLBPA.
        (3, 4 | 6) => 0xff,
        // ID_AA64PFR0: CSV3, CSV2, DIT, AdvSIMD, FP, EL0.
        (4, 0) => 0xff0f_0000_00ff_000f,
        // ID_AA64PFR1: SSBS, BT.
        (4, 1) => 0xff,
        // ID_AA64ISAR0: all but TME.
        (6, 0) => 0xffff_ffff_f0ff_fff0,
        // ID_AA64ISAR1: all but LS64, XS and pointer authentication.
        (6, 1) => 0x00ff_ffff_00ff_f00f,
        // ID_AA64ISAR2: CSSC, CLRBHB, BC, RPRES.
        (6, 2) => 0x00f0_0000_f0f0_00f0,
        // ID_AA64MMFR0: ExS, the granules, big endian, ASID bits, PARange.
        (7, 0) => 0x0000_f000_ffff_0fff,
        // ID_AA64MMFR1: ECBHB, nTLBPA, AFP, ETS, SpecSEI, PAN, HPDS, HAFDBS.
        (7, 1) => 0xf00f_f0f0_0ff0_f00f,
        // ID_AA64MMFR2: all but EVT, FWB, NV, IESB.
        (7, 2) => 0xf0ff_00ff_f0ff_0fff,
        _ => 0,
    }
}

/// Fields that are shown, but not with the CPU's value.
fn adjust(crm: u32, op2: u32, value: u64, gic: GicInterface) -> u64 {
    let system_registers = u64::from(gic == GicInterface::SystemRegisters);
    match (crm, op2) {
        // GIC.
        (1, 1) => value | system_registers << 28,
        // EL1 is AArch64 only. CSV2 of more than 1 brings SCXTNUM registers, which are not switched.
        (4, 0) => at_most(value, 56, 1) | 1 << 4 | system_registers << 24,
        // The granules without the 52-bit formats of LPA2 (4 KiB: 0; 16 KiB: 1; 15 means none).
        (7, 0) => {
            let value = at_most(value, 0, PHYSICAL_40_BITS);
            let value = if digit(value, 28) == 1 {
                with(value, 28, 0)
            } else {
                value
            };
            if digit(value, 20) == 2 {
                with(value, 20, 1)
            } else {
                value
            }
        }
        // Access and dirty flags in page descriptors, not their later additions.
        (7, 1) => at_most(value, 0, 2),
        // Virtual addresses of 52 bits with 64 KiB granules at most.
        (7, 2) => at_most(value, 16, 1),
        _ => value,
    }
}

const fn digit(value: u64, offset: u32) -> u64 {
    value.wrapping_shr(offset) & 0xf
}

const fn with(value: u64, offset: u32, field: u64) -> u64 {
    value & !0xf_u64.wrapping_shl(offset) | field.wrapping_shl(offset)
}

const fn at_most(value: u64, offset: u32, most: u64) -> u64 {
    if digit(value, offset) > most {
        with(value, offset, most)
    } else {
        value
    }
}
