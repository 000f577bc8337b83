//! `multicall`: a list of hypercalls in one (`xen/include/public/xen.h`). Results go into the list. After
//! [`STEP`] entries, or one that is not known to be short, the call is restarted, so that pending
//! interrupts are served.
//!
//! A nested call that gives up the CPU does so only at the end of the list; before that `yield`, `block`
//! and `poll` return at once, as they may. A shutdown ends the list.

use crate::hypercall::{Arguments, Outcome, hypercall};
use crate::{Caller, host};
use abi::Errno;
use abi::hypercall::{EVENT_CHANNEL_OP, MULTICALL, MulticallEntry, XEN_VERSION};
use memory::Va;

/// Entries served before the call is restarted.
const STEP: u32 = 8;

const RESULT_OFFSET: u64 = core::mem::offset_of!(MulticallEntry, result) as u64;

#[inline(never)]
pub(crate) fn call<C: Caller>(caller: &C, arguments: &mut Arguments) -> Outcome {
    for _ in 0..STEP {
        let [list, count, ..] = *arguments;
        if count as u32 == 0 {
            return Outcome::Return(0);
        }
        let nr = match entry(caller, list, count as u32 == 1) {
            Ok((nr, Outcome::Return(_))) => nr,
            Ok((_, outcome)) => return outcome,
            Err(error) => return Outcome::Return(error.as_return()),
        };
        let [x0, x1, ..] = arguments;
        *x0 = list.wrapping_add(size_of::<MulticallEntry>() as u64);
        *x1 = u64::from((count as u32).saturating_sub(1));
        if !matches!(nr, EVENT_CHANNEL_OP | XEN_VERSION) {
            break;
        }
    }
    let [_, count, ..] = *arguments;
    if count == 0 {
        return Outcome::Return(0);
    }
    Outcome::Restart
}

/// Serves one entry and writes its result; the entry's number and outcome.
fn entry<C: Caller>(caller: &C, address: u64, last: bool) -> Result<(u64, Outcome), Errno> {
    let entry: MulticallEntry = host::read(caller, address)?;
    let [x0, x1, x2, x3, x4, _] = entry.args;
    let mut arguments = [x0, x1, x2, x3, x4];
    let mut outcome = if entry.op == MULTICALL {
        Outcome::Return(Errno::Invalid.as_return())
    } else {
        hypercall(caller, entry.op, &mut arguments)
    };
    match outcome {
        Outcome::Restart => {
            // The nested call goes on from where it is when the whole list does.
            let mut entry = entry;
            for (slot, argument) in entry.args.iter_mut().zip(arguments) {
                *slot = argument;
            }
            host::write(caller, address, &entry)?;
            return Ok((entry.op, outcome));
        }
        Outcome::Poll(_) if !last => {
            caller.state().end_poll(caller.vcpu());
            outcome = Outcome::Return(0);
        }
        Outcome::Yield | Outcome::Block if !last => outcome = Outcome::Return(0),
        _ => {}
    }
    let result = match outcome {
        Outcome::Return(value) => value,
        _ => 0,
    };
    let place = Va::new(address)
        .checked_add(RESULT_OFFSET)
        .ok_or(Errno::Fault)?;
    caller.write(place, &result.to_le_bytes())?;
    Ok((entry.op, outcome))
}
