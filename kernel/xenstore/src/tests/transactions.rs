//! Transactions: isolation, conflicts, and who is told when they succeed.

use super::support::World;
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

struct Transaction<'w>(&'w World, u16, u32);

impl<'w> Transaction<'w> {
    fn start(world: &'w World, domain: u16) -> Self {
        let number = world.text(domain, TRANSACTION_START, "\0").unwrap();
        Self(
            world,
            domain,
            number.trim_end_matches('\0').parse().unwrap(),
        )
    }

    fn ask(&self, kind: u32, payload: &str) -> Result<String, String> {
        let answer = self.0.ask(self.1, self.2, kind, payload.as_bytes());
        answer.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn list(&self, path: &str) -> Vec<String> {
        let text = self.ask(DIRECTORY, &format!("{path}\0")).unwrap();
        let mut names: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
        names.sort();
        names
    }
}

#[test]
fn changes_are_seen_inside_at_once_and_outside_at_the_end() {
    let world = world();
    world.write(1, "a/old", "1").unwrap();
    let inside = Transaction::start(&world, 1);
    inside.ask(WRITE, "a/new\x002").unwrap();
    inside.ask(WRITE, "a/old\x003").unwrap();
    inside.ask(MKDIR, "b/c\0").unwrap();
    assert_eq!(inside.list("a"), ["new", "old"]);
    assert_eq!(inside.ask(READ, "a/old\0"), Ok("3".into()));
    assert_eq!(world.list(1, "a").unwrap(), ["old"]);
    assert_eq!(world.read(1, "a/old"), Ok("1".into()));
    assert_eq!(world.read(1, "b"), Err("ENOENT".into()));
    inside.ask(RM, "a/old\0").unwrap();
    assert_eq!(inside.ask(READ, "a/old\0"), Err("ENOENT".into()));
    assert_eq!(inside.list("a"), ["new"]);
    inside.ask(WRITE, "a/old/again\0x").unwrap();
    assert_eq!(inside.list("a"), ["new", "old"]);
    assert_eq!(inside.list("a/old"), ["again"]);
    inside.ask(SET_PERMS, "a\0n1\0r2\0").unwrap();
    world.text(1, WATCH, "/local/domain/1\0t\0").unwrap();
    world.events(1);
    assert_eq!(inside.ask(TRANSACTION_END, "T\0"), Ok("OK\0".into()));
    let mut paths = world.paths(1);
    paths.sort();
    paths.dedup();
    let told: Vec<&str> = paths
        .iter()
        .map(|path| &path["/local/domain/1/".len()..])
        .collect();
    assert_eq!(told, ["a", "a/new", "a/old", "a/old/again", "b", "b/c"]);
    assert_eq!(world.list(1, "a").unwrap(), ["new", "old"]);
    assert_eq!(world.read(1, "a/old"), Ok(String::new()));
    assert_eq!(world.text(1, GET_PERMS, "a\0"), Ok("n1\0r2\0".into()));
    assert_eq!(world.text(1, GET_PERMS, "b/c\0"), Ok("n1\0".into()));
}

/// What the transaction does; what happens meanwhile; whether it fails.
type Case = (&'static [(u32, &'static str)], (u32, &'static str), bool);

#[test]
fn what_was_seen_must_still_be_so() {
    let cases: &[Case] = &[
        (&[(READ, "a\0")], (WRITE, "a\0x"), true),
        (&[(WRITE, "a\0y")], (WRITE, "a\0x"), true),
        (&[(READ, "none\0")], (WRITE, "none\0x"), true),
        (&[(DIRECTORY, "d\0")], (WRITE, "d/new\0x"), true),
        (&[(DIRECTORY, "d\0")], (RM, "d/e\0"), true),
        (&[(READ, "d/e\0"), (RM, "d\0")], (WRITE, "d/e\0x"), true),
        (&[(WRITE, "d/f\0")], (RM, "d\0"), true),
        (&[(READ, "d/e\0")], (RM, "d\0"), true),
        (&[(GET_PERMS, "a\0")], (SET_PERMS, "a\0n1\0r2\0"), true),
        (&[(READ, "a\0")], (WRITE, "d/e\0x"), false),
        (&[(WRITE, "d/f\0")], (WRITE, "d/e\0x"), false),
        (&[(WRITE, "a\0y")], (READ, "a\0"), false),
        (&[], (WRITE, "a\0x"), false),
    ];
    for (inside, (kind, payload), fails) in cases {
        let world = world();
        world.write(1, "a", "").unwrap();
        world.write(1, "d/e", "").unwrap();
        let used = world.used(1);
        let transaction = Transaction::start(&world, 1);
        for (kind, payload) in *inside {
            let _ = transaction.ask(*kind, payload);
        }
        world.text(1, *kind, payload).unwrap();
        let end = transaction.ask(TRANSACTION_END, "T\0");
        let expected = if *fails {
            Err("EAGAIN".into())
        } else {
            Ok("OK\0".into())
        };
        assert_eq!(end, expected, "{inside:?} {payload:?}");
        world.text(1, RM, "d\0").unwrap();
        world.text(1, RM, "none\0").unwrap();
        let rest = used - world.used(1);
        assert_eq!(rest, 4, "{inside:?} {payload:?}");
    }
}

#[test]
fn one_that_is_given_up_changes_nothing() {
    let world = world();
    world.write(1, "a/b", "1").unwrap();
    let used = world.used(1);
    let transaction = Transaction::start(&world, 1);
    transaction.ask(WRITE, "a/b\x002").unwrap();
    transaction.ask(WRITE, "a/c/d\x002").unwrap();
    transaction.ask(RM, "a/c\0").unwrap();
    transaction.ask(RM, "a\0").unwrap();
    transaction.ask(TRANSACTION_END, "F\0").unwrap();
    assert_eq!(world.read(1, "a/b"), Ok("1".into()));
    assert_eq!(world.used(1), used);
}

#[test]
fn a_value_of_anothers_node_is_the_owners_to_keep() {
    let world = world();
    world.write(1, "shared", "").unwrap();
    world.text(1, SET_PERMS, "shared\0b1\0").unwrap();
    let (one, two) = (world.used(1), world.used(2));
    let transaction = Transaction::start(&world, 2);
    let value = "x".repeat(600);
    transaction
        .ask(WRITE, &format!("/local/domain/1/shared\0{value}"))
        .unwrap();
    assert!(world.used(1) > one);
    transaction.ask(TRANSACTION_END, "T\0").unwrap();
    assert_eq!(world.read(1, "shared"), Ok(value));
    assert_eq!((world.used(1), world.used(2)), (one + 10, two));
    // With the owner gone in the middle, both end well.
    let transaction = Transaction::start(&world, 2);
    transaction
        .ask(WRITE, "/local/domain/1/shared\0again")
        .unwrap();
    world.remove(1);
    assert_eq!(
        transaction.ask(TRANSACTION_END, "T\0"),
        Err("EAGAIN".into())
    );
    assert_eq!((world.used(1), world.used(2)), (0, two));
}

#[test]
fn a_transaction_is_bounded() {
    let world = world();
    for n in 0..200 {
        world.write(1, &format!("n{n}"), "").unwrap();
    }
    let used = world.used(1);
    let transaction = Transaction::start(&world, 1);
    let read = (0..200).take_while(|n| transaction.ask(READ, &format!("n{n}\0")).is_ok());
    let read = read.count();
    // Less the root and the three above.
    assert!((16..=124).contains(&read), "{read}");
    assert_eq!(transaction.ask(READ, "n199\0"), Err("ENOSPC".into()));
    assert_eq!(transaction.ask(TRANSACTION_END, "T\0"), Ok("OK\0".into()));
    assert_eq!(world.used(1), used);
}
