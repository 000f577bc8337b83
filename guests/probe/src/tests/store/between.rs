//! Nodes that guests have in common, and those that they must not see.

use super::{ask, named, open, own_id};
use crate::check::{Outcome, check, equal, within};
use alloc::format;
use core::time::Duration;
use runtime::abi::{DomainId, xenstore as wire};
use runtime::{arguments::arguments, println};

/// Gives a value to domain `peer` and hides another one; waits for what `peer` says.
pub(crate) fn owner() -> Outcome {
    let mut store = open()?;
    let id = own_id(&mut store)?;
    let peer = arguments()
        .get("peer")
        .and_then(|text| text.parse().ok())
        .unwrap_or(2);
    equal!(store.write("data/hidden", "mine"), Ok(()), "write");
    // For whoever may see anything of this guest's at all.
    equal!(store.write("data/open", "to all"), Ok(()), "write");
    let all = ask(&mut store, wire::SET_PERMS, &format!("data/open\0b{id}\0"));
    check!(all.is_ok(), "set_perms: {all:?}");
    // The peer waits for this one: it comes last.
    equal!(store.write("data/shown", "yours"), Ok(()), "write");
    equal!(
        store.allow("data/shown", DomainId(id), DomainId(peer)),
        Ok(()),
        "set_perms"
    );
    println!("SHOWN");
    for round in 0..100_000_u32 {
        equal!(
            store.write("data/shown", &format!("{round}")),
            Ok(()),
            "write {round}"
        );
        equal!(
            store.write("data/hidden", &format!("{round}")),
            Ok(()),
            "write {round}"
        );
        runtime::timer::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Sees of domain `peer` what is shown, and hears of its changes; nothing else.
pub(crate) fn reader() -> Outcome {
    let mut store = open()?;
    let peer = arguments().get("peer").unwrap_or("1");
    let path = |key: &str| format!("/local/domain/{peer}/{key}");
    let shown = path("data/shown");
    check!(
        within(Duration::from_secs(60), || store.read(&shown).is_ok()),
        "nothing is shown"
    );
    equal!(
        store.read(&path("data/open")),
        Ok("to all".into()),
        "read of what is open"
    );
    for key in ["data/hidden", "data", "domid", "data/none"] {
        equal!(store.read(&path(key)), named("EACCES"), "read of {key}");
        equal!(
            store.write(&path(key), ""),
            named("EACCES"),
            "write of {key}"
        );
        equal!(store.remove(&path(key)), named("EACCES"), "rm of {key}");
    }
    equal!(
        store.write(&shown, ""),
        named("EACCES"),
        "write of what is shown"
    );
    equal!(store.watch(&path("data/hidden"), "hidden"), Ok(()), "watch");
    equal!(store.watch(&shown, "shown"), Ok(()), "watch");
    let (mut heard, mut hidden) = (0, 0);
    let done = within(Duration::from_secs(60), || {
        if let Some(event) = store.event() {
            heard += u32::from(event.token == "shown");
            hidden += u32::from(event.token == "hidden");
        }
        heard > 5
    });
    check!(done, "heard {heard} times");
    while let Some(event) = store.event() {
        hidden += u32::from(event.token == "hidden");
    }
    // The first event of a watch is no news.
    check!(hidden == 1, "heard of what is hidden");
    Ok(())
}

/// Sees nothing of domain `peer`, which is no peer, not even what is open to all or shown to it by name; nor of any
/// other number's.
pub(crate) fn stranger() -> Outcome {
    let mut store = open()?;
    let own = own_id(&mut store)?;
    let peer = arguments().number("peer").unwrap_or(1) as u16;
    for round in 0..20 {
        for id in (0..40).filter(|id| *id != own) {
            let keys = ["", "/data/open", "/data/shown", "/data/hidden", "/name"];
            for key in keys {
                let path = format!("/local/domain/{id}{key}");
                for kind in [wire::READ, wire::DIRECTORY, wire::GET_PERMS, wire::RM] {
                    let answer = ask(&mut store, kind, &format!("{path}\0"));
                    equal!(answer, named("EACCES"), "request {kind} for {path}");
                }
                equal!(store.write(&path, "x"), named("EACCES"), "write of {path}");
                let below = format!("{path}/below");
                equal!(
                    store.write(&below, "x"),
                    named("EACCES"),
                    "write of {below}"
                );
            }
        }
        if round == 0 {
            let open = format!("/local/domain/{peer}/data/open");
            let shown = format!("/local/domain/{peer}/data/shown");
            equal!(store.watch(&open, "open"), Ok(()), "watch");
            equal!(store.watch(&shown, "shown"), Ok(()), "watch");
        }
        runtime::timer::sleep(Duration::from_millis(50));
    }
    let mut events = 0;
    while store.event().is_some() {
        events += 1;
    }
    // The first event of a watch is no news.
    equal!(events, 2, "events");
    Ok(())
}
