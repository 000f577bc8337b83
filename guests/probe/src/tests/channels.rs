//! Event channels to other guests: who may be reached, and what the device tree connects.

use crate::check::{Outcome, check, equal, fail, within};
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use core::time::Duration;
use runtime::abi::Errno::{NoSuchDomain, Perm};
use runtime::abi::event_channel::VIRQ_DEBUG;
use runtime::abi::{DomainId, Port};
use runtime::arguments::arguments;
use runtime::hypercall::Error;
use runtime::{cpu, event, println, timer};

/// Reaches for every guest there may be. `others=N` says that domains 1 to N are there and no peers, but
/// for this one, `own=ID`; nobody else may be reached either.
pub(crate) fn reach() -> Outcome {
    let number = |name| arguments().number(name).unwrap_or(0) as u16;
    let (own, others) = (number("own"), number("others"));
    check!(own != 0 && others != 0, "own= and others= are not given");
    let ids = (0..=300).chain([0x7fef, 0x7ff1, 0x7ff2, 0x7ff5, 0x7fff, 0x8001, 0xffff]);
    for id in ids.filter(|id| *id != own) {
        let error = match id {
            id if (1..=others).contains(&id) => Perm,
            _ => NoSuchDomain,
        };
        let error = Error(error.as_return());
        equal!(
            event::alloc_unbound(DomainId(id)),
            Err(error),
            "alloc_unbound for d{id}"
        );
        for port in [0, 1, 2, 1023, 4096, u32::MAX] {
            let bound = event::bind_interdomain(DomainId(id), Port(port));
            equal!(
                bound,
                Err(error),
                "bind_interdomain to port {port} of d{id}"
            );
        }
    }
    let Ok(port) = event::alloc_unbound(DomainId(own)) else {
        fail!("alloc_unbound for itself");
    };
    check!(event::close(port).is_ok(), "close");
    Ok(())
}

/// Three events each way over `port=N`, which the device tree has connected.
pub(crate) fn fixed() -> Outcome {
    let port = arguments().number("port").unwrap_or(0) as u32;
    exchange(Port(port))
}

/// The same over a channel that `peer=ID` offers (`offers=1` in its arguments) and this guest binds to. With `fifo=1` this
/// guest has moved to the FIFO ABI, whatever the other one uses.
pub(crate) fn peers() -> Outcome {
    if arguments().number("fifo").is_some() {
        equal!(event::use_fifo(), Ok(()), "init_control and expand_array");
    }
    let peer = DomainId(arguments().number("peer").unwrap_or(0) as u16);
    if arguments().number("offers").is_some() {
        return match event::alloc_unbound(peer) {
            Ok(port) => exchange(port),
            Err(error) => fail!("alloc_unbound for {peer}: {error}"),
        };
    }
    let mut bound = None;
    within(Duration::from_secs(60), || {
        bound = (1..32).find_map(|port| event::bind_interdomain(peer, Port(port)).ok());
        bound.is_some()
    });
    match bound {
        Some(port) => exchange(port),
        None => fail!("{peer} offers nothing"),
    }
}

/// The debug interrupt, bound for each vCPU, comes to each when the operator raises it.
pub(crate) fn debug() -> Outcome {
    let mut ports = Vec::new();
    for vcpu in 0..cpu::count() as u32 {
        match event::bind_virq(VIRQ_DEBUG, vcpu) {
            Ok(port) => ports.push(port),
            Err(error) => fail!("bind_virq for vCPU {vcpu}: {error}"),
        }
    }
    let count = Arc::new(AtomicU32::new(0));
    let theirs = count.clone();
    let listening = event::on(ports[0], move |_| {
        theirs.fetch_add(1, SeqCst);
    });
    equal!(listening, Ok(()), "unmask");
    println!("READY virq-debug");
    let came = within(Duration::from_secs(60), || count.load(SeqCst) != 0);
    check!(came, "nothing came");
    // The other vCPUs are off: what there is of theirs is a bit.
    for port in &ports[1..] {
        let pending = within(Duration::from_secs(30), || event::is_pending(*port));
        check!(pending, "nothing at {port}");
    }
    for port in ports {
        equal!(event::close(port), Ok(()), "close of {port}");
    }
    Ok(())
}

fn exchange(port: Port) -> Outcome {
    let count = Arc::new(AtomicU32::new(0));
    let theirs = count.clone();
    let listening = event::on(port, move |_| {
        theirs.fetch_add(1, SeqCst);
    });
    equal!(listening, Ok(()), "unmask of {port}");
    let came = within(Duration::from_secs(60), || {
        let _ = event::send(port);
        timer::sleep(Duration::from_millis(20));
        count.load(SeqCst) >= 3
    });
    check!(came, "{} events at {port}", count.load(SeqCst));
    // The other one may still want some.
    for _ in 0..50 {
        let _ = event::send(port);
        timer::sleep(Duration::from_millis(20));
    }
    Ok(())
}
