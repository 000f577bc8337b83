//! Memory at a place that the description names: `xen,static-mem`, and `direct-map`, which makes guest addresses the
//! board's own (docs/misc/arm/device-tree/booting.txt of Xen).
//!
//! The pool deals in blocks of 2 MiB, so static memory does too: a block has one owner. It stays its guest's for good,
//! also after the guest's end; nobody else is ever given it.

use alloc::format;
use alloc::vec::Vec;

use memory::{CHUNK_SIZE, Pa, PaRange};

use super::DomainConfig;
use super::node::{Cells, Context};
use crate::placement::{LIMIT, MAX_BANKS};
use crate::properties::Properties;
use crate::tree::Property;
use crate::walk::take;

const STATIC: &str = "xen,static-mem";
const DIRECT: &str = "direct-map";

/// Reads what a guest's node says of its memory's place. `cells` are those of `/chosen`.
pub(super) fn read(
    context: &mut Context<'_>,
    node: &Properties<'_>,
    cells: Cells,
    domain: &mut DomainConfig,
    others: &[DomainConfig],
) {
    let direct = node.property(DIRECT);
    domain.direct_map = direct.is_some() || domain.hardware;
    let Some(property) = node.property(STATIC) else {
        // Where it goes is found once all descriptions are read.
        if let Some(direct) = direct.filter(|_| !domain.hardware) {
            let expected =
                "\"xen,static-mem\" beside it: the memory that is mapped to its own addresses";
            context.refuse("", DIRECT, direct, expected);
        }
        return;
    };
    let Some(ranges) = context.ranges(&property, cells) else {
        return;
    };
    for &range in &ranges {
        if check(context, &property, range, domain, others) {
            domain.static_memory.push(range);
        }
    }
    let sum = ranges.iter().map(|range| range.size());
    let sum = sum.fold(0, u64::saturating_add);
    if sum != domain.memory && domain.memory != 0 {
        let expected = format!(
            "ranges of {:#x} KiB, as \"memory\" says",
            domain.memory >> 10
        );
        context.refuse("", STATIC, format_args!("{:#x} KiB", sum >> 10), expected);
    }
}

/// Whether a range can be a guest's; what is wrong is told.
fn check(
    context: &mut Context<'_>,
    property: &Property<'_>,
    range: PaRange,
    domain: &DomainConfig,
    others: &[DomainConfig],
) -> bool {
    let mut refuse = |expected: &dyn core::fmt::Display| {
        context.refuse("", property.name, range, expected);
        false
    };
    if !range.start().is_aligned(CHUNK_SIZE) || !range.size().is_multiple_of(CHUNK_SIZE) {
        return refuse(&"start and size multiples of 2 MiB");
    }
    if range.end().get() > LIMIT.get() {
        return refuse(&"an end within 40 bits");
    }
    if let Some(other) = (domain.static_memory.iter()).find(|other| other.overlaps(range)) {
        return refuse(&format_args!(
            "a range clear of {other}, another of its own"
        ));
    }
    for guest in others {
        if let Some((other, what)) = guest.claims().find(|(other, _)| other.overlaps(range)) {
            return refuse(&format_args!(
                "a range clear of {other}, {what} of {}",
                guest.name
            ));
        }
    }
    let limits = context.limits;
    if !limits.memory.iter().any(|ram| ram.contains_range(range)) {
        context.refuse("", property.name, range, "a range inside the board's RAM");
        return false;
    }
    if let Some(taken) = limits.taken.iter().find(|taken| taken.overlaps(range)) {
        let expected = format_args!("a range clear of {taken}, which is taken");
        context.refuse("", property.name, range, expected);
        return false;
    }
    true
}

impl Context<'_> {
    /// A list of ranges of the board's memory, one to [`MAX_BANKS`]; `None` if it is none, which is told.
    fn ranges(&mut self, property: &Property<'_>, cells: Cells) -> Option<Vec<PaRange>> {
        let Cells { address, size } = cells;
        let mut rest = property.value;
        let mut ranges = Vec::new();
        while !rest.is_empty() && ranges.len() <= MAX_BANKS && address > 0 && size > 0 {
            let numbers = take(&mut rest, address).zip(take(&mut rest, size));
            let range = numbers.and_then(|(start, size)| PaRange::new(Pa::new(start), size));
            match range.filter(|range| !range.is_empty()) {
                Some(range) => ranges.push(range),
                None => {
                    ranges.clear();
                    break;
                }
            }
        }
        if ranges.is_empty() || ranges.len() > MAX_BANKS {
            let expected = format_args!(
                "1 to {MAX_BANKS} ranges, each {address} cell(s) of address and {size} of size, as /chosen has them"
            );
            self.refuse("", property.name, property, expected);
            return None;
        }
        Some(ranges)
    }
}
