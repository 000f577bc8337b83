//! Random hypercalls, firmware calls, system registers and device accesses: `seed=N`, `rounds=N`
//! (default 10,000), `kinds=` any of `hvc`, `psci`, `sysreg`, `mmio` joined by `+`.
//!
//! The guest spares only what would end or blind itself: power calls, registers that it stands on, its
//! own RAM as a target.

use crate::check::{Outcome, fail};
use crate::raw;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use runtime::abi::{grant_table, guest_layout, hypercall as number, memory_op, psci as id, sched};
use runtime::psci::{self, Conduit};
use runtime::{arguments::arguments, exception, gic, interrupt, memory, println, timer};

/// xorshift64*: small, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A number as callers get them wrong: small, at an edge, or anything. Never a frame or an address
    /// of this guest's RAM, and never a number that stops it.
    pub(super) fn argument(&mut self) -> u64 {
        const EDGES: [u64; 18] = [
            0,
            1,
            3,
            4,
            7,
            0x7f,
            0xff,
            0x3ff,
            0x400,
            0x1000,
            0x7ff0,
            0x7fff,
            0xffff,
            0x3_8000,
            0x7fff_ffff,
            0xffff_ffff,
            u64::MAX,
            1 << 63,
        ];
        match self.below(4) {
            0 => self.below(16) & !2,
            1 => self.next() | 1 << 47,
            _ => self.pick(&EDGES),
        }
    }
}

/// What a wild guest prints, if it does.
const LINE: &[u8] = b"NOTE wild console_io\n";

/// One thing that a wild guest does.
type Action = fn(&mut Wild);

pub(super) struct Wild {
    random: Random,
    /// What hypercalls are pointed at, 8 KiB; nothing in it is ever read back.
    scratch: u64,
    words: &'static [AtomicU64],
    /// Names each hypercall first: boot argument `verbose`.
    verbose: bool,
}

/// All that a wild guest does.
const ACTIONS: [(&str, Action); 4] = [
    ("hvc", Wild::hypercall),
    ("psci", Wild::firmware),
    ("sysreg", Wild::system_register),
    ("mmio", Wild::device),
];

impl Wild {
    pub(super) fn new(seed: u64) -> Self {
        let words = (0..1024).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let words: &'static [AtomicU64] = words.leak();
        Self {
            random: Random::new(seed),
            scratch: words.as_ptr() as u64,
            words,
            verbose: arguments().flag("verbose"),
        }
    }

    /// Any one thing.
    pub(super) fn act(&mut self) {
        let (_, action) = self.random.pick(&ACTIONS);
        action(self);
    }

    fn pointer(&mut self) -> u64 {
        match self.random.below(4) {
            0 => self.random.argument(),
            // A place in the scratch pages, at times unaligned.
            1 => self.scratch + self.random.below(4096),
            _ => self.scratch + self.random.below(512) * 8,
        }
    }

    fn fill(&mut self) {
        for word in &self.words[..64] {
            word.store(self.random.argument(), Ordering::Relaxed);
        }
    }

    fn hypercall(&mut self) {
        self.fill();
        let known = [
            number::MEMORY_OP,
            number::MULTICALL,
            number::XEN_VERSION,
            number::CONSOLE_IO,
            number::GRANT_TABLE_OP,
            number::VM_ASSIST,
            number::VCPU_OP,
            number::SCHED_OP,
            number::EVENT_CHANNEL_OP,
            number::PHYSDEV_OP,
            number::HVM_OP,
            number::SYSCTL,
            number::DOMCTL,
        ];
        let call = if self.random.below(8) == 0 {
            self.random.argument()
        } else {
            self.random.pick(&known)
        };
        let mut command = if self.random.below(8) == 0 {
            self.random.argument()
        } else {
            self.random.below(32)
        };
        let mut second = self.pointer();
        let mut third = self.random.argument();
        match call {
            // Not to stop, not to sleep without end.
            number::SCHED_OP
                if matches!(
                    command,
                    sched::BLOCK | sched::SHUTDOWN | sched::POLL | sched::WATCHDOG
                ) =>
            {
                command = sched::YIELD;
            }
            // Count and buffer are the other way round here. What is written (command 0, and only its
            // lower half may count) is text, or from nowhere.
            number::CONSOLE_IO => {
                second = self.random.below(64);
                third = self.pointer();
                if command as u32 == 0 && (self.scratch..self.scratch + 8192).contains(&third) {
                    second = second.min(LINE.len() as u64);
                    third = LINE.as_ptr() as u64;
                }
            }
            // Results are written into the list, so one that lies in RAM has to end in the scratch pages.
            number::MULTICALL => {
                command = self.pointer();
                let in_scratch = (self.scratch..self.scratch + 4096).contains(&command);
                second = if in_scratch {
                    self.random.below(16)
                } else {
                    third
                };
            }
            number::VCPU_OP => (second, third) = (self.random.argument(), self.pointer()),
            // RAM that is given back is gone.
            number::MEMORY_OP if command & 63 == memory_op::DECREASE_RESERVATION => command += 1,
            number::GRANT_TABLE_OP if third > 64 && command != grant_table::QUERY_SIZE => {
                third %= 65;
            }
            _ => {}
        }
        let fourth = self.random.argument();
        let fifth = self.random.argument();
        if self.verbose {
            println!("NOTE hypercall {call:#x} {command:#x} {second:#x} {third:#x}");
        }
        raw::hypercall(call, [command, second, third, fourth, fifth]);
    }

    fn firmware(&mut self) {
        let conduit = if self.random.below(2) == 0 {
            Conduit::Hvc
        } else {
            Conduit::Smc
        };
        let base = self.random.pick(&[
            0x8400_0000u64,
            0xc400_0000,
            0x8000_0000,
            0x8600_0000,
            0xc600_0000,
            0,
        ]);
        let function = match self.random.below(4) {
            0 => self.random.argument(),
            1 => base | 0xff00 | self.random.below(4),
            _ => base | self.random.below(0x40),
        };
        let forbidden = [
            id::CPU_SUSPEND_32,
            id::CPU_SUSPEND_64,
            id::CPU_OFF,
            id::CPU_ON_32,
            id::CPU_ON_64,
            id::SYSTEM_OFF,
            id::SYSTEM_RESET,
            id::SYSTEM_SUSPEND_32,
            id::SYSTEM_SUSPEND_64,
            id::CPU_DEFAULT_SUSPEND_32,
            id::CPU_DEFAULT_SUSPEND_64,
            id::SYSTEM_RESET2_32,
            id::SYSTEM_RESET2_64,
            id::V0_1_CPU_OFF,
            id::V0_1_CPU_ON,
        ];
        if forbidden.contains(&(function as u32)) {
            return;
        }
        let arguments = [
            self.random.argument(),
            self.random.argument(),
            self.random.argument(),
        ];
        psci::call_by(conduit, function, arguments);
    }

    fn system_register(&mut self) {
        let op0 = 2 + self.random.below(2) as u32;
        let [op1, crn, crm, op2] = [8, 16, 16, 8].map(|limit| self.random.below(limit) as u32);
        // Reading ICC_IAR0/1 takes an interrupt and never ends it.
        let acknowledges = op0 == 3 && crn == 12 && matches!(crm, 8 | 12) && op2 == 0;
        // Writes only where nothing is that this guest stands on: debug, ID, performance, implementation
        // defined.
        let harmless = op0 == 2 || op0 == 3 && matches!(crn, 0 | 9 | 11 | 15);
        if self.random.below(2) == 0 {
            if !acknowledges {
                let _ = raw::execute(raw::mrs(op0, op1, crn, crm, op2), 0);
            }
        } else if harmless {
            let _ = raw::execute(raw::msr(op0, op1, crn, crm, op2), self.random.argument());
        }
    }

    fn device(&mut self) {
        let (base, size) = self.random.pick(&[
            (guest_layout::GICV3_DISTRIBUTOR, 0x1_0000),
            (guest_layout::GICV3_REDISTRIBUTORS, 0x8_0000),
            (guest_layout::VPL011, 0x1000),
            (
                guest_layout::GRANT_TABLE,
                guest_layout::GRANT_TABLE_SIZE / 2,
            ),
            (0x0200_0000, 0x10_0000),
            (0x3000_0000, 0x20_0000),
        ]);
        let width = 1 << self.random.below(4);
        let mut offset = self.random.below(size);
        if self.random.below(8) != 0 {
            offset &= !(width - 1);
        }
        let address = base + offset;
        let value = self.random.next();
        // A byte to the UART's data register is output, not an attack.
        let output = base == guest_layout::VPL011 && offset < 8;
        let _ = match (self.random.below(2), width) {
            (0, 1) => exception::load8(address).map(|_| ()),
            (0, 2) => exception::load16(address).map(|_| ()),
            (0, 4) => exception::load32(address).map(|_| ()),
            (0, _) => exception::load64(address).map(|_| ()),
            _ if output => Ok(()),
            (_, 1) => raw::store8(address, value as u8),
            (_, 2) => raw::store16(address, value as u16),
            (_, 4) => raw::store32(address, value as u32),
            _ => raw::store64(address, value),
        };
    }
}

pub(crate) fn run() -> Outcome {
    super::begin("wild");
    let seed = arguments().number("seed").unwrap_or(1);
    let rounds = arguments().number("rounds").unwrap_or(10_000);
    let kinds = arguments().get("kinds").unwrap_or("hvc+psci+sysreg+mmio");
    println!("NOTE wild seed {seed} rounds {rounds} kinds {kinds}");
    map_devices();
    let wanted =
        ACTIONS.map(|(name, action)| kinds.split('+').any(|kind| kind == name).then_some(action));
    if wanted.iter().flatten().next().is_none() {
        fail!("kinds={kinds} names nothing");
    }
    let mut wild = Wild::new(seed);
    let mut round = 0;
    while round < rounds {
        let index = wild.random.below(4) as usize;
        let Some(action) = wanted[index] else {
            continue;
        };
        action(&mut wild);
        round += 1;
        if round % 2_000 == 0 {
            println!("NOTE wild round {round}");
        }
    }
    calm();
    Ok(())
}

/// Maps what is accessed.
pub(super) fn map_devices() {
    for base in [
        0x0200_0000,
        guest_layout::GICV3_DISTRIBUTOR,
        guest_layout::VPL011,
        0x3000_0000,
    ] {
        memory::map_device(base, memory::PAGE);
    }
    memory::map_device(guest_layout::GICV3_REDISTRIBUTORS, 0x8_0000);
}

/// What it did to its own interrupts is undone, so that other tests may follow.
pub(super) fn calm() {
    gic::set_priority_mask(0xff);
    timer::clear_deadline();
    interrupt::reset();
}
