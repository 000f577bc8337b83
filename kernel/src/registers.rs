//! System registers and cache maintenance of a guest that trap: what `domain::sysreg` decides about them is
//! done here.

use crate::say::warn;
use arch::context::{self, Registers};
use arch::inject::{self, Exception};
use arch::vectors::{self, Resume};
use domain::coprocessor::{Coprocessor, Operand};
use domain::counters::ExitReason;
use domain::exit::SystemRegister;
use domain::set_way::{SetWay, caches_on};
use domain::sysreg::{self, Action, Encoding, GicInterface, Level, SgiRegister, SystemRegisters};
use domain::timer::TimerRegister;
use vgic::Version;

use crate::cpus::Cpu;
use crate::machine::Vcpu;
use crate::{exits, interrupts, schedule, timer};

/// The CPU that guests run on, for what they read of it.
struct HostCpu;

impl sysreg::Host for HostCpu {
    fn identity(&self, register: Encoding) -> u64 {
        arch::registers::identity(register.crm(), register.op2())
    }

    fn auxiliary_control(&self) -> u64 {
        arch::registers::auxiliary_control()
    }
}

/// What the trapped registers of a guest with this GIC hold.
pub(crate) fn for_guests(version: Version) -> SystemRegisters {
    SystemRegisters::new(
        &HostCpu,
        match version {
            Version::V2 => GicInterface::Memory,
            Version::V3 => GicInterface::SystemRegisters,
        },
    )
}

/// The guest read or wrote a register, or executed cache maintenance, that traps.
#[inline(never)]
pub(crate) fn access(
    cpu: &'static Cpu,
    vcpu: &'static Vcpu,
    guest: &mut Registers,
    access: SystemRegister,
) -> Resume {
    vcpu.counters.exit(ExitReason::SystemRegister);
    let (_, spsr) = vectors::return_state();
    let action = vcpu.domain.registers.access(access, Level::from_spsr(spsr));
    let register = access.register();
    match action {
        Action::Value(value) => guest.set(register, value),
        Action::Ignore => {}
        Action::Undefined => {
            exits::note(vcpu, u64::from(access.syndrome()));
            if vcpu.domain.may_complain() {
                warn!("{}: {access:?} is undefined here", vcpu.domain.name);
            }
            inject::inject(Exception::Undefined);
            return schedule::leave(cpu, vcpu);
        }
        Action::Sgi(SgiRegister::Group1) => {
            let notify = vcpu
                .domain
                .vgic
                .write_sgi1r(schedule::here(vcpu), guest.get(register));
            schedule::notify_all(vcpu.domain, notify);
        }
        Action::Deactivate => {
            if interrupts::is_end_split() {
                let vgic = &vcpu.domain.vgic;
                let notify = vgic.deactivate(schedule::here(vcpu), guest.get(register));
                schedule::notify_all(vcpu.domain, notify);
            }
        }
        // No interrupt of a guest is in those groups.
        Action::Sgi(SgiRegister::OtherGroup1 | SgiRegister::Group0) => {}
        Action::PhysicalTimer(which) if access.is_write() => {
            write_timer(vcpu, which, guest.get(register));
        }
        Action::PhysicalTimer(which) => guest.set(register, read_timer(vcpu, which)),
        // Not through yet: the guest executes it again.
        Action::SetWay if !maintain(vcpu, guest.get(register)) => {
            return schedule::leave(cpu, vcpu);
        }
        Action::StageOne if !write_stage_one(vcpu, access.encoding(), guest.get(register)) => {
            return schedule::leave(cpu, vcpu);
        }
        Action::SetWay | Action::StageOne => {}
    }
    vectors::skip_instruction();
    schedule::leave(cpu, vcpu)
}

fn read_timer(vcpu: &'static Vcpu, register: TimerRegister) -> u64 {
    let now = arch::time::counter();
    vcpu.physical_timer.lock().read(register, now)
}

fn write_timer(vcpu: &'static Vcpu, register: TimerRegister, value: u64) {
    let now = arch::time::counter();
    vcpu.physical_timer.lock().write(register, value, now);
    timer::update_physical(vcpu);
}

/// A program in AArch32 state read or wrote a register of a coprocessor that traps.
#[cold]
pub(crate) fn coprocessor(
    cpu: &'static Cpu,
    vcpu: &'static Vcpu,
    guest: &mut Registers,
    access: Coprocessor,
) -> Resume {
    vcpu.counters.exit(ExitReason::SystemRegister);
    match access.action() {
        Action::Value(value) => give(guest, access.operand(), value),
        Action::Ignore => {}
        Action::PhysicalTimer(which) if access.is_write() => {
            write_timer(vcpu, which, taken(guest, access.operand()));
        }
        Action::PhysicalTimer(which) => give(guest, access.operand(), read_timer(vcpu, which)),
        Action::Undefined
        | Action::Sgi(_)
        | Action::Deactivate
        | Action::SetWay
        | Action::StageOne => {
            if vcpu.domain.may_complain() {
                warn!("{}: {access:?} is undefined here", vcpu.domain.name);
            }
            inject::inject(Exception::Undefined);
            return schedule::leave(cpu, vcpu);
        }
    }
    vectors::skip_instruction();
    schedule::leave(cpu, vcpu)
}

/// What a program in AArch32 state writes.
fn taken(guest: &Registers, operand: Operand) -> u64 {
    const LOW: u64 = 0xffff_ffff;
    match operand {
        Operand::Register(number) => guest.get(number) & LOW,
        Operand::Pair(low, high) => guest.get(low) & LOW | guest.get(high) << 32,
        Operand::Flags => 0,
    }
}

/// What a program in AArch32 state reads.
fn give(guest: &mut Registers, operand: Operand, value: u64) {
    const LOW: u64 = 0xffff_ffff;
    match operand {
        Operand::Register(number) => guest.set(number, value & LOW),
        Operand::Pair(low, high) => {
            guest.set(low, value & LOW);
            guest.set(high, value >> 32);
        }
        Operand::Flags => vectors::set_condition_flags(value),
    }
}

/// Maintenance by set and way: a step of it. Whether it is through.
#[cold]
fn maintain(vcpu: &'static Vcpu, operand: u64) -> bool {
    let mut job = vcpu.set_way.lock();
    if job.maintenance(operand) {
        if clean_some(vcpu, &mut job) {
            return false;
        }
        job.watch(operand);
        context::trap_stage_one(true);
    }
    true
}

/// A write of a register of stage 1 while those trap: with a step of maintenance, if caches go off or on.
/// Whether it is through.
#[cold]
fn write_stage_one(vcpu: &'static Vcpu, register: Encoding, value: u64) -> bool {
    let write = || context::write_stage_one(register.crn(), register.crm(), register.op2(), value);
    let mut job = vcpu.set_way.lock();
    if register == sysreg::SCTLR && job.switch(context::system_control(), value) {
        if !caches_on(value) {
            write();
        }
        if clean_some(vcpu, &mut job) {
            return false;
        }
    }
    write();
    if job.is_over(context::system_control()) {
        context::trap_stage_one(false);
    }
    true
}

/// Whether there was something left to clean.
fn clean_some(vcpu: &'static Vcpu, job: &mut SetWay) -> bool {
    // A chunk that goes from the domain meanwhile loses nothing by it.
    let next = job.step(|slot| vcpu.domain.frames.lock().chunk_from(slot));
    if let Some(range) = next {
        arch::cache::clean_invalidate(range.start(), range.size());
    }
    next.is_some()
}
