//! `event_channel_op`. `send` is looked at first; all others are cold.

use super::channel::Binding;
use super::deliver::{Announcement, Begun};
use super::fifo_calls;
use crate::{Caller, host};
use abi::event_channel as op;
use abi::{DomainId, Errno, Port};
use memory::Va;

/// `EVTCHNOP_send`, whose argument is a port. Without a record: who calls has seen that the trace is off.
///
/// # Errors
/// [`Errno::Restart`] if the event asked for more than was done: the call is to be made again. All others are the
/// guest's own.
#[inline(always)]
pub fn send_event<C: Caller>(caller: &C, argument: u64) -> Result<(), Errno> {
    let port = caller.read_u32(Va::new(argument))?;
    caller.state().send(caller, port)
}

/// [`send_event`] as far as it goes without a place on the stack: to the end, if the event is pending already.
#[inline(always)]
pub fn begin_send<C: Caller>(caller: &C, argument: u64) -> Begun {
    match caller.read_u32_at_once(Va::new(argument)) {
        Some(port) => caller.state().begin_send(port),
        None => Begun::Nothing,
    }
}

/// The rest of [`begin_send`] of a port that it marked.
#[inline(always)]
pub fn announce<C: Caller>(caller: &C, announcement: Announcement) {
    caller.state().finish_send(caller, announcement);
}

/// The rest of [`begin_send`] of a port that it read.
///
/// # Errors
/// As of [`send_event`].
#[inline(always)]
pub fn send_port<C: Caller>(caller: &C, port: u32) -> Result<(), Errno> {
    caller.state().send(caller, port)
}

/// [`send_event`], with a record of it.
///
/// # Errors
/// The same.
#[inline(always)]
pub fn send_event_traced<C: Caller>(caller: &C, argument: u64) -> Result<(), Errno> {
    let port = caller.read_u32(Va::new(argument))?;
    let state = caller.state();
    state.trace_send(caller, port);
    state.send(caller, port)
}

#[inline(never)]
pub(crate) fn call<C: Caller>(caller: &C, cmd: u32, argument: u64) -> Result<i64, Errno> {
    if u64::from(cmd) == op::SEND {
        let sent = if caller.is_traced() {
            send_event_traced(caller, argument)
        } else {
            send_event(caller, argument)
        };
        return sent.map(|()| 0);
    }
    other(caller, cmd, argument)
}

/// A call whose argument is a port alone; it is `unmask` that comes often.
#[inline(never)]
fn other<C: Caller>(caller: &C, cmd: u32, argument: u64) -> Result<i64, Errno> {
    let state = caller.state();
    match u64::from(cmd) {
        op::UNMASK => state.unmask(caller, caller.read_u32(Va::new(argument))?)?,
        op::CLOSE => state.close(caller, caller.read_u32(Va::new(argument))?)?,
        op::BIND_INTERDOMAIN => bind_interdomain(caller, argument)?,
        op::ALLOC_UNBOUND => alloc_unbound(caller, argument)?,
        op::BIND_VIRQ => {
            let mut request: op::BindVirq = host::read(caller, argument)?;
            request.port = Port(state.bind_virq(request.virq, request.vcpu)?);
            host::write(caller, argument, &request)?;
        }
        op::BIND_IPI => {
            let mut request: op::BindIpi = host::read(caller, argument)?;
            request.port = Port(state.bind_ipi(request.vcpu)?);
            host::write(caller, argument, &request)?;
        }
        op::BIND_VCPU => {
            let request: op::BindVcpu = host::read(caller, argument)?;
            state.bind_vcpu(request.port.0, request.vcpu)?;
        }
        op::STATUS => status(caller, argument)?,
        op::RESET => {
            let request: op::Reset = host::read(caller, argument)?;
            host::own_domain(caller, request.dom)?;
            state.reset(caller)?;
        }
        op::BIND_PIRQ => return Err(Errno::NotSupported),
        op::INIT_CONTROL => fifo_calls::init_control(caller, argument)?,
        op::EXPAND_ARRAY => fifo_calls::expand_array(caller, argument)?,
        op::SET_PRIORITY => fifo_calls::set_priority(caller, argument)?,
        _ => return Err(Errno::NoSys),
    }
    Ok(0)
}

/// If the guest takes away the page of its argument meanwhile, it does not learn the port; that is its
/// own loss, here and in the other calls that make a port.
fn bind_interdomain<C: Caller>(caller: &C, argument: u64) -> Result<(), Errno> {
    let state = caller.state();
    let mut request: op::BindInterdomain = host::read(caller, argument)?;
    let peer = if request.remote_dom == DomainId::SELF || request.remote_dom == state.id() {
        state
    } else {
        state.check_peer(caller, request.remote_dom)?;
        caller.peer(request.remote_dom).ok_or(Errno::NoSuchDomain)?
    };
    request.local_port = Port(state.bind_interdomain(caller, peer, request.remote_port.0)?);
    host::write(caller, argument, &request)
}

fn alloc_unbound<C: Caller>(caller: &C, argument: u64) -> Result<(), Errno> {
    let state = caller.state();
    let mut request: op::AllocUnbound = host::read(caller, argument)?;
    host::own_domain(caller, request.dom)?;
    let remote = match request.remote_dom {
        DomainId::SELF => state.id(),
        other => other,
    };
    // A peer that has ended, or has yet to start, may connect when it is there.
    state.check_peer(caller, remote)?;
    request.port = Port(state.alloc_unbound(remote)?);
    host::write(caller, argument, &request)
}

fn status<C: Caller>(caller: &C, argument: u64) -> Result<(), Errno> {
    let mut request: op::Status = host::read(caller, argument)?;
    host::own_domain(caller, request.dom)?;
    // Port 0 is reserved, which reads as closed.
    let channel = caller.state().events.channel(request.port.0)?;
    request.vcpu = channel.vcpu();
    (request.status, request.detail, request.detail_port) = match channel.binding() {
        Binding::Free => (op::STATUS_CLOSED, 0, Port(0)),
        Binding::Unbound(domain) => (op::STATUS_UNBOUND, u32::from(domain.0), Port(0)),
        Binding::Interdomain(domain, port) => {
            (op::STATUS_INTERDOMAIN, u32::from(domain.0), Port(port))
        }
        // The other end is the hypervisor, which has no port.
        Binding::Service(_) => (op::STATUS_INTERDOMAIN, u32::from(DomainId::XEN.0), Port(0)),
        Binding::Virq(virq) => (op::STATUS_VIRQ, virq, Port(0)),
        Binding::Ipi => (op::STATUS_IPI, 0, Port(0)),
    };
    host::write(caller, argument, &request)
}
