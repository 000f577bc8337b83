//! The report of a guest that failed has all that it promises, in lines that a terminal shows.

use super::*;
use crate::exit::ESR_HYPERCALL;
use proptest::prelude::*;
use std::string::{String, ToString};

fn lines(report: &Report) -> Vec<String> {
    (0..)
        .map_while(|line| report.line(line).map(|line| line.to_string()))
        .collect()
}

fn report() -> Report {
    let mut registers = Registers {
        pc: 0x4008_1234,
        pstate: 0x3c5,
        sp_el0: 0x10,
        sp_el1: 0x4010_0000,
        esr: 0x9600_0046,
        far: 0x10,
        elr: 0x4008_1230,
        spsr: 0x3c5,
        ..Registers::default()
    };
    for (number, x) in registers.x.iter_mut().enumerate() {
        *x = 0x1000 + number as u64;
    }
    Report {
        vcpu: 1,
        reason: "its exception vectors are not in memory",
        registers,
        syndrome: Some(Syndrome {
            esr: 0x8200_0006,
            far: 0x200,
            hpfar: 0,
        }),
        figures: Figures::default(),
        recent: [Note::default(); KEPT],
        others: ArrayVec::new(),
    }
}

#[test]
fn it_has_all_registers_the_address_and_the_reason() {
    let all = lines(&report());
    assert_eq!(all.len(), HEAD + ROWS + 1, "{all:#?}");
    assert_eq!(
        all[0],
        "its exception vectors are not in memory; PC 0x40081234 at EL1h, PSTATE 0x3c5, SP 0x40100000, x30 0x101e"
    );
    assert_eq!(
        all[1],
        "left by instruction fetch (Translation(2)): ESR_EL2 0x82000006, FAR_EL2 0x200, HPFAR_EL2 0x0, IPA 0x200"
    );
    assert!(all[2].starts_with("last exception: ESR_EL1 0x96000046, FAR_EL1 0x10"));
    let text = all.join("\n");
    for number in 0..31 {
        let wanted = format!("x{number:<2} {:#018x}", 0x1000 + number);
        assert!(text.contains(&wanted), "{wanted}: {text}");
    }
    assert!(text.contains("of 0 exits"));
}

#[test]
fn it_has_the_last_exits_oldest_first() {
    let mut report = report();
    let recent = crate::recent::Recent::new();
    for number in 0..3 {
        recent.note(Note::call(ESR_HYPERCALL, 0x4000_0004, 17 + number, 0));
    }
    report.recent = recent.read();
    let all = lines(&report);
    let told: Vec<_> = all.iter().filter(|line| line.contains("before")).collect();
    assert_eq!(told.len(), 3);
    assert_eq!(told[0], "before, at 0x40000000: hypercall 17, argument 0x0");
    assert!(told[2].contains("hypercall 19"));
}

#[test]
fn it_has_where_the_others_were() {
    let mut report = report();
    for vcpu in [0, 2] {
        let mut registers = report.registers;
        registers.pc = 0x5000 + u64::from(vcpu);
        report.others.push((vcpu, registers.place()));
    }
    let all = lines(&report);
    let last: Vec<_> = all.iter().rev().take(2).collect();
    assert!(last[1].starts_with("vCPU 0 was elsewhere: PC 0x5000 at EL1h"));
    assert!(last[0].starts_with("vCPU 2 was elsewhere: PC 0x5002 at EL1h"));
}

#[test]
fn an_end_from_outside_has_no_syndrome() {
    let report = Report {
        syndrome: None,
        ..report()
    };
    assert!(lines(&report)[1].contains("from outside"));
}

#[test]
fn the_stack_pointer_is_that_in_use() {
    let at = |pstate| {
        let mut registers = report().registers;
        registers.pstate = pstate;
        registers.place().to_string()
    };
    assert!(at(0x3c5).contains("EL1h") && at(0x3c5).contains("SP 0x40100000"));
    assert!(at(0x3c4).contains("EL1t") && at(0x3c4).contains("SP 0x10,"));
    assert!(at(0x0).contains("EL0,") && at(0x0).contains("SP 0x10,"));
    assert!(at(0x10).contains("AArch32") && at(0x10).contains("SP 0x100d"));
}

proptest! {
    /// Whatever a guest has in its registers, and whatever it did: lines end, and are no longer than the console takes.
    #[test]
    fn any_registers_make_lines(x: [u64; 31], words: [u64; 13], esr: u64, far: u64, hpfar: u64) {
        let [pc, pstate, sp_el0, sp_el1, esr1, far1, elr, spsr, sctlr, tcr, ttbr0, ttbr1, vbar] = words;
        let recent = crate::recent::Recent::new();
        for value in words {
            recent.note(Note::abort(esr ^ value, value, far, hpfar));
        }
        let report = Report {
            registers: Registers { x, pc, pstate, sp_el0, sp_el1, esr: esr1, far: far1, elr, spsr, sctlr, tcr, ttbr0, ttbr1, vbar },
            syndrome: Some(Syndrome { esr, far, hpfar }),
            recent: recent.read(),
            ..report()
        };
        let all = lines(&report);
        prop_assert_eq!(all.len(), FIXED + KEPT);
        prop_assert!(all.iter().all(|line| line.len() <= LONGEST), "{:#?}", all);
    }
}
