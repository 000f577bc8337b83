//! Names of interrupts and of vCPUs, and the affinity by which a guest's GIC knows a vCPU.
//!
//! GICv2: IHI0048B 2.2.1 (interrupt IDs). GICv3: IHI0069 2.2 (INTIDs), 2.2.1 (affinity).

use core::fmt;

/// Which GIC a guest sees. It is the host's own version, so it also fixes the format of the list
/// registers: GICH_LR for version 2, ICH_LR_EL2 for version 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// GICv2: memory-mapped CPU interface, up to 8 vCPUs.
    V2,
    /// GICv3 with affinity routing, system registers, one redistributor a vCPU, up to 128 vCPUs.
    V3,
}

impl Version {
    /// How many vCPUs such a GIC serves.
    #[must_use]
    pub const fn max_vcpus(self) -> u32 {
        match self {
            Self::V2 => 8,
            Self::V3 => 128,
        }
    }
}

/// Number of a vCPU in its domain, 0 to 127.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VcpuId(u8);

impl VcpuId {
    /// The boot vCPU.
    pub const BOOT: Self = Self(0);

    /// The vCPU with this number; `None` from 128 on.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number < 128 {
            Some(Self((number & 0x7f) as u8))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0 as u32
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Aff3.Aff2.Aff1.Aff0 in bits 31:0, as in GICR_TYPER bits 63:32: sixteen vCPUs to an Aff1, as
    /// VMPIDR_EL2 says (guest environment, section 2).
    #[must_use]
    pub const fn affinity(self) -> u32 {
        ((self.0 as u32 >> 4) << 8) | (self.0 as u32 & 0xf)
    }

    /// The vCPU with this packed affinity; `None` if no vCPU can have it. Whether the domain has so
    /// many is not checked.
    #[must_use]
    pub const fn from_affinity(affinity: u32) -> Option<Self> {
        if affinity & !0x70f != 0 {
            return None;
        }
        Self::new(((affinity >> 8) << 4) | (affinity & 0xf))
    }
}

impl fmt::Display for VcpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of an interrupt, 0 to 1019: SGIs 0..=15, PPIs 16..=31, SPIs from 32 on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IntId(u16);

impl IntId {
    /// The virtual timer's PPI.
    pub const VIRTUAL_TIMER: Self = Self(27);
    /// The non-secure physical timer's PPI.
    pub const PHYSICAL_TIMER: Self = Self(30);
    /// The PPI that says that event channels are pending (xen: arch-arm.h, GUEST_EVTCHN_PPI).
    pub const EVENT_UPCALL: Self = Self(31);
    /// The SPI of the emulated UART (xen: arch-arm.h, GUEST_VPL011_SPI).
    pub const VPL011: Self = Self(32);

    /// The interrupt with this number; `None` from 1020 on (special and LPI numbers).
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number < 1020 {
            Some(Self((number & 0x3ff) as u16))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0 as u32
    }

    /// A software-generated interrupt.
    #[must_use]
    pub const fn is_sgi(self) -> bool {
        self.0 < 16
    }

    /// An SGI or PPI: each vCPU has its own.
    #[must_use]
    pub const fn is_private(self) -> bool {
        self.0 < 32
    }

    /// The bit of this interrupt in the word of its 32.
    pub(crate) const fn mask(self) -> u32 {
        bit(self.lane())
    }

    /// Place among its 32.
    pub(crate) const fn lane(self) -> u32 {
        self.0 as u32 & 31
    }

    /// Which word of 32 shared interrupts: 0 for 32..64. Not for private ones.
    pub(crate) const fn shared_bank(self) -> usize {
        (self.0 as usize >> 5).wrapping_sub(1)
    }

    /// The interrupt in this lane of this word of 32 (word 0 is the private one). Both are cut to
    /// what a GIC can have.
    pub(crate) const fn from_word(word: u32, lane: u32) -> Self {
        Self((((word & 31) << 5) | (lane & 31)) as u16)
    }
}

impl fmt::Display for IntId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The word with only bit `n` set, `n` below 32.
pub(crate) const fn bit(n: u32) -> u32 {
    1_u32.wrapping_shl(n)
}

/// The set bits of a word, lowest first.
#[derive(Clone, Copy)]
pub(crate) struct Bits(pub(crate) u32);

impl Iterator for Bits {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let lowest = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        Some(lowest)
    }
}

/// A set of vCPUs of one domain: whom to kick (if it runs on another CPU) or to wake (if it waits).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[must_use = "these vCPUs wait for a kick"]
pub struct Notify(u128);

impl Notify {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// Nobody to notify.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the vCPU is in it.
    #[must_use]
    pub const fn contains(self, vcpu: VcpuId) -> bool {
        self.0 & 1_u128.wrapping_shl(vcpu.get()) != 0
    }

    /// Both.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All but one.
    pub(crate) const fn without(self, vcpu: VcpuId) -> Self {
        Self(self.0 & !1_u128.wrapping_shl(vcpu.get()))
    }

    pub(crate) fn insert(&mut self, vcpu: VcpuId) {
        self.0 |= 1_u128.wrapping_shl(vcpu.get());
    }
}

impl From<VcpuId> for Notify {
    fn from(vcpu: VcpuId) -> Self {
        let mut one = Self::NONE;
        one.insert(vcpu);
        one
    }
}

impl Iterator for Notify {
    type Item = VcpuId;

    fn next(&mut self) -> Option<VcpuId> {
        if self.0 == 0 {
            return None;
        }
        let lowest = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        VcpuId::new(lowest)
    }
}
