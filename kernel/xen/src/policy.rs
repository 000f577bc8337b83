//! Who may deal with whom. The device tree decides it when the domains are made, and nothing changes it
//! afterwards: a domain reaches itself, and those in its [`Peers`]. The relation is the one of Xen's SILO
//! mode (`xen/xsm/silo.c`), with the tree's connections in the place of the control domain: whoever is not
//! a peer gets -EPERM, and whoever does not exist -ESRCH.
//!
//! Event channels ask here when they are bound, the grant table when it is to map or to copy, the store
//! when it is to show a node. What is bound already needs no question.

use crate::{Host, XenState};
use abi::{DomainId, Errno};

/// Ids that a peer can have, 0 to 255: as many as there are VMIDs.
const WORDS: usize = 4;

/// A set of domains.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Peers([u64; WORDS]);

impl Peers {
    /// Nobody.
    pub const NONE: Self = Self([0; WORDS]);
    /// Everybody.
    pub const ALL: Self = Self([u64::MAX; WORDS]);

    /// Whether a domain is in the set.
    #[must_use]
    pub fn contains(&self, id: DomainId) -> bool {
        let word = self.0.get(usize::from(id.0 >> 6));
        word.is_some_and(|word| word & 1_u64.wrapping_shl(u32::from(id.0)) != 0)
    }
}

impl FromIterator<DomainId> for Peers {
    /// Ids above 255, which no guest has, are left out.
    fn from_iter<I: IntoIterator<Item = DomainId>>(ids: I) -> Self {
        let mut set = Self::NONE;
        for id in ids {
            if let Some(word) = set.0.get_mut(usize::from(id.0 >> 6)) {
                *word |= 1_u64.wrapping_shl(u32::from(id.0));
            }
        }
        set
    }
}

impl XenState {
    /// Whether this domain may deal with `other`: bind events to it, grant to it and use its grants, see its
    /// nodes of the store. `other` is a real id, not [`DomainId::SELF`]; it need not live.
    #[must_use]
    pub fn may_reach(&self, other: DomainId) -> bool {
        other == self.id() || self.peers.contains(other)
    }

    /// [`Self::may_reach`], as the errno that a guest reads.
    ///
    /// # Errors
    /// [`Errno::Perm`] for a domain that is no peer, [`Errno::NoSuchDomain`] if there is no such domain.
    pub fn check_peer<H: Host>(&self, host: &H, other: DomainId) -> Result<(), Errno> {
        if self.may_reach(other) {
            return Ok(());
        }
        Err(match host.peer(other) {
            Some(_) => Errno::Perm,
            None => Errno::NoSuchDomain,
        })
    }
}
