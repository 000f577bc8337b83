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

/// MRRC or MCRR of r`low` and r`high`, as A32 has it.
const fn pair(number: u32, opc1: u32, crm: u32, low: u32, high: u32, read: bool) -> u32 {
    0xec40_0000 | (read as u32) << 20 | high << 16 | low << 12 | number << 8 | opc1 << 4 | crm
}

/// The general register of an MRC or MCR in A32.
const fn with(word: u32, register: u32) -> u32 {
    word | register << 12
}

/// The same in T32, which has 32-bit instructions as two halves.
const fn t32(word: u32) -> u32 {
    word.rotate_left(16)
}

/// The timers of a program in AArch32 state are those of its kernel, and its kernel says which it may use.
pub(crate) fn aarch32_timers() -> Outcome {
    const SVC: u32 = 0xef00_0000;
    const CNTFRQ: u32 = coprocessor(15, 0, 14, 0, 0, true);
    const COMPARE: u64 = 0x7fff_0123_89ab_cdef;
    let control = |read| coprocessor(15, 0, 14, 2, 1, read);
    let value = |read| coprocessor(15, 0, 14, 2, 0, read);
    if !program::has_aarch32() {
        return Ok(());
    }
    let mut registers = [0; 15];
    registers[0] = COMPARE & 0xffff_ffff;
    registers[1] = COMPARE >> 32;
    registers[4] = 1;
    // What a write takes has nothing above 32 bits, and a read leaves nothing there.
    let code = [
        pair(15, 2, 14, 0, 1, false),
        pair(15, 2, 14, 2, 3, true),
        with(control(false), 4),
        with(control(true), 5),
        with(value(true), 6),
        pair(15, 1, 14, 7, 8, true),
        pair(15, 0, 14, 9, 10, true),
        with(CNTFRQ, 11),
        SVC,
    ];
    let end = ends(Set::A32, &code, &registers)?;
    equal!(class(&end), SVC_32, "class after the timers");
    equal!(
        &end.x[2..6],
        &[registers[0], registers[1], 1, 1],
        "CNTP_CVAL and CNTP_CTL"
    );
    check!(end.x[6] <= 0xffff_ffff, "CNTP_TVAL is {:#x}", end.x[6]);
    let counter = end.x[8] << 32 | end.x[7];
    let now = timer::now();
    check!(
        counter <= now && now - counter < timer::frequency(),
        "CNTVCT is {counter:#x} at {now:#x}"
    );
    equal!(end.x[11], timer::frequency(), "CNTFRQ");
    let timer_of_mine = |op2| crate::raw::execute(crate::raw::mrs(3, 3, 14, 2, op2), 0).ok();
    equal!(
        timer_of_mine(2),
        Some(COMPARE),
        "CNTP_CVAL_EL0 after a program wrote it"
    );
    equal!(
        timer_of_mine(1),
        Some(1),
        "CNTP_CTL_EL0 after a program wrote it"
    );
    // -5 ticks: it is due, and the program sees it.
    registers[0] = 0xffff_fffb;
    let code = [
        value(false),
        with(control(true), 5),
        with(control(false), 6),
        SVC,
    ];
    let end = ends(Set::A32, &code, &registers)?;
    equal!(&end.x[5..7], &[5, 0], "CNTP_CTL of a timer that is due");
    equal!(
        timer_of_mine(1),
        Some(0),
        "CNTP_CTL_EL0 after it was switched off"
    );
    // In an IT block that holds, and on with the block: `it ne; mrc; movne r1, #2`, Z clear.
    let mrc = t32(with(control(true), 5));
    let code = [0xbf00_bf00, 0xbf1c_bf00, mrc, 0xdf00_2102];
    let end = ends(Set::T32, &code, &[9; 15])?;
    equal!((end.x[1], end.x[5]), (2, 0), "an IT block with CNTP_CTL");

    // EL0PCTEN and EL0VCTEN, EL0VTEN, EL0PTEN.
    for (permitted, instruction) in [
        (0x103, control(true)),
        (0x103, value(false)),
        (0x103, pair(15, 2, 14, 2, 3, true)),
        (0x203, coprocessor(15, 0, 14, 3, 1, true)),
        (0x203, pair(15, 3, 14, 2, 3, true)),
        (0x302, pair(15, 0, 14, 2, 3, true)),
        (0x301, pair(15, 1, 14, 2, 3, true)),
    ] {
        let Some(end) =
            program::run_with_timers(Set::A32, &[instruction, SVC], &[0; 15], permitted)
        else {
            fail!("no room for a program");
        };
        check!(
            [3, 4].contains(&class(&end)),
            "{instruction:#x} with CNTKCTL_EL1 {permitted:#x}: class {:#x}",
            class(&end)
        );
        equal!(end.elr, AT, "ELR of {instruction:#x}");
        let Some(end) =
            program::run_with_timers(Set::A32, &[instruction, SVC], &[0; 15], program::ALL_TIMERS)
        else {
            fail!("no room for a program");
        };
        equal!(class(&end), SVC_32, "class of {instruction:#x}, permitted");
    }
    Ok(())
}

/// Debug and performance registers that programs of an Armv8 machine may read. (QEMU keeps DBGDSCRint
/// and the data registers from them.)
pub(crate) fn aarch32_debug() -> Outcome {
    const SVC: u32 = 0xef00_0000;
    if !program::has_aarch32() {
        return Ok(());
    }
    for (name, instruction, value) in [
        (
            "DBGDIDR",
            coprocessor(14, 0, 0, 0, 0, true),
            Some(0x1106_8000),
        ),
        ("PMUSERENR", coprocessor(15, 0, 9, 14, 0, true), Some(0)),
        ("PMUSERENR", coprocessor(15, 0, 9, 14, 0, false), None),
        ("DBGBVR0", coprocessor(14, 0, 0, 0, 4, true), None),
    ] {
        let end = ends(Set::A32, &[with(instruction, 2), SVC], &[7; 15])?;
        // A CPU whose EL1 has no AArch32 may be without it.
        if name == "DBGDIDR" && class(&end) == UNDEFINED {
            continue;
        }
        match value {
            Some(value) => {
                equal!(class(&end), SVC_32, "class of {name}");
                equal!(end.x[2], value, "{name}");
            }
            None => check!(class(&end) != SVC_32, "{name} went through"),
        }
    }
    Ok(())
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
            let word = if set == Set::T32 { t32(word) } else { word };
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
