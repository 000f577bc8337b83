//! Whoever is no peer sees nothing of a domain, whatever that permits.

use super::support::World;
use crate::Quota;
use abi::xenstore::*;
use abi::{DomainId, DomainSet};

/// 1 and 2 are peers, and 2 and 3; 4 has none.
fn world() -> World {
    let world = World::with_peers(4, Quota::GUEST, |id| {
        let peers: &[u16] = match id {
            1 => &[2],
            2 => &[1, 3],
            3 => &[2],
            _ => &[],
        };
        peers.iter().copied().map(DomainId).collect::<DomainSet>()
    });
    for id in 1..=4 {
        let home = format!("/local/domain/{id}\0n{id}\0");
        world.own(SET_PERMS, &home).unwrap();
    }
    world
}

#[test]
fn what_is_open_to_all_is_open_to_peers() {
    let world = world();
    let denied = Err("EACCES".to_owned());
    world.write(1, "open", "for all").unwrap();
    for permissions in ["b1", "n1\0b2\0b3\0b4"] {
        let request = format!("open\0{permissions}\0");
        world.text(1, SET_PERMS, &request).unwrap();
        let path = "/local/domain/1/open";
        assert_eq!(world.read(2, path), Ok("for all".into()));
        world.write(2, path, "for all").unwrap();
        for stranger in [3, 4] {
            assert_eq!(world.read(stranger, path), denied);
            assert_eq!(
                world.write(stranger, path, "mine").err(),
                denied.clone().err()
            );
            for kind in [DIRECTORY, RM, GET_PERMS] {
                let answer = world.text(stranger, kind, &format!("{path}\0"));
                assert_eq!(answer, denied, "{kind}");
            }
            let inside = world.write(stranger, &format!("{path}/inside"), "");
            assert_eq!(inside.err(), denied.clone().err());
        }
    }
    // The hypervisor sees everything, and what is its own has its own permissions.
    world.own(READ, "/local/domain/1/open\0").unwrap();
    world.own(WRITE, "/common\0text").unwrap();
    world.own(SET_PERMS, "/common\0r0\0").unwrap();
    for id in 1..=4 {
        assert_eq!(world.read(id, "/common"), Ok("text".into()));
    }
}

#[test]
fn strangers_hear_of_nothing() {
    let world = world();
    world.write(1, "open", "").unwrap();
    world.text(1, SET_PERMS, "open\0b1\0").unwrap();
    for id in 2..=4 {
        let watch = "/local/domain/1/open\0t\0";
        world.text(id, WATCH, watch).unwrap();
        assert_eq!(world.events(id).len(), 1, "the first, which is no news");
    }
    world.write(1, "open", "news").unwrap();
    world.write(1, "open/below", "").unwrap();
    world.text(1, RM, "open\0").unwrap();
    assert!(world.events(2).len() >= 3);
    assert!(world.events(3).is_empty() && world.events(4).is_empty());
}

/// A node is its owner's: whoever makes one in another's place shows it to its own peers.
#[test]
fn a_node_in_anothers_place_is_its_owners() {
    let world = world();
    world.write(2, "place", "").unwrap();
    world.text(2, SET_PERMS, "place\0b2\0").unwrap();
    let path = "/local/domain/2/place/of1";
    world.write(1, path, "here").unwrap();
    assert_eq!(world.read(2, path), Ok("here".into()));
    assert_eq!(world.read(3, path), Err("EACCES".into()));
}

#[test]
fn transactions_make_no_difference() {
    let world = world();
    world.write(1, "open", "one").unwrap();
    world.text(1, SET_PERMS, "open\0b1\0").unwrap();
    let number = world.text(4, TRANSACTION_START, "\0").unwrap();
    let number: u32 = number.trim_end_matches('\0').parse().unwrap();
    let answer = world.ask(4, number, READ, b"/local/domain/1/open\0");
    assert_eq!(answer, Err("EACCES".into()));
    let answer = world.ask(4, number, WRITE, b"/local/domain/1/open\0mine");
    assert_eq!(answer, Err("EACCES".into()));
}
