//! Who is told of what, by which path.

use super::support::World;
use crate::Quota;
use abi::xenstore::*;

fn world() -> World {
    let world = World::new(3);
    for id in 1..=3 {
        world
            .own(SET_PERMS, &format!("/local/domain/{id}\0n{id}\0"))
            .unwrap();
    }
    world
}

#[test]
fn a_watch_fires_at_once_and_for_all_below() {
    let world = world();
    world.text(1, WATCH, "dev\0rel\0").unwrap();
    assert_eq!(world.events(1), [("dev".into(), "rel".into())]);
    world.text(1, WATCH, "/local/domain/1/dev\0abs\0").unwrap();
    assert_eq!(
        world.events(1),
        [("/local/domain/1/dev".into(), "abs".into())]
    );
    world.write(1, "dev/vif/0/state", "1").unwrap();
    let mut events = world.events(1);
    events.sort();
    assert_eq!(
        events,
        [
            ("/local/domain/1/dev/vif/0/state".into(), "abs".into()),
            ("dev/vif/0/state".into(), "rel".into())
        ]
    );
    world.write(1, "device", "").unwrap();
    world.write(1, "de", "").unwrap();
    world.read(1, "dev/vif").unwrap();
    world.text(1, MKDIR, "dev/vif\0").unwrap();
    assert!(world.events(1).is_empty());
    world.text(1, UNWATCH, "dev\0rel\0").unwrap();
    world.text(1, SET_PERMS, "dev/vif\0n1\0r2\0").unwrap();
    assert_eq!(
        world.events(1),
        [("/local/domain/1/dev/vif".into(), "abs".into())]
    );
    world.text(1, RM, "dev/vif/0\0").unwrap();
    assert_eq!(world.paths(1), ["/local/domain/1/dev/vif/0"]);
}

#[test]
fn a_removal_is_told_below_by_their_own_paths() {
    let world = world();
    world.write(1, "a/b/c", "").unwrap();
    for path in ["a", "a/b/c", "a/b/c/d", "a/bb", "x"] {
        world.text(1, WATCH, &format!("{path}\0t\0")).unwrap();
    }
    world.events(1);
    world.text(1, RM, "a/b\0").unwrap();
    let mut paths = world.paths(1);
    paths.sort();
    assert_eq!(paths, ["a/b", "a/b/c", "a/b/c/d"]);
    // The root's watch is for whoever may see what changes.
    world.text(1, WATCH, "/\0root\0").unwrap();
    world.events(1);
    world.write(2, "hidden", "").unwrap();
    world.write(1, "x", "").unwrap();
    let mut paths = world.paths(1);
    paths.sort();
    assert_eq!(paths, ["/local/domain/1/x", "x"]);
}

#[test]
fn one_hears_only_of_what_one_may_read() {
    let world = world();
    world.write(1, "secret/x", "").unwrap();
    world.write(1, "open", "").unwrap();
    world.text(1, SET_PERMS, "open\0n1\0r2\0").unwrap();
    for path in ["secret/x", "open", "new"] {
        let watch = format!("/local/domain/1/{path}\0t\0");
        world.text(2, WATCH, &watch).unwrap();
        world.text(3, WATCH, &watch).unwrap();
    }
    world.events(2);
    world.events(3);
    world.write(1, "secret/x", "1").unwrap();
    world.write(1, "new", "1").unwrap();
    world.write(1, "open", "1").unwrap();
    assert_eq!(world.paths(2), ["/local/domain/1/open"]);
    // Withdrawal is the last that one hears; a child of what one reads is heard of.
    world.write(1, "open/child", "1").unwrap();
    assert_eq!(world.paths(2), ["/local/domain/1/open/child"]);
    world.text(1, SET_PERMS, "open\0n1\0").unwrap();
    assert_eq!(world.paths(2), ["/local/domain/1/open"]);
    world.write(1, "open", "2").unwrap();
    assert!(world.paths(2).is_empty() && world.paths(3).is_empty());
}

#[test]
fn the_hypervisors_writes_are_told() {
    let world = world();
    world
        .own(WRITE, "/local/domain/1/control/shutdown\0")
        .unwrap();
    world
        .text(1, WATCH, "control/shutdown\0FFFF0000\0")
        .unwrap();
    world.events(1);
    world
        .own(WRITE, "/local/domain/1/control/shutdown\0poweroff")
        .unwrap();
    assert_eq!(
        world.events(1),
        [("control/shutdown".into(), "FFFF0000".into())]
    );
    assert_eq!(world.read(1, "control/shutdown"), Ok("poweroff".into()));
}

#[test]
fn what_finds_no_room_is_told_later() {
    let quota = Quota {
        events: 4,
        ..Quota::GUEST
    };
    let world = World::with(2, quota);
    world.own(SET_PERMS, "/local/domain/1\0n1\0").unwrap();
    world.own(MKDIR, "/local/domain/2/in\0").unwrap();
    world
        .own(SET_PERMS, "/local/domain/2/in\0n2\0b1\0")
        .unwrap();
    for path in ["in/a", "in/b", "in"] {
        world.text(2, WATCH, &format!("{path}\0{path}\0")).unwrap();
    }
    world.events(2);
    let used = world.used(2);
    // The receiver takes nothing; the ring and the queue fill up. The sender is not held up.
    for round in 0..60 {
        world
            .write(1, &format!("/local/domain/2/in/n{round}"), "x")
            .unwrap();
    }
    world.write(1, "/local/domain/2/in/a", "x").unwrap();
    world.write(1, "/local/domain/2/in/b", "x").unwrap();
    assert!(world.used(2) <= used + 64);
    let events = world.events(2);
    for path in ["in/a", "in/b", "in"] {
        assert!(
            events.contains(&(path.into(), path.into())),
            "{path}: {events:?}"
        );
    }
    // The same event waits once.
    for _ in 0..200 {
        world.write(1, "/local/domain/2/in/a", "y").unwrap();
    }
    let events = world.events(2);
    assert!(events.len() < 100, "{}", events.len());
    assert_eq!(world.used(2), used);
}
