//! Two guests, every CPU of each, that do all they can with each other: `peer=ID`, `seed=N`, `rounds=N` a CPU. Grants, ports,
//! FIFO pages and the store's ring are shared and changed at any moment, by both, while calls that use them are under
//! way; the rest of the time they are [`super::wild`].
//!
//! What they may destroy is spare RAM; a hypercall never gets an address of what this guest stands on.

use super::wild::{Random, Wild};
use crate::check::{Outcome, Trouble, check};
use crate::raw::{hypercall, pointer, store64};
use crate::tests::{grants, smp};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use runtime::abi::{
    DomainId, GrantRef, Port, event_channel as event, grant_table, hypercall as number, memory_op,
    vcpu, xenstore as wire,
};
use runtime::xenstore::Store;
use runtime::{arguments::arguments, cpu, memory, println, xen};

/// Pages of spare RAM that are in play.
const PAGES: u64 = 64;
/// Places in the window where grants are mapped.
const PLACES: u64 = 32;
/// Entries, ports and handles in play.
const FEW: u64 = 48;

/// The turn of one CPU.
type Action = fn(&mut Colluder);

/// What is done how often.
const ACTIONS: [(u64, Action); 12] = [
    (6, Colluder::entry),
    (6, Colluder::map),
    (6, Colluder::unmap),
    (4, Colluder::copy),
    (2, Colluder::grant_rest),
    (6, Colluder::port),
    (2, Colluder::fifo),
    (3, Colluder::balloon),
    (2, Colluder::frames),
    (2, Colluder::vcpu),
    (6, Colluder::store),
    (4, Colluder::wild),
];

struct Colluder {
    random: Random,
    wild: Wild,
    ids: [DomainId; 4],
    /// First page of spare RAM.
    spare: u64,
    window: u64,
}

pub(crate) fn run() -> Outcome {
    static FINISHED: AtomicU32 = AtomicU32::new(0);
    static CALLS: AtomicU64 = AtomicU64::new(0);
    super::begin("collude");
    let number = |name, default| arguments().number(name).unwrap_or(default);
    let (seed, rounds) = (number("seed", 1), number("rounds", 2_000));
    let peer = DomainId(number("peer", 1) as u16);
    let own = grants::own_number()?;
    check!(peer != own, "peer= is this guest");
    println!("NOTE collude seed {seed} rounds {rounds}, {own} with {peer}");
    super::wild::map_devices();
    let work = move |index: usize| {
        let seed = seed
            .wrapping_mul(1_000)
            .wrapping_add(u64::from(own.0) * 10 + index as u64);
        if let Ok(mut colluder) = Colluder::new(seed, own, peer) {
            for _ in 0..rounds {
                colluder.turn();
            }
            CALLS.fetch_add(rounds, SeqCst);
        }
        FINISHED.fetch_add(1, SeqCst);
    };
    smp::everywhere(work, move || {
        work(0);
        // The others have masked nothing, and end like this one.
        while (FINISHED.load(SeqCst) as usize) < cpu::count() {
            runtime::hypercall::yield_now();
        }
        Ok(())
    })?;
    super::wild::calm();
    println!("NOTE collude {} turns", CALLS.load(SeqCst));
    Ok(())
}

impl Colluder {
    fn new(seed: u64, own: DomainId, peer: DomainId) -> Result<Self, Trouble> {
        Ok(Self {
            random: Random::new(seed),
            wild: Wild::new(seed ^ 0x5555),
            ids: [own, peer, DomainId::SELF, DomainId(0x7000)],
            spare: grants::page(0)?,
            window: xen::window().map_or(0, |(base, _)| base),
        })
    }

    fn turn(&mut self) {
        let all = ACTIONS.iter().map(|(weight, _)| weight).sum();
        let mut at = self.random.below(all);
        for (weight, action) in ACTIONS {
            if at < weight {
                return action(self);
            }
            at -= weight;
        }
    }

    fn wild(&mut self) {
        self.wild.act();
    }

    /// Mostly the peer.
    fn domain(&mut self) -> DomainId {
        match self.random.below(4) {
            0 => self.random.pick(&self.ids),
            1 => self.ids[0],
            _ => self.ids[1],
        }
    }

    fn few(&mut self) -> u64 {
        match self.random.below(16) {
            0 => self.random.argument(),
            _ => self.random.below(FEW),
        }
    }

    fn gref(&mut self) -> GrantRef {
        GrantRef(self.few() as u32)
    }

    fn page(&mut self) -> u64 {
        self.spare + self.random.below(PAGES) * memory::PAGE
    }

    /// Where things are mapped: the window, and at times spare RAM.
    fn place(&mut self) -> u64 {
        match self.random.below(8) {
            0 => self.page(),
            1 => self.random.argument(),
            _ => self.window + (0x300 + self.random.below(PLACES)) * memory::PAGE,
        }
    }

    /// An entry of the own table, whatever it is used for now. Half of them name a page that may be had.
    fn entry(&mut self) {
        let _ = runtime::grant::map(1);
        let flags = match self.random.below(4) {
            0 => self.random.argument() & 0xffff,
            1 => 0b101,
            _ => 1,
        };
        let gfn = match self.random.below(4) {
            0 => 0x1000 + self.random.below(16),
            _ => self.page() / memory::PAGE,
        };
        let domain = u64::from(self.domain().0);
        let reference = 8 + self.random.below(FEW - 8);
        let at = self.window + reference * 8;
        let _ = store64(at, flags | domain << 16 | gfn << 32);
    }

    fn grant_call<T, const COUNT: usize>(
        &mut self,
        command: u64,
        mut items: [T; COUNT],
    ) -> [T; COUNT] {
        let count = self.random.below(COUNT as u64 + 1);
        hypercall(
            number::GRANT_TABLE_OP,
            [command, pointer(&mut items), count, 0, 0],
        );
        items
    }

    fn map(&mut self) {
        let mut items = [(); 4].map(|()| grant_table::MapGrantRef {
            host_addr: self.place(),
            flags: match self.random.below(8) {
                0 => self.random.argument() as u32,
                1..4 => 6,
                _ => 2,
            },
            gref: self.gref(),
            dom: self.domain(),
            ..Default::default()
        });
        // QEMU 10.0 fails an assertion of its own if a hypercall is to write where stage 2 lets read alone: what hypercalls
        // may write is in spare RAM, and is mapped over to write, or not at all.
        let spare = self.spare..self.spare + PAGES * memory::PAGE;
        for item in &mut items {
            if spare.contains(&item.host_addr) {
                item.flags = 2;
            }
        }
        let items = self.grant_call(grant_table::MAP_GRANT_REF, items);
        // What is the other's is written.
        for item in items {
            let _ = store64(
                self.window + item.host_addr % 0x40_0000 / 8 * 8,
                self.random.next(),
            );
        }
    }

    fn unmap(&mut self) {
        let items = [(); 4].map(|()| grant_table::UnmapGrantRef {
            host_addr: self.place(),
            handle: self.few() as u32,
            ..Default::default()
        });
        self.grant_call(grant_table::UNMAP_GRANT_REF, items);
    }

    fn side(&mut self) -> (grant_table::CopyPointer, bool) {
        let is_grant = self.random.below(4) != 0;
        let side = grant_table::CopyPointer {
            frame_or_ref: match is_grant {
                true => self.few(),
                false => self.page() / memory::PAGE,
            },
            domid: match is_grant {
                true => self.domain(),
                false => DomainId::SELF,
            },
            offset: self.random.argument() as u16 & 0x1fff,
            reserved: 0,
        };
        (side, is_grant)
    }

    fn copy(&mut self) {
        let items = [(); 3].map(|()| {
            let ((source, from), (dest, to)) = (self.side(), self.side());
            grant_table::GrantCopy {
                source,
                dest,
                len: self.random.argument() as u16 & 0x1fff,
                flags: u16::from(from) | u16::from(to) << 1,
                ..Default::default()
            }
        });
        self.grant_call(grant_table::COPY, items);
    }

    fn grant_rest(&mut self) {
        let items = [(); 2].map(|()| grant_table::SwapGrantRef {
            ref_a: self.gref(),
            ref_b: self.gref(),
            ..Default::default()
        });
        self.grant_call(grant_table::SWAP_GRANT_REF, items);
        let items = [(); 2].map(|()| grant_table::UnmapAndReplace {
            host_addr: self.place(),
            new_addr: self.random.below(2) * self.place(),
            handle: self.few() as u32,
            ..Default::default()
        });
        self.grant_call(grant_table::UNMAP_AND_REPLACE, items);
        let items = [(); 2].map(|()| grant_table::CacheFlush {
            dev_bus_addr: self.random.next() & 0xffff_ffff,
            offset: self.random.argument() as u16,
            length: self.random.argument() as u16,
            op: self.random.below(4) as u32,
        });
        self.grant_call(grant_table::CACHE_FLUSH, items);
    }

    fn event_call<T>(command: u64, mut argument: T) {
        hypercall(
            number::EVENT_CHANNEL_OP,
            [command, pointer(&mut argument), 0, 0, 0],
        );
    }

    fn port(&mut self) {
        let port = Port(self.few() as u32);
        let vcpu = self.random.below(3) as u32;
        match self.random.below(10) {
            0 => Self::event_call(
                event::ALLOC_UNBOUND,
                event::AllocUnbound {
                    dom: DomainId::SELF,
                    remote_dom: self.domain(),
                    port,
                },
            ),
            1 => Self::event_call(
                event::BIND_INTERDOMAIN,
                event::BindInterdomain {
                    remote_dom: self.domain(),
                    remote_port: port,
                    ..Default::default()
                },
            ),
            2 => Self::event_call(event::BIND_IPI, event::BindIpi { vcpu, port }),
            3 => Self::event_call(event::BIND_VCPU, event::BindVcpu { port, vcpu }),
            4 => Self::event_call(event::CLOSE, port),
            5 => Self::event_call(event::UNMASK, port),
            6 => Self::event_call(
                event::BIND_VIRQ,
                event::BindVirq {
                    virq: self.random.below(26) as u32,
                    vcpu,
                    port,
                },
            ),
            7 if self.random.below(32) == 0 => {
                let dom = self.domain();
                Self::event_call(event::RESET, event::Reset { dom });
            }
            _ => {
                for port in 1..1 + self.random.below(FEW) {
                    Self::event_call(event::SEND, Port(port as u32));
                }
            }
        }
    }

    /// Control blocks and arrays in pages that are filled with anything at the same time.
    fn fifo(&mut self) {
        match self.random.below(4) {
            0 => Self::event_call(
                event::INIT_CONTROL,
                event::InitControl {
                    control_gfn: self.page() / memory::PAGE,
                    offset: self.random.below(513) as u32 * 8,
                    vcpu: self.random.below(3) as u32,
                    ..Default::default()
                },
            ),
            1 => Self::event_call(
                event::EXPAND_ARRAY,
                event::ExpandArray {
                    array_gfn: self.page() / memory::PAGE,
                },
            ),
            2 => Self::event_call(
                event::SET_PRIORITY,
                event::SetPriority {
                    port: Port(self.few() as u32),
                    priority: self.random.below(18) as u32,
                },
            ),
            _ => {
                for _ in 0..64 {
                    let at = self.page() + self.random.below(512) * 8;
                    let _ = store64(at, self.random.next());
                }
            }
        }
    }

    fn balloon(&mut self) {
        let mut gfns = [(); 8].map(|()| self.page() / memory::PAGE);
        let mut request = memory_op::Reservation {
            extent_start: pointer(&mut gfns),
            nr_extents: self.random.below(9),
            domid: DomainId::SELF,
            ..Default::default()
        };
        let command = self.random.pick(&[
            memory_op::DECREASE_RESERVATION,
            memory_op::POPULATE_PHYSMAP,
            memory_op::POPULATE_PHYSMAP,
        ]);
        hypercall(number::MEMORY_OP, [command, pointer(&mut request), 0, 0, 0]);
    }

    /// The hypervisor's own pages in this guest's map, and out of it. Not the frames that [`Self::entry`] writes.
    fn frames(&mut self) {
        let gpfn = self.place() / memory::PAGE;
        let index = 4 + self.random.below(8);
        let domid = DomainId::SELF;
        if self.random.below(2) == 0 {
            let mut request = memory_op::AddToPhysmap {
                domid,
                size: 0,
                space: memory_op::SPACE_GRANT_TABLE,
                index,
                gpfn,
            };
            hypercall(
                number::MEMORY_OP,
                [memory_op::ADD_TO_PHYSMAP, pointer(&mut request), 0, 0, 0],
            );
        } else {
            let mut request = memory_op::RemoveFromPhysmap {
                domid,
                gpfn,
                ..Default::default()
            };
            hypercall(
                number::MEMORY_OP,
                [
                    memory_op::REMOVE_FROM_PHYSMAP,
                    pointer(&mut request),
                    0,
                    0,
                    0,
                ],
            );
        }
    }

    /// Where a vCPU's runstate goes: a page that may go at any moment.
    fn vcpu(&mut self) {
        let mut request = vcpu::RegisterRunstateArea {
            address: self.page() + self.random.below(4096),
        };
        let vcpu = self.random.below(3);
        hypercall(
            number::VCPU_OP,
            [
                vcpu::REGISTER_RUNSTATE_MEMORY_AREA,
                vcpu,
                pointer(&mut request),
                0,
                0,
            ],
        );
        let kind = vcpu::VMASST_RUNSTATE_UPDATE_FLAG;
        hypercall(number::VM_ASSIST, [self.random.below(2), kind, 0, 0, 0]);
    }

    /// Messages to the store, most of them wrong somewhere; indices that are nowhere.
    fn store(&mut self) {
        let Some(store) = Store::open() else {
            return;
        };
        let store = core::mem::ManuallyDrop::new(store);
        let mut message = [0_u32; 64];
        let length = match self.random.below(8) {
            0 => self.random.argument() as u32,
            _ => self.random.below(48) as u32 * 4,
        };
        message[0] = self.random.below(30) as u32;
        message[1] = self.random.next() as u32;
        message[2] = self.random.below(4) as u32;
        message[3] = length;
        let id = self.domain().0;
        let paths = [
            alloc::format!("/local/domain/{id}/data/x\0b{id}\0"),
            alloc::format!("data/{}\0some text\0", self.random.below(40)),
            alloc::format!("/local/domain/{id}/data\0token\0"),
            alloc::string::String::from("T\0"),
        ];
        let text = &paths[self.random.below(4) as usize];
        for (index, word) in message[4..].iter_mut().enumerate() {
            let bytes = text.as_bytes().get(index * 4..).unwrap_or_default();
            let mut four = [0; 4];
            for (slot, byte) in four.iter_mut().zip(bytes) {
                *slot = *byte;
            }
            *word = u32::from_le_bytes(four);
        }
        let produced = store.word(wire::RING_REQUEST_PROD);
        let at = produced.load(SeqCst);
        for (index, word) in message.iter().enumerate() {
            let offset = (at as usize / 4 + index) * 4 % wire::RING_SIZE;
            store.word(wire::RING_REQUEST + offset).store(*word, SeqCst);
        }
        let end = match self.random.below(16) {
            0 => self.random.next() as u32,
            1 => at,
            _ => at.wrapping_add(16 + length.min(240)),
        };
        produced.store(end, SeqCst);
        store.notify();
        // What it answers is not read; room is made.
        let answers = store.word(wire::RING_RESPONSE_PROD).load(SeqCst);
        let taken = match self.random.below(16) {
            0 => self.random.next() as u32,
            _ => answers,
        };
        store.word(wire::RING_RESPONSE_CONS).store(taken, SeqCst);
        if self.random.below(64) == 0 {
            // A new start, as the protocol has it.
            store.word(wire::RING_CONNECTION).store(1, SeqCst);
            store.notify();
        }
    }
}
