//! Which CPU each vCPU begins on, and how much of the CPUs is promised to real-time vCPUs.

use alloc::vec::Vec;

use crate::Error;
use crate::guest::{CpuSet, DomainConfig, Reservation};

/// The most of a CPU that is promised to real-time vCPUs, in millionths: the rest is for those that share it, and for
/// what a switch costs.
pub const MOST_PROMISED: u32 = 900_000;

/// A CPU that is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seat {
    /// Its number in the tree.
    cpu: usize,
    /// vCPUs that begin there.
    vcpus: usize,
    /// What is promised of it, in millionths.
    promised: u32,
}

/// The CPUs that are up, and what they have been given so far.
#[derive(Clone, Debug)]
pub struct Seats {
    seats: Vec<Seat>,
    alone: bool,
}

impl Seats {
    /// CPUs with these numbers, all free. With `alone`, each is for one vCPU (`sched=null`).
    pub fn new(cpus: impl Iterator<Item = usize>, alone: bool) -> Self {
        let seat = |cpu| Seat {
            cpu,
            vcpus: 0,
            promised: 0,
        };
        Self {
            seats: cpus.map(seat).collect(),
            alone,
        }
    }

    /// The CPU that each vCPU of a guest begins on: of those that are up and that it may run on, the first of those with
    /// the fewest vCPUs. A real-time vCPU stays there: it gets the one of which least is promised.
    ///
    /// # Errors
    /// There is none for some vCPU; nothing has changed then.
    pub fn take(&mut self, config: &DomainConfig) -> Result<Vec<usize>, Error> {
        let mut seats = self.seats.clone();
        let mut homes = Vec::new();
        for vcpu in 0..config.vcpus as usize {
            let allowed = config.affinity.get(vcpu).copied().unwrap_or(CpuSet::ALL);
            let reservation = config
                .scheduling
                .get(vcpu)
                .and_then(|scheduling| scheduling.reservation);
            homes.push(self.place(&mut seats, vcpu, allowed, reservation)?);
        }
        self.seats = seats;
        Ok(homes)
    }

    fn place(
        &self,
        seats: &mut [Seat],
        vcpu: usize,
        allowed: CpuSet,
        reservation: Option<Reservation>,
    ) -> Result<usize, Error> {
        let share = reservation.map_or(0, Reservation::share);
        let may = |seat: &&mut Seat| allowed.contains(seat.cpu as u32);
        let up: Vec<&mut Seat> = seats.iter_mut().filter(may).collect();
        if up.is_empty() {
            return Err(Error::NoCpu);
        }
        let least = up.iter().map(|seat| seat.promised).min().unwrap_or(0);
        let free = MOST_PROMISED.saturating_sub(least);
        let fits = |seat: &&mut Seat| {
            (!self.alone || seat.vcpus == 0)
                && (share == 0 || seat.promised.saturating_add(share) <= MOST_PROMISED)
        };
        let load = |seat: &&mut Seat| {
            let promised = if share == 0 { 0 } else { seat.promised };
            (promised, seat.vcpus)
        };
        let Some(seat) = up.into_iter().filter(fits).min_by_key(load) else {
            return Err(match reservation {
                Some(reservation) if !self.alone => Error::NoTime {
                    vcpu: vcpu as u32,
                    reservation,
                    free,
                },
                _ => Error::NoFreeCpu { vcpu: vcpu as u32 },
            });
        };
        seat.vcpus = seat.vcpus.saturating_add(1);
        seat.promised = seat.promised.saturating_add(share);
        Ok(seat.cpu)
    }

    /// What is promised of a CPU, in millionths.
    #[must_use]
    pub fn promised(&self, cpu: usize) -> u32 {
        let seat = self.seats.iter().find(|seat| seat.cpu == cpu);
        seat.map_or(0, |seat| seat.promised)
    }
}

#[cfg(test)]
#[path = "seats_tests.rs"]
mod tests;
