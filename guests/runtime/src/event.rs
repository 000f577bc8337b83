//! Event channels (xen-arm-hypercalls sections 8 and 9): binding, sending, masking, and the upcall that
//! runs registered closures. By the 2-level ABI, until [`use_fifo`].
//!
//! shared_info is mapped into the last page of the hypervisor node's window, so no RAM is given up for
//! it. CPU 0 uses the vcpu_info inside; every further CPU registers its own.

use crate::{
    cpu,
    hypercall::{self, Error},
    interrupt, memory,
    sync::{Lock, Once},
    xen,
};
use abi::{
    DomainId, Port, event_channel as op, hypercall as number, memory_op, sched,
    shared_info as layout, vcpu,
};
use alloc::{sync::Arc, vec::Vec};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

mod fifo;

/// What a port's event calls, interrupts masked.
pub type Handler = dyn Fn(Port) + Send + Sync;

static SHARED: Once<Page> = Once::new();
static HANDLERS: Lock<Vec<(Port, Arc<Handler>)>> = Lock::new(Vec::new());

/// A page shared with the hypervisor; reached by atomics alone.
#[derive(Clone, Copy, Debug)]
struct Page(u64);

impl Page {
    fn byte(self, offset: usize) -> &'static AtomicU8 {
        // SAFETY: the page is mapped for ever, and both sides use atomics on it.
        unsafe { AtomicU8::from_ptr((self.0 as usize + offset) as *mut u8) }
    }

    fn word(self, offset: usize) -> &'static AtomicU64 {
        // SAFETY: as above; the offsets in use are multiples of 8.
        unsafe { AtomicU64::from_ptr((self.0 as usize + offset) as *mut u64) }
    }

    fn pending(self, port: Port) -> (&'static AtomicU64, u64) {
        self.bit(layout::SHARED_INFO_EVTCHN_PENDING, port)
    }

    fn mask(self, port: Port) -> (&'static AtomicU64, u64) {
        self.bit(layout::SHARED_INFO_EVTCHN_MASK, port)
    }

    fn bit(self, base: usize, Port(port): Port) -> (&'static AtomicU64, u64) {
        let port = port as usize % op::PORTS_2L;
        (self.word(base + port / 64 * 8), 1 << (port % 64))
    }
}

#[repr(C, align(64))]
struct VcpuInfo(UnsafeCell<[u8; 64]>);

// SAFETY: reached by atomics alone, here and in the hypervisor.
unsafe impl Sync for VcpuInfo {}

static VCPU_INFO: [VcpuInfo; cpu::MAX] = [const { VcpuInfo(UnsafeCell::new([0; 64])) }; cpu::MAX];
static REGISTERED: [AtomicBool; cpu::MAX] = [const { AtomicBool::new(false) }; cpu::MAX];

/// The vcpu_info of this CPU, as a page that begins there.
fn own_info(shared: Page) -> Page {
    match cpu::index() {
        0 => shared,
        index => Page(VCPU_INFO[index].0.get() as u64),
    }
}

/// Whether events can be used.
pub fn available() -> bool {
    SHARED.get().is_some()
}

/// Maps shared_info, masks every port, and takes the upcall.
pub(crate) fn init() {
    let Some((base, size)) = xen::window() else {
        return;
    };
    let page = base + size - memory::PAGE;
    // SAFETY: the window has nothing behind it, and nothing else of the runtime uses its last page.
    let mapped =
        unsafe { hypercall::add_to_physmap(memory_op::SPACE_SHARED_INFO, 0, page / memory::PAGE) };
    if let Err(error) = mapped {
        crate::println!("no events: shared_info cannot be mapped: {error}");
        return;
    }
    let page = Page(page);
    for word in 0..layout::EVTCHN_WORDS {
        page.word(layout::SHARED_INFO_EVTCHN_MASK + word * 8)
            .store(u64::MAX, Ordering::Relaxed);
    }
    SHARED.set(page);
    interrupt::on(xen::upcall_intid(), |_| upcall());
    crate::console::listen();
}

/// Registers a further CPU's vcpu_info; the hypervisor keeps the registration over CPU_OFF.
pub(crate) fn init_cpu() {
    let index = cpu::index();
    if !available() {
        return;
    }
    if !REGISTERED[index].load(Ordering::Relaxed) {
        let address = VCPU_INFO[index].0.get() as u64;
        let mut argument = vcpu::RegisterVcpuInfo {
            gfn: address / memory::PAGE,
            offset: (address % memory::PAGE) as u32,
            reserved: 0,
        };
        let pointer = core::ptr::from_mut(&mut argument) as u64;
        let arguments = [vcpu::REGISTER_VCPU_INFO, index as u64, pointer, 0, 0];
        // SAFETY: the structure of VCPUOP_register_vcpu_info, and 48 bytes that are reached by atomics
        // only and live for ever.
        match hypercall::check(unsafe { hypercall::call(number::VCPU_OP, arguments) }) {
            Ok(_) => REGISTERED[index].store(true, Ordering::Relaxed),
            Err(error) => crate::println!("CPU {index}: no events: {error}"),
        }
    }
    crate::gic::enable(xen::upcall_intid());
}

/// The guest's side of 8.1: flag, barrier, selector, words.
fn upcall() {
    let Some(shared) = SHARED.get().copied() else {
        return;
    };
    let info = own_info(shared);
    info.byte(layout::VCPU_INFO_UPCALL_PENDING)
        .store(0, Ordering::SeqCst);
    if fifo::in_use() {
        return fifo::upcall(deliver);
    }
    let mut words = info
        .word(layout::VCPU_INFO_PENDING_SEL)
        .swap(0, Ordering::SeqCst);
    while words != 0 {
        let word = words.trailing_zeros();
        words &= words - 1;
        let offset = word as usize * 8;
        let mask = shared
            .word(layout::SHARED_INFO_EVTCHN_MASK + offset)
            .load(Ordering::SeqCst);
        let pending = shared.word(layout::SHARED_INFO_EVTCHN_PENDING + offset);
        let mut ready = pending.load(Ordering::SeqCst) & !mask;
        while ready != 0 {
            let bit = ready.trailing_zeros();
            ready &= ready - 1;
            pending.fetch_and(!(1 << bit), Ordering::SeqCst);
            deliver(Port(word * 64 + bit));
        }
    }
}

fn deliver(port: Port) {
    let handler = HANDLERS
        .lock()
        .iter()
        .find(|(owner, _)| *owner == port)
        .map(|(_, handler)| handler.clone());
    match handler {
        Some(handler) => handler(port),
        // Nobody's: keep it quiet.
        None => mask(port),
    }
}

/// Calls `handler` at each event of `port`, and unmasks the port.
///
/// # Errors
/// What the hypervisor answered to the unmask.
pub fn on(port: Port, handler: impl Fn(Port) + Send + Sync + 'static) -> Result<(), Error> {
    let handler: Arc<Handler> = Arc::new(handler);
    {
        let mut handlers = HANDLERS.lock();
        handlers.retain(|(owner, _)| *owner != port);
        handlers.push((port, handler));
    }
    unmask(port)
}

/// Masks `port` and forgets its handler.
pub fn off(port: Port) {
    mask(port);
    HANDLERS.lock().retain(|(owner, _)| *owner != port);
}

/// Stops `port` from causing upcalls; events are remembered.
pub fn mask(port: Port) {
    if fifo::in_use() {
        return fifo::mask(port);
    }
    if let Some(shared) = SHARED.get() {
        let (word, bit) = shared.mask(port);
        word.fetch_or(bit, Ordering::SeqCst);
    }
}

/// Lets `port` cause upcalls; what is remembered comes now.
///
/// # Errors
/// What the hypervisor answered.
pub fn unmask(port: Port) -> Result<(), Error> {
    operate(op::UNMASK, &mut op::Unmask { port })
}

/// Whether an event of `port` waits.
pub fn is_pending(port: Port) -> bool {
    if fifo::in_use() {
        return fifo::is_pending(port);
    }
    SHARED.get().is_some_and(|shared| {
        let (word, bit) = shared.pending(port);
        word.load(Ordering::SeqCst) & bit != 0
    })
}

/// Takes a waiting event of a masked port; returns whether there was one.
pub fn take(port: Port) -> bool {
    if fifo::in_use() {
        return fifo::take(port);
    }
    SHARED.get().is_some_and(|shared| {
        let (word, bit) = shared.pending(port);
        word.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    })
}

/// Moves to the FIFO ABI, with all ports that are open.
///
/// # Errors
/// What the hypervisor answered.
pub fn use_fifo() -> Result<(), Error> {
    cpu::masked(|| {
        fifo::start()?;
        fifo::set_in_use(true);
        unmask_all()
    })
}

/// Back to the 2-level ABI, which closes every port but the hypervisor's own.
///
/// # Errors
/// What the hypervisor answered.
pub fn use_2level() -> Result<(), Error> {
    cpu::masked(|| {
        let dom = DomainId::SELF;
        operate(op::RESET, &mut op::Reset { dom })?;
        fifo::set_in_use(false);
        unmask_all()
    })
}

/// Unmasks every port that has a handler.
fn unmask_all() -> Result<(), Error> {
    let ports: Vec<Port> = HANDLERS.lock().iter().map(|(port, _)| *port).collect();
    ports.into_iter().try_for_each(unmask)
}

/// Sets the priority of a port of the FIFO ABI, 0 the first.
///
/// # Errors
/// What the hypervisor answered.
pub fn set_priority(port: Port, priority: u32) -> Result<(), Error> {
    operate(op::SET_PRIORITY, &mut op::SetPriority { port, priority })
}

fn operate<T>(command: u64, argument: &mut T) -> Result<(), Error> {
    // SAFETY: every caller below passes the structure of its command, none of which holds an address.
    unsafe { hypercall::with(number::EVENT_CHANNEL_OP, command, argument) }.map(|_| ())
}

/// A port that this domain can send itself events through, delivered to `vcpu`.
///
/// # Errors
/// What the hypervisor answered; the same holds for all that follow.
pub fn bind_ipi(vcpu: u32) -> Result<Port, Error> {
    let mut argument = op::BindIpi {
        vcpu,
        port: Port(0),
    };
    operate(op::BIND_IPI, &mut argument)?;
    Ok(argument.port)
}

/// A port for a virtual interrupt of the hypervisor.
///
/// # Errors
/// As [`bind_ipi`].
pub fn bind_virq(virq: u32, vcpu: u32) -> Result<Port, Error> {
    let mut argument = op::BindVirq {
        virq,
        vcpu,
        port: Port(0),
    };
    operate(op::BIND_VIRQ, &mut argument)?;
    Ok(argument.port)
}

/// A port that `remote` may bind to.
///
/// # Errors
/// As [`bind_ipi`].
pub fn alloc_unbound(remote: DomainId) -> Result<Port, Error> {
    let mut argument = op::AllocUnbound {
        dom: DomainId::SELF,
        remote_dom: remote,
        port: Port(0),
    };
    operate(op::ALLOC_UNBOUND, &mut argument)?;
    Ok(argument.port)
}

/// A port bound to `port` of `remote`, which offered it.
///
/// # Errors
/// As [`bind_ipi`].
pub fn bind_interdomain(remote: DomainId, port: Port) -> Result<Port, Error> {
    let mut argument = op::BindInterdomain {
        remote_dom: remote,
        reserved: 0,
        remote_port: port,
        local_port: Port(0),
    };
    operate(op::BIND_INTERDOMAIN, &mut argument)?;
    Ok(argument.local_port)
}

/// Sends an event through `port`.
///
/// # Errors
/// As [`bind_ipi`].
pub fn send(port: Port) -> Result<(), Error> {
    operate(op::SEND, &mut op::Send { port })
}

/// Closes `port`.
///
/// # Errors
/// As [`bind_ipi`].
pub fn close(port: Port) -> Result<(), Error> {
    operate(op::CLOSE, &mut op::Close { port })
}

/// Delivers `port` to another vCPU from now on.
///
/// # Errors
/// As [`bind_ipi`].
pub fn bind_vcpu(port: Port, vcpu: u32) -> Result<(), Error> {
    operate(op::BIND_VCPU, &mut op::BindVcpu { port, vcpu })
}

/// What `port` is bound to.
///
/// # Errors
/// As [`bind_ipi`].
pub fn status(port: Port) -> Result<op::Status, Error> {
    let mut argument = op::Status {
        dom: DomainId::SELF,
        port,
        ..Default::default()
    };
    operate(op::STATUS, &mut argument)?;
    Ok(argument)
}

/// Sleeps in the hypervisor until one of `ports` has an event, an interrupt can be taken, or the
/// system time in nanoseconds is `deadline` (0: no limit).
///
/// # Errors
/// As [`bind_ipi`].
pub fn poll(ports: &[Port], deadline: u64) -> Result<(), Error> {
    let mut argument = sched::Poll {
        ports: ports.as_ptr() as u64,
        nr_ports: ports.len() as u32,
        reserved: 0,
        timeout: deadline,
    };
    // SAFETY: the structure of sched_op poll; the ports are live and only read.
    unsafe { hypercall::with(number::SCHED_OP, sched::POLL, &mut argument) }.map(|_| ())
}
