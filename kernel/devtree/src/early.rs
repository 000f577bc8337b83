//! The console, before anything else is up: no heap, no state, only the tree's bytes. What Viaduct says
//! when it cannot go on is said here.

use crate::Tree;
use crate::uart::{self, Uart};
use crate::walk::Walk;

/// Aliases followed at most.
const MAX_ALIASES: usize = 4;

/// The UART to talk on: the one that `dtuart=` in `xen,xen-bootargs` names, else `stdout-path`, else
/// the first that Viaduct can drive and that nothing is attached to. `None` if there is none, or these bytes
/// are not a tree.
pub fn console(tree: &[u8]) -> Option<Uart> {
    find(&Tree::new(tree).ok()?)
}

pub(crate) fn find(tree: &Tree<'_>) -> Option<Uart> {
    let chosen = tree.find("/chosen");
    let option = chosen
        .and_then(|chosen| chosen.str("xen,xen-bootargs"))
        .and_then(|line| {
            let mut words = line.split_ascii_whitespace();
            words.find_map(|word| word.strip_prefix("dtuart="))
        });
    let path = |chosen: &crate::tree::Node<'_>| {
        // The second name is what old trees say.
        uart_at(
            tree,
            chosen
                .str("stdout-path")
                .or_else(|| chosen.str("linux,stdout-path"))?,
        )
    };
    option
        .and_then(|option| uart_at(tree, option))
        .or_else(|| chosen.as_ref().and_then(path))
        .or_else(|| first(tree))
}

/// The UART at a path or alias, which may be followed by `:` and settings.
fn uart_at(tree: &Tree<'_>, name: &str) -> Option<Uart> {
    let mut path = name.split(':').next()?;
    let aliases = tree.find("/aliases");
    for _ in 0..MAX_ALIASES {
        if path.starts_with('/') {
            break;
        }
        path = aliases?.str(path)?;
    }
    let mut walk = Walk::new(tree);
    let mut visit = None;
    for component in path.split('/').filter(|component| !component.is_empty()) {
        visit = Some(walk.enter(component)?);
    }
    uart::recognise(&walk, &visit?)
}

fn first(tree: &Tree<'_>) -> Option<Uart> {
    let mut walk = Walk::new(tree);
    while let Some(visit) = walk.next() {
        // A node below a UART is what is wired to it: the Pi's Bluetooth.
        let is_free = || visit.node.children().next().is_none();
        if let Some(uart) = uart::recognise(&walk, &visit).filter(|_| is_free()) {
            return Some(uart);
        }
    }
    None
}
