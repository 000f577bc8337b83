//! A guest's `xen,vcpu` nodes: the CPUs that a vCPU may run on, and how it is scheduled.

use alloc::format;

use super::node::Context;
use super::{CpuSet, DomainConfig, Scheduling, scheduling};
use crate::properties::Properties;

/// Reads one such node, a child of the guest's.
pub(super) fn read(
    context: &mut Context<'_>,
    node: &Properties<'_>,
    name: &str,
    (domain, pinned): (&mut DomainConfig, &mut [bool]),
    usual: Scheduling,
) {
    let mut set = CpuSet::ALL;
    let cpus = context.limits.cpus;
    for property in node.iter() {
        match property.name {
            "compatible" | "id" | "phandle" | "linux,phandle" => {}
            "hard-affinity" => match property.str().and_then(|text| parse(text, cpus)) {
                Some(cpus) => set = cpus,
                None => {
                    let last = cpus.saturating_sub(1);
                    let expected = format!("a list like \"0-1,3\" of CPUs 0 to {last}");
                    context.refuse(name, property.name, property, expected);
                }
            },
            name if scheduling::is_known(name) => {}
            _ => context.unknown(name, &property),
        }
    }
    let id = node.property("id");
    let own = scheduling::read(context, node, name, usual);
    let index = id.and_then(|id| usize::try_from(id.u32()?).ok());
    let slots = index.and_then(|index| domain.affinity.get_mut(index).zip(pinned.get_mut(index)));
    match (slots, id) {
        (Some((slot, pinned)), _) if !*pinned => {
            *slot = set;
            *pinned = true;
            if let Some(slot) = index.and_then(|index| domain.scheduling.get_mut(index)) {
                *slot = own;
            }
        }
        (_, Some(id)) => {
            let last = domain.vcpus.saturating_sub(1);
            context.refuse(
                name,
                "id",
                id,
                format_args!("one cell: 0 to {last}, each once"),
            );
        }
        (_, None) => context.refuse(name, "id", "nothing", "one cell: the number of the vCPU"),
    }
}

/// Numbers and inclusive ranges, all below `cpus`.
fn parse(text: &str, cpus: u32) -> Option<CpuSet> {
    let mut bits = 0_u64;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (
            first.trim().parse::<u32>().ok()?,
            last.trim().parse::<u32>().ok()?,
        );
        if first > last || last >= cpus.min(u64::BITS) {
            return None;
        }
        for cpu in first..=last {
            bits |= 1 << cpu;
        }
    }
    Some(CpuSet::from_bits(bits))
}
