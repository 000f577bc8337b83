//! A look at a domain's event channels and grants from outside, for an operator: nothing changes by it.

use crate::XenState;
use crate::events::{Binding, Service};
use abi::DomainId;

/// Ports that one look goes through.
const PORTS: u32 = 256;
/// Grants that one look goes through.
const GRANTS: u32 = 256;

/// What a port is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortBinding {
    /// A domain that may connect.
    Unbound(DomainId),
    /// A port of a domain.
    Interdomain(DomainId, u32),
    /// A virtual interrupt.
    Virq(u32),
    /// The domain's own vCPUs.
    Ipi,
    /// A part of the hypervisor.
    Service(Service),
}

/// A port in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InspectedPort {
    /// Its number.
    pub port: u32,
    /// What it is bound to.
    pub binding: PortBinding,
    /// The vCPU that is told.
    pub vcpu: u32,
    /// An event is pending.
    pub pending: bool,
    /// It is masked; `None` by the FIFO ABI, where that is between the guest and its own pages.
    pub masked: Option<bool>,
}

/// A grant in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InspectedGrant {
    /// Its reference.
    pub reference: u32,
    /// The frame number, of the machine.
    pub frame: u64,
    /// Who uses it.
    pub user: DomainId,
    /// Uses at once, to read.
    pub readers: u32,
    /// Uses at once, to write.
    pub writers: u32,
}

impl XenState {
    /// The first port in use of some at and behind `place`, and the place where the next look begins; `None` behind the
    /// last. The domain's shared pages must be there: not after its end.
    #[must_use]
    pub fn inspect_port(&self, place: u32) -> Option<(Option<InspectedPort>, u32)> {
        let ports = self.events.ports();
        if place >= ports {
            return None;
        }
        let end = place.saturating_add(PORTS).min(ports);
        for port in place..end {
            let channel = self.events.channel(port).ok()?;
            let binding = match channel.binding() {
                Binding::Free => continue,
                Binding::Unbound(domain) => PortBinding::Unbound(domain),
                Binding::Interdomain(domain, port) => PortBinding::Interdomain(domain, port),
                Binding::Virq(number) => PortBinding::Virq(number),
                Binding::Ipi => PortBinding::Ipi,
                Binding::Service(service) => PortBinding::Service(service),
            };
            let found = InspectedPort {
                port,
                binding,
                vcpu: channel.vcpu(),
                pending: self.is_pending(port),
                masked: self.is_masked(port),
            };
            return Some((Some(found), port.saturating_add(1)));
        }
        Some((None, end))
    }

    /// The same for grants of its own table that somebody has mapped or copies.
    #[must_use]
    pub fn inspect_grant(&self, place: u32) -> Option<(Option<InspectedGrant>, u32)> {
        let active = self.grants.active.lock();
        let end = place.saturating_add(GRANTS).min(active.entries());
        if place >= end {
            return None;
        }
        for reference in place..end {
            if let Some((frame, user, readers, writers)) = active.in_use(reference) {
                let found = InspectedGrant {
                    reference,
                    frame,
                    user,
                    readers,
                    writers,
                };
                return Some((Some(found), reference.saturating_add(1)));
            }
        }
        Some((None, end))
    }
}
