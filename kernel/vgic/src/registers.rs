//! Where an access goes and how wide it is.

use crate::access::AccessError;

/// The memory-mapped parts of a vGIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// GICD: 4 KiB on GICv2, 64 KiB on GICv3.
    Distributor,
    /// GICR, GICv3 only: two frames of 64 KiB for each vCPU, one vCPU after the other.
    Redistributor,
}

/// Bytes in an access: two to the power of its number here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Width {
    /// 1
    Byte = 0,
    /// 2
    Halfword = 1,
    /// 4
    Word = 2,
    /// 8
    Doubleword = 3,
}

impl Width {
    /// The width of so many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Halfword),
            4 => Some(Self::Word),
            8 => Some(Self::Doubleword),
            _ => None,
        }
    }

    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        1_u32.wrapping_shl(self as u32)
    }

    /// An offset that is aligned to this width and within the largest region (128 redistributors).
    pub(crate) const fn check(self, offset: u64) -> Result<u32, AccessError> {
        if offset >= 128 * 0x2_0000 {
            return Err(AccessError::Outside);
        }
        let offset = offset as u32;
        if offset & self.bytes().wrapping_sub(1) != 0 {
            return Err(AccessError::Misaligned);
        }
        Ok(offset)
    }

    /// The part of `word`, the word that holds `offset`, that an access of this width reads.
    pub(crate) const fn extract(self, word: u32, offset: u32) -> u64 {
        let shifted = word.wrapping_shr((offset & 3).wrapping_mul(8));
        (shifted & self.mask()) as u64
    }

    /// The word with that part replaced.
    pub(crate) const fn insert(self, word: u32, offset: u32, value: u64) -> u32 {
        let shift = (offset & 3).wrapping_mul(8);
        let mask = self.mask().wrapping_shl(shift);
        (word & !mask) | ((value as u32).wrapping_shl(shift) & mask)
    }

    const fn mask(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Halfword => 0xffff,
            Self::Word | Self::Doubleword => u32::MAX,
        }
    }
}
