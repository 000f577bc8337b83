//! The bundle: a FIT image as `mkimage` makes it (the Flattened Image Tree format, version 1.0). Its images hold
//! kernels and RAM disks, inside the tree or after it; its `/chosen` describes guests. Configurations and
//! signatures are not looked at.

mod hash;
#[cfg(test)]
mod tests;

use arrayvec::ArrayVec;

pub(crate) use hash::CRC_32;
pub use hash::{Algorithm, Check, Progress};

use crate::properties::Properties;
use crate::tree::Node;
use crate::{Error, Tree};

/// Hashes of one image.
pub const MAX_HASHES: usize = 4;

/// A bundle.
#[derive(Clone, Copy)]
pub struct Fit<'a> {
    tree: Tree<'a>,
    bytes: &'a [u8],
}

/// An image of a bundle.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// Its bytes. Trust them when its hashes have been checked.
    pub data: &'a [u8],
    /// Its `type`: "kernel", "ramdisk", ...
    pub kind: Option<&'a str>,
    /// What its hashes must be.
    pub hashes: ArrayVec<Hash<'a>, MAX_HASHES>,
}

/// What a hash over an image's data must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hash<'a> {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The value, as long as the algorithm's.
    pub value: &'a [u8],
}

impl<'a> Fit<'a> {
    /// The bundle at the start of `bytes`. Data after the tree (`mkimage -E`) may use all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let tree = Tree::new(bytes)?;
        tree.find("/images")
            .ok_or(Error::Missing("/images: it is no FIT bundle"))?;
        Ok(Self { tree, bytes })
    }

    /// The tree, for [`guest::read`](crate::guest::read).
    pub fn tree(&self) -> Tree<'a> {
        self.tree
    }

    /// Names of all images.
    pub fn names(&self) -> impl Iterator<Item = crate::tree::Name<'a>> + use<'a> {
        let images = self.tree.find("/images");
        images
            .into_iter()
            .flat_map(|images| images.children())
            .map(|image| image.name())
    }

    /// The image of that name. Its hashes are returned, not checked.
    pub fn image(&self, name: &str) -> Result<Image<'a>, Error> {
        let images = self.tree.find("/images").ok_or(Error::NoSuchImage)?;
        let node = images.child(name).ok_or(Error::NoSuchImage)?;
        let node = Properties::of(&node);
        match node.property("compression").map(|property| property.str()) {
            // Whether a kernel is packed, its first bytes say; a RAM disk is its guest's to unpack.
            None | Some(Some("none" | "gzip")) => {}
            Some(Some(_)) => {
                return Err(Error::NotBuilt(
                    "compression other than \"none\" and \"gzip\"",
                ));
            }
            Some(None) => return Err(Error::Image("compression")),
        }
        let mut hashes = ArrayVec::new();
        for child in node.node().children() {
            // "hash-1", "hash@1", "hash"; "signature-1" and the like are another matter.
            if child.name().base.starts_with("hash") {
                hashes
                    .try_push(read_hash(&child)?)
                    .map_err(|_| Error::TooMany("hashes"))?;
            }
        }
        Ok(Image {
            data: self.data(&node)?,
            kind: node.str("type"),
            hashes,
        })
    }

    fn data(&self, node: &Properties<'a>) -> Result<&'a [u8], Error> {
        if let Some(data) = node.property("data") {
            return Ok(data.value);
        }
        let number = |name: &'static str| match node.property(name) {
            None => Ok(None),
            Some(property) => match property.number().map(usize::try_from) {
                Some(Ok(number)) => Ok(Some(number)),
                _ => Err(Error::Image(name)),
            },
        };
        let size = number("data-size")?.ok_or(Error::Image("data: it has none"))?;
        // A position counts from the start of the bundle, an offset from the end of its tree.
        let start = match (number("data-position")?, number("data-offset")?) {
            (Some(position), _) => Some(position),
            (None, Some(offset)) => self
                .tree
                .bytes()
                .len()
                .checked_next_multiple_of(4)
                .and_then(|end| end.checked_add(offset)),
            (None, None) => return Err(Error::Image("data: it has none")),
        };
        let range = start.and_then(|start| Some(start..start.checked_add(size)?));
        range
            .and_then(|range| self.bytes.get(range))
            .ok_or(Error::Image("data: beyond the bundle's end"))
    }
}

fn read_hash<'a>(node: &Node<'a>) -> Result<Hash<'a>, Error> {
    let name = node.str("algo").ok_or(Error::Image("algo of a hash"))?;
    let algorithm = Algorithm::from_name(name)?;
    let value = node
        .property("value")
        .ok_or(Error::Image("value of a hash: run mkimage"))?
        .value;
    if value.len() == algorithm.size() {
        Ok(Hash { algorithm, value })
    } else {
        Err(Error::Image("value of a hash"))
    }
}

impl<'a> Image<'a> {
    /// Checks all hashes, in one go. An image without hashes passes. For work in steps see
    /// [`Image::check`].
    pub fn verify(&self) -> Result<(), Error> {
        let mut check = self.check();
        loop {
            match check.step(usize::MAX) {
                Progress::More => {}
                Progress::Done(result) => return result,
            }
        }
    }

    /// Begins to check all hashes.
    pub fn check(&self) -> Check<'a> {
        Check::new(self.data, self.hashes.clone())
    }
}
