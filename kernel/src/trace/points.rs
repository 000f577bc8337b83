//! What is recorded, one function a record: out of the way of the code that calls it, which asks [`super::is_on`]
//! first.
//!
//! The first word of a format says what happened; `docs/tracing.md` has the list, and `tools/trace` reads it. `dNvM` is
//! vCPU M of domain N. All arguments of a record are fields of one number.

use arch::context::Arguments;
use arch::vectors;
use domain::exit::{self, ESR_HYPERCALL, fault_ipa};
use domain::life::Cause;
use domain::lifecycle::Power;
use vgic::{ListRegister, ListRegisters};
use xen::{Runstate, Traced};

use crate::cpus::Cpu;
use crate::interrupts;
use crate::machine::{Domain, Vcpu};
use crate::trace::record;

/// How an exit came, as the vectors say.
const SYNCHRONOUS: u64 = 0;
const INTERRUPT: u64 = 1;

/// Domain in bits 15:0, vCPU in 23:16.
fn who(vcpu: &Vcpu) -> u128 {
    u128::from(vcpu.domain.id.0) | u128::from(vcpu.id.get() as u8) << 16
}

/// A field of a number, cut to its width.
fn field(value: u64, at: u32, width: u32) -> u128 {
    let kept = u128::from(value) & ((1 << width) - 1);
    kept << at
}

fn is_firmware_call(esr: u64) -> bool {
    matches!(exit::class(esr), exit::CLASS_HVC | exit::CLASS_SMC)
}

/// A guest was left. The interrupt is the one that will be acknowledged, but for one that comes meanwhile.
#[inline(always)]
pub(crate) fn exit(cpu: &Cpu, vcpu: &Vcpu, guest: &Arguments, kind: u64, esr: u64) {
    cpu.trace.keep_listed(!vcpu.lists.empty());
    if kind == INTERRUPT {
        cpu.trace.mark();
        if let Some(number) = interrupts::highest_pending() {
            interrupt(number, Some(vcpu));
        }
        return;
    }
    let who = who(vcpu);
    if kind != SYNCHRONOUS {
        serror(who, esr);
    } else if esr == ESR_HYPERCALL {
        hypercall(who, guest.get::<16>(), guest.get::<0>(), guest.get::<1>());
    } else {
        match exit::class(esr) {
            exit::CLASS_HVC | exit::CLASS_SMC => firmware(who, guest.get::<0>(), guest.get::<1>()),
            exit::CLASS_DATA_ABORT | exit::CLASS_INSTRUCTION_ABORT => {
                let (far, hpfar) = vectors::fault_address();
                abort(who, esr, fault_ipa(hpfar, far).get());
            }
            _ => trap(who, esr, vectors::return_state().0),
        }
    }
}

fn hypercall(who: u128, number: u64, x0: u64, x1: u64) {
    let number = number.min(0xffff);
    record!(
        "hypercall d{0=0..16}v{0=16..24} number={0=24..40} x0={0=40..72:#x} x1={0=72..128:#x}",
        who | field(number, 24, 16) | field(x0, 40, 32) | field(x1, 72, 56)
    );
}

fn firmware(who: u128, function: u64, x1: u64) {
    record!(
        "firmware d{0=0..16}v{0=16..24} function={0=24..56:#x} x1={0=56..120:#x}",
        who | field(function, 24, 32) | field(x1, 56, 64)
    );
}

fn abort(who: u128, esr: u64, ipa: u64) {
    record!(
        "abort d{0=0..16}v{0=16..24} esr={0=24..56:#x} ipa={0=56..104:#x}",
        who | field(esr, 24, 32) | field(ipa, 56, 48)
    );
}

fn trap(who: u128, esr: u64, pc: u64) {
    record!(
        "trap d{0=0..16}v{0=16..24} esr={0=24..56:#x} pc={0=56..120:#x}",
        who | field(esr, 24, 32) | field(pc, 56, 64)
    );
}

fn serror(who: u128, esr: u64) {
    record!(
        "serror d{0=0..16}v{0=16..24} esr={0=24..56:#x}",
        who | field(esr, 24, 32)
    );
}

/// A guest is about to go on. `left` is the one that was left by this `kind` of exit, if it is the same.
#[inline(always)]
pub(crate) fn entry(cpu: &Cpu, left: Option<(&Vcpu, &Arguments)>, kind: u64, esr: u64) {
    let Some(lists) = cpu.loaded().map(|vcpu| vcpu.lists) else {
        return;
    };
    let new = cpu.trace.newly_listed(!lists.empty(), left.is_some());
    if new != 0 {
        injections(cpu, new & ((1_u64 << lists.count().min(32)) - 1) as u32);
    }
    match left {
        Some((vcpu, guest)) if kind == SYNCHRONOUS && esr == ESR_HYPERCALL => {
            returned(who(vcpu), guest.get::<0>());
        }
        Some((vcpu, guest)) if kind == SYNCHRONOUS && is_firmware_call(esr) => {
            answered(who(vcpu), guest.get::<0>());
        }
        _ if kind == INTERRUPT && !cpu.trace.has_more() => {}
        Some((vcpu, _)) => enter(vcpu),
        None => {
            if let Some(vcpu) = cpu.loaded() {
                enter(vcpu);
            }
        }
    }
    cpu.trace.send_now_and_then();
}

fn returned(who: u128, result: u64) {
    record!(
        "returned d{0=0..16}v{0=16..24} result={0=24..88:#x}",
        who | field(result, 24, 64)
    );
}

fn answered(who: u128, result: u64) {
    record!(
        "answered d{0=0..16}v{0=16..24} result={0=24..88:#x}",
        who | field(result, 24, 64)
    );
}

/// A guest goes on.
#[cold]
#[inline(never)]
pub(crate) fn enter(vcpu: &Vcpu) {
    record!("enter d{0=0..16}v{0=16..24}", who(vcpu));
}

/// An interrupt was acknowledged, beside a guest or while the CPU slept.
#[cold]
#[inline(never)]
pub(crate) fn interrupt(number: u32, beside: Option<&Vcpu>) {
    if super::is_own_interrupt(number) {
        return;
    }
    let number = u64::from(number);
    match beside {
        Some(vcpu) => record!(
            "interrupt d{0=0..16}v{0=16..24} intid={0=24..40}",
            who(vcpu) | field(number, 24, 16)
        ),
        None => record!("interrupt intid={0=0..16}", field(number, 0, 16)),
    }
}

/// List registers that hold something since the last exit, in `listed`.
#[inline(never)]
fn injections(cpu: &Cpu, mut listed: u32) {
    let Some(vcpu) = cpu.loaded() else { return };
    while listed != 0 {
        let list = listed.trailing_zeros();
        listed &= listed - 1;
        inject(vcpu, list as usize, vcpu.lists.read(list as usize));
    }
}

fn inject(vcpu: &Vcpu, list: usize, raw: u64) {
    let decoded = ListRegister::decode(raw, vcpu.domain.vgic.version());
    let Some(register) = decoded.filter(|register| register.pending || register.active) else {
        return;
    };
    let state = u64::from(register.pending) | u64::from(register.active) << 1;
    record!(
        "inject d{0=0..16}v{0=16..24} intid={0=24..40} pending={0=40..41} active={0=41..42} list={0=48..56}",
        who(vcpu)
            | field(u64::from(register.intid.get()), 24, 16)
            | field(state, 40, 2)
            | field(list as u64, 48, 8)
    );
}

/// Another vCPU was loaded, and runs from now on; the one before does something else.
#[cold]
#[inline(never)]
pub(crate) fn switch(before: Option<&Vcpu>, vcpu: &Vcpu) {
    if let Some(left) = before.filter(|left| left.run.power() == Power::Ready) {
        state(left, Runstate::Runnable);
    }
    state(vcpu, Runstate::Running);
    let Some(left) = before else {
        record!("switch first to d{0=0..16}v{0=16..24}", who(vcpu));
        return;
    };
    let both = who(left) | who(vcpu) << 32;
    match left.run.power() {
        _ if !left.domain.is_running() => record!(
            "switch ended d{0=0..16}v{0=16..24} to d{0=32..48}v{0=48..56}",
            both
        ),
        Power::Ready | Power::Running => record!(
            "switch preempted d{0=0..16}v{0=16..24} to d{0=32..48}v{0=48..56}",
            both
        ),
        Power::Blocked => record!(
            "switch blocked d{0=0..16}v{0=16..24} to d{0=32..48}v{0=48..56}",
            both
        ),
        _ => record!(
            "switch off d{0=0..16}v{0=16..24} to d{0=32..48}v{0=48..56}",
            both
        ),
    }
}

/// What a vCPU does from now on.
#[cold]
#[inline(never)]
pub(crate) fn state(vcpu: &Vcpu, state: Runstate) {
    let who = who(vcpu);
    match state {
        Runstate::Running => record!("running d{0=0..16}v{0=16..24}", who),
        Runstate::Runnable => record!("runnable d{0=0..16}v{0=16..24}", who),
        Runstate::Blocked => record!("blocked d{0=0..16}v{0=16..24}", who),
        Runstate::Offline => record!("offline d{0=0..16}v{0=16..24}", who),
    }
}

/// Nobody can run.
#[cold]
#[inline(never)]
pub(crate) fn idle() {
    record!("idle");
}

/// What the Xen side did.
#[cold]
#[inline(never)]
pub(crate) fn xen(what: Traced) {
    match what {
        Traced::Sent { from, port, to } => {
            let from = field(from.0.into(), 0, 16) | field(port.into(), 16, 32);
            match to {
                Some((domain, remote)) => record!(
                    "send d{0=0..16} port={0=16..48} to=d{0=48..64} remote={0=64..96}",
                    from | field(domain.0.into(), 48, 16) | field(remote.into(), 64, 32)
                ),
                None => record!("send d{0=0..16} port={0=16..48}", from),
            }
        }
        Traced::Mapped {
            user,
            granter,
            reference,
            gfn,
            write,
        } => record!(
            "map d{0=0..16} of=d{0=16..32} reference={0=32..64} gfn={0=64..112:#x} write={0=112..113}",
            grant(user.0, granter.0, reference)
                | field(gfn, 64, 48)
                | field(u64::from(write), 112, 1)
        ),
        Traced::Unmapped {
            user,
            granter,
            reference,
        } => record!(
            "unmap d{0=0..16} of=d{0=16..32} reference={0=32..64}",
            grant(user.0, granter.0, reference)
        ),
    }
}

fn grant(user: u16, granter: u16, reference: u32) -> u128 {
    field(user.into(), 0, 16) | field(granter.into(), 16, 16) | field(reference.into(), 32, 32)
}

/// A domain's life.
#[derive(Clone, Copy)]
pub(crate) enum Turn {
    /// It was built, and runs.
    Begun,
    /// Its vCPUs are held back.
    Paused,
    /// They go on.
    Resumed,
    /// It is to end.
    Ending,
    /// It has ended, and holds nothing any more.
    Ended,
}

/// A domain's life took a turn.
#[cold]
#[inline(never)]
pub(crate) fn life(domain: &Domain, turn: Turn, cause: Option<Cause>) {
    // Xen's shutdown reasons, and above them our own.
    let cause = match cause {
        None => 0,
        Some(Cause::Guest(reason)) => reason.number(),
        Some(Cause::Destroyed) => 0x100,
        Some(Cause::Restarted) => 0x101,
        Some(Cause::NoAnswer) => 0x102,
        Some(Cause::NotBuilt) => 0x103,
    };
    let who = field(domain.id.0.into(), 0, 16);
    let both = who | field(cause.into(), 16, 16);
    match turn {
        Turn::Begun => record!("begun d{0=0..16}", who),
        Turn::Paused => record!("paused d{0=0..16}", who),
        Turn::Resumed => record!("resumed d{0=0..16}", who),
        Turn::Ending => record!("ending d{0=0..16} cause={0=16..32:#x}", both),
        Turn::Ended => record!("ended d{0=0..16} cause={0=16..32:#x}", both),
    }
}
