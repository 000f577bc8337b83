//! Watches: who wants to know of changes at and below a path. A change is compared with every watch, in steps; an
//! event goes into the receiver's own queue, in blocks of its own share. An event that waits already is not put there
//! twice. Where there is no room the watch remembers that it has fired, and says so with its own path later on.

use crate::arena::{Block, NIL, Share, Text};
use crate::commit::Change;
use crate::list::same;
use crate::node::Ref;
use crate::path::{From, HOMES, Path, decimal};
use crate::permissions::{Permissions, READ};
use crate::store::{Account, Step, Store};
use crate::tree::View;
use abi::Errno;
use abi::xenstore::PAYLOAD_MAX;

/// Watches looked at in one go.
const LOOK: u32 = 16;
/// Most bytes of a token.
const TOKEN_MAX: usize = 256;

#[derive(Clone, Copy)]
pub(crate) struct Watch {
    next: u16,
    /// Absolute path, and then the token.
    text: u16,
    path: u16,
    token: u16,
    /// Bytes of the path that the guest did not write, and is not told.
    prefix: u16,
    /// It has fired, and there was no room.
    owed: bool,
    /// Its number: a later one is greater.
    id: u64,
}

#[derive(Clone, Copy)]
pub(crate) struct Event {
    next: u16,
    /// Path, NUL, token, NUL.
    pub(crate) text: u16,
    pub(crate) length: u16,
}

/// A change that is being told to those who watch.
#[derive(Clone, Copy)]
pub(crate) struct Fan {
    /// Its path lies in the caller's buffer, from here to the end.
    path: usize,
    removed: bool,
    /// Who may read by one of these may know.
    permissions: [Permissions; 3],
    /// The next domain to be looked at, and its watches: those with lower numbers.
    domain: u16,
    below: u64,
    /// More changes, of this transaction after this node.
    transaction: Option<(usize, Ref)>,
}

impl Fan {
    pub(crate) fn new(path: usize, removed: bool, permissions: [Permissions; 3]) -> Self {
        Self {
            path,
            removed,
            permissions,
            domain: 0,
            below: u64::MAX,
            transaction: None,
        }
    }

    /// Whether it needs a transaction that was carried out.
    pub(crate) fn needs_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// All changes of a transaction that was carried out.
    pub(crate) fn of_transaction(slot: usize) -> Self {
        let nobody = [Permissions::of(0); 3];
        Self {
            domain: u16::MAX,
            transaction: Some((slot, Ref::NONE)),
            ..Self::new(PAYLOAD_MAX, false, nobody)
        }
    }
}

/// What a watch has to do with a change.
enum Hit {
    /// The change is at its path or below.
    At,
    /// What it watches was removed with a node above.
    Above,
}

impl Account {
    fn hit(&self, watch: &Watch, path: &[u8], removed: bool) -> Option<Hit> {
        let length = usize::from(watch.path);
        let mut rest = path;
        for piece in self.arena.pieces(watch.text, 0, length.min(path.len())) {
            match rest.split_at_checked(piece.len()) {
                Some((start, after)) if same(start, piece) => rest = after,
                _ => return None,
            }
        }
        match rest.first() {
            None if length == path.len() => Some(Hit::At),
            None => {
                let mut next = self.arena.pieces(watch.text, path.len(), 1);
                (removed && next.next() == Some(b"/")).then_some(Hit::Above)
            }
            Some(b'/') => Some(Hit::At),
            // Only the root's path ends in a slash.
            Some(_) => (length == 1).then_some(Hit::At),
        }
    }

    /// Puts an event into the queue: of `path`, or of the watch's own.
    fn queue(&mut self, index: u16, path: Option<&[u8]>) {
        let Some(watch) = self.arena.watch(index).copied() else {
            return;
        };
        if self.queue_text(&watch, path).is_err() {
            if let Some(watch) = self.arena.watch_mut(index) {
                watch.owed = true;
            }
            self.owed = true;
        }
    }

    fn queue_text(&mut self, watch: &Watch, path: Option<&[u8]>) -> Result<(), Errno> {
        if self.event_count >= self.quota.events {
            return Err(Errno::NoSpace);
        }
        let mut text = Text::new(Share::Events);
        let written = self.write_event(&mut text, watch, path);
        let (Ok(length), false) = (written, self.waits(text.head)) else {
            self.arena.free_text(text.head, Share::Events);
            return written.map(|_| ());
        };
        let event = Event {
            next: NIL,
            text: text.head,
            length: length as u16,
        };
        let index = match self.arena.take(Block::Event(event), Share::Events) {
            Ok(index) => index,
            Err(error) => {
                self.arena.free_text(text.head, Share::Events);
                return Err(error);
            }
        };
        match self.arena.get_mut(self.last_event) {
            Some(Block::Event(last)) => last.next = index,
            _ => self.first_event = index,
        }
        self.last_event = index;
        self.event_count = self.event_count.saturating_add(1);
        Ok(())
    }

    fn write_event(
        &mut self,
        text: &mut Text,
        watch: &Watch,
        path: Option<&[u8]>,
    ) -> Result<usize, Errno> {
        let (own, prefix) = (usize::from(watch.path), usize::from(watch.prefix));
        let token = usize::from(watch.token);
        let length = match path {
            Some(path) => {
                let told = path.get(prefix..).unwrap_or_default();
                self.arena.append(text, told)?;
                told.len()
            }
            None => {
                let told = own.saturating_sub(prefix);
                self.arena.append_from(text, watch.text, prefix, told)?;
                told
            }
        };
        self.arena.append(text, &[0])?;
        self.arena.append_from(text, watch.text, own, token)?;
        self.arena.append(text, &[0])?;
        Ok(length.saturating_add(token).saturating_add(2))
    }

    /// Whether the same event waits already. (Two texts of different lengths differ in a NUL at least.)
    fn waits(&self, text: u16) -> bool {
        let mut at = self.first_event;
        while let Some(event) = self.arena.event(at) {
            if self.arena.same_text(event.text, text) {
                return true;
            }
            at = event.next;
        }
        false
    }

    /// The first event that waits. When none does, those that are owed come up.
    pub(crate) fn event(&mut self) -> Option<Event> {
        if self.first_event == NIL && self.owed {
            self.owed = false;
            let mut at = self.watches;
            while let Some(watch) = self.arena.watch_mut(at) {
                let next = watch.next;
                if core::mem::take(&mut watch.owed) {
                    self.queue(at, None);
                }
                at = next;
            }
        }
        self.arena.event(self.first_event).copied()
    }

    /// The first event has been told.
    pub(crate) fn drop_event(&mut self) {
        let first = self.first_event;
        if let Some(event) = self.arena.event(first).copied() {
            self.arena.free_text(event.text, Share::Events);
            self.arena.give(first, Share::Events);
            self.first_event = event.next;
            if event.next == NIL {
                self.last_event = NIL;
            }
            self.event_count = self.event_count.saturating_sub(1);
        }
    }

    /// Drops an event: the first, or the one behind it.
    pub(crate) fn drop_event_after(&mut self, keeps_first: bool) {
        let first = self.first_event;
        let (true, Some(Block::Event(event))) = (keeps_first, self.arena.get_mut(first)) else {
            return self.drop_event();
        };
        // The second is made the first for a moment.
        self.first_event = core::mem::replace(&mut event.next, NIL);
        self.drop_event();
        let rest = core::mem::replace(&mut self.first_event, first);
        if let Some(Block::Event(event)) = self.arena.get_mut(first) {
            event.next = rest;
        }
        if rest == NIL {
            self.last_event = first;
        }
    }

    /// Removes the watch after `before`, or the first one.
    fn drop_watch(&mut self, before: u16) {
        let at = match self.arena.watch(before) {
            Some(before) => before.next,
            None => self.watches,
        };
        let Some(watch) = self.arena.watch(at).copied() else {
            return;
        };
        match self.arena.watch_mut(before) {
            Some(before) => before.next = watch.next,
            None => self.watches = watch.next,
        }
        self.arena.free_text(watch.text, Share::Store);
        self.arena.give(at, Share::Store);
        self.watch_count = self.watch_count.saturating_sub(1);
    }

    /// Removes the newest watch; `false` if there is none.
    pub(crate) fn drop_first_watch(&mut self) -> bool {
        let had = self.watches != NIL;
        self.drop_watch(NIL);
        had
    }

    /// The watch of this path and token, and the one before it in the list.
    fn find_watch(&self, path: &[&[u8]], token: &[u8]) -> Option<u16> {
        let length = path
            .iter()
            .map(|part| part.len())
            .fold(0, usize::saturating_add);
        let (mut before, mut at) = (NIL, self.watches);
        while let Some(watch) = self.arena.watch(at) {
            let mut skip: usize = 0;
            let is_same = usize::from(watch.path) == length
                && usize::from(watch.token) == token.len()
                && path.iter().chain([&token]).all(|part| {
                    let pieces = self.arena.pieces(watch.text, skip, part.len());
                    skip = skip.saturating_add(part.len());
                    pieces.is(part)
                });
            if is_same {
                return Some(before);
            }
            before = core::mem::replace(&mut at, watch.next);
        }
        None
    }
}

/// The parts of a watch's absolute path, and the bytes of it that the guest did not write.
fn absolute<'a>(who: u16, path: &Path<'a>, digits: &'a mut [u8; 20]) -> ([&'a [u8]; 4], usize) {
    match path.from {
        From::Root => ([b"/", path.rest, b"", b""], 0),
        From::Special => ([b"/", path.rest, b"", b""], 1),
        From::Home => {
            let number = decimal(u64::from(who), digits);
            let prefix = HOMES.len().saturating_add(number.len()).saturating_add(1);
            ([HOMES, number, b"/", path.rest], prefix)
        }
    }
}

impl Store {
    /// `WATCH`: adds a watch, and lets it fire once.
    pub(crate) fn watch(&mut self, who: u16, path: &Path<'_>, token: &[u8]) -> Result<(), Errno> {
        if token.len() > TOKEN_MAX {
            return Err(Errno::Invalid);
        }
        if path.from == From::Special {
            let view = View {
                who,
                transaction: None,
            };
            self.get(view, path, READ)?;
        }
        let mut digits = [0; 20];
        let ([a, b, c, d], prefix) = absolute(who, path, &mut digits);
        let id = self.tick();
        let account = self.of(who)?;
        if account.find_watch(&[a, b, c, d], token).is_some() {
            return Err(Errno::Exists);
        }
        if account.watch_count >= account.quota.watches {
            return Err(Errno::TooBig);
        }
        let text = account.arena.store(&[a, b, c, d, token])?;
        let length = [a, b, c, d]
            .map(<[u8]>::len)
            .into_iter()
            .fold(0, usize::saturating_add);
        let watch = Watch {
            next: account.watches,
            text,
            path: length as u16,
            token: token.len() as u16,
            prefix: prefix as u16,
            owed: false,
            id,
        };
        match account.arena.take(Block::Watch(watch), Share::Store) {
            Ok(index) => {
                account.watches = index;
                account.watch_count = account.watch_count.saturating_add(1);
                account.queue(index, None);
                Ok(())
            }
            Err(error) => {
                account.arena.free_text(text, Share::Store);
                Err(error)
            }
        }
    }

    /// `UNWATCH`.
    pub(crate) fn unwatch(&mut self, who: u16, path: &Path<'_>, token: &[u8]) -> Result<(), Errno> {
        let mut digits = [0; 20];
        let (parts, _) = absolute(who, path, &mut digits);
        let account = self.of(who)?;
        let before = account.find_watch(&parts, token).ok_or(Errno::NoEntry)?;
        account.drop_watch(before);
        Ok(())
    }

    /// Tells some of those who watch of a change; `true` when all have been told. `buffer` is the
    /// caller's, who has made the change.
    pub(crate) fn tell(
        &mut self,
        who: u16,
        fan: &mut Fan,
        buffer: &mut [u8],
        step: &mut Step,
    ) -> bool {
        if usize::from(fan.domain) >= self.accounts.len() {
            return !self.next_path(who, fan, buffer);
        }
        let path = buffer.get(fan.path..).unwrap_or_default();
        let domain = fan.domain;
        let mut at = self.next_watch(domain, fan.below);
        for _ in 0..LOOK {
            let Some(account) = self.account_mut(domain) else {
                break;
            };
            let Some(watch) = account.arena.watch(at).copied() else {
                break;
            };
            fan.below = watch.id;
            let hit = account.hit(&watch, path, fan.removed);
            if let Some(hit) = hit.filter(|_| account.may_hear(domain, &fan.permissions)) {
                match hit {
                    Hit::At => account.queue(at, Some(path)),
                    Hit::Above => account.queue(at, None),
                }
                self.send(domain, step);
                return false;
            }
            at = watch.next;
        }
        if at == NIL {
            fan.domain = domain.saturating_add(1);
            fan.below = u64::MAX;
        }
        false
    }

    /// The newest watch of a domain with a number below this.
    fn next_watch(&self, domain: u16, below: u64) -> u16 {
        let Some(account) = self.account(domain) else {
            return NIL;
        };
        let mut at = account.watches;
        while let Some(watch) = account.arena.watch(at)
            && watch.id >= below
        {
            at = watch.next;
        }
        at
    }

    /// Goes on to the next change of a transaction; `false` if there is none.
    fn next_path(&mut self, who: u16, fan: &mut Fan, buffer: &mut [u8]) -> bool {
        let Some((slot, at)) = fan.transaction else {
            return false;
        };
        let Some(change) = self.next_change(who, slot, at) else {
            self.drop_transaction(who, slot);
            return false;
        };
        let Change {
            at,
            removed,
            permissions,
        } = change;
        // What somebody else has removed meanwhile was told by the removal.
        if let Some(path) = self.write_path(at, buffer) {
            *fan = Fan::new(path, removed, permissions);
        }
        fan.transaction = Some((slot, at));
        true
    }
}
