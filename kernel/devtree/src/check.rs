//! One pass over a flattened tree before anything is read from it.
//!
//! The parser crate ends an iteration quietly where a block is cut off; a tree that lost its second half
//! would then look like a smaller board with fewer guests. So header, strings and every token are checked
//! here, once, in time linear to the size of the tree, and what the rest of the crate walks is sound
//! (Devicetree Specification 0.4, chapter 5).

use crate::Error;

/// Nodes in a tree. Boards have some hundreds.
const MAX_NODES: usize = 16 * 1024;
/// Properties in a tree.
const MAX_PROPERTIES: usize = 256 * 1024;
/// Nesting that is accepted; the walk looks less deep.
const MAX_DEPTH: usize = 32;
/// Bytes in the name of a node or a property, without the NUL.
pub(crate) const MAX_NAME: usize = 255;

pub(crate) const HEADER_SIZE: usize = 40;
pub(crate) const MAGIC: u32 = 0xd00d_feed;
pub(crate) const BEGIN_NODE: u32 = 1;
pub(crate) const END_NODE: u32 = 2;
pub(crate) const PROPERTY: u32 = 3;
const NOP: u32 = 4;
pub(crate) const END: u32 = 9;

/// Where the parts of a tree lie. All ranges are inside the tree's total size.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    /// Bytes of the tree, from its header.
    pub(crate) total: usize,
    /// First byte of the memory reservation block.
    pub(crate) reservations: usize,
    /// How deep nodes are nested; the root alone is 1.
    pub(crate) depth: usize,
}

/// The big-endian word at `offset`.
pub(crate) fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

/// Bytes of a tree as its header says; `None` if these are not the first bytes of one.
pub(crate) fn total_size(bytes: &[u8]) -> Option<usize> {
    (word(bytes, 0)? == MAGIC).then_some(())?;
    usize::try_from(word(bytes, 4)?).ok()
}

/// Checks all of a tree that [`Layout`] and the module's head speak of.
pub(crate) fn check(bytes: &[u8]) -> Result<Layout, Error> {
    if word(bytes, 0) != Some(MAGIC) {
        return Err(Error::NotATree);
    }
    let field = |number: usize| {
        let value = word(bytes, number * 4).ok_or(Error::Header("size"))?;
        usize::try_from(value).map_err(|_| Error::Header("size"))
    };
    let total = field(1)?;
    if total < HEADER_SIZE || total > bytes.len() {
        return Err(Error::Header("total size"));
    }
    if field(5)? < 17 || field(6)? > 17 {
        return Err(Error::Header("version"));
    }
    let block = |offset: usize, size: usize, what| {
        let end = offset.checked_add(size).filter(|&end| end <= total);
        // The parser adds the two as 32-bit numbers.
        let end = end.filter(|&end| u32::try_from(end).is_ok());
        end.and_then(|end| bytes.get(offset..end))
            .ok_or(Error::Header(what))
    };
    let structure = block(field(2)?, field(9)?, "structure block")?;
    let strings = block(field(3)?, field(8)?, "strings block")?;
    let reservations = field(4)?;
    if reservations > total {
        return Err(Error::Header("reservation block"));
    }
    check_strings(strings)?;
    let depth = check_structure(structure, strings.len())?;
    Ok(Layout {
        total,
        reservations,
        depth,
    })
}

/// Property names must be short and end, so that looking one up takes bounded time.
fn check_strings(strings: &[u8]) -> Result<(), Error> {
    let mut run = 0;
    for &byte in strings {
        run = if byte == 0 { 0 } else { run + 1 };
        if run > MAX_NAME || !(byte == 0 || byte.is_ascii_graphic()) {
            return Err(Error::Header("strings block"));
        }
    }
    if run == 0 {
        Ok(())
    } else {
        Err(Error::Header("strings block"))
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Cursor<'_> {
    fn error(&self, what: &'static str) -> Error {
        Error::Structure {
            offset: self.offset,
            what,
        }
    }

    fn word(&mut self) -> Result<u32, Error> {
        let value = word(self.bytes, self.offset).ok_or(self.error("it ends too early"))?;
        self.offset += 4;
        Ok(value)
    }

    fn skip(&mut self, size: usize) -> Result<(), Error> {
        let next = size
            .checked_add(3)
            .and_then(|size| self.offset.checked_add(size & !3))
            .filter(|&next| next <= self.bytes.len());
        self.offset = next.ok_or(self.error("a value reaches past the end"))?;
        Ok(())
    }

    fn node_name(&mut self, is_root: bool) -> Result<(), Error> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let window = rest.get(..rest.len().min(MAX_NAME + 1)).unwrap_or_default();
        let length = window.iter().position(|&byte| byte == 0);
        let length = length.ok_or(self.error("a node's name does not end"))?;
        let name = window.get(..length).unwrap_or_default();
        let is_name = |byte: &u8| byte.is_ascii_graphic() && *byte != b'/';
        if is_root != name.is_empty() || !name.iter().all(is_name) {
            return Err(self.error("bad name of a node"));
        }
        self.skip(length + 1)
    }
}

/// Returns how deep nodes are nested.
fn check_structure(structure: &[u8], strings: usize) -> Result<usize, Error> {
    let mut cursor = Cursor {
        bytes: structure,
        offset: 0,
    };
    let (mut nodes, mut properties) = (0_usize, 0_usize);
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    // Properties come before subnodes.
    let mut properties_over = true;
    loop {
        match cursor.word()? {
            BEGIN_NODE if depth > 0 || nodes == 0 => {
                cursor.node_name(nodes == 0)?;
                nodes += 1;
                depth += 1;
                deepest = deepest.max(depth);
                properties_over = false;
                if nodes > MAX_NODES || depth > MAX_DEPTH {
                    return Err(Error::TooMany("nodes in the device tree"));
                }
            }
            END_NODE if depth > 0 => {
                depth -= 1;
                properties_over = true;
            }
            PROPERTY if !properties_over => {
                let size = usize::try_from(cursor.word()?).unwrap_or(usize::MAX);
                let name = usize::try_from(cursor.word()?).unwrap_or(usize::MAX);
                if name >= strings {
                    return Err(cursor.error("a property has no name"));
                }
                cursor.skip(size)?;
                properties += 1;
                if properties > MAX_PROPERTIES {
                    return Err(Error::TooMany("properties in the device tree"));
                }
            }
            NOP => {}
            END if depth == 0 && nodes > 0 => break,
            _ => return Err(cursor.error("unexpected token")),
        }
    }
    if cursor.offset == structure.len() {
        Ok(deepest)
    } else {
        Err(cursor.error("bytes after the end"))
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
