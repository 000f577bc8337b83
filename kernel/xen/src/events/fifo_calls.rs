//! The calls of the FIFO ABI, and the 2-level calls' other half when a domain has moved to it.

use super::channel::Channel;
use super::fifo::{Raised, control_offset};
use crate::contended::{self, Contended};
use crate::vcpu::event_words;
use crate::{Caller, Host, XenState, host};
use abi::event_channel as op;
use abi::shared_info::{EVTCHN_WORDS, SHARED_INFO_EVTCHN_PENDING};
use abi::{Errno, VcpuId};
use core::sync::atomic::Ordering::SeqCst;

/// Ports that an `expand_array` raises before it is restarted.
const RAISE_STEP: u32 = 64;

impl XenState {
    /// [`Self::raise`] for a domain that has moved to the FIFO ABI; `false` if it has just left it.
    #[cold]
    #[inline(never)]
    pub(crate) fn raise_fifo<H: Host>(&self, host: &H, port: u32, vcpu: u32) -> bool {
        let mut fifo = self.events.fifo.lock();
        if !fifo.is_active() {
            return false;
        }
        let raised = fifo.raise(port, vcpu);
        drop(fifo);
        self.announce(host, port, vcpu, raised);
        true
    }

    /// [`Self::unmask`] for such a domain.
    #[cold]
    pub(crate) fn unmask_fifo<H: Host>(&self, host: &H, port: u32, vcpu: u32) -> bool {
        let mut fifo = self.events.fifo.lock();
        if !fifo.is_active() {
            return false;
        }
        let raised = fifo.unmask(port, vcpu);
        drop(fifo);
        self.announce(host, port, vcpu, raised);
        true
    }

    /// Does what a raise asks for, without the lock.
    fn announce<H: Host>(&self, host: &H, port: u32, vcpu: u32, raised: Result<Raised, Contended>) {
        let Ok(raised) = raised else {
            return host.condemn(self.id());
        };
        if raised.upcall {
            self.mark_upcall(host, vcpu);
        }
        if raised.is_news && self.events.pollers.load(SeqCst) != 0 {
            self.wake_pollers(host, port);
        }
    }

    /// Sets the upcall flag of a vCPU, and raises the upcall if it was clear.
    fn mark_upcall<H: Host>(&self, host: &H, vcpu: u32) {
        let Ok((id, state)) = self.vcpu(vcpu) else {
            return;
        };
        // A vCPU that has not said where its vcpu_info is hears of it when it does.
        let info = state.info();
        let Some((flag, _)) = info.as_ref().and_then(event_words) else {
            return;
        };
        match contended::swap(flag, 1) {
            Ok(0) => host.upcall(self.id(), id),
            Ok(_) => {}
            Err(Contended) => host.condemn(self.id()),
        }
    }

    /// Takes what is pending by the 2-level ABI, into the FIFO ABI. Done at every step of the change, since a
    /// sender may have looked before it and set its bit after.
    fn take_2level<H: Host>(&self, host: &H) {
        for index in 0..EVTCHN_WORDS {
            let offset = SHARED_INFO_EVTCHN_PENDING.wrapping_add(index << 3);
            let Some(word) = self.shared_info.u64(offset) else {
                continue;
            };
            if word.load(SeqCst) == 0 {
                continue;
            }
            let Ok(mut bits) = contended::and(word, 0) else {
                return host.condemn(self.id());
            };
            let mut fifo = self.events.fifo.lock();
            while bits != 0 {
                let bit = bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
                fifo.set_waiting((index as u32).wrapping_mul(64).wrapping_add(bit));
            }
        }
    }

    /// Leaves the FIFO ABI: every page goes back to the guest.
    pub(crate) fn stop_fifo<H: Host>(&self, host: &H) {
        if !self.events.uses_fifo.swap(false, SeqCst) {
            return;
        }
        self.events.fifo.lock().stop();
        loop {
            let page = self.events.fifo.lock().take_page();
            let Some(page) = page else {
                return;
            };
            host.release_page(self.id(), &page);
        }
    }

    /// `EVTCHNOP_set_priority`.
    pub(crate) fn set_priority(&self, port: u32, priority: u32) -> Result<(), Errno> {
        self.events.cell(port)?;
        self.events.fifo.lock().set_priority(port, priority)
    }

    /// Raises ports that were pending before there were words for them, a step at a time.
    fn raise_waiting<H: Host>(&self, host: &H) -> Result<(), Errno> {
        let mut next = 0;
        for _ in 0..RAISE_STEP {
            let mut fifo = self.events.fifo.lock();
            let Some(port) = fifo.take_waiting(next) else {
                fifo.is_expanding = false;
                return Ok(());
            };
            drop(fifo);
            let channel = self.events.channel(port).unwrap_or(Channel::FREE);
            self.raise_fifo(host, port, channel.vcpu());
            next = port;
        }
        Err(Errno::Restart)
    }
}

/// `EVTCHNOP_init_control`: the first moves the whole domain to the FIFO ABI.
pub(super) fn init_control<C: Caller>(caller: &C, argument: u64) -> Result<(), Errno> {
    let state = caller.state();
    let mut request: op::InitControl = host::read(caller, argument)?;
    let (VcpuId(vcpu), _) = state.vcpu(request.vcpu)?;
    let offset = control_offset(request.offset)?;
    state.events.fifo.lock().check_control(vcpu)?;
    let page = caller
        .ram_page(request.control_gfn)
        .map_err(|_| Errno::Invalid)?;
    let set = state.events.fifo.lock().set_control(vcpu, page, offset);
    let is_first = set.inspect_err(|_| caller.release_page(state.id(), &page))?;
    if is_first {
        state.events.uses_fifo.store(true, SeqCst);
        state.take_2level(caller);
    }
    request.link_bits = op::FIFO_LINK_BITS;
    host::write(caller, argument, &request)
}

/// `EVTCHNOP_expand_array`: words for the next 1024 ports.
pub(super) fn expand_array<C: Caller>(caller: &C, argument: u64) -> Result<(), Errno> {
    let state = caller.state();
    let request: op::ExpandArray = host::read(caller, argument)?;
    let fifo = state.events.fifo.lock();
    let is_restarted = fifo.is_expanding;
    if !is_restarted {
        fifo.check_room()?;
    }
    drop(fifo);
    if !is_restarted {
        let page = caller
            .ram_page(request.array_gfn)
            .map_err(|_| Errno::Invalid)?;
        let added = state.events.fifo.lock().add_page(page);
        added.inspect_err(|_| caller.release_page(state.id(), &page))?;
        state.take_2level(caller);
    }
    state.raise_waiting(caller)
}

/// `EVTCHNOP_set_priority`.
pub(super) fn set_priority<C: Caller>(caller: &C, argument: u64) -> Result<(), Errno> {
    let request: op::SetPriority = host::read(caller, argument)?;
    caller
        .state()
        .set_priority(request.port.0, request.priority)
}
