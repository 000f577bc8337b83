//! Delivery, reference section 8: pending bit, mask, selector, upcall, pollers. No locks: every step is
//! an atomic read-modify-write that the guest's own steps interleave with, all sequentially consistent,
//! since the protocol is built of store-then-load pairs (pending then mask here, mask then pending there).
//!
//! A sender reads two words, its own and the peer's, without a lock. If a port is closed in between, and
//! perhaps bound anew, the new owner sees one event that nobody sent, as it may after any bind.
//!
//! A domain that has moved to the FIFO ABI leaves each function at its first lines.

use super::channel::{Binding, Channel, Service};
use crate::contended::{self, Contended};
use crate::vcpu::{VcpuState, event_words};
use crate::{Host, Traced, XenState};
use abi::shared_info::{SHARED_INFO_EVTCHN_MASK, SHARED_INFO_EVTCHN_PENDING};
use abi::{Errno, Port, VcpuId};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// What became of a port's pending bit.
enum Marked {
    /// It was set, or there is no such bit.
    Before,
    /// It is set now.
    Now { is_open: bool },
    /// The guest did not leave its word alone.
    Contended,
}

/// What became of an `EVTCHNOP_send` that was begun.
pub enum Begun {
    /// It is done.
    Done,
    /// The port is pending now: [`announce`](crate::announce) tells of it.
    Marked(Announcement),
    /// Nothing but that the port was read: [`send_port`](crate::send_port) does the rest.
    Port(u32),
    /// Nothing: [`send_event`](crate::send_event) does it.
    Nothing,
}

/// A port that has become pending, and that nobody knows of yet. In one register: the port, from bit 32 on the vCPU,
/// and in bit 63 whether it is not masked.
#[derive(Clone, Copy)]
pub struct Announcement(u64);

impl Announcement {
    const OPEN: u64 = 1 << 63;

    #[inline(always)]
    fn new(port: u32, vcpu: u32, is_open: bool) -> Self {
        let open = if is_open { Self::OPEN } else { 0 };
        Self(open | u64::from(vcpu) << 32 & !Self::OPEN | u64::from(port))
    }
}

impl XenState {
    /// Offset in a bit array of shared_info of the word that holds `port`'s bit.
    #[inline]
    fn word(&self, array: usize, port: u32) -> Option<&AtomicU64> {
        let index = (port >> 6) as usize;
        self.shared_info.u64(array.wrapping_add(index << 3))
    }

    /// Makes `port` pending and tells `vcpu`.
    #[inline(never)]
    pub(crate) fn raise<H: Host>(&self, host: &H, port: u32, vcpu: u32) {
        self.raise_here(host, port, vcpu);
    }

    /// [`raise`](Self::raise) in its caller's frame: an event that is pending already ends here.
    #[inline(always)]
    fn raise_here<H: Host>(&self, host: &H, port: u32, vcpu: u32) {
        if self.events.uses_fifo.load(Relaxed) && self.raise_fifo(host, port, vcpu) {
            return;
        }
        match self.mark(port) {
            Marked::Before => {}
            Marked::Now { is_open } => self.announce_bit(host, port, vcpu, is_open),
            Marked::Contended => host.condemn(self.id()),
        }
    }

    /// Sets the pending bit of `port`.
    #[inline(always)]
    fn mark(&self, port: u32) -> Marked {
        let bit = 1_u64.wrapping_shl(port);
        let at = (port >> 6 << 3) as usize;
        let arrays = [SHARED_INFO_EVTCHN_PENDING, SHARED_INFO_EVTCHN_MASK];
        let Some([pending, mask]) = self.shared_info.u64_in_each(arrays, at) else {
            return Marked::Before;
        };
        match contended::or(pending, bit) {
            Ok(before) if before & bit == 0 => Marked::Now {
                is_open: mask.load(SeqCst) & bit == 0,
            },
            Ok(_) => Marked::Before,
            Err(Contended) => Marked::Contended,
        }
    }

    /// The short way of `EVTCHNOP_send`: an event to a vCPU of one's own, without the FIFO ABI.
    #[inline(always)]
    pub(crate) fn begin_send(&self, port: u32) -> Begun {
        let Ok(channel) = self.events.channel(port) else {
            return Begun::Port(port);
        };
        if channel.binding() != Binding::Ipi || self.events.uses_fifo.load(Relaxed) {
            return Begun::Port(port);
        }
        match self.mark(port) {
            Marked::Before => Begun::Done,
            Marked::Now { is_open } => {
                Begun::Marked(Announcement::new(port, channel.vcpu(), is_open))
            }
            // The general way runs into the same, and knows what to do about it.
            Marked::Contended => Begun::Port(port),
        }
    }

    /// The rest of it.
    pub(crate) fn finish_send<H: Host>(&self, host: &H, announcement: Announcement) {
        let Announcement(raw) = announcement;
        let vcpu = (raw & !Announcement::OPEN) >> 32;
        self.announce_bit(host, raw as u32, vcpu as u32, raw & Announcement::OPEN != 0);
    }

    /// `port` has become pending, and may be told of or not.
    #[inline(never)]
    fn announce_bit<H: Host>(&self, host: &H, port: u32, vcpu: u32, is_open: bool) {
        if is_open {
            self.select(host, port, vcpu);
        }
        if self.events.pollers.load(SeqCst) != 0 {
            self.wake_pollers(host, port);
        }
    }

    /// Marks the port's word in the vCPU's selector, and raises the upcall if the selector and the upcall
    /// flag were clear.
    #[inline]
    fn select<H: Host>(&self, host: &H, port: u32, vcpu: u32) {
        let Ok((id, state)) = self.vcpu(vcpu) else {
            return;
        };
        // A vCPU that has not said where its vcpu_info is hears of it when it does.
        let info = state.info();
        let Some((flag, selector)) = info.as_ref().and_then(event_words) else {
            return;
        };
        let bit = 1_u64.wrapping_shl(port >> 6);
        let before = contended::or(selector, bit).and_then(|before| match before & bit {
            0 => contended::swap(flag, 1),
            _ => Ok(1),
        });
        match before {
            Ok(0) => host.upcall(self.id(), id),
            Ok(_) => {}
            Err(Contended) => host.condemn(self.id()),
        }
    }

    /// Whether a port is pending.
    pub(crate) fn is_pending(&self, port: u32) -> bool {
        if self.events.uses_fifo.load(Relaxed) {
            return self.events.fifo.lock().is_pending(port);
        }
        self.word(SHARED_INFO_EVTCHN_PENDING, port)
            .is_some_and(|word| word.load(SeqCst) & 1_u64.wrapping_shl(port) != 0)
    }

    /// Whether a port is masked; `None` by the FIFO ABI.
    pub(crate) fn is_masked(&self, port: u32) -> Option<bool> {
        if self.events.uses_fifo.load(Relaxed) {
            return None;
        }
        let word = self.word(SHARED_INFO_EVTCHN_MASK, port)?;
        Some(word.load(SeqCst) & 1_u64.wrapping_shl(port) != 0)
    }

    pub(crate) fn clear_pending(&self, port: u32) {
        if self.events.uses_fifo.load(Relaxed) {
            return self.events.fifo.lock().clear_pending(port);
        }
        if let Some(word) = self.word(SHARED_INFO_EVTCHN_PENDING, port) {
            // A guest that does not let go of the word keeps an event that nobody sent.
            let _ = contended::and(word, !1_u64.wrapping_shl(port));
        }
    }

    /// `EVTCHNOP_send`.
    #[inline(always)]
    pub(crate) fn send<H: Host>(&self, host: &H, port: u32) -> Result<(), Errno> {
        let channel = self.events.channel(port)?;
        match channel.binding() {
            Binding::Ipi => self.raise_here(host, port, channel.vcpu()),
            Binding::Interdomain(domain, remote) if domain == self.id() => {
                self.raise_peer(host, self, port, remote);
            }
            Binding::Interdomain(domain, remote) => {
                if let Some(peer) = host.peer(domain) {
                    self.raise_peer(host, peer, port, remote);
                }
            }
            Binding::Service(Service::Console) => {
                if self.serve_console(host) {
                    return Err(Errno::Restart);
                }
            }
            Binding::Service(Service::Store) => {
                if host.serve_store(self.id()) {
                    return Err(Errno::Restart);
                }
            }
            Binding::Unbound(_) => {}
            Binding::Free | Binding::Virq(_) => return Err(Errno::Invalid),
        }
        Ok(())
    }

    /// A record of a send that is about to be.
    pub(crate) fn trace_send<H: Host>(&self, host: &H, port: u32) {
        let to = match self.events.channel(port).map(Channel::binding) {
            Ok(Binding::Interdomain(domain, remote)) => Some((domain, remote)),
            _ => None,
        };
        host.trace(Traced::Sent {
            from: self.id(),
            port,
            to,
        });
    }

    /// Raises `remote` of `peer` if it is still connected to `port` of this domain.
    #[inline]
    fn raise_peer<H: Host>(&self, host: &H, peer: &Self, port: u32, remote: u32) {
        if let Ok(channel) = peer.events.channel(remote)
            && channel.binding() == Binding::Interdomain(self.id(), port)
        {
            peer.raise(host, remote, channel.vcpu());
        }
    }

    /// `EVTCHNOP_unmask`: clears the mask, and delivers what waited behind it.
    pub(crate) fn unmask<H: Host>(&self, host: &H, port: u32) -> Result<(), Errno> {
        let channel = self.events.channel(port)?;
        // Xen takes this port too; nothing could ever come of it.
        if port == 0 {
            return Err(Errno::Invalid);
        }
        if self.events.uses_fifo.load(Relaxed) && self.unmask_fifo(host, port, channel.vcpu()) {
            return Ok(());
        }
        let bit = 1_u64.wrapping_shl(port);
        let Some(mask) = self.word(SHARED_INFO_EVTCHN_MASK, port) else {
            return Ok(());
        };
        match contended::and(mask, !bit) {
            Ok(before) if before & bit != 0 && self.is_pending(port) => {
                self.select(host, port, channel.vcpu());
            }
            Ok(_) => {}
            Err(Contended) => host.condemn(self.id()),
        }
        Ok(())
    }

    /// Tells the guest that a service of the hypervisor has news at `port`.
    pub(crate) fn raise_service<H: Host>(&self, host: &H, port: Port) {
        if let Ok(channel) = self.events.channel(port.0)
            && matches!(channel.binding(), Binding::Service(_))
        {
            self.raise(host, port.0, channel.vcpu());
        }
    }

    /// Raises a virtual interrupt, one of `abi::event_channel::VIRQ_*`, on a vCPU (global ones: on vCPU 0).
    /// Nothing happens if the guest has not bound it.
    pub fn raise_virq<H: Host>(&self, host: &H, vcpu: VcpuId, virq: u32) {
        let Some(port) = self
            .vcpu(vcpu.0)
            .ok()
            .and_then(|(_, state)| state.virq(virq))
        else {
            return;
        };
        let channel = self.events.channel(port).unwrap_or(Channel::FREE);
        if channel.binding() == Binding::Virq(virq) {
            self.raise(host, port, channel.vcpu());
        }
    }

    /// Wakes vCPUs that poll for `port`, or for several.
    #[cold]
    pub(super) fn wake_pollers<H: Host>(&self, host: &H, port: u32) {
        for (index, vcpu) in self.vcpus.iter().enumerate() {
            if vcpu.polls_for(port) && self.stop_poll(vcpu) {
                host.wake(self.id(), VcpuId(index as u32));
            }
        }
    }

    /// Ends a vCPU's poll; whether it was polling.
    fn stop_poll(&self, vcpu: &VcpuState) -> bool {
        let was_polling = vcpu.stop_poll();
        if was_polling {
            self.events.pollers.fetch_sub(1, SeqCst);
        }
        was_polling
    }

    /// Begins a vCPU's poll. Pending bits are to be looked at after this, so that no event is missed.
    pub(crate) fn start_poll(&self, vcpu: &VcpuState, ports: &[u32]) {
        self.stop_poll(vcpu);
        vcpu.start_poll(ports);
        self.events.pollers.fetch_add(1, SeqCst);
    }

    /// Whether a vCPU's `SCHEDOP_poll` still waits: no event ended it. Ask under the lock with which the
    /// vCPU goes to sleep.
    #[must_use]
    pub fn is_polling(&self, vcpu: VcpuId) -> bool {
        self.vcpu(vcpu.0).is_ok_and(|(_, state)| state.is_polling())
    }

    /// Ends a vCPU's `SCHEDOP_poll`; call it when the vCPU goes on, for whatever reason.
    pub fn end_poll(&self, vcpu: VcpuId) {
        if let Ok((_, state)) = self.vcpu(vcpu.0) {
            self.stop_poll(state);
        }
    }
}
