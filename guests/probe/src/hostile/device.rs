//! A guest that has a device of the board, and does all that it can with the device's interrupt: `seed=N`, `rounds=N` a
//! CPU. It writes its distributor's registers around that interrupt, and those of others, as they come; lets
//! the line stand high and ends the interrupt all the same; takes it and does not end it. With `dies` it crashes in
//! the midst of that.

use super::wild::Random;
use crate::check::{Outcome, check, fail};
use crate::raw::{store8, store32, store64};
use crate::tests::devices::{self, register};
use crate::tests::smp;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use core::time::Duration;
use runtime::abi::{guest_layout, sched};
use runtime::gic::{self, distributor};
use runtime::mmio::Mmio;
use runtime::{arguments::arguments, cpu, hypercall, interrupt, println, timer};

/// SPIs of which it writes: those of the first words.
const WORDS: u64 = 8;
/// How often in a row the handler leaves the line high.
const STUBBORN: u32 = 40;

/// The clock's registers, for the handler; 0: none.
static CLOCK: AtomicU64 = AtomicU64::new(0);
static CAME: AtomicU32 = AtomicU32::new(0);

/// Leaves the line high most of the time, so that it comes again at once.
fn careless(_: u32) {
    let came = CAME.fetch_add(1, SeqCst);
    if came.is_multiple_of(STUBBORN) {
        let _ = store32(CLOCK.load(SeqCst) + register::CLEAR as u64, 1);
    }
}

struct Storm {
    random: Random,
    clock: Mmio,
    intid: u32,
}

impl Storm {
    /// A register with a bit for each interrupt.
    fn bits(&mut self) {
        let register = self.random.pick(&[
            distributor::ISENABLER,
            distributor::ISENABLER,
            distributor::ICENABLER,
            distributor::ISPENDR,
            distributor::ICPENDR,
            distributor::ISACTIVER,
            distributor::ICACTIVER,
            distributor::ICACTIVER,
        ]);
        let (word, bits) = match self.random.below(4) {
            0 => (1 + self.random.below(WORDS - 1), self.random.next() as u32),
            _ => (u64::from(self.intid / 32), 1 << (self.intid % 32)),
        };
        let _ = store32(Self::distributor(register) + word * 4, bits);
    }

    fn distributor(offset: usize) -> u64 {
        guest_layout::GICV3_DISTRIBUTOR + offset as u64
    }

    /// Priority, trigger and target of it, or of another.
    fn settings(&mut self) {
        let intid = match self.random.below(4) {
            0 => 32 + self.random.below((WORDS - 1) * 32),
            _ => u64::from(self.intid),
        };
        let value = self.random.next();
        match self.random.below(4) {
            0 => {
                let _ = store8(
                    Self::distributor(distributor::IPRIORITYR) + intid,
                    value as u8,
                );
            }
            1 => gic::set_edge(intid as u32, value & 1 == 0),
            2 => {
                let _ = store8(
                    Self::distributor(distributor::ITARGETSR) + intid,
                    value as u8,
                );
            }
            _ => {
                let target = self.random.below(4) | (value & 1) << 31;
                let _ = store64(Self::distributor(distributor::IROUTER) + intid * 8, target);
            }
        }
    }

    fn device(&mut self) {
        let clock = self.clock;
        match self.random.below(4) {
            // An alarm now, or soon.
            0 | 1 => {
                let soon = clock.read32(register::DATA) + self.random.below(2) as u32;
                clock.write32(register::MATCH, soon);
            }
            2 => clock.write32(register::MASK, self.random.below(4).min(1) as u32),
            _ => clock.write32(register::CLEAR, 1),
        }
    }

    /// Takes what is there with interrupts masked, and ends it, or half of it, or not.
    fn take(&mut self) {
        let before = cpu::mask();
        let split = self.random.below(2) == 0;
        gic::split_end(split);
        for _ in 0..self.random.below(3) {
            if let Some(taken) = gic::acknowledge() {
                gic::end(taken);
                if split && self.random.below(4) != 0 {
                    gic::deactivate(taken);
                }
            }
        }
        gic::split_end(false);
        cpu::restore(before);
    }

    fn turn(&mut self) {
        match self.random.below(16) {
            0..7 => self.bits(),
            7..10 => self.settings(),
            10..14 => self.device(),
            14 => self.take(),
            _ => timer::spin(Duration::from_micros(self.random.below(50))),
        }
    }

    /// All as it should be, whatever it was.
    fn calm(&mut self) {
        self.clock.write32(register::MASK, 0);
        self.clock.write32(register::CLEAR, 1);
        for intid in 32..WORDS as u32 * 32 {
            gic::disable(intid);
            gic::clear_active(intid);
            gic::clear_pending(intid);
        }
        interrupt::off(self.intid);
        gic::set_edge(self.intid, false);
        interrupt::reset();
    }
}

pub(crate) fn run() -> Outcome {
    super::begin("device-storm");
    let Some((clock, intid)) = devices::clock() else {
        fail!("no arm,pl031");
    };
    let number = |name, default| arguments().number(name).unwrap_or(default);
    let (seed, rounds) = (number("seed", 1), number("rounds", 20_000));
    let dies = arguments().flag("dies");
    println!("NOTE device-storm seed {seed} rounds {rounds}, interrupt {intid}");
    CLOCK.store(clock.base(), SeqCst);
    interrupt::on(intid, careless);
    let storm = move |index: usize| Storm {
        random: Random::new(seed * 100 + index as u64),
        clock,
        intid,
    };
    let rage = move |index: usize| {
        let mut storm = storm(index);
        for _ in 0..rounds {
            storm.turn();
        }
        storm
    };
    smp::everywhere(
        move |index| {
            rage(index);
        },
        move || {
            let storm = rage(0);
            if dies {
                // At its worst: high, enabled, pending or active, on whatever CPU.
                storm.clock.write32(register::MASK, 1);
                storm
                    .clock
                    .write32(register::MATCH, storm.clock.read32(register::DATA));
                let _ = hypercall::shutdown(sched::SHUTDOWN_CRASH);
            }
            Ok(())
        },
    )?;
    storm(0).calm();
    println!(
        "NOTE device-storm: the interrupt came {} times",
        CAME.load(SeqCst)
    );
    check!(
        CAME.load(SeqCst) > 10,
        "it came {} times",
        CAME.load(SeqCst)
    );
    // What it is good for goes on.
    devices::rtc()
}
