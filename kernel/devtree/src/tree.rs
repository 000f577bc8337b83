//! A flattened device tree as the rest of this crate reads it. The parser crate is named here and nowhere
//! else, so that it can be exchanged; it is used in its fallible mode only, on trees that passed the check.

use core::fmt;

use arrayvec::ArrayVec;
use fdt::nodes::AsNode;
use fdt::nodes::root::{AllNodesIter, Root};
use fdt::parsing::NoPanic;
use fdt::parsing::unaligned::UnalignedParser;
use memory::{Pa, PaRange};

use crate::{Error, check};

type Parser<'a> = (UnalignedParser<'a>, NoPanic);

/// Nesting below the root that is looked at; what lies deeper is passed over, as Xen does.
pub(crate) const MAX_DEPTH: usize = 15;

/// A tree whose header and structure have been checked.
// The parser's own handles cannot go from one CPU to another; so they are made anew at each `root`.
#[derive(Clone, Copy)]
pub struct Tree<'a> {
    bytes: &'a [u8],
    reservations: usize,
    depth: usize,
}

impl fmt::Debug for Tree<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree of {} bytes", self.bytes.len())
    }
}

impl<'a> Tree<'a> {
    /// Checks the tree at the start of `bytes`; bytes after its end are left alone.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let layout = check::check(bytes)?;
        let bytes = bytes.get(..layout.total).unwrap_or_default();
        let tree = Self {
            bytes,
            reservations: layout.reservations,
            depth: layout.depth,
        };
        match tree.parser_root() {
            Some(_) => Ok(tree),
            None => Err(Error::Header("structure block")),
        }
    }

    /// Bytes of the tree as its header says, if `bytes` start with one: what must be mapped to read it.
    /// Eight bytes are enough to tell.
    pub fn size_of(bytes: &[u8]) -> Option<usize> {
        check::total_size(bytes)
    }

    /// The bytes of the tree.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes that its nodes, values and names take: some trees have much room behind them.
    pub fn content(&self) -> usize {
        let field = |number: usize| check::word(self.bytes, number * 4).unwrap_or(0) as usize;
        field(8).saturating_add(field(9))
    }

    fn parser_root(&self) -> Option<Root<'a, Parser<'a>>> {
        let fdt = fdt::Fdt::new_unaligned_fallible(self.bytes).ok()?;
        fdt.root().ok()
    }

    /// The root node.
    pub fn root(&self) -> Node<'a> {
        Node(self.parser_root().map(|root| root.as_node()))
    }

    /// All nodes below the root.
    pub(crate) fn nodes(&self) -> Nodes<'a> {
        let mut nodes = Nodes {
            straight: None,
            levels: ArrayVec::new(),
        };
        // The parser's own way ends where a tree is nested deeper than that.
        if self.depth <= MAX_DEPTH + 1 {
            nodes.straight = self.parser_root().and_then(|root| root.all_nodes().ok());
        } else {
            nodes.levels.push(self.root().children());
        }
        nodes
    }

    /// The memory reservation block: ranges that must not be used. Ranges that wrap are left out.
    pub fn reservations(&self) -> impl Iterator<Item = PaRange> + use<'a> {
        let rest = self.bytes.get(self.reservations..).unwrap_or_default();
        rest.chunks_exact(16)
            .filter_map(|entry| {
                let (start, size) = entry.split_first_chunk::<8>()?;
                let size = u64::from_be_bytes(*size.first_chunk::<8>()?);
                Some((u64::from_be_bytes(*start), size))
            })
            .take_while(|&entry| entry != (0, 0))
            .filter_map(|(start, size)| PaRange::new(Pa::new(start), size))
    }

    /// The node at `path`, absolute, each component with or without its unit address.
    pub fn find(&self, path: &str) -> Option<Node<'a>> {
        let mut node = self.root();
        for component in path.split('/').filter(|component| !component.is_empty()) {
            node = node.child(component)?;
        }
        Some(node)
    }
}

/// A node of a tree.
#[derive(Clone, Copy)]
pub struct Node<'a>(Option<fdt::nodes::Node<'a, Parser<'a>>>);

impl<'a> Node<'a> {
    /// Its name.
    pub fn name(&self) -> Name<'a> {
        match self.0.map(|node| node.name()) {
            Some(Ok(name)) => Name {
                base: name.name,
                unit: name.unit_address,
            },
            _ => Name {
                base: "",
                unit: None,
            },
        }
    }

    /// Its properties, in order.
    pub fn properties(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        // An iterator of the parser repeats an error for ever: stop at the first.
        let properties = self.0.and_then(|node| node.properties().ok()).into_iter();
        properties
            .flat_map(|list| list.iter().map_while(Result::ok))
            .map(|property| Property {
                name: property.name,
                value: property.value,
            })
    }

    /// Its children, in order.
    pub fn children(&self) -> Children<'a> {
        Children(
            self.0
                .and_then(|node| node.children().ok())
                .map(|children| children.iter()),
        )
    }

    /// The child whose name is `name`; one that has a unit address is also found without it.
    pub fn child(&self, name: &str) -> Option<Self> {
        self.children().find(|child| child.name().is(name))
    }

    /// The property of that name.
    pub fn property(&self, name: &str) -> Option<Property<'a>> {
        self.properties().find(|property| property.name == name)
    }

    /// The value of a property that holds one 32-bit cell.
    pub fn u32(&self, name: &str) -> Option<u32> {
        self.property(name)?.u32()
    }

    /// The value of a property that holds one string.
    pub fn str(&self, name: &str) -> Option<&'a str> {
        self.property(name)?.str()
    }

    /// Whether `compatible` has one of these strings.
    pub fn is_compatible(&self, any_of: &[&str]) -> bool {
        self.property("compatible")
            .is_some_and(|list| list.has_any(any_of))
    }

    /// Whether the node is not switched off by its `status`.
    pub fn is_enabled(&self) -> bool {
        self.property("status")
            .is_none_or(|status| status.is_okay())
    }
}

/// Iterator over the children of a node.
#[derive(Clone)]
pub struct Children<'a>(Option<fdt::nodes::NodeChildrenIter<'a, Parser<'a>>>);

impl<'a> Iterator for Children<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        match self.0.as_mut()?.next() {
            Some(Ok(node)) => Some(Node(Some(node))),
            _ => {
                self.0 = None;
                None
            }
        }
    }
}

/// Iterator over the nodes below the root, parents before children, each with its depth: 1 for children of the root.
pub(crate) struct Nodes<'a> {
    /// Straight through the tree. Children are found by going through all that lies below each.
    straight: Option<AllNodesIter<'a, Parser<'a>>>,
    /// Level by level, for trees that are nested too deep for that.
    levels: ArrayVec<Children<'a>, MAX_DEPTH>,
}

impl<'a> Iterator for Nodes<'a> {
    type Item = (usize, Node<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let Some(straight) = &mut self.straight else {
            return self.next_by_levels();
        };
        match straight.next() {
            Some(Ok((depth, node))) => Some((depth, Node(Some(node)))),
            _ => {
                self.straight = None;
                None
            }
        }
    }
}

impl<'a> Nodes<'a> {
    #[cold]
    fn next_by_levels(&mut self) -> Option<(usize, Node<'a>)> {
        loop {
            let depth = self.levels.len();
            match self.levels.last_mut()?.next() {
                Some(node) => {
                    // What is below the last level is passed over.
                    let _ = self.levels.try_push(node.children());
                    return Some((depth, node));
                }
                None => drop(self.levels.pop()),
            }
        }
    }
}

/// The name of a node, `base@unit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name<'a> {
    /// What stands before the `@`.
    pub base: &'a str,
    /// What stands after it.
    pub unit: Option<&'a str>,
}

impl Name<'_> {
    /// Whether `name` is this name, or this name without the unit address.
    pub fn is(&self, name: &str) -> bool {
        match name.split_once('@') {
            None => self.base == name,
            Some((base, unit)) => self.base == base && self.unit == Some(unit),
        }
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            None => f.write_str(self.base),
            Some(unit) => write!(f, "{}@{unit}", self.base),
        }
    }
}

/// A property. As text it looks as in tree source, cut after some words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Property<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its bytes.
    pub value: &'a [u8],
}

impl<'a> Property<'a> {
    /// The value, if it is one 32-bit cell.
    pub fn u32(&self) -> Option<u32> {
        self.value.try_into().ok().map(u32::from_be_bytes)
    }

    /// The value, if it is two cells that make one 64-bit number.
    pub fn u64(&self) -> Option<u64> {
        self.value.try_into().ok().map(u64::from_be_bytes)
    }

    /// The value, if it is a number of one or two cells.
    pub fn number(&self) -> Option<u64> {
        self.u32().map(u64::from).or_else(|| self.u64())
    }

    /// The value, if it is one string.
    pub fn str(&self) -> Option<&'a str> {
        let (&last, text) = self.value.split_last()?;
        let text = core::str::from_utf8(text).ok()?;
        (last == 0 && !text.contains('\0')).then_some(text)
    }

    /// The strings of a list; none if it is not one.
    pub fn strings(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let text = match self.value.split_last() {
            Some((0, text)) => core::str::from_utf8(text).ok(),
            _ => None,
        };
        text.into_iter().flat_map(|text| text.split('\0'))
    }

    /// Whether one of the strings of the list is one of these.
    pub fn has_any(&self, any_of: &[&str]) -> bool {
        let mut texts = self.value.split(|&byte| byte == 0);
        texts.any(|text| any_of.iter().any(|wanted| wanted.as_bytes() == text))
    }

    /// The 32-bit cells of the value; bytes that do not fill one are left out.
    pub fn cells(&self) -> impl Iterator<Item = u32> + use<'a> {
        let cells = self.value.as_chunks::<4>().0.iter();
        cells.map(|cell| u32::from_be_bytes(*cell))
    }

    pub(crate) fn is_okay(&self) -> bool {
        matches!(self.str(), Some("okay" | "ok"))
    }

    fn is_text(&self) -> bool {
        let printable = |text: &str| !text.is_empty() && text.chars().all(|c| !c.is_control());
        let mut texts = self.strings().peekable();
        texts.peek().is_some() && texts.all(printable)
    }
}

impl fmt::Display for Property<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WORDS: usize = 8;
        const LETTERS: usize = 64;
        if self.value.is_empty() {
            return f.write_str("no value");
        }
        if self.is_text() {
            let mut between = "";
            for text in self.strings().take(WORDS) {
                let cut = text
                    .char_indices()
                    .nth(LETTERS)
                    .map_or(text.len(), |(at, _)| at);
                let more = if cut < text.len() { "..." } else { "" };
                write!(
                    f,
                    "{between}\"{}{more}\"",
                    text.get(..cut).unwrap_or_default()
                )?;
                between = ", ";
            }
            let more = self.strings().nth(WORDS).map_or("", |_| ", ...");
            return f.write_str(more);
        }
        let is_cells = self.value.len().is_multiple_of(4);
        let mut between = if is_cells { "<" } else { "[" };
        if is_cells {
            for cell in self.cells().take(WORDS) {
                write!(f, "{between}{cell:#x}")?;
                between = " ";
            }
        } else {
            for byte in self.value.iter().take(WORDS * 4) {
                write!(f, "{between}{byte:02x}")?;
                between = " ";
            }
        }
        let more = if self.value.len() > WORDS * 4 {
            " ..."
        } else {
            ""
        };
        write!(f, "{more}{}", if is_cells { ">" } else { "]" })
    }
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;
