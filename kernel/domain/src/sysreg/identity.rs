//! The feature registers that a guest reads: what the CPU has, less what does not work here.
//!
//! The table has every field of every register that is not 0 as a whole, lowest first (Arm DDI 0487, D24.2 "ID_AA64..."
//! and G8.2 "ID_...", issue L.a; fields that came later are RES0 there). A field is shown if what it promises works in a
//! guest: instructions and address translation of EL1 and EL0 that need nothing of EL2, and state that a vCPU switch
//! carries (`arch::context`). Hidden are what EL2 traps or does not carry, other exception levels, and what nobody has
//! looked at yet. A hidden field reads 0, which says "not there" in every one of them.

use super::{Encoding, GicInterface, Host};
use Rule::{AtMost, Fixed, Gic, Granule4, Hidden, Shown};

/// How a guest sees a field of four bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// As 0.
    Hidden,
    /// As the CPU has it.
    Shown,
    /// The same, but no more than this. Only for fields in which more is always a greater number.
    AtMost(u8),
    /// As this, whatever the CPU has.
    Fixed(u8),
    /// As 1 if the guest has a GIC with system registers.
    Gic,
    /// Granules of 4 KiB: without the 52-bit formats (1); 0 and 15 (none) as they are.
    Granule4,
}

/// A register's fields, the lowest first.
type Fields = [Rule; 16];

/// The fields of the 32-bit registers that AArch32 has, too.
const fn low([a, b, c, d, e, f, g, h]: [Rule; 8]) -> Fields {
    let mut fields = [Hidden; 16];
    [
        fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], fields[6], fields[7],
    ] = [a, b, c, d, e, f, g, h];
    fields
}

/// A 32-bit register that is shown whole.
const ALL_LOW: Fields = low([Shown; 8]);

/// By CRm and op2. Registers that are not here read as 0: ID_AFR0, ID_DFR1; ID_AA64PFR2, ZFR0, SMFR0, FPFR0, DFR1, DFR2,
/// AFR0, AFR1, ISAR3, MMFR3, MMFR4; and all reserved numbers.
#[rustfmt::skip]
const TABLE: [(u32, u32, Fields); 29] = [
    // ID_PFR0_EL1
    (1, 0, low([
        Shown,     // State0: A32
        Shown,     // State1: T32
        Shown,     // State2: Jazelle, trivial
        Hidden,    // State3: T32EE
        AtMost(1), // CSV2: 2 brings SCXTNUM registers
        Hidden,    // AMU: CPTR_EL2.TAM
        Shown,     // DIT
        Hidden,    // RAS
    ])),
    // ID_PFR1_EL1. EL1 has no AArch32, which five of these fields are about.
    (1, 1, low([
        Hidden,    // ProgMod
        Hidden,    // Security
        Hidden,    // MProgMod
        Hidden,    // Virtualization
        Shown,     // GenTimer
        Hidden,    // Sec_frac
        Hidden,    // Virt_frac
        Gic,       // GIC
    ])),
    // ID_DFR0_EL1
    (1, 2, low([
        AtMost(6), // CopDbg: Armv8, as ID_AA64DFR0 has it
        Hidden,    // CopSDbg
        Hidden,    // MMapDbg
        Hidden,    // CopTrc: CPTR_EL2.TTA
        Hidden,    // MMapTrc
        Hidden,    // MProfDbg
        Hidden,    // PerfMon: MDCR_EL2.TPM
        Hidden,    // TraceFilt: MDCR_EL2.TTRF
    ])),
    // ID_MMFR0_EL1 to ID_MMFR3_EL1: memory as EL1 would see it
    (1, 4, ALL_LOW),
    (1, 5, ALL_LOW),
    (1, 6, ALL_LOW),
    (1, 7, ALL_LOW),
    // ID_ISAR0_EL1 to ID_ISAR5_EL1: instructions
    (2, 0, ALL_LOW),
    (2, 1, ALL_LOW),
    (2, 2, ALL_LOW),
    (2, 3, ALL_LOW),
    (2, 4, ALL_LOW),
    (2, 5, ALL_LOW),
    // ID_MMFR4_EL1
    (2, 6, low([
        Shown,     // SpecSEI
        Shown,     // AC2: ACTLR2, of EL1
        Hidden,    // XNX: stage 2
        Shown,     // CnP
        Shown,     // HPDS
        Shown,     // LSM
        Shown,     // CCIDX
        Hidden,    // EVT: traps of EL2
    ])),
    // ID_ISAR6_EL1: instructions
    (2, 7, ALL_LOW),
    // MVFR0_EL1 to MVFR2_EL1: floating point, which is carried
    (3, 0, ALL_LOW),
    (3, 1, ALL_LOW),
    (3, 2, ALL_LOW),
    // ID_PFR2_EL1
    (3, 4, low([
        Shown,     // CSV3
        Shown,     // SSBS: in PSTATE
        Hidden,    // RAS_frac
        Hidden, Hidden, Hidden, Hidden, Hidden,
    ])),
    // ID_MMFR5_EL1
    (3, 6, low([
        Shown,     // ETS
        Shown,     // nTLBPA
        Hidden, Hidden, Hidden, Hidden, Hidden, Hidden,
    ])),
    // ID_AA64PFR0_EL1
    (4, 0, [
        Shown,     // EL0: AArch32 too, where the CPU can
        Fixed(1),  // EL1: AArch64 only (HCR_EL2.RW)
        Hidden,    // EL2
        Hidden,    // EL3
        Shown,     // FP
        Shown,     // AdvSIMD
        Gic,       // GIC
        Hidden,    // RAS: HCR_EL2.TERR
        Hidden,    // SVE: CPTR_EL2.TZ
        Hidden,    // SEL2
        Hidden,    // MPAM
        Hidden,    // AMU: CPTR_EL2.TAM
        Shown,     // DIT: in PSTATE
        Hidden,    // RME
        AtMost(1), // CSV2: 2 and 3 bring SCXTNUM registers (HCR_EL2.EnSCXT)
        Shown,     // CSV3
    ]),
    // ID_AA64PFR1_EL1
    (4, 1, [
        Shown,     // BT: in PSTATE, SCTLR_EL1 and the guest's tables
        Shown,     // SSBS: in PSTATE
        Hidden,    // MTE: HCR_EL2.ATA
        Hidden,    // RAS_frac
        Hidden,    // MPAM_frac
        Hidden,    // RES0
        Hidden,    // SME: CPTR_EL2.TSM
        Hidden,    // RNDR_trap: of EL3
        AtMost(1), // CSV2_frac: 2 brings SCXTNUM registers
        Hidden,    // NMI: HCRX_EL2.TALLINT, and our GIC has none
        Hidden,    // MTE_frac
        Hidden,    // GCS: HCRX_EL2.GCSEn
        Hidden,    // THE: RCWMASK registers
        Hidden,    // MTEX
        Hidden,    // DF2
        Hidden,    // PFAR: a register that is not carried
    ]),
    // ID_AA64DFR0_EL1: debug registers that have no effect, the architecture's least of them
    (5, 0, [
        Fixed(6),  // DebugVer: Armv8
        Hidden,    // TraceVer: CPTR_EL2.TTA
        Hidden,    // PMUVer: MDCR_EL2.TPM
        Fixed(1),  // BRPs: two
        Hidden,    // PMSS
        Fixed(1),  // WRPs: two
        Hidden,    // SEBEP
        Hidden,    // CTX_CMPs: one
        Hidden,    // PMSVer: MDCR_EL2.TPMS, E2PB
        Hidden,    // DoubleLock: OSDLR is there, without effect
        Hidden,    // TraceFilt: MDCR_EL2.TTRF
        Hidden,    // TraceBuffer: MDCR_EL2.E2TB
        Hidden,    // MTPMU
        Hidden,    // BRBE: HDFGRTR_EL2
        Hidden,    // ExtTrcBuff
        Hidden,    // HPMN0
    ]),
    // ID_AA64ISAR0_EL1
    (6, 0, [
        Hidden,    // RES0
        Shown,     // AES
        Shown,     // SHA1
        Shown,     // SHA2
        Shown,     // CRC32
        Shown,     // Atomic
        Hidden,    // TME: transactions, which an exit would end
        Shown,     // RDM
        Shown,     // SHA3
        Shown,     // SM3
        Shown,     // SM4
        Shown,     // DP
        Shown,     // FHM
        Shown,     // TS: flags
        Shown,     // TLB: outer shareable, by range; of the guest's VMID
        Shown,     // RNDR
    ]),
    // ID_AA64ISAR1_EL1
    (6, 1, [
        Shown,     // DPB
        Hidden,    // APA: keys (HCR_EL2.APK, API)
        Hidden,    // API
        Shown,     // JSCVT
        Shown,     // FCMA
        Shown,     // LRCPC
        Hidden,    // GPA
        Hidden,    // GPI
        Shown,     // FRINTTS
        Shown,     // SB
        Shown,     // SPECRES: of the guest's VMID
        Shown,     // BF16
        Shown,     // DGH
        Shown,     // I8MM
        Hidden,    // XS: HCRX_EL2.FGTnXS, FnXS
        Hidden,    // LS64: HCRX_EL2.EnALS
    ]),
    // ID_AA64ISAR2_EL1
    (6, 2, [
        Hidden,    // WFxT: a trapped one waits without its time
        Shown,     // RPRES
        Hidden,    // GPA3: keys
        Hidden,    // APA3
        Hidden,    // MOPS: HCRX_EL2.MSCEn
        Shown,     // BC
        Hidden,    // PAC_frac
        Shown,     // CLRBHB
        Hidden,    // SYSREG_128
        Hidden,    // SYSINSTR_128
        Hidden,    // PRFMSLC
        Hidden,    // RES0
        Hidden,    // RPRFM
        Shown,     // CSSC
        Hidden,    // LUT
        Hidden,    // ATS1A
    ]),
    // ID_AA64MMFR0_EL1
    (7, 0, [
        AtMost(2), // PARange: 40 bits, what stage 2 takes
        Shown,     // ASIDBits
        Shown,     // BigEnd
        Hidden,    // SNSMem
        Shown,     // BigEndEL0
        AtMost(1), // TGran16: without the 52-bit formats (2)
        Shown,     // TGran64
        Granule4,  // TGran4
        Hidden,    // TGran16_2: stage 2
        Hidden,    // TGran64_2
        Hidden,    // TGran4_2
        Shown,     // ExS: in SCTLR_EL1
        Hidden,    // RES0
        Hidden,    // RES0
        Hidden,    // FGT
        Hidden,    // ECV: its views of the counters are not looked at yet
    ]),
    // ID_AA64MMFR1_EL1
    (7, 1, [
        AtMost(2), // HAFDBS: access and dirty flags of pages, not of tables (3)
        Hidden,    // VMIDBits
        Hidden,    // VH
        Shown,     // HPDS
        Hidden,    // LO: HCR_EL2.TLOR
        Shown,     // PAN
        Shown,     // SpecSEI
        Hidden,    // XNX: stage 2
        Hidden,    // TWED
        Shown,     // ETS
        Hidden,    // HCX
        Shown,     // AFP: in FPCR
        Shown,     // nTLBPA
        Hidden,    // TIDCP1
        Hidden,    // CMOW: HCRX_EL2.CMOW
        Shown,     // ECBHB
    ]),
    // ID_AA64MMFR2_EL1
    (7, 2, [
        Shown,     // CnP
        Shown,     // UAO: in PSTATE
        Shown,     // LSM
        Hidden,    // IESB
        AtMost(1), // VARange: 52 bits with granules of 64 KiB at most
        Shown,     // CCIDX: CCSIDR is the CPU's
        Hidden,    // NV
        Shown,     // ST
        Shown,     // AT
        Shown,     // IDS
        Hidden,    // FWB
        Hidden,    // RES0
        Shown,     // TTL
        Hidden,    // BBM: a TLB conflict may be reported to EL2, which gives an abort for it
        Hidden,    // EVT
        Shown,     // E0PD
    ]),
];

const fn place(crm: u32, op2: u32) -> usize {
    (crm << 3 | op2) as usize
}

/// All of them, by CRm * 8 + op2.
pub(super) fn registers(host: &impl Host, gic: GicInterface) -> [u64; 64] {
    let read = |crm, op2| host.identity(Encoding::new(3, 0, 0, crm, op2));
    // Without AArch32 its registers hold nothing of meaning.
    let aarch32 = digit(read(4, 0), 0) == 2;
    let mut registers = [0; 64];
    for (crm, op2, fields) in &TABLE {
        if (*crm > 3 || aarch32)
            && let Some(register) = registers.get_mut(place(*crm, *op2))
        {
            *register = shown(fields, read(*crm, *op2), gic);
        }
    }
    registers
}

fn shown(fields: &Fields, value: u64, gic: GicInterface) -> u64 {
    let mut register = 0;
    for (rule, lowest) in fields.iter().zip((0..64).step_by(4)) {
        let has = digit(value, lowest);
        let field = match rule {
            Hidden => 0,
            Shown => has,
            AtMost(most) => has.min(u64::from(*most)),
            Fixed(field) => u64::from(*field),
            Gic => u64::from(gic == GicInterface::SystemRegisters),
            Granule4 if has == 1 => 0,
            Granule4 => has,
        };
        register |= field.wrapping_shl(lowest);
    }
    register
}

const fn digit(value: u64, lowest: u32) -> u64 {
    value.wrapping_shr(lowest) & 0xf
}

/// `DBGDIDR`, which says the same as `ID_AA64DFR0_EL1` does (Arm DDI 0487, G8.3.17): two watchpoints, two breakpoints, one
/// with a context, Armv8; bit 15 is RES1.
pub(crate) const BREAKPOINT_IDENTITY: u64 = 0x1106_8000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn registers_stand_there_once() {
        let mut places: Vec<_> = TABLE
            .iter()
            .map(|(crm, op2, _)| place(*crm, *op2))
            .collect();
        let count = places.len();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), count);
        assert!(places.iter().all(|place| (8..64).contains(place)));
        for (crm, _, fields) in TABLE {
            assert!(crm > 3 || fields.iter().skip(8).all(|rule| *rule == Hidden));
        }
    }

    #[test]
    fn debug_is_told_alike() {
        let dfr0 = registers(&crate::sysreg::tests::Uniform(0), GicInterface::Memory)[place(5, 0)];
        let field = |lowest| digit(dfr0, lowest);
        let same = field(20) << 28 | field(12) << 24 | field(28) << 20 | field(0) << 16 | 1 << 15;
        assert_eq!(BREAKPOINT_IDENTITY, same);
    }

    proptest! {
        /// No guest sees a feature in a field that is hidden, nor more than a limit, whatever the CPU says.
        #[test]
        fn nothing_hidden_is_shown(value in any::<u64>(), v3 in any::<bool>()) {
            let gic = if v3 { GicInterface::SystemRegisters } else { GicInterface::Memory };
            let seen = registers(&crate::sysreg::tests::Uniform(value), gic);
            let aarch32 = value & 0xf == 2;
            for (index, register) in seen.iter().enumerate() {
                let row = TABLE.iter().find(|(crm, op2, _)| place(*crm, *op2) == index);
                let Some((crm, _, fields)) = row.filter(|row| row.0 > 3 || aarch32) else {
                    prop_assert_eq!(*register, 0);
                    continue;
                };
                for (rule, lowest) in fields.iter().zip((0..64).step_by(4)) {
                    let (field, has) = (digit(*register, lowest), digit(value, lowest));
                    match rule {
                        Hidden => prop_assert_eq!(field, 0, "{} {}", crm, lowest),
                        Shown => prop_assert_eq!(field, has),
                        AtMost(most) => prop_assert!(field <= u64::from(*most) && field <= has),
                        Fixed(fixed) => prop_assert_eq!(field, u64::from(*fixed)),
                        Gic => prop_assert_eq!(field, u64::from(v3)),
                        Granule4 => prop_assert!(field != 1),
                    }
                }
            }
        }
    }
}
