//! The console, before anything else is up: no heap, no state, only the tree's bytes. What Viaduct says
//! when it cannot go on is said here.

use crate::Tree;
use crate::tree::Node;
use crate::uart::{self, Uart};
use crate::walk::Walk;

/// Aliases followed at most.
const MAX_ALIASES: usize = 4;

/// The UART to talk on: the one that `dtuart=` in `xen,xen-bootargs` names, else `stdout-path`, else
/// the first that Viaduct can drive and that nothing is attached to. `None` if there is none, or these bytes
/// are not a tree.
pub fn console(tree: &[u8]) -> Option<Uart> {
    console_of(&Tree::new(tree).ok()?)
}

/// The same of a tree that has been checked.
#[must_use]
pub fn console_of(tree: &Tree<'_>) -> Option<Uart> {
    find(
        tree,
        tree.find("/chosen"),
        || tree.find("/aliases"),
        |_| None,
    )
}

/// The same, for whoever has met the two nodes already, and UARTs: `met` knows some by their whole paths.
pub(crate) fn find<'a>(
    tree: &Tree<'a>,
    chosen: Option<Node<'a>>,
    aliases: impl Fn() -> Option<Node<'a>>,
    met: impl Fn(&str) -> Option<Uart>,
) -> Option<Uart> {
    let line = chosen
        .and_then(|chosen| chosen.str("xen,xen-bootargs"))
        .unwrap_or_default();
    let option = line
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("dtuart="));
    let path = chosen.and_then(|chosen| {
        // The second name is what old trees say.
        chosen
            .str("stdout-path")
            .or_else(|| chosen.str("linux,stdout-path"))
    });
    let mut names = option.into_iter().chain(path);
    names
        .find_map(|name| uart_at(tree, name, &aliases, &met))
        .or_else(|| first(tree))
}

/// The UART at a path or alias, which may be followed by `:` and settings.
fn uart_at<'a>(
    tree: &Tree<'a>,
    name: &'a str,
    aliases: &impl Fn() -> Option<Node<'a>>,
    met: &impl Fn(&str) -> Option<Uart>,
) -> Option<Uart> {
    let mut path = name.split(':').next()?;
    if !path.starts_with('/') {
        let aliases = aliases()?;
        for _ in 0..MAX_ALIASES {
            if path.starts_with('/') {
                break;
            }
            path = aliases.str(path)?;
        }
    }
    if let Some(uart) = met(path) {
        return Some(uart);
    }
    let mut walk = Walk::new(tree);
    let mut visit = None;
    for component in path.split('/').filter(|component| !component.is_empty()) {
        visit = Some(walk.enter(component)?);
    }
    let visit = visit?;
    uart::recognise(&walk, &visit, visit.device())
}

fn first(tree: &Tree<'_>) -> Option<Uart> {
    let mut walk = Walk::new(tree);
    while let Some(visit) = walk.next() {
        // A node below a UART is what is wired to it: the Pi's Bluetooth.
        let is_free = || visit.node.children().next().is_none();
        if let Some(uart) = uart::recognise(&walk, &visit, visit.device()).filter(|_| is_free()) {
            return Some(uart);
        }
    }
    None
}
