//! Which of a domain's grants are in use. The guest writes its table at any moment: an entry is read as one
//! word, changed by compare-exchange in a bounded number of tries, and what it said is remembered while it
//! is in use (`xen/common/grant_table.c`).
//!
//! The lock is held while the two words of an entry are looked at, never while a frame is copied or mapped.

use crate::{Host, SharedPage, contended, state};
use abi::grant_table::{self as op, EntryFlags, GrantRef};
use abi::{DomainId, Errno, PAGE_SIZE};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64};
use memory::Pa;

/// Changes of an entry by its guest that one call puts up with.
const CHANGES: u32 = 5;
/// Tries in all: an exchange may fail although nothing has changed.
const TRIES: u32 = 1024;
/// Uses of an entry at once, for reading and for writing.
const MOST_USES: u8 = 128;

const TYPE: u32 = 0b11;
const DOMAIN_SHIFT: u32 = 16;
/// Cache attributes, which are x86's: an entry that has one cannot be mapped.
const CACHE_ATTRIBUTES: u32 = 0b111 << 5;

const fn bits(flags: EntryFlags) -> u32 {
    flags.bits() as u32
}

/// What somebody wants with a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Access {
    pub(super) write: bool,
    /// To map it; else to copy.
    pub(super) map: bool,
}

/// How an entry is in use.
#[derive(Clone, Copy, Default)]
struct Use {
    /// Frame number.
    frame: u32,
    user: DomainId,
    readers: u8,
    writers: u8,
}

impl Use {
    fn is_used(self) -> bool {
        self.readers != 0 || self.writers != 0
    }
}

/// The frame with a number of 32 bits.
#[inline]
pub(super) fn frame_at(number: u32) -> Pa {
    Pa::new(u64::from(number).wrapping_mul(PAGE_SIZE as u64))
}

/// A frame of the table, and how its entries are in use.
struct TableFrame {
    shared: SharedPage,
    uses: Box<Uses>,
}

/// How the entries of a frame are in use.
type Uses = [Use; op::ENTRIES_PER_FRAME];

/// The table, as far as it has grown.
pub(crate) struct Active {
    frames: Vec<TableFrame>,
    /// What an earlier life of the domain had for more of them. Both lists have room for all.
    spare: Vec<Box<Uses>>,
    /// The table's first frame.
    first: SharedPage,
    /// The domain has ended.
    closed: bool,
}

/// An entry: its flags and domain in one word, its frame number in another.
struct Entry<'a> {
    header: &'a AtomicU32,
    frame: &'a AtomicU32,
}

impl Entry<'_> {
    /// Sets what says that the entry is in use, as long as it permits that.
    #[inline(always)]
    fn open(&self, used: bool, user: DomainId, access: Access) -> Result<(), i16> {
        let mut refused = 0;
        if access.map {
            refused |= CACHE_ATTRIBUTES;
        }
        let mut new_bits = bits(EntryFlags::READING);
        if access.write {
            refused |= bits(EntryFlags::READ_ONLY);
            new_bits |= bits(EntryFlags::WRITING);
        }
        // What is looked at of the header, and what it has to be. That of one in use was looked at.
        let (mut mask, mut permits) = (refused, 0);
        if !used {
            mask |= TYPE | u32::MAX << DOMAIN_SHIFT;
            permits = bits(EntryFlags::PERMIT_ACCESS) | u32::from(user.0) << DOMAIN_SHIFT;
            if access.map {
                mask |= bits(EntryFlags::SUB_PAGE);
            }
        }
        let mut changes: u32 = 0;
        let mut header = self.header.load(Acquire);
        for _ in 0..TRIES {
            if header & mask != permits {
                return Err(op::STATUS_GENERAL_ERROR);
            }
            // Acquire: the frame number, which the guest wrote first, is read after this.
            let exchanged =
                self.header
                    .compare_exchange_weak(header, header | new_bits, AcqRel, Relaxed);
            match exchanged {
                Ok(_) => return Ok(()),
                Err(seen) if seen == header => {}
                Err(seen) => {
                    header = seen;
                    changes = changes.wrapping_add(1);
                    if changes == CHANGES {
                        break;
                    }
                }
            }
        }
        Err(op::STATUS_GENERAL_ERROR)
    }

    /// Takes back what [`Self::open`] set. A guest that does not let go of the word is to end: its entry
    /// would say for ever that it is in use.
    fn close<H: Host>(&self, host: &H, granter: DomainId, flags: EntryFlags) {
        if contended::and_u32(self.header, !bits(flags)).is_err() {
            host.condemn(granter);
        }
    }
}

impl Active {
    /// `None` if there is no memory.
    pub(super) fn new(first: SharedPage, most_frames: usize) -> Option<Self> {
        let mut active = Self {
            frames: Vec::new(),
            spare: Vec::new(),
            first,
            closed: false,
        };
        active.frames.try_reserve_exact(most_frames).ok()?;
        active.spare.try_reserve_exact(most_frames).ok()?;
        active.grow(first).ok()?;
        Some(active)
    }

    /// The table has another frame.
    ///
    /// # Errors
    /// [`Errno::NoMemory`].
    pub(crate) fn grow(&mut self, shared: SharedPage) -> Result<(), Errno> {
        if self.frames.len() == self.frames.capacity() {
            return Err(Errno::NoMemory);
        }
        let uses = match self.spare.pop() {
            Some(mut uses) => {
                uses.fill(Use::default());
                Some(uses)
            }
            None => state::boxed(op::ENTRIES_PER_FRAME, |_| Use::default())
                .and_then(|uses| uses.try_into().ok()),
        };
        let uses = uses.ok_or(Errno::NoMemory)?;
        self.frames.push(TableFrame { shared, uses });
        Ok(())
    }

    #[inline(always)]
    fn entry(&mut self, GrantRef(reference): GrantRef) -> Option<(Entry<'_>, &mut Use)> {
        let number = reference as usize;
        let frame = self.frames.get_mut(number >> 9)?;
        let index = number & op::ENTRIES_PER_FRAME.wrapping_sub(1);
        let [header, number] = frame.shared.u32_pair(index << 3)?;
        let entry = Entry {
            header,
            frame: number,
        };
        Some((entry, frame.uses.get_mut(index)?))
    }

    /// Begins a use of an entry by `user`: the number of the frame that it grants ([`frame_at`]), which is held if it is
    /// to be mapped. `granter` is the table's domain.
    ///
    /// # Errors
    /// The status that says why not.
    #[inline(always)]
    pub(super) fn acquire<H: Host>(
        &mut self,
        host: &H,
        granter: DomainId,
        reference: GrantRef,
        user: DomainId,
        access: Access,
    ) -> Result<u32, i16> {
        if self.closed {
            return Err(op::STATUS_BAD_DOMAIN);
        }
        let (entry, uses) = self.entry(reference).ok_or(op::STATUS_BAD_GRANT_REF)?;
        let used = uses.is_used();
        let is_full = uses.readers >= MOST_USES || uses.writers >= MOST_USES;
        if used && (uses.user != user || is_full) {
            return Err(op::STATUS_GENERAL_ERROR);
        }
        if !used || (access.write && uses.writers == 0) {
            entry.open(used, user, access)?;
        }
        if !used {
            let gfn = u64::from(entry.frame.load(Relaxed));
            let frame = match access.map {
                true => host.hold_at(granter, gfn).ok(),
                false => host.frame(granter, gfn),
            };
            // What does not fit, which no memory of 44 bits has, stays held.
            let Some(number) = frame.and_then(|frame| u32::try_from(frame.frame_number()).ok())
            else {
                entry.close(host, granter, EntryFlags::READING | EntryFlags::WRITING);
                return Err(op::STATUS_BAD_PAGE);
            };
            uses.frame = number;
            uses.user = user;
        }
        let count = if access.write {
            &mut uses.writers
        } else {
            &mut uses.readers
        };
        // It was looked whether that is too often.
        *count = count.wrapping_add(1);
        let number = uses.frame;
        // Its owner may have given it up since.
        if used && access.map && host.hold(granter, frame_at(number)).is_err() {
            self.release(host, granter, reference, access.write);
            return Err(op::STATUS_BAD_PAGE);
        }
        Ok(number)
    }

    /// [`Self::acquire`] to copy from or to the frame.
    #[inline(never)]
    pub(super) fn acquire_to_copy<H: Host>(
        &mut self,
        host: &H,
        granter: DomainId,
        reference: GrantRef,
        user: DomainId,
        write: bool,
    ) -> Result<u32, i16> {
        let access = Access { write, map: false };
        self.acquire(host, granter, reference, user, access)
    }

    /// Ends a use that [`Self::acquire`] began; a hold of its frame is left to the caller.
    #[inline(always)]
    pub(super) fn release<H: Host>(
        &mut self,
        host: &H,
        granter: DomainId,
        reference: GrantRef,
        write: bool,
    ) {
        let Some((entry, uses)) = self.entry(reference) else {
            return;
        };
        let mut flags = EntryFlags::empty();
        if write {
            uses.writers = uses.writers.saturating_sub(1);
            if uses.writers == 0 {
                flags |= EntryFlags::WRITING;
            }
        } else {
            uses.readers = uses.readers.saturating_sub(1);
        }
        if !uses.is_used() {
            flags |= EntryFlags::READING;
        }
        if !flags.is_empty() {
            entry.close(host, granter, flags);
        }
    }

    /// Exchanges two entries that are not in use; the status.
    pub(super) fn swap(&mut self, one: GrantRef, other: GrantRef) -> i16 {
        let mut words = [0; 2];
        let references = [one, other];
        for (word, reference) in words.iter_mut().zip(references) {
            let Some((_, uses)) = self.entry(reference) else {
                return op::STATUS_BAD_GRANT_REF;
            };
            if uses.is_used() && one != other {
                return op::STATUS_AGAIN;
            }
            *word = self.word(reference).map_or(0, |word| word.load(Acquire));
        }
        let [first, second] = words;
        for (reference, value) in references.into_iter().zip([second, first]) {
            if let Some(word) = self.word(reference).filter(|_| one != other) {
                word.store(value, Release);
            }
        }
        op::STATUS_OKAY
    }

    /// All of an entry.
    fn word(&self, GrantRef(reference): GrantRef) -> Option<&AtomicU64> {
        let frame = self.frames.get(reference as usize >> 9)?;
        let index = reference as usize & op::ENTRIES_PER_FRAME.wrapping_sub(1);
        frame.shared.u64(index << 3)
    }

    /// Writes an entry that the hypervisor makes before the guest runs.
    pub(super) fn seed(&mut self, reference: GrantRef, domain: DomainId, gfn: u32) {
        if let Some(word) = self.word(reference) {
            let header = bits(EntryFlags::PERMIT_ACCESS) | u32::from(domain.0) << DOMAIN_SHIFT;
            word.store(u64::from(header) | u64::from(gfn) << 32, Release);
        }
    }

    /// The domain has ended: nothing of its table is looked at any more. Frames that are mapped elsewhere stay
    /// held.
    pub(super) fn close(&mut self) {
        self.closed = true;
        while let Some(frame) = self.frames.pop() {
            self.spare.push(frame.uses);
        }
    }

    /// The domain lives again, with a table of one frame, which is zeroed.
    pub(super) fn renew(&mut self) {
        if self.frames.is_empty() {
            // There is a spare one, so nothing is allocated.
            let _ = self.grow(self.first);
        }
        self.closed = false;
    }

    /// Entries that the table has.
    pub(crate) fn entries(&self) -> u32 {
        self.frames.len().saturating_mul(op::ENTRIES_PER_FRAME) as u32
    }

    /// How an entry is in use, if it is: frame, user, readers, writers.
    pub(crate) fn in_use(&self, reference: u32) -> Option<(u64, DomainId, u32, u32)> {
        let frame = self.frames.get(reference as usize >> 9)?;
        let index = reference as usize & op::ENTRIES_PER_FRAME.wrapping_sub(1);
        let uses = frame.uses.get(index).filter(|uses| uses.is_used())?;
        let (readers, writers) = (u32::from(uses.readers), u32::from(uses.writers));
        Some((u64::from(uses.frame), uses.user, readers, writers))
    }

    /// Uses of all entries, for tests.
    #[cfg(test)]
    pub(crate) fn uses(&self) -> u32 {
        let uses = self.frames.iter().flat_map(|frame| frame.uses.iter());
        uses.map(|uses| u32::from(uses.readers) + u32::from(uses.writers))
            .sum()
    }
}
