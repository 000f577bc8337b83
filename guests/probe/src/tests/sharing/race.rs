//! Grants given, used and taken back by two vCPUs at once.

use super::{BOTH, balloon};
use crate::check::{Outcome, check, equal, fail, within};
use crate::raw::store64;
use crate::tests::grants::{copy, give as grant_page, map_at, own_number, page, place, unmap_at};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use core::time::Duration;
use runtime::abi::memory_op;
use runtime::{cpu, grant, memory, timer};

/// One vCPU grants, maps, unmaps, revokes and gives up a page, while another copies from and to the grant.
pub(crate) fn race() -> Outcome {
    static STOP: AtomicBool = AtomicBool::new(false);
    static COPIES: AtomicU64 = AtomicU64::new(0);
    static STRANGE: AtomicU64 = AtomicU64::new(0);
    let (own, at, here) = (own_number()?, page(0)?, place(0)?);
    let target = page(1)?;
    let reference = grant_page(own, at, false)?;
    STOP.store(false, SeqCst);
    crate::tests::smp::everywhere(
        move |index| {
            // Each has a page of its own to copy to.
            let target = target + index as u64 * memory::PAGE;
            while !STOP.load(SeqCst) {
                for to_grant in [false, true] {
                    match copy(own, reference, target, to_grant, (0, 4096)) {
                        0 => COPIES.fetch_add(1, SeqCst),
                        -1 | -9 => 0,
                        _ => STRANGE.fetch_add(1, SeqCst),
                    };
                }
            }
        },
        || {
            let started = within(Duration::from_secs(30), || COPIES.load(SeqCst) > 10);
            let mut outcome = Ok(());
            let end = timer::now() + timer::ticks(Duration::from_secs(2));
            while timer::now() < end {
                match map_at(own, reference, BOTH, here) {
                    Ok(handle) => {
                        let _ = store64(here, 1);
                        let status = unmap_at(handle, here);
                        if status != 0 {
                            outcome = Err(status);
                        }
                    }
                    Err(-1 | -9) => {}
                    Err(status) => outcome = Err(status),
                }
                // Revoked if nobody copies just now, and granted again.
                if grant::revoke(reference) {
                    let again = grant::give(own, (at / memory::PAGE) as u32, false);
                    if again != Some(reference) {
                        outcome = Err(99);
                    }
                }
                for command in [memory_op::DECREASE_RESERVATION, memory_op::POPULATE_PHYSMAP] {
                    if balloon(command, at) != 1 {
                        outcome = Err(98);
                    }
                }
            }
            STOP.store(true, SeqCst);
            check!(started, "nobody copies");
            if let Err(status) = outcome {
                fail!("status {status}");
            }
            Ok(())
        },
    )?;
    equal!(STRANGE.load(SeqCst), 0, "statuses that cannot be");
    check!(cpu::count() > 1, "alone");
    check!(
        within(Duration::from_secs(30), || grant::revoke(reference)),
        "still in use"
    );
    Ok(())
}
