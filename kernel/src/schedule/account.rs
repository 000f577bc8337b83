//! What a vCPU does with its time: Xen's runstate, accounted and shown.

use xen::Runstate;

use crate::hypercalls::{self, Calling};
use crate::machine::Vcpu;
use crate::trace;

/// Accounts what a vCPU does since the counter stood at `now`.
#[inline]
pub(crate) fn account(vcpu: &'static Vcpu, state: Runstate, now: u64) {
    if trace::is_on() {
        return account_traced(vcpu, state, now);
    }
    account_at(vcpu, state, now);
}

/// The same with a record of it: a function of its own, so that nothing is kept for it while the trace is off.
#[cold]
#[inline(never)]
fn account_traced(vcpu: &'static Vcpu, state: Runstate, now: u64) {
    account_at(vcpu, state, now);
    trace::points::state(vcpu, state);
}

#[inline(always)]
fn account_at(vcpu: &'static Vcpu, state: Runstate, now: u64) {
    if let Some(xen) = vcpu.xen {
        xen.change_runstate(state, guest_time(vcpu, now));
    }
}

/// Accounts what a vCPU that is loaded does since the counter stood at `now`, and shows it to the guest. It makes no
/// record: a switch has one for all of it.
#[inline(always)]
pub(super) fn account_here(vcpu: &'static Vcpu, state: Runstate, now: u64) {
    account_at(vcpu, state, now);
    publish(vcpu);
}

/// The guest's nanoseconds when the counter stands at `counter`.
#[inline(always)]
fn guest_time(vcpu: &Vcpu, counter: u64) -> u64 {
    hypercalls::nanoseconds(counter.wrapping_sub(vcpu.domain.counter_offset()))
}

/// Shows the guest what was accounted of a vCPU that is loaded (steal time).
#[inline(always)]
pub(super) fn publish(vcpu: &'static Vcpu) {
    if let Some(xen) = vcpu.xen {
        vcpu.domain.xen.publish_runstate(xen, &Calling(vcpu));
    }
}
