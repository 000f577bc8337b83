//! Why a guest was left, and what is done about it.

pub(crate) mod quick;

use core::sync::atomic::Ordering;

use crate::say::warn;
use abi::Errno;
use abi::hypercall::GRANT_TABLE_OP;
use arch::context::{Arguments, Registers};
use arch::guest::{self, Intent};
use arch::inject::{self, Exception};
use arch::vectors::{self, Resume};
use domain::coprocessor::condition_passes;
use domain::counters::ExitReason;
use domain::exit::{
    self, Abort, ESR_HVC_SMCCC, ESR_HYPERCALL, ESR_SMC_SMCCC, Exit, Fault, SystemRegister, Wait,
    fault_ipa,
};
use domain::lifecycle::ShutdownReason;
use domain::psci;
use domain::recent::Note;
use xen::{Announcement, Begun, HotCall, OneGrant, Outcome};

use crate::cpus::Cpu;
use crate::hypercalls::{self, Calling};
use crate::interrupts;
use crate::machine::Vcpu;
use crate::{crash, devices, lifecycle, registers, schedule, smccc, timer, trace};

/// HVC and SMC: hypercalls, PSCI and SMCCC. Nothing on the way of a call that is answered at once needs a place on the
/// stack: whatever does is a function of its own, and the last thing that is called.
pub(crate) fn call(
    cpu: &'static Cpu,
    vcpu: &'static Vcpu,
    guest: &mut Arguments,
    esr: u64,
) -> Resume {
    if esr == ESR_HYPERCALL {
        vcpu.counters.exit(ExitReason::Hypercall);
        return match xen::at_once(guest.get::<16>(), guest.get::<0>()) {
            Some(value) => {
                guest.set::<0>(value as u64);
                schedule::leave(cpu, vcpu)
            }
            None if is_plain_send(guest) => send_event(vcpu, cpu, guest),
            None => hypercall(cpu, vcpu, guest),
        };
    }
    if esr == ESR_SMC_SMCCC {
        vectors::skip_long_instruction();
    } else if esr != ESR_HVC_SMCCC {
        return unknown_call(cpu, vcpu, esr);
    }
    vcpu.counters.exit(ExitReason::Firmware);
    match psci::at_once(guest.get::<0>()) {
        Some(value) => {
            guest.set::<0>(value);
            schedule::leave(cpu, vcpu)
        }
        None => smccc::call(cpu, vcpu, guest),
    }
}

/// Any other immediate is no call that anybody knows. An undefined instruction is reported at itself.
#[cold]
#[inline(never)]
fn unknown_call(cpu: &'static Cpu, vcpu: &'static Vcpu, esr: u64) -> Resume {
    vcpu.counters.exit(ExitReason::Other);
    note(vcpu, esr);
    let exit = Exit::decode(esr);
    if matches!(exit, Exit::Hvc { .. }) {
        vectors::repeat_hvc();
    }
    undefined(vcpu, exit);
    schedule::leave(cpu, vcpu)
}

/// Those that come most have their way first: an event, and a turn given up.
#[inline(never)]
fn hypercall(cpu: &'static Cpu, vcpu: &'static Vcpu, guest: &mut Arguments) -> Resume {
    match xen::hot_call(guest.get::<16>(), guest.get::<0>()) {
        Some(HotCall::Yield) => {
            guest.set::<0>(0);
            schedule::yield_now(cpu, vcpu)
        }
        Some(HotCall::Send) => send_event_traced(cpu, vcpu, guest),
        None => other_hypercall(cpu, vcpu, guest),
    }
}

/// Whether a hypercall is an event that no record is made of.
#[inline(always)]
fn is_plain_send(guest: &Arguments) -> bool {
    let call = xen::hot_call(guest.get::<16>(), guest.get::<0>());
    call == Some(HotCall::Send) && !trace::is_on()
}

/// The others, of which one grant is the hottest. Not above, where the two that are hotter would wait for the
/// question.
#[inline(never)]
fn other_hypercall(cpu: &'static Cpu, vcpu: &'static Vcpu, guest: &mut Arguments) -> Resume {
    match guest.get::<16>() {
        GRANT_TABLE_OP => grant_call(cpu, vcpu, guest),
        _ => any_hypercall(cpu, vcpu, guest),
    }
}

#[inline(always)]
fn grant_call(cpu: &'static Cpu, vcpu: &'static Vcpu, guest: &mut Arguments) -> Resume {
    match OneGrant::of(guest.get::<0>(), guest.get::<2>()) {
        Some(OneGrant::Copy) => grant_copy(cpu, vcpu, guest),
        Some(OneGrant::Map) => grant_map(cpu, vcpu, guest),
        Some(OneGrant::Unmap) => grant_unmap(cpu, vcpu, guest),
        None => any_hypercall(cpu, vcpu, guest),
    }
}

// Each with what it needs on the stack, and nothing below it.

#[inline(never)]
fn grant_copy(cpu: &'static Cpu, vcpu: &'static Vcpu, guest: &mut Arguments) -> Resume {
    one_grant(OneGrant::Copy, cpu, vcpu, guest)
}

#[inline(never)]
fn grant_map(cpu: &'static Cpu, vcpu: &'static Vcpu, guest: &mut Arguments) -> Resume {
    one_grant(OneGrant::Map, cpu, vcpu, guest)
}

#[inline(never)]
fn grant_unmap(cpu: &'static Cpu, vcpu: &'static Vcpu, guest: &mut Arguments) -> Resume {
    one_grant(OneGrant::Unmap, cpu, vcpu, guest)
}

#[inline(always)]
fn one_grant(
    one: OneGrant,
    cpu: &'static Cpu,
    vcpu: &'static Vcpu,
    guest: &mut Arguments,
) -> Resume {
    note_call(vcpu, guest.get::<16>(), guest.get::<0>());
    let done = one.serve(&Calling(vcpu), guest.get::<1>());
    after_call(cpu, vcpu, guest, done)
}

/// An event. vCPU and CPU stand in the order in which the vectors have them, so that they stay in their registers.
#[inline(never)]
fn send_event(vcpu: &'static Vcpu, cpu: &'static Cpu, guest: &mut Arguments) -> Resume {
    match xen::begin_send(&Calling(vcpu), guest.get::<1>()) {
        Begun::Done => after_call(cpu, vcpu, guest, Ok(())),
        Begun::Marked(announcement) => announce(vcpu, cpu, guest, announcement),
        Begun::Port(port) => send_port(vcpu, cpu, guest, port),
        Begun::Nothing => send_event_slowly(vcpu, cpu, guest),
    }
}

#[inline(never)]
fn announce(
    vcpu: &'static Vcpu,
    cpu: &'static Cpu,
    guest: &mut Arguments,
    announcement: Announcement,
) -> Resume {
    xen::announce(&Calling(vcpu), announcement);
    after_call(cpu, vcpu, guest, Ok(()))
}

#[inline(never)]
fn send_port(vcpu: &'static Vcpu, cpu: &'static Cpu, guest: &mut Arguments, port: u32) -> Resume {
    let sent = xen::send_port(&Calling(vcpu), port);
    after_call(cpu, vcpu, guest, sent)
}

#[cold]
#[inline(never)]
fn send_event_slowly(vcpu: &'static Vcpu, cpu: &'static Cpu, guest: &mut Arguments) -> Resume {
    let sent = xen::send_event(&Calling(vcpu), guest.get::<1>());
    after_call(cpu, vcpu, guest, sent)
}

#[cold]
fn send_event_traced(cpu: &'static Cpu, vcpu: &'static Vcpu, guest: &mut Arguments) -> Resume {
    let sent = xen::send_event_traced(&Calling(vcpu), guest.get::<1>());
    after_call(cpu, vcpu, guest, sent)
}

#[inline(always)]
fn after_call(
    cpu: &'static Cpu,
    vcpu: &'static Vcpu,
    guest: &mut Arguments,
    done: Result<(), Errno>,
) -> Resume {
    match done {
        Ok(()) => guest.set::<0>(0),
        // There is more to do, with the same arguments.
        Err(Errno::Restart) => vectors::repeat_hvc(),
        Err(error) => guest.set::<0>(error.as_return() as u64),
    }
    schedule::leave(cpu, vcpu)
}

/// Keeps a hypercall for a report.
#[inline(always)]
fn note_call(vcpu: &Vcpu, number: u64, argument: u64) {
    let (pc, _) = vectors::return_state();
    vcpu.recent
        .note(Note::call(ESR_HYPERCALL, pc, number, argument));
}

#[inline(never)]
fn any_hypercall(cpu: &'static Cpu, vcpu: &'static Vcpu, guest: &mut Arguments) -> Resume {
    note_call(vcpu, guest.get::<16>(), guest.get::<0>());
    let mut arguments = [
        guest.get::<0>(),
        guest.get::<1>(),
        guest.get::<2>(),
        guest.get::<3>(),
        guest.get::<4>(),
    ];
    match xen::dispatch(&Calling(vcpu), guest.get::<16>(), &mut arguments) {
        Outcome::Return(value) => {
            guest.set::<0>(value as u64);
            schedule::leave(cpu, vcpu)
        }
        outcome => hypercall_outcome(cpu, vcpu, guest, outcome, arguments),
    }
}

#[cold]
fn hypercall_outcome(
    cpu: &'static Cpu,
    vcpu: &'static Vcpu,
    guest: &mut Arguments,
    outcome: Outcome,
    arguments: xen::Arguments,
) -> Resume {
    match outcome {
        Outcome::Return(_) => schedule::leave(cpu, vcpu),
        Outcome::Yield => {
            guest.set::<0>(0);
            schedule::yield_now(cpu, vcpu)
        }
        Outcome::Block => {
            guest.set::<0>(0);
            vectors::unmask_interrupts();
            schedule::block(cpu, vcpu)
        }
        Outcome::Poll(deadline) => {
            guest.set::<0>(0);
            let ticks = deadline.map_or(u64::MAX, |time| {
                hypercalls::ticks(time.get()).saturating_add(vcpu.domain.counter_offset())
            });
            vcpu.poll_deadline.store(ticks, Ordering::Relaxed);
            timer::rearm(vcpu);
            schedule::poll(cpu, vcpu)
        }
        Outcome::Shutdown(reason) => {
            guest.set::<0>(0);
            let reason = ShutdownReason::from_number(u32::from(reason));
            let reason = reason.unwrap_or(ShutdownReason::Crash);
            if reason == ShutdownReason::Crash {
                crash::crash(vcpu, "it says so (SCHEDOP_shutdown)", ESR_HYPERCALL);
            } else {
                lifecycle::shut_down(vcpu.domain, reason);
            }
            schedule::next(cpu)
        }
        Outcome::Restart => {
            let [x0, x1, x2, x3, x4] = arguments;
            guest.set::<0>(x0);
            guest.set::<1>(x1);
            guest.set::<2>(x2);
            guest.set::<3>(x3);
            guest.set::<4>(x4);
            vectors::repeat_hvc();
            schedule::leave(cpu, vcpu)
        }
    }
}

/// An interrupt came while the guest ran.
pub(crate) fn interrupt(cpu: &'static Cpu, vcpu: &'static Vcpu) -> Resume {
    vcpu.counters.exit(ExitReason::Interrupt);
    interrupts::take(cpu, vcpu)
}

/// Every synchronous exit but HVC and SMC.
pub(crate) fn synchronous(
    cpu: &'static Cpu,
    vcpu: &'static Vcpu,
    guest: &mut Registers,
    esr: u64,
) -> Resume {
    if let Some(resume) = quick::serve_rest(cpu, vcpu, guest, esr).resume() {
        return resume;
    }
    match exit::class(esr) {
        exit::CLASS_DATA_ABORT => any_data_abort(cpu, vcpu, guest, esr),
        exit::CLASS_SYSTEM_REGISTER => {
            let access = SystemRegister::from_syndrome(esr as u32);
            registers::access(cpu, vcpu, guest, access)
        }
        exit::CLASS_WAIT if exit::is_interrupt_wait(esr) && vectors::is_aarch64() => {
            wait_for_interrupt(vcpu, cpu, esr)
        }
        _ => others(cpu, vcpu, guest, esr),
    }
}

/// WFI of a 64-bit program, which has no condition.
#[inline(never)]
fn wait_for_interrupt(vcpu: &'static Vcpu, cpu: &'static Cpu, esr: u64) -> Resume {
    vcpu.counters.exit(ExitReason::WaitInterrupt);
    let (pc, _) = vectors::return_state();
    vcpu.recent.note(Note::other(esr, pc));
    vectors::skip_long_instruction();
    schedule::block(cpu, vcpu)
}

/// Keeps an exit that carries nothing with it.
#[inline(never)]
pub(crate) fn note(vcpu: &'static Vcpu, esr: u64) {
    let (pc, _) = vectors::return_state();
    vcpu.recent.note(Note::other(esr, pc));
}

#[cold]
fn note_abort(vcpu: &'static Vcpu, esr: u64) {
    let (far, hpfar) = vectors::fault_address();
    let (pc, _) = vectors::return_state();
    vcpu.recent.note(Note::abort(esr, pc, far, hpfar));
}

/// What does not come often.
#[inline(never)]
fn others(cpu: &'static Cpu, vcpu: &'static Vcpu, guest: &mut Registers, esr: u64) -> Resume {
    if !condition_passes(esr, vectors::return_state().1) {
        vcpu.counters.exit(ExitReason::Other);
        vectors::skip_instruction();
        return schedule::leave(cpu, vcpu);
    }
    let exit = Exit::decode(esr);
    match exit {
        Exit::Wait(Wait::Interrupt | Wait::InterruptOrTime) => {
            vcpu.counters.exit(ExitReason::WaitInterrupt);
            note(vcpu, esr);
            vectors::skip_instruction();
            return schedule::block(cpu, vcpu);
        }
        Exit::Wait(Wait::Event | Wait::EventOrTime) => {
            vcpu.counters.exit(ExitReason::WaitEvent);
            note(vcpu, esr);
            vectors::skip_instruction();
            return schedule::yield_now(cpu, vcpu);
        }
        Exit::Coprocessor(access) => return registers::coprocessor(cpu, vcpu, guest, access),
        Exit::InstructionAbort(abort) => {
            note_abort(vcpu, esr);
            instruction_abort(vcpu, abort, esr);
        }
        _ => {
            vcpu.counters.exit(ExitReason::Other);
            note(vcpu, esr);
            undefined(vcpu, exit);
        }
    }
    schedule::leave(cpu, vcpu)
}

#[cold]
fn undefined(vcpu: &'static Vcpu, exit: Exit) {
    if vcpu.domain.may_complain() {
        warn!("{}: {exit:?} is undefined here", vcpu.domain.name);
    }
    inject::inject(Exception::Undefined);
}

#[inline(never)]
fn any_data_abort(
    cpu: &'static Cpu,
    vcpu: &'static Vcpu,
    guest: &mut Registers,
    esr: u64,
) -> Resume {
    let abort = Abort::from_syndrome(esr as u32);
    let (far, hpfar) = vectors::fault_address();
    if abort.has_ipa() {
        let ipa = fault_ipa(hpfar, far);
        if let Some(access) = abort.access(ipa)
            && let Some((device, offset)) = vcpu.domain.bus.find(&access)
        {
            vcpu.counters.exit(ExitReason::Device);
            match devices::access(vcpu, device, offset, &access, guest) {
                Ok(()) => vectors::skip_instruction(),
                Err(devices::NotDone::Again) => {}
                Err(devices::NotDone::Refused) => {
                    note_abort(vcpu, esr);
                    complain_access(vcpu, ipa.get(), "the device does not answer");
                    inject::inject(Exception::DataAbort {
                        address: far,
                        write: abort.is_write(),
                    });
                }
            }
            return schedule::leave(cpu, vcpu);
        }
    }
    note_abort(vcpu, esr);
    stray_access(vcpu, guest, abort, far, hpfar);
    schedule::leave(cpu, vcpu)
}

/// Where there is neither memory nor device.
#[cold]
fn stray_access(vcpu: &'static Vcpu, guest: &mut Registers, abort: Abort, far: u64, hpfar: u64) {
    vcpu.counters.exit(ExitReason::Memory);
    let ipa = fault_ipa(hpfar, far);
    // Another vCPU may have been in the middle of break-before-make: what the table says now counts.
    // The table comes first: translating a write to what may only be read ends QEMU 7.2 by an assertion.
    if matches!(abort.fault(), Fault::Translation(_) | Fault::Permission(_))
        && vcpu.domain.is_mapped(ipa, abort.is_write())
        && guest::translate(
            ::memory::Va::new(far),
            if abort.is_write() {
                Intent::Write
            } else {
                Intent::Read
            },
        )
        .is_some()
    {
        return;
    }
    if abort.is_cache_maintenance() {
        vectors::skip_instruction();
        return;
    }
    let is_absent = matches!(
        abort.fault(),
        Fault::Translation(_) | Fault::AddressSize(_) | Fault::AccessFlag(_)
    );
    if !vcpu.domain.trap_unmapped
        && is_absent
        && let Some(access) = abort.access(ipa)
    {
        if !access.write {
            guest.set(access.register, access.loaded(u64::MAX));
        }
        vectors::skip_instruction();
        return;
    }
    complain_access(vcpu, ipa.get(), "nothing is there");
    inject::inject(Exception::DataAbort {
        address: far,
        write: abort.is_write(),
    });
}

#[cold]
fn complain_access(vcpu: &'static Vcpu, ipa: u64, why: &str) {
    if vcpu.domain.may_complain() {
        let (pc, _) = vectors::return_state();
        warn!(
            "{}: vCPU {} at {pc:#x}: access to {ipa:#x}: {why}; data abort given",
            vcpu.domain.name, vcpu.id
        );
    }
}

#[cold]
fn instruction_abort(vcpu: &'static Vcpu, abort: Abort, esr: u64) {
    vcpu.counters.exit(ExitReason::Memory);
    let (far, hpfar) = vectors::fault_address();
    let ipa = fault_ipa(hpfar, far);
    if matches!(abort.fault(), Fault::Translation(_)) && vcpu.domain.is_mapped(ipa, false) {
        return;
    }
    if vcpu.domain.may_complain() {
        warn!(
            "{}: vCPU {} jumped to {far:#x} ({:#x}), where no memory is; abort given",
            vcpu.domain.name,
            vcpu.id,
            ipa.get(),
        );
    }
    // A guest whose own vectors are there would take this abort for ever, each time through EL2.
    if vectors::vectors_at() & !0xfff == far & !0xfff {
        crash::crash(vcpu, "its exception vectors are not in memory", esr);
        return;
    }
    inject::inject(Exception::InstructionAbort { address: far });
}
