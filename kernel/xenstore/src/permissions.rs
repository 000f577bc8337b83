//! Who may do what with a node: up to five entries. The first names the owner, who may do everything, and
//! with its letter what all may do who are not listed; the others name a domain and what that one may do.

use crate::list::Writer;
use crate::path::number;
use abi::Errno;

/// Most entries (xenstored's quota).
const MOST: usize = 5;

/// The node's value and children can be read.
pub(crate) const READ: u16 = 1;
/// Its value can be changed, children can be made, it can be removed.
pub(crate) const WRITE: u16 = 2;
/// Its permissions can be changed.
pub(crate) const OWNER: u16 = 4;

/// Letters, in the order of the bits.
const LETTERS: [u8; 4] = *b"nrwb";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Permissions {
    domains: [u16; MOST],
    /// Two bits an entry.
    rights: u16,
    count: u8,
}

impl Permissions {
    /// Nobody but the owner.
    pub(crate) const fn of(owner: u16) -> Self {
        Self {
            domains: [owner, 0, 0, 0, 0],
            rights: 0,
            count: 1,
        }
    }

    /// The same list with another entry.
    ///
    /// # Errors
    /// [`Errno::NoSpace`] if it is full.
    pub(crate) fn with(mut self, domain: u16, rights: u16) -> Result<Self, Errno> {
        let slot = self.domains.get_mut(usize::from(self.count));
        *slot.ok_or(Errno::NoSpace)? = domain;
        self.rights |= (rights & 3).wrapping_shl(u32::from(self.count).wrapping_mul(2));
        self.count = self.count.saturating_add(1);
        Ok(self)
    }

    pub(crate) fn owner(&self) -> u16 {
        let [owner, ..] = self.domains;
        owner
    }

    /// The same rights, another owner.
    pub(crate) fn owned_by(mut self, owner: u16) -> Self {
        let [first, ..] = &mut self.domains;
        *first = owner;
        self
    }

    fn entries(&self) -> impl Iterator<Item = (u16, u16)> {
        let rights = (0..).map(|index: u32| self.rights.wrapping_shr(index.wrapping_mul(2)) & 3);
        let domains = self.domains.iter().copied();
        domains.zip(rights).take(usize::from(self.count))
    }

    /// Whether `domain` has all of `rights`.
    pub(crate) fn allow(&self, domain: u16, rights: u16) -> bool {
        if domain == 0 || domain == self.owner() {
            return true;
        }
        let mut entries = self.entries();
        let default = entries.next().map_or(0, |(_, rights)| rights);
        let own = entries.find(|(listed, _)| *listed == domain);
        own.map_or(default, |(_, rights)| rights) & rights == rights
    }

    /// Reads entries such as `n5`, each with a NUL after it.
    ///
    /// # Errors
    /// [`Errno::Invalid`] if there is none or one is malformed, [`Errno::NoSpace`] if there are too many.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Errno> {
        let text = text.strip_suffix(&[0]).ok_or(Errno::Invalid)?;
        let mut all = Self {
            count: 0,
            ..Self::of(0)
        };
        for entry in text.split(|byte| *byte == 0) {
            let (letter, domain) = entry.split_first().ok_or(Errno::Invalid)?;
            let rights = LETTERS.iter().position(|known| known == letter);
            let rights = rights.ok_or(Errno::Invalid)? as u16;
            let domain = number(domain).and_then(|domain| u16::try_from(domain).ok());
            all = all.with(domain.ok_or(Errno::Invalid)?, rights)?;
        }
        Ok(all)
    }

    /// Writes them as [`Self::parse`] reads them.
    ///
    /// # Errors
    /// [`Errno::TooBig`] if there is no room.
    pub(crate) fn write(&self, out: &mut Writer<'_>) -> Result<(), Errno> {
        for (domain, rights) in self.entries() {
            let letter = LETTERS.get(usize::from(rights)).copied().unwrap_or(b'n');
            out.push(&[letter])?;
            out.number(u64::from(domain))?;
            out.push(&[0])?;
        }
        Ok(())
    }
}
