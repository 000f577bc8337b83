//! `event_channel_op` by the 2-level ABI.

use crate::raw::{call, with};
use crate::suite::{NOBODY, Suite};
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;
use runtime::abi::Errno::{
    Busy, Exists, Invalid, NoEntry, NoSpace, NoSuchDomain, NoSys, NotSupported, Perm,
};
use runtime::abi::{DomainId, Port, event_channel as op, hvm, hypercall as number};
use runtime::{event, hypercall, timer};

pub(crate) fn at(command: u64, pointer: u64) -> i64 {
    call(number::EVENT_CHANNEL_OP, [command, pointer, 0, 0, 0])
}

/// The answer of a call, and its argument afterwards.
pub(crate) fn ask<T>(command: u64, mut argument: T) -> (i64, T) {
    let answer = with(number::EVENT_CHANNEL_OP, command, &mut argument, 0);
    (answer, argument)
}

pub(crate) fn on_port(command: u64, port: Port) -> i64 {
    ask(command, port).0
}

fn open(dom: DomainId, remote_dom: DomainId) -> (i64, Port) {
    let (answer, request) = ask(
        op::ALLOC_UNBOUND,
        op::AllocUnbound {
            dom,
            remote_dom,
            port: Port(0),
        },
    );
    (answer, request.port)
}

fn bind(remote_dom: DomainId, remote_port: Port) -> (i64, Port) {
    let request = op::BindInterdomain {
        remote_dom,
        remote_port,
        ..Default::default()
    };
    let (answer, request) = ask(op::BIND_INTERDOMAIN, request);
    (answer, request.local_port)
}

fn ipi(vcpu: u32) -> (i64, Port) {
    let (answer, request) = ask(
        op::BIND_IPI,
        op::BindIpi {
            vcpu,
            port: Port(0),
        },
    );
    (answer, request.port)
}

fn virq(virq: u32, vcpu: u32) -> (i64, Port) {
    let request = op::BindVirq {
        virq,
        vcpu,
        port: Port(0),
    };
    let (answer, request) = ask(op::BIND_VIRQ, request);
    (answer, request.port)
}

fn status(port: Port) -> (u32, u32, u32, Port) {
    match event::status(port) {
        Ok(status) => (
            status.status,
            status.vcpu,
            status.detail,
            status.detail_port,
        ),
        Err(_) => (u32::MAX, 0, 0, Port(0)),
    }
}

pub(crate) fn run(suite: &mut Suite) {
    unbound(suite);
    interdomain(suite);
    virqs(suite);
    ipis(suite);
    moves(suite);
    states(suite);
    delivery(suite);
    services(suite);
    closes(suite);
    resets(suite);
    suite.subject("event_channel_op.bind_pirq");
    suite.is("any", at(op::BIND_PIRQ, 8), NotSupported);
    suite.subject("event_channel_op.others");
    for command in [14, 15, 99, 0xffff_ffff] {
        suite.is(&format!("command {command}"), at(command, 8), NoSys);
    }
}

fn unbound(suite: &mut Suite) {
    suite.subject("event_channel_op.alloc_unbound");
    let (own, stranger) = (suite.own, suite.stranger);
    let (answer, port) = open(DomainId::SELF, DomainId::SELF);
    suite.is("for itself", answer, 0);
    suite.equal(
        "open",
        status(port),
        (op::STATUS_UNBOUND, 0, u32::from(own.0), Port(0)),
    );
    let (answer, second) = open(own, own);
    suite.is("by number", answer, 0);
    suite.equal("the next port", second, Port(port.0 + 1));
    suite.is("closed", on_port(op::CLOSE, port), 0);
    suite.equal("the lowest free port", open(own, own).1, port);
    for port in [port, second] {
        suite.is("closed", on_port(op::CLOSE, port), 0);
    }
    suite.is("for a stranger", open(own, stranger).0, Perm);
    suite.is("for nobody", open(own, NOBODY).0, NoSuchDomain);
    suite.is(
        "for the hypervisor",
        open(own, DomainId::XEN).0,
        NoSuchDomain,
    );
    suite.is("another's", open(stranger, own).0, Perm);
    suite.is("nobody's", open(NOBODY, own).0, NoSuchDomain);
    suite.faults(|bad| at(op::ALLOC_UNBOUND, bad));
    let mut ports = Vec::new();
    let last = loop {
        match ipi(0) {
            (0, port) => ports.push(port),
            (error, _) => break error,
        }
    };
    suite.is("no port left", last, NoSpace);
    suite.equal(
        "the last one",
        ports.last().copied(),
        Some(Port(op::DEFAULT_MAX_PORT)),
    );
    suite.is("none for a virq", virq(op::VIRQ_DEBUG, 0).0, NoSpace);
    let closed = ports
        .into_iter()
        .filter(|port| on_port(op::CLOSE, *port) == 0);
    suite.that("all closed again", closed.count() > 1000);
}

fn interdomain(suite: &mut Suite) {
    suite.subject("event_channel_op.bind_interdomain");
    let (own, stranger) = (suite.own, suite.stranger);
    let offered = open(own, own).1;
    let (answer, port) = bind(DomainId::SELF, offered);
    suite.is("to itself", answer, 0);
    suite.that("it starts pending", event::take(port));
    let connected = |port| (op::STATUS_INTERDOMAIN, 0, u32::from(own.0), port);
    suite.equal("one end", status(port), connected(offered));
    suite.equal("the other", status(offered), connected(port));
    suite.is("once more", bind(own, offered).0, Invalid);
    suite.subject("event_channel_op.send");
    suite.is("over it", on_port(op::SEND, port), 0);
    suite.that("it arrives", event::take(offered));
    suite.that("there alone", !event::is_pending(port));
    suite.is("the other way", on_port(op::SEND, offered), 0);
    suite.that("it arrives, too", event::take(port));
    suite.is("one end closed", on_port(op::CLOSE, port), 0);
    suite.is("nobody is there", on_port(op::SEND, offered), 0);
    suite.that("nothing arrives", !event::is_pending(offered));
    let unbound = (op::STATUS_UNBOUND, 0, u32::from(own.0), Port(0));
    suite.equal("open again", status(offered), unbound);
    suite.is("closed", on_port(op::CLOSE, offered), 0);
    suite.is("closed ports", on_port(op::SEND, offered), Invalid);
    suite.is("port 0", on_port(op::SEND, Port(0)), Invalid);
    suite.is("port 1024", on_port(op::SEND, Port(1024)), Invalid);
    suite.is("port 2^32 - 1", on_port(op::SEND, Port(u32::MAX)), Invalid);
    suite.faults(|bad| at(op::SEND, bad));
    suite.subject("event_channel_op.bind_interdomain");
    for port in [0, 1, 1023, 1024, u32::MAX] {
        let port = Port(port);
        suite.is(&format!("own {port}"), bind(own, port).0, Invalid);
        suite.is(
            &format!("{port} of a stranger"),
            bind(stranger, port).0,
            Perm,
        );
        suite.is(
            &format!("{port} of nobody"),
            bind(NOBODY, port).0,
            NoSuchDomain,
        );
    }
    suite.faults(|bad| at(op::BIND_INTERDOMAIN, bad));
}

fn virqs(suite: &mut Suite) {
    suite.subject("event_channel_op.bind_virq");
    for (number, name) in [
        (op::VIRQ_TIMER, "timer"),
        (op::VIRQ_DEBUG, "debug"),
        (op::VIRQ_XENOPROF, "profiler"),
        (op::VIRQ_XENPMU, "counters"),
    ] {
        let (answer, port) = virq(number, 1);
        suite.is(name, answer, 0);
        suite.equal("state", status(port), (op::STATUS_VIRQ, 1, number, Port(0)));
        suite.is("twice", virq(number, 1).0, Exists);
        suite.is("of vCPU 1000", virq(number, 1000).0, NoEntry);
        suite.is(
            "moved",
            ask(op::BIND_VCPU, op::BindVcpu { port, vcpu: 0 }).0,
            Invalid,
        );
        suite.is("sent", on_port(op::SEND, port), Invalid);
        suite.is("closed", on_port(op::CLOSE, port), 0);
        let (answer, port) = virq(number, 1);
        suite.is("again", answer, 0);
        suite.is("closed again", on_port(op::CLOSE, port), 0);
    }
    let (answer, port) = virq(op::VIRQ_ARGO, 0);
    suite.is("argo", answer, 0);
    suite.is(
        "argo, moved",
        ask(op::BIND_VCPU, op::BindVcpu { port, vcpu: 1 }).0,
        0,
    );
    suite.is("argo, closed", on_port(op::CLOSE, port), 0);
    suite.is("argo of vCPU 1", virq(op::VIRQ_ARGO, 1).0, Invalid);
    for number in [2, 3, 4, 6, 8, 9, 10, 12, 16, 23] {
        suite.is(&format!("virq {number}"), virq(number, 0).0, Busy);
        suite.is(
            &format!("virq {number} of vCPU 1"),
            virq(number, 1).0,
            Invalid,
        );
    }
    for number in [24, 25, u32::MAX] {
        suite.is(&format!("virq {number}"), virq(number, 0).0, Invalid);
    }
    suite.faults(|bad| at(op::BIND_VIRQ, bad));
}

fn ipis(suite: &mut Suite) {
    suite.subject("event_channel_op.bind_ipi");
    let (answer, port) = ipi(1);
    suite.is("of vCPU 1", answer, 0);
    suite.equal("state", status(port), (op::STATUS_IPI, 1, 0, Port(0)));
    suite.is("closed", on_port(op::CLOSE, port), 0);
    suite.is("of vCPU 2", ipi(2).0, NoEntry);
    suite.is("of vCPU 2^32 - 1", ipi(u32::MAX).0, NoEntry);
    suite.faults(|bad| at(op::BIND_IPI, bad));
}

fn moves(suite: &mut Suite) {
    suite.subject("event_channel_op.bind_vcpu");
    let own = suite.own;
    let move_to = |port, vcpu| ask(op::BIND_VCPU, op::BindVcpu { port, vcpu }).0;
    let port = open(own, own).1;
    suite.is("an open one", move_to(port, 1), 0);
    suite.equal("its vCPU", status(port).1, 1);
    suite.is("to vCPU 2", move_to(port, 2), NoEntry);
    suite.is("closed", on_port(op::CLOSE, port), 0);
    suite.is("a free one", move_to(port, 0), Invalid);
    let port = ipi(0).1;
    suite.is("that of an IPI", move_to(port, 1), Invalid);
    suite.is("closed", on_port(op::CLOSE, port), 0);
    suite.is("port 0", move_to(Port(0), 0), Invalid);
    suite.is("port 1024", move_to(Port(1024), 0), Invalid);
    suite.faults(|bad| at(op::BIND_VCPU, bad));
}

fn states(suite: &mut Suite) {
    suite.subject("event_channel_op.status");
    let ask_for = |dom, port| {
        let request = op::Status {
            dom,
            port,
            status: 99,
            ..Default::default()
        };
        let (answer, request) = ask(op::STATUS, request);
        (answer, request.status)
    };
    let own = suite.own;
    suite.equal(
        "a free one",
        ask_for(own, Port(900)),
        (0, op::STATUS_CLOSED),
    );
    suite.equal(
        "port 0",
        ask_for(DomainId::SELF, Port(0)),
        (0, op::STATUS_CLOSED),
    );
    suite.is("port 1024", ask_for(own, Port(1024)).0, Invalid);
    suite.is("port 2^32 - 1", ask_for(own, Port(u32::MAX)).0, Invalid);
    suite.is("another's", ask_for(suite.stranger, Port(1)).0, Perm);
    suite.is("nobody's", ask_for(NOBODY, Port(1)).0, NoSuchDomain);
    suite.faults(|bad| at(op::STATUS, bad));
}

fn delivery(suite: &mut Suite) {
    suite.subject("event_channel_op.unmask");
    let count = alloc::sync::Arc::new(core::sync::atomic::AtomicU32::new(0));
    let theirs = count.clone();
    let came = || {
        timer::spin(Duration::from_millis(2));
        count.load(core::sync::atomic::Ordering::SeqCst)
    };
    let port = ipi(0).1;
    let listening = event::on(port, move |_| {
        theirs.fetch_add(1, core::sync::atomic::Ordering::SeqCst);
    });
    suite.that("a port that nothing waits at", listening.is_ok());
    let _ = event::send(port);
    suite.equal("an event", came(), 1);
    event::mask(port);
    let _ = (event::send(port), event::send(port));
    suite.equal("masked", came(), 1);
    suite.is("what waited", on_port(op::UNMASK, port), 0);
    suite.equal("comes once", came(), 2);
    suite.is("once more", on_port(op::UNMASK, port), 0);
    suite.equal("nothing more", came(), 2);
    event::off(port);
    suite.is("closed", on_port(op::CLOSE, port), 0);
    suite.is("port 0", on_port(op::UNMASK, Port(0)), Invalid);
    suite.is("port 1024", on_port(op::UNMASK, Port(1024)), Invalid);
    suite.faults(|bad| at(op::UNMASK, bad));
}

/// The hypervisor's own ports.
fn services(suite: &mut Suite) {
    suite.subject("event_channel_op.close");
    let port = hypercall::parameter(hvm::PARAM_CONSOLE_EVTCHN).unwrap_or(0) as u32;
    if port == 0 {
        return;
    }
    let port = Port(port);
    let xen = (
        op::STATUS_INTERDOMAIN,
        0,
        u32::from(DomainId::XEN.0),
        Port(0),
    );
    suite.equal("the console's port", status(port), xen);
    suite.is("closed", on_port(op::CLOSE, port), 0);
    suite.equal("it stays", status(port), xen);
}

fn closes(suite: &mut Suite) {
    suite.subject("event_channel_op.close");
    let port = ipi(0).1;
    event::mask(port);
    let _ = event::send(port);
    suite.is("one that is pending", on_port(op::CLOSE, port), 0);
    suite.that("it is no more", !event::is_pending(port));
    suite.is("once more", on_port(op::CLOSE, port), Invalid);
    suite.is("port 0", on_port(op::CLOSE, Port(0)), Invalid);
    suite.is("port 1024", on_port(op::CLOSE, Port(1024)), Invalid);
    suite.is("port 2^32 - 1", on_port(op::CLOSE, Port(u32::MAX)), Invalid);
    suite.faults(|bad| at(op::CLOSE, bad));
}

fn resets(suite: &mut Suite) {
    suite.subject("event_channel_op.reset");
    let reset = |dom| ask(op::RESET, op::Reset { dom }).0;
    let ports: Vec<Port> = (0..100).map(|_| ipi(0).1).collect();
    suite.is("its own", reset(DomainId::SELF), 0);
    let free = |port: &Port| status(*port).0 == op::STATUS_CLOSED;
    suite.that("all are closed", ports.iter().all(free));
    suite.is("by number", reset(suite.own), 0);
    suite.is("another's", reset(suite.stranger), Perm);
    suite.is("nobody's", reset(NOBODY), NoSuchDomain);
    suite.faults(|bad| at(op::RESET, bad));
}
