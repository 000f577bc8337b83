//! Memory given up and taken again, and many of the hypervisor's pages at once (xen-arm-hypercalls
//! section 11).

use crate::check::{Outcome, Trouble, check, equal, fail, within};
use crate::raw::{hypercall, pointer, store64};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use core::time::Duration;
use runtime::abi::Errno::{Fault, Invalid, NoSuchDomain, Perm};
use runtime::abi::{DomainId, hypercall as number, memory_op as op, version};
use runtime::{cpu, exception, memory, xen};

fn call<T>(command: u64, argument: &mut T) -> i64 {
    hypercall(number::MEMORY_OP, [command, pointer(argument), 0, 0, 0])
}

fn extents(command: u64, gfns: &mut [u64], order: u32, domid: DomainId) -> i64 {
    let mut request = op::Reservation {
        extent_start: gfns.as_ptr() as u64,
        nr_extents: gfns.len() as u64,
        extent_order: order,
        domid,
        ..Default::default()
    };
    call(command, &mut request)
}

fn give_up(gfns: &mut [u64]) -> i64 {
    extents(op::DECREASE_RESERVATION, gfns, 0, DomainId::SELF)
}

fn populate(gfns: &mut [u64]) -> i64 {
    extents(op::POPULATE_PHYSMAP, gfns, 0, DomainId::SELF)
}

fn figure(command: u64) -> i64 {
    let mut own = DomainId::SELF;
    call(command, &mut own)
}

fn now() -> i64 {
    figure(op::CURRENT_RESERVATION)
}

/// Two chunks of RAM that nobody uses.
fn spare() -> Result<u64, Trouble> {
    const CHUNK: u64 = 2 << 20;
    let spare = memory::spare();
    let start = spare.start.next_multiple_of(CHUNK);
    if start + 2 * CHUNK > spare.end {
        return Err(Trouble::Fail(alloc::format!("only {spare:x?} to spare")));
    }
    Ok(start)
}

/// A page goes, is gone, and comes back zeroed.
pub(crate) fn pages() -> Outcome {
    let at = spare()?;
    let gfn = at / memory::PAGE;
    let (before, most) = (now(), figure(op::MAXIMUM_RESERVATION));
    equal!(before, most, "pages now, and at most");
    equal!(populate(&mut [gfn]), 0, "a page more than it may have");
    for page in 0..4 {
        check!(
            store64(at + page * memory::PAGE + 8, 0x5a5a).is_ok(),
            "store"
        );
    }
    equal!(
        give_up(&mut [gfn, gfn + 2, gfn, gfn + 1]),
        2,
        "pages given up, until one is not there"
    );
    equal!(now(), before - 2, "pages now");
    for page in [0, 2] {
        let load = exception::load64(at + page * memory::PAGE);
        check!(load.is_err(), "page {page} is still there: {load:x?}");
    }
    for page in [1, 3] {
        let load = exception::load64(at + page * memory::PAGE + 8);
        check!(load == Ok(0x5a5a), "page {page} holds {load:x?}");
    }
    // One back to its place, one elsewhere, and then there is none left.
    let Some((base, size)) = xen::window() else {
        return Err(Trouble::Skip("no window"));
    };
    let elsewhere = (base + size) / memory::PAGE - 3;
    equal!(
        populate(&mut [gfn, elsewhere, gfn + 2]),
        2,
        "pages filled, as far as there are"
    );
    for address in [at + 8, elsewhere * memory::PAGE] {
        let load = exception::load64(address);
        check!(load == Ok(0), "{address:#x} holds {load:x?}");
    }
    check!(
        store64(elsewhere * memory::PAGE, 1).is_ok(),
        "store elsewhere"
    );
    equal!(give_up(&mut [elsewhere]), 1, "given up elsewhere");
    equal!(populate(&mut [gfn + 2]), 1, "back to its place");
    equal!(now(), before, "pages in the end");
    Ok(())
}

/// Whole chunks, in one extent and page by page: the last page of a chunk takes the chunk with it.
pub(crate) fn chunks() -> Outcome {
    let at = spare()?;
    let gfn = at / memory::PAGE;
    let before = now();
    for round in 0..3 {
        let mut two = [gfn, gfn + 512];
        equal!(
            extents(op::DECREASE_RESERVATION, &mut two, 9, DomainId::SELF),
            2,
            "chunks given up"
        );
        equal!(now(), before - 1024, "pages after chunks");
        equal!(
            extents(op::POPULATE_PHYSMAP, &mut two, 9, DomainId::SELF),
            2,
            "chunks filled"
        );
        for page in [0, 511, 512, 1023] {
            let load = exception::load64(at + page * memory::PAGE);
            check!(load == Ok(0), "round {round}, page {page} holds {load:x?}");
            check!(store64(at + page * memory::PAGE, !0).is_ok(), "store");
        }
    }
    for page in (0..512).rev() {
        equal!(give_up(&mut [gfn + page]), 1, "page {page} given up");
    }
    // A page of the other chunk is held by nothing: what comes may be any frame, but all are there.
    for page in 0..512 {
        equal!(populate(&mut [gfn + page]), 1, "page {page} filled");
    }
    equal!(now(), before, "pages in the end");
    Ok(())
}

pub(crate) fn errors() -> Outcome {
    let gfn = spare()? / memory::PAGE;
    let decrease = |order, domid| extents(op::DECREASE_RESERVATION, &mut [gfn], order, domid);
    equal!(decrease(10, DomainId::SELF), 0, "order 10");
    equal!(decrease(u32::MAX, DomainId::SELF), 0, "order 2^32 - 1");
    equal!(decrease(0, DomainId(0x7000)), 0, "nobody's memory");
    let mut request = op::Reservation {
        extent_start: 8,
        nr_extents: 1,
        domid: DomainId::SELF,
        ..Default::default()
    };
    equal!(
        call(op::DECREASE_RESERVATION, &mut request),
        0,
        "a list that is not there"
    );
    request.nr_extents = u64::MAX;
    equal!(
        call(op::DECREASE_RESERVATION, &mut request),
        0,
        "2^64 - 1 extents"
    );
    let nothing = hypercall(number::MEMORY_OP, [op::DECREASE_RESERVATION, 8, 0, 0, 0]);
    equal!(nothing, 0, "an argument that is not there");
    equal!(give_up(&mut [u64::MAX]), 0, "frame 2^64 - 1");
    equal!(give_up(&mut [0]), 0, "frame 0");
    // The console's page and device registers are not the guest's to give.
    equal!(give_up(&mut [0x39000]), 0, "the console's page");
    equal!(give_up(&mut [0x3002]), 0, "the GIC");
    equal!(give_up(&mut [gfn]), 1, "a page");
    for bad in [0, 0x3002, 1 << 28, u64::MAX] {
        equal!(populate(&mut [bad]), 0, "populate at frame {bad:#x}");
    }
    equal!(
        extents(op::INCREASE_RESERVATION, &mut [gfn], 0, DomainId::SELF),
        0,
        "increase"
    );
    equal!(populate(&mut [gfn]), 1, "the page again");
    let answer = call(op::EXCHANGE, &mut [0u64; 9]);
    check!(answer < 0, "exchange is {answer}");
    Ok(())
}

/// What U-Boot does on leaving: its shared_info lay over RAM, and that RAM is to be there again.
pub(crate) fn under_a_page() -> Outcome {
    let at = spare()?;
    let (gfn, before) = (at / memory::PAGE, now());
    let mut add = op::AddToPhysmap {
        domid: DomainId::SELF,
        size: 0,
        space: op::SPACE_GRANT_TABLE,
        index: 20,
        gpfn: gfn,
    };
    equal!(
        call(op::ADD_TO_PHYSMAP, &mut add),
        0,
        "a grant frame over RAM"
    );
    let load = exception::load64(at + 64);
    check!(load == Ok(0), "the grant frame holds {load:x?}");
    let mut remove = op::RemoveFromPhysmap {
        domid: DomainId::SELF,
        reserved: [0; 3],
        gpfn: gfn,
    };
    equal!(call(op::REMOVE_FROM_PHYSMAP, &mut remove), 0, "remove");
    check!(exception::load64(at).is_err(), "something is there");
    equal!(populate(&mut [gfn]), 1, "populate");
    equal!(now(), before, "pages in the end");
    check!(store64(at, 1).is_ok(), "store to the RAM");
    Ok(())
}

pub(crate) fn batch() -> Outcome {
    let Some((base, _)) = xen::window() else {
        return Err(Trouble::Skip("no window"));
    };
    let first = base / memory::PAGE + 0x200;
    let mut indexes: [u64; 40] = core::array::from_fn(|number| 39 - number as u64);
    let mut gpfns: [u64; 40] = core::array::from_fn(|number| first + number as u64);
    let mut errors = [99i32; 40];
    let mut request = op::AddToPhysmapBatch {
        domid: DomainId::SELF,
        space: op::SPACE_GRANT_TABLE as u16,
        size: 40,
        foreign_domid: DomainId(0),
        idxs: pointer(&mut indexes),
        gpfns: pointer(&mut gpfns),
        errs: pointer(&mut errors),
    };
    equal!(
        call(op::ADD_TO_PHYSMAP_BATCH, &mut request),
        0,
        "40 grant frames"
    );
    // Frames that were mapped by an earlier test are at their place already.
    let bad = errors.iter().find(|error| ![0, -16].contains(*error));
    check!(bad.is_none(), "an item's error is {bad:?}");
    check!(
        errors.iter().filter(|error| **error == 0).count() > 20,
        "{errors:?}"
    );
    request.space = op::SPACE_GMFN_FOREIGN as u16;
    request.size = 2;
    for (domain, error) in [
        (DomainId(0x7000), NoSuchDomain),
        (DomainId::SELF, Invalid),
        (DomainId::IO, Perm),
    ] {
        request.foreign_domid = domain;
        equal!(
            call(op::ADD_TO_PHYSMAP_BATCH, &mut request),
            0,
            "frames of {domain:?}"
        );
        let error = error.as_return() as i32;
        equal!(&errors[..2], &[error, error], "items for {domain:?}");
    }
    request.space = op::SPACE_GMFN_RANGE as u16;
    equal!(call(op::ADD_TO_PHYSMAP_BATCH, &mut request), -95, "a range");
    request.space = op::SPACE_DEVICE_MMIO as u16;
    equal!(
        call(op::ADD_TO_PHYSMAP_BATCH, &mut request),
        -13,
        "device memory"
    );
    request.space = op::SPACE_GRANT_TABLE as u16;
    request.errs = 8;
    equal!(
        call(op::ADD_TO_PHYSMAP_BATCH, &mut request),
        Fault.as_return(),
        "no place for errors"
    );
    let mut remove = op::RemoveFromPhysmap {
        domid: DomainId::SELF,
        reserved: [0; 3],
        gpfn: 0,
    };
    for gpfn in gpfns {
        remove.gpfn = gpfn;
        let _ = call(op::REMOVE_FROM_PHYSMAP, &mut remove);
    }
    Ok(())
}

/// One vCPU takes a chunk out and puts it back, again and again, while another has hypercalls write to it.
pub(crate) fn race() -> Outcome {
    static STOP: AtomicBool = AtomicBool::new(false);
    static TARGET: AtomicU64 = AtomicU64::new(0);
    static WRITES: AtomicU64 = AtomicU64::new(0);
    static MISSES: AtomicU64 = AtomicU64::new(0);
    static STRANGE: AtomicU64 = AtomicU64::new(0);
    let at = spare()?;
    TARGET.store(at, SeqCst);
    STOP.store(false, SeqCst);
    super::smp::everywhere(
        |_| {
            let mut turn = 0;
            while !STOP.load(SeqCst) {
                turn = (turn + 17) % 512;
                let target = TARGET.load(SeqCst) + turn * memory::PAGE;
                let answer = hypercall(
                    number::XEN_VERSION,
                    [version::EXTRAVERSION, target, 0, 0, 0],
                );
                match answer {
                    0 => WRITES.fetch_add(1, SeqCst),
                    _ if answer == Fault.as_return() => MISSES.fetch_add(1, SeqCst),
                    _ => STRANGE.fetch_add(1, SeqCst),
                };
            }
        },
        || {
            let gfn = at / memory::PAGE;
            let before = now();
            let mut outcome = Ok(());
            let started = within(Duration::from_secs(30), || WRITES.load(SeqCst) > 100);
            for round in 0..20 {
                let gone = extents(op::DECREASE_RESERVATION, &mut [gfn], 9, DomainId::SELF);
                let back = extents(op::POPULATE_PHYSMAP, &mut [gfn], 9, DomainId::SELF);
                if (gone, back) != (1, 1) {
                    outcome = Err((round, gone, back));
                    break;
                }
            }
            STOP.store(true, SeqCst);
            check!(started, "the other vCPU does nothing");
            if let Err((round, gone, back)) = outcome {
                fail!("round {round}: gone {gone}, back {back}");
            }
            equal!(now(), before, "pages in the end");
            Ok(())
        },
    )?;
    equal!(STRANGE.load(SeqCst), 0, "answers that are neither");
    check!(
        cpu::count() > 1 && MISSES.load(SeqCst) + WRITES.load(SeqCst) > 0,
        "no race"
    );
    Ok(())
}
