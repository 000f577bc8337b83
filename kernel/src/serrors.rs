//! SErrors: given to the guest that caused them, by the rules of `domain::serror`.

use core::sync::atomic::Ordering;

use crate::say::warn;
use arch::context::Registers;
use arch::inject;
use arch::vectors::Resume;
use domain::serror::{Syndrome, Verdict};

use crate::cpus::Cpu;
use crate::machine::Vcpu;
use crate::{crash, schedule};

/// One came while the guest ran.
pub(crate) fn taken(
    cpu: &'static Cpu,
    vcpu: &'static Vcpu,
    _guest: &mut Registers,
    esr: u64,
) -> Resume {
    give_to_loaded(vcpu, esr);
    schedule::leave(cpu, vcpu)
}

/// One was pending when another vCPU was about to be loaded. Whether the one that leaves, which is stored
/// already, gets one; `waits`: one is waiting for it.
#[cold]
pub(crate) fn at_switch(vcpu: &'static Vcpu, esr: u64, waits: bool) -> bool {
    judge(vcpu, esr, waits) == Verdict::Give
}

/// One was pending when a vCPU went for good.
#[cold]
pub(crate) fn at_end(vcpu: &Vcpu, esr: u64) {
    tell(vcpu, esr, "it has ended");
}

/// This CPU is about to sleep with a vCPU loaded; one that is pending would not let it. Whether one was.
pub(crate) fn before_sleep(cpu: &'static Cpu) -> bool {
    let Some(vcpu) = cpu.loaded() else {
        arch::serror::fail_if_pending();
        return false;
    };
    let Some(esr) = arch::serror::take_pending(cpu.header()) else {
        return false;
    };
    give_to_loaded(vcpu, esr);
    // It is one of the events that end a WFI.
    schedule::kick(vcpu);
    true
}

/// One was left by whatever ran on this CPU before us.
pub(crate) fn drop_old(cpu: &Cpu) {
    if let Some(esr) = arch::serror::take_pending(cpu.header()) {
        warn!("an SError was pending at the start, {}", Syndrome::new(esr));
    }
}

#[cold]
fn give_to_loaded(vcpu: &'static Vcpu, esr: u64) {
    if judge(vcpu, esr, inject::waits_serror()) == Verdict::Give {
        inject::inject_serror();
    }
}

/// Decides, tells, and ends the guest if that is decided.
fn judge(vcpu: &'static Vcpu, esr: u64, waits: bool) -> Verdict {
    let untaken = if waits {
        let before = vcpu.untaken_serrors.load(Ordering::Relaxed);
        before.saturating_add(1)
    } else {
        0
    };
    vcpu.untaken_serrors.store(untaken, Ordering::Relaxed);
    let verdict = Syndrome::new(esr).verdict(untaken);
    match verdict {
        Verdict::GoOn => tell(vcpu, esr, "nothing was lost"),
        Verdict::Give => tell(vcpu, esr, "given to the guest"),
        Verdict::End => {
            tell(vcpu, esr, "it causes them without end");
            crash::crash(vcpu, "SErrors without end", esr);
        }
    }
    verdict
}

fn tell(vcpu: &Vcpu, esr: u64, what: &str) {
    if vcpu.domain.may_complain() {
        let (name, id) = (&vcpu.domain.name, vcpu.id);
        warn!("{name}: vCPU {id}: SError, {}; {what}", Syndrome::new(esr));
    }
}
