//! `event_channel_op`, hypercall 32 (`xen/include/public/event_channel.h`): commands, structures,
//! limits and layouts of the 2-level and the FIFO ABI.

use crate::DomainId;
use core::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An event channel's number within its domain. Port 0 is never valid.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
)]
#[repr(transparent)]
pub struct Port(pub u32);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}", self.0)
    }
}

/// Ports of the 2-level ABI on a 64-bit guest.
pub const PORTS_2L: usize = 4096;
/// Greatest port of a domain that the hypervisor makes at boot, if its description says nothing else.
pub const DEFAULT_MAX_PORT: u32 = 1023;

/// FIFO, event word: an event waits.
pub const FIFO_PENDING: u32 = 1 << 31;
/// FIFO, event word: events are not wanted.
pub const FIFO_MASKED: u32 = 1 << 30;
/// FIFO, event word: the port is on a queue.
pub const FIFO_LINKED: u32 = 1 << 29;
/// FIFO, event word: the hypervisor is about to link, the guest is not to unmask.
pub const FIFO_BUSY: u32 = 1 << 28;
/// FIFO, event word: the next port of the queue, 0 for none.
pub const FIFO_LINK_MASK: u32 = (1 << FIFO_LINK_BITS) - 1;
/// FIFO: bits of a link.
pub const FIFO_LINK_BITS: u8 = 17;
/// FIFO: event words, 32 bits each, in a page.
pub const FIFO_WORDS_PER_PAGE: usize = 1024;
/// FIFO: queues of a vCPU, 0 the first to be served.
pub const FIFO_QUEUES: usize = 16;
/// FIFO: priority of a port that nobody gave one.
pub const FIFO_PRIORITY_DEFAULT: u32 = 7;
/// Bytes of a vCPU's FIFO control block.
pub const FIFO_CONTROL_SIZE: usize = 72;
/// In a control block: `u32`, a bit for each queue that is not empty.
pub const FIFO_CONTROL_READY: usize = 0;
/// In a control block: `u32` each, the first port of every queue.
pub const FIFO_CONTROL_HEADS: usize = 8;

/// [`BindInterdomain`].
pub const BIND_INTERDOMAIN: u64 = 0;
/// [`BindVirq`].
pub const BIND_VIRQ: u64 = 1;
/// Not on Arm.
pub const BIND_PIRQ: u64 = 2;
/// [`Close`].
pub const CLOSE: u64 = 3;
/// [`Send`].
pub const SEND: u64 = 4;
/// [`Status`].
pub const STATUS: u64 = 5;
/// [`AllocUnbound`].
pub const ALLOC_UNBOUND: u64 = 6;
/// [`BindIpi`].
pub const BIND_IPI: u64 = 7;
/// [`BindVcpu`].
pub const BIND_VCPU: u64 = 8;
/// [`Unmask`].
pub const UNMASK: u64 = 9;
/// [`Reset`].
pub const RESET: u64 = 10;
/// [`InitControl`].
pub const INIT_CONTROL: u64 = 11;
/// [`ExpandArray`].
pub const EXPAND_ARRAY: u64 = 12;
/// [`SetPriority`].
pub const SET_PRIORITY: u64 = 13;

/// Connects a free local port to a port that another domain holds open for the caller.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BindInterdomain {
    /// in: the other domain.
    pub remote_dom: DomainId,
    /// Padding.
    pub reserved: u16,
    /// in: its port.
    pub remote_port: Port,
    /// out: the new local port; it starts pending.
    pub local_port: Port,
}
layout!(BindInterdomain, 12, remote_dom @ 0, remote_port @ 4, local_port @ 8);

/// Binds a virtual interrupt to a free port.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BindVirq {
    /// in: a `VIRQ_` number.
    pub virq: u32,
    /// in: vCPU.
    pub vcpu: u32,
    /// out: port.
    pub port: Port,
}
layout!(BindVirq, 12, virq @ 0, vcpu @ 4, port @ 8);

/// Frees a port.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Close {
    /// in: port.
    pub port: Port,
}
layout!(Close, 4, port @ 0);

/// Raises an event at the other end of a port.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Send {
    /// in: port.
    pub port: Port,
}
layout!(Send, 4, port @ 0);

/// [`Status::status`]: not in use.
pub const STATUS_CLOSED: u32 = 0;
/// [`Status::status`]: open for the domain in [`Status::detail`].
pub const STATUS_UNBOUND: u32 = 1;
/// [`Status::status`]: connected to a port of another domain.
pub const STATUS_INTERDOMAIN: u32 = 2;
/// [`Status::status`]: a physical interrupt.
pub const STATUS_PIRQ: u32 = 3;
/// [`Status::status`]: a virtual interrupt.
pub const STATUS_VIRQ: u32 = 4;
/// [`Status::status`]: between vCPUs of the domain.
pub const STATUS_IPI: u32 = 5;

/// What a port is bound to.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Status {
    /// in: whose port.
    pub dom: DomainId,
    /// Padding.
    pub reserved: u16,
    /// in: port.
    pub port: Port,
    /// out: a `STATUS_` number.
    pub status: u32,
    /// out: vCPU that is notified.
    pub vcpu: u32,
    /// out: unbound, interdomain: domain in the low 16 bits. virq: its number.
    pub detail: u32,
    /// out: interdomain: the port at the other end.
    pub detail_port: Port,
}
layout!(Status, 24, dom @ 0, port @ 4, status @ 8, vcpu @ 12, detail @ 16, detail_port @ 20);

/// Makes a port that another domain may connect to.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AllocUnbound {
    /// in: whose port.
    pub dom: DomainId,
    /// in: who may connect.
    pub remote_dom: DomainId,
    /// out: port.
    pub port: Port,
}
layout!(AllocUnbound, 8, dom @ 0, remote_dom @ 2, port @ 4);

/// Makes a port for events between vCPUs of the caller.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BindIpi {
    /// in: vCPU that is notified.
    pub vcpu: u32,
    /// out: port.
    pub port: Port,
}
layout!(BindIpi, 8, vcpu @ 0, port @ 4);

/// Chooses the vCPU that a port notifies.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BindVcpu {
    /// in: port.
    pub port: Port,
    /// in: vCPU.
    pub vcpu: u32,
}
layout!(BindVcpu, 8, port @ 0, vcpu @ 4);

/// Clears a port's mask and delivers what waited.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Unmask {
    /// in: port.
    pub port: Port,
}
layout!(Unmask, 4, port @ 0);

/// Closes every port that the guest opened.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Reset {
    /// in: whose ports.
    pub dom: DomainId,
}
layout!(Reset, 2, dom @ 0);

/// Gives a vCPU's FIFO control block.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct InitControl {
    /// in: frame of the control block.
    pub control_gfn: u64,
    /// in: its offset in the frame.
    pub offset: u32,
    /// in: vCPU.
    pub vcpu: u32,
    /// out: bits of a link, 17.
    pub link_bits: u8,
    /// Padding.
    pub reserved: [u8; 7],
}
layout!(InitControl, 24, control_gfn @ 0, offset @ 8, vcpu @ 12, link_bits @ 16);

/// Adds a page of FIFO event words.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ExpandArray {
    /// in: frame.
    pub array_gfn: u64,
}
layout!(ExpandArray, 8, array_gfn @ 0);

/// Sets a port's priority.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SetPriority {
    /// in: port.
    pub port: Port,
    /// in: 0 (highest) to 15.
    pub priority: u32,
}
layout!(SetPriority, 8, port @ 0, priority @ 4);

/// Virtual interrupts that there can be.
pub const VIRQS: u32 = 24;
/// Timer of a vCPU; may be bound, never fires on Arm.
pub const VIRQ_TIMER: u32 = 0;
/// Asks the guest to show its state.
pub const VIRQ_DEBUG: u32 = 1;
/// Emergency console, of the control domain.
pub const VIRQ_CONSOLE: u32 = 2;
/// A domain died or changed state, for the control domain.
pub const VIRQ_DOM_EXC: u32 = 3;
/// Trace buffer has data, for the control domain.
pub const VIRQ_TBUF: u32 = 4;
/// Debugger wants attention, for the control domain.
pub const VIRQ_DEBUGGER: u32 = 6;
/// Profiler of a vCPU.
pub const VIRQ_XENOPROF: u32 = 7;
/// Console ring, for the control domain.
pub const VIRQ_CON_RING: u32 = 8;
/// CPU state changed, for the control domain.
pub const VIRQ_PCPU_STATE: u32 = 9;
/// Memory event, for the control domain.
pub const VIRQ_MEM_EVENT: u32 = 10;
/// Argo.
pub const VIRQ_ARGO: u32 = 11;
/// Not enough memory, for the control domain.
pub const VIRQ_ENOMEM: u32 = 12;
/// Performance counters of a vCPU.
pub const VIRQ_XENPMU: u32 = 13;
