//! The two byte rings of a store page, from the server's side. Its own indices are kept here and only copied to
//! the page; the guest's are read once a turn and used as numbers of bytes alone.

use abi::xenstore::{
    RING_REQUEST, RING_REQUEST_CONS, RING_REQUEST_PROD, RING_RESPONSE, RING_RESPONSE_CONS,
    RING_RESPONSE_PROD, RING_SIZE,
};

/// The page that a guest shares with the store, and may write at any moment.
pub trait Page {
    /// The word at `offset`, with acquire ordering.
    fn word(&self, offset: usize) -> u32;
    /// Sets the word at `offset`, with release ordering.
    fn set_word(&self, offset: usize, value: u32);
    /// Copies bytes from `offset` on.
    fn read(&self, offset: usize, into: &mut [u8]);
    /// Copies bytes to `offset` and on.
    fn write(&self, offset: usize, from: &[u8]);
}

/// A page, as a connection has it: of whatever kind, so that this crate is compiled once, for size.
pub type SharedPage = alloc::boxed::Box<dyn Page + Send + Sync>;

/// The guest's index makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadIndex;

/// Next byte to read from the guest, next byte to write to it.
#[derive(Default)]
pub(crate) struct Ring {
    request_cons: u32,
    response_prod: u32,
}

/// Where `length` bytes from `index` on lie in a ring: the first ones up to the ring's end, and the rest.
fn split(index: u32, length: usize) -> (usize, usize) {
    let at = index as usize & RING_SIZE.wrapping_sub(1);
    (at, length.min(RING_SIZE.saturating_sub(at)))
}

impl Ring {
    /// Takes what is there, as much as has room; the number of bytes.
    pub(crate) fn take(&mut self, page: &SharedPage, into: &mut [u8]) -> Result<usize, BadIndex> {
        let ready = page.word(RING_REQUEST_PROD).wrapping_sub(self.request_cons) as usize;
        if ready > RING_SIZE {
            return Err(BadIndex);
        }
        let count = ready.min(into.len());
        let (at, first) = split(self.request_cons, count);
        let into = into.get_mut(..count).unwrap_or_default();
        if let Some((start, rest)) = into.split_at_mut_checked(first) {
            page.read(RING_REQUEST.wrapping_add(at), start);
            page.read(RING_REQUEST, rest);
        }
        if count != 0 {
            self.request_cons = self.request_cons.wrapping_add(count as u32);
            page.set_word(RING_REQUEST_CONS, self.request_cons);
        }
        Ok(count)
    }

    /// Puts bytes, as many as have room; their number.
    pub(crate) fn put(&mut self, page: &SharedPage, from: &[u8]) -> Result<usize, BadIndex> {
        let used = self
            .response_prod
            .wrapping_sub(page.word(RING_RESPONSE_CONS)) as usize;
        let room = RING_SIZE.checked_sub(used).ok_or(BadIndex)?;
        let count = room.min(from.len());
        let (at, first) = split(self.response_prod, count);
        let from = from.get(..count).unwrap_or_default();
        if let Some((start, rest)) = from.split_at_checked(first) {
            page.write(RING_RESPONSE.wrapping_add(at), start);
            page.write(RING_RESPONSE, rest);
        }
        if count != 0 {
            self.response_prod = self.response_prod.wrapping_add(count as u32);
            page.set_word(RING_RESPONSE_PROD, self.response_prod);
        }
        Ok(count)
    }

    /// Empties both rings for a new start.
    pub(crate) fn reset(&mut self, page: &SharedPage) {
        *self = Self::default();
        for index in [
            RING_REQUEST_CONS,
            RING_REQUEST_PROD,
            RING_RESPONSE_CONS,
            RING_RESPONSE_PROD,
        ] {
            page.set_word(index, 0);
        }
    }
}
