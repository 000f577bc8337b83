//! Who may deal with whom. The device tree decides it when the domains are made, and nothing changes it
//! afterwards: a domain reaches itself, and those in its set of peers. The relation is the one of Xen's SILO
//! mode (`xen/xsm/silo.c`), with the tree's connections in the place of the control domain: whoever is not
//! a peer gets -EPERM, and whoever does not exist -ESRCH.
//!
//! Event channels ask here when they are bound, the grant table when it is to map or to copy. What is bound already needs
//! no question. Xenstore is given the same set, and asks it at every access.

use crate::{Host, XenState};
use abi::{DomainId, DomainSet, Errno};

impl XenState {
    /// Whom this domain may deal with besides itself.
    #[must_use]
    pub fn peers(&self) -> DomainSet {
        self.peers
    }

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
