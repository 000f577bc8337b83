//! Domains with rings, and a client for each: what a guest's driver does, byte by byte.

use crate::{Page, Quota, Store};
use abi::xenstore::*;
use abi::{DomainId, DomainSet};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// A page as a vector.
#[derive(Clone)]
pub(super) struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(vec![0; 4096])))
    }
}

impl Page for Memory {
    fn word(&self, offset: usize) -> u32 {
        u32::from_le_bytes(
            self.0.lock().unwrap()[offset..offset + 4]
                .try_into()
                .unwrap(),
        )
    }

    fn set_word(&self, offset: usize, value: u32) {
        self.0.lock().unwrap()[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.0.lock().unwrap()[offset..offset + into.len()]);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.0.lock().unwrap()[offset..offset + from.len()].copy_from_slice(from);
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) kind: u32,
    pub(super) request: u32,
    pub(super) transaction: u32,
    pub(super) payload: Vec<u8>,
}

/// A domain as its driver has it.
pub(super) struct Client {
    pub(super) page: Memory,
    partial: RefCell<Vec<u8>>,
    pub(super) events: RefCell<VecDeque<(String, String)>>,
    number: Cell<u32>,
}

pub(super) struct World {
    pub(super) store: RefCell<Store>,
    pub(super) clients: Vec<Client>,
}

/// Result of a request: the payload, or the error's name.
pub(super) type Answer = Result<Vec<u8>, String>;

impl World {
    /// Domains 1 to `domains`.
    pub(super) fn new(domains: u16) -> Self {
        Self::with(domains, Quota::GUEST)
    }

    pub(super) fn with(domains: u16, quota: Quota) -> Self {
        Self::with_peers(domains, quota, |_| DomainSet::ALL)
    }

    /// Domains of which each has some peers.
    pub(super) fn with_peers(domains: u16, quota: Quota, peers: impl Fn(u16) -> DomainSet) -> Self {
        let mut store = Store::new(domains).unwrap();
        let clients: Vec<Client> = (0..=domains).map(|_| Client::new()).collect();
        for id in 1..=domains {
            let page = Box::new(clients[usize::from(id)].page.clone());
            store.add(DomainId(id), quota, peers(id), page).unwrap();
        }
        Self {
            store: RefCell::new(store),
            clients,
        }
    }

    /// Steps of a domain until it has nothing to do; what has come for anybody is taken in.
    pub(super) fn run(&self, domain: u16) {
        for _ in 0..100_000 {
            let step = self.store.borrow_mut().step(DomainId(domain));
            if !step.more {
                return;
            }
        }
        panic!("domain {domain} is never done");
    }

    /// Sends bytes as there is room, and takes what comes, until all are sent and `until` says so.
    pub(super) fn send(&self, domain: u16, bytes: &[u8]) -> Vec<Message> {
        let client = &self.clients[usize::from(domain)];
        let mut sent = 0;
        let mut messages = Vec::new();
        for _ in 0..1000 {
            sent += client.put(&bytes[sent..]);
            self.run(domain);
            let before = messages.len();
            let moved = client.take(&mut messages);
            self.run(domain);
            if sent == bytes.len() && before == messages.len() && !moved {
                return messages;
            }
        }
        panic!("the store does not take what domain {domain} sends");
    }

    /// A request by wire.
    pub(super) fn ask(&self, domain: u16, transaction: u32, kind: u32, payload: &[u8]) -> Answer {
        let client = &self.clients[usize::from(domain)];
        let number = client.number.get() + 1;
        client.number.set(number);
        let message = Message {
            kind,
            request: number,
            transaction,
            payload: payload.to_vec(),
        };
        let mut replies = self.send(domain, &message.bytes());
        assert_eq!(replies.len(), 1, "{replies:?}");
        let reply = replies.pop().unwrap();
        assert_eq!((reply.request, reply.transaction), (number, transaction));
        match reply.kind {
            ERROR => {
                let text = String::from_utf8(reply.payload).unwrap();
                Err(text.strip_suffix('\0').unwrap().to_owned())
            }
            same => {
                assert_eq!(same, kind);
                Ok(reply.payload)
            }
        }
    }

    pub(super) fn text(&self, domain: u16, kind: u32, payload: &str) -> Result<String, String> {
        self.ask(domain, 0, kind, payload.as_bytes())
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    pub(super) fn read(&self, domain: u16, path: &str) -> Result<String, String> {
        self.text(domain, READ, &format!("{path}\0"))
    }

    pub(super) fn write(&self, domain: u16, path: &str, value: &str) -> Result<String, String> {
        self.text(domain, WRITE, &format!("{path}\0{value}"))
    }

    /// Children, sorted.
    pub(super) fn list(&self, domain: u16, path: &str) -> Result<Vec<String>, String> {
        let text = self.text(domain, DIRECTORY, &format!("{path}\0"))?;
        let mut names: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// As the hypervisor.
    pub(super) fn own(&self, kind: u32, payload: &str) -> Answer {
        assert!(self.store.borrow_mut().ask(kind, payload.as_bytes()));
        self.run(0);
        let store = self.store.borrow();
        let answer = store.answer();
        answer
            .map(<[u8]>::to_vec)
            .map_err(|name| String::from_utf8(name.to_vec()).unwrap())
    }

    /// Events that have come for a domain.
    pub(super) fn events(&self, domain: u16) -> Vec<(String, String)> {
        self.send(domain, &[]);
        let client = &self.clients[usize::from(domain)];
        client.events.borrow_mut().drain(..).collect()
    }

    /// Paths of events that have come.
    pub(super) fn paths(&self, domain: u16) -> Vec<String> {
        self.events(domain)
            .into_iter()
            .map(|(path, _)| path)
            .collect()
    }

    pub(super) fn remove(&self, domain: u16) {
        for _ in 0..100_000 {
            if !self.store.borrow_mut().remove_domain(DomainId(domain)).more {
                return;
            }
        }
        panic!("domain {domain} never leaves");
    }

    pub(super) fn used(&self, domain: u16) -> u16 {
        self.run(0);
        self.store.borrow().usage(DomainId(domain)).unwrap().0
    }
}

impl Message {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let words = [
            self.kind,
            self.request,
            self.transaction,
            self.payload.len() as u32,
        ];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(&self.payload);
        bytes
    }
}

impl Client {
    /// Its page is zeroed, and what it had begun to read is forgotten.
    pub(super) fn reset(&self) {
        self.page.0.lock().unwrap().fill(0);
        self.partial.borrow_mut().clear();
    }

    fn new() -> Self {
        Self {
            page: Memory::new(),
            partial: RefCell::new(Vec::new()),
            events: RefCell::new(VecDeque::new()),
            number: Cell::new(0),
        }
    }

    pub(super) fn forget(&self) {
        self.partial.borrow_mut().clear();
        self.events.borrow_mut().clear();
    }

    fn put(&self, bytes: &[u8]) -> usize {
        let prod = self.page.word(RING_REQUEST_PROD);
        let used = prod.wrapping_sub(self.page.word(RING_REQUEST_CONS)) as usize;
        let count = bytes.len().min(RING_SIZE - used);
        for (index, byte) in bytes[..count].iter().enumerate() {
            let at = (prod as usize + index) % RING_SIZE;
            self.page.write(RING_REQUEST + at, &[*byte]);
        }
        self.page
            .set_word(RING_REQUEST_PROD, prod.wrapping_add(count as u32));
        count
    }

    /// Takes whole messages; whether any byte was there.
    fn take(&self, messages: &mut Vec<Message>) -> bool {
        let mut partial = self.partial.borrow_mut();
        let (cons, prod) = (
            self.page.word(RING_RESPONSE_CONS),
            self.page.word(RING_RESPONSE_PROD),
        );
        for index in 0..prod.wrapping_sub(cons) {
            let mut byte = [0];
            let at = cons.wrapping_add(index) as usize % RING_SIZE;
            self.page.read(RING_RESPONSE + at, &mut byte);
            partial.push(byte[0]);
        }
        self.page.set_word(RING_RESPONSE_CONS, prod);
        while partial.len() >= 16 {
            let word = |at: usize| u32::from_le_bytes(partial[at..at + 4].try_into().unwrap());
            let (kind, request, transaction, length) =
                (word(0), word(4), word(8), word(12) as usize);
            assert!(length <= PAYLOAD_MAX);
            if partial.len() < 16 + length {
                break;
            }
            let payload: Vec<u8> = partial.drain(..16 + length).skip(16).collect();
            if kind == WATCH_EVENT {
                assert_eq!((request, transaction), (0, 0));
                let text = String::from_utf8(payload).unwrap();
                let parts: Vec<&str> = text.split('\0').collect();
                assert_eq!((parts.len(), parts[2]), (3, ""), "{text:?}");
                let event = (parts[0].to_owned(), parts[1].to_owned());
                self.events.borrow_mut().push_back(event);
            } else {
                messages.push(Message {
                    kind,
                    request,
                    transaction,
                    payload,
                });
            }
        }
        prod != cons
    }
}
