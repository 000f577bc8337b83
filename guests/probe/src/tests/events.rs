//! Event channels, 2-level (xen-arm-hypercalls sections 8 and 9). Most run by the FIFO ABI too.

use crate::check::{Outcome, Trouble, check, equal, fail, settle, soon, within};
use crate::raw;
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use core::time::Duration;
use runtime::abi::Errno::{Exists, NoSpace};
use runtime::abi::{DomainId, Port, event_channel as op};
use runtime::hypercall::Error;
use runtime::{cpu, event, timer};

/// The result of an operation that must work.
pub(super) fn works<T>(what: &str, result: Result<T, Error>) -> Result<T, Trouble> {
    match result {
        Ok(value) => Ok(value),
        Err(error) => fail!("{what}: {error}"),
    }
}

/// Counts the events of `port`.
fn counter(port: Port) -> Result<Arc<AtomicU32>, Trouble> {
    let count = Arc::new(AtomicU32::new(0));
    let theirs = count.clone();
    works(
        "unmask",
        event::on(port, move |_| {
            theirs.fetch_add(1, SeqCst);
        }),
    )?;
    Ok(count)
}

fn forget(port: Port) {
    event::off(port);
    let _ = event::close(port);
}

pub(crate) fn ipi() -> Outcome {
    let port = works("bind_ipi", event::bind_ipi(0))?;
    let count = counter(port)?;
    for round in 1..=100 {
        works("send", event::send(port))?;
        check!(
            soon(|| count.load(SeqCst) == round),
            "{} of {round} events",
            count.load(SeqCst)
        );
    }
    settle();
    equal!(count.load(SeqCst), 100, "events");
    forget(port);
    Ok(())
}

/// Both ends in this domain.
pub(crate) fn loopback() -> Outcome {
    let one = works("alloc_unbound", event::alloc_unbound(DomainId::SELF))?;
    equal!(
        works("status", event::status(one))?.status,
        op::STATUS_UNBOUND,
        "status before"
    );
    let other = works(
        "bind_interdomain",
        event::bind_interdomain(DomainId::SELF, one),
    )?;
    check!(one != other, "both ends are {one}");
    check!(
        event::is_pending(other),
        "the new end does not start pending"
    );
    let status = works("status", event::status(one))?;
    equal!(status.status, op::STATUS_INTERDOMAIN, "status after");
    equal!(status.detail_port, other, "other end");

    let at_one = counter(one)?;
    let at_other = counter(other)?;
    check!(
        soon(|| at_other.load(SeqCst) == 1),
        "the first event did not come"
    );
    for round in 1..=20 {
        works("send", event::send(one))?;
        check!(
            soon(|| at_other.load(SeqCst) == round + 1),
            "no event at the other end"
        );
        works("send", event::send(other))?;
        check!(
            soon(|| at_one.load(SeqCst) == round),
            "no event at the first end"
        );
    }
    event::off(other);
    works("close", event::close(other))?;
    let status = works("status", event::status(one))?.status;
    equal!(
        status,
        op::STATUS_UNBOUND,
        "status after the other end closed"
    );
    works("send to nobody", event::send(one))?;
    forget(one);
    Ok(())
}

pub(crate) fn mask() -> Outcome {
    let port = works("bind_ipi", event::bind_ipi(0))?;
    let count = counter(port)?;
    event::mask(port);
    for _ in 0..3 {
        works("send", event::send(port))?;
    }
    settle();
    equal!(count.load(SeqCst), 0, "events while masked");
    check!(event::is_pending(port), "not pending");
    works("unmask", event::unmask(port))?;
    check!(soon(|| count.load(SeqCst) == 1), "no event after unmasking");
    settle();
    equal!(count.load(SeqCst), 1, "events");
    forget(port);
    Ok(())
}

pub(crate) fn poll() -> Outcome {
    let port = works("bind_ipi", event::bind_ipi(0))?;
    works("send", event::send(port))?;
    works("poll of a pending port", event::poll(&[port], 0))?;
    check!(event::take(port), "poll took the event");

    // System time starts no earlier than the physical counter: this is 20 ms away at least.
    let counter = raw::physical_counter();
    let start = timer::now();
    let deadline = timer::duration(counter).as_nanos() as u64 + 20_000_000;
    works("poll", cpu::masked(|| event::poll(&[port], deadline)))?;
    let waited = timer::duration(timer::now() - start);
    println_note(waited);
    check!(
        waited >= Duration::from_millis(15),
        "poll came back after {waited:?}"
    );
    check!(
        waited < Duration::from_secs(10),
        "poll came back after {waited:?}"
    );
    forget(port);
    Ok(())
}

fn println_note(waited: Duration) {
    runtime::println!("NOTE event-poll 20 ms took {} ms", waited.as_millis());
}

/// An event from a deadline's call-back ends WFI; so does one that waits behind PSTATE.I.
pub(crate) fn wfi() -> Outcome {
    let port = works("bind_ipi", event::bind_ipi(0))?;
    let count = counter(port)?;
    let early = cpu::masked(|| {
        let sent = event::send(port);
        cpu::wait_for_interrupt();
        (sent, count.load(SeqCst))
    });
    equal!(early, (Ok(()), 0), "send, and events while masked");
    check!(soon(|| count.load(SeqCst) == 1), "no event after unmasking");
    forget(port);
    Ok(())
}

pub(crate) fn status() -> Outcome {
    let port = works("bind_ipi", event::bind_ipi(0))?;
    equal!(
        works("status", event::status(port))?.status,
        op::STATUS_IPI,
        "status of an IPI port"
    );
    works("close", event::close(port))?;
    equal!(
        works("status", event::status(port))?.status,
        op::STATUS_CLOSED,
        "status after close"
    );
    let virq = works("bind_virq", event::bind_virq(op::VIRQ_DEBUG, 0))?;
    let status = works("status", event::status(virq))?;
    equal!(
        (status.status, status.detail),
        (op::STATUS_VIRQ, op::VIRQ_DEBUG),
        "status of a VIRQ port"
    );
    let again = event::bind_virq(op::VIRQ_DEBUG, 0);
    equal!(again, Err(Error(Exists.as_return())), "the same VIRQ twice");
    works("close", event::close(virq))
}

/// Ports run out with an error, and come back.
pub(crate) fn exhaust() -> Outcome {
    let mut ports = Vec::new();
    let end = loop {
        match event::alloc_unbound(DomainId::SELF) {
            Ok(port) => ports.push(port),
            Err(error) => break error,
        }
        if ports.len() > 200_000 {
            fail!("no end of ports");
        }
    };
    let most = ports.iter().map(|port| port.0).max().unwrap_or(0);
    for port in &ports {
        works("close", event::close(*port))?;
    }
    equal!(
        end,
        Error(NoSpace.as_return()),
        "error after {} ports",
        ports.len()
    );
    equal!(most, op::DEFAULT_MAX_PORT, "highest port");
    let port = works(
        "alloc_unbound afterwards",
        event::alloc_unbound(DomainId::SELF),
    )?;
    works("close", event::close(port))
}

/// IPI ports and moved ports are delivered to the vCPU that they name.
pub(crate) fn smp() -> Outcome {
    static STOP: AtomicBool = AtomicBool::new(false);
    static READY: AtomicU32 = AtomicU32::new(0);
    STOP.store(false, SeqCst);
    READY.store(0, SeqCst);
    super::smp::everywhere(
        |_| {
            READY.fetch_add(1, SeqCst);
            while !STOP.load(SeqCst) {
                timer::sleep(Duration::from_millis(5));
            }
        },
        || {
            let outcome = smp_body(&READY);
            STOP.store(true, SeqCst);
            outcome
        },
    )
}

fn smp_body(ready: &AtomicU32) -> Outcome {
    let others = cpu::count() as u32 - 1;
    check!(
        within(Duration::from_secs(30), || ready.load(SeqCst) == others),
        "not all CPUs came"
    );
    let place = Arc::new(AtomicUsize::new(usize::MAX));
    let here = |port| {
        let theirs = place.clone();
        works(
            "unmask",
            event::on(port, move |_| theirs.store(cpu::index(), SeqCst)),
        )
    };
    for index in (0..cpu::count()).rev() {
        let port = works("bind_ipi", event::bind_ipi(index as u32))?;
        here(port)?;
        for _ in 0..10 {
            place.store(usize::MAX, SeqCst);
            works("send", event::send(port))?;
            let came = soon(|| place.load(SeqCst) == index);
            check!(came, "for vCPU {index}, taken by {:#x}", place.load(SeqCst));
        }
        forget(port);
    }
    let one = works("alloc_unbound", event::alloc_unbound(DomainId::SELF))?;
    let other = works(
        "bind_interdomain",
        event::bind_interdomain(DomainId::SELF, one),
    )?;
    event::take(other);
    for index in (0..cpu::count()).rev() {
        works("bind_vcpu", event::bind_vcpu(other, index as u32))?;
        here(other)?;
        place.store(usize::MAX, SeqCst);
        works("send", event::send(one))?;
        let came = soon(|| place.load(SeqCst) == index);
        check!(
            came,
            "moved to vCPU {index}, taken by {:#x}",
            place.load(SeqCst)
        );
    }
    forget(other);
    forget(one);
    Ok(())
}
