//! The end of a guest that found a bug in itself: a message, then "crashed" to the hypervisor.

use crate::{console, cpu, psci, xen};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

static PANICKING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = cpu::mask();
    if !PANICKING.swap(true, Ordering::Relaxed) {
        console::print_last(format_args!(
            "\nguest panic on CPU {}: {info}\n",
            cpu::index()
        ));
    }
    xen::crash();
    psci::system_off()
}
