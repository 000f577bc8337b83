//! What each request does, and who may do it.

use super::support::World;
use abi::xenstore::*;

#[test]
fn values_are_written_read_and_removed() {
    let world = World::new(1);
    assert_eq!(world.write(1, "data", ""), Err("EACCES".into()));
    world.own(WRITE, "/local/domain/1/data\0").unwrap();
    world.own(SET_PERMS, "/local/domain/1/data\0n1\0").unwrap();
    assert_eq!(world.write(1, "data/a/b", "one"), Ok("OK\0".into()));
    assert_eq!(world.read(1, "data/a/b"), Ok("one".into()));
    assert_eq!(world.read(1, "/local/domain/1/data/a/b"), Ok("one".into()));
    assert_eq!(world.read(1, "data/a"), Ok(String::new()));
    assert_eq!(world.list(1, "data"), Ok(vec!["a".into()]));
    assert_eq!(world.text(1, MKDIR, "data/c\0"), Ok("OK\0".into()));
    assert_eq!(world.text(1, MKDIR, "data/c\0"), Ok("OK\0".into()));
    assert_eq!(world.list(1, "data"), Ok(vec!["a".into(), "c".into()]));
    assert_eq!(world.text(1, RM, "data/a\0"), Ok("OK\0".into()));
    assert_eq!(world.text(1, RM, "data/a\0"), Ok("OK\0".into()));
    assert_eq!(world.text(1, RM, "data/a/b\0"), Err("ENOENT".into()));
    assert_eq!(world.read(1, "data/a/b"), Err("ENOENT".into()));
    // Any bytes are a value, and none is as well.
    world.ask(1, 0, WRITE, b"data/c\0\0\xff\0").unwrap();
    assert_eq!(world.ask(1, 0, READ, b"data/c\0"), Ok(b"\0\xff\0".to_vec()));
    world.write(1, "data/c", "").unwrap();
    assert_eq!(world.read(1, "data/c"), Ok(String::new()));
}

#[test]
fn one_sees_only_what_one_may() {
    let world = World::new(2);
    world.own(WRITE, "/local/domain/1/name\0one").unwrap();
    world.own(MKDIR, "/local/domain/1/data\0").unwrap();
    world.own(SET_PERMS, "/local/domain/1/data\0n1\0").unwrap();
    assert_eq!(world.read(1, "name"), Ok("one".into()));
    assert_eq!(world.write(1, "name", "two"), Err("EACCES".into()));
    assert_eq!(world.text(1, RM, "name\0"), Err("EACCES".into()));
    assert_eq!(world.list(1, "/local/domain"), Err("EACCES".into()));
    assert_eq!(world.list(1, "/"), Err("EACCES".into()));
    // Whether a node is there is nobody's business either.
    for path in [
        "/local/domain/1/name",
        "/local/domain/1/nothing",
        "/local/domain/7/x",
        "/tool",
    ] {
        assert_eq!(world.read(2, path), Err("EACCES".into()), "{path}");
        assert_eq!(world.write(2, path, ""), Err("EACCES".into()), "{path}");
        assert_eq!(
            world.text(2, RM, &format!("{path}\0")),
            Err("EACCES".into()),
            "{path}"
        );
    }
    // A grant to the other, and its withdrawal.
    world.write(1, "data/port", "7").unwrap();
    assert_eq!(
        world.text(1, SET_PERMS, "data/port\0n1\0r2\0"),
        Ok("OK\0".into())
    );
    assert_eq!(
        world.text(1, GET_PERMS, "data/port\0"),
        Ok("n1\0r2\0".into())
    );
    assert_eq!(world.read(2, "/local/domain/1/data/port"), Ok("7".into()));
    assert_eq!(
        world.text(2, GET_PERMS, "/local/domain/1/data/port\0"),
        Ok("n1\0r2\0".into())
    );
    assert_eq!(
        world.write(2, "/local/domain/1/data/port", "8"),
        Err("EACCES".into())
    );
    world.text(1, SET_PERMS, "data/port\0n1\0b2\0").unwrap();
    world.write(2, "/local/domain/1/data/port", "8").unwrap();
    world
        .write(2, "/local/domain/1/data/port/sub", "mine")
        .unwrap();
    // What one makes is one's own, with the rest of the rights as above it.
    assert_eq!(
        world.text(2, GET_PERMS, "/local/domain/1/data/port/sub\0"),
        Ok("n2\0b2\0".into())
    );
    assert_eq!(world.read(1, "data/port/sub"), Err("EACCES".into()));
    assert_eq!(
        world.text(2, SET_PERMS, "/local/domain/1/data/port\0n2\0"),
        Err("EACCES".into())
    );
    assert_eq!(
        world.text(1, SET_PERMS, "data/port\0n2\0"),
        Err("EPERM".into())
    );
    world.text(1, SET_PERMS, "data/port\0r1\0").unwrap();
    assert_eq!(world.read(2, "/local/domain/1/data/port"), Ok("8".into()));
    world.text(1, SET_PERMS, "data/port\0r1\0n2\0").unwrap();
    assert_eq!(
        world.read(2, "/local/domain/1/data/port"),
        Err("EACCES".into())
    );
    world.text(1, RM, "data\0").unwrap();
}

#[test]
fn children_come_in_parts() {
    let world = World::new(1);
    world.own(SET_PERMS, "/local/domain/1\0n1\0").unwrap();
    let mut names: Vec<String> = (0..60).map(|n| format!("{n:0>97}")).collect();
    for name in &names {
        world.write(1, &format!("d/{name}"), "").unwrap();
    }
    assert_eq!(world.list(1, "d"), Err("E2BIG".into()));
    let mut found = Vec::new();
    let mut offset = 0;
    let mut generations = Vec::new();
    loop {
        let part = world
            .text(1, DIRECTORY_PART, &format!("d\0{offset}\0"))
            .unwrap();
        let (generation, list) = part.split_once('\0').unwrap();
        generations.push(generation.to_owned());
        let done = list.ends_with("\0\0") || list == "\0";
        let list = if done { &list[..list.len() - 1] } else { list };
        offset += list.len();
        found.extend(list.split_terminator('\0').map(str::to_owned));
        if done {
            break;
        }
    }
    found.sort();
    names.sort();
    assert_eq!(found, names);
    assert!(generations.len() > 1 && generations.iter().all(|one| *one == generations[0]));
    world.write(1, "d/new", "").unwrap();
    let part = world.text(1, DIRECTORY_PART, "d\0999999\0").unwrap();
    let (generation, rest) = part.split_once('\0').unwrap();
    assert_eq!(rest, "\0");
    assert_ne!(generation, generations[0]);
}

#[test]
fn domains_are_known_by_number() {
    let world = World::new(2);
    assert_eq!(
        world.text(1, GET_DOMAIN_PATH, "2\0"),
        Ok("/local/domain/2\0".into())
    );
    assert_eq!(
        world.text(1, GET_DOMAIN_PATH, "77\0"),
        Ok("/local/domain/77\0".into())
    );
    assert_eq!(world.text(1, GET_DOMAIN_PATH, "x\0"), Err("EINVAL".into()));
    for (domain, known) in [
        ("1", "T\0"),
        ("2", "T\0"),
        ("0", "T\0"),
        ("3", "F\0"),
        ("32752", "T\0"),
    ] {
        assert_eq!(
            world.text(1, IS_DOMAIN_INTRODUCED, &format!("{domain}\0")),
            Ok(known.into())
        );
    }
    world.remove(2);
    assert_eq!(world.text(1, IS_DOMAIN_INTRODUCED, "2\0"), Ok("F\0".into()));
}

#[test]
fn a_domain_leaves_nothing_behind() {
    let world = World::new(3);
    let before = world.used(1);
    world.own(SET_PERMS, "/local/domain/1\0n1\0r3\0").unwrap();
    world.own(MKDIR, "/local/domain/2/shared\0").unwrap();
    world
        .own(SET_PERMS, "/local/domain/2/shared\0n2\0b1\0r3\0")
        .unwrap();
    world.write(1, "/local/domain/2/shared/ours", "").unwrap();
    for n in 0..100 {
        world.write(1, &format!("many/{}", n), "x").unwrap();
    }
    world.text(3, WATCH, "/local/domain/1/many\0a\0").unwrap();
    world.text(3, WATCH, "/local/domain/2/shared\0b\0").unwrap();
    world.text(1, WATCH, "many\0own\0").unwrap();
    // Others' transactions lean on what goes.
    let number = world.text(3, TRANSACTION_START, "\0").unwrap();
    let number: u32 = number.trim_end_matches('\0').parse().unwrap();
    world
        .ask(3, number, READ, b"/local/domain/1/many/7\0")
        .unwrap();
    world.text(1, TRANSACTION_START, "\0").unwrap();
    world.events(3);
    world.remove(1);
    let events = world.events(3);
    assert!(
        events.contains(&("/local/domain/1/many".into(), "a".into())),
        "{events:?}"
    );
    assert!(
        events.contains(&("/local/domain/2/shared/ours".into(), "b".into())),
        "{events:?}"
    );
    assert_eq!(
        world.ask(3, number, TRANSACTION_END, b"T\0"),
        Err("EAGAIN".into())
    );
    assert_eq!(world.used(1), 0);
    assert_eq!(world.own(READ, "/local/domain/1\0"), Err("ENOENT".into()));
    assert_eq!(
        world.own(DIRECTORY, "/local/domain/2/shared\0"),
        Ok(Vec::new())
    );
    // The next domain of this number begins afresh, in the same memory.
    let page = Box::new(super::support::Memory::new());
    let added = world.store.borrow_mut().add(
        abi::DomainId(1),
        crate::Quota::GUEST,
        abi::DomainSet::ALL,
        page,
    );
    added.unwrap();
    assert_eq!(world.used(1), before);
}

#[test]
fn a_domain_comes_back_with_the_page_that_it_had() {
    let world = World::new(3);
    let before = world.used(1);
    let again = || world.store.borrow_mut().add_again(abi::DomainId(1));
    assert_eq!(again(), Err(crate::AddError::Number), "it is there");
    for path in ["@introduceDomain", "@releaseDomain"] {
        world.own(SET_PERMS, &format!("{path}\0n0\0r3\0")).unwrap();
        world.text(3, WATCH, &format!("{path}\0t\0")).unwrap();
    }
    world.events(3);
    for life in 0..20 {
        world.own(WRITE, "/local/domain/1/data\0").unwrap();
        world.own(SET_PERMS, "/local/domain/1/data\0n1\0").unwrap();
        world.write(1, "data/mine", "x").unwrap();
        world.text(1, WATCH, "data\0w\0").unwrap();
        world.text(1, TRANSACTION_START, "\0").unwrap();
        world.write(1, "data/more", "y").unwrap();
        world.remove(1);
        assert_eq!(world.paths(3), ["@releaseDomain"], "life {life}");
        world.clients[1].reset();
        again().unwrap();
        assert!(world.store.borrow_mut().introduce());
        assert!(!world.store.borrow_mut().introduce(), "one at a time");
        world.run(0);
        assert_eq!(world.paths(3), ["@introduceDomain"], "life {life}");
        assert_eq!(world.used(1), before);
        assert_eq!(world.read(1, "data/mine"), Err("ENOENT".into()));
    }
}

#[test]
fn the_special_names_are_for_whom_they_are_given() {
    let world = World::new(2);
    assert_eq!(
        world.text(1, WATCH, "@releaseDomain\0t\0"),
        Err("EACCES".into())
    );
    world.own(SET_PERMS, "@releaseDomain\0n0\0r1\0").unwrap();
    world.text(1, WATCH, "@releaseDomain\0t\0").unwrap();
    assert_eq!(world.events(1), [("@releaseDomain".into(), "t".into())]);
    world.remove(2);
    assert_eq!(world.events(1), [("@releaseDomain".into(), "t".into())]);
}
