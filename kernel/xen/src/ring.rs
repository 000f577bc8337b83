//! Backend of the PV console ring (`xen/include/public/io/console.h`).
//!
//! Indices that are the backend's to move are kept here and only copied to the page; those of the guest
//! are read once a turn and used as numbers of bytes alone, never as addresses. A pair that is further
//! apart than the ring is long is nonsense: what is in the ring is then skipped, and both sides go on
//! from the guest's index.

use crate::{Host, SharedPage, XenState};
use abi::console::{
    RING_IN, RING_IN_CONS, RING_IN_PROD, RING_IN_SIZE, RING_OUT, RING_OUT_CONS, RING_OUT_PROD,
    RING_OUT_SIZE,
};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use sync::SpinLock;

/// Bytes taken out of the ring at once.
const CHUNK: usize = 128;
/// Bytes taken out of the ring in one call: what is done with them costs some 80 instructions each, and no step of EL2's
/// is to take more than 20,000.
const STEP: usize = 128;
/// Bytes read at once.
const WORD: usize = size_of::<u64>();

/// What [`ConsoleRing::drain`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Drained {
    /// Bytes taken.
    pub bytes: usize,
    /// The guest's index made no sense, and what was in the ring was skipped.
    pub corrupted: bool,
    /// Bytes are left: the step was full.
    pub more: bool,
}

impl Drained {
    /// Whether the backend's index moved, so that the guest is to be told.
    #[must_use]
    pub fn moved(self) -> bool {
        self.bytes != 0 || self.corrupted
    }
}

/// The backend's own indices: next byte to read from the guest, next byte to write to it.
#[derive(Default)]
struct Indices {
    out_cons: u32,
    in_prod: u32,
}

/// The hypervisor's end of a console ring.
pub struct ConsoleRing {
    page: SharedPage,
    indices: SpinLock<Indices>,
}

impl ConsoleRing {
    /// The backend of the ring in a zeroed page.
    #[must_use]
    pub fn new(page: SharedPage) -> Self {
        Self {
            page,
            indices: SpinLock::new(Indices::default()),
        }
    }

    /// As at first: its page has been zeroed.
    pub(crate) fn renew(&self) {
        *self.indices.lock() = Indices::default();
    }

    fn index(&self, offset: usize) -> u32 {
        self.page.u32(offset).map_or(0, |word| word.load(Acquire))
    }

    fn set_index(&self, offset: usize, value: u32) {
        if let Some(word) = self.page.u32(offset) {
            word.store(value, Release);
        }
    }

    /// Gives bytes that the guest has written to `sink`: all, or a step of 512 and the rest of a chunk.
    pub fn drain(&self, mut sink: impl FnMut(&[u8])) -> Drained {
        let mut indices = self.indices.lock();
        let prod = self.index(RING_OUT_PROD);
        let mut cons = indices.out_cons;
        let mut drained = Drained::default();
        if prod.wrapping_sub(cons) as usize > RING_OUT_SIZE {
            drained.corrupted = true;
            cons = prod;
        }
        while cons != prod && drained.bytes < STEP {
            let mut chunk = [0; CHUNK];
            let (length, next) = self.take_out(cons, prod, &mut chunk);
            sink(chunk.get(..length).unwrap_or_default());
            drained.bytes = drained.bytes.wrapping_add(length);
            cons = next;
        }
        drained.more = cons != prod;
        if drained.moved() {
            indices.out_cons = cons;
            self.set_index(RING_OUT_CONS, cons);
        }
        drained
    }

    /// Copies bytes from index `cons` on, up to `prod` or until the chunk may be full, a word at a time. The
    /// result is their number, at least 1 if there is one, and the index of the next.
    fn take_out(&self, mut cons: u32, prod: u32, chunk: &mut [u8; CHUNK]) -> (usize, u32) {
        let mut length: usize = 0;
        for _ in 0..CHUNK / WORD {
            let at = cons as usize & RING_OUT_SIZE.wrapping_sub(1);
            let skip = at & WORD.wrapping_sub(1);
            let count = WORD
                .saturating_sub(skip)
                .min(prod.wrapping_sub(cons) as usize);
            let word = self
                .page
                .u64(RING_OUT.wrapping_add(at & !WORD.wrapping_sub(1)));
            let bytes = word.map_or(0, |word| word.load(Relaxed)).to_le_bytes();
            let Some(room) = chunk.get_mut(length..) else {
                break;
            };
            match room.first_chunk_mut::<WORD>() {
                Some(whole) if count == WORD => *whole = bytes,
                _ => {
                    for (slot, byte) in room.iter_mut().zip(bytes.iter().skip(skip)).take(count) {
                        *slot = *byte;
                    }
                }
            }
            length = length.saturating_add(count);
            cons = cons.wrapping_add(count as u32);
        }
        (length, cons)
    }

    /// Whether all that the guest has written was taken.
    fn is_drained(&self) -> bool {
        let indices = self.indices.lock();
        self.index(RING_OUT_PROD) == indices.out_cons
    }

    /// Puts input into the ring; the result is the number of bytes that found room.
    pub fn fill(&self, input: &[u8]) -> usize {
        let mut indices = self.indices.lock();
        let cons = self.index(RING_IN_CONS);
        let mut prod = indices.in_prod;
        if prod.wrapping_sub(cons) as usize > RING_IN_SIZE {
            prod = cons;
        }
        let mut taken: usize = 0;
        for byte in input {
            if prod.wrapping_sub(cons) as usize >= RING_IN_SIZE {
                break;
            }
            let at = prod as usize & RING_IN_SIZE.wrapping_sub(1);
            if let Some(slot) = self.page.u8(RING_IN.wrapping_add(at)) {
                slot.store(*byte, Relaxed);
            }
            prod = prod.wrapping_add(1);
            taken = taken.wrapping_add(1);
        }
        if prod != indices.in_prod {
            indices.in_prod = prod;
            self.set_index(RING_IN_PROD, prod);
        }
        taken
    }
}

impl XenState {
    /// Takes what the guest has written to its PV console to [`Host::console_write`], a step of it, and
    /// tells the guest that there is room again. `true` if more is left. Called when the guest sends to the
    /// console's port; the image may call it at any time, for a guest that does not.
    #[inline(never)]
    pub fn serve_console<H: Host>(&self, host: &H) -> bool {
        let Some((ring, _)) = &self.console else {
            return false;
        };
        if !host.console_has_room(self.id()) {
            return false;
        }
        let drained = ring.drain(|bytes| host.console_write(self.id(), bytes));
        if drained.moved() {
            self.raise_service(host, self.parameters().console_port());
        }
        drained.more
    }

    /// Whether all that the guest wrote to its PV console was taken by [`serve_console`](Self::serve_console).
    pub fn console_is_drained(&self) -> bool {
        self.console
            .as_ref()
            .is_none_or(|(ring, _)| ring.is_drained())
    }

    /// Puts input for the guest into its PV console and tells it. The result is the number of bytes that
    /// found room; 0 if the domain has no PV console.
    pub fn console_input<H: Host>(&self, host: &H, input: &[u8]) -> usize {
        let Some((ring, _)) = &self.console else {
            return 0;
        };
        let taken = ring.fill(input);
        if taken != 0 {
            self.raise_service(host, self.parameters().console_port());
        }
        taken
    }
}
