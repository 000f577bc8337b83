use super::*;
use crate::exit::Exit;
use proptest::prelude::*;

/// User mode, A32 and T32.
const A32: u64 = 0x10;
const T32: u64 = 0x30;
const NZCV: u64 = 0xf000_0000;

fn class(number: u64) -> u64 {
    number << 26 | 1 << 25
}

/// An access as the syndrome has it, executed always.
fn access(class_number: u64, syndrome: u64) -> Coprocessor {
    match Exit::decode(class(class_number) | 1 << 24 | 0xe << 20 | syndrome) {
        Exit::Coprocessor(access) => access,
        other => panic!("{other:?}"),
    }
}

/// MRC or MCR of r3.
fn one(number: u64, opc1: u64, crn: u64, crm: u64, opc2: u64, read: bool) -> Coprocessor {
    let class = if number == 14 { 5 } else { 3 };
    let syndrome = opc2 << 17 | opc1 << 14 | crn << 10 | 3 << 5 | crm << 1 | u64::from(read);
    access(class, syndrome)
}

/// MRRC or MCRR of r3 and r4.
fn two(number: u64, opc1: u64, crm: u64, read: bool) -> Coprocessor {
    let class = if number == 14 { 0xc } else { 4 };
    access(
        class,
        opc1 << 16 | 4 << 10 | 3 << 5 | crm << 1 | u64::from(read),
    )
}

#[test]
fn registers_have_their_names() {
    for (access, name, operand) in [
        (
            one(15, 0, 14, 2, 1, true),
            "read p15, 0, c14, c2, 1",
            Operand::Register(3),
        ),
        (
            one(14, 7, 1, 0, 0, false),
            "write p14, 7, c1, c0, 0",
            Operand::Register(3),
        ),
        (
            two(15, 2, 14, false),
            "write p15, 2, c14",
            Operand::Pair(3, 4),
        ),
        (two(14, 0, 1, true), "read p14, 0, c1", Operand::Pair(3, 4)),
    ] {
        assert_eq!(format!("{access:?}"), name);
        assert_eq!(access.operand(), operand, "{name}");
    }
    // MRC of APSR_nzcv, however it is reported; a write of the 16th register is none that a program can encode.
    for register in [15, 31] {
        assert_eq!(
            access(5, register << 5 | 1 << 1 | 1).operand(),
            Operand::Flags
        );
    }
    assert_eq!(access(5, 31 << 5).operand(), Operand::Register(31));
}

#[test]
fn accesses_do_what_an_armv8_machine_does() {
    use Action::{Ignore, PhysicalTimer, Undefined, Value};
    for (access, action) in [
        (
            one(15, 0, 14, 2, 0, true),
            PhysicalTimer(TimerRegister::Value),
        ),
        (
            one(15, 0, 14, 2, 0, false),
            PhysicalTimer(TimerRegister::Value),
        ),
        (
            one(15, 0, 14, 2, 1, false),
            PhysicalTimer(TimerRegister::Control),
        ),
        (two(15, 2, 14, true), PhysicalTimer(TimerRegister::Compare)),
        (two(15, 2, 14, false), PhysicalTimer(TimerRegister::Compare)),
        // CNTP with another opc1, and EL2's timer.
        (one(15, 4, 14, 2, 0, true), Undefined),
        (two(15, 6, 14, true), Undefined),
        // PMUSERENR and PMCR.
        (one(15, 0, 9, 14, 0, true), Value(0)),
        (one(15, 0, 9, 14, 0, false), Undefined),
        (one(15, 0, 9, 12, 0, true), Undefined),
        (two(15, 0, 9, true), Undefined),
        // Implementation defined.
        (one(15, 0, 15, 0, 0, true), Undefined),
        (two(15, 1, 15, false), Undefined),
        // DBGDIDR: two breakpoints, two watchpoints, Armv8.
        (one(14, 0, 0, 0, 0, true), Value(0x1106_8000)),
        (one(14, 0, 0, 0, 0, false), Undefined),
        (one(14, 0, 0, 1, 0, true), Value(0)),
        (one(14, 0, 0, 5, 0, true), Value(0)),
        (one(14, 0, 0, 5, 0, false), Ignore),
        (one(14, 0, 1, 0, 0, true), Value(0)),
        (one(14, 0, 2, 0, 0, true), Value(0)),
        (two(14, 0, 1, true), Value(0)),
        (two(14, 0, 2, true), Value(0)),
        (two(14, 0, 2, false), Undefined),
        // Trace.
        (one(14, 1, 0, 0, 0, true), Undefined),
    ] {
        assert_eq!(access.action(), action, "{access:?}");
    }
}

#[test]
fn conditions_are_looked_at() {
    let esr = |condition: u64| class(3) | 1 << 24 | condition << 20;
    let flags = |nzcv: u64| A32 | nzcv << 28;
    // N 8, Z 4, C 2, V 1.
    for (condition, with, without) in [
        (0, 4, 0),
        (1, 0, 4),
        (2, 2, 0),
        (3, 0, 2),
        (4, 8, 0),
        (5, 0, 8),
        (6, 1, 0),
        (7, 0, 1),
        (8, 2, 6),
        (9, 6, 2),
        (10, 9, 8),
        (11, 8, 9),
        (12, 9, 0xd),
        (13, 0xd, 9),
    ] {
        assert!(condition_passes(esr(condition), flags(with)), "{condition}");
        assert!(
            !condition_passes(esr(condition), flags(without)),
            "{condition}"
        );
    }
    for flags in [A32, A32 | NZCV] {
        assert!(condition_passes(esr(14), flags) && condition_passes(esr(15), flags));
    }
}

#[test]
fn without_a_condition_in_the_syndrome_the_it_bits_count() {
    let in_block = |it: u64| T32 | (it & 3) << 25 | (it & 0xfc) << 8;
    let z = 1 << 30;
    // Not in a block; `it eq`; the second of `ite eq`, which has NE.
    assert!(condition_passes(class(3), T32) && condition_passes(class(3), T32 | z));
    assert!(condition_passes(class(3), in_block(0x08) | z));
    assert!(!condition_passes(class(3), in_block(0x08)));
    assert!(condition_passes(class(3), in_block(0x18)));
    assert!(!condition_passes(class(3), in_block(0x18) | z));
}

#[test]
fn what_is_not_conditional_is_executed() {
    let never = 1 << 24;
    for number in [0, 0x0e, 0x15, 0x18, 0x20, 0x24, 0x3f] {
        assert!(condition_passes(class(number) | never, A32), "{number:#x}");
    }
    // AArch64, whatever the bits are.
    assert!(condition_passes(class(1) | never, 0x3c5));
    assert!(!condition_passes(class(1) | never, A32));
}

proptest! {
    /// Reads give values, writes do not, and nothing comes but what the image expects.
    #[test]
    fn any_access_is_answered(class_number in prop::sample::select(vec![3_u64, 4, 5, 12]), iss in 0_u64..1 << 25) {
        let Exit::Coprocessor(access) = Exit::decode(class(class_number) | iss) else {
            return Err(TestCaseError::fail("not a coprocessor's register"));
        };
        match access.action() {
            Action::Value(_) => prop_assert!(!access.is_write()),
            Action::Ignore => prop_assert!(access.is_write()),
            Action::PhysicalTimer(_) | Action::Undefined => {}
            other => return Err(TestCaseError::fail(format!("{other:?}"))),
        }
        if access.is_write() {
            prop_assert_ne!(access.operand(), Operand::Flags);
        }
    }

    /// A condition and its opposite: just one of them passes.
    #[test]
    fn opposites_differ(condition in 0_u64..14, flags in 0_u64..16) {
        let esr = |condition: u64| class(3) | 1 << 24 | condition << 20;
        let spsr = A32 | flags << 28;
        prop_assert_ne!(condition_passes(esr(condition), spsr), condition_passes(esr(condition ^ 1), spsr));
    }
}
