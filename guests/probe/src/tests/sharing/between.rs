//! Grants from one guest to another, of which either may end in the midst (xen-arm-hypercalls section 10).

use super::{BOTH, READ, mapped, word, write};
use crate::check::{Outcome, Trouble, check, equal, within};
use crate::raw::hypercall;
use crate::tests::grants::{copy, give as grant_page, map_at, own_number, page, place, unmap_at};
use core::time::Duration;
use runtime::abi::Errno::Fault;
use runtime::abi::{DomainId, GrantRef, grant_table as op, hypercall as number};
use runtime::arguments::arguments;
use runtime::exception::load64;
use runtime::{grant, memory, println, timer, xen};

const ANSWER: u64 = 0xfeed;

/// The two of a pair are the first two guests.
fn peer() -> Result<DomainId, Trouble> {
    Ok(DomainId(3 - own_number()?.0))
}

fn dies(who: &str) -> bool {
    arguments().get("dies") == Some(who)
}

/// Grants two pages to the other guest, waits until it has written one, and ends without a word, or waits
/// until the other has.
pub(crate) fn give() -> Outcome {
    let (peer, first, second) = (peer()?, page(0)?, page(1)?);
    for offset in (0..memory::PAGE).step_by(8) {
        write(first + offset, offset ^ 0x1111)?;
        write(second + offset, 0)?;
    }
    let one = grant_page(peer, first, true)?;
    let other = grant_page(peer, second, false)?;
    equal!(
        (one, other),
        (op::FIRST_FREE, GrantRef(op::FIRST_FREE.0 + 1)),
        "references"
    );
    println!("READY grant-give");
    let limit = Duration::from_secs(30);
    let answered = within(limit, || load64(second) == Ok(ANSWER));
    check!(answered, "no answer");
    check!(
        !grant::revoke(other),
        "revoked while the other has it mapped"
    );
    if dies("giver") {
        xen::crash();
    }
    check!(
        within(limit, || grant::revoke(one)),
        "the first is never free"
    );
    check!(
        within(limit, || grant::revoke(other)),
        "the second is never free"
    );
    Ok(())
}

/// Maps and copies what the other guest grants; one of the two ends in the midst.
pub(crate) fn use_grants() -> Outcome {
    let (peer, own) = (peer()?, page(0)?);
    let (first, second) = (op::FIRST_FREE, GrantRef(op::FIRST_FREE.0 + 1));
    let (here, there) = (place(0)?, place(1)?);
    let limit = Duration::from_secs(30);
    // The pages are granted in order.
    let mut there_handle = Err(99);
    let ready = within(limit, || {
        timer::spin(Duration::from_millis(1));
        there_handle = map_at(peer, second, BOTH, there);
        there_handle.is_ok()
    });
    check!(ready, "map: {there_handle:?}");
    let here_handle = mapped(map_at(peer, first, READ, here))?;
    equal!(
        map_at(peer, first, BOTH, place(2)?),
        Err(-1),
        "map to write"
    );
    for offset in (0..memory::PAGE).step_by(8) {
        word(here + offset, offset ^ 0x1111, "the other's page")?;
    }
    equal!(copy(peer, first, own, false, (0, 4096)), 0, "copy");
    word(own + 8, 8 ^ 0x1111, "copied")?;
    equal!(
        copy(peer, first, own, true, (0, 8)),
        -1,
        "copy to a read-only grant"
    );
    // A page of another is no place for what a hypercall reads or writes.
    let answer = hypercall(number::XEN_VERSION, [1, there + 64, 0, 0, 0]);
    equal!(answer, Fault.as_return(), "hypercall to the other's page");
    write(there, ANSWER)?;
    if dies("user") {
        timer::spin(Duration::from_millis(200));
        xen::crash();
    }
    let mut last = 0;
    let mut copies = 0;
    let ended = within(limit, || {
        last = copy(peer, first, own, false, (0, 4096));
        copies += 1;
        last != 0
    });
    check!(ended, "the other guest goes on: {copies} copies");
    equal!(last, -2, "status after {copies} copies");
    equal!(
        map_at(peer, first, READ, place(2)?),
        Err(-2),
        "map of an ended guest's page"
    );
    // An empty page, which is this guest's own, takes the place of what was mapped.
    let empty = within(limit, || {
        load64(there) == Ok(0) && load64(here + 8) == Ok(0)
    });
    check!(empty, "pages of an ended guest are still there");
    for offset in (0..memory::PAGE).step_by(8) {
        word(here + offset, 0, "after the other's end")?;
    }
    write(there + 8, 1)?;
    word(there + 8, 1, "this guest's own page")?;
    println!("NOTE {copies} copies; pages of an ended guest are empty");
    equal!(unmap_at(here_handle, here), 0, "unmap of the first");
    equal!(
        unmap_at(there_handle.unwrap_or(0), there),
        0,
        "unmap of the second"
    );
    check!(load64(there).is_err(), "still there");
    Ok(())
}
