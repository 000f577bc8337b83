//! The balloon, and many pages of the hypervisor's at once.

use super::support::{BASE, Guest, Machine, RAM_GFN, RAM_PAGES, SCRATCH};
use crate::{Outcome, hypercall};
use abi::hypercall::MEMORY_OP;
use abi::{DomainId, memory_op as op};

const LIST: u64 = BASE + 0x1000;

fn call(guest: &Guest, cmd: u64, gfns: &[u64], change: impl Fn(&mut op::Reservation)) -> i64 {
    for (index, gfn) in gfns.iter().enumerate() {
        guest.put(LIST + index as u64 * 8, gfn);
    }
    let mut request = op::Reservation {
        extent_start: LIST,
        nr_extents: gfns.len() as u64,
        domid: DomainId::SELF,
        ..op::Reservation::default()
    };
    change(&mut request);
    guest.with(MEMORY_OP, cmd, &mut request)
}

#[test]
fn pages_go_and_come_and_counts_are_told() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let (first, last) = (RAM_GFN, RAM_GFN + RAM_PAGES - 1);
    assert_eq!(
        call(&guest, op::POPULATE_PHYSMAP, &[first], |_| {}),
        0,
        "has all"
    );
    let gone = call(
        &guest,
        op::DECREASE_RESERVATION,
        &[first, last, 5, first],
        |_| {},
    );
    assert_eq!(gone, 2, "as far as it went");
    assert_eq!(call(&guest, op::DECREASE_RESERVATION, &[first], |_| {}), 0);
    assert_eq!(
        call(&guest, op::POPULATE_PHYSMAP, &[7, 1 << 40, 8], |_| {}),
        1
    );
    assert!(guest.physical.map.borrow().contains_key(&7));
    assert_eq!(
        call(&guest, op::POPULATE_PHYSMAP, &[9, 10], |_| {}),
        1,
        "up to its limit"
    );
    assert_eq!(call(&guest, op::INCREASE_RESERVATION, &[9], |_| {}), 0);
}

#[test]
fn extents_have_an_order() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let order = |order| move |request: &mut op::Reservation| request.extent_order = order;
    assert_eq!(
        call(&guest, op::DECREASE_RESERVATION, &[RAM_GFN], order(10)),
        0
    );
    assert_eq!(
        call(
            &guest,
            op::DECREASE_RESERVATION,
            &[RAM_GFN],
            order(u32::MAX)
        ),
        0
    );
    assert_eq!(
        call(&guest, op::DECREASE_RESERVATION, &[RAM_GFN], order(1)),
        1
    );
    assert_eq!(guest.physical.map.borrow().len() as u64, RAM_PAGES - 2);
    assert_eq!(
        call(&guest, op::POPULATE_PHYSMAP, &[0x100, 0x200], order(1)),
        1
    );
    assert_eq!(
        call(&guest, op::DECREASE_RESERVATION, &[u64::MAX], order(1)),
        0
    );
}

#[test]
fn what_no_reservation_is_changes_nothing() {
    let machine = Machine::new(2, 1);
    let guest = machine.guest(1);
    for (result, change) in [
        (
            0,
            (|request| request.domid = DomainId(2)) as fn(&mut op::Reservation),
        ),
        (0, |request| request.domid = DomainId(3)),
        (0, |request| request.extent_start = 8),
        (0, |request| request.extent_start = u64::MAX - 3),
        (0, |request| request.nr_extents = u64::MAX),
        (0, |request| request.mem_flags = 12),
    ] {
        let got = call(&guest, op::DECREASE_RESERVATION, &[RAM_GFN], change);
        assert_eq!(got, result);
    }
    assert_eq!(guest.bad_pointer(MEMORY_OP, op::DECREASE_RESERVATION), 0);
    assert_eq!(guest.physical.map.borrow().len() as u64, RAM_PAGES);
    assert_eq!(
        call(&guest, op::DECREASE_RESERVATION, &[RAM_GFN], |request| {
            request.mem_flags = 32;
        }),
        1
    );
    let on_demand = |request: &mut op::Reservation| request.mem_flags = 1 << 16;
    assert_eq!(call(&guest, op::POPULATE_PHYSMAP, &[RAM_GFN], on_demand), 0);
}

/// A long call is made again from where it was; a command that says where to go on is believed.
#[test]
fn long_calls_go_on() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let ram: Vec<_> = (0..600).map(|_| super::support::page()).collect();
    for (index, page) in ram.iter().enumerate() {
        let gfn = 0x1000 + index as u64;
        guest
            .physical
            .map
            .borrow_mut()
            .insert(gfn, page.address().get());
    }
    guest.physical.ram.borrow_mut().extend(ram);
    let extents = [0x1000, 0x1000 + 512];
    let gone = call(&guest, op::DECREASE_RESERVATION, &extents, |request| {
        request.extent_order = 9;
    });
    assert_eq!(gone, 1, "the second is not all there");
    assert_eq!(guest.physical.map.borrow().len() as u64, RAM_PAGES);
    // One step fills 32 pages.
    guest.put(LIST, &0x2000_u64);
    let mut registers = [op::POPULATE_PHYSMAP | 1 << 54, SCRATCH, 0, 0, 0];
    let request = op::Reservation {
        extent_start: LIST,
        nr_extents: 1,
        extent_order: 9,
        domid: DomainId::SELF,
        ..op::Reservation::default()
    };
    guest.put(SCRATCH, &request);
    assert_eq!(
        hypercall(&guest, MEMORY_OP, &mut registers),
        Outcome::Restart
    );
    assert_eq!(registers[0], op::POPULATE_PHYSMAP | 33 << 54);
    assert!(!guest.physical.map.borrow().contains_key(&0x2000));
    assert_eq!(guest.physical.map.borrow().len() as u64, RAM_PAGES + 32);
}

/// What a boot loader does before it starts the next kernel.
#[test]
fn ram_under_shared_info_comes_back() {
    let machine = Machine::new(1, 1);
    let guest = machine.guest(1);
    let mut add = op::AddToPhysmap {
        domid: DomainId::SELF,
        space: op::SPACE_SHARED_INFO,
        gpfn: RAM_GFN,
        ..op::AddToPhysmap::default()
    };
    assert_eq!(guest.with(MEMORY_OP, op::ADD_TO_PHYSMAP, &mut add), 0);
    assert_eq!(
        call(&guest, op::DECREASE_RESERVATION, &[RAM_GFN], |_| {}),
        0
    );
    // Over the page of the hypervisor's: then that is mapped nowhere.
    assert_eq!(call(&guest, op::POPULATE_PHYSMAP, &[RAM_GFN], |_| {}), 1);
    add.gpfn = 0x100;
    assert_eq!(guest.with(MEMORY_OP, op::ADD_TO_PHYSMAP, &mut add), 0);
}

fn batch(guest: &Guest, space: u16, foreign: DomainId, entries: &[(u64, u64)]) -> (i64, Vec<i32>) {
    let (gpfns, errors) = (LIST + 0x1000, LIST + 0x2000);
    for (number, (index, gpfn)) in entries.iter().enumerate() {
        guest.put(LIST + number as u64 * 8, index);
        guest.put(gpfns + number as u64 * 8, gpfn);
        guest.put(errors + number as u64 * 4, &99_i32);
    }
    let mut request = op::AddToPhysmapBatch {
        domid: DomainId::SELF,
        space,
        size: entries.len() as u16,
        foreign_domid: foreign,
        idxs: LIST,
        gpfns,
        errs: errors,
    };
    let result = guest.with(MEMORY_OP, op::ADD_TO_PHYSMAP_BATCH, &mut request);
    let errors = (0..entries.len() as u64).map(|number| guest.get(errors + number * 4));
    (result, errors.collect())
}

#[test]
fn many_pages_are_added_at_once() {
    let machine = Machine::new(2, 1);
    let guest = machine.guest(1);
    let grants = op::SPACE_GRANT_TABLE as u16;
    let frames: Vec<_> = (0..60)
        .map(|frame| (59 - frame, 0x3_8000 + frame))
        .collect();
    let (result, errors) = batch(&guest, grants, DomainId(0), &frames);
    assert_eq!((result, errors), (0, vec![0; 60]));
    let (result, errors) = batch(&guest, grants, DomainId(0), &[(64, 1), (3, 2), (61, 3)]);
    assert_eq!((result, errors), (0, vec![-22, -16, 0]));
    assert_eq!(batch(&guest, grants, DomainId(0), &[]).0, 0);
    let foreign = op::SPACE_GMFN_FOREIGN as u16;
    for (domain, error) in [
        (DomainId(2), -1),
        (DomainId(3), -3),
        (DomainId(1), -22),
        (DomainId::SELF, -22),
        (DomainId::IO, -1),
    ] {
        assert_eq!(
            batch(&guest, foreign, domain, &[(1, 2), (2, 3)]),
            (0, vec![error; 2])
        );
    }
    assert_eq!(batch(&guest, 3, DomainId(0), &[(0, 0)]).0, -95);
    assert_eq!(batch(&guest, 5, DomainId(0), &[(0, 0)]).0, -13);
    assert_eq!(batch(&guest, 2, DomainId(0), &[(0, 0)]), (0, vec![-38]));
    guest.put(
        SCRATCH,
        &op::AddToPhysmapBatch {
            domid: DomainId::SELF,
            space: 1,
            size: 3,
            ..Default::default()
        },
    );
    assert_eq!(
        guest.returns(MEMORY_OP, &[op::ADD_TO_PHYSMAP_BATCH, SCRATCH]),
        -14
    );
    let beyond = op::ADD_TO_PHYSMAP_BATCH | 3 << 6;
    assert_eq!(guest.returns(MEMORY_OP, &[beyond, SCRATCH]), -84);
}
