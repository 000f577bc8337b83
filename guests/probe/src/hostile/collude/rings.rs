//! The rings that a colluder shares with the hypervisor: messages of every wrong shape, indices that are nowhere.

use super::Colluder;
use crate::raw::store32;
use alloc::{format, string::String, vec::Vec};
use core::sync::atomic::Ordering::SeqCst;
use runtime::abi::{console as layout, hvm, xenstore as wire};
use runtime::xenstore::Store;
use runtime::{abi::Port, event, exception, hypercall};

impl Colluder {
    /// What stands in a message: right or nearly so, too much, nothing, or anything.
    fn payload(&mut self) -> Vec<u8> {
        let id = self.domain().0;
        let number = self.random.below(40);
        let text = match self.random.below(16) {
            0 => format!("/local/domain/{id}/data/x\0b{id}\0"),
            1 => format!("data/{number}\0some text\0"),
            2 => format!("/local/domain/{id}/data\0token\0"),
            3 => String::from("T\0"),
            4 => String::from("F\0"),
            // Without an end; without a name; with names that are none.
            5 => format!("data/{number}"),
            6 => String::from("\0\0\0"),
            7 => format!("//data//{number}/\0"),
            8 => format!("data/../{number}/%s%n\0x"),
            // Permissions of everybody, of nobody, and too many.
            9 => format!("data/{number}\0n{id}\0r0\0w32767\0b65535\0"),
            10 => format!("data/{number}\0q\0n\0{}", "r1\0".repeat(40)),
            // Deeper and longer than a path may be.
            11 => format!("data{}\0", "/d".repeat(number as usize * 4)),
            12 => format!("data/{}\0{}", "p".repeat(number as usize * 16), number),
            // A long value; a watch of the special kind; from an offset that is none.
            13 => format!("data/{number}\0{}", "v".repeat(number as usize * 24)),
            14 => format!("@releaseDomain\0{}\0", "t".repeat(number as usize * 8)),
            _ => format!("data\0{}\0", self.random.argument()),
        };
        let mut bytes = text.into_bytes();
        // At times a byte of it is another one.
        let at = self.random.below(256) as usize;
        if let Some(byte) = bytes.get_mut(at) {
            *byte = self.random.next() as u8;
        }
        bytes
    }

    /// Messages to the store, most of them wrong somewhere; indices that are nowhere.
    pub(super) fn store(&mut self) {
        let Some(store) = Store::open() else {
            return;
        };
        let store = core::mem::ManuallyDrop::new(store);
        let payload = self.payload();
        let length = match self.random.below(16) {
            0 => self.random.argument() as u32,
            1 => self.random.below(4200) as u32,
            _ => payload.len() as u32,
        };
        let header = [
            self.random.below(30) as u32,
            self.random.next() as u32,
            self.random.below(4) as u32,
            length,
        ];
        let body = payload.chunks(4).map(|bytes| {
            let mut four = [0; 4];
            for (slot, byte) in four.iter_mut().zip(bytes) {
                *slot = *byte;
            }
            u32::from_le_bytes(four)
        });
        let produced = store.word(wire::RING_REQUEST_PROD);
        let at = produced.load(SeqCst);
        for (index, word) in header.into_iter().chain(body).enumerate() {
            let offset = (at as usize / 4 + index) * 4 % wire::RING_SIZE;
            store.word(wire::RING_REQUEST + offset).store(word, SeqCst);
        }
        let end = match self.random.below(16) {
            0 => self.random.next() as u32,
            1 => at,
            2 => at.wrapping_add(self.random.below(16) as u32),
            _ => at.wrapping_add(16 + length.min(wire::RING_SIZE as u32 - 16)),
        };
        produced.store(end, SeqCst);
        store.notify();
        // What it answers is not read; room is made.
        let answers = store.word(wire::RING_RESPONSE_PROD).load(SeqCst);
        let taken = match self.random.below(16) {
            0 => self.random.next() as u32,
            _ => answers,
        };
        store.word(wire::RING_RESPONSE_CONS).store(taken, SeqCst);
        if self.random.below(64) == 0 {
            // A new start, as the protocol has it.
            store.word(wire::RING_CONNECTION).store(1, SeqCst);
            store.notify();
        }
    }

    /// The console's ring. What this guest has to say goes through it too: so there is none of it left
    /// when this is over.
    pub(super) fn console(&mut self) {
        let at = |offset: usize| self.console + offset as u64;
        let [input, output, taken] = [
            layout::RING_IN_CONS,
            layout::RING_OUT_PROD,
            layout::RING_OUT_CONS,
        ]
        .map(at);
        if self.console == 0 {
            return;
        }
        let wild = self.random.next() as u32;
        let _ = store32(input, wild);
        let port = hypercall::parameter(hvm::PARAM_CONSOLE_EVTCHN).unwrap_or(0);
        if self.prints {
            runtime::console::flush();
            // Further away than the ring is long, so that nothing old is printed.
            let far = exception::load32(taken).unwrap_or(0);
            let _ = store32(output, far.wrapping_add(0x1000 + (wild >> 1)));
            let _ = event::send(Port(port as u32));
            let back = exception::load32(taken).unwrap_or(0);
            let _ = store32(output, back);
        }
        let _ = event::send(Port(port as u32));
    }
}
