//! A guest that ends again and again in the midst of everything, and one that sees it come and go.

use super::grants::{copy, give as grant_page, map_at, own_number, page, place, unmap_at};
use crate::check::{Outcome, check, equal, fail, within};
use crate::raw::store64;
use core::time::Duration;
use runtime::abi::{DomainId, Port, grant_table as op};
use runtime::arguments::arguments;
use runtime::exception::load64;
use runtime::xenstore::Store;
use runtime::{cpu, event, grant, psci, timer, xen};

const BOTH: op::MapFlags = op::MapFlags::HOST_MAP;
const IN_USE: u64 = 0b11000;
/// The static channel's port at either end.
const FIXED: Port = Port(20);
/// In the keeper's page: number of the life, [`LAST`] for the one that ends by itself; the seed; whether that one was
/// there.
const LIFE: u64 = 0;
const SEED: u64 = 8;
const SEEN: u64 = 16;
const LAST: u64 = u64::MAX;
/// In the page of the other: its life; a port that it offers.
const OWN_LIFE: u64 = 0;
const OFFER: u64 = 8;

/// The two are the first two guests.
fn peer() -> Result<DomainId, crate::check::Trouble> {
    Ok(DomainId(3 - own_number()?.0))
}

fn write(address: u64, value: u64) -> Outcome {
    check!(store64(address, value).is_ok(), "store to {address:#x}");
    Ok(())
}

/// Sees the other guest through `lives=N` lives, each time with its page mapped and a port of it bound.
pub(crate) fn keep() -> Outcome {
    let number = |name| arguments().number(name).unwrap_or(0);
    let (peer, mine, theirs, own) = (peer()?, page(0)?, place(0)?, page(1)?);
    let limit = Duration::from_secs(60);
    write(mine + SEED, number("seed"))?;
    write(mine + LIFE, 0)?;
    write(mine + SEEN, 0)?;
    let given = grant_page(peer, mine, false)?;
    equal!(given, op::FIRST_FREE, "reference");
    for life in 1..=number("lives") {
        write(mine + LIFE, life)?;
        let mut handle = None;
        let found = within(limit, || {
            if let Ok(mapped) = map_at(peer, op::FIRST_FREE, BOTH, theirs) {
                if load64(theirs + OWN_LIFE) == Ok(life) {
                    handle = Some(mapped);
                    return true;
                }
                // It began before it could know, or has ended already.
                let status = unmap_at(mapped, theirs);
                assert_eq!(status, 0, "unmap of what was a page of an earlier life");
            }
            let _ = event::send(FIXED);
            timer::spin(Duration::from_micros(200));
            false
        });
        check!(found, "life {life} does not come");
        let offer = load64(theirs + OFFER).unwrap_or(0) as u32;
        // It may have ended just now.
        let bound = event::bind_interdomain(peer, Port(offer));
        let ended = within(limit, || {
            let _ = event::send(FIXED);
            if let Ok(port) = bound {
                let _ = event::send(port);
            }
            let _ = copy(peer, op::FIRST_FREE, own, false, (0, 4096));
            load64(theirs + OWN_LIFE) == Ok(0)
        });
        check!(ended, "life {life} does not end");
        // What is there now is an empty page of this guest's own.
        for offset in (0..4096).step_by(8) {
            equal!(
                load64(theirs + offset),
                Ok(0),
                "after the end of life {life}"
            );
        }
        write(theirs + 16, life)?;
        equal!(load64(theirs + 16), Ok(life), "its own page");
        write(theirs + 16, 0)?;
        if let Ok(port) = bound {
            equal!(event::close(port), Ok(()), "close");
        }
        equal!(unmap_at(handle.unwrap_or(0), theirs), 0, "unmap");
        check!(load64(theirs).is_err(), "still mapped");
    }
    write(mine + LIFE, LAST)?;
    let seen = within(limit, || load64(mine + SEEN) == Ok(1));
    check!(seen, "the last life does not come");
    let free = within(limit, || {
        timer::spin(Duration::from_millis(1));
        matches!(grant::read(given), Some(entry) if entry & IN_USE == 0)
    });
    check!(free, "the other's maps are never given back");
    Ok(())
}

/// A life: ends at a moment that seed and number decide, in the midst of a transaction, with pages granted and
/// mapped, ports open, and both vCPUs at it.
pub(crate) fn live() -> Outcome {
    let (keeper, here, own, target) = (peer()?, place(0)?, page(0)?, page(2)?);
    let Some(mut store) = Store::open() else {
        fail!("no xenstore");
    };
    let kept = |result: Result<(), runtime::xenstore::Error>| result.is_ok();
    check!(kept(store.watch("data", "own")), "watch");
    check!(kept(store.write("data/mine", "1")), "write");
    let transaction = store.start();
    check!(transaction.is_ok(), "transaction");
    let mapped = within(Duration::from_secs(60), || {
        map_at(keeper, op::FIRST_FREE, BOTH, here).is_ok()
    });
    check!(mapped, "the keeper's page");
    let (life, seed) = (load64(here + LIFE), load64(here + SEED));
    let (Ok(life), Ok(seed)) = (life, seed) else {
        fail!("nothing there");
    };
    if life == LAST {
        return write(here + SEEN, 1);
    }
    write(own + OWN_LIFE, life)?;
    let offers: [_; 3] = core::array::from_fn(|_| event::alloc_unbound(keeper));
    let Ok(offer) = offers[2] else {
        fail!("no port");
    };
    check!(event::bind_ipi(1).is_ok(), "IPI");
    write(own + OFFER, u64::from(offer.0))?;
    equal!(grant_page(keeper, own, false)?, op::FIRST_FREE, "reference");
    check!(grant_page(keeper, target, true).is_ok(), "second grant");
    // Moments and ways are spread by a multiplicative hash.
    let mixed = (life ^ seed << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let moment = timer::now() + timer::ticks(Duration::from_micros(mixed >> 40 & 0x1fff));
    let second = mixed >> 20 & 1 != 0;
    let by_reset = mixed >> 21 & 1 != 0;
    let end = move || {
        if by_reset {
            psci::system_reset();
        }
        xen::crash();
    };
    let started = cpu::start(1, move || {
        loop {
            let _ = copy(keeper, op::FIRST_FREE, target, false, (0, 4096));
            if second && timer::now() >= moment {
                end();
            }
        }
    });
    check!(started.is_ok(), "second vCPU");
    loop {
        let _ = event::send(FIXED);
        let _ = store.write("data/more", "2");
        if !second && timer::now() >= moment {
            end();
        }
    }
}
