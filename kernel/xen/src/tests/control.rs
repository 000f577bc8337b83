//! The calls of a control domain, as a guest sees them.

use super::support::{BASE, Machine, SCRATCH, SIZE};
use abi::control::{self, Head};
use abi::hypercall::{ARGO_OP, DM_OP, DOMCTL, HYPFS_OP, PHYSDEV_OP, PLATFORM_OP, SYSCTL, XSM_OP};
use abi::{DomainId, hypercall};

#[test]
fn they_are_refused_after_the_version_of_their_interface() {
    let machine = Machine::new(2, 1);
    let guest = machine.guest(1);
    let call = |nr, command, version, domain| {
        let head = Head {
            command,
            version,
            domain: DomainId(domain),
            ..Head::default()
        };
        guest.put(SCRATCH, &head);
        guest.returns(nr, &[SCRATCH])
    };
    for command in [0, 1, 5, 62, 1000, u32::MAX] {
        for (nr, version) in [
            (PLATFORM_OP, control::PLATFORM_VERSION),
            (SYSCTL, control::SYSCTL_VERSION),
            (DOMCTL, control::DOMCTL_VERSION),
        ] {
            assert_eq!(call(nr, command, version, 1), -1);
            for wrong in [0, version - 1, version + 1, u32::MAX] {
                assert_eq!(call(nr, command, wrong, 1), -13);
            }
        }
    }
    // Only domctl is about a domain; one that is to be made need not be there.
    for (command, domain, error) in [
        (5, 2, -1),
        (5, 3, -3),
        (5, DomainId::SELF.0, -3),
        (5, DomainId::INVALID.0, -3),
        (1, 3, -1),
        (1000, 3, -1),
    ] {
        assert_eq!(
            call(DOMCTL, command, control::DOMCTL_VERSION, domain),
            error
        );
        assert_eq!(call(SYSCTL, command, control::SYSCTL_VERSION, domain), -1);
    }
}

#[test]
fn the_whole_argument_must_be_there() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    for (nr, size) in [
        (PLATFORM_OP, control::PLATFORM_SIZE),
        (SYSCTL, control::SYSCTL_SIZE),
        (DOMCTL, control::DOMCTL_SIZE),
    ] {
        let end = BASE + SIZE - size as u64;
        assert_eq!(guest.returns(nr, &[end]), -13);
        for bad in [end + 1, 0, 8, u64::MAX] {
            assert_eq!(guest.returns(nr, &[bad]), -14);
        }
    }
}

#[test]
fn what_xen_has_only_if_it_is_built_so_is_not_there() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    for nr in [
        XSM_OP,
        PHYSDEV_OP,
        ARGO_OP,
        DM_OP,
        hypercall::SCHED_OP_COMPAT,
        hypercall::EVENT_CHANNEL_OP_COMPAT,
        hypercall::PHYSDEV_OP_COMPAT,
    ] {
        assert_eq!(guest.returns(nr, &[0, SCRATCH, 1, 0, 0]), -38);
    }
    assert_eq!(guest.returns(HYPFS_OP, &[0; 5]), -1);
}
