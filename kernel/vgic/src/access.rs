//! What a guest does with its GIC's registers: the way in, and the short ways for what guests do most.

use core::fmt;

use crate::distributor;
use crate::identity::{IntId, Notify, VcpuId, Version};
use crate::list::{Here, Link, ListRegisters};
use crate::quick::Sent;
use crate::redistributor;
use crate::registers::{Region, Width};
use crate::remote::Others;
use crate::state::Word;
use crate::vgic::Vgic;
use crate::words;

/// Why an access to a register is not performed: the guest gets a data abort, but for the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessError {
    /// The register is not accessible with this width.
    Width,
    /// The address is not a multiple of the width.
    Misaligned,
    /// The offset lies outside the frames that the guest has.
    Outside,
    /// No data abort: another CPU has not answered yet. The guest is to execute the instruction again.
    Unanswered,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Width => "the register cannot be accessed with this width",
            Self::Misaligned => "the access is not aligned to its width",
            Self::Outside => "no register frame here",
            Self::Unanswered => "another CPU has not answered yet",
        })
    }
}

impl Vgic {
    /// A write of ICC_SGI1R_EL1 that sends an SGI to the sender alone, if it can go into a list register; `false`, and
    /// nothing done, for all else, which [`write_sgi1r`](Self::write_sgi1r) is for.
    #[inline(always)]
    pub fn write_sgi1r_at_once<L: ListRegisters + ?Sized>(
        &self,
        here: Here<'_, L>,
        value: u64,
    ) -> bool {
        self.version == Version::V3
            && redistributor::sgi1r_to_one(here.vcpu, value)
                .is_some_and(|sgi| self.deliver(Version::V3, here, sgi, Link::VIRTUAL))
    }

    /// The short way of [`write_sgi1r`](Self::write_sgi1r), for an SGI to one other vCPU.
    #[inline(always)]
    pub fn write_sgi1r_to_one(&self, sender: VcpuId, value: u64) -> Sent {
        match redistributor::sgi1r_target(value) {
            Some((target, sgi)) if self.version == Version::V3 => self.post(sender, target, sgi),
            _ => Sent::NotDone,
        }
    }

    /// The short way of [`write_sgir`](Self::write_sgir), for an SGI to one other vCPU.
    #[inline(always)]
    pub fn write_sgir_to_one(&self, sender: VcpuId, value: u32) -> Sent {
        match distributor::sgir_target(value) {
            Some((target, sgi)) if self.version == Version::V2 => self.post(sender, target, sgi),
            _ => Sent::NotDone,
        }
    }

    /// The guest on `here` writes ICC_SGI1R_EL1 (IHI0069 12.2.24). ICC_SGI0R_EL1 and ICC_ASGI1R_EL1
    /// are for groups that no interrupt of ours is in: such writes have no effect.
    pub fn write_sgi1r<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>, value: u64) -> Notify {
        self.work(Some(here.vcpu), |work| {
            redistributor::sgi1r(work, here, value);
        })
        .1
    }

    /// The guest wrote DIR (ICC_DIR_EL1), and that trapped, as it does while an active interrupt is in no list register:
    /// what the hardware would have done about one that is. The guest's EOImode must be 1. A number that is no active
    /// interrupt of this vCPU's is ignored.
    #[cold]
    pub fn deactivate<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>, number: u64) -> Notify {
        let Here { vcpu, lists } = here;
        let intid = u32::try_from(number & 0xff_ffff).ok().and_then(IntId::new);
        self.work(Some(vcpu), |work| {
            work.answer(vcpu);
            let used = work.private(vcpu).map_or(0, |private| private.used);
            work.fold_all(vcpu, lists);
            if let Some(intid) = intid {
                work.end(vcpu, intid, lists);
            }
            work.fill(vcpu, used, lists);
        })
        .1
    }

    /// A read of the distributor or of the redistributors by the vCPU here; `offset` is from the
    /// start of the region. GICD_SGIR is a write like any other.
    ///
    /// # Errors
    /// [`AccessError`]: the guest gets a data abort, or executes the instruction again.
    pub fn read<L: ListRegisters + ?Sized>(
        &self,
        here: Here<'_, L>,
        region: Region,
        offset: u64,
        width: Width,
        others: &impl Others,
    ) -> Result<u64, AccessError> {
        let offset = width.check(offset)?;
        if width == Width::Word
            && let Some(value) = self.read_at_once(here.vcpu, region, offset)
        {
            return Ok(u64::from(value));
        }
        self.read_slowly(here, region, (offset, width), others)
    }

    /// What a word of what guests read most holds, at a multiple of 4: `None` for all else, which
    /// [`read`](Self::read) is for.
    #[inline(always)]
    #[must_use]
    pub fn read_at_once(&self, vcpu: VcpuId, region: Region, offset: u32) -> Option<u32> {
        if region == Region::Distributor && offset == distributor::TYPER {
            return Some(self.typer);
        }
        let (word, _) = self.enable_word(vcpu, region, offset)?;
        Some(self.state.lock().enabled(word))
    }

    /// Writes such a word, if that changes nothing that is pending or with a CPU; `false`, and nothing done, for all
    /// else, which [`write`](Self::write) is for.
    #[inline(always)]
    pub fn write_at_once(&self, vcpu: VcpuId, region: Region, offset: u32, value: u32) -> bool {
        let Some((word, enable)) = self.enable_word(vcpu, region, offset) else {
            return false;
        };
        let lanes = words::writable_enables(self.version, word) & value;
        self.state.lock().enable(word, lanes, enable)
    }

    #[cold]
    #[inline(never)]
    fn read_slowly<L: ListRegisters + ?Sized>(
        &self,
        here: Here<'_, L>,
        region: Region,
        (offset, width): (u32, Width),
        others: &impl Others,
    ) -> Result<u64, AccessError> {
        match region {
            Region::Distributor => distributor::read(self, here, others, offset, width),
            Region::Redistributor => redistributor::read(self, here, others, offset, width),
        }
    }

    /// The 32 interrupts whose enable bits an offset shows, and whether a write there sets them.
    #[inline(always)]
    fn enable_word(&self, vcpu: VcpuId, region: Region, offset: u32) -> Option<(Word, bool)> {
        let own = match region {
            Region::Distributor => 0,
            Region::Redistributor => redistributor::own_frame(vcpu),
        };
        let place = offset ^ own ^ words::SET_ENABLE;
        if place & !0xfc != 0 {
            return None;
        }
        let number = (place >> 2) & 31;
        let word = match (region, self.version, number) {
            (Region::Distributor, Version::V2, 0) | (Region::Redistributor, Version::V3, 0) => {
                Word::Private(vcpu)
            }
            (Region::Distributor, _, 1..) => Word::Shared(number.wrapping_sub(1) as usize),
            _ => return None,
        };
        Some((word, place & 0x80 == 0))
    }

    /// A write, as [`read`](Self::read). Whom it concerns is notified through `others`.
    ///
    /// # Errors
    /// [`AccessError`]: the guest gets a data abort.
    pub fn write<L: ListRegisters + ?Sized>(
        &self,
        here: Here<'_, L>,
        region: Region,
        offset: u64,
        width: Width,
        value: u64,
        others: &impl Others,
    ) -> Result<(), AccessError> {
        let offset = width.check(offset)?;
        if width == Width::Word {
            if self.write_at_once(here.vcpu, region, offset, value as u32) {
                return Ok(());
            }
            if offset == distributor::SGIR && region == Region::Distributor {
                let notify = self.write_sgir(here, value as u32);
                if !notify.is_empty() {
                    others.notify(notify);
                }
                return Ok(());
            }
        }
        self.write_slowly(here, region, (offset, width), value, others)
    }

    /// The guest writes GICD_SGIR, or what is reserved there on GICv3.
    #[inline(never)]
    pub fn write_sgir<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>, value: u32) -> Notify {
        if self.version == Version::V3 {
            return Notify::NONE;
        }
        self.work(Some(here.vcpu), |work| distributor::sgir(work, here, value))
            .1
    }

    /// An SGI of a GICv2 to the sender itself, if it can go into a list register; `false`, and nothing done, for all else,
    /// which [`write_sgir`](Self::write_sgir) is for.
    #[inline(always)]
    pub fn send_at_once<L: ListRegisters + ?Sized>(&self, here: Here<'_, L>, value: u32) -> bool {
        if self.version != Version::V2 {
            return false;
        }
        let link = Link::Software {
            source: here.vcpu.get() as u8,
            end_notice: false,
        };
        distributor::sgir_to_self(here.vcpu, value)
            .is_some_and(|sgi| self.deliver(Version::V2, here, sgi, link))
    }

    #[cold]
    #[inline(never)]
    fn write_slowly<L: ListRegisters + ?Sized>(
        &self,
        here: Here<'_, L>,
        region: Region,
        (offset, width): (u32, Width),
        value: u64,
        others: &impl Others,
    ) -> Result<(), AccessError> {
        self.change(here, others, |work| match region {
            Region::Distributor => distributor::write(work, here, offset, width, value),
            Region::Redistributor => redistributor::write(work, here, offset, width, value),
        })
    }
}
