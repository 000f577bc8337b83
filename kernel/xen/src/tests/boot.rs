//! The calls that a Linux 6.12 domU makes while it boots, in its order (reference section 16), and what it
//! expects of each: those marked fatal stop it.

use super::fifo::{Consumer, expand_array, init_control, ram};
use super::support::{BASE, CONSOLE_GFN, Guest, Machine, RAM_GFN, SCRATCH};
use abi::hypercall::{
    EVENT_CHANNEL_OP, GRANT_TABLE_OP, HVM_OP, MEMORY_OP, SCHED_OP, VCPU_OP, VM_ASSIST, XEN_VERSION,
};
use abi::shared_info::{SHARED_INFO_EVTCHN_MASK as MASK, SHARED_INFO_EVTCHN_PENDING as PENDING};
use abi::vcpu::{self, RunstateInfo};
use abi::{DomainId, Port, event_channel, grant_table, hvm, memory_op, sched, version};
use std::sync::atomic::Ordering::SeqCst;

const SHARED_INFO_GFN: u64 = 0x4_8000;
const GRANT_GFN: u64 = 0x3_8000;

fn hvm_get(guest: &Guest, index: u32) -> u64 {
    let mut param = hvm::Param {
        domid: DomainId::SELF,
        index,
        ..hvm::Param::default()
    };
    assert_eq!(guest.with(HVM_OP, hvm::GET_PARAM, &mut param), 0);
    param.value
}

fn add_to_physmap(guest: &Guest, space: u32, index: u64, gpfn: u64) -> i64 {
    let mut request = memory_op::AddToPhysmap {
        domid: DomainId::SELF,
        space,
        index,
        gpfn,
        ..memory_op::AddToPhysmap::default()
    };
    guest.with(MEMORY_OP, memory_op::ADD_TO_PHYSMAP, &mut request)
}

fn grant_size(guest: &Guest) -> (u32, u32) {
    let mut size = grant_table::QuerySize {
        dom: DomainId::SELF,
        ..grant_table::QuerySize::default()
    };
    let result = guest.with(GRANT_TABLE_OP, grant_table::QUERY_SIZE, &mut size);
    assert_eq!((result, size.status), (0, 0));
    (size.nr_frames, size.max_nr_frames)
}

/// What the upcall handler does: takes the flag and the selector, and returns the ports it finds.
fn scan(guest: &Guest, vcpu: usize) -> Vec<u32> {
    let info = guest.physical.ram.borrow()[0];
    info.u8(vcpu * 64).unwrap().store(0, SeqCst);
    let selector = info.u64(vcpu * 64 + 8).unwrap().swap(0, SeqCst);
    let found = (0..4096).filter(|port| {
        selector >> (port / 64) & 1 != 0 && guest.bit(PENDING, *port) && !guest.bit(MASK, *port)
    });
    let found: Vec<_> = found.collect();
    for port in &found {
        guest.set_bit(PENDING, *port, false);
    }
    found
}

/// Pages of RAM for the FIFO ABI.
const CONTROL: u64 = RAM_GFN + 2;
const WORDS: u64 = RAM_GFN + 3;

#[test]
fn linux_boots() {
    linux(true);
}

/// With `xen.fifo_events=0`.
#[test]
fn linux_boots_by_the_2_level_abi() {
    linux(false);
}

fn linux(by_fifo: bool) {
    const VCPUS: u32 = 4;
    let machine = Machine::new(1, VCPUS);
    let guest = machine.guest(1);

    // xen_early_init: is this dom0? No. Grants by gfn? Yes.
    let mut features = version::FeatureInfo::default();
    let asked = guest.with(XEN_VERSION, version::GET_FEATURES, &mut features);
    assert_eq!((asked, features.bits & version::FEATURE_DOM0), (0, 0));
    assert_ne!(features.bits & version::FEATURE_AUTO_TRANSLATED_PHYSMAP, 0);

    // Early hvc console.
    let console = Port(hvm_get(&guest, hvm::PARAM_CONSOLE_EVTCHN) as u32);
    assert_eq!(hvm_get(&guest, hvm::PARAM_CONSOLE_PFN), CONSOLE_GFN);
    assert_ne!(console, Port(0));

    // xen_guest_init: shared_info is fatal.
    let shared_info = memory_op::SPACE_SHARED_INFO;
    assert_eq!(add_to_physmap(&guest, shared_info, 0, SHARED_INFO_GFN), 0);

    // gnttab_init.
    assert_eq!(grant_size(&guest), (1, 64));
    assert_eq!(
        add_to_physmap(&guest, memory_op::SPACE_GRANT_TABLE, 0, GRANT_GFN),
        0
    );
    let mut request = grant_table::SetVersion { version: 1 };
    assert_eq!(
        guest.with(GRANT_TABLE_OP, grant_table::SET_VERSION, &mut request),
        0
    );
    assert_eq!(grant_size(&guest), (1, 64));

    // xen_init_IRQ: the FIFO ABI, a control block for each CPU; or the 2-level ABI. All ports masked.
    if by_fifo {
        for index in 0..VCPUS {
            assert_eq!(init_control(&guest, CONTROL, index * 72, index), Ok(17));
        }
    }
    for word in 0..64 {
        let mask = guest.state.shared_info.u64(MASK + word * 8);
        mask.unwrap().store(u64::MAX, SeqCst);
    }

    // xen_starting_cpu on each CPU: fatal. vCPU 0's contents come from shared_info.
    guest.state.shared_info.u8(1).unwrap().store(0x5a, SeqCst);
    for index in 0..VCPUS {
        let cpu = machine.vcpu(1, index);
        let place = vcpu::RegisterVcpuInfo {
            gfn: RAM_GFN,
            offset: index * 64,
            ..vcpu::RegisterVcpuInfo::default()
        };
        cpu.put(SCRATCH, &place);
        let arguments = [vcpu::REGISTER_VCPU_INFO, index.into(), SCRATCH];
        assert_eq!(cpu.returns(VCPU_OP, &arguments), 0);
        assert_eq!(machine.take_upcalls(), [(1, index)]);
        let (info, at) = (guest.physical.ram.borrow()[0], index as usize * 64);
        assert_eq!(info.u8(at).unwrap().load(SeqCst), 1);
        assert_eq!(info.u64(at + 8).unwrap().load(SeqCst), u64::MAX);
        let copied = if index == 0 { 0x5a } else { 0 };
        assert_eq!(info.u8(at + 1).unwrap().load(SeqCst), copied);
        assert!(scan(&cpu, index as usize).is_empty());
    }

    // xenstore: none here. Linux goes on without.
    assert_eq!(hvm_get(&guest, hvm::PARAM_STORE_EVTCHN), 0);
    assert_eq!(hvm_get(&guest, hvm::PARAM_STORE_PFN), 0);

    // Steal time: soft, then fatal.
    let assist = [vcpu::VMASST_CMD_ENABLE, vcpu::VMASST_RUNSTATE_UPDATE_FLAG];
    assert_eq!(guest.returns(VM_ASSIST, &assist), 0);
    for index in 0..VCPUS {
        let cpu = machine.vcpu(1, index);
        let address = BASE + 0x2000 + u64::from(index) * 0x40;
        cpu.put(SCRATCH, &vcpu::RegisterRunstateArea { address });
        let arguments = [vcpu::REGISTER_RUNSTATE_MEMORY_AREA, index.into(), SCRATCH];
        assert_eq!(cpu.returns(VCPU_OP, &arguments), 0);
        let info: RunstateInfo = cpu.get(address);
        assert_eq!(info.state_entry_time & vcpu::RUNSTATE_UPDATE, 0);
    }

    // The first port's page of words.
    let mut consumer = Consumer::new(ram(&guest, CONTROL), 0, ram(&guest, WORDS));
    if by_fifo {
        for port in 0..1024 {
            let word = consumer.word(port);
            word.store(event_channel::FIFO_MASKED, SeqCst);
        }
        expand_array(&guest, WORDS).unwrap();
    }

    // The console's event channel: bound to vCPU 0, unmasked, used both ways.
    let bind = event_channel::BindVcpu {
        port: console,
        vcpu: 0,
    };
    guest.event(event_channel::BIND_VCPU, bind).unwrap();
    guest.event(event_channel::UNMASK, console).unwrap();
    assert_eq!(guest.state.console_input(&machine, b"\n"), 1);
    assert_eq!(machine.take_upcalls(), [(1, 0)]);
    if by_fifo {
        assert_eq!(consumer.take(), Some(Some(console.0)));
        assert!(scan(&guest, 0).is_empty());
    } else {
        assert_eq!(scan(&guest, 0), [console.0]);
    }
    guest.event(event_channel::SEND, console).unwrap();

    // /sys/hypervisor.
    for cmd in 0..=8 {
        let buffer = if cmd == version::PAGESIZE { 0 } else { SCRATCH };
        guest.put(SCRATCH, &[0_u64; 2]);
        assert!(guest.returns(XEN_VERSION, &[cmd, buffer]) >= 0);
    }
    assert_eq!(guest.returns(EVENT_CHANNEL_OP, &[99, SCRATCH]), -38);

    // poweroff.
    guest.put(SCRATCH, &sched::SHUTDOWN_POWEROFF);
    assert_eq!(
        guest.call(SCHED_OP, &[sched::SHUTDOWN, SCRATCH]),
        crate::Outcome::Shutdown(0)
    );
}
