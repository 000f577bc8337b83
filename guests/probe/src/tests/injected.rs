//! Exceptions that the hypervisor gives are taken as those of the hardware are: the state in which EL1 begins.

use crate::check::{Outcome, Trouble, equal};
use crate::raw;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use runtime::{cpu, exception};

/// A part of PSTATE as a register: name, the feature register's CRm and op2, the field's lowest bit and its least value,
/// and the register's op1 and op2 (op0 3, CRn 4, CRm 2).
type Part = (&'static str, u32, u32, u32, u64, u32, u32);

const PAN: Part = ("PAN", 7, 1, 20, 1, 0, 3);
const UAO: Part = ("UAO", 7, 2, 4, 1, 0, 4);
const DIT: Part = ("DIT", 4, 0, 48, 1, 3, 5);
const SSBS: Part = ("SSBS", 4, 1, 4, 2, 3, 6);
const PARTS: [Part; 4] = [PAN, UAO, DIT, SSBS];

const DAIF: u32 = raw::mrs(3, 3, 4, 2, 1);
const SP_SEL: u32 = raw::mrs(3, 0, 4, 2, 0);

/// `SCTLR_EL1`: an exception leaves PAN alone; SSBS after an exception.
const SPAN: u64 = 1 << 23;
const DSSBS: u64 = 1 << 44;

static SEEN: AtomicU64 = AtomicU64::new(0);
/// An exception leaves DIT alone (DDI 0487, `AArch64.TakeException`); QEMU clears it, so it is looked at by itself.
static SEEN_DIT: AtomicU64 = AtomicU64::new(0);

fn has(part: &Part) -> bool {
    let (_, crm, op2, lowest, least, _, _) = *part;
    let features = raw::execute(raw::mrs(3, 0, 0, crm, op2), 0).unwrap_or(0);
    features >> lowest & 0xf >= least
}

fn get(part: &Part) -> u64 {
    let (.., op1, op2) = *part;
    raw::execute(raw::mrs(3, op1, 4, 2, op2), 0).unwrap_or(u64::MAX)
}

fn set(part: &Part, value: u64) {
    let (.., op1, op2) = *part;
    let _ = raw::execute(raw::msr(3, op1, 4, 2, op2), value);
}

/// The handler of the exceptions below: notes the state that it was called with, and steps over the instruction.
fn note(frame: &mut exception::Frame) -> bool {
    let mut seen = 0;
    for instruction in [DAIF, SP_SEL] {
        seen |= raw::execute(instruction, 0).unwrap_or(u64::MAX);
    }
    for part in PARTS.iter().filter(|part| has(part)) {
        if part.0 == DIT.0 {
            SEEN_DIT.store(get(part), SeqCst);
        } else {
            seen |= get(part);
        }
    }
    // What was interrupted, and the syndrome, which says no more than "undefined".
    SEEN.store(seen ^ frame.spsr.rotate_left(32) ^ frame.esr, SeqCst);
    frame.elr += 4;
    true
}

/// What the handler saw of `udf #0`, which is the hardware's.
fn hardware() -> u64 {
    // SAFETY: `note` steps over it.
    unsafe { asm!(".inst 0") }
    SEEN.swap(0, SeqCst)
}

/// What it saw of `hvc #1`, which is given by the hypervisor.
fn injected() -> u64 {
    // SAFETY: as above.
    unsafe { asm!("hvc #1") }
    SEEN.swap(0, SeqCst)
}

pub(crate) fn state() -> Outcome {
    let present = PARTS.iter().filter(|part| has(part)).count();
    runtime::println!("NOTE {present} parts of PSTATE beside the first ones");
    cpu::masked(|| {
        let control = read_control()?;
        let before: [u64; 4] = PARTS.map(|part| if has(&part) { get(&part) } else { 0 });
        exception::on_unexpected(Some(note));
        let outcome = combinations(control);
        exception::on_unexpected(None);
        write_control(control);
        for (part, value) in PARTS.iter().zip(before).filter(|(part, _)| has(part)) {
            set(part, value);
        }
        outcome
    })
}

/// Every value of every part, with every choice of what an exception makes of PAN and SSBS.
fn combinations(control: u64) -> Outcome {
    for bits in 0..1_u64 << 6 {
        let mut wanted = control;
        if has(&PAN) {
            wanted = chosen(wanted, SPAN, bits >> 4);
        }
        if has(&SSBS) {
            wanted = chosen(wanted, DSSBS, bits >> 5);
        }
        write_control(wanted);
        let choose = || {
            for (index, part) in PARTS.iter().enumerate().filter(|(_, part)| has(part)) {
                // Each has its bit at its place in PSTATE; the others are RES0.
                set(part, if bits >> index & 1 == 0 { 0 } else { u64::MAX });
            }
        };
        choose();
        let own = hardware();
        choose();
        let dit = if has(&DIT) { get(&DIT) } else { 0 };
        SEEN_DIT.store(0, SeqCst);
        equal!(
            injected(),
            own,
            "the state for {bits:#x} with SCTLR_EL1 {wanted:#x}"
        );
        equal!(SEEN_DIT.load(SeqCst), dit, "DIT for {bits:#x}");
    }
    Ok(())
}

/// The word with this bit set if bit 0 of `choice` is.
fn chosen(word: u64, bit: u64, choice: u64) -> u64 {
    if choice & 1 == 0 {
        word & !bit
    } else {
        word | bit
    }
}

fn read_control() -> Result<u64, Trouble> {
    raw::execute(raw::mrs(3, 0, 1, 0, 0), 0).map_err(|_| Trouble::Skip("no SCTLR_EL1"))
}

fn write_control(value: u64) {
    let _ = raw::execute(raw::msr(3, 0, 1, 0, 0), value);
}
