//! Who is connected with whom: `viaduct,peers`, and the ends of static event channels (`xen,evtchn-v1`,
//! `docs/misc/arm/device-tree/booting.txt` of Xen).
//!
//! An end names its local port and, by phandle, the node of the other end, which must name it back. Handles
//! are those of one tree, so ends are joined for each container by itself; `viaduct,peers` names guests of
//! both.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use abi::event_channel::DEFAULT_MAX_PORT;

use super::DomainConfig;
use super::node::Context;
use crate::tree::{Node, Property};
use crate::{Problem, Severity};

/// `viaduct,peers` with this name means all guests.
const EVERYBODY: &str = "*";

/// One end of a static event channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelEnd {
    /// Name of its node.
    pub node: String,
    /// The guest's port.
    pub port: u32,
    /// Number of the guest at the other end, from 0 in the order of the descriptions, and the port there.
    /// `None` until it is found, and if it is not.
    pub other: Option<(usize, u32)>,
    /// Phandle of the node, and of the other end's.
    handles: (Option<u32>, u32),
}

/// Reads `viaduct,peers`: names of nodes of guests.
pub(super) fn peers(context: &mut Context<'_>, property: &Property<'_>) -> Vec<String> {
    let names: Vec<String> = property.strings().map(ToString::to_string).collect();
    if names.is_empty() || names.iter().any(String::is_empty) {
        let expected = "names of guests' nodes, or \"*\"";
        context.refuse("", property.name, property, expected);
    }
    names
}

/// Reads an `xen,evtchn-v1` node, a child of the guest's.
pub(super) fn channel(
    context: &mut Context<'_>,
    node: &Node<'_>,
    name: &str,
    domain: &mut DomainConfig,
) {
    const PROPERTY: &str = "xen,evtchn";
    for property in node.properties() {
        match property.name {
            "compatible" | "phandle" | "linux,phandle" | PROPERTY => {}
            _ => context.unknown(name, &property),
        }
    }
    let Some(property) = node.property(PROPERTY) else {
        return context.refuse(name, PROPERTY, "nothing", "a port and the other end's node");
    };
    let cells: Vec<u32> = property.cells().collect();
    match cells[..] {
        [port, other] if (1..=DEFAULT_MAX_PORT).contains(&port) => {
            if domain.channels.iter().any(|end| end.port == port) {
                context.refuse(name, PROPERTY, property, "a port that is used once");
            }
            let handle = node.u32("phandle").or_else(|| node.u32("linux,phandle"));
            domain.channels.push(ChannelEnd {
                node: name.to_string(),
                port,
                other: None,
                handles: (handle, other),
            });
        }
        _ => {
            let expected = format!("two cells: a port, 1 to {DEFAULT_MAX_PORT}, and a phandle");
            context.refuse(name, PROPERTY, property, expected);
        }
    }
}

/// Joins the ends of one container's guests, those from number `first` on.
pub(super) fn join(domains: &mut [DomainConfig], first: usize, report: &mut dyn FnMut(Problem)) {
    let ends: Vec<(usize, u32, (Option<u32>, u32))> = (domains.iter().enumerate().skip(first))
        .flat_map(|(number, domain)| {
            let ends = domain.channels.iter();
            ends.map(move |end| (number, end.port, end.handles))
        })
        .collect();
    for domain in domains.iter_mut().skip(first) {
        for end in &mut domain.channels {
            let (own, wanted) = end.handles;
            // A node that names itself has no other end.
            let mut named = ends.iter().filter(|(_, _, (handle, back))| {
                *handle == Some(wanted) && Some(*back) == own && *handle != own
            });
            end.other = named.next().map(|(number, port, _)| (*number, *port));
            if end.other.is_none() {
                let path = format!("/chosen/{}/{}", domain.name, end.node);
                let found = format!("<{} {wanted:#x}>", end.port);
                let expected =
                    "another such node, of a guest that starts, which names this one back";
                report(Problem::new(
                    Severity::Warning,
                    &path,
                    "xen,evtchn",
                    found,
                    expected,
                ));
            }
        }
        domain.channels.retain(|end| end.other.is_some());
    }
}

/// Whether guests number `one` and `other` may deal with each other: one of them says so, or an event channel
/// joins them.
pub fn are_peers(domains: &[DomainConfig], one: usize, other: usize) -> bool {
    let says = |from: usize, to: usize| {
        let (Some(from), Some(name)) = (domains.get(from), domains.get(to).map(|to| &to.name))
        else {
            return false;
        };
        let named = from
            .peers
            .iter()
            .any(|peer| peer == name || peer == EVERYBODY);
        named || (from.channels.iter()).any(|end| end.other.is_some_and(|(at, _)| at == to))
    };
    one != other && (says(one, other) || says(other, one))
}

/// Tells of names in `viaduct,peers` that no guest has.
pub(crate) fn check_names(domains: &[DomainConfig], report: &mut dyn FnMut(Problem)) {
    for domain in domains {
        for peer in &domain.peers {
            if peer != EVERYBODY && domains.iter().all(|other| other.name != *peer) {
                report(Problem::new(
                    Severity::Warning,
                    &format!("/chosen/{}", domain.name),
                    "viaduct,peers",
                    format_args!("{peer:?}"),
                    "the name of a guest that starts",
                ));
            }
        }
    }
}
