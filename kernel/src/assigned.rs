//! Interrupts of the board's devices that guests have: an interrupt that arrives is its guest's by a list register that is
//! linked to it, and what the guest says of it at its interrupt controller is said to the board's.
//!
//! A shared interrupt has the same number in the guest as on the board. It is active from its acknowledgement here
//! until the guest ends it, which ends it on the board too, so it does not come again before.

use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::say::warn;
use abi::DomainId;
use devtree::board::Interrupt;
use platform::gic::{Gic, IntId, Trigger};
use sync::SpinLock;
use vgic::VcpuId;

use crate::cpus::{self, Cpu};
use crate::interrupts;
use crate::machine::{self, Domain};
use crate::schedule;

/// Interrupts that a GIC has.
const INTERRUPTS: usize = 1020;
/// The first shared one.
const FIRST_SHARED: u32 = 32;

/// The id of the domain that has each interrupt; 0 for nobody.
static OWNERS: [AtomicU16; INTERRUPTS] = [const { AtomicU16::new(0) }; INTERRUPTS];

/// A bit for each interrupt of a guest that was taken and that the guest has not ended yet, as far as is known: an
/// emulator that forgets those that come again meanwhile is to be reminded.
static UNDER_WAY: [AtomicU32; INTERRUPTS.div_ceil(32)] =
    [const { AtomicU32::new(0) }; INTERRUPTS.div_ceil(32)];

/// Whether any of these bits may be set: where guests have no devices the words are not looked at.
static ANY_UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// One interrupt of a domain, and what was last said of it to the board's interrupt controller.
struct Line {
    intid: IntId,
    enabled: bool,
    edge: bool,
    /// The CPU that it goes to.
    target: usize,
}

/// The interrupts of a domain, by number.
pub(crate) struct Lines {
    lines: SpinLock<Box<[Line]>>,
    count: usize,
}

impl Lines {
    /// Makes sure that the interrupts are there, and ours to give. `None` if there is no memory. A guest that asks for
    /// each device gets `all` or none; one that has what there is does without those that firmware kept.
    ///
    /// # Errors
    /// The interrupt that is not.
    pub(crate) fn new(
        interrupts: &[Interrupt],
        all: bool,
    ) -> Option<Result<Self, platform::gic::Error>> {
        let mut lines = Vec::new();
        lines.try_reserve_exact(interrupts.len()).ok()?;
        for interrupt in interrupts {
            let intid = IntId::new(interrupt.intid).filter(|intid| !intid.is_private())?;
            let (gic, cpu) = (interrupts::gic()?, cpus::this_cpu()?);
            match gic.claim(cpu.index, intid) {
                Err(error) if all => return Some(Err(error)),
                Err(error) => {
                    warn!("board's devices: {error}; the guest does without it");
                    continue;
                }
                Ok(()) => {}
            }
            lines.push(Line {
                intid,
                enabled: false,
                edge: false,
                target: usize::MAX,
            });
        }
        ::memory::sort_by_key(&mut lines, |line| line.intid);
        Some(Ok(Self {
            count: lines.len(),
            lines: SpinLock::new(lines.into_boxed_slice()),
        }))
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The domain's interrupts are its own from now on: they come once it enables them.
pub(crate) fn start(domain: &Domain) {
    for line in domain.lines.lines.lock().iter_mut() {
        if let Err(error) = quiet(line) {
            warn!("{}: {error}", domain.name);
        }
        if let Some(owner) = owner(line.intid.get()) {
            owner.store(domain.id.0, Ordering::Release);
        }
    }
}

/// The domain has ended: none of its interrupts comes any more, and none stays active.
pub(crate) fn end(domain: &Domain) {
    for line in domain.lines.lines.lock().iter_mut() {
        if let Some(owner) = owner(line.intid.get()) {
            owner.store(0, Ordering::Release);
        }
        // It may be that nobody could end it.
        let _ = quiet(line);
    }
}

fn owner(intid: u32) -> Option<&'static AtomicU16> {
    OWNERS.get(intid as usize)
}

/// Disables an interrupt, and makes it neither pending nor active.
fn quiet(line: &mut Line) -> Result<(), platform::gic::Error> {
    let (Some(gic), Some(cpu)) = (interrupts::gic(), cpus::this_cpu()) else {
        return Ok(());
    };
    line.enabled = false;
    gic.disable(cpu.index, line.intid)?;
    gic.clear_pending(cpu.index, line.intid)?;
    gic.set_active(cpu.index, line.intid, false)
}

/// An interrupt was taken on this CPU. `true` if it is a guest's, which ends it.
pub(crate) fn arrived(gic: &Gic, cpu: &'static Cpu, number: u32) -> bool {
    let id = owner(number).map_or(0, |owner| owner.load(Ordering::Acquire));
    let (Some(domain), Some(intid)) = (machine::find(DomainId(id)), vgic::IntId::new(number))
    else {
        return false;
    };
    if id == 0 || !domain.is_running() {
        return false;
    }
    let here = schedule::here_of(domain);
    let notify = (domain.vgic).inject_shared_hardware(VcpuId::BOOT, intid, intid, here);
    schedule::notify_all(domain, notify);
    if let Some(vcpu) = here.and_then(|here| domain.vcpu(here.vcpu)) {
        // It may have gone straight into a list register of the vCPU that sleeps here.
        schedule::wake_if_blocked(vcpu);
    }
    follow(gic, cpu, domain, number);
    if let Some(word) = UNDER_WAY.get((number / 32) as usize) {
        word.fetch_or(1 << (number % 32), Ordering::Relaxed);
        ANY_UNDER_WAY.store(true, Ordering::Release);
    }
    true
}

/// Has an interrupt come to the CPU of the vCPU that gets it, from the next time on.
fn follow(gic: &Gic, cpu: &'static Cpu, domain: &'static Domain, number: u32) {
    let Some(home) = home_of(domain, number).filter(|home| *home != cpu.index) else {
        return;
    };
    let mut lines = domain.lines.lines.lock();
    if let Some(line) = lines.iter_mut().find(|line| line.intid.get() == number)
        && line.target != home
        && gic.set_target(line.intid, home).is_ok()
    {
        line.target = home;
    }
}

/// The CPU of the vCPU that an interrupt is routed to; of the first vCPU, if it is routed to none.
fn home_of(domain: &'static Domain, number: u32) -> Option<usize> {
    let settings = domain.vgic.shared_settings(vgic::IntId::new(number)?);
    let target = settings.and_then(|settings| settings.target);
    let vcpu = domain.vcpu(target.unwrap_or(VcpuId::BOOT))?;
    Some(vcpu.home().index)
}

/// The interrupts that a register of the guest's distributor is about, if it is one that the board is to be told of:
/// enable, trigger, or target.
fn concerned(offset: u64) -> Option<core::ops::Range<u32>> {
    let offset = u32::try_from(offset).ok()?;
    let (first, count) = match offset {
        0x100..0x200 => ((offset & 0x7c) * 8, 32),
        0x800..0xc00 => (offset & 0x3fc, 4),
        0xc00..0xd00 => ((offset & 0xfc) * 4, 16),
        0x6100..0x8000 => ((offset - 0x6000) / 8, 1),
        _ => return None,
    };
    (first + count > FIRST_SHARED).then_some(first..first + count)
}

/// The guest wrote to its distributor: the board's is told what concerns the guest's own interrupts.
#[cold]
pub(crate) fn forward(domain: &'static Domain, offset: u64) {
    let (Some(range), Some(gic), Some(cpu)) =
        (concerned(offset), interrupts::gic(), cpus::this_cpu())
    else {
        return;
    };
    // Who comes last here has read what was written last.
    let mut lines = domain.lines.lines.lock();
    for line in lines.iter_mut() {
        if range.contains(&line.intid.get())
            && domain.is_running()
            && let Err(error) = tell(gic, cpu, domain, line)
            && domain.may_complain()
        {
            warn!("{}: {error}", domain.name);
        }
    }
}

fn tell(
    gic: &Gic,
    cpu: &'static Cpu,
    domain: &'static Domain,
    line: &mut Line,
) -> Result<(), platform::gic::Error> {
    let number = line.intid.get();
    let Some(settings) = vgic::IntId::new(number).and_then(|id| domain.vgic.shared_settings(id))
    else {
        return Ok(());
    };
    if line.enabled && (!settings.enabled || settings.edge != line.edge) {
        gic.disable(cpu.index, line.intid)?;
        line.enabled = false;
    }
    if settings.edge != line.edge {
        let trigger = match settings.edge {
            true => Trigger::Edge,
            false => Trigger::Level,
        };
        gic.set_trigger(cpu.index, line.intid, trigger)?;
        line.edge = settings.edge;
    }
    if let Some(home) = home_of(domain, number).filter(|home| *home != line.target) {
        gic.set_target(line.intid, home)?;
        line.target = home;
    }
    if settings.enabled && !line.enabled {
        gic.enable(cpu.index, line.intid)?;
        line.enabled = true;
    }
    Ok(())
}

/// Whether an interrupt of a guest that was taken is not ended yet.
#[inline]
pub(crate) fn is_under_way(gic: &Gic, cpu: usize) -> bool {
    ANY_UNDER_WAY.load(Ordering::Relaxed) && look_for_those_under_way(gic, cpu)
}

#[cold]
fn look_for_those_under_way(gic: &Gic, cpu: usize) -> bool {
    // One that arrives from here on says so again.
    ANY_UNDER_WAY.swap(false, Ordering::Acquire);
    let mut found = false;
    for (index, word) in (0_u32..).zip(&UNDER_WAY) {
        let mut bits = word.load(Ordering::Relaxed);
        while bits != 0 {
            let bit = bits.trailing_zeros();
            bits &= bits - 1;
            let intid = IntId::new(index * 32 + bit);
            if intid.is_some_and(|intid| gic.is_active(cpu, intid).unwrap_or(false)) {
                found = true;
            } else {
                word.fetch_and(!(1 << bit), Ordering::Relaxed);
            }
        }
    }
    if found {
        ANY_UNDER_WAY.store(true, Ordering::Release);
    }
    found
}
