//! Time by the virtual timer (Arm ARM D12): the counter, deadlines, sleeping.

use crate::{
    cpu, entry, interrupt,
    sync::{Lock, Once},
};
use aarch64_cpu::registers::{
    CNTFRQ_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVCT_EL0, Readable, Writeable,
};
use core::time::Duration;

/// A CPU's call-back for an expired deadline.
pub type Expired = fn();

static INTID: Once<u32> = Once::new();
static EXPIRED: Lock<[Option<Expired>; cpu::MAX]> = Lock::new([None; cpu::MAX]);

/// CNTV_CTL_EL0.
pub const ENABLE: u64 = 1;
/// CNTV_CTL_EL0.
pub const IMASK: u64 = 2;
/// CNTV_CTL_EL0.
pub const ISTATUS: u64 = 4;

/// The virtual counter, in ticks.
#[inline]
pub fn now() -> u64 {
    // SAFETY: a barrier, so that the counter is not read early.
    unsafe { core::arch::asm!("isb", options(nostack, preserves_flags)) };
    CNTVCT_EL0.get()
}

/// Ticks a second.
pub fn frequency() -> u64 {
    CNTFRQ_EL0.get().max(1)
}

/// A time in ticks, rounded up.
pub fn ticks(time: Duration) -> u64 {
    let ticks = time.as_nanos() * u128::from(frequency());
    u64::try_from(ticks.div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
}

/// Ticks as a time.
pub fn duration(ticks: u64) -> Duration {
    let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(frequency());
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// Time since the counter started.
pub fn uptime() -> Duration {
    duration(now())
}

/// The interrupt id of the virtual timer.
pub fn intid() -> u32 {
    INTID.get().copied().unwrap_or(27)
}

/// The raw control register.
pub fn control() -> u64 {
    CNTV_CTL_EL0.get()
}

/// Writes the raw control register.
pub fn set_control(value: u64) {
    CNTV_CTL_EL0.set(value);
    // SAFETY: a barrier, so that the timer has changed when this returns.
    unsafe { core::arch::asm!("isb", options(nostack, preserves_flags)) };
}

/// Writes the raw compare value.
pub fn set_compare(value: u64) {
    CNTV_CVAL_EL0.set(value);
    // SAFETY: a barrier, as above.
    unsafe { core::arch::asm!("isb", options(nostack, preserves_flags)) };
}

/// Sets this CPU's deadline, in counter ticks. One per CPU; [`sleep`] uses it too.
pub fn set_deadline(at: u64) {
    // A deadline that passes meanwhile comes once: were its interrupt taken between the two, the second would make the
    // line high again that the handler has lowered.
    cpu::masked(|| {
        set_compare(at);
        set_control(ENABLE);
    });
}

/// Forgets this CPU's deadline.
pub fn clear_deadline() {
    set_control(0);
}

/// What to call, in the interrupt handler, when this CPU's deadline has passed.
pub fn on_expired(callback: Option<Expired>) {
    EXPIRED.lock()[cpu::index()] = callback;
}

/// Sleeps until the counter has reached `at`.
pub fn sleep_until(at: u64) {
    cpu::wait_until(|| {
        let over = now() >= at;
        if !over {
            set_deadline(at);
        }
        over
    });
    clear_deadline();
}

/// Sleeps at least for `time`.
pub fn sleep(time: Duration) {
    sleep_until(now().saturating_add(ticks(time)));
}

/// Spins at least for `time`, with no WFI.
pub fn spin(time: Duration) {
    let end = now().saturating_add(ticks(time));
    while now() < end {
        core::hint::spin_loop();
    }
}

fn handle(_intid: u32) {
    // The line is a level: without this it would stay asserted.
    set_control(0);
    let callback = EXPIRED.lock()[cpu::index()];
    if let Some(callback) = callback {
        callback();
    }
}

/// Finds the timer's interrupt: the third entry of the timer node, or the only place it ever is.
pub(crate) fn init() {
    let node = entry::tree().and_then(|tree| tree.compatible("arm,armv8-timer"));
    INTID.set(node.and_then(|node| node.interrupts().nth(2)).unwrap_or(27));
}

pub(crate) fn init_cpu() {
    set_control(0);
    interrupt::on(intid(), handle);
}

/// Puts the runtime's own handler back after a guest has taken the interrupt over with
/// [`interrupt::on`].
pub fn restore_handler() {
    set_control(0);
    interrupt::on(intid(), handle);
}
