//! What interrupts cost, in ticks of the counter: from the cause to the first instruction of the handler, and to the
//! end of the interrupt. Run where a tick is an instruction (`-icount shift=0`, a counter of 1 GHz). Prints
//! `COUNT name N.NN`, as `count` does.
//!
//! The handlers are a few instructions of our own, behind vectors of our own, so that the guest's share is as small as
//! it can be. While they are in force these registers belong to them:
//!
//! | register | what |
//! |---|---|
//! | x22 | when the handler began; 0 before |
//! | x25 | when it ended the interrupt |
//! | x23 | the interrupt |
//! | x24 | GICC, on a GICv2 |
//! | x26 | the word of pending events that the event is in |
//! | x27 | the handler's second instruction and the rest of it |
//! | x28 | vcpu_info |

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use core::time::Duration;

use crate::check::{Outcome, Trouble, check, fail, within};
use runtime::abi::shared_info as layout;
use runtime::gic::{self, Gic, distributor};
use runtime::{arguments::arguments, cpu, event, memory, println, timer, xen};

global_asm!(
    ".balign 2048",
    "latency_vectors:",
    ".rept 5",
    ".balign 128",
    "b .",
    ".endr",
    // IRQ at EL1 with SP_EL1.
    ".balign 128",
    "mrs x22, cntvct_el0",
    "br x27",
    ".rept 10",
    ".balign 128",
    "b .",
    ".endr",
    ".balign 128",
    "latency_timer_v3:",
    "msr cntv_ctl_el0, xzr",
    "latency_end_v3:",
    "mrs x23, icc_iar1_el1",
    "msr icc_eoir1_el1, x23",
    "mrs x25, cntvct_el0",
    "eret",
    "latency_timer_v2:",
    "msr cntv_ctl_el0, xzr",
    "latency_end_v2:",
    "ldr w23, [x24, #0xc]",
    "str w23, [x24, #0x10]",
    "mrs x25, cntvct_el0",
    "eret",
    // The guest's side of an event: flag, selector, word; nobody else sends meanwhile.
    "latency_event_v3:",
    "strb wzr, [x28]",
    "str xzr, [x28, #8]",
    "str xzr, [x26]",
    "b latency_end_v3",
    "latency_event_v2:",
    "strb wzr, [x28]",
    "str xzr, [x28, #8]",
    "str xzr, [x26]",
    "b latency_end_v2",
);

unsafe extern "C" {
    static latency_vectors: u8;
    fn latency_timer_v3();
    fn latency_end_v3();
    fn latency_timer_v2();
    fn latency_end_v2();
    fn latency_event_v3();
    fn latency_event_v2();
}

/// The SGI that is sent.
const SGI: u64 = 7;

/// How this machine's interrupts are sent and ended.
#[derive(Clone, Copy)]
struct Way {
    is_v3: bool,
    /// GICC, or 0.
    interface: u64,
    /// GICD_SGIR, or 0.
    sender: u64,
}

impl Way {
    fn find() -> Result<Self, Trouble> {
        Ok(match gic::driver().ok_or(Trouble::Skip("no GIC"))? {
            Gic::V2(gic) => Self {
                is_v3: false,
                interface: gic.interface.base(),
                sender: gic.distributor.base() + distributor::SGIR as u64,
            },
            Gic::V3(_) => Self {
                is_v3: true,
                interface: 0,
                sender: 0,
            },
        })
    }

    fn end(self) -> u64 {
        let place: unsafe extern "C" fn() = if self.is_v3 {
            latency_end_v3
        } else {
            latency_end_v2
        };
        place as usize as u64
    }

    fn timer(self) -> u64 {
        let place: unsafe extern "C" fn() = if self.is_v3 {
            latency_timer_v3
        } else {
            latency_timer_v2
        };
        place as usize as u64
    }

    fn event(self) -> u64 {
        let place: unsafe extern "C" fn() = if self.is_v3 {
            latency_event_v3
        } else {
            latency_event_v2
        };
        place as usize as u64
    }

    /// What is written to send the SGI to CPU `target` (Aff0, the others 0), and where: GICD_SGIR, or 0 for
    /// ICC_SGI1R_EL1.
    fn sgi(self, target: u64) -> (u64, u64) {
        let value = if self.is_v3 {
            SGI << 24 | 1 << target
        } else {
            1 << (16 + target) | SGI
        };
        (value, self.sender)
    }
}

/// Runs `body` with the vectors above; interrupts are masked, `body` opens them where it waits.
fn with_vectors<R>(body: impl FnOnce() -> R) -> R {
    let before = cpu::mask();
    let old: u64;
    // SAFETY: the vectors are whole, and nothing else takes exceptions until they are given back.
    unsafe {
        asm!("mrs {old}, vbar_el1", "msr vbar_el1, {new}", "isb", old = out(reg) old, new = in(reg) &raw const latency_vectors);
    }
    let result = body();
    // SAFETY: the vectors of before.
    unsafe { asm!("msr vbar_el1, {old}", "isb", old = in(reg) old) };
    cpu::restore(before);
    result
}

fn report(name: &str, total: u64, loops: u64) {
    let hundredths = timer::duration(total).as_nanos() as u64 * 100 / loops;
    println!("COUNT {name} {}.{:02}", hundredths / 100, hundredths % 100);
}

/// One SGI after the other to this CPU: ticks to the handler, and to the end of the interrupt, all together.
fn self_sgi(way: Way, loops: u64) -> (u64, u64) {
    let (value, place) = way.sgi(cpu::own_affinity() & 0xff);
    let (mut to_handler, mut to_end) = (0_u64, 0_u64);
    with_vectors(|| {
        // SAFETY: registers as the module's head says; the handler touches no memory.
        unsafe {
            asm!(
                "msr daifclr, #2",
                "2: mov x22, #0",
                "cbnz {place}, 4f",
                "mrs x21, cntvct_el0",
                "msr icc_sgi1r_el1, {value}",
                "3: cbz x22, 3b",
                "5: sub x22, x22, x21",
                "add {to_handler}, {to_handler}, x22",
                "sub x25, x25, x21",
                "add {to_end}, {to_end}, x25",
                "subs x20, x20, #1",
                "b.ne 2b",
                "b 6f",
                "4: mrs x21, cntvct_el0",
                "str {value:w}, [{place}]",
                "7: cbz x22, 7b",
                "b 5b",
                "6: msr daifset, #2",
                inout("x20") loops => _,
                out("x21") _, out("x22") _, out("x23") _, out("x25") _,
                in("x24") way.interface, in("x27") way.end(),
                value = in(reg) value, place = in(reg) place,
                to_handler = inout(reg) to_handler, to_end = inout(reg) to_end,
            );
        }
    });
    (to_handler, to_end)
}

/// Ticks ahead that the timer is set.
fn ahead() -> u64 {
    timer::ticks(Duration::from_micros(30))
}

/// The virtual timer expires while this CPU is busy (`asleep` = 0) or in WFI: ticks to the handler, all together.
fn timer_to_handler(way: Way, loops: u64, asleep: u64) -> u64 {
    let mut total = 0_u64;
    with_vectors(|| {
        // SAFETY: as above.
        unsafe {
            asm!(
                "2: mov x22, #0",
                "mrs x21, cntvct_el0",
                "add x21, x21, {ahead}",
                "msr cntv_cval_el0, x21",
                "mov x23, #1",
                "msr cntv_ctl_el0, x23",
                "isb",
                "cbnz {asleep}, 4f",
                "msr daifclr, #2",
                "3: cbz x22, 3b",
                "msr daifset, #2",
                "b 5f",
                // Masked, so that the interrupt cannot come between the look and the sleep.
                "4: wfi",
                "msr daifclr, #2",
                "msr daifset, #2",
                "cbz x22, 4b",
                "5: sub x22, x22, x21",
                "add {total}, {total}, x22",
                "subs x20, x20, #1",
                "b.ne 2b",
                inout("x20") loops => _,
                out("x21") _, out("x22") _, out("x23") _, out("x25") _,
                in("x24") way.interface, in("x27") way.timer(),
                ahead = in(reg) ahead(), asleep = in(reg) asleep,
                total = inout(reg) total,
            );
        }
    });
    total
}

/// An event to this vCPU, from the call to the end of the upcall's interrupt.
fn event_to_self(way: Way, loops: u64) -> Result<u64, Trouble> {
    let Some((base, size)) = xen::window() else {
        return Err(Trouble::Skip("no window"));
    };
    let Ok(port) = event::bind_ipi(0) else {
        fail!("no port");
    };
    let shared = base + size - memory::PAGE;
    let word = shared + layout::SHARED_INFO_EVTCHN_PENDING as u64 + u64::from(port.0) / 64 * 8;
    if event::unmask(port).is_err() {
        fail!("unmask");
    }
    let argument = port.0;
    let mut total = 0_u64;
    with_vectors(|| {
        // SAFETY: as above; the handler clears what the runtime's would, in the page that both sides use by atomics.
        unsafe {
            asm!(
                "msr daifclr, #2",
                "2: mov x22, #0",
                "mrs x21, cntvct_el0",
                "mov x16, #32",
                "mov x0, #4",
                "mov x1, x10",
                "hvc #0xea1",
                "3: cbz x22, 3b",
                "sub x25, x25, x21",
                "add x9, x9, x25",
                "subs x20, x20, #1",
                "b.ne 2b",
                "msr daifset, #2",
                in("x10") &raw const argument,
                inout("x9") total => total,
                inout("x20") loops => _,
                out("x0") _, out("x1") _, out("x16") _,
                out("x21") _, out("x22") _, out("x23") _, out("x25") _,
                in("x24") way.interface, in("x26") word, in("x27") way.event(), in("x28") shared,
            );
        }
    });
    event::mask(port);
    event::take(port);
    let _ = event::close(port);
    Ok(total)
}

/// What the other vCPU does meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Yields,
    Spins,
    Answers,
}

static STARTED: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicU64 = AtomicU64::new(0);

/// Lets CPU 1 do this until `body` is over.
fn beside<R>(way: Way, what: Meanwhile, body: impl FnOnce() -> R) -> Result<R, Trouble> {
    STARTED.store(0, SeqCst);
    STOP.store(0, SeqCst);
    let started = cpu::start(1, move || {
        gic::enable(SGI as u32);
        STARTED.store(1, SeqCst);
        match what {
            Meanwhile::Yields => {
                while STOP.load(SeqCst) == 0 {
                    yield_once();
                }
            }
            Meanwhile::Spins => {
                while STOP.load(SeqCst) == 0 {
                    core::hint::spin_loop();
                }
            }
            Meanwhile::Answers => answer(way),
        }
    });
    if let Err(error) = started {
        fail!("CPU_ON: {error}");
    }
    let came = within(Duration::from_secs(5), || {
        yield_once();
        STARTED.load(SeqCst) != 0
    });
    check!(came, "CPU 1 did not come");
    let result = body();
    STOP.store(1, SeqCst);
    if what == Meanwhile::Answers {
        // One more, so that it looks.
        gic::send(SGI as u32, gic::Target::Cpu(1));
    }
    check!(crate::check::is_off_soon(1), "CPU 1 is not off");
    Ok(result)
}

/// SCHEDOP_yield.
fn yield_once() {
    // SAFETY: the call changes x0 alone.
    unsafe {
        asm!("hvc #0xea1", in("x16") 29_u64, inout("x0") 0_u64 => _, in("x1") 0_u64);
    }
}

/// Sends an SGI back for each one that comes, until told to stop.
fn answer(way: Way) {
    let (value, place) = way.sgi(0);
    with_vectors(|| {
        // SAFETY: registers as the module's head says.
        unsafe {
            asm!(
                "2: mov x22, #0",
                "3: wfi",
                "msr daifclr, #2",
                "msr daifset, #2",
                "cbz x22, 3b",
                "ldr x22, [{stop}]",
                "cbnz x22, 5f",
                "cbnz {place}, 4f",
                "msr icc_sgi1r_el1, {value}",
                "b 2b",
                "4: str {value:w}, [{place}]",
                "b 2b",
                "5:",
                out("x22") _, out("x23") _, out("x25") _,
                in("x24") way.interface, in("x27") way.end(),
                value = in(reg) value, place = in(reg) place, stop = in(reg) STOP.as_ptr(),
            );
        }
    });
}

/// SGIs to CPU 1, each of which is answered while this CPU sleeps: ticks of all rounds.
fn ping_pong(way: Way, loops: u64) -> u64 {
    let (value, place) = way.sgi(1);
    let start = timer::now();
    with_vectors(|| {
        // SAFETY: as above.
        unsafe {
            asm!(
                "2: mov x22, #0",
                "cbnz {place}, 4f",
                "msr icc_sgi1r_el1, {value}",
                "b 3f",
                "4: str {value:w}, [{place}]",
                "3: wfi",
                "msr daifclr, #2",
                "msr daifset, #2",
                "cbz x22, 3b",
                "subs x20, x20, #1",
                "b.ne 2b",
                inout("x20") loops => _,
                out("x22") _, out("x23") _, out("x25") _,
                in("x24") way.interface, in("x27") way.end(),
                value = in(reg) value, place = in(reg) place,
            );
        }
    });
    timer::now() - start
}

/// With a second vCPU, on the same CPU.
fn two(way: Way, loops: u64) -> Outcome {
    let loops = loops / 4;
    let yields = || {
        let start = timer::now();
        for _ in 0..loops {
            yield_once();
        }
        timer::now() - start
    };
    report(
        "two-switches",
        beside(way, Meanwhile::Yields, yields)?,
        loops,
    );
    // The first wake-ups may wait for the end of the other's slice: until it has had as much as this one.
    let woken = || {
        timer_to_handler(way, 4, 1);
        timer_to_handler(way, loops, 1)
    };
    report(
        "timer-wfi-switch",
        beside(way, Meanwhile::Spins, woken)?,
        loops,
    );
    let rounds = || ping_pong(way, loops);
    report(
        "sgi-ping-pong",
        beside(way, Meanwhile::Answers, rounds)?,
        loops,
    );
    Ok(())
}

pub(crate) fn run() -> Outcome {
    let loops = arguments().number("loops").unwrap_or(2_000);
    let way = Way::find()?;
    println!(
        "NOTE latency {} ps a tick, {loops} loops",
        1_000_000_000_000 / timer::frequency()
    );
    // Edge-triggered and ours alone.
    gic::enable(SGI as u32);
    let (to_handler, to_end) = self_sgi(way, loops);
    report("self-sgi-handler", to_handler, loops);
    report("self-sgi-end", to_end, loops);
    let intid = timer::intid();
    gic::enable(intid);
    report("timer-busy", timer_to_handler(way, loops, 0), loops);
    report("timer-wfi", timer_to_handler(way, loops, 1), loops);
    if xen::present() {
        report("event-to-self", event_to_self(way, loops)?, loops);
    }
    if cpu::count() > 1 {
        two(way, loops)?;
    }
    timer::restore_handler();
    Ok(())
}
