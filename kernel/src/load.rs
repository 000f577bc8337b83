//! Guest memory as it is filled: the files are copied to their places, or unpacked there, in steps.

use ::memory::Ipa;
use abi::DomainId;
use devtree::gzip::Gunzip;
use devtree::kernel::Kernel;
use devtree::plan::Plan;
use sync::SpinLock;

use crate::building::ram_at;
use crate::machine::Domain;
use crate::{cpus, memory_map};

/// Bytes copied in a step.
const COPY_STEP: u64 = 32 << 10;
/// Packed bytes read in a step, before guests run and while they do.
const UNPACK_AT_BOOT: usize = 64 << 10;
const UNPACK_STEP: usize = 512;

/// How far the copying has come.
pub(crate) enum Copied {
    /// It goes on at this byte of this file.
    Next { file: usize, offset: u64 },
    /// All files are there.
    All,
}

/// What unpacks kernels: one at a time, in memory that is taken once.
struct Unpacker {
    gunzip: Option<Gunzip<'static>>,
    /// Whose kernel it is at.
    owner: Option<DomainId>,
}

static UNPACKER: SpinLock<Unpacker> = SpinLock::new(Unpacker {
    gunzip: None,
    owner: None,
});

/// File number `number` that is copied as it is, and where it goes.
fn file(plan: &'static Plan<'static>, number: usize) -> Option<(Ipa, &'static [u8])> {
    let place = &plan.place;
    let kernels = match &plan.kernel {
        Kernel::Elf(elf) => elf.segments.len(),
        Kernel::Image(_) | Kernel::Packed(_) => 1,
    };
    match number.checked_sub(kernels) {
        None => match &plan.kernel {
            Kernel::Elf(elf) => {
                let segment = elf.segments.get(number)?;
                Some((segment.range.start(), segment.data))
            }
            // Unpacked before.
            Kernel::Packed(_) => Some((place.kernel.start(), &[])),
            Kernel::Image(_) => Some((place.kernel.start(), plan.kernel_file)),
        },
        Some(0) => Some((place.tree.start(), &plan.tree)),
        Some(1) => place.initrd.map(|initrd| (initrd.start(), plan.ramdisk)),
        Some(_) => None,
    }
}

/// A step: down to the point of coherency.
///
/// # Errors
/// A packed kernel is damaged.
pub(crate) fn copy(
    domain: &'static Domain,
    number: usize,
    offset: u64,
) -> Result<Copied, devtree::Error> {
    let plan = &domain.recipe.plan;
    if number == 0 && matches!(plan.kernel, Kernel::Packed(_)) {
        return unpack(domain, offset);
    }
    let Some((to, bytes)) = file(plan, number) else {
        return Ok(Copied::All);
    };
    let next = offset.saturating_add(COPY_STEP).min(bytes.len() as u64);
    if let Some(part) = bytes.get(offset as usize..next as usize) {
        write(domain, Ipa::new(to.get().saturating_add(offset)), part);
    }
    Ok(match next < bytes.len() as u64 {
        true => Copied::Next {
            file: number,
            offset: next,
        },
        false => Copied::Next {
            file: number + 1,
            offset: 0,
        },
    })
}

/// Unpacks a piece of a kernel into its place; `offset`: how much is there. No more comes than was counted when the
/// place was found.
fn unpack(domain: &'static Domain, offset: u64) -> Result<Copied, devtree::Error> {
    let plan = &domain.recipe.plan;
    let mut unpacker = UNPACKER.lock();
    let here = Copied::Next { file: 0, offset };
    match unpacker.owner {
        Some(owner) if owner != domain.id => return Ok(here),
        Some(_) => {}
        None => {
            match &mut unpacker.gunzip {
                Some(gunzip) => gunzip.begin(plan.kernel_file)?,
                none => *none = Some(Gunzip::new(plan.kernel_file)?),
            }
            unpacker.owner = Some(domain.id);
        }
    }
    let most = match cpus::are_released() {
        true => UNPACK_STEP,
        false => UNPACK_AT_BOOT,
    };
    let gunzip = unpacker.gunzip.as_mut();
    let step = gunzip.map_or(Ok(None), |gunzip| gunzip.step_of(most));
    match step {
        Ok(Some(bytes)) => {
            let to = plan.place.kernel.start().get().saturating_add(offset);
            write(domain, Ipa::new(to), bytes);
            Ok(Copied::Next {
                file: 0,
                offset: offset.saturating_add(bytes.len() as u64),
            })
        }
        Ok(None) => {
            unpacker.owner = None;
            Ok(Copied::Next { file: 1, offset: 0 })
        }
        Err(error) => {
            unpacker.owner = None;
            Err(error)
        }
    }
}

fn write(domain: &Domain, mut to: Ipa, mut bytes: &[u8]) {
    while let Some(ram) = ram_at(domain, to).filter(|_| !bytes.is_empty()) {
        let size = bytes.len().min(ram.size() as usize);
        let (part, rest) = bytes.split_at_checked(size).unwrap_or((bytes, &[]));
        memory_map::write(ram.start(), part);
        to = Ipa::new(to.get().saturating_add(size as u64));
        bytes = rest;
    }
}
