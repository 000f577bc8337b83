//! When EL2 itself fails: a panic, or an exception that it took from itself.
//!
//! What is known is printed past all locks: the message, CPU, the vCPU that was loaded, the syndrome,
//! registers, a backtrace as offsets into the image, and the tail of the trace. Then the other CPUs are
//! stopped, and the boot argument `on-panic` says what follows. A failure while failing stops at once.

use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use arch::vectors::{FatalCause, FatalFrame};
use arch::{cpu, entry};
use devtree::Action;
use sync::Once;

use crate::console::{self, RawConsole};
use crate::{cpus, interrupts, power, signal, trace};

/// Frames of a backtrace.
const MAX_FRAMES: usize = 24;
/// Records of the trace that are printed.
const MAX_RECORDS: u64 = 16;

/// The board's tree, in which the console is looked for if it has none yet.
static TREE: Once<&'static [u8]> = Once::new();
/// CPUs that failed, so far: the first one reports.
static FAILED: AtomicU32 = AtomicU32::new(0);
/// What follows; an [`Action`] as a number.
static THEN: AtomicU8 = AtomicU8::new(0);

/// Remembers where the board's tree is.
pub(crate) fn set_tree(tree: &'static [u8]) {
    TREE.call_once(|| tree);
}

/// Remembers what the boot argument asks for.
pub(crate) fn set_action(action: Action) {
    THEN.store(action as u8, Ordering::Relaxed);
}

/// Whether a CPU has failed: the others stop when they are told to look.
pub(crate) fn has_failed() -> bool {
    FAILED.load(Ordering::Relaxed) != 0
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    report(arch::cpu::frame_pointer(), &|out| {
        writeln!(out, "PANIC: {info}")
    })
}

/// An exception that EL2 took from itself.
pub(crate) fn fatal(cause: FatalCause, registers: &FatalFrame) -> ! {
    report(registers.x[29] as usize, &|out| {
        let kind = match cause.vector & 3 {
            0 => class(cause.esr),
            1 => "unexpected IRQ",
            2 => "unexpected FIQ",
            _ => "SError",
        };
        writeln!(out, "FAULT in EL2: {kind}")?;
        if is_stack_overflow(registers.sp, cause.far) {
            writeln!(out, "  the stack overflowed into its guard page")?;
        }
        writeln!(
            out,
            "  ESR {:#x} FAR {:#x} ELR {:#x} (image + {:#x}) SPSR {:#x} SP {:#x}",
            cause.esr,
            cause.far,
            cause.elr,
            image_offset(cause.elr),
            cause.spsr,
            registers.sp,
        )?;
        for (row, values) in registers.x.chunks(4).enumerate() {
            write!(out, " ")?;
            for (column, value) in values.iter().enumerate() {
                write!(out, " x{:<2} {value:#018x}", row * 4 + column)?;
            }
            writeln!(out)?;
        }
        Ok(())
    })
}

fn class(esr: u64) -> &'static str {
    match esr >> 26 & 0x3f {
        0x0 => "undefined instruction",
        0x21 => "instruction abort",
        0x25 => "data abort",
        0x22 => "misaligned PC",
        0x26 => "misaligned SP",
        0x3c => "BRK",
        _ => "synchronous exception",
    }
}

fn image_offset(address: u64) -> u64 {
    address.wrapping_sub(entry::image().map_or(0, |image| image.start().get()))
}

/// A fault next below the stack, on a page that the stack had just reached.
fn is_stack_overflow(sp: u64, far: u64) -> bool {
    cpus::this_cpu()
        .and_then(cpus::Cpu::guard)
        .is_some_and(|guard| {
            [far, sp]
                .map(::memory::Pa::new)
                .iter()
                .any(|address| guard.contains(*address))
        })
}

/// Prints the first lines of a report.
type What<'w> = &'w dyn Fn(&mut RawConsole) -> core::fmt::Result;

/// Stops the other CPUs and prints.
fn report(frame: usize, what: What<'_>) -> ! {
    if FAILED.fetch_add(1, Ordering::Relaxed) != 0 {
        // Failing while failing, or the second CPU to fail: the first report is the one that counts.
        cpu::park();
    }
    interrupts::stop_other_cpus();
    // As long as the boot map is in force.
    let boots = cpus::this_cpu().is_none();
    if let Some(tree) = TREE.get().filter(|_| boots && !console::is_described()) {
        console::start_early(devtree::early::console(tree), |uart| {
            arch::entry::map_early_device(uart.registers)
        });
    }
    let mut out = RawConsole::new();
    let _ = print(&mut out, frame, what);
    match THEN.load(Ordering::Relaxed) {
        action if action == Action::Reboot as u8 => power::reboot(),
        action if action == Action::PowerOff as u8 => power::off(),
        action if action == Action::Exit as u8 => cpu::semihosting_exit(101),
        _ => {}
    }
    let _ = writeln!(out, "halted");
    signal::stop(signal::Stop::Failure)
}

fn print(out: &mut RawConsole, frame: usize, what: What<'_>) -> core::fmt::Result {
    what(out)?;
    match cpus::this_cpu() {
        None => writeln!(out, "  CPU not yet up")?,
        Some(cpu) => {
            write!(out, "  CPU {}", cpu.index)?;
            match cpu.loaded() {
                Some(vcpu) => {
                    let (elr, spsr) = arch::vectors::return_state();
                    writeln!(
                        out,
                        ", vCPU {} of {} loaded: PC {elr:#x} PSTATE {spsr:#x}",
                        vcpu.id, vcpu.domain.name
                    )?;
                }
                None => writeln!(out, ", no vCPU loaded")?,
            }
        }
    }
    backtrace(out, frame)?;
    trace_tail(out)
}

/// Follows frame pointers up the stack: each frame is (frame pointer before, return address).
fn backtrace(out: &mut RawConsole, mut frame: usize) -> core::fmt::Result {
    write!(out, "  backtrace (image +):")?;
    for _ in 0..MAX_FRAMES {
        let Some((next, return_address)) = cpus::stack_words(frame) else {
            break;
        };
        if return_address == 0 {
            break;
        }
        write!(out, " {:#x}", image_offset(return_address))?;
        if next as usize <= frame {
            break;
        }
        frame = next as usize;
    }
    writeln!(out)
}

/// The last records of this CPU, and on the trace's UART, if there is one, all that was not sent.
fn trace_tail(out: &mut RawConsole) -> core::fmt::Result {
    let Some(cpu) = cpus::this_cpu() else {
        return Ok(());
    };
    if !trace::is_on() {
        return Ok(());
    }
    let mut result = Ok(());
    trace::tail(core::iter::once(cpu), MAX_RECORDS, |line| {
        result = result.and_then(|()| writeln!(out, "  {line}"));
    });
    trace::flush();
    result
}
