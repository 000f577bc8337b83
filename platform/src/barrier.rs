//! The barriers that drivers need. On a workstation they do nothing.
//!
//! DDI 0487, "Memory barriers"; `ISB`, `WFE` and `SEV` at the instructions.

macro_rules! barrier {
    ($($(#[$doc:meta])* $name:ident: $instruction:literal;)*) => {
        $(
            $(#[$doc])*
            #[inline(always)]
            pub(crate) fn $name() {
                #[cfg(target_arch = "aarch64")]
                // SAFETY: it orders and waits; no register or memory changes. Without `nomem` the
                // compiler keeps memory accesses on their side of it.
                unsafe {
                    core::arch::asm!($instruction, options(nostack, preserves_flags));
                }
            }
        )*
    };
}

barrier! {
    /// All accesses before it are complete, device writes included, before anything after it starts.
    complete_all: "dsb sy";
    /// All stores before it are visible to the other CPUs before anything after it starts.
    complete_stores: "dsb ishst";
    /// Loads before it come before loads and stores after it.
    order_loads: "dmb ishld";
    /// System register writes before it have taken effect.
    synchronize: "isb";
    /// Wakes CPUs that wait for an event.
    send_event: "sev";
    /// Waits for an event.
    wait_for_event: "wfe";
}
