//! Guest memory as it is filled: which piece of the machine's memory is which part of the guest's, and the
//! files copied to their places.

use alloc::vec::Vec;

use ::memory::{Ipa, IpaRange, Pa, PaRange};
use devtree::gzip::Gunzip;
use devtree::kernel::Kernel;
use devtree::plan::Plan;

use crate::memory_map;

/// Which piece of memory each part of the banks is. Pieces come largest first, so that each is aligned in the
/// guest as it is in the machine, and large blocks map it.
pub(crate) fn lay_out(banks: &[IpaRange], chunks: &[PaRange]) -> Vec<(IpaRange, Pa)> {
    let mut ram = Vec::new();
    let mut pieces = chunks.iter().copied();
    let mut piece = pieces.next();
    for bank in banks {
        let mut at = bank.start();
        while at < bank.end() {
            let Some(current) = piece else { break };
            let size = current.size().min(bank.end().get() - at.get());
            ram.extend(IpaRange::new(at, size).map(|range| (range, current.start())));
            let rest = current.start().checked_add(size);
            piece = rest
                .and_then(|start| PaRange::between(start, current.end()))
                .filter(|rest| !rest.is_empty())
                .or_else(|| pieces.next());
            at = Ipa::new(at.get() + size);
        }
    }
    ram
}

/// Copies the files to their places, down to the point of coherency.
///
/// # Errors
/// A packed kernel is damaged.
pub(crate) fn copy_files(ram: &[(IpaRange, Pa)], plan: &Plan<'_>) -> Result<(), devtree::Error> {
    let place = &plan.place;
    match &plan.kernel {
        Kernel::Image(_) => copy(ram, place.kernel.start(), plan.kernel_file),
        Kernel::Packed(_) => unpack(ram, place.kernel, plan.kernel_file)?,
        Kernel::Elf(elf) => {
            for segment in &elf.segments {
                copy(ram, segment.range.start(), segment.data);
            }
        }
    }
    copy(ram, place.tree.start(), &plan.tree);
    if let Some(initrd) = place.initrd {
        copy(ram, initrd.start(), plan.ramdisk);
    }
    Ok(())
}

/// Unpacks a kernel into its place. No more comes than was counted when the place was found.
fn unpack(ram: &[(IpaRange, Pa)], place: IpaRange, file: &[u8]) -> Result<(), devtree::Error> {
    let mut unpacking = Gunzip::new(file)?;
    let mut at = place.start();
    while let Some(bytes) = unpacking.step()? {
        copy(ram, at, bytes);
        at = Ipa::new(at.get() + bytes.len() as u64);
    }
    Ok(())
}

fn copy(ram: &[(IpaRange, Pa)], to: Ipa, bytes: &[u8]) {
    let Some(target) = IpaRange::new(to, bytes.len() as u64) else {
        return;
    };
    for (range, at) in ram {
        let start = range.start().max(target.start());
        let end = range.end().min(target.end());
        if start >= end {
            continue;
        }
        let from = (start.get() - to.get()) as usize;
        let until = (end.get() - to.get()) as usize;
        if let Some(part) = bytes.get(from..until) {
            memory_map::write(
                Pa::new(at.get() + (start.get() - range.start().get())),
                part,
            );
        }
    }
}
