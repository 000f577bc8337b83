//! A client of xenstore: the ring that HVM parameters 1 and 2 name (`xen/include/public/io/xs_wire.h`).
//!
//! One request at a time; events that come meanwhile wait in [`Store::event`]. Waiting is by polling with
//! `SCHEDOP_yield`, so that it works with interrupts masked too.

use crate::{event, hypercall, memory};
use abi::{DomainId, Port, hvm, xenstore as wire};
use alloc::{collections::VecDeque, format, string::String, vec::Vec};
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

pub use wire::Header;

/// Why a request has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// The store's: the error's name.
    Named(String),
    /// The ring is broken, or nothing came in time.
    Lost,
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Lost => f.write_str("no answer"),
        }
    }
}

/// Something that is watched has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Where.
    pub path: String,
    /// The watch's token.
    pub token: String,
}

/// A message: its header, and what follows.
pub type Message = (Header, Vec<u8>);

/// A connection to the store. Two on the same page would take each other's replies.
#[derive(Debug)]
pub struct Store {
    page: usize,
    port: Port,
    requests: u32,
    events: VecDeque<Event>,
}

/// Turns at the hypervisor until an answer counts as lost.
const TURNS: u32 = 100_000;

impl Store {
    /// The store that the HVM parameters name; `None` if there is none (yet).
    pub fn open() -> Option<Self> {
        let gfn = hypercall::parameter(hvm::PARAM_STORE_PFN).ok()?;
        let port = hypercall::parameter(hvm::PARAM_STORE_EVTCHN).ok()?;
        if gfn == 0 || gfn == u64::MAX || port == 0 {
            return None;
        }
        let page = gfn.checked_mul(memory::PAGE)?;
        memory::map_normal(page, memory::PAGE);
        Some(Self {
            page: page as usize,
            port: Port(port as u32),
            requests: 0,
            events: VecDeque::new(),
        })
    }

    /// The port at which the store listens and calls.
    pub fn port(&self) -> Port {
        self.port
    }

    /// A word of the page, one of `abi::xenstore::RING_*`.
    pub fn word(&self, offset: usize) -> &'static AtomicU32 {
        // SAFETY: inside the page, aligned; both sides use atomics, and the page is mapped for ever.
        unsafe { AtomicU32::from_ptr((self.page + offset % 4096 / 4 * 4) as *mut u32) }
    }

    fn byte(&self, offset: usize) -> &'static AtomicU8 {
        // SAFETY: inside the page; both sides use atomics, and the page is mapped for ever.
        unsafe { AtomicU8::from_ptr((self.page + offset) as *mut u8) }
    }

    /// Tells the store that an index has moved.
    pub fn notify(&self) {
        let _ = event::send(self.port);
    }

    /// Puts all bytes into the ring, as there is room.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let produced = self.word(wire::RING_REQUEST_PROD);
        let consumed = self.word(wire::RING_REQUEST_CONS);
        let mut at = produced.load(Ordering::Relaxed);
        for &byte in bytes {
            let mut turns = 0;
            while at.wrapping_sub(consumed.load(Ordering::Acquire)) as usize >= wire::RING_SIZE {
                produced.store(at, Ordering::Release);
                self.turn(&mut turns)?;
            }
            self.byte(wire::RING_REQUEST + at as usize % wire::RING_SIZE)
                .store(byte, Ordering::Relaxed);
            at = at.wrapping_add(1);
        }
        produced.store(at, Ordering::Release);
        self.notify();
        Ok(())
    }

    fn turn(&self, turns: &mut u32) -> Result<(), Error> {
        *turns += 1;
        if *turns > TURNS || self.word(wire::RING_ERROR).load(Ordering::Relaxed) != 0 {
            return Err(Error::Lost);
        }
        self.notify();
        hypercall::yield_now();
        Ok(())
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let produced = self.word(wire::RING_RESPONSE_PROD);
        let consumed = self.word(wire::RING_RESPONSE_CONS);
        let mut at = consumed.load(Ordering::Relaxed);
        for byte in buffer {
            let mut turns = 0;
            while produced.load(Ordering::Acquire) == at {
                consumed.store(at, Ordering::Release);
                self.turn(&mut turns)?;
            }
            *byte = self
                .byte(wire::RING_RESPONSE + at as usize % wire::RING_SIZE)
                .load(Ordering::Relaxed);
            at = at.wrapping_add(1);
        }
        consumed.store(at, Ordering::Release);
        Ok(())
    }

    /// The next message, of whatever kind.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn receive(&mut self) -> Result<Message, Error> {
        let mut words = [[0; 4]; 4];
        self.take(words.as_flattened_mut())?;
        let [kind, request, transaction, length] = words.map(u32::from_le_bytes);
        let mut payload = alloc::vec![0; length as usize];
        self.take(&mut payload)?;
        self.notify();
        let header = Header {
            kind,
            request,
            transaction,
            length,
        };
        Ok((header, payload))
    }

    fn remember(&mut self, payload: &[u8]) {
        let text = String::from_utf8_lossy(payload);
        let mut parts = text.split('\0').map(String::from);
        self.events.push_back(Event {
            path: parts.next().unwrap_or_default(),
            token: parts.next().unwrap_or_default(),
        });
    }

    /// Makes a request in a transaction (0: in none) and waits for its answer.
    ///
    /// # Errors
    /// What the store answered, or [`Error::Lost`].
    pub fn request(
        &mut self,
        transaction: u32,
        kind: u32,
        payload: &[u8],
    ) -> Result<Vec<u8>, Error> {
        self.requests = self.requests.wrapping_add(1);
        let request = self.requests;
        let words = [kind, request, transaction, payload.len() as u32];
        self.send(words.map(u32::to_le_bytes).as_flattened())?;
        self.send(payload)?;
        loop {
            let (header, payload) = self.receive()?;
            match header.kind {
                wire::WATCH_EVENT => self.remember(&payload),
                wire::ERROR if header.request == request => {
                    let name = String::from_utf8_lossy(&payload);
                    return Err(Error::Named(name.trim_end_matches('\0').into()));
                }
                _ if header.request == request => return Ok(payload),
                _ => {}
            }
        }
    }

    fn text(&mut self, kind: u32, payload: String) -> Result<String, Error> {
        let answer = self.request(0, kind, payload.as_bytes())?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// The value of a node.
    ///
    /// # Errors
    /// As [`Self::request`]; the same holds for all that follow.
    pub fn read(&mut self, path: &str) -> Result<String, Error> {
        self.text(wire::READ, format!("{path}\0"))
    }

    /// Sets the value of a node, and makes it if need be.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn write(&mut self, path: &str, value: &str) -> Result<(), Error> {
        self.text(wire::WRITE, format!("{path}\0{value}")).map(drop)
    }

    /// Removes a node with all below.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn remove(&mut self, path: &str) -> Result<(), Error> {
        self.text(wire::RM, format!("{path}\0")).map(drop)
    }

    /// Names of a node's children.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn list(&mut self, path: &str) -> Result<Vec<String>, Error> {
        let text = self.text(wire::DIRECTORY, format!("{path}\0"))?;
        Ok(text.split_terminator('\0').map(String::from).collect())
    }

    /// Asks for events of changes at and below a path. One comes at once.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), Error> {
        self.text(wire::WATCH, format!("{path}\0{token}\0"))
            .map(drop)
    }

    /// Lets a domain read a node of this one's (`id`), besides itself.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn allow(&mut self, path: &str, id: DomainId, reader: DomainId) -> Result<(), Error> {
        self.text(
            wire::SET_PERMS,
            format!("{path}\0n{}\0r{}\0", id.0, reader.0),
        )
        .map(drop)
    }

    /// Begins a transaction; its number.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn start(&mut self) -> Result<u32, Error> {
        let number = self.text(wire::TRANSACTION_START, "\0".into())?;
        number
            .trim_end_matches('\0')
            .parse()
            .map_err(|_| Error::Lost)
    }

    /// Ends a transaction, with effect or without.
    ///
    /// # Errors
    /// As [`Self::request`]: "EAGAIN" if it is to be made again.
    pub fn end(&mut self, transaction: u32, keep: bool) -> Result<(), Error> {
        let how: &[u8] = if keep { b"T\0" } else { b"F\0" };
        self.request(transaction, wire::TRANSACTION_END, how)
            .map(drop)
    }

    /// The oldest event that has come.
    pub fn event(&mut self) -> Option<Event> {
        let waits = self.word(wire::RING_RESPONSE_PROD).load(Ordering::Acquire)
            != self.word(wire::RING_RESPONSE_CONS).load(Ordering::Relaxed);
        if waits
            && let Ok((header, payload)) = self.receive()
            && header.kind == wire::WATCH_EVENT
        {
            self.remember(&payload);
        }
        self.events.pop_front()
    }

    /// Asks for a new start: watches, transactions and what is under way are forgotten.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn reconnect(&mut self) -> Result<(), Error> {
        self.events.clear();
        let connection = self.word(wire::RING_CONNECTION);
        connection.store(wire::RECONNECT, Ordering::Release);
        for _ in 0..TURNS {
            self.notify();
            if connection.load(Ordering::Acquire) == wire::CONNECTED {
                return Ok(());
            }
            hypercall::yield_now();
        }
        Err(Error::Lost)
    }
}
