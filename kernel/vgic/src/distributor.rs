//! The distributor: GICD of GICv2 (IHI0048B 4.3) and of GICv3 with affinity routing and one security
//! state (IHI0069 12.9). What is reserved or not implemented reads as zero and ignores writes.

use crate::access::AccessError;
use crate::identity::{IntId, VcpuId, Version};
use crate::inject::source_of;
use crate::list::{Here, ListRegisters};
use crate::registers::Width;
use crate::remote::Others;
use crate::state::{NOBODY, Shared, Word, Work};
use crate::vgic::Vgic;
use crate::words;

/// Distributor Control Register (IHI0048B 4.3.1, IHI0069 12.9.4).
const CTLR: u32 = 0x000;
/// Interrupt Controller Type Register (IHI0048B 4.3.2, IHI0069 12.9.38).
pub(crate) const TYPER: u32 = 0x004;
/// Distributor Implementer Identification Register (IHI0048B 4.3.3, IHI0069 12.9.10).
const IIDR: u32 = 0x008;
/// Software Generated Interrupt Register, in the distributor (IHI0048B 4.3.15).
pub const SGIR: u32 = 0xf00;
/// Peripheral ID2 Register: 0xfe8 in the last 48 bytes of a frame of either size.
const PIDR2: u32 = 0xfe8;

/// Implementer Arm, product and revision 0.
pub(crate) const IIDR_VALUE: u32 = 0x0000_043b;

/// GICD_CTLR of GICv3: affinity routing always on (ARE, bit 4), one security state (DS, bit 6).
const CONTROL_V3: u32 = (1 << 4) | (1 << 6);

/// GICD_TYPER for so many vCPUs and words of 32 SPIs.
pub(crate) const fn typer(version: Version, vcpus: u32, banks: u32) -> u32 {
    match version {
        // ITLinesNumber, CPUNumber; no Security Extensions.
        Version::V2 => (banks & 0x1f) | ((vcpus.wrapping_sub(1) & 7) << 5),
        // CPUNumber is zero as affinity routing cannot be turned off; IDbits: 10 bits of INTID;
        // no LPIs, no message-based SPIs; No1N: an SPI goes to one named vCPU only.
        Version::V3 => (banks & 0x1f) | (9 << 19) | (1 << 25),
    }
}

/// PIDR and CIDR, the last 48 bytes of a register frame: a GIC-400 or a GICv3 by Arm (IHI0048B
/// 4.3.18, IHI0069 12.1.1).
pub(crate) const fn identification(version: Version, offset: u32) -> u32 {
    match offset & 0xffc {
        0xfd0 => 0x04,
        0xfe0 => match version {
            Version::V2 => 0x90,
            Version::V3 => 0x92,
        },
        0xfe4 => 0xb4,
        PIDR2 => match version {
            Version::V2 => 0x2b,
            Version::V3 => 0x3b,
        },
        0xff0 => 0x0d,
        0xff4 => 0xf0,
        0xff8 => 0x05,
        0xffc => 0xb1,
        _ => 0,
    }
}

const fn check_size(version: Version, offset: u32) -> Result<(), AccessError> {
    let size = match version {
        Version::V2 => 0x1000,
        Version::V3 => 0x1_0000,
    };
    if offset < size {
        Ok(())
    } else {
        Err(AccessError::Outside)
    }
}

const fn require_word(width: Width) -> Result<(), AccessError> {
    match width {
        Width::Word => Ok(()),
        _ => Err(AccessError::Width),
    }
}

/// Reads a register.
pub(crate) fn read<L: ListRegisters + ?Sized>(
    vgic: &Vgic,
    here: Here<'_, L>,
    others: &impl Others,
    offset: u32,
    width: Width,
) -> Result<u64, AccessError> {
    let version = vgic.version();
    check_size(version, offset)?;
    let value = match offset {
        0x080..0x800 | 0xc00..0xd00 => {
            let Some(word) = words::distributor_word(version, here.vcpu, offset) else {
                return Ok(0);
            };
            return vgic.read_word(here, others, word, offset, width);
        }
        CTLR => {
            let (control, _) = vgic.work(None, |work| work.state.control);
            match version {
                Version::V2 => control,
                Version::V3 => control | CONTROL_V3,
            }
        }
        TYPER => vgic.typer,
        IIDR => IIDR_VALUE,
        0x800..0xc00 if version == Version::V2 => {
            if width == Width::Doubleword {
                return Err(AccessError::Width);
            }
            let (targets, _) = vgic.work(None, |work| targets_word(work, here.vcpu, offset & !3));
            return Ok(width.extract(targets, offset));
        }
        0xf10..0xf30 if version == Version::V2 => {
            if width == Width::Doubleword {
                return Err(AccessError::Width);
            }
            let (sources, _) = vgic.work(None, |work| sources_word(work, here, offset & 0xc));
            return Ok(width.extract(sources, offset));
        }
        0x6100..0x8000 if version == Version::V3 => {
            let (route, _) = vgic.work(None, |work| route(work, offset));
            return match width {
                Width::Doubleword => Ok(route),
                Width::Word if offset & 4 != 0 => Ok(route >> 32),
                Width::Word => Ok(route & 0xffff_ffff),
                _ => Err(AccessError::Width),
            };
        }
        0xfd0..0x1000 if version == Version::V2 => identification(version, offset),
        0xffd0..0x1_0000 => identification(version, offset),
        // SGIR is write-only; the rest is reserved or not implemented.
        _ => 0,
    };
    require_word(width)?;
    Ok(u64::from(value))
}

/// Writes a register.
pub(crate) fn write<L: ListRegisters + ?Sized>(
    work: &mut Work<'_>,
    here: Here<'_, L>,
    offset: u32,
    width: Width,
    value: u64,
) -> Result<(), AccessError> {
    let version = work.version;
    check_size(version, offset)?;
    match offset {
        0x080..0x800 | 0xc00..0xd00 => match words::distributor_word(version, here.vcpu, offset) {
            Some(word) => words::write(work, here, word, offset, width, value),
            None => Ok(()),
        },
        CTLR => {
            require_word(width)?;
            let writable = match version {
                Version::V2 => 1,
                Version::V3 => 3,
            };
            work.set_control(value as u32 & writable);
            Ok(())
        }
        0x800..0xc00 if version == Version::V2 => {
            for byte in bytes(width, value)? {
                write_target(work, offset.wrapping_add(byte.0), byte.1);
            }
            Ok(())
        }
        0xf10..0xf30 if version == Version::V2 => {
            for byte in bytes(width, value)? {
                write_sources(work, here.vcpu, offset.wrapping_add(byte.0), byte.1);
            }
            Ok(())
        }
        0x6100..0x8000 if version == Version::V3 => {
            let current = route(work, offset);
            let value = match width {
                Width::Doubleword => value,
                Width::Word if offset & 4 != 0 => {
                    (current & 0xffff_ffff) | ((value & 0xffff_ffff) << 32)
                }
                Width::Word => (current & !0xffff_ffff) | (value & 0xffff_ffff),
                _ => return Err(AccessError::Width),
            };
            write_route(work, offset, value);
            Ok(())
        }
        _ => require_word(width),
    }
}

/// The bytes of a value of up to a word, with their places.
fn bytes(width: Width, value: u64) -> Result<impl Iterator<Item = (u32, u8)>, AccessError> {
    if width == Width::Doubleword {
        return Err(AccessError::Width);
    }
    Ok((0..width.bytes()).zip((value as u32).to_le_bytes()))
}

/// The SPI of a GICD_ITARGETSR byte or GICD_IROUTER.
fn spi<'a>(work: &'a mut Work<'_>, intid: u32) -> Option<(usize, u32, &'a mut Shared)> {
    let index = (intid >> 5).checked_sub(1)? as usize;
    let lane = intid & 31;
    work.shared_mut(index).map(|shared| (index, lane, shared))
}

/// GICD_ITARGETSR (IHI0048B 4.3.12): read-only and this vCPU for SGIs and PPIs; zero altogether if
/// there is one vCPU only.
fn targets_word(work: &Work<'_>, vcpu: VcpuId, offset: u32) -> u32 {
    if work.state.private.len() == 1 {
        return 0;
    }
    let intid = offset & 0x3fc;
    let Some(index) = (intid >> 5).checked_sub(1) else {
        return u32::from(source_of(vcpu)).wrapping_mul(0x0101_0101);
    };
    let lane = (intid & 31) as usize;
    work.state
        .shared
        .get(index as usize)
        .and_then(|shared| shared.route.get(lane..lane.wrapping_add(4)))
        .map_or(0, |routes| {
            let low = |place: usize| routes.get(place).map_or(0, |&route| route & 0xff);
            low(0) | (low(1) << 8) | (low(2) << 16) | (low(3) << 24)
        })
}

/// One byte of GICD_ITARGETSR. An SPI goes to the lowest of several targets: any one may be chosen
/// (IHI0048B 2.3.2, the 1-N model).
fn write_target(work: &mut Work<'_>, offset: u32, targets: u8) {
    let vcpus = work.state.private.len();
    if vcpus == 1 {
        return;
    }
    let existing = (1_u32.wrapping_shl(vcpus as u32) & 0x1ff).wrapping_sub(1);
    let Some((index, lane, shared)) = spi(work, offset & 0x3ff) else {
        return;
    };
    let targets = u32::from(targets) & existing;
    let target = if targets == 0 {
        NOBODY
    } else {
        (targets.trailing_zeros() & 7) as u8
    };
    reroute(shared, lane, targets, target);
    rerouted(work, index, lane);
}

/// GICD_IROUTER (IHI0069 12.9.22): Aff3 in bits 39:32, Aff2 to Aff0 in bits 23:0.
fn route(work: &mut Work<'_>, offset: u32) -> u64 {
    let Some((_, lane, shared)) = spi(work, (offset >> 3) & 0x3ff) else {
        return 0;
    };
    let packed = shared.route.get(lane as usize).copied().unwrap_or(0);
    (u64::from(packed >> 24) << 32) | u64::from(packed & 0x00ff_ffff)
}

/// Interrupt_Routing_Mode, bit 31, is reserved as GICD_TYPER.No1N is set.
fn write_route(work: &mut Work<'_>, offset: u32, value: u64) {
    let vcpus = work.state.private.len();
    let Some((index, lane, shared)) = spi(work, (offset >> 3) & 0x3ff) else {
        return;
    };
    let packed = ((value >> 32) as u32) << 24 | (value as u32 & 0x00ff_ffff);
    let target = VcpuId::from_affinity(packed)
        .filter(|vcpu| vcpu.index() < vcpus)
        .map_or(NOBODY, |vcpu| vcpu.get() as u8);
    reroute(shared, lane, packed, target);
    rerouted(work, index, lane);
}

fn reroute(shared: &mut Shared, lane: u32, route: u32, target: u8) {
    if let Some(slot) = shared.route.get_mut(lane as usize) {
        *slot = route;
    }
    if let Some(slot) = shared.target.get_mut(lane as usize) {
        *slot = target;
    }
}

/// What is pending goes to its new vCPU; what is listed is taken back first.
fn rerouted(work: &mut Work<'_>, index: usize, lane: u32) {
    let forwarding = work.state.forwarding;
    let Some(shared) = work.state.shared.get(index) else {
        return;
    };
    let concerned = shared.bank.listed | shared.bank.wanting(forwarding);
    work.touch(Word::Shared(index), concerned & crate::identity::bit(lane));
}

/// The SGI of a GICD_SGIR write that names the sender alone.
#[inline]
pub(crate) fn sgir_to_self(sender: VcpuId, value: u32) -> Option<IntId> {
    let alone = match (value >> 24) & 3 {
        0 => (value >> 16) & 0xff == u32::from(source_of(sender)),
        2 => true,
        _ => false,
    };
    alone.then(|| IntId::from_word(0, value & 0xf))
}

/// The SGI of a GICD_SGIR write whose list names one vCPU, and which.
#[inline(always)]
pub(crate) fn sgir_target(value: u32) -> Option<(VcpuId, u32)> {
    let list = (value >> 16) & 0xff;
    if (value >> 24) & 3 != 0 || !list.is_power_of_two() {
        return None;
    }
    Some((VcpuId::new(list.trailing_zeros())?, value & 0xf))
}

/// GICD_SGIR (IHI0048B 4.3.15).
pub(crate) fn sgir<L: ListRegisters + ?Sized>(work: &mut Work<'_>, here: Here<'_, L>, value: u32) {
    let sgi = value & 0xf;
    let sender = here.vcpu;
    match (value >> 24) & 3 {
        0 => work.sgi_list(sender, 0, (value >> 16) & 0xff, sgi, here),
        1 => work.sgi_others(sender, sgi, here),
        2 => work.sgi(sender, sender, sgi, here),
        _ => {}
    }
}

/// GICD_CPENDSGIR and GICD_SPENDSGIR (IHI0048B 4.3.16, 4.3.17): the pending sources of four SGIs.
fn sources_word<L: ListRegisters + ?Sized>(work: &Work<'_>, here: Here<'_, L>, first: u32) -> u32 {
    let mut word = 0_u32;
    for place in 0..4_u32 {
        let sources = work.pending_sources(here, first.wrapping_add(place));
        word |= u32::from(sources).wrapping_shl(place.wrapping_mul(8));
    }
    word
}

fn write_sources(work: &mut Work<'_>, vcpu: VcpuId, offset: u32, sources: u8) {
    let clear = offset < 0xf20;
    let lane = offset & 0xf;
    let vcpus = work.state.private.len() as u32;
    let existing = (1_u32.wrapping_shl(vcpus & 0xf) & 0x1ff).wrapping_sub(1) as u8;
    let sources = sources & existing;
    let Some(pending) = work
        .private_mut(vcpu)
        .and_then(|private| private.sources.get_mut(lane as usize))
    else {
        return;
    };
    if sources == 0 {
        return;
    }
    if clear {
        *pending &= !sources;
        work.sources_changed(vcpu, lane, sources);
    } else {
        *pending |= sources;
        work.sources_changed(vcpu, lane, 0);
    }
}
