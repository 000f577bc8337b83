//! What programs at EL0 run into at EL2: calls, waits, coprocessor registers, aborts without a syndrome; 64-bit
//! ones, and 32-bit ones where the CPU has AArch32.

use crate::check::{Outcome, check, equal, fail};
use runtime::exception::Frame;
use runtime::program::{self, AT, Set, run};
use runtime::{cpu, timer};

const UNDEFINED: u64 = 0;
const SVC_32: u64 = 0x11;
const SVC_64: u64 = 0x15;
const TRAPPED: u64 = 0x18;
const DATA_ABORT: u64 = 0x24;
/// Where a guest has nothing: inside its map of devices, so stage 1 lets EL1 through, and EL0 not.
const NOWHERE: u64 = 0x3000_0000;

fn class(frame: &Frame) -> u64 {
    frame.esr >> 26 & 0x3f
}

fn ends(set: Set, code: &[u32], registers: &[u64; 15]) -> Result<Frame, crate::check::Trouble> {
    match run(set, code, registers) {
        Some(frame) => Ok(frame),
        None => fail!("no room for a program"),
    }
}

/// With an interrupt pending all the while, so that WFI comes back at once.
fn with_interrupt<T>(body: impl FnOnce() -> T) -> T {
    cpu::masked(|| {
        timer::set_deadline(timer::now());
        let result = body();
        timer::clear_deadline();
        result
    })
}

/// HVC and SMC are not for programs; WFI and WFE are.
pub(crate) fn calls() -> Outcome {
    const SVC: u32 = 0xd400_0001;
    const WFI: u32 = 0xd503_207f;
    const WFE: u32 = 0xd503_205f;
    for instruction in [
        crate::raw::hvc(0),
        crate::raw::hvc(0xea1),
        crate::raw::hvc(1),
        crate::raw::smc(0),
        crate::raw::smc(1),
    ] {
        let end = ends(Set::A64, &[instruction, SVC], &[0; 15])?;
        equal!(class(&end), UNDEFINED, "class of {instruction:#x}");
        equal!(end.elr, AT, "ELR of {instruction:#x}");
    }
    for instruction in [WFI, WFE] {
        let end = with_interrupt(|| ends(Set::A64, &[instruction, SVC], &[0; 15]))?;
        equal!(class(&end), SVC_64, "class after {instruction:#x}");
    }
    Ok(())
}

/// MRC or MCR of r0, as A32 has it; T32 has the same with its halves the other way round.
const fn coprocessor(number: u32, opc1: u32, crn: u32, crm: u32, opc2: u32, read: bool) -> u32 {
    0xee00_0010 | opc1 << 21 | (read as u32) << 20 | crn << 16 | number << 8 | opc2 << 5 | crm
}

/// Every register of coprocessors 14 and 15, read and written, ends in this guest.
fn coprocessors(set: Set, svc: u32) -> Outcome {
    let mut through = 0;
    for number in 0..1_u32 << 15 {
        let (opc1, crn, crm, opc2) = (
            number >> 12 & 7,
            number >> 8 & 15,
            number >> 4 & 15,
            number >> 1 & 7,
        );
        // The whole space in A32; in T32, which has the same registers, a sample.
        if set == Set::T32 && number % 37 != 0 {
            continue;
        }
        for coprocessor_number in [14, 15] {
            let word = coprocessor(coprocessor_number, opc1, crn, crm, opc2, number & 1 != 0);
            let word = if set == Set::T32 {
                word.rotate_left(16)
            } else {
                word
            };
            let end = ends(set, &[word, svc], &[program::DATA; 15])?;
            let class = class(&end);
            check!(
                [UNDEFINED, SVC_32, TRAPPED, 3, 4, 5, 6].contains(&class),
                "{set:?} {word:#x}: class {class:#x}"
            );
            through += u32::from(class == SVC_32);
        }
    }
    check!(
        through > 0 || set == Set::T32,
        "no register of {set:?} went through"
    );
    Ok(())
}

pub(crate) fn aarch32() -> Outcome {
    const A32_SVC: u32 = 0xef00_0000;
    const A32_WFI: u32 = 0xe320_f003;
    const A32_WFI_EQ: u32 = 0x0320_f003;
    const A32_HVC: u32 = 0xe140_0070;
    const A32_SMC: u32 = 0xe160_0070;
    /// `ldmia r0, {r1, r2}`: no syndrome.
    const A32_LDM: u32 = 0xe890_0006;
    const T32_SVC: u32 = 0xdf00_df00;
    if !program::has_aarch32() {
        return Ok(());
    }
    coprocessors(Set::A32, A32_SVC)?;
    coprocessors(Set::T32, T32_SVC)?;
    for instruction in [A32_HVC, A32_SMC] {
        let end = ends(Set::A32, &[instruction, A32_SVC], &[0; 15])?;
        equal!(class(&end), UNDEFINED, "class of {instruction:#x}");
        equal!(end.elr, AT, "ELR of {instruction:#x}");
    }
    for instruction in [A32_WFI, A32_WFI_EQ] {
        let end = with_interrupt(|| ends(Set::A32, &[instruction, A32_SVC], &[0; 15]))?;
        equal!(class(&end), SVC_32, "class after {instruction:#x}");
        equal!(end.elr, AT + 8, "ELR after {instruction:#x}");
    }
    let end = ends(Set::A32, &[A32_LDM, A32_SVC], &[NOWHERE; 15])?;
    equal!(class(&end), DATA_ABORT, "class of a load of two registers");
    equal!(end.far, NOWHERE, "FAR of a load of two registers");

    // An IT block goes on behind an instruction that trapped: `itete ne; wfine; moveq r0, #1; movne r1, #2;
    // moveq r2, #3; movs r3, #4; svc`, with Z clear.
    let code = [0xbf30_bf15, 0x2102_2001, 0x2304_2203, T32_SVC];
    let end = with_interrupt(|| ends(Set::T32, &code, &[0; 15]))?;
    equal!(class(&end), SVC_32, "class after an IT block");
    equal!(
        end.x.first_chunk(),
        Some(&[0, 2, 0, 4]),
        "what an IT block did"
    );
    // And one whose WFI is not for these flags: `ite eq; wfieq; movne r0, #1; movs r1, #2; svc`.
    let code = [0xbf30_bf0c, 0x2102_2001, T32_SVC];
    let end = with_interrupt(|| ends(Set::T32, &code, &[0; 15]))?;
    equal!(
        end.x.first_chunk(),
        Some(&[1, 2]),
        "what an IT block with a skipped WFI did"
    );
    Ok(())
}
