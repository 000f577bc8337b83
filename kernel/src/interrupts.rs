//! Physical interrupts: the interrupt controller of the board, what each of EL2's few interrupts means,
//! and (in `lists`) the list registers as the vGIC asks for them.

mod lists;

pub(crate) use lists::Lists;

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::say::{debug, warn};
use arch::context;
use arch::vectors::Resume;
use devtree::board::Gic as Described;
use devtree::{Board, Options};
use platform::gic::{Acknowledged, Gic, IntId, Trigger, VirtualState};
use sync::Once;
use vgic::Version;

use crate::cpus::{self, Cpu};
use crate::machine::Vcpu;
use crate::{assigned, console, failure, schedule, stretch, trace};

/// "Look at your queue": somebody wakes a vCPU, or changed what its list registers should hold.
const LOOK: u32 = 0;
/// "Stop": the hypervisor has failed.
const STOP: u32 = 1;

/// `CNTV_CTL_EL0` with the line high: enabled, condition met, not masked.
const TIMER_MASK: u64 = 0b111;
const TIMER_HIGH: u64 = 0b101;

/// The guest's EOImode in its place of `GICH_VMCR` and `ICH_VMCR_EL2` alike.
const SPLIT_END: u64 = 1 << 9;

/// After a second, shifted by this, a timer interrupt is found that an emulator forgot: 2 ms.
const FORGETFUL_SHIFT: u32 = 9;

static GIC: Once<Lists> = Once::new();
static VIRTUAL_TIMER: AtomicU32 = AtomicU32::new(27);
static HYPERVISOR_TIMER: AtomicU32 = AtomicU32::new(26);
static MAINTENANCE: AtomicU32 = AtomicU32::new(25);
static UART: AtomicU32 = AtomicU32::new(u32::MAX);
static NATIVE_WAIT: AtomicBool = AtomicBool::new(false);
static NO_SLICES: AtomicBool = AtomicBool::new(false);

/// What the board's interrupt controller makes of the guests'.
#[derive(Clone, Copy)]
pub(crate) struct Virtual {
    /// Which GIC guests see.
    pub(crate) version: Version,
    /// GICv2: the page pair that guests see as their CPU interface.
    pub(crate) cpu_interface: Option<::memory::PaRange>,
}

pub(crate) fn gic() -> Option<&'static Gic> {
    lists().map(Lists::gic)
}

/// The list registers of whichever CPU executes.
pub(crate) fn lists() -> Option<&'static Lists> {
    GIC.get()
}

/// Which GIC guests of this board get.
pub(crate) fn virtual_of(board: &Board) -> Virtual {
    match &board.gic {
        Described::V2 {
            virtual_cpu_interface,
            ..
        } => Virtual {
            version: Version::V2,
            cpu_interface: Some(*virtual_cpu_interface),
        },
        Described::V3 { .. } => Virtual {
            version: Version::V3,
            cpu_interface: None,
        },
    }
}

/// Devices that the final map must hold for the interrupt controller.
pub(crate) fn regions(board: &Board) -> impl Iterator<Item = ::memory::PaRange> + '_ {
    let (one, two, three, rest): (_, _, _, &[_]) = match &board.gic {
        Described::V2 {
            distributor,
            cpu_interface,
            hypervisor_interface,
            ..
        } => (
            *distributor,
            Some(*cpu_interface),
            Some(*hypervisor_interface),
            &[],
        ),
        Described::V3 {
            distributor,
            redistributors,
            ..
        } => (*distributor, None, None, redistributors.as_slice()),
    };
    [Some(one), two, three]
        .into_iter()
        .flatten()
        .chain(rest.iter().copied())
}

#[expect(unsafe_code, reason = "the addresses come from the board's tree")]
fn open(board: &Board) -> Result<Gic, platform::gic::Error> {
    match &board.gic {
        Described::V2 {
            distributor,
            cpu_interface,
            hypervisor_interface,
            ..
        } => {
            // SAFETY: the tree says that a GICv2 lies there; the final map holds it as Device memory,
            // and only `GIC` drives it.
            unsafe { Gic::v2(*distributor, *cpu_interface, *hypervisor_interface) }
        }
        Described::V3 {
            distributor,
            redistributors,
            ..
        } => {
            // SAFETY: as above, for a GICv3.
            unsafe { Gic::v3(*distributor, redistributors) }
        }
    }
}

/// Whether the boot argument leaves the CPU to whoever has it, until it waits or yields.
pub(crate) fn no_slices() -> bool {
    NO_SLICES.load(Ordering::Relaxed)
}

/// Starts the distributor and this CPU's interface, and EL2's own interrupts.
pub(crate) fn start(board: &Board, options: &Options<'_>) -> Result<(), platform::gic::Error> {
    let gic = match GIC.set(Lists::new(open(board)?)) {
        Ok(lists) => lists.gic(),
        // It has been started before.
        Err(_) => return Ok(()),
    };
    let maintenance = match &board.gic {
        Described::V2 { maintenance, .. } | Described::V3 { maintenance, .. } => maintenance.intid,
    };
    MAINTENANCE.store(maintenance, Ordering::Relaxed);
    VIRTUAL_TIMER.store(board.timer.virtual_timer.intid, Ordering::Relaxed);
    HYPERVISOR_TIMER.store(board.timer.hypervisor.intid, Ordering::Relaxed);
    NATIVE_WAIT.store(options.native_wait, Ordering::Relaxed);
    NO_SLICES.store(options.no_slices, Ordering::Relaxed);
    gic.init_distributor()?;
    start_cpu();
    Ok(())
}

/// Lets the console's interrupt come to the boot CPU.
pub(crate) fn start_uart(board: &Board) -> Result<(), platform::gic::Error> {
    let Some(interrupt) = board.console.and_then(|uart| uart.interrupt) else {
        return Ok(());
    };
    UART.store(interrupt.intid, Ordering::Relaxed);
    claim_device(interrupt)
}

/// Lets the interrupt of a device of EL2's own come to this CPU.
pub(crate) fn claim_device(
    interrupt: devtree::board::Interrupt,
) -> Result<(), platform::gic::Error> {
    let (Some(gic), Some(cpu)) = (gic(), cpus::this_cpu()) else {
        return Ok(());
    };
    let Some(intid) = IntId::new(interrupt.intid) else {
        return Ok(());
    };
    gic.claim(cpu.index, intid)?;
    let trigger = if interrupt.edge {
        Trigger::Edge
    } else {
        Trigger::Level
    };
    gic.set_trigger(cpu.index, intid, trigger)?;
    gic.set_target(intid, cpu.index)?;
    gic.enable(cpu.index, intid)
}

/// Starts this CPU's interface and its private interrupts.
pub(crate) fn start_cpu() {
    let (Some(gic), Some(cpu)) = (gic(), cpus::this_cpu()) else {
        return;
    };
    if let Err(error) = gic.init_cpu(cpu.index, arch::cpu::affinity()) {
        warn!("CPU {}: interrupts: {error}", cpu.index);
        return;
    }
    for number in [&VIRTUAL_TIMER, &HYPERVISOR_TIMER, &MAINTENANCE] {
        let number = number.load(Ordering::Relaxed);
        let Some(intid) = IntId::new(number) else {
            continue;
        };
        if let Err(error) = gic
            .claim(cpu.index, intid)
            .and_then(|()| gic.enable(cpu.index, intid))
        {
            warn!("CPU {}: {error}", cpu.index);
        }
    }
    for sgi in [LOOK, STOP] {
        if let Some(intid) = IntId::new(sgi) {
            // SGIs may be always on; the write is harmless then.
            let _ = gic.enable(cpu.index, intid);
        }
    }
    gic.enable_virtual(true);
}

/// Whether the boot argument leaves guests' WFI alone always.
pub(crate) fn native_wait() -> bool {
    NATIVE_WAIT.load(Ordering::Relaxed)
}

/// Tells a CPU to look at its queue.
pub(crate) fn send_look(cpu: &Cpu) {
    if let Some(gic) = gic() {
        let _ = gic.send_sgi(cpu.index, LOOK);
    }
}

/// Tells the other CPUs to stop for good.
pub(crate) fn stop_other_cpus() {
    let (Some(gic), Some(this)) = (gic(), cpus::this_cpu()) else {
        return;
    };
    for cpu in cpus::all() {
        if cpu.index != this.index {
            let _ = gic.send_sgi(cpu.index, STOP);
        }
    }
}

/// One interrupt while a guest runs. If more are pending the guest is left again at once.
#[inline(always)]
pub(crate) fn take(cpu: &'static Cpu, vcpu: &'static Vcpu) -> Resume {
    let gic = vcpu.lists.gic();
    if let Some(acknowledged) = gic.acknowledge() {
        gic.priority_drop(acknowledged);
        let number = acknowledged.intid().get();
        if is_virtual_timer(number) {
            // It stays active until the guest ends it through its list register.
            inject_timer(vcpu, number);
            remind(gic);
        } else if other(gic, cpu, number) {
            gic.deactivate(acknowledged);
        }
    }
    schedule::leave_after_interrupt(cpu, vcpu)
}

/// Sleeps until an interrupt, and takes it.
pub(crate) fn idle(cpu: &'static Cpu) {
    stretch::pause(cpu);
    arch::cpu::wait_for_interrupt();
    serve(cpu);
}

/// Takes an interrupt that is pending, between pieces of the hypervisor's own work.
pub(crate) fn serve(cpu: &'static Cpu) {
    stretch::breath(cpu);
    if let Some(gic) = gic()
        && let Some(acknowledged) = gic.acknowledge()
    {
        if trace::is_on() {
            trace::points::interrupt(acknowledged.intid().get(), None);
        }
        dispatch(gic, cpu, cpu.loaded(), acknowledged);
    }
}

/// The interrupt for which a guest was just left.
pub(crate) fn highest_pending() -> Option<u32> {
    gic()?.highest_pending().map(IntId::get)
}

fn dispatch(
    gic: &'static Gic,
    cpu: &'static Cpu,
    loaded: Option<&'static Vcpu>,
    acknowledged: Acknowledged,
) {
    let number = acknowledged.intid().get();
    gic.priority_drop(acknowledged);
    if is_virtual_timer(number)
        && let Some(vcpu) = loaded
    {
        inject_timer_elsewhere(vcpu, number);
        schedule::wake_if_blocked(vcpu);
        remind(gic);
    } else if is_virtual_timer(number) || other(gic, cpu, number) {
        gic.deactivate(acknowledged);
    }
}

/// An interrupt that is not the virtual timer's. `false` if a guest is to end it.
#[cold]
#[inline(never)]
fn other(gic: &Gic, cpu: &'static Cpu, number: u32) -> bool {
    if number != HYPERVISOR_TIMER.load(Ordering::Relaxed) {
        return of_no_timer(gic, cpu, number);
    }
    // The queue is looked at, after those have woken whose time has come.
    platform::timer::disarm();
    cpu.alarms.add(1);
    cpu.look.store(true, Ordering::Relaxed);
    true
}

/// Has an emulator look again that forgets an interrupt.
#[inline(always)]
fn remind(gic: &Gic) {
    if let Some(soon) = reminder_of(gic) {
        platform::timer::arm_no_later(soon);
    }
}

/// When an interrupt of our own is to come for an emulator that forgets one which the guest has ended while its line
/// was high: it makes it look again. As long as the line is high, since the guest may end it at any time.
#[inline(always)]
pub(crate) fn reminder_of(gic: &Gic) -> Option<u64> {
    if !gic.forgets_after_virtual_end() {
        return None;
    }
    let soon =
        || platform::timer::now().wrapping_add(platform::timer::frequency() >> FORGETFUL_SHIFT);
    (is_timer_high() || is_any_under_way(gic)).then(soon)
}

/// The same, of the board's controller.
pub(crate) fn reminder() -> Option<u64> {
    gic().and_then(reminder_of)
}

fn is_any_under_way(gic: &Gic) -> bool {
    cpus::this_cpu().is_some_and(|cpu| assigned::is_under_way(gic, cpu.index))
}

/// Whether this is the number of the virtual timer's interrupt.
#[inline]
fn is_virtual_timer(number: u32) -> bool {
    number == VIRTUAL_TIMER.load(Ordering::Relaxed)
}

/// Whether the line of the virtual timer of the vCPU that is loaded is high.
fn is_timer_high() -> bool {
    context::virtual_timer().0 & TIMER_MASK == TIMER_HIGH
}

#[inline(always)]
fn inject_timer(vcpu: &'static Vcpu, number: u32) {
    let Some(physical) = vgic::IntId::new(number) else {
        return;
    };
    let here = Some(schedule::here(vcpu));
    let notify =
        vcpu.domain
            .vgic
            .inject_hardware(vcpu.id, vgic::IntId::VIRTUAL_TIMER, physical, here);
    schedule::notify_all(vcpu.domain, notify);
}

/// The same, where it is not the hottest of all paths.
#[inline(never)]
fn inject_timer_elsewhere(vcpu: &'static Vcpu, number: u32) {
    inject_timer(vcpu, number);
}

/// An interrupt of neither timer. `false` if a guest is to end it.
#[cold]
#[inline(never)]
fn of_no_timer(gic: &Gic, cpu: &'static Cpu, number: u32) -> bool {
    match number {
        LOOK => {
            trace::follow(cpu);
            cpu.look.store(true, Ordering::Relaxed);
        }
        STOP if failure::has_failed() => arch::cpu::park(),
        _ if number == MAINTENANCE.load(Ordering::Relaxed) => {
            if let Some(vcpu) = cpu.loaded() {
                let notify = vcpu.domain.vgic.enter(schedule::here(vcpu));
                schedule::notify_all(vcpu.domain, notify);
            }
        }
        _ if number == UART.load(Ordering::Relaxed) => {
            console::interrupt();
            // UARTs of a Pi share one.
            if trace::is_own_interrupt(number) {
                trace::interrupt();
            }
        }
        _ if trace::is_own_interrupt(number) => trace::interrupt(),
        _ if assigned::arrived(gic, cpu, number) => {
            remind(gic);
            return false;
        }
        _ => {
            // An interrupt that nobody asked for: silence it rather than take it for ever.
            debug!("CPU {}: unexpected interrupt {number}", cpu.index);
            if let Some(intid) = IntId::new(number) {
                let _ = gic.disable(cpu.index, intid);
            }
        }
    }
    true
}

/// Whether the guest that is loaded ends interrupts in two steps (EOImode 1).
pub(crate) fn is_end_split() -> bool {
    gic().is_some_and(|gic| gic.vmcr() & SPLIT_END != 0)
}

/// Whether the virtual timer's interrupt is active on this CPU.
pub(crate) fn is_timer_active() -> bool {
    with_timer(|gic, cpu, intid| gic.is_active(cpu, intid)).unwrap_or(false)
}

/// Sets or clears its active state on this CPU.
pub(crate) fn set_timer_active(active: bool) {
    with_timer(|gic, cpu, intid| gic.set_active(cpu, intid, active));
}

fn with_timer<R>(
    operation: impl FnOnce(&Gic, usize, IntId) -> Result<R, platform::gic::Error>,
) -> Option<R> {
    let intid = IntId::new(VIRTUAL_TIMER.load(Ordering::Relaxed))?;
    operation(gic()?, cpus::this_cpu()?.index, intid).ok()
}

/// The timer of the vCPU that was just loaded expired while it was away: its interrupt is taken here at once, rather
/// than by an exit of its own.
pub(crate) fn give_timer(vcpu: &'static Vcpu) {
    if is_timer_high() {
        set_timer_active(true);
        inject_timer_elsewhere(vcpu, VIRTUAL_TIMER.load(Ordering::Relaxed));
    }
}

/// Reads the virtual CPU interface of the vCPU that leaves.
#[inline]
pub(crate) fn save_interface(gic: &Gic, state: &VirtualState) {
    gic.save_virtual(state);
}

/// Writes the virtual CPU interface of the vCPU that comes.
#[inline]
pub(crate) fn load_interface(gic: &Gic, state: &VirtualState) {
    gic.load_virtual(state);
}
