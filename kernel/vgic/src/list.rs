//! List registers: the trait by which this crate reaches them, and their two raw formats.
//!
//! GICv2: IHI0048B 5.3.9, GICH_LRn. GICv3: IHI0069 12.4.10, ICH_LR<n>_EL2. Maintenance conditions:
//! GICH_HCR (IHI0048B 5.3.2) and ICH_HCR_EL2 (IHI0069 12.4.7), which have them at the same bits.

use crate::identity::{IntId, VcpuId, Version};

/// The most list registers that either architecture version has room for here: GICv3 has up to 16,
/// GICv2 up to 64 of which the first 16 are used.
pub const MAX_LISTS: usize = 16;

/// The maintenance interrupts that a vCPU wants, as bits of GICH_HCR or ICH_HCR_EL2 to be set beside
/// the enable bit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Maintenance(u32);

impl Maintenance {
    /// None: everything fits.
    pub const NONE: Self = Self(0);
    /// LRENPIE, bit 2: the guest ended an interrupt that is in no list register. While this is wanted a write of
    /// ICC_DIR_EL1 is to trap, where the CPU can do that (ICH_HCR_EL2.TDIR), to [`Vgic::deactivate`](crate::Vgic::deactivate).
    pub const UNLISTED_END: Self = Self(1 << 2);
    /// NPIE, bit 3: the guest has acknowledged all that was listed, and more is waiting.
    pub const NONE_PENDING: Self = Self(1 << 3);

    /// The bits, in their places in the register.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is wanted.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The list registers of the CPU that executes. The EL2 image implements it on its GIC; tests on an
/// array.
pub trait ListRegisters {
    /// How many there are. More than [`MAX_LISTS`] are left alone.
    fn count(&self) -> usize;

    /// The raw value of one: 32 bits (GICH_LR) on GICv2, 64 (ICH_LR_EL2) on GICv3.
    fn read(&self, index: usize) -> u64;

    /// Writes one.
    fn write(&self, index: usize, raw: u64);

    /// A bit for each of the [`count`](Self::count) that holds nothing: GICH_ELRSR0 or ICH_ELRSR_EL2.
    fn empty(&self) -> u32;

    /// Sets the maintenance interrupts in GICH_HCR or ICH_HCR_EL2: exactly these beside the enable.
    fn set_maintenance(&self, wanted: Maintenance);

    /// Takes the count of ends without a list register (GICH_HCR or ICH_HCR_EL2 bits 31:27,
    /// EOICount) and sets it to 0.
    fn take_end_count(&self) -> u32;

    /// Takes the active state off a physical interrupt that the guest will not end (GICD_ICACTIVER
    /// or GICR_ICACTIVER0 of this CPU, or GICC_DIR / ICC_DIR_EL1).
    fn deactivate(&self, physical: IntId);

    /// Whether the line of a physical interrupt that was injected is still high. For the virtual
    /// timer: CNTV_CTL_EL0 with ENABLE and ISTATUS set and IMASK clear. `true` for what cannot be
    /// told: then nothing is withdrawn.
    fn is_asserted(&self, physical: IntId) -> bool;
}

/// The vCPU of this domain that is loaded on the CPU that executes, with this CPU's list registers.
#[derive(Debug)]
pub struct Here<'a, L: ?Sized> {
    /// Who is loaded.
    pub vcpu: VcpuId,
    /// The list registers of this CPU.
    pub lists: &'a L,
}

impl<L: ?Sized> Clone for Here<'_, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L: ?Sized> Copy for Here<'_, L> {}

/// What a list register says, whatever its format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListRegister {
    /// The virtual interrupt.
    pub intid: IntId,
    /// 0 is the most urgent; the lower three bits are not kept.
    pub priority: u8,
    /// Waits for its acknowledge.
    pub pending: bool,
    /// Acknowledged, not deactivated.
    pub active: bool,
    /// What else the format has room for.
    pub link: Link,
}

/// The part of a list register that depends on whether hardware is behind the interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// A virtual interrupt.
    Software {
        /// The vCPU that sent an SGI (GICv2 only; 0 elsewhere).
        source: u8,
        /// A maintenance interrupt when the guest has ended it.
        end_notice: bool,
    },
    /// Deactivating it deactivates this physical interrupt. Never pending and active at once.
    Hardware(IntId),
}

impl Link {
    /// A virtual interrupt without a source or an end notice.
    pub(crate) const VIRTUAL: Self = Self::Software {
        source: 0,
        end_notice: false,
    };
}

impl ListRegister {
    /// The raw value.
    #[inline(always)]
    #[must_use]
    pub const fn encode(self, version: Version) -> u64 {
        match version {
            Version::V2 => {
                // Group 0, as GICD_IGROUPR is RAZ on a GICv2 without the Security Extensions.
                let common = self.intid.get()
                    | ((self.priority as u32 >> 3) << 23)
                    | ((self.pending as u32) << 28)
                    | ((self.active as u32) << 29);
                let link = match self.link {
                    Link::Software { source, end_notice } => {
                        ((source as u32 & 7) << 10) | ((end_notice as u32) << 19)
                    }
                    Link::Hardware(physical) => (1 << 31) | (physical.get() << 10),
                };
                (common | link) as u64
            }
            Version::V3 => {
                let common = self.intid.get() as u64
                    | (((self.priority & 0xf8) as u64) << 48)
                    | (1 << 60)
                    | ((self.pending as u64) << 62)
                    | ((self.active as u64) << 63);
                let link = match self.link {
                    Link::Software { end_notice, .. } => (end_notice as u64) << 41,
                    Link::Hardware(physical) => (1 << 61) | ((physical.get() as u64) << 32),
                };
                common | link
            }
        }
    }

    /// What a raw value says; `None` if it names an interrupt that we never list.
    #[must_use]
    pub const fn decode(raw: u64, version: Version) -> Option<Self> {
        let (intid, physical, linked, priority) = match version {
            Version::V2 => (
                raw as u32 & 0x3ff,
                (raw >> 10) as u32 & 0x3ff,
                raw & (1 << 31) != 0,
                ((raw >> 23) as u8 & 0x1f) << 3,
            ),
            Version::V3 => (
                raw as u32,
                (raw >> 32) as u32 & 0x1fff,
                raw & (1 << 61) != 0,
                (raw >> 48) as u8,
            ),
        };
        let Some(intid) = IntId::new(intid) else {
            return None;
        };
        let link = if linked {
            match IntId::new(physical) {
                Some(physical) => Link::Hardware(physical),
                None => return None,
            }
        } else {
            match version {
                Version::V2 => Link::Software {
                    source: (raw >> 10) as u8 & 7,
                    end_notice: raw & (1 << 19) != 0,
                },
                Version::V3 => Link::Software {
                    source: 0,
                    end_notice: raw & (1 << 41) != 0,
                },
            }
        };
        let state = Occupancy::of(raw, version);
        Some(Self {
            intid,
            priority,
            pending: state.pending,
            active: state.active,
            link,
        })
    }
}

/// The state field alone: all that a fold needs of most list registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Occupancy {
    pub(crate) pending: bool,
    pub(crate) active: bool,
    /// CPUID of an SGI, GICv2 only.
    pub(crate) source: u8,
}

impl Occupancy {
    pub(crate) const fn of(raw: u64, version: Version) -> Self {
        match version {
            Version::V2 => Self {
                pending: raw & (1 << 28) != 0,
                active: raw & (1 << 29) != 0,
                source: (raw >> 10) as u8 & 7,
            },
            Version::V3 => Self {
                pending: raw & (1 << 62) != 0,
                active: raw & (1 << 63) != 0,
                source: 0,
            },
        }
    }
}

/// The raw value with the pending state added.
pub(crate) const fn with_pending(raw: u64, version: Version) -> u64 {
    match version {
        Version::V2 => raw | (1 << 28),
        Version::V3 => raw | (1 << 62),
    }
}
