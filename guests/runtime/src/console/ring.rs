//! The guest's side of a PV console ring (xen-pv-io section 1).

use crate::{event, hypercall, memory};
use abi::{Port, console as layout, hvm};
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    page: usize,
    port: Port,
}

impl Ring {
    /// The ring that the HVM parameters name; `memory::init` has mapped it.
    pub(super) fn find() -> Option<Self> {
        let gfn = hypercall::parameter(hvm::PARAM_CONSOLE_PFN)
            .ok()
            .filter(|gfn| *gfn != 0)?;
        let port = hypercall::parameter(hvm::PARAM_CONSOLE_EVTCHN)
            .ok()
            .filter(|port| *port != 0)?;
        let page = gfn
            .checked_mul(memory::PAGE)
            .filter(|page| *page != u64::MAX)?;
        Some(Self {
            page: page as usize,
            port: Port(port as u32),
        })
    }

    pub(super) fn port(self) -> Port {
        self.port
    }

    fn index(self, offset: usize) -> &'static AtomicU32 {
        // SAFETY: inside the page, aligned; both sides use atomics, and the page is mapped for ever.
        unsafe { AtomicU32::from_ptr((self.page + offset) as *mut u32) }
    }

    fn byte(self, offset: usize) -> &'static AtomicU8 {
        // SAFETY: inside the page; both sides use atomics, and the page is mapped for ever.
        unsafe { AtomicU8::from_ptr((self.page + offset) as *mut u8) }
    }

    pub(super) fn is_drained(self) -> bool {
        self.index(layout::RING_OUT_CONS).load(Ordering::Acquire)
            == self.index(layout::RING_OUT_PROD).load(Ordering::Relaxed)
    }

    pub(super) fn write(self, bytes: &[u8]) {
        let consumed = self.index(layout::RING_OUT_CONS);
        let produced = self.index(layout::RING_OUT_PROD);
        let mut at = produced.load(Ordering::Relaxed);
        for byte in bytes {
            let mut used = at.wrapping_sub(consumed.load(Ordering::Acquire)) as usize;
            while used == layout::RING_OUT_SIZE {
                produced.store(at, Ordering::Release);
                self.notify();
                hypercall::yield_now();
                used = at.wrapping_sub(consumed.load(Ordering::Acquire)) as usize;
            }
            if used > layout::RING_OUT_SIZE {
                return; // The other side has broken the ring; there is nobody to tell.
            }
            let place = at as usize % layout::RING_OUT_SIZE;
            self.byte(layout::RING_OUT + place)
                .store(*byte, Ordering::Relaxed);
            at = at.wrapping_add(1);
        }
        produced.store(at, Ordering::Release);
    }

    pub(super) fn notify(self) {
        let _ = event::send(self.port);
    }

    pub(super) fn read(self, bytes: &mut [u8]) -> usize {
        let produced = self.index(layout::RING_IN_PROD).load(Ordering::Acquire);
        let consumed = self.index(layout::RING_IN_CONS);
        let mut at = consumed.load(Ordering::Relaxed);
        let waiting = produced.wrapping_sub(at) as usize;
        if waiting == 0 || waiting > layout::RING_IN_SIZE {
            return 0;
        }
        let count = waiting.min(bytes.len());
        for byte in bytes.iter_mut().take(count) {
            let place = at as usize % layout::RING_IN_SIZE;
            *byte = self.byte(layout::RING_IN + place).load(Ordering::Relaxed);
            at = at.wrapping_add(1);
        }
        consumed.store(at, Ordering::Release);
        self.notify();
        count
    }
}
