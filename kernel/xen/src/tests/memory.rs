use super::support::{Guest, Machine, RAM_GFN, SCRATCH};
use abi::hypercall::{GRANT_TABLE_OP, MEMORY_OP};
use abi::{DomainId, grant_table, memory_op as op};

fn add(guest: &Guest, space: u32, index: u64, gpfn: u64) -> i64 {
    add_for(guest, DomainId::SELF, space, index, gpfn)
}

fn add_for(guest: &Guest, domid: DomainId, space: u32, index: u64, gpfn: u64) -> i64 {
    let mut request = op::AddToPhysmap {
        domid,
        space,
        index,
        gpfn,
        ..op::AddToPhysmap::default()
    };
    guest.with(MEMORY_OP, op::ADD_TO_PHYSMAP, &mut request)
}

fn remove(guest: &Guest, domid: DomainId, gpfn: u64) -> i64 {
    let mut request = op::RemoveFromPhysmap {
        domid,
        gpfn,
        ..op::RemoveFromPhysmap::default()
    };
    guest.with(MEMORY_OP, op::REMOVE_FROM_PHYSMAP, &mut request)
}

#[test]
fn shared_info_is_at_one_place_at_a_time() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let mapped = |gfn| guest.physical.map.borrow().get(&gfn).copied();
    let address = guest.state.shared_info.address().get();
    assert_eq!(add(&guest, op::SPACE_SHARED_INFO, 1, 0x100), -22);
    assert_eq!(add(&guest, op::SPACE_SHARED_INFO, 0, RAM_GFN), 0);
    assert_eq!(mapped(RAM_GFN), Some(address));
    assert_eq!(add(&guest, op::SPACE_SHARED_INFO, 0, RAM_GFN), 0, "again");
    assert_eq!(add(&guest, op::SPACE_SHARED_INFO, 0, 0x100), -16);
    // What a boot loader does on leaving.
    assert_eq!(remove(&guest, DomainId::SELF, RAM_GFN), 0);
    assert_eq!(remove(&guest, DomainId::SELF, RAM_GFN), -2);
    assert_eq!(add(&guest, op::SPACE_SHARED_INFO, 0, 0x100), 0);
    // Mapped over by something else, it is not mapped.
    assert_eq!(add(&guest, op::SPACE_GRANT_TABLE, 0, 0x100), 0);
    assert_eq!(add(&guest, op::SPACE_SHARED_INFO, 0, 0x101), 0);
    // A frame number that the machine refuses changes nothing.
    assert_eq!(remove(&guest, DomainId(1), 0x101), 0);
    assert_eq!(add(&guest, op::SPACE_SHARED_INFO, 0, u64::MAX), -22);
    assert_eq!(add(&guest, op::SPACE_SHARED_INFO, 0, 0x101), 0);
}

#[test]
fn grant_frames_grow_in_any_order() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let space = op::SPACE_GRANT_TABLE;
    assert_eq!(add(&guest, space, 40, 0x3_8028), 0);
    assert_eq!(guest.physical.new_pages.get(), 40, "one was there");
    assert_eq!(guest.physical.rooms.get(), 40);
    for index in 0..40 {
        assert_eq!(add(&guest, space, index, 0x3_8000 + index), 0);
    }
    assert_eq!(guest.physical.new_pages.get(), 40);
    assert_eq!(add(&guest, space, 63, 0x3_803f), 0);
    for bad in [64, op::GRANT_TABLE_STATUS_INDEX, u64::MAX] {
        assert_eq!(add(&guest, space, bad, 0x3_9000), -22);
    }
    assert_eq!(add(&guest, space, 5, 0x3_9000), -16);
    let mut pages: Vec<_> = guest.physical.map.borrow().values().copied().collect();
    pages.sort_unstable();
    pages.dedup();
    assert_eq!(pages.len(), guest.physical.map.borrow().len(), "all differ");
}

#[test]
fn other_spaces_and_other_domains() {
    let machine = Machine::new(2, 1);
    let guest = machine.guest(1);
    for (space, error) in [
        (op::SPACE_GMFN, -38),
        (op::SPACE_GMFN_RANGE, -38),
        (op::SPACE_GMFN_FOREIGN, -38),
        (op::SPACE_DEVICE_MMIO, -13),
        (6, -38),
        (u32::MAX, -38),
    ] {
        assert_eq!(add(&guest, space, 0, 0x100), error);
    }
    for (domain, error) in [(DomainId(2), -1), (DomainId(3), -3), (DomainId::IO, -3)] {
        assert_eq!(add_for(&guest, domain, 0, 0, 0x100), error);
        assert_eq!(remove(&guest, domain, RAM_GFN), error);
    }
}

#[test]
fn figures() {
    let machine = Machine::new(2, 1);
    let guest = machine.guest(1);
    assert_eq!(guest.returns(MEMORY_OP, &[op::MAXIMUM_RAM_PAGE]), 0xf_ffff);
    for (cmd, expected) in [
        (op::CURRENT_RESERVATION, 4096),
        (op::MAXIMUM_RESERVATION, 8192),
        (op::MAXIMUM_GPFN, 0x4_0003),
    ] {
        let mut domain = DomainId::SELF;
        assert_eq!(guest.with(MEMORY_OP, cmd, &mut domain), expected);
        assert_eq!(guest.with(MEMORY_OP, cmd, &mut DomainId(2)), -1);
        assert_eq!(guest.with(MEMORY_OP, cmd, &mut DomainId(3)), -3);
        assert_eq!(guest.bad_pointer(MEMORY_OP, cmd), -14);
    }
}

#[test]
fn the_rest_of_memory_op() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    for (cmd, expected) in [
        (op::INCREASE_RESERVATION, 0),
        (op::DECREASE_RESERVATION, 0),
        (op::POPULATE_PHYSMAP, 0),
        (op::MEMORY_MAP, -38),
        (op::EXCHANGE, -38),
        (op::GET_SHARING_FREED_PAGES, 0),
        (op::GET_SHARING_SHARED_PAGES, 0),
        (op::ADD_TO_PHYSMAP_BATCH, -3),
        (op::ADD_TO_PHYSMAP_BATCH | 1 << 22, -33),
        (63, -38),
        (63 | 1 << 6, -38),
        (op::GET_SHARING_FREED_PAGES | 1 << 6, -38),
        (op::POPULATE_PHYSMAP | 7 << 6, 7),
        (op::ADD_TO_PHYSMAP | 1 << 6, -22),
        (op::MAXIMUM_RAM_PAGE | 1 << 6, -22),
        (op::CLAIM_PAGES | 1 << 6, -22),
        (op::GET_VNUMA_INFO | 1 << 6, -22),
    ] {
        assert_eq!(guest.returns(MEMORY_OP, &[cmd, SCRATCH]), expected, "{cmd}");
    }
    for cmd in [op::ADD_TO_PHYSMAP, op::REMOVE_FROM_PHYSMAP] {
        assert_eq!(guest.bad_pointer(MEMORY_OP, cmd), -14);
    }
}

/// What is of a control domain is looked at as far as Xen looks at it before it refuses.
#[test]
fn what_control_domains_do_is_refused() {
    let machine = Machine::new(2, 1);
    let guest = machine.guest(1);
    for (domid, claim, vnuma, acquire) in [
        (DomainId::SELF, -22, -95, -3),
        (DomainId(1), -1, -95, -1),
        (DomainId(2), -1, -1, -1),
        (DomainId(3), -22, -3, -3),
        (DomainId::XEN, -22, -3, -3),
    ] {
        let mut request = op::Reservation {
            domid,
            ..Default::default()
        };
        assert_eq!(guest.with(MEMORY_OP, op::CLAIM_PAGES, &mut request), claim);
        request.extent_order = 1;
        assert_eq!(guest.with(MEMORY_OP, op::CLAIM_PAGES, &mut request), -22);
        let mut request = op::VnumaTopology {
            domid,
            ..Default::default()
        };
        assert_eq!(
            guest.with(MEMORY_OP, op::GET_VNUMA_INFO, &mut request),
            vnuma
        );
        request.reserved = 1;
        assert_eq!(guest.with(MEMORY_OP, op::GET_VNUMA_INFO, &mut request), -22);
        let mut request = op::AcquireResource {
            domid,
            ..Default::default()
        };
        assert_eq!(
            guest.with(MEMORY_OP, op::ACQUIRE_RESOURCE, &mut request),
            acquire
        );
        request.reserved = 1;
        assert_eq!(
            guest.with(MEMORY_OP, op::ACQUIRE_RESOURCE, &mut request),
            -22
        );
    }
    for cmd in [op::CLAIM_PAGES, op::GET_VNUMA_INFO, op::ACQUIRE_RESOURCE] {
        assert_eq!(guest.bad_pointer(MEMORY_OP, cmd), -14);
    }
    assert_eq!(
        add_for(&guest, DomainId(3), op::SPACE_DEVICE_MMIO, 0, 0x100),
        -3
    );
    assert_eq!(
        add_for(&guest, DomainId(3), op::SPACE_GMFN_FOREIGN, 0, 0x100),
        -38
    );
}

fn query(guest: &Guest, dom: DomainId) -> grant_table::QuerySize {
    let mut request = grant_table::QuerySize {
        dom,
        ..grant_table::QuerySize::default()
    };
    let result = guest.with(GRANT_TABLE_OP, grant_table::QUERY_SIZE, &mut request);
    assert_eq!(result, 0);
    request
}

#[test]
fn the_grant_table_says_its_size() {
    let machine = Machine::new(2, 1);
    let guest = machine.guest(1);
    let size = query(&guest, DomainId::SELF);
    assert_eq!(
        (size.status, size.nr_frames, size.max_nr_frames),
        (0, 1, 64)
    );
    assert_eq!(query(&guest, DomainId(2)).status, -8);
    assert_eq!(query(&guest, DomainId(3)).status, -2);
    assert_eq!(add(&guest, op::SPACE_GRANT_TABLE, 9, 0x3_8000), 0);
    assert_eq!(query(&guest, DomainId(1)).nr_frames, 10);
}

#[test]
fn setup_table_grows_and_lists() {
    let machine = Machine::new(2, 1);
    let guest = machine.guest(1);
    let list = SCRATCH + 0x100;
    let setup = |dom, nr_frames, frame_list| {
        let mut request = grant_table::SetupTable {
            dom,
            nr_frames,
            frame_list,
            status: 99,
            ..grant_table::SetupTable::default()
        };
        let result = guest.with(GRANT_TABLE_OP, grant_table::SETUP_TABLE, &mut request);
        assert_eq!(result, 0);
        request.status
    };
    assert_eq!(add(&guest, op::SPACE_GRANT_TABLE, 1, 0x3_8001), 0);
    assert_eq!(setup(DomainId::SELF, 20, list), 0);
    assert_eq!(query(&guest, DomainId::SELF).nr_frames, 20);
    let frames: [u64; 20] = guest.get(list);
    assert_eq!(frames[..3], [u64::MAX, 0x3_8001, u64::MAX]);
    assert_eq!(setup(DomainId::SELF, 0, 0), 0);
    assert_eq!(setup(DomainId::SELF, 65, list), -1);
    assert_eq!(setup(DomainId::SELF, 2, 8), -5);
    assert_eq!(setup(DomainId::SELF, 2, u64::MAX - 7), -5);
    assert_eq!(setup(DomainId(2), 1, list), -8);
    assert_eq!(setup(DomainId(3), 1, list), -2);
}

#[test]
fn there_is_version_1_alone() {
    let machine = Machine::new(2, 1);
    let guest = machine.guest(1);
    for (version, result) in [(1, 0), (2, -38), (0, -22), (3, -22)] {
        let mut request = grant_table::SetVersion { version };
        let got = guest.with(GRANT_TABLE_OP, grant_table::SET_VERSION, &mut request);
        assert_eq!((got, request.version), (result, 1));
    }
    for (dom, result) in [
        (DomainId::SELF, 0),
        (DomainId(1), 0),
        (DomainId(2), -1),
        (DomainId(3), -3),
    ] {
        let mut request = grant_table::GetVersion {
            dom,
            ..grant_table::GetVersion::default()
        };
        let got = guest.with(GRANT_TABLE_OP, grant_table::GET_VERSION, &mut request);
        assert_eq!(got, result);
        assert_eq!(request.version, u32::from(result == 0));
    }
}

#[test]
fn grant_calls_that_are_not_there_say_so() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    for cmd in [3, 13, 99] {
        assert_eq!(guest.returns(GRANT_TABLE_OP, &[cmd, SCRATCH, 1]), -38);
    }
    for cmd in [grant_table::QUERY_SIZE, grant_table::SETUP_TABLE] {
        for count in [0, 2, 1 << 31] {
            assert_eq!(guest.returns(GRANT_TABLE_OP, &[cmd, SCRATCH, count]), -22);
        }
    }
    for cmd in 0..13 {
        let progress = if cmd == 12 { -14 } else { -22 };
        assert_eq!(
            guest.returns(GRANT_TABLE_OP, &[cmd | 1 << 12, 8, 1]),
            progress
        );
        if cmd != 3 {
            assert_eq!(guest.bad_pointer(GRANT_TABLE_OP, cmd), -14);
        }
    }
}

#[test]
fn the_grant_table_stays_within_its_limit() {
    let machine = Machine::with(1, 1, |config| config.max_grant_frames = 0);
    let guest = machine.guest(1);
    assert_eq!(query(&guest, DomainId::SELF).max_nr_frames, 1);
    assert_eq!(add(&guest, op::SPACE_GRANT_TABLE, 1, 0x100), -22);
    assert_eq!(guest.physical.new_pages.get(), 0);
}
