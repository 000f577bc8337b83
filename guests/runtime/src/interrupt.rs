//! Interrupt handlers by interrupt id.

use crate::{gic, sync::Lock};

/// Called with the interrupt id, interrupts masked.
pub type Handler = fn(u32);

/// Ids above this have no handler slot.
pub const LIMIT: usize = 256;

static HANDLERS: Lock<[Option<Handler>; LIMIT]> = Lock::new([None; LIMIT]);

/// Installs `handler` for `intid` and enables the interrupt; for an SGI or PPI on this CPU alone
/// ([`gic::enable`] does the others).
///
/// # Panics
/// If `intid` is not below [`LIMIT`].
pub fn on(intid: u32, handler: Handler) {
    set(intid, Some(handler));
    gic::enable(intid);
}

/// Disables the interrupt and forgets its handler.
pub fn off(intid: u32) {
    gic::disable(intid);
    set(intid, None);
}

fn set(intid: u32, handler: Option<Handler>) {
    HANDLERS.lock()[intid as usize] = handler;
}

/// Takes every pending interrupt in turn.
pub(crate) fn dispatch() {
    while let Some(taken) = gic::acknowledge() {
        let intid = taken.intid();
        let handler = HANDLERS.lock().get(intid as usize).copied().flatten();
        match handler {
            Some(handler) => handler(intid),
            // Nobody asked for it: silence it, or it would come back for ever.
            None => gic::disable(intid),
        }
        gic::end(taken);
    }
}

/// Puts this CPU's interface and every installed handler's enable and priority back, after a guest has
/// played with the registers.
pub fn reset() {
    gic::init_cpu();
    let handlers = *HANDLERS.lock();
    for (intid, handler) in handlers.iter().enumerate() {
        if handler.is_some() {
            gic::enable(intid as u32);
        }
    }
}
