//! The rings: long messages, wrapping, a new start, and indices that make no sense.

use super::support::{Message, World};
use crate::Page;
use abi::xenstore::*;

fn world() -> World {
    let world = World::new(2);
    for id in 1..=2 {
        world
            .own(SET_PERMS, &format!("/local/domain/{id}\0n{id}\0"))
            .unwrap();
    }
    world
}

#[test]
fn the_page_is_ready() {
    let world = world();
    let page = &world.clients[1].page;
    assert_eq!(page.word(RING_SERVER_FEATURES), 3);
    assert_eq!((page.word(RING_CONNECTION), page.word(RING_ERROR)), (0, 0));
}

#[test]
fn messages_may_be_longer_than_the_ring_and_come_in_any_pieces() {
    let world = world();
    for length in [0, 1, 900, 1008, 1009, 1024, 1500, 2048] {
        let value = "v".repeat(length);
        world.write(1, "long", &value).unwrap();
        assert_eq!(world.read(1, "long"), Ok(value));
    }
    let message = Message {
        kind: WRITE,
        request: 7,
        transaction: 0,
        payload: b"short\0value".to_vec(),
    };
    let bytes = message.bytes();
    for cut in 0..bytes.len() {
        assert!(world.send(1, &bytes[..cut]).is_empty());
        assert_eq!(world.send(1, &bytes[cut..]).len(), 1);
    }
    // Several at once are answered in their order.
    let mut many = Vec::new();
    for request in 0..50 {
        many.extend(
            Message {
                request,
                ..message.clone()
            }
            .bytes(),
        );
    }
    let replies = world.send(1, &many);
    assert!(replies.iter().map(|reply| reply.request).eq(0..50));
    let longest = Message {
        payload: vec![b'x'; 4096],
        ..message
    };
    assert_eq!(world.send(1, &longest.bytes())[0].kind, ERROR);
}

#[test]
fn a_new_start_forgets_what_was() {
    let world = world();
    let used = world.used(1);
    let client = &world.clients[1];
    world.text(1, WATCH, "a\0t\0").unwrap();
    world.text(1, TRANSACTION_START, "\0").unwrap();
    world.write(1, "a", "kept").unwrap();
    world.send(1, b"half a message");
    client.page.set_word(RING_CONNECTION, RECONNECT);
    world.run(1);
    assert_eq!(client.page.word(RING_CONNECTION), CONNECTED);
    for index in [
        RING_REQUEST_CONS,
        RING_REQUEST_PROD,
        RING_RESPONSE_CONS,
        RING_RESPONSE_PROD,
    ] {
        assert_eq!(client.page.word(index), 0);
    }
    client.forget();
    assert_eq!(world.read(1, "a"), Ok("kept".into()));
    world.write(1, "a", "quietly").unwrap();
    assert!(world.events(1).is_empty());
    world.text(1, RM, "a\0").unwrap();
    assert_eq!(world.used(1), used);
}

#[test]
fn a_new_start_does_not_hide_what_was_changed() {
    let world = world();
    world.write(1, "shared", "").unwrap();
    world.text(1, SET_PERMS, "shared\0n1\0r2\0").unwrap();
    world.text(2, WATCH, "/local/domain/1/shared\0t\0").unwrap();
    world.events(2);
    let message = Message {
        kind: WRITE,
        request: 1,
        transaction: 0,
        payload: b"shared\0x".to_vec(),
    };
    // However far the request has come, either nothing has changed or it was told.
    for steps in 0..6 {
        let page = &world.clients[1].page;
        let bytes = message.bytes();
        let prod = page.word(RING_REQUEST_PROD);
        for (index, byte) in bytes.iter().enumerate() {
            page.write(RING_REQUEST + (prod as usize + index) % RING_SIZE, &[*byte]);
        }
        page.set_word(RING_REQUEST_PROD, prod + bytes.len() as u32);
        for _ in 0..steps {
            let _ = world.store.borrow_mut().step(abi::DomainId(1));
        }
        let before = world.own(READ, "/local/domain/1/shared\0").unwrap();
        page.set_word(RING_CONNECTION, RECONNECT);
        world.run(1);
        world.clients[1].forget();
        assert_eq!(world.events(2).is_empty(), before.is_empty(), "{steps}");
        world.write(1, "shared", "").unwrap();
        world.events(2);
    }
}

#[test]
fn indices_that_make_no_sense_stop_the_ring_until_a_new_start() {
    for (offset, value) in [
        (RING_REQUEST_PROD, 0x8000_0000),
        (RING_REQUEST_PROD, u32::MAX),
        (RING_RESPONSE_CONS, 5000),
        (RING_RESPONSE_CONS, 0x8000_0000),
    ] {
        let world = world();
        world.write(1, "a", "x").unwrap();
        let client = &world.clients[1];
        let page = &client.page;
        if offset == RING_RESPONSE_CONS {
            // It is looked at when there is something to say.
            let bytes = Message {
                kind: READ,
                request: 1,
                transaction: 0,
                payload: b"a\0".to_vec(),
            };
            let prod = page.word(RING_REQUEST_PROD);
            page.write(RING_REQUEST + prod as usize, &bytes.bytes());
            page.set_word(RING_REQUEST_PROD, prod + 18);
        }
        page.set_word(offset, value);
        world.run(1);
        assert_eq!(
            page.word(RING_ERROR),
            ERROR_RING_INDEX,
            "{offset} {value:#x}"
        );
        assert!(!world.store.borrow().is_connected(abi::DomainId(1)));
        world.write(2, "fine", "x").unwrap();
        page.set_word(RING_CONNECTION, RECONNECT);
        world.run(1);
        client.forget();
        assert_eq!(page.word(RING_ERROR), 0);
        assert_eq!(world.read(1, "a"), Ok("x".into()));
    }
}

#[test]
fn a_length_beyond_the_limit_is_a_protocol_error() {
    let world = world();
    let mut bytes = Message {
        kind: READ,
        request: 1,
        transaction: 0,
        payload: Vec::new(),
    }
    .bytes();
    bytes[12..16].copy_from_slice(&4097_u32.to_le_bytes());
    assert!(world.send(1, &bytes).is_empty());
    assert_eq!(world.clients[1].page.word(RING_ERROR), ERROR_PROTOCOL);
}

#[test]
fn a_reply_waits_for_the_end_of_an_event() {
    let world = world();
    world.write(1, "a", "").unwrap();
    world.text(1, SET_PERMS, "a\0n1\0r2\0").unwrap();
    // Events of more than a ring, to who makes the change and to another in the middle of a request.
    for token in 0..8 {
        let token = format!("{token:0>250}");
        world.text(1, WATCH, &format!("a\0{token}\0")).unwrap();
        world
            .text(2, WATCH, &format!("/local/domain/1/a\0{token}\0"))
            .unwrap();
    }
    world.events(1);
    world.events(2);
    let message = Message {
        kind: READ,
        request: 9,
        transaction: 0,
        payload: b"/local/domain/1/a\0".to_vec(),
    };
    for steps in 0..4 {
        let page = &world.clients[2].page;
        let prod = page.word(RING_REQUEST_PROD);
        for (index, byte) in message.bytes().iter().enumerate() {
            page.write(RING_REQUEST + (prod as usize + index) % RING_SIZE, &[*byte]);
        }
        page.set_word(RING_REQUEST_PROD, prod + message.bytes().len() as u32);
        let mut ignored = crate::Step::default();
        for _ in 0..steps {
            world.store.borrow_mut().advance(2, &mut ignored);
        }
        assert_eq!(world.write(1, "a", "x"), Ok("OK\0".into()));
        let replies = world.send(2, &[]);
        assert_eq!((replies.len(), replies[0].request), (1, 9), "{steps}");
        assert_eq!((world.events(1).len(), world.events(2).len()), (8, 8));
    }
}
