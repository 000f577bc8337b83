use super::support::{CONSOLE_GFN, Machine, SCRATCH};
use crate::StoreConfig;
use abi::hypercall::HVM_OP;
use abi::{DomainId, Errno, hvm};

fn get(machine: &Machine, domid: DomainId, index: u32) -> (i64, u64) {
    let mut param = hvm::Param {
        domid,
        index,
        value: 0x55,
        ..hvm::Param::default()
    };
    let result = machine.guest(1).with(HVM_OP, hvm::GET_PARAM, &mut param);
    (result, param.value)
}

#[test]
fn parameters_are_read_by_self_and_by_number() {
    let machine = Machine::new(2, 1);
    let own = DomainId::SELF;
    assert_eq!(get(&machine, own, hvm::PARAM_CONSOLE_PFN), (0, CONSOLE_GFN));
    let port = machine.guest(1).state.console_port().unwrap();
    assert_eq!(
        get(&machine, DomainId(1), hvm::PARAM_CONSOLE_EVTCHN),
        (0, u64::from(port.0))
    );
    for unset in [
        hvm::PARAM_CALLBACK_IRQ,
        hvm::PARAM_STORE_PFN,
        hvm::PARAM_STORE_EVTCHN,
    ] {
        assert_eq!(get(&machine, own, unset), (0, 0));
    }
}

#[test]
fn the_store_is_there_at_once_or_after_the_first_look() {
    let own = DomainId::SELF;
    let with = |late| {
        Machine::with(1, 1, move |config| {
            let gfn = 0x39001;
            config.store = Some(StoreConfig { gfn, late });
        })
    };
    let machine = with(false);
    let port = machine.guest(1).state.store_port().unwrap();
    assert_eq!(get(&machine, own, hvm::PARAM_STORE_PFN), (0, 0x39001));
    assert_eq!(
        get(&machine, own, hvm::PARAM_STORE_EVTCHN),
        (0, u64::from(port.0))
    );
    assert!(!machine.guest(1).state.is_pending(port.0));
    let machine = with(true);
    let port = machine.guest(1).state.store_port().unwrap();
    assert_eq!(
        get(&machine, own, hvm::PARAM_STORE_EVTCHN),
        (0, u64::from(port.0))
    );
    assert!(!machine.guest(1).state.is_pending(port.0));
    assert_eq!(get(&machine, own, hvm::PARAM_STORE_PFN), (0, u64::MAX));
    assert!(machine.guest(1).state.is_pending(port.0));
    assert_eq!(get(&machine, own, hvm::PARAM_STORE_PFN), (0, 0x39001));
}

#[test]
fn what_is_sent_to_the_store_is_served_in_steps() {
    let machine = Machine::with(1, 1, |config| {
        let gfn = 0x39001;
        config.store = Some(StoreConfig { gfn, late: false });
    });
    let guest = machine.guest(1);
    let port = guest.state.store_port().unwrap();
    machine.store_steps.set(3);
    for left in [2, 1] {
        assert_eq!(guest.state.send(&guest, port.0), Err(Errno::Restart));
        assert_eq!(machine.store_steps.get(), left);
    }
    assert_eq!(guest.state.send(&guest, port.0), Ok(()));
    // It stays the store's when the guest closes it, and says who listens.
    assert_eq!(guest.state.close(&guest, port.0), Ok(()));
    machine.store_steps.set(2);
    assert_eq!(guest.state.send(&guest, port.0), Err(Errno::Restart));
    guest.state.notify_store(&guest);
    assert!(guest.state.is_pending(port.0));
}

#[test]
fn parameters_of_others_and_unknown_ones_are_refused() {
    let machine = Machine::new(2, 1);
    let own = DomainId::SELF;
    assert_eq!(get(&machine, DomainId(2), hvm::PARAM_CONSOLE_PFN).0, -1);
    assert_eq!(get(&machine, DomainId(9), hvm::PARAM_CONSOLE_PFN).0, -3);
    assert_eq!(get(&machine, own, hvm::PARAM_MONITOR_RING_PFN).0, -1);
    for index in [3, 16, 38, 39, u32::MAX] {
        assert_eq!(get(&machine, own, index).0, -22);
    }
}

#[test]
fn no_parameter_is_written() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    for (index, expected) in [
        (0, -1),
        (1, -1),
        (2, -1),
        (17, -1),
        (18, -1),
        (28, -1),
        (5, -22),
    ] {
        let mut param = hvm::Param {
            domid: DomainId::SELF,
            index,
            value: 0x55,
            ..hvm::Param::default()
        };
        assert_eq!(guest.with(HVM_OP, hvm::SET_PARAM, &mut param), expected);
    }
    assert_eq!(guest.bad_pointer(HVM_OP, hvm::SET_PARAM), -14);
    assert_eq!(guest.bad_pointer(HVM_OP, hvm::GET_PARAM), -14);
}

#[test]
fn other_operations() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    assert_eq!(guest.returns(HVM_OP, &[hvm::GUEST_REQUEST_VM_EVENT, 0]), 0);
    assert_eq!(
        guest.returns(HVM_OP, &[hvm::GUEST_REQUEST_VM_EVENT, SCRATCH]),
        -22
    );
    for op in [2, 9, 23, 25, 1 << 32] {
        assert_eq!(guest.returns(HVM_OP, &[op, SCRATCH]), -38);
    }
}
