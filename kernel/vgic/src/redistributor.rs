//! The redistributors and the SGI system register of GICv3: GICR (IHI0069 12.11) and ICC_SGI1R_EL1
//! (12.2.24). No LPIs; what is reserved or not implemented reads as zero and ignores writes.

use crate::access::AccessError;
use crate::distributor::{IIDR_VALUE, identification};
use crate::identity::{IntId, VcpuId, Version};
use crate::list::{Here, ListRegisters};
use crate::registers::Width;
use crate::remote::Others;
use crate::state::{Word, Work};
use crate::vgic::Vgic;
use crate::words;

/// Redistributor Implementer Identification Register.
const IIDR: u32 = 0x0004;
/// Redistributor Type Register, 64 bits (IHI0069 12.11.35).
const TYPER: u32 = 0x0008;
const TYPER_HIGH: u32 = 0x000c;
/// Redistributor Wake Register (IHI0069 12.11.42): ProcessorSleep bit 1, ChildrenAsleep bit 2.
const WAKER: u32 = 0x0014;
/// LPI tables: 64 bits, and zero as there are no LPIs.
const PROPBASER: u32 = 0x0070;
const PENDBASER: u32 = 0x0078;
/// Start of the second frame, SGI_base.
const SGI_BASE: u32 = 0x1_0000;

const PROCESSOR_SLEEP: u32 = 1 << 1;
const CHILDREN_ASLEEP: u32 = 1 << 2;

/// Whose redistributor an offset is in, and where in its two frames.
fn locate(version: Version, vcpus: u32, offset: u32) -> Result<(VcpuId, u32), AccessError> {
    let number = offset >> 17;
    match VcpuId::new(number) {
        Some(vcpu) if number < vcpus && version == Version::V3 => Ok((vcpu, offset & 0x1_ffff)),
        _ => Err(AccessError::Outside),
    }
}

/// Affinity, processor number, and Last on the last one.
fn typer(vcpu: VcpuId, vcpus: u32) -> u64 {
    let last = vcpu.get().wrapping_add(1) == vcpus;
    (u64::from(vcpu.affinity()) << 32) | (u64::from(vcpu.get()) << 8) | (u64::from(last) << 4)
}

/// Where a vCPU's own SGI frame starts.
#[inline]
pub(crate) const fn own_frame(vcpu: VcpuId) -> u32 {
    (vcpu.get() << 17) | SGI_BASE
}

/// Reads a register of any vCPU's redistributor.
pub(crate) fn read<L: ListRegisters + ?Sized>(
    vgic: &Vgic,
    here: Here<'_, L>,
    others: &impl Others,
    offset: u32,
    width: Width,
) -> Result<u64, AccessError> {
    let (vcpu, offset) = locate(vgic.version(), vgic.vcpu_count(), offset)?;
    let value = match offset {
        0x1_0080..0x1_0800 | 0x1_0c00..0x1_0d00 => {
            let offset = offset & 0xfff;
            if words::number(offset) != 0 {
                return Ok(0);
            }
            return vgic.read_word(here, others, Word::Private(vcpu), offset, width);
        }
        TYPER | TYPER_HIGH => {
            let typer = typer(vcpu, vgic.vcpu_count());
            return match width {
                Width::Doubleword => Ok(typer),
                Width::Word if offset == TYPER => Ok(typer & 0xffff_ffff),
                Width::Word => Ok(typer >> 32),
                _ => Err(AccessError::Width),
            };
        }
        IIDR => IIDR_VALUE,
        WAKER => {
            let (asleep, _) = vgic.work(None, |work| {
                work.private(vcpu).is_some_and(|private| private.asleep)
            });
            if asleep {
                PROCESSOR_SLEEP | CHILDREN_ASLEEP
            } else {
                0
            }
        }
        PROPBASER | PENDBASER if width == Width::Doubleword => return Ok(0),
        0xffd0..SGI_BASE | 0x1_ffd0..0x2_0000 => identification(Version::V3, offset),
        _ => 0,
    };
    if width != Width::Word {
        return Err(AccessError::Width);
    }
    Ok(u64::from(value))
}

/// Writes a register of any vCPU's redistributor.
pub(crate) fn write<L: ListRegisters + ?Sized>(
    work: &mut Work<'_>,
    here: Here<'_, L>,
    offset: u32,
    width: Width,
    value: u64,
) -> Result<(), AccessError> {
    let vcpus = work.state.private.len() as u32;
    let (vcpu, offset) = locate(work.version, vcpus, offset)?;
    match offset {
        0x1_0080..0x1_0800 | 0x1_0c00..0x1_0d00 => {
            let offset = offset & 0xfff;
            if words::number(offset) != 0 {
                return Ok(());
            }
            words::write(work, here, Word::Private(vcpu), offset, width, value)
        }
        // The sleeping children follow at once. A redistributor that sleeps forwards all the same:
        // its vCPU is woken by its interrupts.
        WAKER if width == Width::Word => {
            if let Some(private) = work.private_mut(vcpu) {
                private.asleep = value as u32 & PROCESSOR_SLEEP != 0;
            }
            Ok(())
        }
        TYPER | PROPBASER | PENDBASER if width == Width::Doubleword => Ok(()),
        _ if width == Width::Word => Ok(()),
        _ => Err(AccessError::Width),
    }
}

/// The SGI of an ICC_SGI1R_EL1 write that names the sender alone.
#[inline]
pub(crate) fn sgi1r_to_one(sender: VcpuId, value: u64) -> Option<IntId> {
    let affinity = sender.affinity();
    let own = (u64::from(affinity >> 8) << 16) | 1_u64.wrapping_shl(affinity & 0xf);
    if value & !(0xf << 24) == own {
        Some(IntId::from_word(0, (value >> 24) as u32 & 0xf))
    } else {
        None
    }
}

/// The SGI of an ICC_SGI1R_EL1 write that names one vCPU, and which.
#[inline(always)]
pub(crate) fn sgi1r_target(value: u64) -> Option<(VcpuId, u32)> {
    let list = value as u32 & 0xffff;
    let aff1 = (value >> 16) as u32 & 0xff;
    if value >> 28 != 0 || aff1 >= 8 || !list.is_power_of_two() {
        return None;
    }
    let target = VcpuId::new((aff1 << 4) | list.trailing_zeros())?;
    Some((target, (value >> 24) as u32 & 0xf))
}

/// ICC_SGI1R_EL1: TargetList 15:0, Aff1 23:16, INTID 27:24, Aff2 39:32, IRM bit 40, RS 47:44, Aff3
/// 55:48. No vCPU has an Aff2 or Aff3, nor an Aff0 above 15 (RS).
pub(crate) fn sgi1r<L: ListRegisters + ?Sized>(work: &mut Work<'_>, here: Here<'_, L>, value: u64) {
    if work.version != Version::V3 {
        return;
    }
    let sender = here.vcpu;
    let sgi = (value >> 24) as u32 & 0xf;
    if value & (1 << 40) != 0 {
        return work.sgi_others(sender, sgi, here);
    }
    let elsewhere = (0xff << 32) | (0xf << 44) | (0xff << 48);
    let aff1 = (value >> 16) as u32 & 0xff;
    if value & elsewhere == 0 && aff1 < 8 {
        work.sgi_list(sender, aff1 << 4, value as u32 & 0xffff, sgi, here);
    }
}
