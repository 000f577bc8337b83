//! For tests and fuzzing only: what guests may send, from any bytes, and what must hold whatever they are.

use crate::support::{BASE, Machine, RAM_GFN, SCRATCH, SIZE};
use crate::{Outcome, hypercall};
use abi::event_channel as event;
use abi::hypercall::{EVENT_CHANNEL_OP, GRANT_TABLE_OP, MEMORY_OP};
use abi::{DomainId, GrantRef, Port, grant_table, memory_op};
use std::sync::atomic::Ordering::SeqCst;
use zerocopy::{Immutable, IntoBytes};

/// Domains in play.
const DOMAINS: u16 = 3;

/// Bytes, one after the other; zeros when there are no more.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn below(&mut self, limit: u8) -> u64 {
        u64::from(self.byte() % limit)
    }

    /// A number as callers have it: small, a domain, an address, an edge, or anything.
    fn number(&mut self) -> u64 {
        const EDGES: [u64; 8] = [
            0x7ff0,
            0x7ff2,
            1 << 31,
            1 << 32,
            1 << 63,
            4095,
            1024,
            u64::MAX,
        ];
        let byte = u64::from(self.byte());
        match byte >> 5 {
            0..3 => byte & 31,
            3 => BASE + (byte & 31) * 64,
            4 => BASE + SIZE - (byte & 31),
            5 => RAM_GFN + (byte & 7),
            6 => EDGES[byte as usize & 7],
            _ => (0..8).fold(byte, |value, _| value << 8 | u64::from(self.byte())),
        }
    }
}

/// A hypercall, to its end or for a while.
pub(crate) fn call(machine: &Machine, domain: u16, vcpu: u32, nr: u64, arguments: [u64; 5]) {
    let guest = machine.vcpu(domain, vcpu);
    let mut registers = arguments;
    for _ in 0..40 {
        let outcome = hypercall(&guest, nr, &mut registers);
        if let Outcome::Poll(_) = outcome {
            guest.state.end_poll(guest.vcpu);
        }
        if outcome != Outcome::Restart {
            break;
        }
    }
}

/// All end, and nothing is held any more: no port, no frame.
fn end(machine: &Machine) {
    for (state, physical) in &machine.domains {
        state.close_grants();
        while !state.release_maps(machine) {}
        while !state.disconnect_all(machine) {}
        physical.granted.borrow_mut().clear();
        assert_eq!(state.events.pollers.load(SeqCst), 0);
    }
    assert!(machine.holds.borrow().is_empty(), "a frame is still held");
    for (state, _) in &machine.domains {
        for port in 1..state.events.ports() {
            let channel = state.events.channel(port).expect("a port");
            let is_open = format!("{:?}", channel.binding());
            assert!(
                ["Free", "Service"]
                    .iter()
                    .any(|word| is_open.starts_with(word)),
                "{port}: {is_open}"
            );
        }
    }
}

/// Any calls of any numbers, over memory that is filled with the first bytes.
pub fn hypercalls(bytes: &[u8]) {
    let machine = Machine::new(DOMAINS, 2);
    let mut source = Source(bytes);
    for (_, physical) in &machine.domains {
        let mut memory = physical.memory.borrow_mut();
        for word in memory.chunks_mut(8).take(64) {
            word.copy_from_slice(&source.number().to_le_bytes());
        }
    }
    while !source.0.is_empty() {
        let who = source.byte();
        let nr = match source.byte() {
            nr @ 0..64 => u64::from(nr),
            nr => [12, 13, 17, 18, 20, 21, 24, 29, 32, 34][usize::from(nr) % 10],
        };
        let arguments = [(); 5].map(|()| source.number());
        let domain = 1 + u16::from(who) % DOMAINS;
        call(&machine, domain, u32::from(who >> 4 & 1), nr, arguments);
    }
    end(&machine);
}

/// Calls of one domain.
struct Actor<'a> {
    machine: &'a Machine,
    domain: u16,
}

impl Actor<'_> {
    fn with<T: IntoBytes + Immutable>(&self, nr: u64, command: u64, argument: &T) {
        self.machine.guest(self.domain).put(SCRATCH, argument);
        call(
            self.machine,
            self.domain,
            0,
            nr,
            [command, SCRATCH, 1, 0, 0],
        );
    }
}

/// Ports, grants and pages that three domains share, in an order that the bytes say.
pub fn sharing(bytes: &[u8]) {
    let machine = Machine::new(DOMAINS, 2);
    let mut source = Source(bytes);
    while !source.0.is_empty() {
        let what = source.byte();
        let domain = 1 + u16::from(what >> 4) % DOMAINS;
        let actor = Actor {
            machine: &machine,
            domain,
        };
        let other = DomainId(1 + source.below(4) as u16);
        let port = Port(source.below(24) as u32);
        let reference = GrantRef(8 + source.below(4) as u32);
        let gfn = RAM_GFN + source.below(6);
        let place = 0x100 + source.below(4);
        match what & 15 {
            0 => actor.with(
                EVENT_CHANNEL_OP,
                event::ALLOC_UNBOUND,
                &event::AllocUnbound {
                    dom: DomainId::SELF,
                    remote_dom: other,
                    port,
                },
            ),
            1 => actor.with(
                EVENT_CHANNEL_OP,
                event::BIND_INTERDOMAIN,
                &event::BindInterdomain {
                    remote_dom: other,
                    remote_port: port,
                    ..Default::default()
                },
            ),
            2 => actor.with(EVENT_CHANNEL_OP, event::SEND, &port),
            3 => actor.with(EVENT_CHANNEL_OP, event::CLOSE, &port),
            4 => actor.with(EVENT_CHANNEL_OP, event::UNMASK, &port),
            5 => actor.with(
                EVENT_CHANNEL_OP,
                event::INIT_CONTROL,
                &event::InitControl {
                    control_gfn: gfn,
                    offset: u32::from(source.byte()) * 8,
                    vcpu: u32::from(what >> 7),
                    ..Default::default()
                },
            ),
            6 => actor.with(
                EVENT_CHANNEL_OP,
                event::EXPAND_ARRAY,
                &event::ExpandArray { array_gfn: gfn },
            ),
            7 if source.byte() < 16 => actor.with(
                EVENT_CHANNEL_OP,
                event::RESET,
                &event::Reset {
                    dom: DomainId::SELF,
                },
            ),
            8 | 7 => {
                // The guest's own store to its table.
                let page = machine.guest(domain).state.pages.lock().grant_page(0);
                let page = page.expect("the first frame");
                let flags = u64::from(source.byte());
                let entry = flags | u64::from(other.0) << 16 | gfn << 32;
                let word = page.u64(reference.0 as usize * 8).expect("an entry");
                word.store(entry, SeqCst);
            }
            9 | 10 => actor.with(
                GRANT_TABLE_OP,
                grant_table::MAP_GRANT_REF,
                &grant_table::MapGrantRef {
                    host_addr: place << 12,
                    flags: [2, 6][usize::from(what >> 7)],
                    gref: reference,
                    dom: other,
                    ..Default::default()
                },
            ),
            11 => actor.with(
                GRANT_TABLE_OP,
                grant_table::UNMAP_GRANT_REF,
                &grant_table::UnmapGrantRef {
                    host_addr: place << 12,
                    handle: source.below(6) as u32,
                    ..Default::default()
                },
            ),
            12 => {
                let guest = machine.guest(domain);
                guest.put(BASE, &gfn);
                actor.with(
                    MEMORY_OP,
                    [memory_op::DECREASE_RESERVATION, memory_op::POPULATE_PHYSMAP]
                        [usize::from(what >> 7)],
                    &memory_op::Reservation {
                        extent_start: BASE,
                        nr_extents: 1,
                        domid: DomainId::SELF,
                        ..Default::default()
                    },
                );
            }
            13 => {
                // Anything into a page of its own, which may be a control block or event words.
                let guest = machine.guest(domain);
                let ram = guest.physical.ram.borrow();
                let page = ram[usize::from(source.byte()) % ram.len()];
                let value = source.number();
                let word = page.u64(usize::from(source.byte()) * 8).expect("a word");
                word.store(value, SeqCst);
            }
            14 => actor.with(
                EVENT_CHANNEL_OP,
                event::SET_PRIORITY,
                &event::SetPriority {
                    port,
                    priority: source.below(17) as u32,
                },
            ),
            _ => {
                actor.with(
                    EVENT_CHANNEL_OP,
                    event::BIND_IPI,
                    &event::BindIpi {
                        vcpu: source.below(3) as u32,
                        port,
                    },
                );
            }
        }
    }
    end(&machine);
}
