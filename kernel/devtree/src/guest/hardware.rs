//! The guest that has the board's devices: `capabilities`, of which the hardware capability is known here
//! (docs/misc/arm/device-tree/booting.txt of Xen), and the consent that it takes.

use memory::CHUNK_SIZE;

use super::DomainConfig;
use super::node::Context;
use crate::properties::Properties;

pub(super) const CAPABILITIES: &str = "capabilities";
pub(super) const CONSENT: &str = "xen,force-assign-without-iommu";
/// The one capability that is known.
const HARDWARE: u32 = 2;
/// Memory of the guest if its node does not say.
const USUAL_MEMORY: u64 = 512 << 20;

/// Reads what a guest's node says of the board's devices.
pub(super) fn read(
    context: &mut Context<'_>,
    node: &Properties<'_>,
    domain: &mut DomainConfig,
    others: &[DomainConfig],
) {
    let consent = node.property(CONSENT);
    let capabilities = node.property(CAPABILITIES);
    match capabilities.map(|property| (property, property.u32())) {
        None | Some((_, Some(0))) => {
            if let Some(consent) = consent {
                let expected = "\"capabilities\" <2> beside it, or a partial tree that has it";
                context.warn("", CONSENT, consent, expected);
            }
            return;
        }
        Some((_, Some(HARDWARE))) => domain.hardware = true,
        Some((property, _)) => {
            let expected = "<2>, hardware, or <0>: control and xenstore domains are not supported";
            return context.refuse("", CAPABILITIES, property, expected);
        }
    }
    if consent.is_none() {
        let expected = "it: no IOMMU keeps the DMA of the board's devices within the guest";
        context.refuse("", CONSENT, "nothing", expected);
    }
    if let Some(other) = others.iter().find(|other| other.hardware) {
        let expected = format_args!("one guest with the board's devices, and {} is", other.name);
        context.refuse("", CAPABILITIES, "a second", expected);
    }
    let fixed = node.property("xen,static-mem").is_some();
    if node.property("memory").is_none() && !fixed {
        domain.memory = USUAL_MEMORY;
    }
    if !fixed && !domain.memory.is_multiple_of(CHUNK_SIZE) {
        let found = format_args!("{} KiB", domain.memory >> 10);
        context.refuse(
            "",
            "memory",
            found,
            "a multiple of 2048 KiB, with the board's devices",
        );
    }
}
