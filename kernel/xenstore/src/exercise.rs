//! For tests and fuzzing only: what guests may write into their rings, from any bytes, and what must hold whatever they are.

use crate::Page;
use crate::support::World;
use abi::DomainId;
use abi::xenstore::{
    DIRECTORY, RECONNECT, RING_CONNECTION, RING_REQUEST, RING_REQUEST_PROD, RING_RESPONSE_CONS,
    RING_RESPONSE_PROD, RING_SIZE, RM, SET_PERMS,
};

/// Bytes as a number.
fn word(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// Two guests act as the bytes say, a third is served as if nothing had been, and all is free when they have gone.
///
/// A piece is a byte that says who and what, a byte of length, and so many bytes: raw for the ring; a message of a kind,
/// transaction and payload; a word of the page; an answer taken; a new start; steps.
pub fn wire(bytes: &[u8]) {
    let world = World::new(3);
    // The two may write in each other's homes; what the third has stays its own.
    for (id, others) in [(1, "b1\0n3"), (2, "b2\0n3"), (3, "n3")] {
        let home = format!("/local/domain/{id}\0{others}\0");
        world.own(SET_PERMS, &home).expect("permissions of a home");
    }
    let free = world.used(3);
    let mut rest = bytes;
    while let [what, length, more @ ..] = rest {
        let (piece, after) = more.split_at((*length as usize).min(more.len()));
        rest = after;
        let domain = 1 + u16::from(*what & 1);
        let page = &world.clients[usize::from(domain)].page;
        match what >> 1 & 7 {
            0 => put(&world, domain, piece),
            1..4 => {
                let (head, payload) = piece.split_at(piece.len().min(2));
                let kind = u32::from(head.first().copied().unwrap_or(0) % 32);
                let transaction = u32::from(head.get(1).copied().unwrap_or(0) & 3);
                let words = [kind, 1, transaction, payload.len() as u32];
                put(&world, domain, words.map(u32::to_le_bytes).as_flattened());
                put(&world, domain, payload);
            }
            4 => {
                let (offset, value) = piece.split_at(piece.len().min(1));
                let offset = RING_SIZE * 2 + (word(offset) as usize & 7) * 4;
                page.set_word(offset, word(&value[..value.len().min(4)]));
            }
            5 => page.set_word(RING_RESPONSE_CONS, page.word(RING_RESPONSE_PROD)),
            6 => page.set_word(RING_CONNECTION, RECONNECT),
            _ => {
                for _ in 0..length & 15 {
                    let _ = world.store.borrow_mut().step(DomainId(domain));
                }
            }
        }
    }
    world.write(3, "mine", "x").expect("a write");
    assert_eq!(world.read(3, "mine"), Ok("x".into()));
    world.text(3, RM, "mine\0").expect("its end");
    assert_eq!(world.used(3), free);
    for id in 1..=3 {
        world.remove(id);
        assert_eq!(world.used(id), 0);
    }
    assert_eq!(world.own(DIRECTORY, "/local/domain\0"), Ok(Vec::new()));
}

fn put(world: &World, domain: u16, bytes: &[u8]) {
    let page = &world.clients[usize::from(domain)].page;
    for part in bytes.chunks(256) {
        let produced = page.word(RING_REQUEST_PROD);
        for (index, byte) in part.iter().enumerate() {
            let at = (produced as usize).wrapping_add(index) % RING_SIZE;
            page.write(RING_REQUEST + at, &[*byte]);
        }
        page.set_word(RING_REQUEST_PROD, produced.wrapping_add(part.len() as u32));
        world.run(domain);
    }
}
