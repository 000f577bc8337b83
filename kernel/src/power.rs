//! Switching the board off, and starting it again.

use devtree::Board;
use devtree::board::Conduit as Described;
use platform::cpu_start::Conduit;
use platform::power::{Power, Watchdog};
use sync::Once;

use crate::{console, trace};

static POWER: Once<Power> = Once::new();

/// How PSCI is called on this board.
pub(crate) fn conduit(board: &Board) -> Option<Conduit> {
    board.psci.map(|conduit| match conduit {
        Described::Smc => Conduit::Smc,
        Described::Hvc => Conduit::Hvc,
    })
}

/// Remembers how this board is switched off.
#[expect(unsafe_code, reason = "the address comes from the board's tree")]
pub(crate) fn start(board: &Board) {
    POWER.call_once(|| {
        let watchdog = board.watchdog.and_then(|registers| {
            // SAFETY: the tree says that the block is there; the final map holds it, and nobody else
            // drives it.
            unsafe { Watchdog::new(registers) }
        });
        match (conduit(board), watchdog) {
            (Some(conduit), watchdog) => Power::Psci(conduit, watchdog),
            (None, Some(watchdog)) => Power::Watchdog(watchdog),
            (None, None) => Power::None,
        }
    });
}

/// The board's watchdog, if it has one that is known here.
pub(crate) fn watchdog() -> Option<&'static Watchdog> {
    POWER.get()?.watchdog()
}

/// Switches the board off.
pub(crate) fn off() -> ! {
    console::flush();
    trace::flush();
    match POWER.get() {
        Some(power) => power.off(),
        None => arch::cpu::park(),
    }
}

/// Switches the board off; returns if there is no way to.
pub(crate) fn try_off() {
    if can() {
        off();
    }
}

/// Starts the board again; returns if there is no way to.
pub(crate) fn try_reboot() {
    if can() {
        reboot();
    }
}

fn can() -> bool {
    POWER
        .get()
        .is_some_and(|power| !matches!(power, Power::None))
}

/// Starts the board again.
pub(crate) fn reboot() -> ! {
    console::flush();
    trace::flush();
    match POWER.get() {
        Some(power) => power.reset(),
        None => arch::cpu::park(),
    }
}
