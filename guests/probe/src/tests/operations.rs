//! hvm_op, memory_op, vcpu_op, vm_assist, sched_op (xen-arm-hypercalls sections 11 to 14).

use crate::check::{Outcome, Trouble, check, equal, fail};
use crate::raw::{hypercall, pointer};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use runtime::abi::Errno::{Busy, Invalid, NoEntry, NoSpace, NoSys, Perm};
use runtime::abi::{DomainId, hvm, hypercall as number, memory_op, sched, vcpu};
use runtime::{event, memory, xen};

fn hvm_call(op: u64, index: u32, value: u64) -> (i64, u64) {
    let mut argument = hvm::Param {
        domid: DomainId::SELF,
        reserved: 0,
        index,
        value,
    };
    let answer = hypercall(number::HVM_OP, [op, pointer(&mut argument), 0, 0, 0]);
    (answer, argument.value)
}

pub(crate) fn parameters() -> Outcome {
    for index in [0, 1, 2, 17, 18] {
        equal!(hvm_call(hvm::GET_PARAM, index, 99).0, 0, "get of {index}");
        equal!(
            hvm_call(hvm::SET_PARAM, index, 1).0,
            Perm.as_return(),
            "set of {index}"
        );
    }
    let (gfn, port) = (
        hvm_call(hvm::GET_PARAM, 17, 0).1,
        hvm_call(hvm::GET_PARAM, 18, 0).1,
    );
    equal!(
        gfn == 0,
        port == 0,
        "console page {gfn:#x} and port {port} disagree"
    );
    equal!(
        hvm_call(hvm::GET_PARAM, 28, 0).0,
        Perm.as_return(),
        "get of 28"
    );
    for index in [3, 16, 19, 99, u32::MAX] {
        equal!(
            hvm_call(hvm::GET_PARAM, index, 0).0,
            Invalid.as_return(),
            "get of {index}"
        );
        equal!(
            hvm_call(hvm::SET_PARAM, index, 0).0,
            Invalid.as_return(),
            "set of {index}"
        );
    }
    equal!(hvm_call(5, 0, 0).0, NoSys.as_return(), "unknown operation");
    Ok(())
}

fn memory_call<T>(command: u64, argument: &mut T) -> i64 {
    hypercall(number::MEMORY_OP, [command, pointer(argument), 0, 0, 0])
}

pub(crate) fn memory() -> Outcome {
    let mut own = DomainId::SELF;
    let pages = memory::banks()
        .map(|(_, size)| size / memory::PAGE)
        .sum::<u64>() as i64;
    let current = memory_call(memory_op::CURRENT_RESERVATION, &mut own);
    check!(current >= pages, "{current} pages now, {pages} in the tree");
    let most = memory_call(memory_op::MAXIMUM_RESERVATION, &mut own);
    check!(most >= current, "{most} pages at most, {current} now");
    let highest = memory_call(memory_op::MAXIMUM_GPFN, &mut own);
    let last = memory::banks()
        .map(|(base, size)| (base + size) / memory::PAGE)
        .max()
        .unwrap_or(0);
    check!(
        highest >= last as i64 - 1,
        "highest gfn {highest:#x}, RAM ends at {last:#x}"
    );
    equal!(
        memory_call(memory_op::MEMORY_MAP, &mut own),
        NoSys.as_return(),
        "memory_map"
    );
    equal!(
        memory_call(63, &mut own),
        NoSys.as_return(),
        "unknown command"
    );

    let add = |space, index, gpfn| {
        let mut argument = memory_op::AddToPhysmap {
            domid: DomainId::SELF,
            size: 1,
            space,
            index,
            gpfn,
        };
        memory_call(memory_op::ADD_TO_PHYSMAP, &mut argument)
    };
    let Some((base, _)) = xen::window() else {
        return Err(Trouble::Skip("no window"));
    };
    let gfn = base / memory::PAGE + 0x100;
    for space in [
        memory_op::SPACE_GMFN,
        memory_op::SPACE_GMFN_RANGE,
        memory_op::SPACE_GMFN_FOREIGN,
        99,
    ] {
        equal!(add(space, 0, gfn), NoSys.as_return(), "space {space}");
    }
    equal!(
        add(memory_op::SPACE_SHARED_INFO, 1, gfn),
        Invalid.as_return(),
        "shared_info 1"
    );
    let far = add(memory_op::SPACE_GRANT_TABLE, 1 << 20, gfn);
    check!(far < 0, "grant frame 2^20 is {far}");
    let mut remove = memory_op::RemoveFromPhysmap {
        domid: DomainId::SELF,
        reserved: [0; 3],
        gpfn: gfn,
    };
    let answer = memory_call(memory_op::REMOVE_FROM_PHYSMAP, &mut remove);
    equal!(answer, NoEntry.as_return(), "remove of an empty frame");
    Ok(())
}

/// shared_info has one place at a time; taken away it can be put back, with its content.
pub(crate) fn shared_info() -> Outcome {
    let Some((base, size)) = xen::window() else {
        return Err(Trouble::Skip("no window"));
    };
    let gpfn = (base + size) / memory::PAGE - 1;
    let mut add = memory_op::AddToPhysmap {
        domid: DomainId::SELF,
        size: 0,
        space: memory_op::SPACE_SHARED_INFO,
        index: 0,
        gpfn: gpfn - 1,
    };
    let answer = memory_call(memory_op::ADD_TO_PHYSMAP, &mut add);
    equal!(answer, Busy.as_return(), "second place");
    let port = match event::bind_ipi(0) {
        Ok(port) => port,
        Err(error) => fail!("bind_ipi: {error}"),
    };
    event::mask(port);
    let sent = event::send(port);
    let mut remove = memory_op::RemoveFromPhysmap {
        domid: DomainId::SELF,
        reserved: [0; 3],
        gpfn,
    };
    let (removed, added) = runtime::cpu::masked(|| {
        let removed = memory_call(memory_op::REMOVE_FROM_PHYSMAP, &mut remove);
        add.gpfn = gpfn;
        (removed, memory_call(memory_op::ADD_TO_PHYSMAP, &mut add))
    });
    let kept = event::take(port);
    let _ = event::close(port);
    equal!(removed, 0, "remove");
    equal!(added, 0, "put back");
    equal!(sent, Ok(()), "send");
    check!(kept, "the pending event was lost");
    Ok(())
}

pub(crate) fn vcpu() -> Outcome {
    let mut words = [0u64; 16];
    let call =
        |command: u64, vcpu: u64, at: u64| hypercall(number::VCPU_OP, [command, vcpu, at, 0, 0]);
    for command in [0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 15, 99] {
        let answer = call(command, 0, pointer(&mut words));
        equal!(answer, Invalid.as_return(), "command {command}");
    }
    let nobody = call(
        vcpu::REGISTER_RUNSTATE_MEMORY_AREA,
        1000,
        pointer(&mut words),
    );
    equal!(nobody, NoEntry.as_return(), "vCPU 1000");
    let assist = |command, kind| hypercall(number::VM_ASSIST, [command, kind, 0, 0, 0]);
    equal!(
        assist(vcpu::VMASST_CMD_ENABLE, vcpu::VMASST_RUNSTATE_UPDATE_FLAG),
        0,
        "vm_assist 5"
    );
    equal!(
        assist(vcpu::VMASST_CMD_DISABLE, vcpu::VMASST_RUNSTATE_UPDATE_FLAG),
        0,
        "vm_assist 5 off"
    );
    equal!(
        assist(vcpu::VMASST_CMD_ENABLE, 4),
        Invalid.as_return(),
        "vm_assist 4"
    );
    Ok(())
}

/// The runstate area is written at once, and says "running".
pub(crate) fn runstate() -> Outcome {
    static AREA: [AtomicU64; 8] = [const { AtomicU64::new(u64::MAX) }; 8];
    let mut argument = vcpu::RegisterRunstateArea {
        address: AREA.as_ptr() as u64,
    };
    let command = vcpu::REGISTER_RUNSTATE_MEMORY_AREA;
    let answer = hypercall(number::VCPU_OP, [command, 0, pointer(&mut argument), 0, 0]);
    equal!(answer, 0, "register");
    equal!(AREA[0].load(SeqCst) as u32, vcpu::RUNSTATE_RUNNING, "state");
    let before = AREA[2].load(SeqCst);
    check!(before != u64::MAX, "times are not written");
    equal!(AREA[6].load(SeqCst), u64::MAX, "word after the area");
    Ok(())
}

pub(crate) fn sched() -> Outcome {
    let call = |command: u64, at: u64| hypercall(number::SCHED_OP, [command, at, 0, 0, 0]);
    equal!(call(sched::YIELD, 0), 0, "yield");
    let mut poll = sched::Poll {
        ports: 0,
        nr_ports: sched::POLL_MAX_PORTS + 1,
        reserved: 0,
        timeout: 1,
    };
    equal!(
        call(sched::POLL, pointer(&mut poll)),
        Invalid.as_return(),
        "poll of 129 ports"
    );
    let mut ports = match event::bind_ipi(0) {
        Ok(port) => [port],
        Err(error) => fail!("bind_ipi: {error}"),
    };
    poll = sched::Poll {
        ports: pointer(&mut ports),
        nr_ports: 1,
        reserved: 0,
        timeout: 1,
    };
    let answer = call(sched::POLL, pointer(&mut poll));
    let _ = event::close(ports[0]);
    equal!(answer, 0, "poll with a past time");
    let watchdog = |id, timeout| {
        let mut argument = sched::Watchdog { id, timeout };
        call(sched::WATCHDOG, pointer(&mut argument))
    };
    equal!(watchdog(0, 600), 1, "first watchdog");
    equal!(watchdog(0, 600), 2, "second watchdog");
    equal!(watchdog(0, 600), NoSpace.as_return(), "third watchdog");
    equal!(watchdog(1, 0), 0, "first watchdog off");
    equal!(watchdog(2, 0), 0, "second watchdog off");
    let mut cpu = 0i32;
    equal!(
        call(sched::PIN_OVERRIDE, pointer(&mut cpu)),
        Perm.as_return(),
        "pin_override"
    );
    equal!(call(99, 0), NoSys.as_return(), "unknown command");
    Ok(())
}
