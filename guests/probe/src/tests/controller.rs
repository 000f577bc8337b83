//! The interrupt controller by hand: interrupts are masked, and each acknowledge and end is the test's own
//! (IHI 0048B chapter 3, IHI 0069 chapter 4). The same tests for both versions.

use super::interrupts::spare_spis;
use crate::check::{Outcome, Trouble, check, equal, fail};
use crate::raw::{self, TimerRegister};
use alloc::vec::Vec;
use core::time::Duration;
use runtime::gic::{self, Gic, Taken, Target, distributor};
use runtime::{cpu, entry, timer};

pub(crate) const LOW: u8 = 0xc0;
pub(crate) const MIDDLE: u8 = 0x80;
pub(crate) const HIGH: u8 = 0x40;

/// Acknowledges and ends, and clears up after itself.
pub(crate) struct Hand {
    intids: Vec<u32>,
    taken: Vec<Taken>,
}

impl Hand {
    /// With these interrupts enabled at these priorities.
    pub(crate) fn new(interrupts: &[(u32, u8)]) -> Self {
        for &(intid, priority) in interrupts {
            gic::enable(intid);
            gic::set_priority(intid, priority);
        }
        Self {
            intids: interrupts.iter().map(|&(intid, _)| intid).collect(),
            taken: Vec::with_capacity(16),
        }
    }

    /// Acknowledges; it must be `intid`, which may take a moment to come.
    pub(crate) fn take(&mut self, intid: u32) -> Outcome {
        match self.take_any(Duration::from_secs(20)) {
            Some(found) if found == intid => Ok(()),
            found => fail!("took {found:?}, not {intid}"),
        }
    }

    /// Acknowledges what comes in some time.
    pub(crate) fn take_any(&mut self, time: Duration) -> Option<u32> {
        let end = timer::now() + timer::ticks(time);
        loop {
            if let Some(taken) = gic::acknowledge() {
                self.taken.push(taken);
                return Some(taken.intid());
            }
            if timer::now() >= end {
                return None;
            }
        }
    }

    /// Nothing is signalled now, nor after a while.
    pub(crate) fn nothing(&mut self, what: &str) -> Outcome {
        match self.take_any(Duration::from_millis(1)) {
            None => Ok(()),
            Some(intid) => fail!("{what}: took {intid}"),
        }
    }

    /// Ends what was taken last.
    pub(crate) fn end(&mut self) {
        self.drop_priority();
    }

    /// The same, and what it was.
    pub(crate) fn drop_priority(&mut self) -> Option<Taken> {
        let taken = self.taken.pop()?;
        gic::end(taken);
        Some(taken)
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        while !self.taken.is_empty() {
            self.end();
        }
        for &intid in &self.intids {
            if intid >= 16 {
                gic::disable(intid);
                gic::clear_pending(intid);
            }
            gic::clear_active(intid);
            gic::set_priority(intid, gic::PRIORITY);
        }
        while let Some(left) = gic::acknowledge() {
            gic::end(left);
        }
    }
}

/// Runs `body` with interrupts masked.
fn by_hand(interrupts: &[(u32, u8)], body: impl FnOnce(&mut Hand) -> Outcome) -> Outcome {
    cpu::masked(|| body(&mut Hand::new(interrupts)))
}

fn send(intid: u32) {
    gic::send(intid, Target::Myself);
}

/// Only what is more urgent interrupts a handler, and the rest waits for its end.
pub(crate) fn preemption() -> Outcome {
    by_hand(&[(1, LOW), (2, MIDDLE), (3, HIGH)], |hand| {
        send(2);
        hand.take(2)?;
        equal!(gic::running_priority(), MIDDLE, "running priority");
        send(1);
        hand.nothing("less urgent")?;
        send(3);
        hand.take(3)?;
        equal!(
            gic::running_priority(),
            HIGH,
            "running priority, interrupted"
        );
        hand.end();
        equal!(gic::running_priority(), MIDDLE, "running priority, back");
        hand.nothing("less urgent, after the other's end")?;
        hand.end();
        hand.take(1)
    })
}

/// Priorities that differ only below the binary point do not preempt, and go first all the same.
pub(crate) fn binary_point() -> Outcome {
    // Two bits of group priority, in the way in which each version counts.
    let coarse = match gic::driver() {
        Some(Gic::V2(_)) => 5,
        _ => 6,
    };
    let before = gic::binary_point();
    gic::set_binary_point(coarse);
    let read = gic::binary_point();
    let outcome = by_hand(&[(1, 0xb0), (2, 0x90), (3, 0xa0), (4, HIGH)], |hand| {
        equal!(read, coarse, "binary point");
        send(1);
        hand.take(1)?;
        equal!(gic::running_priority() & 0xc0, 0x80, "running priority");
        send(3);
        send(2);
        hand.nothing("the same group")?;
        send(4);
        hand.take(4)?;
        hand.end();
        hand.end();
        hand.take(2)?;
        hand.end();
        hand.take(3)
    });
    gic::set_binary_point(before);
    outcome
}

/// EOImode 1: the end drops the priority alone, others come, and the interrupt is active until it is deactivated.
pub(crate) fn split_end() -> Outcome {
    gic::split_end(true);
    let outcome = by_hand(&[(1, LOW), (2, MIDDLE)], |hand| {
        send(2);
        hand.take(2)?;
        let Some(second) = hand.drop_priority() else {
            fail!("nothing to end");
        };
        check!(gic::is_active(2), "not active after the end");
        send(2);
        hand.nothing("active and pending")?;
        check!(gic::is_pending(2), "not pending while active");
        send(1);
        hand.take(1)?;
        if let Some(first) = hand.drop_priority() {
            gic::deactivate(first);
        }
        check!(!gic::is_active(1), "1 is active after its deactivation");
        gic::deactivate(second);
        check!(!gic::is_active(2), "2 is active after its deactivation");
        hand.take(2)?;
        if let Some(second) = hand.drop_priority() {
            gic::deactivate(second);
        }
        hand.nothing("all is over")
    });
    gic::split_end(false);
    outcome
}

/// With ends in two steps more interrupts are active than there are list registers (a Pi has four): all come, and each is
/// deactivated by its number, whatever the order. A GICv2 does not tell which one it was: there it is one too many.
pub(crate) fn split_many() -> Outcome {
    let count = match gic::driver() {
        Some(Gic::V2(_)) => 5,
        _ => 12,
    };
    let spis = spare_spis()?.take(count).map(|intid| (intid, MIDDLE));
    let spis: Vec<(u32, u8)> = spis.collect();
    gic::split_end(true);
    let outcome = by_hand(&spis, |hand| {
        let mut dropped = Vec::new();
        for &(intid, _) in &spis {
            gic::set_pending(intid);
            hand.take(intid)?;
            dropped.extend(hand.drop_priority().map(Some));
        }
        for turn in 0..count {
            let place = (turn * 7 + 3) % count;
            if let Some(taken) = dropped[place].take() {
                gic::deactivate(taken);
            }
            for (left, &(intid, _)) in dropped.iter().zip(&spis) {
                equal!(
                    gic::is_active(intid),
                    left.is_some(),
                    "{intid} active after {} were deactivated",
                    turn + 1
                );
            }
        }
        hand.nothing("all is over")
    });
    gic::split_end(false);
    outcome
}

/// Many more pending than list registers (a Pi has four): by priority, and an urgent one that comes last goes first.
pub(crate) fn many_in_order() -> Outcome {
    let spis = spare_spis()?;
    let priority = |intid: u32| (intid * 72 % 256) as u8 & 0xf8;
    let mut order: Vec<(u32, u8)> = spis.map(|intid| (intid, priority(intid))).collect();
    by_hand(&order.clone(), |hand| {
        for round in 0..2 {
            for &(intid, _) in &order {
                gic::set_pending(intid);
            }
            order.sort_by_key(|&(intid, priority)| (priority, intid));
            for &(intid, priority) in &order {
                let found = hand.take_any(Duration::from_secs(20));
                let Some(found) = found else {
                    fail!("{intid} does not come, round {round}");
                };
                equal!(
                    gic::priority(found),
                    priority,
                    "priority of {found}, in place of {intid}"
                );
                hand.end();
            }
            hand.nothing("each once")?;
        }
        for &(intid, _) in &order[1..] {
            gic::set_pending(intid);
        }
        let urgent = order[0].0;
        gic::set_priority(urgent, 0);
        gic::set_pending(urgent);
        hand.take(urgent)
    })
}

/// Handlers nested deeper than there are list registers end one after the other.
pub(crate) fn nested() -> Outcome {
    let first = spare_spis()?.start;
    let levels: Vec<(u32, u8)> = (0..7_u8)
        .map(|level| (first + u32::from(level), 0xe0 - 0x20 * level))
        .collect();
    by_hand(&levels, |hand| {
        for &(intid, priority) in &levels {
            gic::set_pending(intid);
            hand.take(intid)?;
            equal!(
                gic::running_priority(),
                priority,
                "running priority in {intid}"
            );
        }
        for (depth, &(_, priority)) in levels.iter().enumerate().rev() {
            equal!(
                gic::running_priority(),
                priority,
                "running priority on the way back"
            );
            let active = levels.iter().filter(|&&(intid, _)| gic::is_active(intid));
            equal!(active.count(), depth + 1, "active ones");
            hand.end();
        }
        hand.nothing("all is over")?;
        check!(!gic::is_active(first), "the first is active after its end");
        Ok(())
    })
}

/// The active state is a register's to set and clear: what is active is not signalled.
pub(crate) fn active_by_register() -> Outcome {
    let intid = spare_spis()?.start;
    by_hand(&[(intid, MIDDLE)], |hand| {
        gic::set_active(intid);
        check!(gic::is_active(intid), "not active");
        gic::set_pending(intid);
        check!(gic::is_pending(intid), "not pending");
        hand.nothing("active")?;
        gic::clear_active(intid);
        check!(!gic::is_active(intid), "active still");
        hand.take(intid)?;
        gic::clear_active(intid);
        check!(!gic::is_active(intid), "active after ICACTIVER");
        hand.end();
        hand.nothing("over")
    })
}

/// An edge that comes while the last one is handled is handled afterwards, once.
pub(crate) fn edge_again() -> Outcome {
    let intid = spare_spis()?.start;
    by_hand(&[(intid, MIDDLE)], |hand| {
        gic::set_edge(intid, true);
        gic::set_pending(intid);
        hand.take(intid)?;
        check!(!gic::is_pending(intid), "pending after the acknowledge");
        gic::set_pending(intid);
        gic::set_pending(intid);
        check!(gic::is_pending(intid), "not pending again");
        check!(gic::is_active(intid), "not active");
        hand.nothing("active")?;
        hand.end();
        hand.take(intid)?;
        hand.end();
        gic::set_edge(intid, false);
        hand.nothing("once more only")
    })
}

/// A level: pending for as long as the line is high, whatever is written, and not once it is low.
fn level_of(intid: u32, set_line: impl Fn(bool)) -> Outcome {
    let outcome = by_hand(&[(intid, MIDDLE)], |hand| {
        set_line(true);
        check!(gic::is_pending(intid), "not pending with the line high");
        set_line(false);
        check!(!gic::is_pending(intid), "pending with the line low");
        hand.nothing("the line is low")?;
        set_line(true);
        gic::clear_pending(intid);
        check!(
            gic::is_pending(intid),
            "not pending after ICPENDR with the line high"
        );
        hand.take(intid)?;
        check!(gic::is_active(intid), "not active");
        check!(
            gic::is_pending(intid),
            "not pending while handled, line high"
        );
        hand.nothing("active")?;
        hand.end();
        hand.take(intid)?;
        set_line(false);
        check!(!gic::is_pending(intid), "pending while handled, line low");
        hand.end();
        hand.nothing("the line is low again")?;
        check!(!gic::is_active(intid), "active after the end");
        Ok(())
    });
    set_line(false);
    gic::enable(intid);
    outcome
}

/// A level that a register write makes pending as well: that stays until the acknowledge, whatever the line does.
fn latch_of(intid: u32, set_line: impl Fn(bool)) -> Outcome {
    let outcome = by_hand(&[(intid, MIDDLE)], |hand| {
        gic::set_pending(intid);
        check!(gic::is_pending(intid), "not pending after ISPENDR");
        gic::clear_pending(intid);
        check!(!gic::is_pending(intid), "pending after ICPENDR");
        hand.nothing("taken back")?;
        set_line(true);
        check!(gic::is_pending(intid), "not pending with the line high");
        gic::set_pending(intid);
        set_line(false);
        check!(
            gic::is_pending(intid),
            "not pending after ISPENDR, line low again"
        );
        hand.take(intid)?;
        check!(!gic::is_pending(intid), "pending after the acknowledge");
        set_line(true);
        gic::set_pending(intid);
        set_line(false);
        check!(gic::is_pending(intid), "not pending while handled");
        hand.nothing("active")?;
        hand.end();
        hand.take(intid)?;
        hand.end();
        set_line(true);
        hand.take(intid)?;
        gic::set_pending(intid);
        hand.end();
        hand.take(intid)?;
        set_line(false);
        check!(!gic::is_pending(intid), "pending after the last of them");
        hand.end();
        hand.nothing("all is over")?;
        check!(!gic::is_active(intid), "active after the end");
        Ok(())
    });
    set_line(false);
    gic::enable(intid);
    outcome
}

fn set_virtual_line(high: bool) {
    timer::set_compare(0);
    timer::set_control(u64::from(high));
}

/// The virtual timer's interrupt, written to.
pub(crate) fn latch_virtual_timer() -> Outcome {
    latch_of(timer::intid(), set_virtual_line)
}

/// The virtual timer's interrupt, whose list register is linked to the physical one.
pub(crate) fn level_virtual_timer() -> Outcome {
    level_of(timer::intid(), set_virtual_line)
}

/// The physical timer's, which is emulated.
pub(crate) fn level_physical_timer() -> Outcome {
    with_physical_timer(level_of)
}

/// The same, written to.
pub(crate) fn latch_physical_timer() -> Outcome {
    with_physical_timer(latch_of)
}

fn with_physical_timer(test: impl FnOnce(u32, fn(bool)) -> Outcome) -> Outcome {
    let node = entry::tree().and_then(|tree| tree.compatible("arm,armv8-timer"));
    let Some(intid) = node.and_then(|node| node.interrupts().nth(1)) else {
        return Err(Trouble::Skip("no physical timer in the tree"));
    };
    let outcome = test(intid, |high| {
        raw::set_timer_register(TimerRegister::PhysicalCompare, 0);
        raw::set_timer_register(TimerRegister::PhysicalControl, u64::from(high));
    });
    gic::disable(intid);
    outcome
}

/// All widths that a register has, and an abort for those that it has not.
pub(crate) fn widths() -> Outcome {
    let intid = spare_spis()?.start & !3;
    let Some(block) = gic::block(intid) else {
        return Err(Trouble::Skip("no interrupt controller"));
    };
    let place = distributor::IPRIORITYR + intid as usize;
    let at = |offset: usize| block.base() + offset as u64;
    block.write32(place, 0x4030_2010);
    equal!(block.read8(place + 2), 0x30, "a byte of the priorities");
    block.write8(place + 1, 0x88);
    check!(
        raw::store16(at(place + 2), 0x6050).is_ok(),
        "halfword of priorities"
    );
    equal!(block.read32(place), 0x6050_8810, "priorities");
    block.write32(place, 0xa0a0_a0a0);
    match gic::driver() {
        Some(Gic::V2(_)) if cpu::count() > 1 => {
            let place = distributor::ITARGETSR + intid as usize;
            let before = block.read32(place);
            block.write32(place, 0x0101_0101);
            block.write8(place + 3, 2);
            equal!(block.read32(place), 0x0201_0101, "targets");
            equal!(block.read8(place + 3), 2, "a byte of the targets");
            block.write32(place, before);
        }
        Some(Gic::V3(_)) => {
            let place = distributor::IROUTER + intid as usize * 8;
            block.write64(place, 1);
            equal!(block.read32(place), 1, "lower half of the route");
            equal!(block.read32(place + 4), 0, "upper half of the route");
            block.write32(place, 0);
            equal!(block.read64(place), 0, "route");
        }
        _ => {}
    }
    let enable = at(distributor::ISENABLER + intid as usize / 32 * 4);
    let wide = at((distributor::IPRIORITYR + intid as usize) & !7);
    for (found, what) in [
        (raw::store8(enable, 0), "byte"),
        (raw::store16(enable, 0), "halfword"),
        (raw::store64(wide, 0), "doubleword"),
    ] {
        check!(found.is_err(), "a {what} is accepted");
    }
    Ok(())
}
