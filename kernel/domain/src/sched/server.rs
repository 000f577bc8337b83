//! The time that a real-time vCPU is promised: a constant bandwidth server (L. Abeni and G. Buttazzo, "Integrating
//! Multimedia Applications in Hard Real-Time Systems", RTSS 1998) that is held to its budget.
//!
//! In every period it may run for its budget, before its deadline, the end of the period. When the budget is used up
//! it has none until the deadline; then a new period begins. When the vCPU wakes after its deadline a period begins at that
//! moment, and so it does if what is left would be more than its share until the deadline: servers whose shares together
//! are at most a CPU all meet their deadlines, earliest deadline first, whenever they wake.

/// So much of a CPU, in ticks of the system counter: `budget` of every `period`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// Length of a period, at least 1.
    pub period: u64,
    /// Ticks that it may run in a period, 1 to `period`.
    pub budget: u64,
}

/// A reservation, and how it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Server {
    reservation: Reservation,
    deadline: u64,
    left: u64,
    is_exhausted: bool,
}

impl Server {
    /// Its first period begins when it arrives.
    pub(crate) const fn new(reservation: Reservation) -> Self {
        Self {
            reservation,
            deadline: 0,
            left: 0,
            is_exhausted: false,
        }
    }

    /// When what is left of the budget is worth nothing any more.
    pub(crate) const fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Ticks that it may still run before the deadline.
    pub(crate) const fn left(&self) -> u64 {
        self.left
    }

    /// Whether the budget is used up, and the deadline is to come: it has no claim until then.
    pub(crate) const fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    /// Its vCPU can run again.
    pub(crate) fn arrive(&mut self, now: u64) {
        let rest = self.deadline.saturating_sub(now);
        let Reservation { period, budget } = self.reservation;
        // Products of two 64-bit numbers fit.
        let product = |one: u64, other: u64| u128::from(one).saturating_mul(u128::from(other));
        if rest == 0 || product(self.left, period) > product(rest, budget) {
            self.begin(now);
        } else {
            self.is_exhausted = self.left == 0;
        }
    }

    /// Its vCPU ran for so long on the budget, up to now. Whether the budget is used up.
    pub(crate) fn charge(&mut self, ran: u64, now: u64) -> bool {
        self.left = self.left.saturating_sub(ran);
        if self.left > 0 {
            return false;
        }
        if self.deadline <= now {
            // Nobody else wanted the CPU, or somebody would have looked.
            self.begin(now);
            return false;
        }
        self.is_exhausted = true;
        true
    }

    /// The deadline has come: the next period begins there.
    pub(crate) fn replenish(&mut self, now: u64) {
        let at = self.deadline;
        let late = now.saturating_sub(at) >= self.reservation.period;
        self.begin(if late { now } else { at });
    }

    fn begin(&mut self, at: u64) {
        self.deadline = at.saturating_add(self.reservation.period);
        self.left = self.reservation.budget;
        self.is_exhausted = false;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TENTH: Reservation = Reservation {
        period: 100,
        budget: 10,
    };

    #[test]
    fn a_period_begins_with_the_first_arrival() {
        let mut server = Server::new(TENTH);
        server.arrive(1000);
        assert_eq!((server.deadline(), server.left()), (1100, 10));
        assert!(!server.charge(4, 1004));
        // It sleeps, and wakes while what is left is no more than its share of the rest.
        server.arrive(1030);
        assert_eq!((server.deadline(), server.left()), (1100, 6));
        // A little later 6 in 45 would be too much, and it starts afresh.
        server.arrive(1055);
        assert_eq!((server.deadline(), server.left()), (1155, 10));
    }

    #[test]
    fn an_overrun_ends_at_the_deadline() {
        let mut server = Server::new(TENTH);
        server.arrive(0);
        assert!(server.charge(12, 12) && server.is_exhausted());
        server.arrive(50);
        assert!(server.is_exhausted(), "sleeping does not fill it");
        server.replenish(103);
        assert_eq!((server.deadline(), server.left()), (200, 10));
        assert!(server.charge(10, 150));
        server.replenish(777);
        assert_eq!(server.deadline(), 877);
    }

    #[test]
    fn who_was_alone_past_its_deadline_starts_afresh() {
        let mut server = Server::new(TENTH);
        server.arrive(0);
        assert!(!server.charge(500, 500));
        assert_eq!((server.deadline(), server.left()), (600, 10));
    }

    proptest! {
        /// Whatever it does: between two moments it gets no more than its share, and one budget more for the period that
        /// had begun before.
        #[test]
        fn it_never_gets_more_than_it_was_promised(
            budget in 1_u64..=100,
            steps in prop::collection::vec((0_u64..60, 0_u64..60), 1..60),
        ) {
            let mut server = Server::new(Reservation { period: 100, budget });
            // Moment, and how long it had run by then.
            let mut history = vec![(0, 0)];
            let (mut now, mut total) = (0, 0);
            for (sleep, run) in steps {
                now += sleep;
                server.arrive(now);
                if server.is_exhausted() {
                    continue;
                }
                let run = run.min(server.left());
                history.push((now, total));
                now += run;
                total += run;
                server.charge(run, now);
                for &(then, before) in &history {
                    let bound = (now - then) * budget + 2 * budget * 100;
                    prop_assert!((total - before) * 100 <= bound);
                }
            }
        }
    }
}
