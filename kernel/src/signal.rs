//! The blink code: how often the board's light flashes before a pause says where the boot stopped, for whoever has no
//! serial line. Nothing else uses the light, and it is left alone as long as all is well and the UART works.
//!
//! `docs/raspberry-pi-4.md` has the table for users.

use arch::{cpu, entry, time};
use devtree::Board;
use platform::led::Led;
use sync::Once;

/// Where the boot stopped: the number of flashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Stop {
    /// Not at EL2, or not at a multiple of 64 KiB.
    Entry = 1,
    /// The tree is none, or says too little of the board.
    Tree = 2,
    /// Memory.
    Memory = 3,
    /// Interrupt controller or timer.
    Interrupts = 4,
    /// No guest could be built; only told where there is no UART.
    NoGuest = 5,
    /// The hypervisor itself failed.
    Failure = 6,
}

static LED: Once<Led> = Once::new();

/// Remembers the light, once the final map holds its registers. Where there is no UART it is lit: a sign that
/// Viaduct is in charge.
pub(crate) fn start(board: &Board) {
    let Some(led) = board.led.and_then(drive) else {
        return;
    };
    let led = LED.call_once(|| led);
    if board.console.is_none() {
        led.light(true);
    }
}

#[expect(unsafe_code, reason = "the address comes from the board's tree")]
fn drive(led: devtree::Led) -> Option<Led> {
    // SAFETY: the tree says that the block is there; it is mapped, or the MMU is off. It is used only where the
    // board has no other voice, or when nothing else runs any more.
    unsafe { Led::new(led.registers, led.pin, led.is_active_low) }
}

/// Stops this CPU, and lets the light say why for ever.
pub(crate) fn stop(why: Stop) -> ! {
    match LED.get() {
        Some(led) => blink(led, why),
        None => cpu::park(),
    }
}

/// The same before the final map: the light is found in the tree, and its registers are added to the boot map.
pub(crate) fn stop_early(tree: &[u8], why: Stop) -> ! {
    if LED.get().is_some() {
        stop(why);
    }
    let led = devtree::led(tree).filter(|led| entry::map_early_device(led.registers));
    match led.and_then(drive) {
        Some(led) => blink(&led, why),
        None => cpu::park(),
    }
}

/// The same with the MMU off, where nothing needs to be mapped.
pub(crate) fn stop_unmapped(tree: &[u8], why: Stop) -> ! {
    match devtree::led(tree).and_then(drive) {
        Some(led) => blink(&led, why),
        None => cpu::park(),
    }
}

/// Flashes of 0.2 s, 0.3 s apart; 1.5 s of darkness after each group.
fn blink(led: &Led, why: Stop) -> ! {
    loop {
        for _ in 0..why as u8 {
            led.light(true);
            wait(200);
            led.light(false);
            wait(300);
        }
        wait(1200);
    }
}

/// Milliseconds, by the counter.
fn wait(milliseconds: u64) {
    let ticks = time::frequency() / 1000 * milliseconds;
    let start = time::counter();
    while time::counter().wrapping_sub(start) < ticks {}
}
