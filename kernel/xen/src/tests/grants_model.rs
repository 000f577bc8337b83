//! Random uses of grants between three domains, beside a list of what should be mapped.

use super::grants::{PLACE, READ_ONLY, READ_WRITE, copy, entry, grant, map, side, unmap};
use super::support::{Machine, RAM_GFN, RAM_PAGES};
use abi::hypercall::MEMORY_OP;
use abi::{DomainId, memory_op};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;

const DOMAINS: u16 = 3;
const ENTRIES: u32 = 4;
const PLACES: u64 = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A guest writes one of its entries: flags, to whom, which page.
    Grant(u16, u32, u16, u16, u64),
    /// Domain, granter, entry, whether it is to write, where.
    Map(u16, u16, u32, bool, u64),
    /// Domain, handle, where.
    Unmap(u16, u32, u64),
    /// Domain, granter, entry, whether to the grant.
    Copy(u16, u16, u32, bool),
    /// A page goes, or comes.
    Balloon(u16, u64, bool),
    End(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let domain = || 1..=DOMAINS;
    let reference = || 8..8 + ENTRIES;
    let page = || 0..RAM_PAGES + 1;
    let flags = prop_oneof![6 => Just(1_u16), 2 => Just(5), 1 => Just(0), 1 => any::<u16>()];
    prop_oneof![
        6 => (domain(), reference(), flags, domain(), page())
            .prop_map(|(domain, entry, flags, to, page)| Step::Grant(domain, entry, flags, to, page)),
        8 => (domain(), domain(), reference(), any::<bool>(), 0..PLACES)
            .prop_map(|(domain, from, entry, write, place)| Step::Map(domain, from, entry, write, place)),
        6 => (domain(), 0..6_u32, 0..PLACES)
            .prop_map(|(domain, handle, place)| Step::Unmap(domain, handle, place)),
        4 => (domain(), domain(), reference(), any::<bool>())
            .prop_map(|(domain, from, entry, to)| Step::Copy(domain, from, entry, to)),
        3 => (domain(), 0..RAM_PAGES, any::<bool>())
            .prop_map(|(domain, page, comes)| Step::Balloon(domain, page, comes)),
        1 => domain().prop_map(Step::End),
    ]
}

/// What the model knows of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mapped {
    granter: u16,
    reference: u32,
    frame: u64,
    write: bool,
    /// Where it was put; another map may have taken its place.
    gfn: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(2)))]

    #[test]
    fn what_is_mapped_was_granted_and_is_held(steps in prop::collection::vec(step(), 1..80)) {
        let machine = Machine::new(DOMAINS, 1);
        let mut maps: BTreeMap<(u16, u32), Mapped> = BTreeMap::new();
        let mut alive = [true; DOMAINS as usize + 1];
        for step in steps {
            match step {
                Step::Grant(domain, reference, flags, to, page) if alive[domain as usize] => {
                    // A guest that behaves leaves an entry alone that is in use.
                    let guest = machine.guest(domain);
                    if entry(&guest, reference).load(SeqCst) & 0b11000 == 0 {
                        grant(&guest, reference, flags & !0b11000, to, RAM_GFN + page);
                    }
                }
                Step::Map(domain, granter, reference, write, place) if alive[domain as usize] => {
                    let guest = machine.guest(domain);
                    let words = |alive: bool| match alive {
                        true => entry(&machine.guest(granter), reference).load(SeqCst),
                        false => 0,
                    };
                    let before = words(alive[granter as usize] && machine.dead.get() != Some(DomainId(granter)));
                    let flags = if write { READ_WRITE } else { READ_ONLY };
                    let gfn = PLACE + place;
                    let result = map(&guest, granter, reference, flags, gfn);
                    let user = |map: &&Mapped| map.granter == granter && map.reference == reference;
                    let in_use = maps.values().find(user).copied();
                    if let Ok(item) = result {
                        prop_assert!(alive[granter as usize]);
                        prop_assert!(before as u16 & 4 == 0 || !write);
                        let frame = item.dev_bus_addr;
                        match in_use {
                            Some(map) => prop_assert_eq!(frame, map.frame),
                            None => {
                                prop_assert_eq!(before as u16 & 0b11, 1);
                                prop_assert_eq!((before >> 16) as u16, domain);
                            }
                        }
                        let map = Mapped { granter, reference, frame, write, gfn };
                        prop_assert_eq!(maps.insert((domain, item.handle), map), None);
                    }
                }
                Step::Unmap(domain, handle, place) if alive[domain as usize] => {
                    let gfn = PLACE + place;
                    let guest = machine.guest(domain);
                    let there = guest.physical.granted.borrow().get(&gfn).map(|(frame, _)| *frame);
                    let status = unmap(&guest, handle, gfn);
                    match maps.get(&(domain, handle)) {
                        None => prop_assert_eq!(status, -4),
                        Some(map) if map.gfn == gfn && there == Some(map.frame) => {
                            prop_assert_eq!(status, 0);
                            maps.remove(&(domain, handle));
                        }
                        Some(_) => prop_assert_eq!(status, -1),
                    }
                }
                Step::Copy(domain, granter, reference, to) if alive[domain as usize] => {
                    let guest = machine.guest(domain);
                    let own = side(DomainId::SELF, RAM_GFN, 0);
                    let theirs = side(DomainId(granter), u64::from(reference), 8);
                    let status = match to {
                        true => copy(&guest, 2, own, theirs, 16),
                        false => copy(&guest, 1, theirs, own, 16),
                    };
                    prop_assert!(alive[granter as usize] || [-2, -9].contains(&status));
                    prop_assert!([0, -1, -2, -9].contains(&status), "{}", status);
                }
                Step::Balloon(domain, page, comes) if alive[domain as usize] => {
                    let guest = machine.guest(domain);
                    let command = match comes {
                        true => memory_op::POPULATE_PHYSMAP,
                        false => memory_op::DECREASE_RESERVATION,
                    };
                    guest.put(super::support::BASE, &(RAM_GFN + page));
                    let mut request = memory_op::Reservation {
                        extent_start: super::support::BASE,
                        nr_extents: 1,
                        domid: DomainId::SELF,
                        ..Default::default()
                    };
                    guest.with(MEMORY_OP, command, &mut request);
                }
                Step::End(domain) if alive[domain as usize] => {
                    let guest = machine.guest(domain);
                    guest.state.close_grants();
                    while !guest.state.release_maps(&machine) {}
                    guest.physical.granted.borrow_mut().clear();
                    guest.physical.map.borrow_mut().clear();
                    alive[domain as usize] = false;
                    maps.retain(|(mapper, _), _| *mapper != domain);
                }
                _ => {}
            }
            // Each map holds its frame, and nothing else does.
            let mut holds: BTreeMap<u64, u32> = BTreeMap::new();
            for map in maps.values() {
                *holds.entry(map.frame).or_default() += 1;
            }
            prop_assert_eq!(&*machine.holds.borrow(), &holds);
            for domain in 1..=DOMAINS {
                // Whatever a domain reaches was granted to it, for as much.
                let guest = machine.guest(domain);
                for (gfn, (frame, write)) in guest.physical.granted.borrow().iter() {
                    let covered = maps.iter().any(|((mapper, _), map)| {
                        *mapper == domain && (map.frame, map.write, map.gfn) == (*frame, *write, *gfn)
                    });
                    prop_assert!(covered);
                }
                // The uses of a table are the maps of it, and its entries say so.
                let of = |map: &&Mapped| map.granter == domain;
                let uses = guest.state.grants.active.lock().uses();
                let expected = maps.values().filter(of).count();
                prop_assert_eq!(uses as usize, if alive[domain as usize] { expected } else { 0 });
                for reference in 8..8 + ENTRIES {
                    if !alive[domain as usize] {
                        continue;
                    }
                    let used = |write: bool| maps.values().filter(of).any(|map| {
                        map.reference == reference && (map.write || !write)
                    });
                    let flags = entry(&guest, reference).load(SeqCst) as u16;
                    prop_assert_eq!(flags & 8 != 0, used(false));
                    prop_assert_eq!(flags & 16 != 0, used(true));
                }
            }
        }
    }
}
