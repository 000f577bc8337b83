//! Memory at a place that the description names: direct-mapped RAM, and memory that guests share by the tree.

use crate::check::{Outcome, check, equal, fail, within};
use crate::raw::{hypercall, pointer, store64};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use core::time::Duration;
use runtime::abi::{DomainId, hypercall as number, memory_op as op, version};
use runtime::arguments::arguments;
use runtime::exception::load64;
use runtime::{entry, memory, timer};

/// The guest's frame numbers are the machine's: it is told so, its RAM begins at `ram=MIB`, and a frame that it gives
/// up comes back at its own place and nowhere else.
pub(crate) fn direct() -> Outcome {
    let mut features = version::FeatureInfo::default();
    let command = version::GET_FEATURES;
    let result = hypercall(
        number::XEN_VERSION,
        [command, pointer(&mut features), 0, 0, 0],
    );
    equal!(result, 0, "XENVER_get_features");
    check!(
        features.bits & version::FEATURE_DIRECT_MAPPED != 0
            && features.bits & version::FEATURE_NOT_DIRECT_MAPPED == 0,
        "features {:x}",
        features.bits
    );
    let wanted = arguments().number("ram").unwrap_or(0) << 20;
    let ram = memory::banks().next();
    equal!(ram.map(|bank| bank.0), Some(wanted), "start of RAM");

    let at = memory::spare().start.next_multiple_of(2 << 20);
    check!(at + (2 << 20) <= memory::spare().end, "nothing to spare");
    // A whole chunk: it stays the guest's.
    let first = at / memory::PAGE;
    check!(store64(at, 0x5a5a).is_ok(), "store");
    for gfn in first..first + 512 {
        equal!(
            reservation(op::DECREASE_RESERVATION, gfn),
            1,
            "{gfn:x} given up"
        );
    }
    check!(load64(at).is_err(), "still there");
    let elsewhere = first + (1 << 20);
    equal!(
        reservation(op::POPULATE_PHYSMAP, elsewhere),
        0,
        "another's frame"
    );
    for gfn in first..first + 512 {
        equal!(
            reservation(op::POPULATE_PHYSMAP, gfn),
            1,
            "{gfn:x} taken again"
        );
    }
    equal!(reservation(op::POPULATE_PHYSMAP, first), 0, "taken twice");
    equal!(load64(at).ok(), Some(0), "what it holds now");
    Ok(())
}

/// Gives up, or takes, a frame of its own; the number that succeeded.
fn reservation(command: u64, gfn: u64) -> i64 {
    let mut gfns = [gfn];
    let mut request = op::Reservation {
        extent_start: gfns.as_mut_ptr() as u64,
        nr_extents: 1,
        extent_order: 0,
        domid: DomainId::SELF,
        ..Default::default()
    };
    hypercall(number::MEMORY_OP, [command, pointer(&mut request), 0, 0, 0])
}

/// Counts up in turn with another guest, in memory that both have by the tree: `first=1` for the one that begins.
/// `rounds=N` of them.
pub(crate) fn shared() -> Outcome {
    let tree = entry::tree();
    let node = tree.and_then(|tree| tree.compatible("xen,shared-memory-v1"));
    let Some(node) = node else {
        fail!("no xen,shared-memory-v1");
    };
    equal!(node.text("xen,id"), Some("mailbox"), "xen,id");
    let Some((base, size)) = node.reg().next() else {
        fail!("no reg");
    };
    equal!(size, memory::PAGE, "size");
    memory::map_normal(base, size);
    // SAFETY: memory of the tree's that nobody else of this guest uses, now mapped; both guests use it by atomics alone.
    let words = unsafe { core::slice::from_raw_parts(base as *const AtomicU64, 512) };
    let (Some(turn), Some(last)) = (words.first(), words.last()) else {
        fail!("no words");
    };
    let rounds = arguments().number("rounds").unwrap_or(50);
    let begins = arguments().number("first").is_some();
    for round in 0..rounds {
        let mine = 2 * round + u64::from(!begins);
        let came = within(Duration::from_secs(60), || turn.load(SeqCst) == mine);
        check!(came, "{} instead of {mine}", turn.load(SeqCst));
        equal!(last.load(SeqCst), mine, "the last word");
        last.store(mine + 1, SeqCst);
        turn.store(mine + 1, SeqCst);
    }
    // It is not the guest's own: the hypervisor takes no arguments from it, and it cannot be given up.
    if runtime::xen::present() {
        let result = hypercall(number::XEN_VERSION, [version::GET_FEATURES, base, 0, 0, 0]);
        equal!(result, -14, "a hypercall's argument in shared memory");
        let result = reservation(op::DECREASE_RESERVATION, base / memory::PAGE);
        equal!(result, 0, "shared memory given up");
    }
    timer::sleep(Duration::from_millis(50));
    Ok(())
}
