//! Grace periods: when every CPU has let go of what it may have found before something was taken away.
//!
//! Who takes something away (a frame out of a domain, a domain out of the list) first makes sure that it
//! cannot be found any more, then draws a ticket, and uses the thing for something else when the ticket is
//! over. A CPU passes at a place where it holds nothing that it found: between guests, or idle. All the cost
//! is there and at the one who takes away; finding and using is free.
//!
//! A CPU passes a ticket only after it has seen it. What it finds later it looks for after the thing was
//! gone, and what it used before it had done with: so one number a CPU is enough.

use crate::primitives::{AtomicU32, Ordering, fence};

/// The tickets, and how far each of up to `N` CPUs has come.
pub struct Grace<const N: usize> {
    drawn: AtomicU32,
    passed: [AtomicU32; N],
}

impl<const N: usize> Grace<N> {
    /// No ticket is drawn.
    #[cfg(not(all(loom, feature = "model")))]
    #[must_use]
    pub const fn new() -> Self {
        Self {
            drawn: AtomicU32::new(0),
            passed: [const { AtomicU32::new(0) }; N],
        }
    }

    /// No ticket is drawn.
    #[cfg(all(loom, feature = "model"))]
    #[must_use]
    pub fn new() -> Self {
        Self {
            drawn: AtomicU32::new(0),
            passed: core::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Draws a ticket: what was taken away before this is nobody's when the ticket is over.
    pub fn draw(&self) -> u32 {
        // Release: who sees the ticket sees that the thing is gone.
        self.drawn.fetch_add(1, Ordering::AcqRel).wrapping_add(1)
    }

    /// The last ticket drawn.
    pub fn last(&self) -> u32 {
        self.drawn.load(Ordering::Acquire)
    }

    /// A CPU holds nothing that it found. `true` if it had not passed the last ticket yet: then something
    /// may be over now, and the last CPU to pass is sure to see that.
    #[inline]
    pub fn pass(&self, cpu: usize) -> bool {
        let drawn = self.drawn.load(Ordering::Acquire);
        let Some(passed) = self.passed.get(cpu) else {
            return false;
        };
        if passed.load(Ordering::Relaxed) == drawn {
            return false;
        }
        // Release: all uses before this are over.
        passed.store(drawn, Ordering::Release);
        // Of two CPUs that pass at once, one has to see both: no look at the others before this is visible.
        fence(Ordering::SeqCst);
        true
    }

    /// Whether each of `cpus` has passed the ticket.
    pub fn is_over(&self, ticket: u32, mut cpus: impl Iterator<Item = usize>) -> bool {
        cpus.all(|cpu| {
            self.passed.get(cpu).is_none_or(|passed| {
                let ahead = passed.load(Ordering::Acquire).wrapping_sub(ticket);
                (ahead as i32) >= 0
            })
        })
    }
}

impl<const N: usize> Default for Grace<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_over_when_all_have_passed_it() {
        let grace = Grace::<3>::new();
        assert!(!grace.pass(0), "nothing was drawn");
        let first = grace.draw();
        assert!(grace.pass(0) && grace.pass(2));
        assert!(!grace.is_over(first, 0..3));
        assert!(grace.is_over(first, [0, 2].into_iter()));
        let second = grace.draw();
        assert!(grace.pass(1));
        assert!(grace.is_over(first, 0..3) && !grace.is_over(second, 0..3));
        assert!(grace.pass(0) && grace.pass(2));
        assert!(grace.is_over(second, 0..3));
        assert!(!grace.pass(1) && !grace.pass(7), "passed; no such CPU");
    }

    #[test]
    fn tickets_wrap() {
        let grace = Grace::<1>::new();
        grace.drawn.store(u32::MAX, Ordering::Relaxed);
        grace.passed[0].store(u32::MAX, Ordering::Relaxed);
        let ticket = grace.draw();
        assert!(!grace.is_over(ticket, 0..1));
        grace.pass(0);
        assert!(grace.is_over(ticket, 0..1));
    }
}
