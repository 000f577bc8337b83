//! Each error, and each bound.

use super::support::World;
use crate::Quota;
use abi::xenstore::*;

fn with_home() -> World {
    let world = World::new(2);
    world.own(SET_PERMS, "/local/domain/1\0n1\0").unwrap();
    world
}

#[test]
fn what_is_malformed_is_refused() {
    let world = with_home();
    let long = format!("{}\0", "x".repeat(513));
    let deep = format!("{}\0", ["d"; 21].join("/"));
    for (kind, payload) in [
        (READ, ""),
        (READ, "a"),
        (READ, "\0"),
        (READ, "a\0b\0"),
        (READ, &deep),
        (READ, "a//b\0"),
        (READ, "a/\0"),
        (READ, "//\0"),
        (READ, "a b\0"),
        (READ, "a.b\0"),
        (READ, "@somewhere\0"),
        (READ, &long),
        (WRITE, "a"),
        (WRITE, "a:b\0"),
        (RM, ""),
        (MKDIR, "a/\0"),
        (SET_PERMS, "\0n1\0"),
        (SET_PERMS, "/local/domain/1\0"),
        (SET_PERMS, "/local/domain/1\0n\0"),
        (SET_PERMS, "/local/domain/1\0x1\0"),
        (SET_PERMS, "/local/domain/1\0n1"),
        (SET_PERMS, "/local/domain/1\0n99999\0"),
        (SET_PERMS, "/local/domain/1\0n-1\0"),
        (WATCH, "a\0"),
        (WATCH, "a\0t"),
        (WATCH, "a//\0t\0"),
        (WATCH, "a\0t\x001\0x\0"),
        (UNWATCH, "a\0"),
        (DIRECTORY_PART, "a\0"),
        (DIRECTORY_PART, "/local/domain/1\0x\0"),
        (DIRECTORY_PART, "/local/domain/1\0-1\0"),
        (TRANSACTION_START, ""),
        (GET_DOMAIN_PATH, "\0"),
        (GET_DOMAIN_PATH, "65536\0"),
        (GET_DOMAIN_PATH, "99999999999\0"),
        (IS_DOMAIN_INTRODUCED, "1x\0"),
    ] {
        assert_eq!(
            world.text(1, kind, payload),
            Err("EINVAL".into()),
            "{kind} {payload:?}"
        );
    }
    assert_eq!(world.own(RM, "/\0"), Err("EINVAL".into()));
    assert_eq!(
        world.text(1, WATCH, &format!("a\0{}\0", "t".repeat(257))),
        Err("EINVAL".into())
    );
}

#[test]
fn what_is_not_there_or_not_for_guests() {
    let world = with_home();
    for kind in [READ, DIRECTORY, GET_PERMS] {
        assert_eq!(world.text(1, kind, "none\0"), Err("ENOENT".into()));
    }
    assert_eq!(
        world.text(1, DIRECTORY_PART, "none\x000\0"),
        Err("ENOENT".into())
    );
    assert_eq!(world.text(1, SET_PERMS, "none\0n1\0"), Err("ENOENT".into()));
    assert_eq!(world.text(1, RM, "none/deep\0"), Err("ENOENT".into()));
    assert_eq!(world.text(1, UNWATCH, "none\0t\0"), Err("ENOENT".into()));
    assert_eq!(world.ask(1, 99, READ, b"none\0"), Err("ENOENT".into()));
    assert_eq!(
        world.ask(1, 0, TRANSACTION_END, b"T\0"),
        Err("ENOENT".into())
    );
    for kind in [CONTROL, INTRODUCE, RELEASE, RESUME, SET_TARGET] {
        assert_eq!(world.text(1, kind, "1\0"), Err("EACCES".into()));
    }
    for kind in [ERROR, WATCH_EVENT, 20, 23, 24, 25, 26, 27, 1000, u32::MAX] {
        assert_eq!(world.text(1, kind, ""), Err("ENOSYS".into()), "{kind}");
    }
    world.text(1, WATCH, "a\0t\0").unwrap();
    assert_eq!(world.text(1, WATCH, "a\0t\0"), Err("EEXIST".into()));
    assert_eq!(
        world.text(1, WATCH, "/local/domain/1/a\0t\0"),
        Err("EEXIST".into())
    );
    world.text(1, WATCH, "a\0t2\0").unwrap();
}

#[test]
fn transactions_have_their_own_errors() {
    let world = with_home();
    let start = || {
        let number = world.text(1, TRANSACTION_START, "\0")?;
        Ok::<u32, String>(number.trim_end_matches('\0').parse().unwrap())
    };
    let one = start().unwrap();
    assert_eq!(
        world.ask(1, one, TRANSACTION_START, b"\0"),
        Err("EBUSY".into())
    );
    assert_eq!(
        world.ask(1, one, TRANSACTION_END, b"X\0"),
        Err("EINVAL".into())
    );
    assert_eq!(
        world.ask(1, one, TRANSACTION_END, b""),
        Err("EINVAL".into())
    );
    assert_eq!(world.ask(2, one, READ, b"/\0"), Err("ENOENT".into()));
    for _ in 1..8 {
        start().unwrap();
    }
    assert_eq!(start(), Err("ENOSPC".into()));
    assert_eq!(
        world.ask(1, one, TRANSACTION_END, b"F\0"),
        Ok(b"OK\0".to_vec())
    );
    let again = start().unwrap();
    assert_ne!(again, one);
    assert_eq!(
        world.ask(1, one, TRANSACTION_END, b"T\0"),
        Err("ENOENT".into())
    );
}

#[test]
fn quotas_hold_and_what_failed_leaves_nothing() {
    let world = with_home();
    let before = world.used(1);
    assert_eq!(world.write(1, "v", &"x".repeat(2049)), Err("ENOSPC".into()));
    world.write(1, "v", &"x".repeat(2048)).unwrap();
    assert_eq!(world.read(1, "v").unwrap().len(), 2048);
    world.text(1, RM, "v\0").unwrap();
    assert_eq!(world.used(1), before);
    // Nodes, until there are no more.
    let mut made = 0;
    while world.write(1, &format!("n/{made}"), "").is_ok() {
        made += 1;
    }
    assert!((200..256).contains(&made), "{made}");
    let full = world.used(1);
    assert_eq!(world.write(1, "x/y/z", "1"), Err("ENOSPC".into()));
    assert_eq!(world.used(1), full);
    assert_eq!(world.read(1, "x"), Err("ENOENT".into()));
    // The other is not concerned, and watches need blocks too.
    world.own(SET_PERMS, "/local/domain/2\0n2\0").unwrap();
    world.write(2, "a", "b").unwrap();
    world.text(1, RM, "n\0").unwrap();
    assert_eq!(world.used(1), before);
    for n in 0..64 {
        world.text(1, WATCH, &format!("w\0{n}\0")).unwrap();
    }
    assert_eq!(world.text(1, WATCH, "w\0more\0"), Err("E2BIG".into()));
    assert_eq!(world.text(1, RESET_WATCHES, "\0"), Ok("OK\0".into()));
    assert_eq!(world.used(1), before);
    let list: String = (0..6).map(|n| format!("r{n}\0")).collect();
    assert_eq!(
        world.text(1, SET_PERMS, &format!("/local/domain/1\0{list}")),
        Err("ENOSPC".into())
    );
}

#[test]
fn a_transaction_takes_its_space_from_the_quota() {
    let quota = Quota {
        blocks: 128,
        event_blocks: 40,
        ..Quota::GUEST
    };
    let world = World::with(1, quota);
    world.own(SET_PERMS, "/local/domain/1\0n1\0").unwrap();
    let before = world.used(1);
    let number = world.text(1, TRANSACTION_START, "\0").unwrap();
    let number: u32 = number.trim_end_matches('\0').parse().unwrap();
    let mut made = 0;
    while world
        .ask(1, number, WRITE, format!("t/{made}\0").as_bytes())
        .is_ok()
    {
        made += 1;
    }
    assert!(made > 20, "{made}");
    assert_eq!(world.write(1, "outside", ""), Err("ENOSPC".into()));
    assert_eq!(
        world.ask(1, number, TRANSACTION_END, b"T\0"),
        Ok(b"OK\0".to_vec())
    );
    assert_eq!(world.list(1, "t").unwrap().len(), made);
    world.text(1, RM, "t\0").unwrap();
    assert_eq!(world.used(1), before);
    let number = world.text(1, TRANSACTION_START, "\0").unwrap();
    let number: u32 = number.trim_end_matches('\0').parse().unwrap();
    while world
        .ask(1, number, WRITE, format!("t/{made}\0").as_bytes())
        .is_ok()
    {
        made += 1;
    }
    world.ask(1, number, TRANSACTION_END, b"F\0").unwrap();
    assert_eq!(world.used(1), before);
}
