//! The two kinds of tree that EL2 builds: its own stage 1, and a guest's stage 2. What differs is the
//! attributes: each kind has its own type, so that one cannot be put into the other.

use crate::page::HeapTables;
use crate::tree::{Invalidate, Leaf, MapError, TableMemory, Tree};
use crate::{Ipa, IpaRange, Pa, PaRange};

const ACCESSED: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 3 << 8;
const OUTER_SHAREABLE: u64 = 2 << 8;
const EXECUTE_NEVER: u64 = 1 << 54;

/// Indexes into `MAIR_EL2`; [`MAIR`] gives them their meaning.
const NORMAL_INDEX: u64 = 0;
const DEVICE_INDEX: u64 = 1;

/// `MAIR_EL2`: attribute 0 is Normal, inner and outer write-back, read and write allocating; attribute
/// 1 is Device-nGnRE (Arm DDI 0487, D24.2.109).
pub const MAIR: u64 = 0xff | 0x04 << 8;

/// What EL2 may do with a mapping of its own. Nothing is both writable and executable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage1Kind {
    /// Code: read and execute.
    Code,
    /// Constants: read.
    ReadOnly,
    /// Memory: read and write.
    Data,
    /// Device registers: read and write, Device-nGnRE.
    Device,
}

impl Stage1Kind {
    /// Descriptor bits (DDI 0487, D8.3.1.2; for EL2, AP\[1\] is RES1).
    #[must_use]
    pub const fn attributes(self) -> u64 {
        const AP1: u64 = 1 << 6;
        const READ_ONLY: u64 = 1 << 7;
        let normal = NORMAL_INDEX << 2 | INNER_SHAREABLE | ACCESSED | AP1;
        match self {
            Self::Code => normal | READ_ONLY,
            Self::ReadOnly => normal | READ_ONLY | EXECUTE_NEVER,
            Self::Data => normal | EXECUTE_NEVER,
            Self::Device => DEVICE_INDEX << 2 | OUTER_SHAREABLE | ACCESSED | AP1 | EXECUTE_NEVER,
        }
    }
}

/// What a guest may do with a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage2Kind {
    /// The guest's own memory: everything.
    Ram,
    /// A page that EL2 owns and shares: read and write, never executed.
    Shared,
    /// A frame of another guest, granted, or one that guests share by the tree: read and write, never executed.
    Granted,
    /// The same, to be read alone.
    GrantedReadOnly,
    /// Registers of a device: Device-nGnRE, never executed.
    Device,
}

impl Stage2Kind {
    /// Descriptor bits (DDI 0487, D8.3.1.2, stage 2: MemAttr\[5:2\], S2AP\[7:6\]).
    #[must_use]
    pub const fn attributes(self) -> u64 {
        const READ_WRITE: u64 = 3 << 6;
        const NORMAL_WRITE_BACK: u64 = 0xf << 2;
        const READ: u64 = 1 << 6;
        const DEVICE_NGNRE: u64 = 1 << 2;
        /// One of the bits that are software's: what tells a granted frame from a page of EL2's.
        const OF_ANOTHER: u64 = 1 << 55;
        match self {
            Self::Ram => NORMAL_WRITE_BACK | READ_WRITE | INNER_SHAREABLE | ACCESSED,
            Self::Shared => Self::Ram.attributes() | EXECUTE_NEVER,
            Self::Granted => Self::Shared.attributes() | OF_ANOTHER,
            Self::GrantedReadOnly => Self::Granted.attributes() & !READ_WRITE | READ,
            Self::Device => DEVICE_NGNRE | READ_WRITE | OUTER_SHAREABLE | ACCESSED | EXECUTE_NEVER,
        }
    }

    fn of(leaf: &Leaf) -> Option<Self> {
        const ALL: [Stage2Kind; 5] = [
            Stage2Kind::Ram,
            Stage2Kind::Shared,
            Stage2Kind::Granted,
            Stage2Kind::GrantedReadOnly,
            Stage2Kind::Device,
        ];
        ALL.into_iter()
            .find(|kind| kind.attributes() == leaf.attributes)
    }
}

/// EL2's own map: one to one, 39 bits of address, starting at level 1.
pub struct Stage1<M: TableMemory = HeapTables>(Tree<M>);

impl Stage1 {
    /// An empty map; `None` when there is no memory.
    #[must_use]
    pub fn new() -> Option<Self> {
        Tree::new(HeapTables::default(), 1).map(Self)
    }
}

impl<M: TableMemory> Stage1<M> {
    /// Maps whole pages one to one.
    pub fn map(&mut self, range: PaRange, kind: Stage1Kind) -> Result<(), MapError> {
        let start = range.start().get();
        self.0.map(start, start, range.size(), kind.attributes())
    }

    /// Maps whole pages one to one, and each by itself: what guard pages are taken out of later, where no block could
    /// be split since the tables themselves lie in it.
    pub fn map_pages(&mut self, range: PaRange, kind: Stage1Kind) -> Result<(), MapError> {
        let start = range.start().get();
        self.0
            .map_pages(start, start, range.size(), kind.attributes())
    }

    /// Removes the mapping of whole pages: guard pages.
    pub fn unmap(&mut self, range: PaRange, tlb: &impl Invalidate) -> Result<(), MapError> {
        self.0.unmap(range.start().get(), range.size(), tlb)
    }

    /// What `TTBR0_EL2` takes.
    pub fn root(&self) -> Pa {
        self.0.root()
    }

    /// Calls `visit` with each leaf.
    pub fn for_each_leaf(&self, visit: impl FnMut(Leaf)) {
        self.0.for_each_leaf(visit);
    }
}

/// Most bits of an intermediate physical address: two concatenated level-1 roots.
pub const IPA_BITS: u32 = 40;

/// The bits that one root takes.
pub const IPA_BITS_OF_A_ROOT: u32 = 39;

/// A guest's second stage, starting at level 1: 39 bits of intermediate physical address with one root, 40 with two that
/// are concatenated (DDI 0487, D8.2.5).
pub struct Stage2<M: TableMemory = HeapTables>(Tree<M>);

impl Stage2 {
    /// An empty map for addresses of so many bits, 39 or 40; `None` when there is no memory.
    #[must_use]
    pub fn new(bits: u32) -> Option<Self> {
        let roots = match bits {
            ..=IPA_BITS_OF_A_ROOT => 1,
            _ => 2,
        };
        Tree::new(HeapTables::default(), roots).map(Self)
    }

    /// From now on this many more tables may be taken from the heap: what a guest can make grow.
    pub fn limit_tables(&mut self, tables: usize) {
        self.0.memory_mut().limit(tables);
    }
}

impl<M: TableMemory> Stage2<M> {
    /// Maps whole pages of a guest.
    pub fn map(&mut self, ipa: Ipa, to: PaRange, kind: Stage2Kind) -> Result<(), MapError> {
        self.0
            .map(ipa.get(), to.start().get(), to.size(), kind.attributes())
    }

    /// Maps one page where nothing is, if its table is there: `false`, and nothing done, if not. As for
    /// [`map`](Self::map) a barrier follows, and no invalidation.
    #[inline(always)]
    pub fn map_page(&mut self, ipa: Ipa, to: Pa, kind: Stage2Kind) -> bool {
        self.0.map_page(ipa.get(), to.get(), kind.attributes())
    }

    /// Removes the page at `ipa` if it is mapped by itself, and `which` agrees with where it goes and as what. `false`,
    /// and nothing done, if not.
    #[inline(always)]
    pub fn unmap_page(
        &mut self,
        ipa: Ipa,
        tlb: &impl Invalidate,
        which: impl FnOnce(Pa, Stage2Kind) -> bool,
    ) -> bool {
        self.0.unmap_page(ipa.get(), tlb, |leaf| {
            Stage2Kind::of(leaf).is_some_and(|kind| which(Pa::new(leaf.output), kind))
        })
    }

    /// Removes whatever lies in `range`.
    pub fn unmap(&mut self, range: IpaRange, tlb: &impl Invalidate) -> Result<(), MapError> {
        self.0.unmap(range.start().get(), range.size(), tlb)
    }

    /// A step of emptying it ([`Tree::clear_some`]): a GiB of what is mapped at most, and some of what is not.
    pub fn clear_some(&mut self, from: usize) -> Option<usize> {
        self.0.clear_some(from)
    }

    /// Where `ipa` goes, and as what.
    pub fn translate(&self, ipa: Ipa) -> Option<(Pa, Stage2Kind)> {
        let leaf = self.0.translate(ipa.get())?;
        let kind = Stage2Kind::of(&leaf)?;
        Some((Pa::new(leaf.output + (ipa.get() - leaf.input)), kind))
    }

    /// Where `ipa` goes, if it does as `kind`: one comparison tells.
    #[inline(always)]
    pub fn translate_as(&self, ipa: Ipa, kind: Stage2Kind) -> Option<Pa> {
        self.0
            .translate_as(ipa.get(), kind.attributes())
            .map(Pa::new)
    }

    /// What `VTTBR_EL2` takes as its address.
    pub fn root(&self) -> Pa {
        self.0.root()
    }

    /// Calls `visit` with each leaf.
    pub fn for_each_leaf(&self, visit: impl FnMut(Leaf)) {
        self.0.for_each_leaf(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_writable_and_executable() {
        for kind in [
            Stage1Kind::Code,
            Stage1Kind::ReadOnly,
            Stage1Kind::Data,
            Stage1Kind::Device,
        ] {
            let attributes = kind.attributes();
            let writable = attributes & 1 << 7 == 0;
            assert!(!writable || attributes & EXECUTE_NEVER != 0);
        }
    }

    #[test]
    fn every_kind_of_mapping_is_told_from_the_others() {
        let mut stage2 = Stage2::new(IPA_BITS).unwrap();
        let kinds = [
            Stage2Kind::Ram,
            Stage2Kind::Shared,
            Stage2Kind::Granted,
            Stage2Kind::GrantedReadOnly,
            Stage2Kind::Device,
        ];
        for (number, kind) in (1..).zip(kinds) {
            let at = number * 4096;
            let page = PaRange::new(Pa::new(at), 4096).unwrap();
            stage2.map(Ipa::new(at), page, kind).unwrap();
            assert_eq!(stage2.translate(Ipa::new(at)), Some((Pa::new(at), kind)));
            for other in kinds {
                let there = stage2.translate_as(Ipa::new(at + 8), other);
                assert_eq!(there, (other == kind).then_some(Pa::new(at + 8)));
            }
        }
    }

    #[test]
    fn a_guest_walk_gives_address_and_kind() {
        let mut stage2 = Stage2::new(IPA_BITS).unwrap();
        let page = PaRange::new(Pa::new(0x8000_0000), 0x20_0000).unwrap();
        stage2
            .map(Ipa::new(0x4000_0000), page, Stage2Kind::Ram)
            .unwrap();
        assert_eq!(
            stage2.translate(Ipa::new(0x4010_0008)),
            Some((Pa::new(0x8010_0008), Stage2Kind::Ram))
        );
        let there = stage2.translate_as(Ipa::new(0x4010_0008), Stage2Kind::Ram);
        assert_eq!(there, Some(Pa::new(0x8010_0008)));
        assert_eq!(stage2.translate(Ipa::new(0x4020_0000)), None);
        assert!(stage2.root().is_aligned(8192));
    }
}
