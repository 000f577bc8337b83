//! What is told of a guest that failed: registers, faulting address, last exits and reason, as lines for the console and
//! for the shell's `info`.

use core::fmt;

use arrayvec::ArrayVec;

use crate::counters::{ExitReason, Figures};
use crate::exit::{Exit, fault_ipa};
use crate::recent::{KEPT, Kind, Note};

/// Registers of a vCPU as its guest left them (DDI 0487, D24.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Registers {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Where it would go on.
    pub pc: u64,
    /// PSTATE, as `SPSR_EL2` has it.
    pub pstate: u64,
    /// `SP_EL0`.
    pub sp_el0: u64,
    /// `SP_EL1`.
    pub sp_el1: u64,
    /// `ESR_EL1`: the last exception that its own EL1 took, with the three that follow.
    pub esr: u64,
    /// `FAR_EL1`.
    pub far: u64,
    /// `ELR_EL1`.
    pub elr: u64,
    /// `SPSR_EL1`.
    pub spsr: u64,
    /// `SCTLR_EL1`.
    pub sctlr: u64,
    /// `TCR_EL1`.
    pub tcr: u64,
    /// `TTBR0_EL1`.
    pub ttbr0: u64,
    /// `TTBR1_EL1`.
    pub ttbr1: u64,
    /// `VBAR_EL1`.
    pub vbar: u64,
}

/// `PSTATE` names AArch32.
const AARCH32: u64 = 1 << 4;
/// `PSTATE.M` of EL1 with its own stack pointer.
const EL1H: u64 = 0b0101;

impl Registers {
    /// Where it was.
    #[must_use]
    pub const fn place(&self) -> Place {
        Place {
            pc: self.pc,
            pstate: self.pstate,
            // In AArch32 it is a program at EL0, whose stack pointer is r13.
            sp: if self.pstate & AARCH32 != 0 {
                self.x[13]
            } else if self.pstate & 0xf == EL1H {
                self.sp_el1
            } else {
                self.sp_el0
            },
            link: self.x[30],
        }
    }
}

/// Where a vCPU was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pc: u64,
    pstate: u64,
    /// The stack pointer in use.
    sp: u64,
    /// x30.
    link: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pc,
            pstate,
            sp,
            link,
        } = self;
        let level = match pstate & 0xf {
            _ if pstate & AARCH32 != 0 => "EL0 (AArch32)",
            EL1H => "EL1h",
            0b0100 => "EL1t",
            _ => "EL0",
        };
        write!(
            f,
            "PC {pc:#x} at {level}, PSTATE {pstate:#x}, SP {sp:#x}, x30 {link:#x}"
        )
    }
}

/// What EL2 noted of the exit that a guest did not survive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Syndrome {
    /// `ESR_EL2`.
    pub esr: u64,
    /// `FAR_EL2`.
    pub far: u64,
    /// `HPFAR_EL2`.
    pub hpfar: u64,
}

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "left by {}: ESR_EL2 {:#x}", Kind(self.esr), self.esr)?;
        if let Exit::DataAbort(abort) | Exit::InstructionAbort(abort) = Exit::decode(self.esr) {
            let (far, hpfar) = (self.far, self.hpfar);
            if abort.has_address() {
                write!(f, ", FAR_EL2 {far:#x}")?;
            }
            if abort.has_ipa() {
                let ipa = fault_ipa(hpfar, far).get();
                write!(f, ", HPFAR_EL2 {hpfar:#x}, IPA {ipa:#x}")?;
            }
        }
        Ok(())
    }
}

/// What is told of the vCPU that its domain failed with.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its number.
    pub vcpu: u32,
    /// What was wrong.
    pub reason: &'static str,
    /// Its registers.
    pub registers: Registers,
    /// The exit that ended it; none if it was ended from outside.
    pub syndrome: Option<Syndrome>,
    /// Exits that it took, by reason.
    pub figures: Figures,
    /// The last of them that took the long way.
    pub recent: [Note; KEPT],
    /// Where the others were, by number: those that were on, as many as there is room for.
    pub others: ArrayVec<(u32, Place), OTHERS>,
}

/// vCPUs beside the one that failed, of which a report has where they were.
pub const OTHERS: usize = 7;

/// Characters of the longest line.
pub const LONGEST: usize = 200;
/// Registers on a line.
const ROW: usize = 4;
/// Lines before the general registers.
const HEAD: usize = 4;
/// Lines of general registers.
const ROWS: usize = 31_usize.div_ceil(ROW);

/// Lines that every report has.
const FIXED: usize = HEAD + ROWS + 1;

impl Report {
    /// Line number `line`, from 0; `None` behind the last.
    #[must_use]
    pub fn line(&self, line: usize) -> Option<Line<'_>> {
        let all = FIXED
            .saturating_add(self.notes().count())
            .saturating_add(self.others.len());
        (line < all).then_some(Line { report: self, line })
    }

    fn notes(&self) -> impl Iterator<Item = &Note> {
        let used = |note: &&Note| **note != Note::default();
        self.recent.iter().filter(used)
    }
}

/// A line of a report.
#[derive(Clone, Copy, Debug)]
pub struct Line<'r> {
    report: &'r Report,
    line: usize,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            registers,
            syndrome,
            figures,
            ..
        } = self.report;
        match self.line {
            0 => write!(f, "{}; {}", self.report.reason, registers.place()),
            1 => match syndrome {
                Some(syndrome) => syndrome.fmt(f),
                None => f.write_str("ended from outside, not by an exit of its own"),
            },
            2 => write!(
                f,
                "last exception: ESR_EL1 {:#x}, FAR_EL1 {:#x}, ELR_EL1 {:#x}, SPSR_EL1 {:#x}",
                registers.esr, registers.far, registers.elr, registers.spsr
            ),
            3 => write!(
                f,
                "SCTLR_EL1 {:#x}, TCR_EL1 {:#x}, TTBR0_EL1 {:#x}, TTBR1_EL1 {:#x}, VBAR_EL1 {:#x}",
                registers.sctlr, registers.tcr, registers.ttbr0, registers.ttbr1, registers.vbar
            ),
            line if line < FIXED => match line.saturating_sub(HEAD) {
                row if row < ROWS => general(f, &registers.x, row),
                _ => Exits(*figures).fmt(f),
            },
            line => {
                let place = line.saturating_sub(FIXED);
                let told = self.report.notes().count();
                if let Some(note) = self.report.notes().nth(place) {
                    return write!(f, "before, at {note}");
                }
                match self.report.others.get(place.saturating_sub(told)) {
                    Some((vcpu, place)) => write!(f, "vCPU {vcpu} was elsewhere: {place}"),
                    None => Ok(()),
                }
            }
        }
    }
}

fn general(f: &mut fmt::Formatter<'_>, x: &[u64; 31], row: usize) -> fmt::Result {
    let first = row.saturating_mul(ROW);
    for (number, value) in x.iter().enumerate().skip(first).take(ROW) {
        let before = if number == first { "" } else { "  " };
        write!(f, "{before}x{number:<2} {value:#018x}")?;
    }
    Ok(())
}

/// Exits, by reason.
#[derive(Clone, Copy, Debug)]
pub struct Exits(pub Figures);

impl fmt::Display for Exits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for reason in ExitReason::ALL {
            let exits = self.0.exits_for(reason);
            write!(f, "{} {exits} ", reason.name())?;
        }
        write!(f, "of {} exits", self.0.all_exits())
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
