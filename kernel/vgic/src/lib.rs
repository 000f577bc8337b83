//! GICv2 and GICv3 as a guest sees them, and the fill of list registers.
//!
//! A [`Vgic`] is the interrupt controller of one domain: distributor, redistributors, the state of
//! every interrupt. It takes what a guest writes ([`Vgic::read`], [`Vgic::write`],
//! [`Vgic::write_sgi1r`]) and what arrives ([`Vgic::pulse`], [`Vgic::set_level`],
//! [`Vgic::inject_hardware`]), and keeps the list registers of the CPUs that its vCPUs run on, which
//! it reaches through [`ListRegisters`].
//!
//! How the EL2 image uses it:
//!
//! * vCPU comes to a CPU: [`Vgic::restore`]; leaves it: [`Vgic::save`].
//! * Before each return to the guest: [`Vgic::is_dirty`] (after an interrupt) or
//!   [`Vgic::needs_enter`] (after a trap), one load; only if that says so,
//!   [`Vgic::enter_if_needed`].
//! * Maintenance interrupt: [`Vgic::enter`], always.
//! * What a guest reads or writes may be about an interrupt in the list registers of another CPU: the image
//!   says through [`Others`] how that CPU is reached.
//! * Every call that returns a [`Notify`] names vCPUs other than the one here that must be kicked or
//!   woken.
//! * CPU_ON: [`Vgic::reset_vcpu`]; restart of the domain: [`Vgic::reset`].
//!
//! The manuals cited are IHI0048B (GICv2) and IHI0069 (GICv3 and v4).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

mod access;
mod attention;
mod bank;
mod distributor;
mod fill;
mod identity;
mod inject;
mod inspect;
mod list;
mod load;
mod primitives;
mod quick;
mod redistributor;
mod registers;
mod remote;
mod slot;
mod state;
mod transfer;
mod vgic;
mod words;

pub use access::AccessError;
pub use distributor::SGIR;
pub use fill::{Candidate, Choice, choose};
pub use identity::{IntId, Notify, VcpuId, Version};
pub use inspect::Inspected;
pub use list::{Here, Link, ListRegister, ListRegisters, MAX_LISTS, Maintenance};
pub use quick::Sent;
pub use registers::{Region, Width};
pub use remote::Others;
pub use vgic::{Error, Saved, SharedSettings, Vgic};
