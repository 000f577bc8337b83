//! Static shared memory: "xen,domain-shared-memory-v1" (docs/misc/arm/device-tree/booting.txt of Xen, static shared
//! memory). A child of each guest that has it; what has the same `xen,shm-id` is the same memory.

use alloc::format;
use alloc::string::{String, ToString};

use memory::{Ipa, IpaRange, PAGE_SIZE, Pa, PaRange};

use super::node::{Cells, Context};
use super::{DomainConfig, MAX_SHARED};
use crate::placement::LIMIT;
use crate::tree::{Node, Property};
use crate::walk::take;

const ID: &str = "xen,shm-id";
const PLACE: &str = "xen,shared-mem";
/// Letters of an id (Xen's bound).
const MAX_ID: usize = 15;

/// A guest's window on memory that it shares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharedMemory {
    /// Name of its node.
    pub node: String,
    /// Which memory it is, the same for all who have it.
    pub id: String,
    /// The board's memory, if the tree says which.
    pub host: Option<PaRange>,
    /// Where the guest sees it.
    pub guest: IpaRange,
    /// It says that it is the owner. Nothing follows from it here: the memory is the hypervisor's.
    pub owner: bool,
}

/// Reads one node, a child of the guest's.
pub(super) fn read(
    context: &mut Context<'_>,
    node: &Node<'_>,
    cells: Cells,
    domain: &mut DomainConfig,
    others: &[DomainConfig],
) {
    let name = &*node.name().to_string();
    let (mut id, mut place, mut owner) = (None, None, false);
    for property in node.properties() {
        match property.name {
            "compatible" | "phandle" | "linux,phandle" => {}
            ID => match property.str() {
                Some(text) if (1..=MAX_ID).contains(&text.len()) => id = Some(text.to_string()),
                _ => {
                    let expected = format_args!("one string of 1 to {MAX_ID} bytes");
                    context.refuse(name, ID, property, expected);
                }
            },
            PLACE => place = window(context, name, &property, cells),
            "role" => match property.str() {
                Some("owner") => owner = true,
                Some("borrower") => {}
                _ => context.refuse(name, "role", property, "\"owner\" or \"borrower\""),
            },
            _ => context.unknown(name, &property),
        }
    }
    for (property, expected) in [
        (ID, "a name that all who share it have"),
        (PLACE, "the guest's address, and the size"),
    ] {
        if node.property(property).is_none() {
            context.refuse(name, property, "nothing", expected);
        }
    }
    let (Some(id), Some((host, guest))) = (id, place) else {
        return;
    };
    let shared = SharedMemory {
        node: name.to_string(),
        id,
        host,
        guest,
        owner,
    };
    if domain.shared.len() >= MAX_SHARED {
        let expected = format_args!("at most {MAX_SHARED} of a guest");
        return context.refuse(name, "", "one shared memory more", expected);
    }
    if fits_own(context, &shared, domain) && fits_others(context, &shared, domain, others) {
        domain.shared.push(shared);
    }
}

/// Reads addresses and size: two numbers, or three with the board's address in front.
fn window(
    context: &mut Context<'_>,
    name: &str,
    property: &Property<'_>,
    cells: Cells,
) -> Option<(Option<PaRange>, IpaRange)> {
    let Cells { address, size } = cells;
    let mut rest = property.value;
    let words = u64::try_from(rest.len()).unwrap_or(0) / 4;
    let with_host = words == u64::from(address) * 2 + u64::from(size);
    let host = if with_host {
        take(&mut rest, address)
    } else {
        None
    };
    let numbers = take(&mut rest, address).zip(take(&mut rest, size));
    let (Some((guest, bytes)), true) = (numbers, rest.is_empty() && host.is_some() == with_host)
    else {
        let expected = format_args!(
            "{address} cell(s) of the board's address, which may be left out, {address} of the guest's, {size} of size"
        );
        context.refuse(name, PLACE, property, expected);
        return None;
    };
    let whole = |number: u64| number.is_multiple_of(PAGE_SIZE);
    if bytes == 0 || !whole(bytes) || !whole(guest) || !host.is_none_or(whole) {
        let expected = "a size above 0, and all of it multiples of 4 KiB";
        context.refuse(name, PLACE, property, expected);
        return None;
    }
    let seen = IpaRange::new(Ipa::new(guest), bytes).filter(|range| range.end() <= LIMIT);
    let lies = host.map(|start| PaRange::new(Pa::new(start), bytes));
    match (seen, lies) {
        (Some(seen), None) => Some((None, seen)),
        (Some(seen), Some(Some(lies))) => Some((Some(lies), seen)),
        _ => {
            context.refuse(name, PLACE, property, "ends within 40 bits");
            None
        }
    }
}

/// Whether it goes with what else the guest has.
fn fits_own(context: &mut Context<'_>, shared: &SharedMemory, domain: &DomainConfig) -> bool {
    let name = &*shared.node;
    for other in &domain.shared {
        if other.id == shared.id {
            let found = format_args!("{:?}", shared.id);
            let expected = format_args!("an id that {} does not have", other.node);
            context.refuse(name, ID, found, expected);
            return false;
        }
        if other.guest.overlaps(shared.guest) {
            let expected = format_args!(
                "addresses clear of {}, where {} is",
                other.guest, other.node
            );
            context.refuse(name, PLACE, shared.guest, expected);
            return false;
        }
    }
    if let Some(bank) = domain
        .banks()
        .iter()
        .find(|bank| bank.overlaps(shared.guest))
    {
        let expected = format_args!("addresses clear of {bank}, the guest's RAM");
        context.refuse(name, PLACE, shared.guest, expected);
        return false;
    }
    let Some(host) = shared.host else {
        return true;
    };
    let limits = context.limits;
    if !limits.memory.iter().any(|ram| ram.contains_range(host)) {
        context.refuse(name, PLACE, host, "a range inside the board's RAM");
        return false;
    }
    if let Some(taken) = limits.taken.iter().find(|taken| taken.overlaps(host)) {
        let expected = format_args!("a range clear of {taken}, which is taken");
        context.refuse(name, PLACE, host, expected);
        return false;
    }
    true
}

/// Whether it goes with what others have: the same memory where the id is the same, else none of theirs.
fn fits_others(
    context: &mut Context<'_>,
    shared: &SharedMemory,
    domain: &DomainConfig,
    others: &[DomainConfig],
) -> bool {
    let name = &*shared.node;
    for guest in others.iter().chain([domain]) {
        let same = guest.shared.iter().find(|other| other.id == shared.id);
        if let Some(same) = same {
            if same.owner && shared.owner {
                let expected = format_args!("\"borrower\": {} is the owner", guest.name);
                context.refuse(name, "role", "\"owner\"", expected);
                return false;
            }
            if (same.host, same.guest.size()) != (shared.host, shared.guest.size()) {
                let expected = format_args!("{}, as {} has it", place(same), guest.name);
                context.refuse(name, PLACE, place(shared), expected);
                return false;
            }
            continue;
        }
        if let Some(host) = shared.host
            && let Some((other, what)) = guest.claims().find(|(other, _)| other.overlaps(host))
        {
            let expected = format_args!("a range clear of {other}, {what} of {}", guest.name);
            context.refuse(name, PLACE, host, expected);
            return false;
        }
    }
    true
}

/// Which memory it is, for messages.
fn place(shared: &SharedMemory) -> String {
    match shared.host {
        Some(host) => format!("memory at {host}"),
        None => format!("{:#x} bytes anywhere", shared.guest.size()),
    }
}
