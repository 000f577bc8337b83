//! Xenstore: every request, watches, transactions, errors, long messages, a new start, indices that make no sense
//! (xen-pv-io section 2).

mod between;

use between::{owner, reader, stranger};

use crate::check::{Outcome, Test, XEN, check, equal, fail, soon};
use alloc::{format, string::String, vec::Vec};
use core::sync::atomic::Ordering;
use runtime::abi::{DomainId, xenstore as wire};
use runtime::xenstore::{Error, Event, Store};

/// Those that end by themselves; `test=store` runs them in this order.
pub(crate) const ALL: &[Test] = &[
    Test::new("store-seeds", XEN, seeds),
    Test::new("store-requests", XEN, requests),
    Test::new("store-watches", XEN, watches),
    Test::new("store-transactions", XEN, transactions),
    Test::new("store-errors", XEN, errors),
    Test::new("store-long", XEN, long),
    Test::new("store-hostile", XEN, hostile),
];

/// Those for guests of another kind, or with other guests.
pub(crate) const BY_NAME: &[Test] = &[
    Test::new("store-none", XEN, none),
    Test::new("store-late", XEN, late),
    Test::new("store-owner", XEN, owner),
    Test::new("store-reader", XEN, reader),
    Test::new("store-stranger", XEN, stranger),
];

fn open() -> Result<Store, crate::check::Trouble> {
    let Some(mut store) = Store::open() else {
        fail!("no store")
    };
    if let Err(error) = store.reconnect() {
        fail!("reconnect: {error}");
    }
    let _ = store.remove("data/probe");
    Ok(store)
}

fn named<T>(name: &str) -> Result<T, Error> {
    Err(Error::Named(name.into()))
}

fn ask(store: &mut Store, kind: u32, payload: &str) -> Result<String, Error> {
    let answer = store.request(0, kind, payload.as_bytes())?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn own_id(store: &mut Store) -> Result<u16, crate::check::Trouble> {
    match store.read("domid").map(|text| text.parse()) {
        Ok(Ok(id)) => Ok(id),
        other => fail!("domid: {other:?}"),
    }
}

/// What is in the store when a guest starts.
pub(crate) fn seeds() -> Outcome {
    let mut store = open()?;
    let id = own_id(&mut store)?;
    let home = format!("/local/domain/{id}");
    equal!(
        ask(&mut store, wire::GET_DOMAIN_PATH, &format!("{id}\0")),
        Ok(format!("{home}\0")),
        "path"
    );
    for known in [id, 0, DomainId::SELF.0] {
        equal!(
            ask(
                &mut store,
                wire::IS_DOMAIN_INTRODUCED,
                &format!("{known}\0")
            ),
            Ok("T\0".into()),
            "{known}"
        );
    }
    for key in [
        "name",
        "memory/target",
        "memory/static-max",
        "cpu/0/availability",
        "console/port",
        "store/port",
    ] {
        check!(
            store.read(key).is_ok_and(|value| !value.is_empty()),
            "{key}"
        );
    }
    equal!(
        store.read("store/port"),
        Ok(format!("{}", store.port().0)),
        "port"
    );
    equal!(
        store.read("control/platform-feature-xs_reset_watches"),
        Ok("1".into()),
        "reset_watches"
    );
    equal!(store.list("device"), Ok(Vec::new()), "device");
    equal!(
        ask(&mut store, wire::GET_PERMS, "control/shutdown\0"),
        Ok(format!("n{id}\0")),
        "permissions"
    );
    for (path, value) in [
        ("control/shutdown", ""),
        ("control/feature-poweroff", "1"),
        ("data/probe", "x"),
    ] {
        equal!(store.write(path, value), Ok(()), "write of {path}");
    }
    for path in ["name", "new", "device/vif", "/local/domain/0/x", "/tool"] {
        equal!(store.write(path, ""), named("EACCES"), "write of {path}");
    }
    for path in ["/", "/local", "/local/domain", "/local/domain/0", "/tool"] {
        equal!(store.list(path), named("EACCES"), "list of {path}");
    }
    equal!(
        store
            .word(wire::RING_SERVER_FEATURES)
            .load(Ordering::Relaxed),
        3,
        "features"
    );
    Ok(())
}

pub(crate) fn requests() -> Outcome {
    let mut store = open()?;
    let id = own_id(&mut store)?;
    equal!(store.write("data/probe/a/b", "one"), Ok(()), "write");
    equal!(store.read("data/probe/a/b"), Ok("one".into()), "read");
    equal!(
        store.read(&format!("/local/domain/{id}/data/probe/a")),
        Ok(String::new()),
        "read of a parent"
    );
    equal!(
        ask(&mut store, wire::MKDIR, "data/probe/c\0"),
        Ok("OK\0".into()),
        "mkdir"
    );
    let mut names = store.list("data/probe").unwrap_or_default();
    names.sort();
    equal!(names, ["a", "c"], "list");
    equal!(
        store.allow("data/probe/a", DomainId(id), DomainId(7)),
        Ok(()),
        "set_perms"
    );
    equal!(
        ask(&mut store, wire::GET_PERMS, "data/probe/a\0"),
        Ok(format!("n{id}\0r7\0")),
        "get_perms"
    );
    equal!(store.remove("data/probe/a"), Ok(()), "rm");
    equal!(store.remove("data/probe/a"), Ok(()), "rm again");
    equal!(
        store.read("data/probe/a/b"),
        named("ENOENT"),
        "read after rm"
    );
    Ok(())
}

/// The next event, within a second.
fn next(store: &mut Store) -> Option<Event> {
    let mut event = None;
    soon(|| {
        event = store.event();
        event.is_some()
    });
    event
}

pub(crate) fn watches() -> Outcome {
    let mut store = open()?;
    let event = |path: &str| {
        Some(Event {
            path: path.into(),
            token: "t".into(),
        })
    };
    equal!(store.watch("data/probe", "t"), Ok(()), "watch");
    equal!(next(&mut store), event("data/probe"), "first event");
    equal!(
        store.watch("data/probe", "t"),
        named("EEXIST"),
        "watch again"
    );
    for path in ["data/probe/x", "data/probe/y/z"] {
        equal!(store.write(path, "1"), Ok(()), "write");
        equal!(next(&mut store), event(path), "event");
    }
    Ok(())
}

pub(crate) fn transactions() -> Outcome {
    let mut store = open()?;
    let mut inside = 0;
    for (disturb, end) in [(false, Ok(())), (true, named("EAGAIN"))] {
        match store.start() {
            Ok(number) => inside = number,
            Err(error) => fail!("start: {error}"),
        }
        let write = store.request(inside, wire::WRITE, b"data/probe/t\0in");
        equal!(write, Ok(b"OK\0".to_vec()), "write inside");
        equal!(
            store.request(inside, wire::READ, b"data/probe/t\0"),
            Ok(b"in".to_vec()),
            "read inside"
        );
        equal!(store.read("data/probe/t"), named("ENOENT"), "read outside");
        if disturb {
            equal!(store.write("data/probe/t", "out"), Ok(()), "write outside");
        }
        equal!(store.end(inside, true), end, "end");
        let value = if disturb { "out" } else { "in" };
        equal!(store.read("data/probe/t"), Ok(value.into()), "value");
        equal!(store.remove("data/probe/t"), Ok(()), "rm");
    }
    equal!(store.end(inside, true), named("ENOENT"), "end again");
    equal!(
        store.request(77, wire::READ, b"domid\0"),
        named("ENOENT"),
        "unknown transaction"
    );
    Ok(())
}

pub(crate) fn errors() -> Outcome {
    let mut store = open()?;
    for (kind, payload, name) in [
        (wire::READ, "", "EINVAL"),
        (wire::READ, "a//b\0", "EINVAL"),
        (wire::READ, "a b\0", "EINVAL"),
        (wire::READ, "data/none\0", "ENOENT"),
        (wire::SET_PERMS, "data\0x1\0", "EINVAL"),
        (wire::SET_PERMS, "data\0n0\0", "EPERM"),
        (wire::UNWATCH, "data\0t\0", "ENOENT"),
        (wire::WATCH, "@releaseDomain\0t\0", "EACCES"),
        (wire::INTRODUCE, "1\x001\x001\0", "EACCES"),
        (wire::CONTROL, "print\0x\0", "EACCES"),
        (20, "", "ENOSYS"),
        (1000, "", "ENOSYS"),
    ] {
        equal!(
            ask(&mut store, kind, payload),
            named(name),
            "{kind} of {payload:?}"
        );
    }
    let long = "v".repeat(2049);
    equal!(
        store.write("data/probe", &long),
        named("ENOSPC"),
        "value beyond the quota"
    );
    let mut made = 0;
    while made < 1000 && store.write(&format!("data/probe/{made}"), "x").is_ok() {
        made += 1;
    }
    check!((100..1000).contains(&made), "{made} nodes until ENOSPC");
    equal!(store.remove("data/probe"), Ok(()), "rm of them all");
    equal!(store.write("data/probe", "fits"), Ok(()), "write after it");
    Ok(())
}

/// Messages longer than the ring, both ways.
pub(crate) fn long() -> Outcome {
    let mut store = open()?;
    for length in [1000, 1024, 1500, 2048] {
        let value = "v".repeat(length);
        equal!(
            store.write("data/probe", &value),
            Ok(()),
            "write of {length}"
        );
        equal!(store.read("data/probe"), Ok(value), "read of {length}");
    }
    let names: Vec<String> = (0..20).map(|n| format!("{n:0>190}")).collect();
    for name in &names {
        equal!(
            store.write(&format!("data/probe/{name}"), ""),
            Ok(()),
            "write"
        );
    }
    let mut list = store.list("data/probe").unwrap_or_default();
    list.sort();
    check!(list == names, "list of {} names", list.len());
    equal!(
        store.write(&format!("data/probe/{:0>480}", 1), ""),
        Ok(()),
        "write of a long name"
    );
    equal!(
        store.list("data/probe"),
        named("E2BIG"),
        "list that does not fit"
    );
    let part = ask(&mut store, wire::DIRECTORY_PART, "data/probe\x000\0");
    check!(part.is_ok_and(|part| part.len() > 3000), "part");
    equal!(store.remove("data/probe"), Ok(()), "rm");
    Ok(())
}

/// Indices and lengths that make no sense, and the way back.
pub(crate) fn hostile() -> Outcome {
    let mut store = open()?;
    equal!(store.write("data/probe", "kept"), Ok(()), "write");
    for (offset, value) in [
        (wire::RING_REQUEST_PROD, 0x8000_0000),
        (wire::RING_REQUEST_PROD, u32::MAX),
        (wire::RING_RESPONSE_CONS, 0x1234_5678),
    ] {
        let word = store.word(offset);
        word.fetch_add(value, Ordering::SeqCst);
        if offset == wire::RING_RESPONSE_CONS {
            // It is looked at when there is something to say.
            let header = [wire::READ, 1, 0, 6].map(u32::to_le_bytes);
            let _ = store.send(header.as_flattened());
            let _ = store.send(b"domid\0");
        }
        store.notify();
        equal!(
            store.word(wire::RING_ERROR).load(Ordering::Relaxed),
            wire::ERROR_RING_INDEX,
            "error of {offset}"
        );
        equal!(store.reconnect(), Ok(()), "reconnect");
        equal!(
            store.word(wire::RING_ERROR).load(Ordering::Relaxed),
            0,
            "error"
        );
        equal!(store.read("data/probe"), Ok("kept".into()), "read");
    }
    let header = [wire::READ, 1, 0, 4097].map(u32::to_le_bytes);
    let _ = store.send(header.as_flattened());
    equal!(
        store.word(wire::RING_ERROR).load(Ordering::Relaxed),
        wire::ERROR_PROTOCOL,
        "error of a length"
    );
    equal!(store.reconnect(), Ok(()), "reconnect");
    // Bytes without sense are requests without sense.
    for round in 0..50_u32 {
        let noise: Vec<u8> = (0..round * 7)
            .map(|n| (n.wrapping_mul(round + 13) >> 2) as u8)
            .collect();
        let _ = store.send(&noise);
        store
            .word(wire::RING_RESPONSE_CONS)
            .store(round.wrapping_mul(0x0101_0101), Ordering::SeqCst);
        store.notify();
        equal!(store.reconnect(), Ok(()), "reconnect {round}");
    }
    equal!(
        store.read("data/probe"),
        Ok("kept".into()),
        "read at the end"
    );
    Ok(())
}

/// The store by a guest that has none: the parameters read 0.
pub(crate) fn none() -> Outcome {
    check!(Store::open().is_none(), "there is a store");
    Ok(())
}

/// The store of `"legacy"`: it comes with an event, after a first look.
pub(crate) fn late() -> Outcome {
    use runtime::abi::hvm::{PARAM_STORE_EVTCHN, PARAM_STORE_PFN};
    use runtime::{event, hypercall::parameter};
    let port = parameter(PARAM_STORE_EVTCHN).unwrap_or(0);
    check!(port != 0, "no port");
    equal!(parameter(PARAM_STORE_PFN), Ok(u64::MAX), "page at first");
    let port = runtime::abi::Port(port as u32);
    check!(soon(|| event::is_pending(port)), "no event");
    check!(Store::open().is_some(), "no store afterwards");
    requests()
}
