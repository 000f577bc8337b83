//! System registers: what is shown, what is hidden, what is trapped (xen-arm-guest-environment
//! sections 8 and 9).

use crate::check::{Outcome, check, equal, fail};
use crate::raw;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use core::time::Duration;
use runtime::{
    cpu, exception,
    gic::{self, Gic, Target},
    interrupt, memory, timer,
};

fn read(
    name: &str,
    op0: u32,
    op1: u32,
    crn: u32,
    crm: u32,
    op2: u32,
) -> Result<u64, crate::check::Trouble> {
    match raw::execute(raw::mrs(op0, op1, crn, crm, op2), 0) {
        Ok(value) => Ok(value),
        Err(fault) => fail!("reading {name}: {fault}"),
    }
}

fn write(name: &str, op0: u32, op1: u32, crn: u32, crm: u32, op2: u32, value: u64) -> Outcome {
    match raw::execute(raw::msr(op0, op1, crn, crm, op2), value) {
        Ok(_) => Ok(()),
        Err(fault) => fail!("writing {name}: {fault}"),
    }
}

fn field(value: u64, lowest: u32) -> u64 {
    value >> lowest & 0xf
}

/// Fields of feature registers that no guest sees: name, CRm, op2, lowest bit.
const HIDDEN: &[(&str, u32, u32, u32)] = &[
    ("PFR0.EL2", 4, 0, 8),
    ("PFR0.EL3", 4, 0, 12),
    ("PFR0.RAS", 4, 0, 28),
    ("PFR0.SVE", 4, 0, 32),
    ("PFR0.SEL2", 4, 0, 36),
    ("PFR0.MPAM", 4, 0, 40),
    ("PFR0.AMU", 4, 0, 44),
    ("PFR0.RME", 4, 0, 52),
    ("PFR1.MTE", 4, 1, 8),
    ("PFR1.SME", 4, 1, 24),
    ("PFR1.NMI", 4, 1, 36),
    ("PFR1.GCS", 4, 1, 44),
    ("PFR1.THE", 4, 1, 48),
    ("DFR0.TraceVer", 5, 0, 4),
    ("DFR0.PMUVer", 5, 0, 8),
    ("DFR0.PMSVer", 5, 0, 32),
    ("DFR0.TraceFilt", 5, 0, 40),
    ("DFR0.TraceBuffer", 5, 0, 44),
    ("DFR0.BRBE", 5, 0, 52),
    ("ISAR0.TME", 6, 0, 24),
    ("ISAR1.APA", 6, 1, 4),
    ("ISAR1.API", 6, 1, 8),
    ("ISAR1.GPA", 6, 1, 24),
    ("ISAR1.GPI", 6, 1, 28),
    ("ISAR1.XS", 6, 1, 56),
    ("ISAR1.LS64", 6, 1, 60),
    ("ISAR2.WFxT", 6, 2, 0),
    ("ISAR2.GPA3", 6, 2, 8),
    ("ISAR2.APA3", 6, 2, 12),
    ("ISAR2.MOPS", 6, 2, 16),
    ("MMFR0.FGT", 7, 0, 56),
    ("MMFR0.ECV", 7, 0, 60),
    ("MMFR1.VH", 7, 1, 8),
    ("MMFR1.LO", 7, 1, 16),
    ("MMFR1.TWED", 7, 1, 32),
    ("MMFR1.HCX", 7, 1, 40),
    ("MMFR2.NV", 7, 2, 24),
    ("MMFR2.FWB", 7, 2, 40),
    ("MMFR2.BBM", 7, 2, 52),
    ("MMFR2.EVT", 7, 2, 56),
];

/// Feature registers that are empty: ZFR0, SMFR0, ISAR3, MMFR3, MMFR4; PFR2, FPFR0.
const EMPTY: [(u32, u32); 7] = [(4, 4), (4, 5), (6, 3), (7, 3), (7, 4), (4, 2), (4, 7)];

/// Features that the hypervisor does not carry for a guest are not shown.
pub(crate) fn registers() -> Outcome {
    for &(name, crm, op2, lowest) in HIDDEN {
        let value = read(name, 3, 0, 0, crm, op2)?;
        equal!(field(value, lowest), 0, "ID_AA64{name} in {value:#x}");
    }
    for (crm, op2) in EMPTY {
        equal!(
            read("an empty one", 3, 0, 0, crm, op2)?,
            0,
            "S3_0_C0_C{crm}_{op2}"
        );
    }
    let pfr0 = read("ID_AA64PFR0_EL1", 3, 0, 0, 4, 0)?;
    equal!(field(pfr0, 4), 1, "EL1 in ID_AA64PFR0_EL1 {pfr0:#x}");
    check!(field(pfr0, 56) <= 1, "CSV2 in ID_AA64PFR0_EL1 {pfr0:#x}");
    match gic::driver() {
        Some(Gic::V2(_)) => equal!(field(pfr0, 24), 0, "GIC in ID_AA64PFR0_EL1"),
        Some(Gic::V3(_)) => check!(field(pfr0, 24) >= 1, "no GIC in ID_AA64PFR0_EL1 {pfr0:#x}"),
        None => {}
    }
    let mmfr0 = read("ID_AA64MMFR0_EL1", 3, 0, 0, 7, 0)?;
    check!(
        field(mmfr0, 0) <= 2,
        "PARange in ID_AA64MMFR0_EL1 {mmfr0:#x}"
    );
    check!(
        field(mmfr0, 20) <= 1 && field(mmfr0, 28) != 1,
        "52-bit granules in ID_AA64MMFR0_EL1 {mmfr0:#x}"
    );
    check!(read("MIDR_EL1", 3, 0, 0, 0, 0)? != 0, "MIDR_EL1 is 0");
    check!(
        read("MPIDR_EL1", 3, 0, 0, 0, 5)? & 1 << 31 != 0,
        "MPIDR_EL1 bit 31 is 0"
    );
    Ok(())
}

/// The whole ID space can be read: reserved places are zero, not undefined.
pub(crate) fn space() -> Outcome {
    for crm in 1..8 {
        for op2 in 0..8 {
            read("the ID space", 3, 0, 0, crm, op2)?;
        }
    }
    for (name, op1, crm, op2) in [
        ("CTR_EL0", 3, 0, 1),
        ("DCZID_EL0", 3, 0, 7),
        ("CLIDR_EL1", 1, 0, 1),
        ("CCSIDR_EL1", 1, 0, 0),
    ] {
        read(name, 3, op1, 0, crm, op2)?;
    }
    Ok(())
}

/// Debug and performance registers are there and empty; what nobody defined is undefined.
pub(crate) fn trapped() -> Outcome {
    let actlr = read("ACTLR_EL1", 3, 0, 1, 0, 1)?;
    write("ACTLR_EL1", 3, 0, 1, 0, 1, !actlr)?;
    equal!(
        read("ACTLR_EL1", 3, 0, 1, 0, 1)?,
        actlr,
        "ACTLR_EL1 after a write"
    );

    write("OSLAR_EL1", 2, 0, 1, 0, 4, 0)?;
    write("OSDLR_EL1", 2, 0, 1, 3, 4, 0)?;
    equal!(read("OSLSR_EL1", 2, 0, 1, 1, 4)?, 8, "OSLSR_EL1");
    write("MDSCR_EL1", 2, 0, 0, 2, 2, 0x8000)?;
    equal!(read("MDSCR_EL1", 2, 0, 0, 2, 2)?, 0, "MDSCR_EL1");
    write("DBGBCR0_EL1", 2, 0, 0, 0, 5, 1)?;
    equal!(read("DBGBCR0_EL1", 2, 0, 0, 0, 5)?, 0, "DBGBCR0_EL1");
    equal!(read("MDRAR_EL1", 2, 0, 1, 0, 0)?, 0, "MDRAR_EL1");

    write("PMCR_EL0", 3, 3, 9, 12, 0, 1)?;
    equal!(read("PMCR_EL0", 3, 3, 9, 12, 0)?, 0, "PMCR_EL0");
    equal!(read("PMCCNTR_EL0", 3, 3, 9, 13, 0)?, 0, "PMCCNTR_EL0");
    write("PMUSERENR_EL0", 3, 3, 9, 14, 0, 0)?;
    equal!(read("PMUSERENR_EL0", 3, 3, 9, 14, 0)?, 0, "PMUSERENR_EL0");

    for (name, instruction) in [
        (
            "an implementation defined register",
            raw::mrs(3, 0, 15, 7, 3),
        ),
        ("HCR_EL2", raw::mrs(3, 4, 1, 1, 0)),
        ("VTTBR_EL2", raw::mrs(3, 4, 2, 1, 0)),
        ("SCR_EL3", raw::mrs(3, 6, 1, 1, 0)),
        // Of features that guests do not have, whatever the CPU has.
        ("LORC_EL1", raw::mrs(3, 0, 10, 4, 3)),
        ("LORID_EL1", raw::mrs(3, 0, 10, 4, 7)),
        ("PMSCR_EL1", raw::mrs(3, 0, 9, 9, 0)),
        ("PMSIDR_EL1", raw::mrs(3, 0, 9, 9, 7)),
        ("TRBLIMITR_EL1", raw::mrs(3, 0, 9, 11, 0)),
        ("TRFCR_EL1", raw::mrs(3, 0, 1, 2, 1)),
        ("ERRIDR_EL1", raw::mrs(3, 0, 5, 3, 0)),
        ("SCXTNUM_EL1", raw::mrs(3, 0, 13, 0, 7)),
        ("APIAKeyLo_EL1", raw::mrs(3, 0, 2, 1, 0)),
        ("AMCR_EL0", raw::mrs(3, 3, 13, 2, 0)),
        ("GCR_EL1", raw::mrs(3, 0, 1, 0, 6)),
        ("TCR2_EL1", raw::mrs(3, 0, 2, 0, 3)),
        ("PIR_EL1", raw::mrs(3, 0, 10, 2, 3)),
        ("TPIDR2_EL0", raw::mrs(3, 3, 13, 0, 5)),
    ] {
        match raw::execute(instruction, 0) {
            Err(fault) => equal!(fault.class(), 0, "exception class of reading {name}"),
            Ok(value) => fail!("{name} could be read: {value:#x}"),
        }
    }
    Ok(())
}

const DC_ISW: u32 = 0xd508_7640;
const DC_CISW: u32 = 0xd508_7e40;
const DC_CSW: u32 = 0xd508_7a40;

/// Operands for every way and set of two levels, as large as a Cortex-A72 has them.
fn sets_and_ways() -> impl Iterator<Item = u64> {
    let levels = [(0, 2, 256, 31), (1, 16, 2048, 28)];
    levels.into_iter().flat_map(|(level, ways, sets, shift)| {
        (0..ways).flat_map(move |way: u64| {
            (0..sets).map(move |set: u64| way << shift | set << 6 | level << 1)
        })
    })
}

/// Cache maintenance by set and way works, and a loop over all of it comes to an end: one turn over this
/// guest's RAM, not one for each of its 33,000 instructions.
pub(crate) fn set_way() -> Outcome {
    for instruction in [DC_ISW, DC_CSW, DC_CISW] {
        let start = timer::now();
        for operand in sets_and_ways() {
            if let Err(fault) = raw::execute(instruction, operand) {
                fail!("{instruction:#x}: {fault}");
            }
        }
        let took = timer::duration(timer::now() - start);
        check!(took < Duration::from_secs(10), "a loop took {took:?}");
    }
    Ok(())
}

/// What a trapped read gives arrives, also when another vCPU is switched in at that very exit. With more
/// vCPUs than CPUs it is: CPU 1 wakes those after it each time that CPU 0 has used up a slice.
pub(crate) fn switched() -> Outcome {
    const WAKE: u32 = 1;
    fn wake() {
        for index in 2..cpu::count() {
            gic::send(WAKE, Target::Cpu(index));
        }
    }
    let over = Arc::new(AtomicBool::new(false));
    let theirs = over.clone();
    interrupt::on(WAKE, |_| {});
    let outcome = super::smp::everywhere(
        move |index| {
            gic::enable(WAKE);
            if index > 1 {
                return cpu::wait_until(|| theirs.load(SeqCst));
            }
            while !theirs.load(SeqCst) {
                timer::spin(Duration::from_millis(12));
                wake();
            }
            wake();
        },
        || {
            let end = timer::now() + timer::ticks(Duration::from_millis(400));
            let mut lost = 0;
            while lost == 0 && timer::now() < end {
                lost = raw::lost_by_traps();
            }
            over.store(true, SeqCst);
            equal!(lost, 0, "registers that lost what was read, by number");
            Ok(())
        },
    );
    interrupt::off(WAKE);
    outcome
}

/// After such a loop the caches go off and on, and registers of stage 1 are written: all of it arrives, and
/// memory stays what it is.
pub(crate) fn set_way_caches() -> Outcome {
    let place = memory::spare().end - 8;
    let written = [
        ("TTBR1_EL1", 2, 0, 1),
        ("ESR_EL1", 5, 2, 0),
        ("AFSR0_EL1", 5, 1, 0),
        ("FAR_EL1", 6, 0, 0),
        ("MAIR_EL1", 10, 2, 0),
        ("CONTEXTIDR_EL1", 13, 0, 1),
        ("TCR_EL1", 2, 0, 2),
        ("TTBR0_EL1", 2, 0, 0),
    ];
    for round in 0..3 {
        if let Err(fault) = raw::store64(place, round) {
            fail!("store: {fault}");
        }
        cpu::masked(|| {
            raw::execute(DC_CISW, round << 6).ok();
            let control = read("SCTLR_EL1", 3, 0, 1, 0, 0)?;
            let off = control & !(1 << 2);
            write("SCTLR_EL1", 3, 0, 1, 0, 0, off)?;
            let seen = read("SCTLR_EL1", 3, 0, 1, 0, 0);
            for (name, crn, crm, op2) in written {
                let value = read(name, 3, 0, crn, crm, op2)?;
                write(name, 3, 0, crn, crm, op2, value)?;
                equal!(read(name, 3, 0, crn, crm, op2)?, value, "{name}");
            }
            write("CONTEXTIDR_EL1", 3, 0, 13, 0, 1, 0x1234)?;
            equal!(
                read("CONTEXTIDR_EL1", 3, 0, 13, 0, 1)?,
                0x1234,
                "CONTEXTIDR_EL1"
            );
            write("SCTLR_EL1", 3, 0, 1, 0, 0, control)?;
            equal!(seen?, off, "SCTLR_EL1 with the cache off");
            equal!(read("SCTLR_EL1", 3, 0, 1, 0, 0)?, control, "SCTLR_EL1");
            write("CONTEXTIDR_EL1", 3, 0, 13, 0, 1, 0)
        })?;
        equal!(exception::load64(place), Ok(round), "memory");
    }
    raw::store64(place, 0).ok();
    Ok(())
}
