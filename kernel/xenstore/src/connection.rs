//! One domain's conversation with the store: messages in from its ring, one request at a time, replies and
//! events out to it. A message may be longer than the ring, so each is gathered, and given out, in pieces.

mod output;

use crate::request::Done;
use crate::ring::{BadIndex, Ring, SharedPage};
use crate::store::{Step, Store};
use crate::transaction::MOST_TRANSACTIONS;
use crate::watch::Fan;
use abi::xenstore::{
    CONNECTED, ERROR, ERROR_PROTOCOL, ERROR_RING_INDEX, FEATURE_ERROR, FEATURE_RECONNECTION,
    Header, PAYLOAD_MAX, RECONNECT, RING_CONNECTION, RING_ERROR, RING_SERVER_FEATURES,
};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Bytes of a header.
const HEADER: usize = size_of::<Header>();
/// Watches and events dropped in one go.
const DROP: usize = 8;

/// What a connection is at.
#[derive(Clone, Copy)]
pub(crate) enum Phase {
    /// A request comes in, or a reply goes out.
    Receiving,
    /// A request is there.
    Ready,
    /// Its request was carried out, and those who watch are told.
    Telling(Fan),
    /// Watches and transactions are being dropped: at the guest's wish, with the ring or without.
    Forgetting { reconnect: bool },
    /// The domain is going.
    Closed,
}

/// What is on its way to the guest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Out {
    Nothing,
    /// The reply, this many bytes of it so far.
    Reply(usize),
    /// The first event. A reply that is there waits for its end.
    Event(usize),
}

pub(crate) struct Connection {
    page: Option<SharedPage>,
    ring: Ring,
    /// The ring makes no sense, until the guest asks for a new start.
    pub(crate) is_broken: bool,
    pub(crate) phase: Phase,
    /// The header of the request, and then that of the reply.
    header: [u8; HEADER],
    /// Bytes of the request so far, its header included.
    received: usize,
    payload: Box<[u8]>,
    out: Out,
    /// The payload is a reply that has not begun to go out.
    reply_waits: bool,
    /// An event went out last: a request is next, if there is one.
    request_is_next: bool,
}

fn header_bytes(header: &Header) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let words = [
        header.kind,
        header.request,
        header.transaction,
        header.length,
    ];
    for (slot, word) in bytes.chunks_exact_mut(4).zip(words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Why a guest's bytes cannot be taken.
enum Bad {
    Index,
    Length,
}

impl From<BadIndex> for Bad {
    fn from(_: BadIndex) -> Self {
        Self::Index
    }
}

impl Connection {
    pub(crate) fn new(page: Option<SharedPage>) -> Option<Self> {
        let mut payload = Vec::new();
        payload.try_reserve_exact(PAYLOAD_MAX).ok()?;
        payload.resize(PAYLOAD_MAX, 0);
        Some(Self {
            page,
            ring: Ring::default(),
            is_broken: false,
            phase: Phase::Receiving,
            header: [0; HEADER],
            received: 0,
            payload: payload.into_boxed_slice(),
            out: Out::Nothing,
            reply_waits: false,
            request_is_next: false,
        })
    }

    /// The same memory for another domain of the same number.
    pub(crate) fn reopen(&mut self, page: Option<SharedPage>) {
        self.page = page;
        self.ring = Ring::default();
        self.start_afresh();
    }

    /// The same memory and the same page, for the domain's next life.
    pub(crate) fn renew(&mut self) {
        self.ring = Ring::default();
        self.start_afresh();
    }

    /// Whether it has nothing to do.
    pub(crate) fn is_free(&self) -> bool {
        matches!(self.phase, Phase::Receiving)
    }

    fn start_afresh(&mut self) {
        self.phase = Phase::Receiving;
        self.is_broken = false;
        self.received = 0;
        self.out = Out::Nothing;
        self.reply_waits = false;
        self.request_is_next = false;
    }

    /// The buffer, while its bytes are the matter of the tree: an empty slice takes its place, which takes no
    /// memory.
    pub(crate) fn take_payload(&mut self) -> Box<[u8]> {
        core::mem::take(&mut self.payload)
    }

    pub(crate) fn give_payload(&mut self, payload: Box<[u8]>) {
        self.payload = payload;
    }

    fn header(&self) -> Header {
        let mut words = self.header.chunks_exact(4).map(|word| match word {
            [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
            _ => 0,
        });
        let mut next = || words.next().unwrap_or(0);
        Header {
            kind: next(),
            request: next(),
            transaction: next(),
            length: next(),
        }
    }

    /// Makes what is in the payload the reply.
    fn reply(&mut self, kind: u32, length: usize) {
        let header = Header {
            kind,
            length: length as u32,
            ..self.header()
        };
        self.header = header_bytes(&header);
        self.received = 0;
        self.reply_waits = true;
        self.phase = Phase::Receiving;
    }

    fn reply_text(&mut self, kind: u32, text: &[&[u8]]) {
        let mut out = crate::list::Writer::new(&mut self.payload);
        for part in text {
            // The payload has room for a word.
            let _ = out.push(part);
        }
        let length = out.length;
        self.reply(kind, length);
    }

    pub(crate) fn reply_ok(&mut self) {
        let kind = self.header().kind;
        self.reply_text(kind, &[b"OK\0"]);
    }

    pub(crate) fn ask(&mut self, kind: u32, payload: &[u8]) -> bool {
        if !matches!(self.phase, Phase::Receiving) {
            return false;
        }
        let Some(room) = self.payload.get_mut(..payload.len()) else {
            return false;
        };
        room.copy_from_slice(payload);
        self.header = header_bytes(&Header {
            kind,
            length: payload.len() as u32,
            ..Header::default()
        });
        self.reply_waits = false;
        self.phase = Phase::Ready;
        true
    }

    pub(crate) fn answer(&self) -> Result<&[u8], &[u8]> {
        if !(self.reply_waits && matches!(self.phase, Phase::Receiving)) {
            return Err(b"EBUSY");
        }
        let header = self.header();
        let payload = self
            .payload
            .get(..header.length as usize)
            .unwrap_or_default();
        match header.kind {
            ERROR => Err(payload.strip_suffix(&[0]).unwrap_or(payload)),
            _ => Ok(payload),
        }
    }
}

impl Connection {
    /// Takes what has come of a request; the number of bytes.
    fn receive(&mut self) -> Result<usize, Bad> {
        let Some(page) = &self.page else {
            return Ok(0);
        };
        let mut taken = 0;
        if self.received < HEADER {
            let room = self.header.get_mut(self.received..).unwrap_or_default();
            taken = self.ring.take(page, room)?;
            self.received = self.received.saturating_add(taken);
        }
        if self.received >= HEADER {
            let length = self.header().length as usize;
            if length > PAYLOAD_MAX {
                return Err(Bad::Length);
            }
            let from = self.received.saturating_sub(HEADER);
            let room = self.payload.get_mut(from..length).unwrap_or_default();
            let more = self.ring.take(page, room)?;
            taken = taken.saturating_add(more);
            self.received = self.received.saturating_add(more);
            if self.received == HEADER.saturating_add(length) {
                self.phase = Phase::Ready;
            }
        }
        Ok(taken)
    }

    fn break_down(&mut self, why: &Bad) {
        if let Some(page) = &self.page {
            let code = match why {
                Bad::Index => ERROR_RING_INDEX,
                Bad::Length => ERROR_PROTOCOL,
            };
            page.set_word(RING_ERROR, code);
        }
        self.is_broken = true;
    }

    /// Puts the page into the state in which a guest finds it.
    pub(crate) fn open(&mut self) {
        if let Some(page) = &self.page {
            self.ring.reset(page);
            page.set_word(RING_ERROR, 0);
            page.set_word(RING_SERVER_FEATURES, FEATURE_RECONNECTION | FEATURE_ERROR);
            page.set_word(RING_CONNECTION, CONNECTED);
        }
    }

    /// Whether the guest asks for a new start, and it is not under way. What it has changed before is told first.
    fn wants_new_start(&self) -> bool {
        let asks = |page: &SharedPage| page.word(RING_CONNECTION) == RECONNECT;
        let may = match self.phase {
            Phase::Receiving | Phase::Ready | Phase::Forgetting { reconnect: false } => true,
            Phase::Telling(_) | Phase::Forgetting { reconnect: true } | Phase::Closed => false,
        };
        may && self.page.as_ref().is_some_and(asks)
    }
}

/// What it costs to do something with so many bytes, in the units of [`Store::step`].
fn cost(least: u32, bytes: usize) -> u32 {
    least.saturating_add((bytes / 128) as u32)
}

impl Store {
    /// A small piece of a domain's work; what it costs, or `None` if there is nothing to do, or it waits for
    /// the guest.
    pub(crate) fn advance(&mut self, who: u16, step: &mut Step) -> Option<u32> {
        if self.apply_some().is_some() {
            return Some(6);
        }
        if self.reap().is_some() {
            return Some(4);
        }
        let account = self.account_mut(who).filter(|account| account.present)?;
        let connection = &mut account.connection;
        if connection.wants_new_start() {
            connection.phase = Phase::Forgetting { reconnect: true };
        }
        match connection.phase {
            // The hypervisor fetches its replies itself.
            Phase::Receiving if connection.is_broken || connection.page.is_none() => None,
            Phase::Receiving => self.transfer(who, step),
            Phase::Ready => {
                let length = connection.received;
                self.execute(who);
                Some(cost(8, length))
            }
            Phase::Telling(fan) => {
                self.advance_telling(who, fan, step, |connection| connection.reply_ok());
                Some(5)
            }
            Phase::Forgetting { reconnect } => {
                if !self.forget(who) {
                    return Some(3);
                }
                let connection = &mut self.account_mut(who)?.connection;
                if reconnect {
                    connection.open();
                    connection.start_afresh();
                    step.add(who);
                } else {
                    connection.reply_ok();
                }
                Some(3)
            }
            Phase::Closed => None,
        }
    }

    /// Carries out the request that is there.
    fn execute(&mut self, who: u16) {
        let Some(account) = self.account_mut(who) else {
            return;
        };
        let header = account.connection.header();
        let mut payload = account.connection.take_payload();
        let result = self.request(who, &header, &mut payload);
        let Some(account) = self.account_mut(who) else {
            return;
        };
        let connection = &mut account.connection;
        connection.give_payload(payload);
        match result {
            Ok(Done::Reply(length)) => connection.reply(header.kind, length),
            Ok(Done::Ok) => connection.reply_ok(),
            Ok(Done::Tell(fan)) => connection.phase = Phase::Telling(fan),
            Ok(Done::Forget) => connection.phase = Phase::Forgetting { reconnect: false },
            Err(error) => connection.reply_text(ERROR, &[error.name().as_bytes(), &[0]]),
        }
    }

    /// Tells some of those who watch what `who` has changed; when all know, does what is to be done then.
    pub(crate) fn advance_telling(
        &mut self,
        who: u16,
        mut fan: Fan,
        step: &mut Step,
        then: impl FnOnce(&mut Connection),
    ) {
        let Some(account) = self.account_mut(who) else {
            return;
        };
        let mut payload = account.connection.take_payload();
        let is_done = self.tell(who, &mut fan, &mut payload, step);
        if let Some(account) = self.account_mut(who) {
            account.connection.give_payload(payload);
            if is_done {
                then(&mut account.connection);
            } else {
                account.connection.phase = Phase::Telling(fan);
            }
        }
    }

    /// Moves bytes: replies out first, then events and requests in turn.
    fn transfer(&mut self, who: u16, step: &mut Step) -> Option<u32> {
        let account = self.account_mut(who)?;
        let is_idle = account.connection.out == Out::Nothing && !account.connection.reply_waits;
        if is_idle && (account.connection.request_is_next || account.event().is_none()) {
            account.connection.request_is_next = false;
            let connection = &mut account.connection;
            match connection.receive() {
                Ok(0) if !matches!(connection.phase, Phase::Ready) => {}
                Ok(taken) => {
                    step.add(who);
                    return Some(cost(3, taken));
                }
                Err(bad) => {
                    connection.break_down(&bad);
                    step.add(who);
                    return Some(1);
                }
            }
        }
        self.send(who, step).then_some(3)
    }

    /// Puts what is on its way to a domain into its ring, an event if nothing is; whether anything was put
    /// there.
    pub(crate) fn send(&mut self, domain: u16, step: &mut Step) -> bool {
        let Some(account) = self.account_mut(domain) else {
            return false;
        };
        let is_closed = matches!(
            account.connection.phase,
            Phase::Closed | Phase::Forgetting { .. }
        );
        if is_closed || account.connection.is_broken {
            return false;
        }
        if account.connection.out == Out::Nothing {
            account.connection.out = if core::mem::take(&mut account.connection.reply_waits) {
                Out::Reply(0)
            } else if account.event().is_some() {
                Out::Event(0)
            } else {
                return false;
            };
        }
        match account.put() {
            Ok(0) => false,
            Ok(_) => {
                step.add(domain);
                true
            }
            Err(bad) => {
                account.connection.break_down(&bad.into());
                step.add(domain);
                true
            }
        }
    }

    /// Drops some of a domain's transactions, watches and events; `true` when there are none left.
    pub(crate) fn forget(&mut self, who: u16) -> bool {
        for slot in 0..MOST_TRANSACTIONS {
            self.drop_transaction(who, slot);
        }
        let Some(account) = self.account_mut(who) else {
            return true;
        };
        // The event of which the guest has a part is told to the end, unless the ring is emptied too.
        let keeps = match (account.connection.out, account.connection.phase) {
            (Out::Event(_), Phase::Forgetting { reconnect: false }) => 1,
            _ => 0,
        };
        for _ in 0..DROP {
            if account.drop_first_watch() {
                continue;
            }
            if usize::from(account.event_count) <= keeps {
                account.owed = false;
                return true;
            }
            account.drop_event_after(keeps != 0);
        }
        false
    }
}
