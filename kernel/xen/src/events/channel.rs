//! One port's word: kind in bits 0..8, domain at the other end in 8..24, vCPU that is notified in 24..32,
//! and in 32..64 a port, a VIRQ or a service, as the kind wants it.

use abi::{DomainId, VcpuId};

/// A part of the hypervisor that listens at a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// The PV console.
    Console,
    /// Xenstore.
    Store,
}

/// What a port is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Binding {
    /// Nothing: the port is not in use.
    Free,
    /// A domain that may connect.
    Unbound(DomainId),
    /// A port of a domain.
    Interdomain(DomainId, u32),
    /// A virtual interrupt.
    Virq(u32),
    /// The domain's own vCPUs.
    Ipi,
    /// The hypervisor.
    Service(Service),
}

const FREE: u64 = 0;
const UNBOUND: u64 = 1;
const INTERDOMAIN: u64 = 2;
const VIRQ: u64 = 3;
const IPI: u64 = 4;
const CONSOLE: u64 = 5;
const STORE: u64 = 6;

/// A port's word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Channel(pub(crate) u64);

impl Channel {
    pub(crate) const FREE: Self = Self(FREE);

    pub(crate) fn new(binding: Binding, vcpu: VcpuId) -> Self {
        let (kind, domain, number) = match binding {
            Binding::Free => (FREE, DomainId(0), 0),
            Binding::Unbound(domain) => (UNBOUND, domain, 0),
            Binding::Interdomain(domain, port) => (INTERDOMAIN, domain, port),
            Binding::Virq(virq) => (VIRQ, DomainId(0), virq),
            Binding::Ipi => (IPI, DomainId(0), 0),
            Binding::Service(Service::Console) => (CONSOLE, DomainId(0), 0),
            Binding::Service(Service::Store) => (STORE, DomainId(0), 0),
        };
        Self(
            kind | u64::from(domain.0) << 8
                | (u64::from(vcpu.0) & 0xff) << 24
                | u64::from(number) << 32,
        )
    }

    #[inline]
    pub(crate) fn binding(self) -> Binding {
        let domain = DomainId((self.0 >> 8) as u16);
        let number = (self.0 >> 32) as u32;
        match self.0 & 0xff {
            UNBOUND => Binding::Unbound(domain),
            INTERDOMAIN => Binding::Interdomain(domain, number),
            VIRQ => Binding::Virq(number),
            IPI => Binding::Ipi,
            CONSOLE => Binding::Service(Service::Console),
            STORE => Binding::Service(Service::Store),
            _ => Binding::Free,
        }
    }

    #[inline]
    pub(crate) fn vcpu(self) -> u32 {
        u32::from((self.0 >> 24) as u8)
    }

    /// The same binding, another vCPU.
    pub(crate) fn notify(self, vcpu: VcpuId) -> Self {
        Self::new(self.binding(), vcpu)
    }

    /// The same vCPU, another binding.
    pub(crate) fn rebind(self, binding: Binding) -> Self {
        Self::new(binding, VcpuId(self.vcpu()))
    }
}
