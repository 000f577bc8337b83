//! The queue in front of the UART: pieces in the order in which they were written, each charged to a
//! source until it is out.
//!
//! One ring for all, as large as all shares together, so that who stays within its share always finds
//! room. A piece is a header (source, length) and its bytes.

use alloc::vec::Vec;

use crate::Error;

/// Bytes that the header of a piece takes.
pub(crate) const HEADER: usize = 4;

/// The longest piece.
const MAX_PIECE: usize = u16::MAX as usize;

/// The ring.
#[derive(Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    /// Where the first byte in use is.
    front: usize,
    /// How many are in use.
    used: usize,
    /// The piece that is going out, whose header is gone: its source, and what is left of it.
    current: Option<(u16, usize)>,
    /// The last piece, which can still grow: its source, its length, where its header is.
    last: Option<(u16, usize, usize)>,
}

impl Queue {
    /// Makes room for so many bytes more.
    pub(crate) fn grow(&mut self, more: usize) -> Result<(), Error> {
        let size = self.bytes.len().checked_add(more).ok_or(Error::NoMemory)?;
        self.bytes
            .try_reserve_exact(more)
            .map_err(|_| Error::NoMemory)?;
        // At boot nothing waits when another guest comes.
        if self.used > 0 {
            self.bytes.rotate_left(self.front);
        }
        self.bytes.resize(size, 0);
        (self.front, self.last) = (0, None);
        Ok(())
    }

    /// Takes the memory that later growth by so many bytes needs, in one piece.
    pub(crate) fn reserve(&mut self, more: usize) -> Result<(), Error> {
        self.bytes
            .try_reserve_exact(more)
            .map_err(|_| Error::NoMemory)
    }

    /// Bytes that `length` more of this source will take: without a header if they lengthen its piece.
    pub(crate) fn cost(&self, source: u16, length: usize) -> usize {
        match self.last {
            Some((of, so_far, _)) if of == source && so_far + length <= MAX_PIECE => length,
            _ => length + HEADER,
        }
    }

    /// Appends; tells how many bytes it took. Takes nothing, and 0 bytes, if there is no room: the
    /// caller keeps the shares.
    pub(crate) fn push(&mut self, source: u16, parts: &[&[u8]]) -> usize {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let cost = self.cost(source, length);
        if length == 0 || length > MAX_PIECE || self.bytes.len() - self.used < cost {
            return 0;
        }
        let (so_far, header) = match self.last {
            Some((_, so_far, header)) if cost == length => (so_far, header),
            _ => {
                let header = self.position(self.used);
                self.put(&[0; HEADER]);
                (0, header)
            }
        };
        let total = so_far + length;
        let (of, long) = (source.to_le_bytes(), (total as u16).to_le_bytes());
        for (offset, byte) in of.into_iter().chain(long).enumerate() {
            let at = self.wrapped(header + offset);
            self.set(at, byte);
        }
        for part in parts {
            self.put(part);
        }
        self.last = Some((source, total, header));
        cost
    }

    /// The next bytes for the UART; empty if there are none. With it, the source whose header was freed
    /// on the way, if one was.
    pub(crate) fn chunk(&mut self) -> (Option<u16>, &[u8]) {
        let mut freed = None;
        if self.current.is_none() && self.used >= HEADER {
            let mut header = [0; HEADER];
            for (offset, byte) in header.iter_mut().enumerate() {
                *byte = self
                    .bytes
                    .get(self.position(offset))
                    .copied()
                    .unwrap_or_default();
            }
            if self.last.is_some_and(|(_, _, at)| at == self.front) {
                self.last = None;
            }
            let [a, b, c, d] = header;
            let source = u16::from_le_bytes([a, b]);
            self.current = Some((source, usize::from(u16::from_le_bytes([c, d]))));
            self.drop_front(HEADER);
            freed = Some(source);
        }
        let left = self.current.map_or(0, |(_, left)| left);
        let tail = self.bytes.get(self.front..).unwrap_or_default();
        (freed, tail.get(..left.min(tail.len())).unwrap_or_default())
    }

    /// The first `count` bytes of the chunk are out; gives whose they were and how many it really was.
    pub(crate) fn consume(&mut self, count: usize) -> Option<(u16, usize)> {
        let (source, left) = self.current?;
        let count = count.min(left);
        self.drop_front(count);
        self.current = if left == count {
            None
        } else {
            Some((source, left - count))
        };
        Some((source, count))
    }

    fn drop_front(&mut self, count: usize) {
        self.front = self.position(count);
        self.used -= count;
    }

    /// The place so many bytes after the front.
    fn position(&self, offset: usize) -> usize {
        self.wrapped(self.front + offset)
    }

    fn wrapped(&self, place: usize) -> usize {
        if place < self.bytes.len() {
            place
        } else {
            place - self.bytes.len()
        }
    }

    fn set(&mut self, place: usize, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(place) {
            *slot = byte;
        }
    }

    fn put(&mut self, part: &[u8]) {
        let start = self.position(self.used);
        let (first, second) = part
            .split_at_checked(self.bytes.len() - start)
            .unwrap_or((part, &[]));
        for (place, piece) in [(start, first), (0, second)] {
            if let Some(slots) = self.bytes.get_mut(place..place + piece.len()) {
                slots.copy_from_slice(piece);
            }
        }
        self.used += part.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Against a plain queue of (source, byte): order, charges, and room by shares.
        #[test]
        fn what_goes_in_comes_out_in_order_and_on_account(
            steps in prop::collection::vec((0..3u16, 0..40usize, 0..60usize, 0..20u8), 1..200),
        ) {
            let mut queue = Queue::default();
            queue.grow(128).unwrap();
            let (mut model, mut charged, mut next) = (VecDeque::new(), [0usize; 3], 0u8);
            for (source, length, taken, grow) in steps {
                if grow == 0 {
                    queue.grow(16).unwrap();
                }
                let piece: Vec<u8> = (0..length).map(|_| { next = next.wrapping_add(1); next }).collect();
                let (a, b) = piece.split_at(length / 3);
                let room = queue.bytes.len() - queue.used;
                let cost = queue.push(source, &[a, b]);
                prop_assert_eq!(cost == 0, length == 0 || room < queue.cost(source, length).max(length));
                if cost != 0 {
                    model.extend(piece.iter().map(|&byte| (source, byte)));
                    charged[usize::from(source)] += cost;
                }
                let mut left = taken;
                while left > 0 {
                    let (freed, chunk) = queue.chunk();
                    if let Some(source) = freed {
                        charged[usize::from(source)] -= HEADER;
                    }
                    let count = chunk.len().min(left);
                    if count == 0 { break; }
                    let chunk = chunk[..count].to_vec();
                    let (source, really) = queue.consume(count).unwrap();
                    prop_assert_eq!(really, count);
                    for byte in chunk {
                        prop_assert_eq!(model.pop_front(), Some((source, byte)));
                    }
                    charged[usize::from(source)] -= count;
                    left -= count;
                }
                prop_assert_eq!(charged.iter().sum::<usize>(), queue.used);
            }
        }
    }
}
