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

/// Features that the hypervisor does not carry for a guest are not shown.
pub(crate) fn registers() -> Outcome {
    let pfr0 = read("ID_AA64PFR0_EL1", 3, 0, 0, 4, 0)?;
    for (name, lowest) in [("RAS", 28), ("SVE", 32), ("MPAM", 40), ("AMU", 44)] {
        equal!(field(pfr0, lowest), 0, "{name} in ID_AA64PFR0_EL1");
    }
    check!(
        field(pfr0, 4) >= 1,
        "no AArch64 at EL1 in ID_AA64PFR0_EL1 {pfr0:#x}"
    );
    match gic::driver() {
        Some(Gic::V2(_)) => equal!(field(pfr0, 24), 0, "GIC in ID_AA64PFR0_EL1"),
        Some(Gic::V3(_)) => check!(field(pfr0, 24) >= 1, "no GIC in ID_AA64PFR0_EL1 {pfr0:#x}"),
        None => {}
    }
    let pfr1 = read("ID_AA64PFR1_EL1", 3, 0, 0, 4, 1)?;
    for (name, lowest) in [("MTE", 8), ("SME", 24)] {
        equal!(field(pfr1, lowest), 0, "{name} in ID_AA64PFR1_EL1");
    }
    let isar1 = read("ID_AA64ISAR1_EL1", 3, 0, 0, 6, 1)?;
    for (name, lowest) in [("APA", 4), ("API", 8), ("GPA", 24), ("GPI", 28)] {
        equal!(field(isar1, lowest), 0, "{name} in ID_AA64ISAR1_EL1");
    }
    let dfr0 = read("ID_AA64DFR0_EL1", 3, 0, 0, 5, 0)?;
    equal!(field(dfr0, 8), 0, "PMUVer in ID_AA64DFR0_EL1");
    let mmfr0 = read("ID_AA64MMFR0_EL1", 3, 0, 0, 7, 0)?;
    check!(
        field(mmfr0, 0) <= 2,
        "PARange in ID_AA64MMFR0_EL1 {mmfr0:#x}"
    );
    equal!(
        read("ID_AA64ZFR0_EL1", 3, 0, 0, 4, 4)?,
        0,
        "ID_AA64ZFR0_EL1"
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
