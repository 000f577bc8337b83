//! Every system register and system instruction that can be encoded, from EL1 and from EL0: op0 1 to 3, all
//! op1, CRn, CRm and op2, read and written. Each ends in a value or in an exception of this guest's own.
//!
//! `seed=N` is what is written. From EL1, what was there is written back afterwards; not written at all is what
//! this guest stands on ([`is_own_ground`]), and not read is what takes an interrupt. From EL0 nothing is
//! spared.

use crate::check::{Outcome, Trouble, equal, fail};
use crate::hostile::wild::Random;
use crate::raw;
use runtime::arguments::arguments;
use runtime::exception::Fault;
use runtime::program::{self, Set};
use runtime::{cpu, gic, interrupt, memory, println, timer};

/// op0, op1, CRn, CRm, op2.
type Encoding = (u32, u32, u32, u32, u32);

/// `SVC #0`: a program's way to say that it is through.
const SVC: u32 = 0xd400_0001;

fn all() -> impl Iterator<Item = Encoding> {
    (1..4_u32 << 14).skip((1 << 14) - 1).map(|number| {
        (
            number >> 14,
            number >> 11 & 7,
            number >> 7 & 15,
            number >> 3 & 15,
            number & 7,
        )
    })
}

/// ICC_IAR0_EL1 and ICC_IAR1_EL1 take an interrupt and never end it.
fn takes_an_interrupt(encoding: Encoding) -> bool {
    matches!(encoding, (3, 0, 12, 8 | 12, 0))
}

/// What this guest cannot do without for an instant: SCTLR, SCTLR2, TTBR0, TTBR1, TCR, TCR2; SPSel, DAIF; MAIR,
/// MAIR2; VBAR; TPIDR_EL1, which holds the CPU's number. And the SGIs that ICC_SGI0R, ASGI1R and SGI1R would send.
fn is_own_ground(encoding: Encoding) -> bool {
    matches!(
        encoding,
        (3, 0, 1, 0, 0 | 3)
            | (3, 0, 2, 0, 0..=3)
            | (3, 0, 4, 2, 0)
            | (3, 3, 4, 2, 1)
            | (3, 0, 10, 2, 0 | 1)
            | (3, 0, 12, 0, 0)
            | (3, 0, 12, 11, 5..=7)
            | (3, 0, 13, 0, 4)
    )
}

/// UNDEFINED, a trap that this guest has set up for itself, or SVE and SME that it has not switched on.
fn is_ours(class: u64) -> bool {
    matches!(class, 0 | 0x18 | 0x19 | 0x1d)
}

struct Walk {
    random: Random,
    /// Where instructions that take an address may do their work.
    scratch: u64,
    values: u32,
    faults: u32,
}

impl Walk {
    fn new(scratch: u64) -> Self {
        let seed = arguments().number("seed").unwrap_or(1);
        Self {
            random: Random(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15)),
            scratch,
            values: 0,
            faults: 0,
        }
    }

    fn operand(&mut self, op0: u32) -> u64 {
        if op0 == 1 {
            self.scratch
        } else {
            self.random.next()
        }
    }

    fn count(
        &mut self,
        what: &str,
        encoding: Encoding,
        result: Result<u64, Fault>,
    ) -> Result<Option<u64>, Trouble> {
        match result {
            Ok(value) => {
                self.values += 1;
                if arguments().flag("verbose") && what == "read" {
                    println!("NOTE {encoding:?} {value:#x}");
                }
                Ok(Some(value))
            }
            Err(fault) if is_ours(fault.class()) => {
                self.faults += 1;
                Ok(None)
            }
            Err(fault) => fail!("{what} {encoding:?}: {fault}"),
        }
    }

    fn over(&self, least: u32) -> Outcome {
        println!("NOTE {} went through, {} faulted", self.values, self.faults);
        if self.values < least {
            fail!("only {} went through", self.values);
        }
        Ok(())
    }
}

pub(crate) fn kernel() -> Outcome {
    let mut walk = Walk::new(memory::spare().end - memory::PAGE);
    let outcome = cpu::masked(|| {
        for encoding in all() {
            let (op0, op1, crn, crm, op2) = encoding;
            let mut before = None;
            if !takes_an_interrupt(encoding) {
                let result = raw::execute(raw::mrs(op0, op1, crn, crm, op2), 0);
                before = walk.count("read", encoding, result)?;
            }
            if is_own_ground(encoding) {
                continue;
            }
            let write = raw::msr(op0, op1, crn, crm, op2);
            let operand = walk.operand(op0);
            let result = raw::execute(write, operand);
            walk.count("write", encoding, result)?;
            if let Some(value) = before.filter(|_| op0 != 1) {
                let _ = raw::execute(write, value);
            }
        }
        Ok(())
    });
    gic::set_priority_mask(0xff);
    timer::clear_deadline();
    interrupt::reset();
    outcome?;
    walk.over(200)
}

pub(crate) fn program() -> Outcome {
    let mut walk = Walk::new(program::DATA);
    for encoding in all() {
        let (op0, op1, crn, crm, op2) = encoding;
        for (what, instruction) in [
            ("read", raw::mrs(op0, op1, crn, crm, op2)),
            ("write", raw::msr(op0, op1, crn, crm, op2)),
        ] {
            let operand = walk.operand(op0);
            let mut registers = [0; 15];
            registers[0] = operand;
            let Some(end) = program::run(Set::A64, &[instruction, SVC], &registers) else {
                fail!("no room for a program");
            };
            let result = if end.esr >> 26 == 0x15 {
                equal!(end.elr, program::AT + 8, "where a program ends");
                Ok(end.x[0])
            } else {
                Err(Fault {
                    esr: end.esr,
                    far: end.far,
                })
            };
            walk.count(what, encoding, result)?;
        }
    }
    timer::clear_deadline();
    interrupt::reset();
    walk.over(20)
}
