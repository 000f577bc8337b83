//! The hypercalls, with their structures on the stack: caches are off, so that they are in memory.

use abi::{
    DomainId, Port, console, event_channel, grant_table, hvm, hypercall, memory_op, sched, vcpu,
    version,
};

fn call(number: u64, arguments: [u64; 3]) -> i64 {
    let result: i64;
    // SAFETY: the convention of `xen/include/public/arch-arm.h`. All addresses that are passed are of structures that
    // live, and of the kind that the operation is defined with.
    unsafe {
        core::arch::asm!(
            "hvc #0xea1",
            inlateout("x16") number => _,
            inlateout("x0") arguments[0] => result,
            inlateout("x1") arguments[1] => _,
            inlateout("x2") arguments[2] => _,
            lateout("x3") _,
            lateout("x4") _,
        );
    }
    result
}

fn with<T>(number: u64, command: u64, argument: &mut T, count: u64) -> i64 {
    call(
        number,
        [command, core::ptr::from_mut(argument) as u64, count],
    )
}

pub(crate) fn console_write(bytes: &[u8]) -> i64 {
    let (at, length) = (bytes.as_ptr() as u64, bytes.len() as u64);
    call(hypercall::CONSOLE_IO, [console::WRITE, length, at])
}

/// Ends the guest.
pub(crate) fn shutdown(reason: u32) -> ! {
    let mut request = sched::Shutdown { reason };
    loop {
        let _ = with(hypercall::SCHED_OP, sched::SHUTDOWN, &mut request, 0);
    }
}

pub(crate) fn sched_yield() -> i64 {
    call(hypercall::SCHED_OP, [sched::YIELD, 0, 0])
}

pub(crate) fn watchdog(id: u32, timeout: u32) -> i64 {
    let mut request = sched::Watchdog { id, timeout };
    with(hypercall::SCHED_OP, sched::WATCHDOG, &mut request, 0)
}

pub(crate) fn features() -> (i64, u32) {
    let mut info = version::FeatureInfo::default();
    let answer = with(hypercall::XEN_VERSION, version::GET_FEATURES, &mut info, 0);
    (answer, info.bits)
}

pub(crate) fn parameter(index: u32) -> (i64, u64) {
    let mut request = hvm::Param {
        domid: DomainId::SELF,
        index,
        ..Default::default()
    };
    let answer = with(hypercall::HVM_OP, hvm::GET_PARAM, &mut request, 0);
    (answer, request.value)
}

pub(crate) fn add_to_physmap(space: u32, index: u64, gpfn: u64) -> i64 {
    let mut request = memory_op::AddToPhysmap {
        domid: DomainId::SELF,
        size: 0,
        space,
        index,
        gpfn,
    };
    with(
        hypercall::MEMORY_OP,
        memory_op::ADD_TO_PHYSMAP,
        &mut request,
        0,
    )
}

pub(crate) fn remove_from_physmap(gpfn: u64) -> i64 {
    let mut request = memory_op::RemoveFromPhysmap {
        domid: DomainId::SELF,
        gpfn,
        ..Default::default()
    };
    with(
        hypercall::MEMORY_OP,
        memory_op::REMOVE_FROM_PHYSMAP,
        &mut request,
        0,
    )
}

pub(crate) fn populate(gfn: u64) -> i64 {
    let mut gfn = gfn;
    let mut request = memory_op::Reservation {
        extent_start: core::ptr::from_mut(&mut gfn) as u64,
        nr_extents: 1,
        domid: DomainId::SELF,
        ..Default::default()
    };
    with(
        hypercall::MEMORY_OP,
        memory_op::POPULATE_PHYSMAP,
        &mut request,
        0,
    )
}

/// The answer, or the status if that is 0; frames now, and at most.
pub(crate) fn query_size() -> (i64, u32, u32) {
    let mut request = grant_table::QuerySize {
        dom: DomainId::SELF,
        ..Default::default()
    };
    let answer = with(
        hypercall::GRANT_TABLE_OP,
        grant_table::QUERY_SIZE,
        &mut request,
        1,
    );
    let status = if answer == 0 {
        i64::from(request.status)
    } else {
        answer
    };
    (status, request.nr_frames, request.max_nr_frames)
}

/// The answer, or the status if that is 0.
pub(crate) fn setup_table(list: &mut [u64]) -> i64 {
    let mut request = grant_table::SetupTable {
        dom: DomainId::SELF,
        nr_frames: list.len() as u32,
        frame_list: list.as_mut_ptr() as u64,
        ..Default::default()
    };
    let answer = with(
        hypercall::GRANT_TABLE_OP,
        grant_table::SETUP_TABLE,
        &mut request,
        1,
    );
    if answer == 0 {
        i64::from(request.status)
    } else {
        answer
    }
}

fn on_port(command: u64, port: Port) -> i64 {
    let mut port = port;
    with(hypercall::EVENT_CHANNEL_OP, command, &mut port, 0)
}

pub(crate) fn send(port: Port) -> i64 {
    on_port(event_channel::SEND, port)
}

pub(crate) fn close(port: Port) -> i64 {
    on_port(event_channel::CLOSE, port)
}

pub(crate) fn unmask(port: Port) -> i64 {
    on_port(event_channel::UNMASK, port)
}

pub(crate) fn alloc_unbound(remote_dom: DomainId) -> (i64, Port) {
    let mut request = event_channel::AllocUnbound {
        dom: DomainId::SELF,
        remote_dom,
        port: Port(0),
    };
    let answer = with(
        hypercall::EVENT_CHANNEL_OP,
        event_channel::ALLOC_UNBOUND,
        &mut request,
        0,
    );
    (answer, request.port)
}

pub(crate) fn bind_interdomain(remote_dom: DomainId, remote_port: Port) -> (i64, Port) {
    let mut request = event_channel::BindInterdomain {
        remote_dom,
        remote_port,
        ..Default::default()
    };
    let command = event_channel::BIND_INTERDOMAIN;
    let answer = with(hypercall::EVENT_CHANNEL_OP, command, &mut request, 0);
    (answer, request.local_port)
}

pub(crate) fn bind_virq(virq: u32) -> (i64, Port) {
    let mut request = event_channel::BindVirq {
        virq,
        ..Default::default()
    };
    let answer = with(
        hypercall::EVENT_CHANNEL_OP,
        event_channel::BIND_VIRQ,
        &mut request,
        0,
    );
    (answer, request.port)
}

pub(crate) fn status(port: Port) -> (i64, u32) {
    let mut request = event_channel::Status {
        dom: DomainId::SELF,
        port,
        ..Default::default()
    };
    let answer = with(
        hypercall::EVENT_CHANNEL_OP,
        event_channel::STATUS,
        &mut request,
        0,
    );
    (answer, request.status)
}

pub(crate) fn set_priority(port: Port, priority: u32) -> i64 {
    let mut request = event_channel::SetPriority { port, priority };
    with(
        hypercall::EVENT_CHANNEL_OP,
        event_channel::SET_PRIORITY,
        &mut request,
        0,
    )
}

pub(crate) fn register_vcpu_info(gfn: u64, offset: u32) -> i64 {
    let mut request = vcpu::RegisterVcpuInfo {
        gfn,
        offset,
        reserved: 0,
    };
    let at = core::ptr::from_mut(&mut request) as u64;
    call(hypercall::VCPU_OP, [vcpu::REGISTER_VCPU_INFO, 0, at])
}
