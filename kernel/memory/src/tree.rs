//! The radix tree that both translation stages share: 4 KiB granule, three levels (1 GiB and 2 MiB
//! blocks, 4 KiB pages), one or two concatenated root tables.
//!
//! A valid entry is never replaced by another valid one: [`Tree::map`] refuses occupied addresses, and
//! splitting a block goes through an invalid entry and a TLB invalidation first (break-before-make,
//! Arm DDI 0487, section D8.16). Descriptors: DDI 0487, section D8.3.

use core::fmt;

use crate::{PAGE_SIZE, Pa};

/// Entries in one table.
pub const ENTRIES: usize = 512;

const VALID: u64 = 1;
/// At levels 1 and 2 this bit means "table", at level 3 it must be set for a page.
const TABLE_OR_PAGE: u64 = 1 << 1;
const OUTPUT_MASK: u64 = 0x0000_ffff_ffff_f000;
const FIRST_LEVEL: u32 = 1;
const LAST_LEVEL: u32 = 3;
/// Entries of the root that a step of emptying looks at.
const LOOKED_AT: usize = 128;

/// Where tables live. The EL2 image implements it on its identity map, tests on a vector.
///
/// `set` must order the write after all earlier writes to tables (a release store is enough: the
/// walker of another CPU follows pointers), and `get`/`set` are only called with tables that
/// `allocate` gave out.
pub trait TableMemory {
    /// A zeroed 4 KiB table, or `None` when there is no memory.
    fn allocate(&mut self) -> Option<Pa>;
    /// Takes back a table that no walker can reach any more.
    fn free(&mut self, table: Pa);
    /// Zeroed tables side by side for the root, aligned to their size together.
    fn allocate_roots(&mut self, count: usize) -> Option<Pa>;
    /// Takes back what `allocate_roots` gave.
    fn free_roots(&mut self, root: Pa, count: usize);
    /// Reads an entry.
    fn get(&self, table: Pa, index: usize) -> u64;
    /// Writes an entry.
    fn set(&mut self, table: Pa, index: usize, entry: u64);
}

/// What removes stale translations. The tree says which input addresses changed.
pub trait Invalidate {
    /// Removes every cached translation of `size` bytes from input address `start`, on all CPUs, and
    /// waits until that is complete.
    fn invalidate(&self, start: u64, size: u64);

    /// The same for the page at `start`.
    #[inline]
    fn invalidate_page(&self, start: u64) {
        self.invalidate(start, PAGE_SIZE);
    }
}

/// Why a mapping could not be changed. Nothing was changed by the call, unless it says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// Address, output or size is not a multiple of 4 KiB, or lies outside the tree's input range.
    BadRange,
    /// Something is mapped there already (addresses below it may have been mapped by this call).
    Occupied,
    /// No memory for a table (addresses below may have been changed by this call).
    NoMemory,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRange => "address or size not aligned, or outside the address space",
            Self::Occupied => "something is mapped there already",
            Self::NoMemory => "no memory for a translation table",
        })
    }
}

/// One leaf: what an input address is translated to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// First input address that the leaf covers.
    pub input: u64,
    /// Output address that the first input address goes to.
    pub output: u64,
    /// Bytes: 4 KiB, 2 MiB or 1 GiB.
    pub size: u64,
    /// Descriptor bits other than the output address, the valid and the type bit.
    pub attributes: u64,
}

/// A translation tree. Dropping it gives back all its tables.
pub struct Tree<M: TableMemory> {
    memory: M,
    root: Pa,
    roots: usize,
}

const fn leaf_size(level: u32) -> u64 {
    PAGE_SIZE << (9 * (LAST_LEVEL - level))
}

/// What a valid entry says that translates `input`.
#[inline]
const fn leaf_of(input: u64, level: u32, entry: u64) -> Leaf {
    let size = leaf_size(level);
    Leaf {
        input: input & !(size - 1),
        output: entry & OUTPUT_MASK & !(size - 1),
        size,
        attributes: entry & !(OUTPUT_MASK | VALID | TABLE_OR_PAGE),
    }
}

impl<M: TableMemory> Tree<M> {
    /// An empty tree with `roots` root tables side by side (1 or 2), so that input addresses have 39 or
    /// 40 bits. `None` when there is no memory.
    pub fn new(mut memory: M, roots: usize) -> Option<Self> {
        let root = memory.allocate_roots(roots)?;
        Some(Self {
            memory,
            root,
            roots,
        })
    }

    /// Where its tables come from.
    pub fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }

    /// The root table.
    pub fn root(&self) -> Pa {
        self.root
    }

    #[inline]
    fn limit(&self) -> u64 {
        const OF_A_ROOT: u64 = leaf_size(FIRST_LEVEL) * ENTRIES as u64;
        // One or two.
        OF_A_ROOT.wrapping_mul(self.roots as u64)
    }

    #[inline(always)]
    fn slot(&self, table: Pa, level: u32, input: u64) -> (Pa, usize) {
        let index = (input / leaf_size(level)) as usize;
        if level == FIRST_LEVEL {
            // Concatenated roots are one array: pick the page, then the entry in it.
            let page = (index / ENTRIES) as u64 * PAGE_SIZE;
            (Pa::new(table.get().wrapping_add(page)), index % ENTRIES)
        } else {
            (table, index % ENTRIES)
        }
    }

    fn check(&self, input: u64, output: u64, size: u64) -> Result<(), MapError> {
        let aligned = (input | output | size).is_multiple_of(PAGE_SIZE);
        let inside = input
            .checked_add(size)
            .is_some_and(|end| end <= self.limit());
        if aligned
            && inside
            && output
                .checked_add(size)
                .is_some_and(|end| end <= OUTPUT_MASK)
        {
            Ok(())
        } else {
            Err(MapError::BadRange)
        }
    }

    /// Maps `size` bytes from `input` to `output`, in the largest blocks that fit. `attributes` are the
    /// descriptor bits besides address, validity and type. No TLB maintenance is needed afterwards, as
    /// invalid entries are not cached; a barrier is (`DSB ISHST`), before the mapping may be relied on.
    pub fn map(
        &mut self,
        input: u64,
        output: u64,
        size: u64,
        attributes: u64,
    ) -> Result<(), MapError> {
        self.map_from(FIRST_LEVEL, input, output, size, attributes)
    }

    /// The same in pages alone: for what will be unmapped in part while nothing may be split.
    pub fn map_pages(
        &mut self,
        input: u64,
        output: u64,
        size: u64,
        attributes: u64,
    ) -> Result<(), MapError> {
        self.map_from(LAST_LEVEL, input, output, size, attributes)
    }

    /// The same, in leaves of `first` and the levels below it.
    fn map_from(
        &mut self,
        first: u32,
        input: u64,
        output: u64,
        size: u64,
        attributes: u64,
    ) -> Result<(), MapError> {
        self.check(input, output, size)?;
        let mut done = 0;
        while done < size {
            let (from, to, left) = (input + done, output + done, size - done);
            let level = (first..=LAST_LEVEL)
                .find(|&level| {
                    let block = leaf_size(level);
                    (from | to).is_multiple_of(block) && left >= block
                })
                .unwrap_or(LAST_LEVEL);
            // A table that is there, though it may be empty, is filled.
            let level = match level {
                LAST_LEVEL => LAST_LEVEL,
                _ => level.max(self.walk(from).2),
            };
            done += self.map_leaves(from, to, left, level, attributes)?;
        }
        Ok(())
    }

    /// Maps the leaf at `from`, and those behind it in the same table as far as `left` bytes go and nothing is
    /// there: the way down is gone once for all of them. Returns how many bytes it were.
    fn map_leaves(
        &mut self,
        from: u64,
        to: u64,
        left: u64,
        leaf_level: u32,
        attributes: u64,
    ) -> Result<u64, MapError> {
        let mut table = self.root;
        for level in FIRST_LEVEL..leaf_level {
            let (page, index) = self.slot(table, level, from);
            let entry = self.memory.get(page, index);
            table = if entry & VALID == 0 {
                let next = self.memory.allocate().ok_or(MapError::NoMemory)?;
                self.memory
                    .set(page, index, next.get() | VALID | TABLE_OR_PAGE);
                next
            } else if entry & TABLE_OR_PAGE != 0 {
                Pa::new(entry & OUTPUT_MASK)
            } else {
                return Err(MapError::Occupied);
            };
        }
        let (page, index) = self.slot(table, leaf_level, from);
        if self.memory.get(page, index) & VALID != 0 {
            return Err(MapError::Occupied);
        }
        let kind = if leaf_level == LAST_LEVEL {
            TABLE_OR_PAGE
        } else {
            0
        };
        let size = leaf_size(leaf_level);
        let (mut done, mut index) = (0, index);
        loop {
            self.memory
                .set(page, index, (to + done) | attributes | VALID | kind);
            done += size;
            index += 1;
            if index == ENTRIES || left - done < size || self.memory.get(page, index) & VALID != 0 {
                return Ok(done);
            }
        }
    }

    /// Removes whatever is mapped in `size` bytes from `input`; blocks that lie there only in part are
    /// split first. Afterwards no CPU has a translation of that range cached.
    pub fn unmap(&mut self, input: u64, size: u64, tlb: &impl Invalidate) -> Result<(), MapError> {
        self.check(input, 0, size)?;
        let end = input + size;
        let mut at = input;
        let mut changed = false;
        while at < end {
            let (page, index, level, entry) = self.walk(at);
            let block = leaf_size(level);
            let block_start = at & !(block - 1);
            if entry & VALID == 0 {
                at = block_start + block;
            } else if block_start < at || end - block_start < block {
                self.split(page, index, level, entry, block_start, tlb)?;
            } else {
                self.memory.set(page, index, 0);
                changed = true;
                at = block_start + block;
            }
        }
        if changed {
            tlb.invalidate(input, size);
        }
        Ok(())
    }

    /// The entry of the page at `input`, if there is a table for it.
    #[inline(always)]
    fn page_entry(&self, input: u64) -> Option<(Pa, usize, u64)> {
        if input >= self.limit() || !input.is_multiple_of(PAGE_SIZE) {
            return None;
        }
        let mut table = self.root;
        for level in FIRST_LEVEL..LAST_LEVEL {
            let (page, index) = self.slot(table, level, input);
            let entry = self.memory.get(page, index);
            if entry & (VALID | TABLE_OR_PAGE) != VALID | TABLE_OR_PAGE {
                return None;
            }
            table = Pa::new(entry & OUTPUT_MASK);
        }
        let (page, index) = self.slot(table, LAST_LEVEL, input);
        Some((page, index, self.memory.get(page, index)))
    }

    /// Maps one page where nothing is, if its table is there; as [`map`](Self::map). `false`, and nothing done, if not.
    #[inline(always)]
    pub fn map_page(&mut self, input: u64, output: u64, attributes: u64) -> bool {
        match self.page_entry(input) {
            Some((page, index, entry)) if entry & VALID == 0 && output & !OUTPUT_MASK == 0 => {
                let entry = output | attributes | VALID | TABLE_OR_PAGE;
                self.memory.set(page, index, entry);
                true
            }
            _ => false,
        }
    }

    /// Removes the page at `input` if it is mapped by itself, and `which` says so of it; as [`unmap`](Self::unmap).
    #[inline(always)]
    pub fn unmap_page(
        &mut self,
        input: u64,
        tlb: &impl Invalidate,
        which: impl FnOnce(&Leaf) -> bool,
    ) -> bool {
        match self.page_entry(input) {
            Some((page, index, entry))
                if entry & VALID != 0 && which(&leaf_of(input, LAST_LEVEL, entry)) =>
            {
                self.memory.set(page, index, 0);
                tlb.invalidate_page(input);
                true
            }
            _ => false,
        }
    }

    /// Goes down to the entry that decides about `input`: a leaf or an invalid entry. Level by level and without a
    /// loop: what a level's entries cover is a constant, and the hypercalls about grants come here.
    #[inline(always)]
    fn walk(&self, input: u64) -> (Pa, usize, u32, u64) {
        const TABLE: u64 = VALID | TABLE_OR_PAGE;
        let at = |table: Pa, level: u32| {
            let (page, index) = self.slot(table, level, input);
            (page, index, level, self.memory.get(page, index))
        };
        let first = at(self.root, FIRST_LEVEL);
        if first.3 & TABLE != TABLE {
            return first;
        }
        let second = at(Pa::new(first.3 & OUTPUT_MASK), FIRST_LEVEL + 1);
        if second.3 & TABLE != TABLE {
            return second;
        }
        at(Pa::new(second.3 & OUTPUT_MASK), LAST_LEVEL)
    }

    fn split(
        &mut self,
        page: Pa,
        index: usize,
        level: u32,
        entry: u64,
        block_start: u64,
        tlb: &impl Invalidate,
    ) -> Result<(), MapError> {
        let table = self.memory.allocate().ok_or(MapError::NoMemory)?;
        let part = leaf_size(level + 1);
        let kind = if level + 1 == LAST_LEVEL {
            TABLE_OR_PAGE
        } else {
            0
        };
        for index in 0..ENTRIES {
            self.memory
                .set(table, index, (entry + index as u64 * part) | kind);
        }
        self.memory.set(page, index, 0);
        tlb.invalidate(block_start, leaf_size(level));
        self.memory
            .set(page, index, table.get() | VALID | TABLE_OR_PAGE);
        Ok(())
    }

    /// The leaf that translates `input`, if there is one.
    #[inline]
    pub fn translate(&self, input: u64) -> Option<Leaf> {
        if input >= self.limit() {
            return None;
        }
        let (_, _, level, entry) = self.walk(input);
        (entry & VALID != 0).then(|| leaf_of(input, level, entry))
    }

    /// Where `input` goes, if the leaf that translates it has these attributes.
    #[inline(always)]
    pub fn translate_as(&self, input: u64, attributes: u64) -> Option<u64> {
        if input >= self.limit() {
            return None;
        }
        let (_, _, level, entry) = self.walk(input);
        // At each level its own constants.
        let at = |level: u32| {
            let (size, leaf) = (leaf_size(level), leaf_of(input, level, entry));
            let is_it = entry & VALID != 0 && leaf.attributes == attributes;
            is_it.then_some(leaf.output | input & (size - 1))
        };
        match level {
            LAST_LEVEL => at(LAST_LEVEL),
            2 => at(2),
            _ => at(FIRST_LEVEL),
        }
    }

    /// Calls `visit` with every leaf, in order of input addresses.
    pub fn for_each_leaf(&self, mut visit: impl FnMut(Leaf)) {
        let mut at = 0;
        while at < self.limit() {
            let (_, _, level, _) = self.walk(at);
            if let Some(leaf) = self.translate(at) {
                visit(leaf);
            }
            at = (at & !(leaf_size(level) - 1)) + leaf_size(level);
        }
    }

    /// A step of emptying the tree: removes what lies below the first entry of the root that there is, of some from number
    /// `from` on. Where the next step goes on; `None` when nothing is left. The caller sees to it that no walker
    /// comes here meanwhile, and that all translations are forgotten.
    pub fn clear_some(&mut self, from: usize) -> Option<usize> {
        let entries = ENTRIES * self.roots;
        let end = from.saturating_add(LOOKED_AT).min(entries);
        for index in from..end {
            let (page, slot) = self.slot(
                self.root,
                FIRST_LEVEL,
                index as u64 * leaf_size(FIRST_LEVEL),
            );
            let entry = self.memory.get(page, slot);
            if entry & VALID == 0 {
                continue;
            }
            self.memory.set(page, slot, 0);
            if entry & TABLE_OR_PAGE != 0 {
                let table = Pa::new(entry & OUTPUT_MASK);
                self.free_below(table, FIRST_LEVEL + 1);
                self.memory.free(table);
            }
            return Some(index + 1);
        }
        (end < entries).then_some(end)
    }

    /// Gives back the tables below the entries of `table`.
    fn free_below(&mut self, table: Pa, level: u32) {
        for index in 0..ENTRIES {
            let entry = self.memory.get(table, index);
            if entry & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE {
                let next = Pa::new(entry & OUTPUT_MASK);
                // Three levels at most: the recursion is one deep.
                if level + 1 < LAST_LEVEL {
                    self.free_below(next, level + 1);
                }
                self.memory.free(next);
            }
        }
    }
}

impl<M: TableMemory> Drop for Tree<M> {
    fn drop(&mut self) {
        for number in 0..self.roots {
            let root = Pa::new(self.root.get() + number as u64 * PAGE_SIZE);
            self.free_below(root, FIRST_LEVEL);
        }
        self.memory.free_roots(self.root, self.roots);
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
