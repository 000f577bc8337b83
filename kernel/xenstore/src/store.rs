//! The store as one value: its accounts, one a domain, and the tree that all share.

use crate::arena::{Arena, Block, NIL};
use crate::connection::{Connection, Phase};
use crate::domains::{Leaving, Quota};
use crate::node::{Node, Ref};
use crate::ring::SharedPage;
use crate::transaction::{MOST_TRANSACTIONS, Transaction};
use abi::{DomainId, DomainSet, Errno};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// What a domain has in the store.
pub(crate) struct Account {
    pub(crate) arena: Arena,
    pub(crate) quota: Quota,
    /// Whose nodes it may see, if they let it; its own and the hypervisor's besides.
    pub(crate) peers: DomainSet,
    /// It lives. If not, its memory waits for the next domain of this number.
    pub(crate) present: bool,
    pub(crate) leaving: Leaving,
    /// Nodes charged to it.
    pub(crate) nodes: u16,
    /// Its watches, newest first, and their number.
    pub(crate) watches: u16,
    pub(crate) watch_count: u16,
    /// A watch has fired for which there was no room.
    pub(crate) owed: bool,
    /// Events that wait, oldest first, and their number.
    pub(crate) first_event: u16,
    pub(crate) last_event: u16,
    pub(crate) event_count: u16,
    pub(crate) transactions: [Option<Transaction>; MOST_TRANSACTIONS],
    pub(crate) last_transaction: u32,
    pub(crate) connection: Connection,
}

impl Account {
    pub(crate) fn new(quota: Quota, page: Option<SharedPage>) -> Option<Self> {
        Some(Self {
            arena: Arena::new(quota.blocks, quota.event_blocks)?,
            quota,
            peers: DomainSet::NONE,
            present: true,
            leaving: Leaving::No,
            nodes: 0,
            watches: NIL,
            watch_count: 0,
            owed: false,
            first_event: NIL,
            last_event: NIL,
            event_count: 0,
            transactions: [None; MOST_TRANSACTIONS],
            last_transaction: 0,
            connection: Connection::new(page)?,
        })
    }
}

impl Account {
    /// Whether `who`, whose account this is, may see nodes of `owner` at all. A node is its owner's, wherever it is.
    pub(crate) fn may_see(&self, who: u16, owner: u16) -> bool {
        who == 0 || owner == 0 || owner == who || self.peers.contains(DomainId(owner))
    }
}

/// The domains whose events a step asks for: their rings have moved.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Step {
    /// There is more to do for the domain: another step is due.
    pub more: bool,
    notify: [Option<DomainId>; 4],
}

impl Step {
    /// Whom to send an event.
    pub fn notify(&self) -> impl Iterator<Item = DomainId> {
        self.notify.into_iter().flatten()
    }

    /// Remembers a domain; whether there is room for another one.
    pub(crate) fn add(&mut self, domain: u16) {
        let id = DomainId(domain);
        if let Some(slot) = self
            .notify
            .iter_mut()
            .find(|slot| slot.is_none_or(|known| known == id))
        {
            *slot = Some(id);
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.notify.iter().flatten().count() >= 3
    }
}

/// The store of all domains.
pub struct Store {
    /// By domain id; 0 is the hypervisor.
    pub(crate) accounts: Vec<Option<Box<Account>>>,
    pub(crate) root: Ref,
    /// Counts changes: generations, serials and the numbers of watches come from here.
    pub(crate) clock: u64,
    /// Nodes that are out of the tree and to be freed with all below, linked by `next`.
    pub(crate) removed: Ref,
    /// The shadow that is carried out next, of a transaction that has succeeded.
    pub(crate) applying: Ref,
}

/// Nodes freed in one go.
const REAP: u32 = 32;

impl Store {
    pub(crate) fn account(&self, domain: u16) -> Option<&Account> {
        self.accounts.get(usize::from(domain))?.as_deref()
    }

    pub(crate) fn account_mut(&mut self, domain: u16) -> Option<&mut Account> {
        self.accounts.get_mut(usize::from(domain))?.as_deref_mut()
    }

    /// The account of a domain that a request comes from, so that it is there.
    pub(crate) fn of(&mut self, domain: u16) -> Result<&mut Account, Errno> {
        self.account_mut(domain).ok_or(Errno::Io)
    }

    pub(crate) fn node(&self, at: Ref) -> Option<&Node> {
        match self.account(at.domain)?.arena.get(at.index)? {
            Block::Node(node) => Some(node),
            _ => None,
        }
    }

    pub(crate) fn node_mut(&mut self, at: Ref) -> Option<&mut Node> {
        match self.account_mut(at.domain)?.arena.get_mut(at.index)? {
            Block::Node(node) => Some(node),
            _ => None,
        }
    }

    /// The next number of the clock.
    pub(crate) fn tick(&mut self) -> u64 {
        self.clock = self.clock.wrapping_add(1);
        self.clock
    }

    /// Puts a node that is out of its tree on the list of those to be freed.
    pub(crate) fn discard(&mut self, at: Ref) {
        let removed = self.removed;
        if let Some(node) = self.node_mut(at) {
            node.next = removed;
            self.removed = at;
        }
    }

    /// Frees some of the nodes that are out of the tree; `None` if there are none.
    pub(crate) fn reap(&mut self) -> Option<()> {
        self.node(self.removed)?;
        for _ in 0..REAP {
            let at = self.removed;
            let Some(node) = self.node(at).copied() else {
                break;
            };
            if let Some(child) = self.node(node.child).copied() {
                // The child goes first; its siblings stay where they are for now.
                let first = node.child;
                if let Some(node) = self.node_mut(at) {
                    node.child = child.next;
                }
                self.discard(first);
                continue;
            }
            self.removed = node.next;
            self.free(at, &node);
        }
        Some(())
    }

    /// Does a piece of a domain's work. `more` says that there is more; not so if it waits for the guest.
    pub fn step(&mut self, domain: DomainId) -> Step {
        let mut step = Step::default();
        let mut budget = BUDGET;
        while budget != 0 && !step.is_full() {
            let Some(cost) = self.advance(domain.0, &mut step) else {
                return step;
            };
            budget = budget.saturating_sub(cost);
        }
        step.more = true;
        step
    }

    /// Asks as the hypervisor: a request as a guest would send it. Steps of domain 0 carry it out, and then
    /// [`Self::answer`] has the reply. `false` if another request is under way or the payload is too long.
    pub fn ask(&mut self, kind: u32, payload: &[u8]) -> bool {
        let Some(account) = self.account_mut(0) else {
            return false;
        };
        account.connection.ask(kind, payload)
    }

    /// The reply to the last [`Self::ask`].
    ///
    /// # Errors
    /// The name of the error, as a guest would get it; "EBUSY" while it is under way.
    pub fn answer(&self) -> Result<&[u8], &[u8]> {
        match self.account(0) {
            Some(account) => account.connection.answer(),
            None => Err(b"EIO"),
        }
    }

    /// Blocks that a domain uses, of all that it may.
    #[must_use]
    pub fn usage(&self, domain: DomainId) -> Option<(u16, u16)> {
        let account = self.account(domain.0)?;
        Some((account.arena.used(), account.quota.blocks))
    }

    /// Whether a domain is there, with its ring in order.
    #[must_use]
    pub fn is_connected(&self, domain: DomainId) -> bool {
        self.account(domain.0).is_some_and(|account| {
            let connection = &account.connection;
            account.present && !connection.is_broken && !matches!(connection.phase, Phase::Closed)
        })
    }
}

/// What a step may cost, in units of roughly a thousand instructions.
const BUDGET: u32 = 12;
