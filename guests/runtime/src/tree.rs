//! Reads the device tree (Devicetree Specification 0.4, chapter 5). Everything is bounds-checked; a
//! damaged tree ends the walk early. Depth is limited to 16.

const MAGIC: u32 = 0xd00d_feed;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const DEPTH: usize = 16;

fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn text(bytes: &[u8]) -> Option<&str> {
    core::str::from_utf8(bytes.split(|byte| *byte == 0).next()?).ok()
}

/// A flattened tree.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a> {
    whole: &'a [u8],
    structure: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Tree<'a> {
    /// The tree in `whole`, if its header is sound.
    pub fn new(whole: &'a [u8]) -> Option<Self> {
        if be32(whole, 0)? != MAGIC {
            return None;
        }
        let structure = whole.get(be32(whole, 8)? as usize..)?;
        let strings = whole.get(be32(whole, 12)? as usize..)?;
        Some(Self {
            whole,
            structure,
            strings,
        })
    }

    /// The bytes of the tree.
    pub fn bytes(&self) -> &'a [u8] {
        self.whole
    }

    /// All nodes, parents before children.
    pub fn nodes(&self) -> Nodes<'a> {
        Nodes {
            tree: *self,
            offset: 0,
            depth: 0,
            cells: [(2, 1); DEPTH + 1],
        }
    }

    /// The node at `path`, such as `/chosen`; unit addresses may be left out.
    pub fn find(&self, path: &str) -> Option<Node<'a>> {
        let mut wanted = path.split('/').filter(|part| !part.is_empty());
        let mut part = wanted.next();
        let mut matched = 0;
        for node in self.nodes() {
            if node.depth <= matched && node.depth > 0 {
                return None;
            }
            let Some(name) = part else {
                return Some(node);
            };
            if node.depth == matched + 1 && node.is_named(name) {
                matched += 1;
                part = wanted.next();
                if part.is_none() {
                    return Some(node);
                }
            }
        }
        None
    }

    /// The first node that lists `name` in its `compatible`.
    pub fn compatible(&self, name: &str) -> Option<Node<'a>> {
        self.nodes().find(|node| node.is_compatible(name))
    }
}

/// The walk over a tree, from [`Tree::nodes`].
#[derive(Clone, Debug)]
pub struct Nodes<'a> {
    tree: Tree<'a>,
    offset: usize,
    /// How many nodes are open.
    depth: usize,
    /// `#address-cells` and `#size-cells` that the node opened at each depth gives its children.
    cells: [(u32, u32); DEPTH + 1],
}

impl<'a> Iterator for Nodes<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        let structure = self.tree.structure;
        loop {
            match be32(structure, self.offset)? {
                BEGIN_NODE => {
                    let name = text(structure.get(self.offset + 4..)?)?;
                    self.offset = (self.offset + 4 + name.len() + 1).next_multiple_of(4);
                    let (address_cells, size_cells) = *self.cells.get(self.depth)?;
                    let depth = self.depth;
                    self.depth += 1;
                    *self.cells.get_mut(self.depth)? = (2, 1);
                    return Some(Node {
                        tree: self.tree,
                        name,
                        offset: self.offset,
                        depth,
                        address_cells,
                        size_cells,
                    });
                }
                END_NODE => {
                    self.offset += 4;
                    self.depth = self.depth.checked_sub(1)?;
                }
                PROPERTY => {
                    let property = self.tree.property_at(self.offset)?;
                    let cells = self.cells.get_mut(self.depth)?;
                    match property.name {
                        "#address-cells" => cells.0 = be32(property.value, 0)?,
                        "#size-cells" => cells.1 = be32(property.value, 0)?,
                        _ => {}
                    }
                    self.offset = property.next;
                }
                NOP => self.offset += 4,
                _ => return None,
            }
        }
    }
}

struct Property<'a> {
    name: &'a str,
    value: &'a [u8],
    next: usize,
}

impl<'a> Tree<'a> {
    fn property_at(&self, offset: usize) -> Option<Property<'a>> {
        let length = be32(self.structure, offset + 4)? as usize;
        let name = text(
            self.strings
                .get(be32(self.structure, offset + 8)? as usize..)?,
        )?;
        let value = self
            .structure
            .get(offset + 12..(offset + 12).checked_add(length)?)?;
        Some(Property {
            name,
            value,
            next: (offset + 12 + length).next_multiple_of(4),
        })
    }
}

/// One node.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    tree: Tree<'a>,
    /// The name, unit address included.
    pub name: &'a str,
    /// 0 for the root.
    pub depth: usize,
    offset: usize,
    address_cells: u32,
    size_cells: u32,
}

impl<'a> Node<'a> {
    /// The value of a property.
    pub fn property(&self, name: &str) -> Option<&'a [u8]> {
        let mut offset = self.offset;
        loop {
            match be32(self.tree.structure, offset)? {
                NOP => offset += 4,
                PROPERTY => {
                    let property = self.tree.property_at(offset)?;
                    if property.name == name {
                        return Some(property.value);
                    }
                    offset = property.next;
                }
                _ => return None,
            }
        }
    }

    /// A property as text, up to its NUL.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        text(self.property(name)?)
    }

    /// A property of one or two cells as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        let value = self.property(name)?;
        take(value, &mut 0, value.len() as u32 / 4)
    }

    /// Whether the name is `name`, with or without a unit address.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.name.split('@').next() == Some(name)
    }

    /// Whether `compatible` lists `name`.
    pub fn is_compatible(&self, name: &str) -> bool {
        self.property("compatible").is_some_and(|list| {
            list.split(|byte| *byte == 0)
                .any(|entry| entry == name.as_bytes())
        })
    }

    /// The (address, size) pairs of `reg`, in the cells of the parent.
    pub fn reg(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let value = self.property("reg").unwrap_or_default();
        let (address_cells, size_cells) = (self.address_cells, self.size_cells);
        let mut at = 0;
        core::iter::from_fn(move || {
            if at >= value.len() {
                return None;
            }
            Some((
                take(value, &mut at, address_cells)?,
                take(value, &mut at, size_cells)?,
            ))
        })
    }

    /// The interrupt ids of `interrupts`, three cells each as the GIC binding has it.
    pub fn interrupts(&self) -> impl Iterator<Item = u32> + use<'a> {
        let value = self.property("interrupts").unwrap_or_default();
        value.chunks_exact(12).filter_map(|cells| {
            let number = be32(cells, 4)?;
            match be32(cells, 0)? {
                0 => Some(number + 32),
                1 => Some(number + 16),
                _ => None,
            }
        })
    }
}

fn take(value: &[u8], at: &mut usize, cells: u32) -> Option<u64> {
    let mut number: u64 = 0;
    for _ in 0..cells {
        number = number << 32 | u64::from(be32(value, *at)?);
        *at += 4;
    }
    Some(number)
}
