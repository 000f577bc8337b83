//! Making and closing ports. Each function takes the locks it needs, in the order of the domains' ids, and
//! looks again at what it had read before. If that has changed, it fails with [`Errno::Restart`]: the
//! call is made again, and a guest that changes it on purpose only keeps itself busy.

use super::channel::{Binding, Channel, Service};
use super::table::{Allocation, lock_both};
use crate::{Host, XenState};
use abi::event_channel::{VIRQ_ARGO, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU, VIRQS};
use abi::{DomainId, Errno, Port, VcpuId};
use core::sync::atomic::Ordering::Relaxed;

/// Ports closed before a reset is restarted.
const RESET_STEP: u32 = 4;

/// Whether every vCPU binds this virtual interrupt for itself.
pub(crate) fn is_per_vcpu(virq: u32) -> bool {
    matches!(virq, VIRQ_TIMER | VIRQ_DEBUG | VIRQ_XENOPROF | VIRQ_XENPMU)
}

impl XenState {
    /// Binds a free port.
    fn bind(&self, table: &mut Allocation, binding: Binding, vcpu: VcpuId) -> Result<u32, Errno> {
        let port = if self.events.uses_fifo.load(Relaxed) {
            // The guest has yet to take some that were closed off its queues.
            let fifo = self.events.fifo.lock();
            table.take(|port| !fifo.is_linked(port))?
        } else {
            table.take(|_| true)?
        };
        self.events.set(port, Channel::new(binding, vcpu));
        Ok(port)
    }

    /// Frees a port and forgets that it was pending.
    fn free(&self, table: &mut Allocation, port: u32) {
        self.events.set(port, Channel::FREE);
        self.clear_pending(port);
        if self.events.uses_fifo.load(Relaxed) {
            self.events.fifo.lock().forget_priority(port);
        }
        table.give(port);
    }

    pub(crate) fn allocate_service_port(&self, service: Service) -> Result<Port, Errno> {
        let mut table = self.events.lock();
        self.bind(&mut table, Binding::Service(service), VcpuId(0))
            .map(Port)
    }

    /// `EVTCHNOP_alloc_unbound`, for the domain itself.
    pub(crate) fn alloc_unbound(&self, remote: DomainId) -> Result<u32, Errno> {
        let mut table = self.events.lock();
        self.bind(&mut table, Binding::Unbound(remote), VcpuId(0))
    }

    /// `EVTCHNOP_bind_interdomain`: connects a free port to `remote_port` of `peer`, which may be this
    /// domain. The new port starts pending, since the peer may have sent before.
    pub(crate) fn bind_interdomain<H: Host>(
        &self,
        host: &H,
        peer: &Self,
        remote_port: u32,
    ) -> Result<u32, Errno> {
        let (mut table, _peer_table) = lock_both(self, peer);
        if !peer
            .events
            .is_bound(remote_port, Binding::Unbound(self.id()))
        {
            return Err(Errno::Invalid);
        }
        let remote = peer.events.channel(remote_port)?;
        let binding = Binding::Interdomain(peer.id(), remote_port);
        let port = self.bind(&mut table, binding, VcpuId(0))?;
        let back = Binding::Interdomain(self.id(), port);
        peer.events.set(remote_port, remote.rebind(back));
        drop((table, _peer_table));
        self.raise(host, port, 0);
        Ok(port)
    }

    /// `EVTCHNOP_bind_virq`.
    pub(crate) fn bind_virq(&self, virq: u32, vcpu: u32) -> Result<u32, Errno> {
        if virq >= VIRQS || (!is_per_vcpu(virq) && vcpu != 0) {
            return Err(Errno::Invalid);
        }
        if !is_per_vcpu(virq) && virq != VIRQ_ARGO {
            // These go to the control domain, and no guest is that.
            return Err(Errno::Busy);
        }
        let (vcpu, state) = self.vcpu(vcpu)?;
        let mut table = self.events.lock();
        if state.virq(virq).is_some() {
            return Err(Errno::Exists);
        }
        let port = self.bind(&mut table, Binding::Virq(virq), vcpu)?;
        state.set_virq(virq, port);
        Ok(port)
    }

    /// `EVTCHNOP_bind_ipi`.
    pub(crate) fn bind_ipi(&self, vcpu: u32) -> Result<u32, Errno> {
        let (vcpu, _) = self.vcpu(vcpu)?;
        let mut table = self.events.lock();
        self.bind(&mut table, Binding::Ipi, vcpu)
    }

    /// `EVTCHNOP_bind_vcpu`: moves delivery. What is pending already stays announced where it was.
    pub(crate) fn bind_vcpu(&self, port: u32, vcpu: u32) -> Result<(), Errno> {
        let (vcpu, _) = self.vcpu(vcpu)?;
        let _table = self.events.lock();
        let channel = self.events.channel(port)?;
        match channel.binding() {
            Binding::Unbound(_) | Binding::Interdomain(..) | Binding::Service(_) => {}
            Binding::Virq(virq) if !is_per_vcpu(virq) => {}
            Binding::Free | Binding::Virq(_) | Binding::Ipi => return Err(Errno::Invalid),
        }
        self.events.set(port, channel.notify(vcpu));
        Ok(())
    }

    /// `EVTCHNOP_close`. The peer of an interdomain port goes back to waiting for this domain. A service's
    /// port only loses its pending bit: its number is in the HVM parameters, and the next kernel in the same
    /// domain (after kexec, or after a boot loader) finds it there.
    pub(crate) fn close<H: Host>(&self, host: &H, port: u32) -> Result<(), Errno> {
        let seen = self.events.channel(port)?;
        match seen.binding() {
            Binding::Free => Err(Errno::Invalid),
            Binding::Service(_) => {
                self.clear_pending(port);
                Ok(())
            }
            Binding::Interdomain(domain, remote) if domain != self.id() => {
                match host.peer(domain) {
                    Some(peer) => self.disconnect(peer, port, remote, seen),
                    None => self.close_alone(port, seen),
                }
            }
            Binding::Interdomain(_, remote) => self.disconnect(self, port, remote, seen),
            _ => self.close_alone(port, seen),
        }
    }

    fn close_alone(&self, port: u32, seen: Channel) -> Result<(), Errno> {
        let mut table = self.events.lock();
        if self.events.channel(port)? != seen {
            return Err(Errno::Restart);
        }
        if let Binding::Virq(virq) = seen.binding() {
            for state in &self.vcpus {
                if state.virq(virq) == Some(port) {
                    state.set_virq(virq, 0);
                }
            }
        }
        self.free(&mut table, port);
        Ok(())
    }

    fn disconnect(&self, peer: &Self, port: u32, remote: u32, seen: Channel) -> Result<(), Errno> {
        let (mut table, _peer_table) = lock_both(self, peer);
        if self.events.channel(port)? != seen {
            return Err(Errno::Restart);
        }
        let other = peer.events.channel(remote)?;
        if other.binding() == Binding::Interdomain(self.id(), port) {
            let unbound = other.rebind(Binding::Unbound(self.id()));
            peer.events.set(remote, unbound);
        }
        self.free(&mut table, port);
        Ok(())
    }

    /// `EVTCHNOP_reset`: closes every port that the guest opened, and goes back to the 2-level ABI. Fails with [`Errno::Restart`] until
    /// none is left: nothing is remembered from step to step, so that one that was given up half way changes nothing for the next,
    /// nor for the end of the domain. A guest that opens ports meanwhile keeps itself busy.
    pub(crate) fn reset<H: Host>(&self, host: &H) -> Result<(), Errno> {
        let mut closed: u32 = 0;
        let mut after = 0;
        while let Some(port) = self.next_open(after) {
            if closed == RESET_STEP {
                return Err(Errno::Restart);
            }
            match self.close(host, port) {
                Err(Errno::Restart) => return Err(Errno::Restart),
                // A service's port stays.
                Ok(()) if self.is_open(port) => {}
                _ => closed = closed.saturating_add(1),
            }
            after = port;
        }
        self.stop_fifo(host);
        Ok(())
    }

    /// The next port above `after` that is in use.
    fn next_open(&self, after: u32) -> Option<u32> {
        let next = self.events.lock().next_used(after.saturating_add(1));
        next.filter(|port| *port < self.events.ports())
    }

    fn is_open(&self, port: u32) -> bool {
        let channel = self.events.channel(port);
        channel.is_ok_and(|channel| channel.binding() != Binding::Free)
    }

    /// Disconnects a domain that has ended from all others, a step at a time: `true` when done. Its vCPUs
    /// have stopped, and [`Host::peer`] still finds it.
    pub fn disconnect_all<H: Host>(&self, host: &H) -> bool {
        self.reset(host).is_ok()
    }
}
