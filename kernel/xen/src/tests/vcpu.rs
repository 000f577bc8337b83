use super::support::{BASE, Guest, Machine, RAM_GFN, SCRATCH, SIZE};
use crate::{GuestMemory, Runstate, XenState};
use abi::event_channel as event;
use abi::hypercall::{VCPU_OP, VM_ASSIST};
use abi::vcpu as op;
use abi::vcpu::RunstateInfo;
use abi::{Port, VcpuId};
use std::sync::atomic::Ordering::SeqCst;

fn register(guest: &Guest, vcpu: u64, gfn: u64, offset: u32) -> i64 {
    let request = op::RegisterVcpuInfo {
        gfn,
        offset,
        ..op::RegisterVcpuInfo::default()
    };
    guest.put(SCRATCH, &request);
    guest.returns(VCPU_OP, &[op::REGISTER_VCPU_INFO, vcpu, SCRATCH])
}

fn register_runstate(guest: &Guest, vcpu: u64, address: u64) -> i64 {
    guest.put(SCRATCH, &op::RegisterRunstateArea { address });
    guest.returns(VCPU_OP, &[op::REGISTER_RUNSTATE_MEMORY_AREA, vcpu, SCRATCH])
}

fn send_ipi(guest: &Guest, vcpu: u32) -> Port {
    let request = event::BindIpi {
        vcpu,
        ..event::BindIpi::default()
    };
    let port = guest.event(event::BIND_IPI, request).unwrap().port;
    guest.event(event::SEND, port).unwrap();
    port
}

#[test]
fn vcpu_info_moves_with_its_contents() {
    let machine = Machine::new(1, 2);
    let guest = machine.guest(1);
    let shared = guest.state.shared_info;
    send_ipi(&guest, 0);
    assert_eq!(machine.take_upcalls(), [(1, 0)]);
    shared.u64(16).unwrap().store(0x1234, SeqCst);

    assert_eq!(register(&guest, 0, RAM_GFN, 64), 0);
    assert_eq!(machine.take_upcalls(), [(1, 0)], "an upcall for nothing");
    let page = guest.physical.ram.borrow()[0];
    assert_eq!(page.u8(64).unwrap().load(SeqCst), 1);
    assert_eq!(page.u64(72).unwrap().load(SeqCst), u64::MAX);
    assert_eq!(page.u64(80).unwrap().load(SeqCst), 0x1234, "copied");

    // From now on events are announced there, and no longer in shared_info.
    page.u8(64).unwrap().store(0, SeqCst);
    page.u64(72).unwrap().store(0, SeqCst);
    shared.u8(0).unwrap().store(0, SeqCst);
    shared.u64(8).unwrap().store(0, SeqCst);
    send_ipi(&guest, 0);
    assert_eq!(machine.take_upcalls(), [(1, 0)]);
    assert_eq!(page.u64(72).unwrap().load(SeqCst), 1);
    assert_eq!(shared.u64(8).unwrap().load(SeqCst), 0);
    assert_eq!(register(&guest, 0, RAM_GFN, 128), -16);
}

#[test]
fn a_vcpu_without_vcpu_info_hears_of_events_when_it_has_one() {
    let machine = Machine::new(1, 2);
    let guest = machine.guest(1);
    send_ipi(&guest, 1);
    assert!(machine.take_upcalls().is_empty());
    assert_eq!(register(&guest, 1, RAM_GFN + 1, 0), 0);
    assert_eq!(machine.take_upcalls(), [(1, 1)]);
    let page = guest.physical.ram.borrow()[1];
    assert_eq!(page.u64(8).unwrap().load(SeqCst), u64::MAX);
}

#[test]
fn vcpu_info_must_fit_in_a_page_of_ram() {
    let machine = Machine::new(1, 2);
    let guest = machine.guest(1);
    for offset in [4, 65, 4096 - 40, 4096, u32::MAX, u32::MAX - 7] {
        assert_eq!(register(&guest, 0, RAM_GFN, offset), -6, "{offset}");
    }
    assert_eq!(register(&guest, 0, 0x99, 0), -22);
    assert_eq!(register(&guest, 2, RAM_GFN, 0), -2);
    assert_eq!(register(&guest, 0, RAM_GFN, 4096 - 48), 0);
    let bad = guest.returns(VCPU_OP, &[op::REGISTER_VCPU_INFO, 1, 8]);
    assert_eq!(bad, -14);
}

#[test]
fn other_vcpu_operations_are_invalid() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    for cmd in (0..20).filter(|cmd| ![5, 10].contains(cmd)) {
        assert_eq!(guest.returns(VCPU_OP, &[cmd, 0, SCRATCH]), -22);
        assert_eq!(guest.returns(VCPU_OP, &[cmd, 1, SCRATCH]), -2);
    }
}

fn change(state: &XenState, vcpu: VcpuId, to: Runstate, now: u64) {
    state.vcpu_state(vcpu).unwrap().change_runstate(to, now);
}

fn publish(state: &XenState, vcpu: VcpuId, memory: &impl GuestMemory) {
    state.publish_runstate(state.vcpu_state(vcpu).unwrap(), memory);
}

#[test]
fn runstate_is_written_at_registration_and_on_change() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let (area, vcpu) = (BASE + 0x2000, VcpuId(0));
    let state = guest.state;
    change(state, vcpu, Runstate::Running, 100);
    publish(state, vcpu, &guest);
    assert_eq!(guest.get::<u32>(area), 0, "not registered");
    assert_eq!(register_runstate(&guest, 0, area), 0);
    let info: RunstateInfo = guest.get(area);
    assert_eq!((info.state, info.state_entry_time), (0, 100));
    assert_eq!(info.time, [0, 0, 0, 100]);

    change(state, vcpu, Runstate::Blocked, 150);
    change(state, vcpu, Runstate::Runnable, 250);
    change(state, vcpu, Runstate::Running, 650);
    publish(state, vcpu, &guest);
    let info: RunstateInfo = guest.get(area);
    assert_eq!(info.time, [50, 400, 100, 100]);
    assert_eq!(Some(info), state.runstate(vcpu));

    // A clock that goes back, a vCPU that is not there.
    change(state, vcpu, Runstate::Offline, 0);
    assert!(state.vcpu_state(VcpuId(9)).is_none());
    assert_eq!(state.runstate(VcpuId(9)), None);
    assert_eq!(state.runstate(vcpu).unwrap().time, [50, 400, 100, 100]);
}

#[test]
fn runstate_wants_memory_that_can_be_written() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    assert_eq!(register_runstate(&guest, 0, BASE + SIZE - 47), -14);
    assert_eq!(register_runstate(&guest, 0, u64::MAX), -14);
    assert_eq!(register_runstate(&guest, 1, BASE), -2);
    let bad = [op::REGISTER_RUNSTATE_MEMORY_AREA, 0, 8];
    assert_eq!(guest.returns(VCPU_OP, &bad), -14);
    publish(guest.state, VcpuId(0), &guest);
}

#[test]
fn a_null_address_ends_the_updates_of_a_runstate() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let area = BASE + 0x2000;
    assert_eq!(register_runstate(&guest, 0, area), 0);
    assert_eq!(register_runstate(&guest, 0, 0), 0);
    guest.put(area, &u64::MAX);
    let (state, vcpu) = (guest.state, VcpuId(0));
    change(state, vcpu, Runstate::Blocked, 9);
    publish(state, vcpu, &guest);
    assert_eq!(guest.get::<u64>(area), u64::MAX);
    assert_eq!(register_runstate(&guest, 0, area), 0);
    assert_eq!(guest.get::<u32>(area), 2);
}

#[test]
fn the_update_flag_is_gone_when_the_update_is() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let area = BASE + 0x2000;
    assert_eq!(register_runstate(&guest, 0, area), 0);
    let flag = op::VMASST_RUNSTATE_UPDATE_FLAG;
    assert_eq!(guest.returns(VM_ASSIST, &[op::VMASST_CMD_ENABLE, flag]), 0);
    let state = guest.state;
    let history = Recorder::default();
    change(state, VcpuId(0), Runstate::Runnable, 9);
    publish(state, VcpuId(0), &history);
    let writes = history.0.take();
    let update = op::RUNSTATE_UPDATE;
    assert_eq!(writes.len(), 3);
    assert_eq!(writes[0], (area + 8, (9 | update).to_le_bytes().to_vec()));
    assert_eq!(writes[1].1[8..16], (9 | update).to_le_bytes());
    assert_eq!(writes[2], (area + 8, 9_u64.to_le_bytes().to_vec()));
    assert_eq!(guest.returns(VM_ASSIST, &[op::VMASST_CMD_DISABLE, flag]), 0);
    publish(state, VcpuId(0), &history);
    assert_eq!(history.0.take().len(), 1);
}

#[test]
fn vm_assist_has_one_type() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    for kind in [0, 4, 6, 31, 32, 37] {
        assert_eq!(guest.returns(VM_ASSIST, &[0, kind]), -22);
    }
    assert_eq!(guest.returns(VM_ASSIST, &[2, 5]), -38);
}

type Write = (u64, Vec<u8>);

/// Guest memory that remembers what was written.
#[derive(Default)]
struct Recorder(std::cell::RefCell<Vec<Write>>);

impl crate::GuestMemory for Recorder {
    fn read(&self, _: memory::Va, _: &mut [u8]) -> Result<(), abi::Errno> {
        Err(abi::Errno::Fault)
    }
    fn write(&self, to: memory::Va, bytes: &[u8]) -> Result<(), abi::Errno> {
        self.0.borrow_mut().push((to.get(), bytes.to_vec()));
        Ok(())
    }
}
