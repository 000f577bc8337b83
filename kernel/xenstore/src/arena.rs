//! The blocks of one domain: 64 bytes each, all allocated when the domain is added. A block is a node, a
//! watch, an event, or a piece of text; texts are chains of pieces, packed from the front.

use crate::list::same;
use crate::node::Node;
use crate::watch::{Event, Watch};
use abi::Errno;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Bytes of text in a block.
const PIECE: usize = 60;
/// No block.
pub(crate) const NIL: u16 = u16::MAX;

/// What a block is.
#[derive(Clone, Copy)]
pub(crate) enum Block {
    Free { next: u16 },
    Text { next: u16, bytes: [u8; PIECE] },
    Node(Node),
    Watch(Watch),
    Event(Event),
}

const _: () = assert!(size_of::<Block>() == 64);

/// What a block is taken for: events that wait have a share of their own, so that what others do leaves a
/// domain the rest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    Store,
    Events,
}

/// Blocks in use, of those that may be.
struct Count {
    used: u16,
    limit: u16,
}

pub(crate) struct Arena {
    blocks: Box<[Block]>,
    free: u16,
    /// Blocks from here on were never used.
    fresh: u16,
    store: Count,
    events: Count,
    /// Blocks of the store's share that are promised to transactions.
    pub(crate) promised: u16,
}

/// A text that is being written.
pub(crate) struct Text {
    pub(crate) head: u16,
    tail: u16,
    /// Bytes in the last piece.
    filled: usize,
    share: Share,
}

impl Text {
    pub(crate) fn new(share: Share) -> Self {
        Self {
            head: NIL,
            tail: NIL,
            filled: PIECE,
            share,
        }
    }
}

impl Arena {
    /// `blocks` blocks, `events` of them for events. `None` if there is no memory.
    pub(crate) fn new(blocks: u16, events: u16) -> Option<Self> {
        let mut all = Vec::new();
        all.try_reserve_exact(usize::from(blocks)).ok()?;
        all.resize(usize::from(blocks), Block::Free { next: NIL });
        Some(Self {
            blocks: all.into_boxed_slice(),
            free: NIL,
            fresh: 0,
            store: Count {
                used: 0,
                limit: blocks.saturating_sub(events),
            },
            events: Count {
                used: 0,
                limit: events,
            },
            promised: 0,
        })
    }

    /// Everything free again, with the same memory.
    pub(crate) fn clear(&mut self) {
        self.free = NIL;
        self.fresh = 0;
        self.store.used = 0;
        self.events.used = 0;
        self.promised = 0;
    }

    /// Blocks in use, events' included.
    pub(crate) fn used(&self) -> u16 {
        self.store.used.saturating_add(self.events.used)
    }

    /// Blocks that have ever been used: those after them need no look.
    pub(crate) fn touched(&self) -> u16 {
        self.fresh
    }

    fn count(&mut self, share: Share) -> &mut Count {
        match share {
            Share::Store => &mut self.store,
            Share::Events => &mut self.events,
        }
    }

    /// Puts `block` into a free place.
    ///
    /// # Errors
    /// [`Errno::NoSpace`].
    pub(crate) fn take(&mut self, block: Block, share: Share) -> Result<u16, Errno> {
        let promised = match share {
            Share::Store => self.promised,
            Share::Events => 0,
        };
        let count = self.count(share);
        if count.used.saturating_add(promised) >= count.limit {
            return Err(Errno::NoSpace);
        }
        let index = match self.get(self.free) {
            Some(Block::Free { next }) => {
                let next = *next;
                core::mem::replace(&mut self.free, next)
            }
            _ => {
                let fresh = self.fresh;
                self.fresh = fresh.wrapping_add(1);
                fresh
            }
        };
        *self.get_mut(index).ok_or(Errno::NoSpace)? = block;
        let count = self.count(share);
        count.used = count.used.saturating_add(1);
        Ok(index)
    }

    /// Promises a block to a transaction that makes a node.
    ///
    /// # Errors
    /// [`Errno::NoSpace`].
    pub(crate) fn promise(&mut self) -> Result<(), Errno> {
        if self.store.used.saturating_add(self.promised) >= self.store.limit {
            return Err(Errno::NoSpace);
        }
        self.promised = self.promised.saturating_add(1);
        Ok(())
    }

    /// Frees a block.
    pub(crate) fn give(&mut self, index: u16, share: Share) {
        let next = self.free;
        if let Some(block) = self.get_mut(index) {
            *block = Block::Free { next };
            self.free = index;
            let count = self.count(share);
            count.used = count.used.saturating_sub(1);
        }
    }

    pub(crate) fn get(&self, index: u16) -> Option<&Block> {
        self.blocks.get(usize::from(index))
    }

    pub(crate) fn get_mut(&mut self, index: u16) -> Option<&mut Block> {
        self.blocks.get_mut(usize::from(index))
    }

    pub(crate) fn watch(&self, index: u16) -> Option<&Watch> {
        match self.get(index)? {
            Block::Watch(watch) => Some(watch),
            _ => None,
        }
    }

    pub(crate) fn watch_mut(&mut self, index: u16) -> Option<&mut Watch> {
        match self.get_mut(index)? {
            Block::Watch(watch) => Some(watch),
            _ => None,
        }
    }

    pub(crate) fn event(&self, index: u16) -> Option<&Event> {
        match self.get(index)? {
            Block::Event(event) => Some(event),
            _ => None,
        }
    }

    /// Adds bytes to a text. If that fails the caller frees the text.
    ///
    /// # Errors
    /// [`Errno::NoSpace`].
    pub(crate) fn append(&mut self, text: &mut Text, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            if text.filled >= PIECE {
                let piece = Block::Text {
                    next: NIL,
                    bytes: [0; PIECE],
                };
                let index = self.take(piece, text.share)?;
                match self.get_mut(text.tail) {
                    Some(Block::Text { next, .. }) => *next = index,
                    _ => text.head = index,
                }
                text.tail = index;
                text.filled = 0;
            }
            let count = bytes.len().min(PIECE.saturating_sub(text.filled));
            let (now, rest) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
            if let Some(Block::Text { bytes: piece, .. }) = self.get_mut(text.tail)
                && let Some(room) = piece.get_mut(text.filled..text.filled.saturating_add(count))
            {
                room.copy_from_slice(now);
            }
            text.filled = text.filled.saturating_add(count);
            bytes = rest;
        }
        Ok(())
    }

    /// Adds bytes of another text.
    ///
    /// # Errors
    /// [`Errno::NoSpace`].
    pub(crate) fn append_from(
        &mut self,
        text: &mut Text,
        head: u16,
        skip: usize,
        length: usize,
    ) -> Result<(), Errno> {
        let (mut at, mut skip, mut left) = (head, skip, length);
        while left != 0 {
            let Some(Block::Text { next, bytes }) = self.get(at).copied() else {
                return Ok(());
            };
            let piece = bytes.get(skip.min(PIECE)..).unwrap_or_default();
            let count = piece.len().min(left);
            self.append(text, piece.get(..count).unwrap_or_default())?;
            skip = skip.saturating_sub(PIECE);
            left = left.saturating_sub(count);
            at = next;
        }
        Ok(())
    }

    /// A text of these parts, one after the other.
    ///
    /// # Errors
    /// [`Errno::NoSpace`].
    pub(crate) fn store(&mut self, parts: &[&[u8]]) -> Result<u16, Errno> {
        let mut text = Text::new(Share::Store);
        for part in parts {
            if let Err(error) = self.append(&mut text, part) {
                self.free_text(text.head, Share::Store);
                return Err(error);
            }
        }
        Ok(text.head)
    }

    /// Frees a text.
    pub(crate) fn free_text(&mut self, head: u16, share: Share) {
        let mut at = head;
        while let Some(Block::Text { next, .. }) = self.get(at) {
            let next = *next;
            self.give(at, share);
            at = next;
        }
    }

    /// The pieces of `length` bytes of a text, after the first `skip`.
    pub(crate) fn pieces(&self, head: u16, skip: usize, length: usize) -> Pieces<'_> {
        Pieces {
            arena: self,
            at: head,
            skip,
            left: length,
        }
    }

    /// Whether two texts of the same length are the same. Bytes after the end are zero in both.
    pub(crate) fn same_text(&self, one: u16, other: u16) -> bool {
        let (mut one, mut other) = (one, other);
        loop {
            match (self.get(one), self.get(other)) {
                (
                    Some(Block::Text { next: a, bytes: x }),
                    Some(Block::Text { next: b, bytes: y }),
                ) => {
                    if !same(x, y) {
                        return false;
                    }
                    (one, other) = (*a, *b);
                }
                _ => return one == other,
            }
        }
    }
}

/// Pieces of a text, in order.
#[derive(Clone)]
pub(crate) struct Pieces<'a> {
    arena: &'a Arena,
    at: u16,
    skip: usize,
    left: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while self.left != 0 {
            let Some(Block::Text { next, bytes }) = self.arena.get(self.at) else {
                return None;
            };
            self.at = *next;
            if self.skip >= PIECE {
                self.skip = self.skip.saturating_sub(PIECE);
                continue;
            }
            let piece = bytes.get(self.skip..).unwrap_or_default();
            let piece = piece.get(..self.left.min(piece.len())).unwrap_or_default();
            self.skip = 0;
            self.left = self.left.saturating_sub(piece.len());
            return Some(piece);
        }
        None
    }
}

impl Pieces<'_> {
    /// Whether the pieces together are these bytes.
    pub(crate) fn is(self, mut bytes: &[u8]) -> bool {
        if self.left != bytes.len() {
            return false;
        }
        for piece in self {
            match bytes.split_at_checked(piece.len()) {
                Some((start, rest)) if same(start, piece) => bytes = rest,
                _ => return false,
            }
        }
        bytes.is_empty()
    }
}
