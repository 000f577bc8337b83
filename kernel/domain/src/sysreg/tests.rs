use super::*;
use proptest::prelude::*;

/// A CPU whose feature registers all hold the same.
pub(super) struct Uniform(pub(super) u64);

impl Host for Uniform {
    fn identity(&self, _register: Encoding) -> u64 {
        self.0
    }

    fn auxiliary_control(&self) -> u64 {
        0x5a
    }
}

/// A Cortex-A72 (its Technical Reference Manual, 4.2).
struct CortexA72;

impl Host for CortexA72 {
    fn identity(&self, register: Encoding) -> u64 {
        assert_eq!((register.op0(), register.op1(), register.crn()), (3, 0, 0));
        match (register.crm(), register.op2()) {
            (1, 0) => 0x131,
            (1, 1) => 0x1001_1011,
            (1, 2) => 0x0301_0066,
            (1, 4) => 0x1020_1105,
            (3, 0) => 0x1011_0222,
            (4, 0) => 0x2222,
            (5, 0) => 0x1030_5106,
            (6, 0) => 0x0001_1120,
            (7, 0) => 0x0000_1124,
            _ => 0,
        }
    }

    fn auxiliary_control(&self) -> u64 {
        0
    }
}

fn access(encoding: (u32, u32, u32, u32, u32), write: bool) -> SystemRegister {
    let (op0, op1, crn, crm, op2) = encoding;
    let esr = 0x6200_0000 | u64::from(Encoding::new(op0, op1, crn, crm, op2).0) | u64::from(!write);
    match crate::exit::Exit::decode(esr) {
        crate::exit::Exit::SystemRegister(access) => access,
        other => panic!("{other:?}"),
    }
}

fn v3() -> SystemRegisters {
    SystemRegisters::new(&Uniform(0), GicInterface::SystemRegisters)
}

#[test]
fn encodings_round_trip() {
    let encoding = Encoding::new(3, 0, 12, 11, 5);
    assert_eq!(encoding.to_string(), "S3_0_C12_C11_5");
    assert_eq!(Encoding::from_syndrome(encoding.0 | 0x3e1), encoding);
    assert_eq!(Encoding::new(2, 7, 15, 15, 7).op1(), 7);
}

#[test]
fn a_cortex_a72_shows_what_works() {
    for (gic, shown) in [
        (GicInterface::Memory, 0x0012),
        (GicInterface::SystemRegisters, 0x0100_0012),
    ] {
        let registers = SystemRegisters::new(&CortexA72, gic);
        for (crm, op2, value) in [
            (4, 0, shown),
            (5, 0, 0x0010_1006),
            (6, 0, 0x0001_1120),
            (7, 0, 0x0000_0122),
            (1, 0, 0x131),
            (
                1,
                1,
                if gic == GicInterface::Memory {
                    0x0001_0000
                } else {
                    0x1001_0000
                },
            ),
            (1, 2, 6),
            (1, 4, 0x1020_1105),
            (3, 0, 0x1011_0222),
            (4, 4, 0),
            (7, 7, 0),
        ] {
            assert_eq!(
                registers.access(access((3, 0, 0, crm, op2), false), Level::El1),
                Action::Value(value),
                "crm {crm} op2 {op2}"
            );
        }
    }
}

#[test]
fn a_cpu_with_everything_shows_no_more_than_the_list() {
    // Every field at 1, and AArch32 at EL0.
    let host = Uniform(0x1111_1111_1111_1112);
    let registers = SystemRegisters::new(&host, GicInterface::Memory);
    let read = |crm, op2| match registers.access(access((3, 0, 0, crm, op2), false), Level::El1) {
        Action::Value(value) => value,
        other => panic!("{other:?}"),
    };
    // CSV3, CSV2, DIT, AdvSIMD, FP; CSV2_frac; EL1 without AArch32; no RAS, SVE, MPAM, AMU, GIC.
    assert_eq!(read(4, 0), 0x1101_0000_0011_0012);
    assert_eq!(read(4, 1), 0x1_0000_0012);
    assert_eq!(read(4, 5), 0);
    assert_eq!(read(5, 1), 0);
    // No TME; no pointer authentication; 4 KiB granule without LPA2.
    assert_eq!(read(6, 0), 0x1111_1111_1011_1110);
    assert_eq!(read(6, 1), 0x0011_1111_0011_1002);
    assert_eq!(read(7, 0), 0x0000_1000_0111_0112);
    assert_eq!(read(7, 1), 0x1001_1010_0110_1002);
    assert_eq!(read(7, 3), 0);
    assert_eq!(read(1, 0), 0x0101_0112);
    assert_eq!(read(1, 1), 0x0001_0000);
    // No BBM, no EVT, no FWB, no NV, no IESB.
    assert_eq!(read(7, 2), 0x1001_0011_1011_0112);
    // MIDR's row does not trap; a number beyond the rows is nobody's.
    let beyond = registers.access(access((3, 0, 0, 8, 0), false), Level::El1);
    assert_eq!(beyond, Action::Undefined);
}

#[test]
fn fields_are_limited() {
    let limited = |value, crm, op2| {
        let registers = SystemRegisters::new(&Uniform(value), GicInterface::SystemRegisters);
        registers.access(access((3, 0, 0, crm, op2), false), Level::El1)
    };
    // 52-bit physical addresses, granules: 16 KiB with LPA2, 4 KiB none.
    assert_eq!(limited(0xf020_0006, 7, 0), Action::Value(0xf010_0002));
    assert_eq!(limited(0x3, 7, 1), Action::Value(2));
    assert_eq!(limited(0x2_0000, 7, 2), Action::Value(0x1_0000));
    assert_eq!(
        limited(0x0300_0000_0000_0001, 4, 0),
        Action::Value(0x0100_0000_0100_0011)
    );
    // No AArch32: its registers read 0 whatever they hold.
    assert_eq!(limited(0x1111_1111, 1, 0), Action::Value(0));
}

#[test]
fn accesses_do_what_the_table_says() {
    use Action::{Deactivate, Ignore, PhysicalTimer, SetWay, Sgi, StageOne, Undefined, Value};
    const READ: bool = false;
    const WRITE: bool = true;
    for (encoding, write, action) in [
        // Feature registers are read only.
        ((3, 0, 0, 4, 0), WRITE, Undefined),
        // ACTLR
        ((3, 0, 1, 0, 1), READ, Value(0x5a)),
        ((3, 0, 1, 0, 1), WRITE, Ignore),
        // DC ISW, CSW, CISW; others of the group.
        ((1, 0, 7, 6, 2), WRITE, SetWay),
        ((1, 0, 7, 10, 2), WRITE, SetWay),
        ((1, 0, 7, 14, 2), WRITE, SetWay),
        ((1, 0, 7, 6, 4), WRITE, Undefined),
        ((1, 0, 7, 6, 2), READ, Undefined),
        // DBGBVR0, DBGWCR15, MDSCR, MDRAR, OSLAR, OSLSR, OSDLR
        ((2, 0, 0, 0, 4), READ, Value(0)),
        ((2, 0, 0, 15, 7), WRITE, Ignore),
        ((2, 0, 0, 2, 2), READ, Value(0)),
        ((2, 0, 0, 2, 2), WRITE, Ignore),
        ((2, 0, 1, 0, 0), READ, Value(0)),
        ((2, 0, 1, 0, 0), WRITE, Undefined),
        ((2, 0, 1, 0, 4), WRITE, Ignore),
        ((2, 0, 1, 0, 4), READ, Undefined),
        ((2, 0, 1, 1, 4), READ, Value(8)),
        ((2, 0, 1, 1, 4), WRITE, Undefined),
        ((2, 0, 1, 3, 4), WRITE, Ignore),
        // MDCCSR_EL0, DBGDTR_EL0
        ((2, 3, 0, 1, 0), READ, Value(0)),
        ((2, 3, 0, 4, 0), READ, Undefined),
        // PMCR, PMCCFILTR, PMEVCNTR0, PMINTENSET, PMUSERENR
        ((3, 3, 9, 12, 0), READ, Value(0)),
        ((3, 3, 9, 12, 0), WRITE, Ignore),
        ((3, 3, 14, 15, 7), WRITE, Ignore),
        ((3, 3, 14, 8, 0), READ, Value(0)),
        ((3, 0, 9, 14, 1), WRITE, Ignore),
        ((3, 3, 9, 14, 0), WRITE, Ignore),
        ((3, 3, 9, 15, 0), READ, Undefined),
        // SGIs
        ((3, 0, 12, 11, 1), WRITE, Deactivate),
        ((3, 0, 12, 11, 5), WRITE, Sgi(SgiRegister::Group1)),
        ((3, 0, 12, 11, 6), WRITE, Sgi(SgiRegister::OtherGroup1)),
        ((3, 0, 12, 11, 7), WRITE, Sgi(SgiRegister::Group0)),
        ((3, 0, 12, 11, 5), READ, Undefined),
        ((3, 0, 12, 11, 1), READ, Undefined),
        ((3, 0, 12, 11, 2), WRITE, Undefined),
        ((3, 0, 12, 12, 5), READ, Value(0)),
        // Physical timer
        ((3, 3, 14, 2, 0), READ, PhysicalTimer(TimerRegister::Value)),
        (
            (3, 3, 14, 2, 1),
            WRITE,
            PhysicalTimer(TimerRegister::Control),
        ),
        (
            (3, 3, 14, 2, 2),
            WRITE,
            PhysicalTimer(TimerRegister::Compare),
        ),
        // SCTLR, TTBR1, CONTEXTIDR, while TVM is set
        ((3, 0, 1, 0, 0), WRITE, StageOne),
        ((3, 0, 2, 0, 1), WRITE, StageOne),
        ((3, 0, 13, 0, 1), WRITE, StageOne),
        ((3, 0, 1, 0, 0), READ, Undefined),
        // Implementation defined; SVE control; LORegions; nothing at all
        ((3, 1, 15, 2, 0), WRITE, Undefined),
        ((3, 0, 1, 2, 0), READ, Undefined),
        ((3, 0, 10, 4, 7), READ, Undefined),
        ((0, 0, 0, 0, 0), READ, Undefined),
    ] {
        assert_eq!(
            v3().access(access(encoding, write), Level::El1),
            action,
            "{encoding:?} write {write}"
        );
        assert_eq!(
            SystemRegisters::is_sgi(access(encoding, write)),
            action == Sgi(SgiRegister::Group1)
        );
    }
}

#[test]
fn a_gicv2_guest_has_no_sgi_registers() {
    let registers = SystemRegisters::new(&Uniform(0), GicInterface::Memory);
    assert_eq!(
        registers.access(access((3, 0, 12, 11, 5), true), Level::El1),
        Action::Undefined
    );
}

#[test]
fn programs_reach_only_what_is_theirs() {
    for (encoding, write, action) in [
        ((3, 0, 0, 4, 0), false, Action::Undefined),
        ((3, 0, 1, 0, 1), false, Action::Undefined),
        ((1, 0, 7, 6, 2), true, Action::Undefined),
        ((2, 0, 0, 2, 2), false, Action::Undefined),
        ((3, 3, 9, 13, 0), false, Action::Undefined),
        ((3, 3, 9, 14, 0), false, Action::Value(0)),
        ((3, 3, 9, 14, 0), true, Action::Undefined),
        ((3, 0, 12, 11, 5), true, Action::Undefined),
        ((2, 3, 0, 1, 0), false, Action::Value(0)),
        (
            (3, 3, 14, 2, 1),
            false,
            Action::PhysicalTimer(TimerRegister::Control),
        ),
    ] {
        assert_eq!(
            v3().access(access(encoding, write), Level::El0),
            action,
            "{encoding:?}"
        );
    }
    assert_eq!(Level::from_spsr(0x3c5), Level::El1);
    assert_eq!(Level::from_spsr(0x3c4), Level::El1);
    assert_eq!(Level::from_spsr(0x3c0), Level::El0);
    assert_eq!(Level::from_spsr(0x1d0), Level::El0);
}

proptest! {
    /// Reads give values, writes do not, whatever the guest asks for.
    #[test]
    fn any_access_is_answered(esr in any::<u32>(), host in any::<u64>(), kernel in any::<bool>()) {
        let esr = u64::from(esr) & 0x3ff_ffff | 0x18 << 26;
        let crate::exit::Exit::SystemRegister(access) = crate::exit::Exit::decode(esr) else {
            return Err(TestCaseError::fail("not a system register"));
        };
        let level = if kernel { Level::El1 } else { Level::El0 };
        let registers = SystemRegisters::new(&Uniform(host), GicInterface::SystemRegisters);
        match registers.access(access, level) {
            Action::Value(_) => prop_assert!(!access.is_write()),
            Action::Ignore
            | Action::SetWay
            | Action::Sgi(_)
            | Action::Deactivate
            | Action::StageOne => {
                prop_assert!(access.is_write());
            }
            Action::Undefined | Action::PhysicalTimer(_) => {}
        }
    }
}
