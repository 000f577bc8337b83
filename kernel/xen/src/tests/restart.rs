//! The end of a domain and its next life, as its peers see them.

use super::grants::{PLACE, READ_ONLY, READ_WRITE, grant, map, unmap};
use super::support::{BASE, EMPTY_FRAME, Machine, RAM_GFN, SCRATCH};
use crate::{Broken, StaticChannel};
use abi::hypercall::{MEMORY_OP, SCHED_OP, VCPU_OP, VM_ASSIST};
use abi::{DomainId, Port, event_channel as op, memory_op, sched, vcpu};
use proptest::prelude::*;
use std::sync::atomic::Ordering::SeqCst;

/// Breaks all maps that others have of a domain's frames, and says in how many steps.
fn break_all(machine: &Machine, granter: u16) -> usize {
    let mut steps = 0;
    for (state, _) in &machine.domains {
        let mut from = 0;
        while let Broken::Next(next) = state.break_maps(machine, DomainId(granter), from) {
            assert!(next > from, "nobody maps meanwhile");
            (from, steps) = (next, steps + 1);
        }
    }
    steps
}

/// All that the image does with the Xen side of a domain between two lives.
fn live_again(machine: &Machine, domain: u16, channels: &[StaticChannel]) {
    let state = machine.guest(domain).state;
    while !state.disconnect_all(machine) {}
    machine.dead.set(Some(DomainId(domain)));
    state.close_grants();
    break_all(machine, domain);
    while !state.release_maps(machine) {}
    state.shared_info.clear();
    state.pages.lock().grant_page(0).unwrap().clear();
    state.renew(channels).unwrap();
    machine.dead.set(None);
    for channel in channels {
        state.connect_channel(machine, channel);
    }
}

#[test]
fn an_empty_page_takes_the_place_of_what_a_dead_domain_granted() {
    let machine = Machine::new(3, 1);
    let (one, two, three) = (machine.guest(1), machine.guest(2), machine.guest(3));
    grant(&one, 8, 1, 2, RAM_GFN);
    grant(&three, 9, 1, 2, RAM_GFN + 1);
    let written = map(&two, 1, 8, READ_WRITE, PLACE).unwrap();
    let read = map(&two, 1, 8, READ_ONLY, PLACE + 1).unwrap();
    let others = map(&two, 3, 9, READ_WRITE, PLACE + 2).unwrap();
    live_again(&machine, 1, &[]);
    let frame = three.physical.frame(RAM_GFN + 1).unwrap().get();
    assert_eq!(
        machine.holds.borrow().iter().collect::<Vec<_>>(),
        [(&frame, &1)],
        "the other domain's frame is held as before, and no other"
    );
    {
        let granted = two.physical.granted.borrow();
        assert_eq!(granted[&PLACE], (EMPTY_FRAME.get(), true));
        assert_eq!(granted[&(PLACE + 1)], (EMPTY_FRAME.get(), false));
        assert_eq!(granted[&(PLACE + 2)], (frame, true));
    }
    // The new life grants the same entry; the old handles have nothing to do with it.
    grant(&one, 8, 1, 2, RAM_GFN);
    let again = map(&two, 1, 8, READ_WRITE, PLACE + 3).unwrap();
    assert_eq!(unmap(&two, written.handle, PLACE), 0);
    assert_eq!(unmap(&two, read.handle, PLACE + 1), 0);
    assert_eq!(one.state.grants.active.lock().uses(), 1);
    assert_eq!(unmap(&two, others.handle, PLACE + 2), 0);
    assert_eq!(unmap(&two, again.handle, PLACE + 3), 0);
    assert!(machine.holds.borrow().is_empty());
    assert_eq!(unmap(&two, again.handle, PLACE + 3), -4, "given back");
}

#[test]
fn maps_are_broken_in_steps() {
    let machine = Machine::new(2, 1);
    let (one, two) = (machine.guest(1), machine.guest(2));
    grant(&one, 8, 1, 2, RAM_GFN);
    for number in 0..100 {
        map(&two, 1, 8, READ_WRITE, PLACE + number).unwrap();
    }
    one.state.close_grants();
    assert!(break_all(&machine, 1) >= 12);
    assert!(machine.holds.borrow().is_empty());
    // The domain that mapped ends in its turn: there is nothing to give back, and nothing to break any more.
    two.state.close_grants();
    while !two.state.release_maps(&machine) {}
    break_all(&machine, 1);
}

#[test]
fn a_new_life_begins_as_the_first_did() {
    let channel = |port, peer, peer_port| StaticChannel {
        port: Port(port),
        peer: DomainId(peer),
        peer_port: Port(peer_port),
    };
    let (first, second) = ([channel(1, 2, 7)], [channel(7, 1, 1)]);
    let machine = Machine::with(2, 2, |config| {
        config.channels = match config.id.0 {
            1 => &[StaticChannel {
                port: Port(1),
                peer: DomainId(2),
                peer_port: Port(7),
            }],
            _ => &[StaticChannel {
                port: Port(7),
                peer: DomainId(1),
                peer_port: Port(1),
            }],
        };
    });
    let (one, two) = (machine.guest(1), machine.guest(2));
    one.state.connect_channel(&machine, &first[0]);
    let console = one.state.console_port();
    for _ in 0..3 {
        // What a life leaves behind: a registered vcpu_info, a bigger table, watchdogs, ports, a reason, an assist.
        let mut info = vcpu::RegisterVcpuInfo {
            gfn: RAM_GFN + 2,
            offset: 64,
            reserved: 0,
        };
        one.put(SCRATCH, &info);
        assert_eq!(
            one.returns(VCPU_OP, &[vcpu::REGISTER_VCPU_INFO, 1, SCRATCH]),
            0
        );
        info.offset = 128;
        one.put(SCRATCH, &info);
        let again = one.returns(VCPU_OP, &[vcpu::REGISTER_VCPU_INFO, 1, SCRATCH]);
        assert_eq!(again, -16, "once in a life");
        let mut place = memory_op::AddToPhysmap {
            domid: DomainId::SELF,
            size: 0,
            space: memory_op::SPACE_GRANT_TABLE,
            index: 3,
            gpfn: PLACE + 9,
        };
        assert_eq!(
            one.with(MEMORY_OP, memory_op::ADD_TO_PHYSMAP, &mut place),
            0
        );
        assert_eq!(one.state.pages.lock().grant_frames(), 4);
        let mut watchdog = sched::Watchdog { id: 0, timeout: 5 };
        assert_eq!(one.with(SCHED_OP, sched::WATCHDOG, &mut watchdog), 1);
        assert_eq!(one.returns(VM_ASSIST, &[vcpu::VMASST_CMD_ENABLE, 5]), 0);
        one.put(BASE, &sched::SHUTDOWN_CRASH);
        assert_eq!(one.returns(SCHED_OP, &[sched::SHUTDOWN_CODE, BASE]), 0);
        let unbound = op::AllocUnbound {
            dom: DomainId::SELF,
            remote_dom: DomainId(2),
            port: Port(0),
        };
        let offered = one.event(op::ALLOC_UNBOUND, unbound).unwrap();
        assert_ne!(Some(offered.port), console);

        live_again(&machine, 1, &first);
        assert_eq!(one.state.console_port(), console);
        assert_eq!(one.state.pages.lock().grant_frames(), 1);
        assert_eq!(one.state.next_watchdog(), None);
        assert_eq!(one.state.shutdown_reason(3), 3);
        assert_eq!(one.state.assists.load(SeqCst), 0);
        let port = one.event(op::ALLOC_UNBOUND, unbound).unwrap().port;
        assert_eq!(port, offered.port, "the same is free");
        let close = op::Close { port };
        one.event(op::CLOSE, close).unwrap();
        // The static channel is there again, both ways.
        for (guest, port) in [(&one, 1), (&two, 7)] {
            guest
                .event(op::SEND, op::Send { port: Port(port) })
                .unwrap();
        }
    }
    let _ = second;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(4)))]
    /// Whatever was mapped of a domain before its end, nothing of it is held or used afterwards, and what was mapped of
    /// others is as before.
    #[test]
    fn nothing_of_an_old_life_is_held(
        maps in prop::collection::vec((1_u16..4, 1_u16..4, 0_u32..8, any::<bool>()), 0..60),
        dying in 1_u16..4,
    ) {
        let machine = Machine::new(3, 1);
        for domain in 1..4 {
            for to in 1..4_u16 {
                for entry in 0..8 {
                    let reference = 8 + u32::from(to) * 8 + entry;
                    let gfn = RAM_GFN + u64::from(entry) % 4;
                    grant(&machine.guest(domain), reference, 1, to, gfn);
                }
            }
        }
        let mut handles = Vec::new();
        for (number, (who, whose, entry, write)) in (0..).zip(maps) {
            let flags = if write { READ_WRITE } else { READ_ONLY };
            let reference = 8 + u32::from(who) * 8 + entry;
            let gfn = PLACE + number;
            if let Ok(item) = map(&machine.guest(who), whose, reference, flags, gfn) {
                handles.push((who, whose, item.handle, gfn));
            }
        }
        live_again(&machine, dying, &[]);
        let left = handles.iter().filter(|(who, whose, ..)| *who != dying && *whose != dying);
        let held: u32 = machine.holds.borrow().values().sum();
        prop_assert_eq!(held as usize, left.count());
        for (who, _, handle, gfn) in handles {
            let status = unmap(&machine.guest(who), handle, gfn);
            prop_assert_eq!(status == 0, who != dying);
        }
        prop_assert!(machine.holds.borrow().is_empty());
        for domain in 1..4 {
            prop_assert_eq!(machine.guest(domain).state.grants.active.lock().uses(), 0);
        }
    }
}
