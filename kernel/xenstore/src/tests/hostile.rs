//! Guests that write what they like into their page: nothing panics, every step ends, the others are served, and all
//! is free again when they have gone.

use super::cases;
use super::support::World;
use crate::Page;
use abi::DomainId;
use abi::xenstore::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Action {
    /// Bytes to the ring, at the place that the server reads next.
    Bytes(Vec<u8>),
    /// A message with a header that may lie.
    Message(u32, u32, u32, Vec<u8>),
    Word(usize, u32),
    /// Takes what has come.
    Drain,
    Restart,
    Steps(u32),
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("/local/domain/1".to_owned()),
        Just("/local/domain/2/x".to_owned()),
        Just("/".to_owned()),
        Just("@releaseDomain".to_owned()),
        Just("T".to_owned()),
        Just(String::new()),
        "[a-c](/[a-c]){0,3}",
        "[nrwbx][0-3]",
        "[a/]{0,40}",
        "[ -~]{0,30}",
        (0..3000_usize).prop_map(|length| "v".repeat(length)),
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| {
        let mut bytes: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| [piece.as_bytes(), &[0]].concat())
            .collect();
        bytes.truncate(PAYLOAD_MAX);
        bytes
    })
}

fn action() -> impl Strategy<Value = Action> {
    let index = prop::sample::select(vec![
        RING_REQUEST_CONS,
        RING_REQUEST_PROD,
        RING_RESPONSE_CONS,
        RING_RESPONSE_PROD,
        RING_SERVER_FEATURES,
        RING_CONNECTION,
        RING_ERROR,
    ]);
    let value = prop_oneof![0..3_u32, 0..2048_u32, any::<u32>()];
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(Action::Bytes),
        12 => (0..27_u32, prop_oneof![4 => Just(0_u32), 4 => 1..4_u32, 1 => any::<u32>()], prop_oneof![20 => Just(0_u32), 1 => 0..5000_u32], payload())
            .prop_map(|(kind, transaction, lie, payload)| Action::Message(kind, transaction, lie, payload)),
        1 => (index, value).prop_map(|(index, value)| Action::Word(index, value)),
        6 => Just(Action::Drain),
        1 => Just(Action::Restart),
        4 => (0..20_u32).prop_map(Action::Steps),
    ]
}

fn put(page: &impl Page, bytes: &[u8], world: &World, domain: u16) {
    for part in bytes.chunks(256) {
        let prod = page.word(RING_REQUEST_PROD);
        for (index, byte) in part.iter().enumerate() {
            let at = (prod as usize).wrapping_add(index) % RING_SIZE;
            page.write(RING_REQUEST + at, &[*byte]);
        }
        page.set_word(RING_REQUEST_PROD, prod.wrapping_add(part.len() as u32));
        world.run(domain);
    }
}

fn act(world: &World, domain: u16, action: &Action) {
    let page = &world.clients[usize::from(domain)].page;
    match action {
        Action::Bytes(bytes) => put(page, bytes, world, domain),
        Action::Message(kind, transaction, lie, payload) => {
            let length = payload.len() as u32 + lie;
            let words = [*kind, 1, *transaction, length];
            let header: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            put(page, &[header, payload.clone()].concat(), world, domain);
        }
        Action::Word(offset, value) => page.set_word(*offset, *value),
        Action::Drain => page.set_word(RING_RESPONSE_CONS, page.word(RING_RESPONSE_PROD)),
        Action::Restart => page.set_word(RING_CONNECTION, RECONNECT),
        Action::Steps(steps) => {
            for _ in 0..*steps {
                let _ = world.store.borrow_mut().step(DomainId(domain));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn nothing_that_guests_write_harms_the_store(
        actions in prop::collection::vec((1..3_u16, action()), 1..120),
    ) {
        let world = World::new(3);
        for id in 1..=3 {
            world.own(SET_PERMS, &format!("/local/domain/{id}\0b{id}\0n3\0")).unwrap();
        }
        let free = world.used(3);
        for (domain, action) in &actions {
            act(&world, *domain, action);
        }
        // The third is served as if nothing had been, and has lost nothing.
        world.write(3, "mine", "x").unwrap();
        prop_assert_eq!(world.read(3, "mine"), Ok("x".into()));
        world.text(3, RM, "mine\0").unwrap();
        prop_assert_eq!(world.used(3), free);
        for id in 1..=3 {
            world.remove(id);
            prop_assert_eq!(world.used(id), 0);
        }
        prop_assert_eq!(world.own(DIRECTORY, "/local/domain\0"), Ok(Vec::new()));
    }
}

/// What fuzzing found worth keeping, and what it began with.
#[test]
fn the_corpus_harms_nothing() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/store");
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        crate::exercise::wire(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "no corpus");
}
