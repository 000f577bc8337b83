//! The ports of a domain. Words are read by anybody at any time, and written by who holds the
//! domain's lock; a change that concerns two domains holds both, that of the lower id first.

use super::channel::{Binding, Channel};
use super::fifo::Fifo;
use crate::XenState;
use crate::state::boxed;
use abi::Errno;
use abi::event_channel::PORTS_2L;
use alloc::boxed::Box;
use core::cmp::Ordering as Order;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use sync::{Guard, SpinLock};

/// Which ports are in use.
pub(crate) struct Allocation {
    /// Bit n % 64 of word n / 64: port n is in use, or is not to be used.
    used: Box<[u64]>,
}

impl Allocation {
    /// The first `ports` ports are free, but port 0. `None` if there is no memory.
    fn new(ports: usize) -> Option<Self> {
        let mut new = Self {
            used: boxed(ports.div_ceil(64), |_| 0)?,
        };
        new.renew(ports);
        Some(new)
    }

    /// The first `ports` ports are free, but port 0.
    fn renew(&mut self, ports: usize) {
        for (index, word) in self.used.iter_mut().enumerate() {
            let first = index.wrapping_mul(64);
            // Ports that the domain may not use are taken for good.
            *word = match ports.saturating_sub(first) {
                0 => u64::MAX,
                left @ 1..64 => u64::MAX.wrapping_shl(left as u32),
                _ => 0,
            };
            if first == 0 {
                *word |= 1;
            }
        }
    }

    /// Takes the lowest free port that may be used.
    pub(crate) fn take(&mut self, may_use: impl Fn(u32) -> bool) -> Result<u32, Errno> {
        for (index, word) in self.used.iter_mut().enumerate() {
            let mut free = !*word;
            while free != 0 {
                let bit = free.trailing_zeros();
                free &= free.wrapping_sub(1);
                let port = (index as u32).wrapping_mul(64).wrapping_add(bit);
                if may_use(port) {
                    *word |= 1_u64.wrapping_shl(bit);
                    return Ok(port);
                }
            }
        }
        Err(Errno::NoSpace)
    }

    /// Takes this port.
    pub(crate) fn claim(&mut self, port: u32) -> Result<(), Errno> {
        let word = self.used.get_mut((port >> 6) as usize);
        let word = word.ok_or(Errno::Invalid)?;
        let bit = 1_u64.wrapping_shl(port);
        if *word & bit != 0 {
            return Err(Errno::Busy);
        }
        *word |= bit;
        Ok(())
    }

    /// The lowest port from `first` on that is in use, or not to be used.
    pub(crate) fn next_used(&self, first: u32) -> Option<u32> {
        let start = (first >> 6) as usize;
        let mut mask = u64::MAX.wrapping_shl(first);
        for (index, word) in self.used.iter().enumerate().skip(start) {
            let used = word & mask;
            if used != 0 {
                let port = (index as u32).wrapping_mul(64);
                return Some(port.wrapping_add(used.trailing_zeros()));
            }
            mask = u64::MAX;
        }
        None
    }

    /// Gives back a port that `take` gave.
    pub(crate) fn give(&mut self, port: u32) {
        if let Some(word) = self.used.get_mut((port >> 6) as usize) {
            *word &= !1_u64.wrapping_shl(port);
        }
    }
}

/// The event channels of a domain.
pub(crate) struct Events {
    /// One [`Channel`] a port.
    channels: Box<[AtomicU64]>,
    allocation: SpinLock<Allocation>,
    /// vCPUs that are in `SCHEDOP_poll`.
    pub(crate) pollers: AtomicU32,
    /// The domain has moved to the FIFO ABI: what is read without the lock.
    pub(crate) uses_fifo: AtomicBool,
    pub(crate) fifo: SpinLock<Fifo>,
}

impl Events {
    /// Ports 1 to `max_port`, all free. `None` if there is no memory.
    pub(crate) fn new(max_port: u32, vcpus: u32) -> Option<Self> {
        let ports = (max_port as usize).saturating_add(1).min(PORTS_2L);
        Some(Self {
            channels: boxed(ports, |_| AtomicU64::new(Channel::FREE.0))?,
            allocation: SpinLock::new(Allocation::new(ports)?),
            pollers: AtomicU32::new(0),
            uses_fifo: AtomicBool::new(false),
            fifo: SpinLock::new(Fifo::new(vcpus, ports as u32)?),
        })
    }

    /// No port is in use, and nobody polls.
    pub(crate) fn renew(&self) {
        let mut table = self.allocation.lock();
        table.renew(self.channels.len());
        for cell in &self.channels {
            cell.store(Channel::FREE.0, Ordering::Release);
        }
        self.pollers.store(0, Ordering::SeqCst);
    }

    /// Ports, port 0 included.
    pub(crate) fn ports(&self) -> u32 {
        self.channels.len() as u32
    }

    /// The word of a port.
    ///
    /// # Errors
    /// [`Errno::Invalid`] if the domain can have no such port. Port 0 has a word, which stays free.
    #[inline]
    pub(crate) fn cell(&self, port: u32) -> Result<&AtomicU64, Errno> {
        self.channels.get(port as usize).ok_or(Errno::Invalid)
    }

    /// What a port is bound to now.
    ///
    /// # Errors
    /// As [`Self::cell`].
    #[inline]
    pub(crate) fn channel(&self, port: u32) -> Result<Channel, Errno> {
        Ok(Channel(self.cell(port)?.load(Ordering::Acquire)))
    }

    pub(crate) fn lock(&self) -> Guard<'_, Allocation> {
        self.allocation.lock()
    }

    /// Binds a port that was just taken. The caller holds the lock.
    pub(crate) fn set(&self, port: u32, channel: Channel) {
        if let Ok(cell) = self.cell(port) {
            cell.store(channel.0, Ordering::Release);
        }
    }

    /// Whether a port is bound to this. The caller holds the lock, so that it stays so.
    pub(crate) fn is_bound(&self, port: u32, binding: Binding) -> bool {
        self.channel(port)
            .is_ok_and(|channel| channel.binding() == binding)
    }
}

/// Locks the tables of two domains in the order of their ids, one lock if they are the same; `local`'s is
/// the first of the result.
pub(crate) fn lock_both<'a>(
    local: &'a XenState,
    remote: &'a XenState,
) -> (Guard<'a, Allocation>, Option<Guard<'a, Allocation>>) {
    match local.id().cmp(&remote.id()) {
        Order::Equal => (local.events.lock(), None),
        Order::Less => {
            let first = local.events.lock();
            (first, Some(remote.events.lock()))
        }
        Order::Greater => {
            let first = remote.events.lock();
            (local.events.lock(), Some(first))
        }
    }
}
