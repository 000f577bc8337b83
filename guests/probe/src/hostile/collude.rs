//! Two guests, every CPU of each, that do all they can with each other: `peer=ID`, `seed=N`, until so many hypercalls were
//! made, `calls=N`. Grants, ports,
//! FIFO pages and the store's ring are shared and changed at any moment, by both, while calls that use them are under
//! way; structures lie where none may lie; the rest of the time they are [`super::wild`].
//!
//! What they may destroy is spare RAM; a hypercall never gets an address of what this guest stands on.

mod aim;
mod rings;
mod storms;

use super::wild::{Random, Wild};
use crate::check::{Outcome, Trouble, check};
use crate::raw::{calls, hypercall, store64};
use crate::tests::{grants, smp};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use runtime::abi::{
    DomainId, GrantRef, Port, event_channel as event, grant_table, hvm, hypercall as number,
    memory_op, vcpu,
};
use runtime::{arguments::arguments, cpu, memory, println, xen};

/// Pages of spare RAM that are in play.
const PAGES: u64 = 64;
/// Places in the window where grants are mapped.
const PLACES: u64 = 32;
/// Entries, ports and handles in play.
const FEW: u64 = 48;
/// Hypercalls from one word of it to the next.
const STRETCH: u64 = 100_000;

/// The turn of one CPU.
type Action = fn(&mut Colluder);

/// What is done how often.
const ACTIONS: [(u64, Action); 15] = [
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
    (1, Colluder::console),
    (2, Colluder::interrupts),
    (1, Colluder::events),
    (4, Colluder::wild),
];

struct Colluder {
    random: Random,
    wild: Wild,
    ids: [DomainId; 4],
    /// First page of spare RAM.
    spare: u64,
    window: u64,
    /// The page of the PV console's ring.
    console: u64,
    /// Whether output of this guest waits for this CPU alone.
    prints: bool,
}

pub(crate) fn run() -> Outcome {
    static FINISHED: AtomicU32 = AtomicU32::new(0);
    static TURNS: AtomicU64 = AtomicU64::new(0);
    super::begin("collude");
    let number = |name, default| arguments().number(name).unwrap_or(default);
    let (seed, wanted) = (number("seed", 1), number("calls", 20_000));
    let peer = DomainId(number("peer", 1) as u16);
    let own = grants::own_number()?;
    check!(peer != own, "peer= is this guest");
    println!("NOTE collude seed {seed} calls {wanted}, {own} with {peer}");
    super::wild::map_devices();
    let work = move |index: usize| {
        let seed = seed
            .wrapping_mul(1_000)
            .wrapping_add(u64::from(own.0) * 10 + index as u64);
        if let Ok(mut colluder) = Colluder::new(seed, own, peer, index == 0) {
            let mut told = 0;
            while calls() < wanted {
                colluder.turn();
                TURNS.fetch_add(1, SeqCst);
                if index == 0 && calls() / STRETCH > told {
                    told = calls() / STRETCH;
                    println!("NOTE collude goes on: {} hypercalls", calls());
                }
            }
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
    let turns = TURNS.load(SeqCst);
    println!("NOTE collude made {} hypercalls in {turns} turns", calls());
    Ok(())
}

impl Colluder {
    fn new(seed: u64, own: DomainId, peer: DomainId, prints: bool) -> Result<Self, Trouble> {
        let console = runtime::hypercall::parameter(hvm::PARAM_CONSOLE_PFN);
        Ok(Self {
            random: Random::new(seed),
            wild: Wild::new(seed ^ 0x5555),
            ids: [own, peer, DomainId::SELF, DomainId(0x7000)],
            spare: grants::page(0)?,
            window: xen::window().map_or(0, |(base, _)| base),
            console: console.unwrap_or(0) * memory::PAGE,
            prints,
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
        let at = self.aim(&mut items);
        hypercall(number::GRANT_TABLE_OP, [command, at, count, 0, 0]);
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

    fn event_call<T>(&mut self, command: u64, mut argument: T) {
        let at = self.aim(&mut argument);
        hypercall(number::EVENT_CHANNEL_OP, [command, at, 0, 0, 0]);
    }

    fn port(&mut self) {
        let port = Port(self.few() as u32);
        let vcpu = self.random.below(3) as u32;
        let domain = self.domain();
        match self.random.below(10) {
            0 => self.event_call(
                event::ALLOC_UNBOUND,
                event::AllocUnbound {
                    dom: DomainId::SELF,
                    remote_dom: domain,
                    port,
                },
            ),
            1 => self.event_call(
                event::BIND_INTERDOMAIN,
                event::BindInterdomain {
                    remote_dom: domain,
                    remote_port: port,
                    ..Default::default()
                },
            ),
            2 => self.event_call(event::BIND_IPI, event::BindIpi { vcpu, port }),
            3 => self.event_call(event::BIND_VCPU, event::BindVcpu { port, vcpu }),
            4 => self.event_call(event::CLOSE, port),
            5 => self.event_call(event::UNMASK, port),
            6 => {
                let virq = self.random.below(26) as u32;
                self.event_call(event::BIND_VIRQ, event::BindVirq { virq, vcpu, port });
            }
            7 if self.random.below(32) == 0 => {
                self.event_call(event::RESET, event::Reset { dom: domain });
            }
            8 => {
                let mut status = event::Status {
                    dom: domain,
                    port,
                    ..Default::default()
                };
                let at = self.aim(&mut status);
                hypercall(number::EVENT_CHANNEL_OP, [event::STATUS, at, 0, 0, 0]);
            }
            _ => {
                for port in 1..1 + self.random.below(FEW) {
                    self.event_call(event::SEND, Port(port as u32));
                }
            }
        }
    }

    /// Control blocks and arrays in pages that are filled with anything at the same time.
    fn fifo(&mut self) {
        let gfn = self.page() / memory::PAGE;
        match self.random.below(4) {
            0 => {
                let request = event::InitControl {
                    control_gfn: gfn,
                    offset: self.random.below(513) as u32 * 8,
                    vcpu: self.random.below(3) as u32,
                    ..Default::default()
                };
                self.event_call(event::INIT_CONTROL, request);
            }
            1 => self.event_call(event::EXPAND_ARRAY, event::ExpandArray { array_gfn: gfn }),
            2 => {
                let request = event::SetPriority {
                    port: Port(self.few() as u32),
                    priority: self.random.below(18) as u32,
                };
                self.event_call(event::SET_PRIORITY, request);
            }
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
            extent_start: self.aim(&mut gfns),
            nr_extents: self.random.below(9),
            domid: DomainId::SELF,
            ..Default::default()
        };
        let command = self.random.pick(&[
            memory_op::DECREASE_RESERVATION,
            memory_op::POPULATE_PHYSMAP,
            memory_op::POPULATE_PHYSMAP,
        ]);
        let at = self.aim(&mut request);
        hypercall(number::MEMORY_OP, [command, at, 0, 0, 0]);
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
            let at = self.aim(&mut request);
            let arguments = [memory_op::ADD_TO_PHYSMAP, at, 0, 0, 0];
            hypercall(number::MEMORY_OP, arguments);
        } else {
            let mut request = memory_op::RemoveFromPhysmap {
                domid,
                gpfn,
                ..Default::default()
            };
            let at = self.aim(&mut request);
            let arguments = [memory_op::REMOVE_FROM_PHYSMAP, at, 0, 0, 0];
            hypercall(number::MEMORY_OP, arguments);
        }
    }

    /// Where a vCPU's runstate goes: a page that may go at any moment.
    fn vcpu(&mut self) {
        let mut request = vcpu::RegisterRunstateArea {
            address: self.page() + self.random.below(4096),
        };
        let vcpu = self.random.below(3);
        let at = self.aim(&mut request);
        let arguments = [vcpu::REGISTER_RUNSTATE_MEMORY_AREA, vcpu, at, 0, 0];
        hypercall(number::VCPU_OP, arguments);
        let kind = vcpu::VMASST_RUNSTATE_UPDATE_FLAG;
        hypercall(number::VM_ASSIST, [self.random.below(2), kind, 0, 0, 0]);
    }
}
