//! Domains come and go. What each may have is fixed when it comes; when it goes, all that it has made goes too.

use crate::arena::Block;
use crate::connection::Phase;
use crate::node::{Node, Ref, SHADOW};
use crate::path::{INTRODUCED, Path, RELEASED, decimal};
use crate::permissions::{Permissions, READ};
use crate::ring::SharedPage;
use crate::store::{Account, Step, Store};
use crate::tree::View;
use abi::{DomainId, DomainSet, Errno};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

/// What a domain may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    /// Blocks of 64 bytes: a node takes one, and one for each 60 bytes of its name and value.
    pub blocks: u16,
    /// Of these, for events that wait.
    pub event_blocks: u16,
    /// Events that wait.
    pub events: u16,
    /// Nodes.
    pub nodes: u16,
    /// Bytes of a value.
    pub value: usize,
    /// Bytes of a path, as it is written.
    pub path: usize,
    /// Components of a path, as it is written: all may have to be made at once.
    pub depth: usize,
    /// Watches.
    pub watches: u16,
}

impl Quota {
    /// A guest's: 32 KiB. What the hypervisor writes for it is charged to it too, two nodes a vCPU.
    pub const GUEST: Self = Self {
        blocks: 512,
        event_blocks: 64,
        events: 32,
        nodes: 256,
        value: 2048,
        path: 512,
        depth: 20,
        watches: 64,
    };
    /// The same for a guest with many vCPUs: 64 KiB.
    const LARGE: Self = Self {
        blocks: 1024,
        nodes: 512,
        ..Self::GUEST
    };
    /// The hypervisor's own: the root and what stands above the domains' homes.
    pub const HYPERVISOR: Self = Self {
        blocks: 64,
        event_blocks: 0,
        events: 0,
        nodes: 16,
        value: 2048,
        path: 512,
        depth: 20,
        watches: 0,
    };

    /// A guest's with this many vCPUs.
    #[must_use]
    pub const fn guest(vcpus: u32) -> Self {
        if vcpus <= 16 {
            Self::GUEST
        } else {
            Self::LARGE
        }
    }
}

/// Why a domain could not be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddError {
    /// The heap has no room.
    NoMemory,
    /// The number is not one that a domain may have, or is in use.
    Number,
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoMemory => "no memory for the domain's share of xenstore",
            Self::Number => "xenstore: the domain's number is in use, or out of range",
        })
    }
}

impl core::error::Error for AddError {}

/// The account of a domain that is leaving: how far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leaving {
    No,
    /// Its watches and transactions are dropped.
    Connection,
    /// Its home is removed, and then all that is charged to it, from this block on.
    Nodes(u16),
    /// Those who wait for it are told.
    Announce,
    /// Nothing of others' leans on it any more.
    Alone,
    Done,
}

impl Store {
    /// A store for domains with numbers up to `last`. `None` if there is no memory.
    #[must_use]
    pub fn new(last: u16) -> Option<Self> {
        let mut accounts = Vec::new();
        accounts
            .try_reserve_exact(usize::from(last).checked_add(1)?)
            .ok()?;
        accounts.resize_with(usize::from(last).checked_add(1)?, || None);
        let mut store = Self {
            accounts,
            root: Ref::NONE,
            clock: 0,
            removed: Ref::NONE,
            applying: Ref::NONE,
        };
        store.put(0, Account::new(Quota::HYPERVISOR, None)?)?;
        store.root = store.allocate(0, &[], &[], Permissions::of(0)).ok()?;
        let view = View {
            who: 0,
            transaction: None,
        };
        for path in [b"/local/domain".as_slice(), INTRODUCED, RELEASED] {
            let path = Path::new(path, usize::MAX, usize::MAX).ok()?;
            let walk = store.walk(view, &path).ok()?;
            store.create(view, &walk, &[]).ok()?;
        }
        Some(store)
    }

    fn put(&mut self, domain: u16, account: Account) -> Option<()> {
        // Infallible `Box::new` is for small things; this is done when a domain is built.
        *self.accounts.get_mut(usize::from(domain))? = Some(Box::new(account));
        Some(())
    }

    /// Adds a domain, whose ring is in `page`, and gives it a home that it may read. A domain of the same number must have
    /// been removed; its memory is used again. Of other domains it sees at most those in `peers`, whatever they permit.
    ///
    /// # Errors
    /// [`AddError`].
    pub fn add(
        &mut self,
        id: DomainId,
        quota: Quota,
        peers: DomainSet,
        page: SharedPage,
    ) -> Result<(), AddError> {
        let domain = id.0;
        let slot = self.accounts.get(usize::from(domain));
        match slot.ok_or(AddError::Number)? {
            _ if domain == 0 => return Err(AddError::Number),
            Some(account) if account.present => return Err(AddError::Number),
            Some(_) => {
                let account = self.account_mut(domain).ok_or(AddError::Number)?;
                account.present = true;
                account.leaving = Leaving::No;
                account.connection.reopen(Some(page));
            }
            None => {
                let account = Account::new(quota, Some(page)).ok_or(AddError::NoMemory)?;
                self.put(domain, account).ok_or(AddError::Number)?;
            }
        }
        self.make_home(domain).map_err(|_| AddError::NoMemory)?;
        if let Some(account) = self.account_mut(domain) {
            account.peers = peers;
            account.connection.open();
        }
        Ok(())
    }

    /// Adds a domain again that was removed, with the page and the memory that it had, and gives it a home.
    ///
    /// # Errors
    /// [`AddError::Number`] if it was never added, or has not been removed.
    pub fn add_again(&mut self, id: DomainId) -> Result<(), AddError> {
        let domain = id.0;
        let account = self
            .account_mut(domain)
            .filter(|account| domain != 0 && !account.present)
            .ok_or(AddError::Number)?;
        account.present = true;
        account.leaving = Leaving::No;
        account.connection.renew();
        self.make_home(domain).map_err(|_| AddError::NoMemory)?;
        if let Some(account) = self.account_mut(domain) {
            account.connection.open();
        }
        Ok(())
    }

    /// Says to those who watch `@introduceDomain` that a domain is there. The hypervisor's own steps (domain 0) carry
    /// it out. `false` if another request of the hypervisor's is under way.
    pub fn introduce(&mut self) -> bool {
        let is_free = self
            .account(0)
            .is_some_and(|account| account.connection.is_free());
        let introduced = self.find(self.root, INTRODUCED, crate::path::hash(INTRODUCED));
        if is_free && introduced.node.is_some() {
            self.tell_from(0, introduced.node.unwrap_or(Ref::NONE), false);
        }
        is_free
    }

    fn make_home(&mut self, domain: u16) -> Result<(), Errno> {
        let mut digits = [0; 20];
        let name = decimal(u64::from(domain), &mut digits);
        let permissions = Permissions::of(0).with(domain, READ)?;
        let home = self.allocate(domain, name, &[], permissions)?;
        let parent = self.homes().ok_or(Errno::Io)?;
        let before = self.find(parent, name, crate::path::hash(name)).before;
        self.link(parent, before, home);
        self.changed(parent);
        Ok(())
    }

    /// Does a piece of what is to be done when a domain has ended. `more` says that there is more; until then
    /// no domain of the same number can be added. Its vCPUs have stopped.
    pub fn remove_domain(&mut self, id: DomainId) -> Step {
        let mut step = Step::default();
        step.more = id.0 != 0 && self.leave(id.0, &mut step).is_some();
        step
    }

    /// `None` when it has left.
    fn leave(&mut self, who: u16, step: &mut Step) -> Option<()> {
        if self.apply_some().or_else(|| self.reap()).is_some() {
            return Some(());
        }
        let account = self.account_mut(who).filter(|account| account.present)?;
        if account.leaving == Leaving::No {
            account.leaving = Leaving::Connection;
            if !matches!(account.connection.phase, Phase::Telling(_)) {
                account.connection.phase = Phase::Closed;
            }
        }
        let leaving = account.leaving;
        if let Phase::Telling(fan) = account.connection.phase {
            self.advance_telling(who, fan, step, |connection| {
                connection.phase = Phase::Closed;
            });
            return Some(());
        }
        match leaving {
            Leaving::No => {}
            Leaving::Connection => {
                if self.forget(who) {
                    self.now_leaving(who, Leaving::Nodes(0));
                    if let Some(home) = self.home(who) {
                        self.remove_and_tell(who, home);
                    }
                }
            }
            Leaving::Nodes(from) => match self.next_node(who, from) {
                Some((next, at)) => {
                    self.now_leaving(who, Leaving::Nodes(next));
                    if let Some(at) = at {
                        self.remove_and_tell(who, at);
                    }
                }
                None => self.now_leaving(who, Leaving::Announce),
            },
            Leaving::Announce => {
                self.now_leaving(who, Leaving::Alone);
                let released = self
                    .find(self.root, RELEASED, crate::path::hash(RELEASED))
                    .node;
                if let Some(at) = released {
                    self.tell_from(who, at, false);
                }
            }
            Leaving::Alone => {
                if !self.finish_a_transaction(step) {
                    // What others have begun may lean on nodes that are gone, and have texts in this domain's blocks.
                    for other in 0..self.accounts.len() {
                        self.fail_transactions(other as u16);
                    }
                    self.now_leaving(who, Leaving::Done);
                }
            }
            Leaving::Done => {
                let account = self.account_mut(who)?;
                account.present = false;
                account.arena.clear();
                account.nodes = 0;
                return None;
            }
        }
        Some(())
    }

    /// Goes on to tell what a transaction has changed, in place of the domain whose it is; `false` if there is none.
    fn finish_a_transaction(&mut self, step: &mut Step) -> bool {
        for domain in 0..self.accounts.len() as u16 {
            let phase = self.account(domain).map(|account| account.connection.phase);
            if let Some(Phase::Telling(fan)) = phase
                && fan.needs_transaction()
            {
                self.advance_telling(domain, fan, step, |connection| connection.reply_ok());
                return true;
            }
        }
        false
    }

    fn now_leaving(&mut self, who: u16, leaving: Leaving) {
        if let Some(account) = self.account_mut(who) {
            account.leaving = leaving;
        }
    }

    /// Begins to tell that a node has changed, with the buffer of a domain that leaves.
    fn tell_from(&mut self, who: u16, at: Ref, removed: bool) {
        let Some(account) = self.account_mut(who) else {
            return;
        };
        let mut payload = account.connection.take_payload();
        let fan = self.fan(at, removed, None, &mut payload);
        if let Some(account) = self.account_mut(who) {
            account.connection.give_payload(payload);
            if let Some(fan) = fan {
                account.connection.phase = Phase::Telling(fan);
            }
        }
    }

    fn remove_and_tell(&mut self, who: u16, at: Ref) {
        self.tell_from(who, at, true);
        self.remove(at);
    }

    /// The next node that is charged to a domain, if there is one among its next blocks, and from which block on to look
    /// for more. `None` when all blocks have been looked at.
    fn next_node(&self, who: u16, from: u16) -> Option<(u16, Option<Ref>)> {
        const LOOK: u16 = 64;
        let arena = &self.account(who)?.arena;
        let end = arena.touched();
        if from >= end {
            return None;
        }
        let last = end.min(from.saturating_add(LOOK));
        let is_node = |node: &Node| !node.has(SHADOW) && node.parent.is_some();
        for index in from..last {
            if matches!(arena.get(index), Some(Block::Node(node)) if is_node(node)) {
                let at = Ref { domain: who, index };
                return Some((index.saturating_add(1), Some(at)));
            }
        }
        Some((last, None))
    }
}
