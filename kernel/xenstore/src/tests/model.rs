//! The store beside a small model: a map of paths. Requests of two domains and of their transactions come in any order. A
//! transaction that succeeds must be the same as all its requests made one after the other at its end, with the
//! same answers; one that fails must have been disturbed. Every watch must hear of every change that its
//! owner may read.

use super::cases;
use super::support::{Answer, World};
use abi::xenstore::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Value, and whether domain 1 and domain 2 may read it and write it.
#[derive(Clone, Debug, PartialEq)]
struct Node {
    value: Vec<u8>,
    owner: u16,
    default: char,
    other: Option<(u16, char)>,
}

impl Node {
    fn allows(&self, domain: u16, right: char) -> bool {
        let letter = match self.other {
            _ if domain == self.owner => return true,
            Some((other, letter)) if other == domain => letter,
            _ => self.default,
        };
        letter == 'b' || letter == right
    }

    fn text(&self) -> String {
        let other = self
            .other
            .map_or(String::new(), |(id, letter)| format!("{letter}{id}\0"));
        format!("{}{}\0{other}", self.default, self.owner)
    }
}

type Tree = BTreeMap<String, Node>;

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/')
        .map(|(parent, _)| parent)
        .filter(|parent| !parent.is_empty())
}

#[derive(Clone, Debug)]
enum Request {
    Read(String),
    List(String),
    Permissions(String),
    Write(String, u8),
    Make(String),
    Remove(String),
    Allow(String, char, Option<(u16, char)>),
}

impl Request {
    fn path(&self) -> &str {
        match self {
            Self::Read(path)
            | Self::List(path)
            | Self::Permissions(path)
            | Self::Write(path, _)
            | Self::Make(path)
            | Self::Remove(path)
            | Self::Allow(path, ..) => path,
        }
    }

    fn wire(&self, domain: u16) -> (u32, Vec<u8>) {
        let path = self.path();
        let text = format!("{path}\0");
        match self {
            Self::Read(_) => (READ, text.into()),
            Self::List(_) => (DIRECTORY, text.into()),
            Self::Permissions(_) => (GET_PERMS, text.into()),
            Self::Write(_, value) => (
                WRITE,
                [text.as_bytes(), &vec![*value; usize::from(*value)]].concat(),
            ),
            Self::Make(_) => (MKDIR, text.into()),
            Self::Remove(_) => (RM, text.into()),
            Self::Allow(_, letter, other) => {
                let other = other.map_or(String::new(), |(id, letter)| format!("{letter}{id}\0"));
                (SET_PERMS, format!("{text}{letter}{domain}\0{other}").into())
            }
        }
    }

    /// What the model answers, and the paths that have changed.
    fn carry_out(&self, tree: &mut Tree, domain: u16) -> (Answer, Vec<String>) {
        let path = self.path();
        let mut changed = Vec::new();
        let mut deepest = path;
        while !tree.contains_key(deepest) {
            deepest = parent(deepest).unwrap();
        }
        let there = deepest == path;
        let node = &tree[deepest];
        let allowed = match self {
            Self::Read(_) | Self::List(_) | Self::Permissions(_) => node.allows(domain, 'r'),
            Self::Write(..) | Self::Make(_) | Self::Remove(_) => node.allows(domain, 'w'),
            Self::Allow(..) => node.owner == domain,
        };
        let ok = Ok(b"OK\0".to_vec());
        let answer = match self {
            _ if !allowed => Err("EACCES".to_owned()),
            Self::Read(_) if there => Ok(node.value.clone()),
            Self::Permissions(_) if there => Ok(node.text().into()),
            Self::List(_) if there => {
                let children = tree.keys().filter(|other| parent(other) == Some(path));
                Ok(children
                    .flat_map(|child| {
                        format!("{}\0", child.rsplit('/').next().unwrap()).into_bytes()
                    })
                    .collect())
            }
            Self::Make(_) if there => ok,
            Self::Write(..) | Self::Make(_) => {
                let model = Node {
                    owner: domain,
                    value: Vec::new(),
                    ..node.clone()
                };
                let mut missing = path;
                while !tree.contains_key(missing) {
                    tree.insert(missing.to_owned(), model.clone());
                    missing = parent(missing).unwrap();
                }
                if let Self::Write(_, value) = self {
                    tree.get_mut(path).unwrap().value = vec![*value; usize::from(*value)];
                }
                changed.push(path.to_owned());
                ok
            }
            Self::Remove(_) if there => {
                let below = format!("{path}/");
                tree.retain(|other, _| other != path && !other.starts_with(&below));
                changed.push(path.to_owned());
                ok
            }
            Self::Remove(_) if parent(path) == Some(deepest) => ok,
            Self::Allow(_, letter, other) if there => {
                let node = tree.get_mut(path).unwrap();
                (node.default, node.other) = (*letter, *other);
                changed.push(path.to_owned());
                ok
            }
            _ => Err("ENOENT".to_owned()),
        };
        (answer, changed)
    }

    fn sorted(&self, answer: Answer) -> Answer {
        match self {
            Self::List(_) => answer.map(|bytes| {
                let mut names: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == 0).collect();
                names.sort();
                names.concat()
            }),
            _ => answer,
        }
    }
}

#[derive(Clone, Debug)]
enum Action {
    /// Domain, transaction's slot (of which 0 is none), request.
    Ask(u16, usize, Request),
    Start(u16, usize),
    End(u16, usize, bool),
}

#[derive(Clone)]
struct Transaction {
    number: u32,
    log: Vec<(Request, Answer)>,
    /// Changes that there were before it began.
    changes: usize,
}

fn path() -> impl Strategy<Value = String> {
    let names = prop::collection::vec(prop::sample::select(NAMES.to_vec()), 1..4);
    (1..3_u16, names).prop_map(|(home, names)| format!("/local/domain/{home}/{}", names.join("/")))
}

fn request() -> impl Strategy<Value = Request> {
    let letter = || prop::sample::select(vec!['n', 'r', 'w', 'b']);
    let other = prop::option::of((1..3_u16, letter()));
    prop_oneof![
        1 => path().prop_map(Request::Read),
        1 => path().prop_map(Request::List),
        1 => path().prop_map(Request::Permissions),
        4 => (path(), 0..130_u8).prop_map(|(path, value)| Request::Write(path, value)),
        1 => path().prop_map(Request::Make),
        2 => path().prop_map(Request::Remove),
        2 => (path(), letter(), other).prop_map(|(path, letter, other)| Request::Allow(path, letter, other)),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (1..3_u16, 0..3_usize, request()).prop_map(|(domain, slot, request)| Action::Ask(domain, slot, request)),
        2 => (1..3_u16, 1..3_usize).prop_map(|(domain, slot)| Action::Start(domain, slot)),
        2 => (1..3_u16, 1..3_usize, prop::bool::weighted(0.8)).prop_map(|(domain, slot, keep)| Action::End(domain, slot, keep)),
    ]
}

/// Paths watched by both domains.
fn watched() -> Vec<String> {
    let mut all = vec!["/local/domain".to_owned()];
    for home in ["/local/domain/1", "/local/domain/2"] {
        all.extend([home.to_owned(), format!("{home}/a"), format!("{home}/a/b")]);
    }
    all
}

/// What each domain must hear: watches that lie above a change, or below a removal, if it may read the node, as it
/// was or is, or the one above.
fn must_hear(before: &Tree, after: &Tree, changed: &[String], domain: u16) -> BTreeSet<String> {
    let may = |path: &str| {
        let nodes = [before.get(path), after.get(path)];
        let above = parent(path);
        let above = [
            above.and_then(|path| before.get(path)),
            above.and_then(|path| after.get(path)),
        ];
        // The node above counts if it reads so before and after: it may have changed in the same transaction.
        let above = above
            .iter()
            .all(|node| node.is_some_and(|node| node.allows(domain, 'r')));
        nodes.iter().flatten().any(|node| node.allows(domain, 'r')) || above
    };
    let is_hit = |watch: &String| {
        changed.iter().any(|path| {
            let at = path == watch || path.starts_with(&format!("{watch}/"));
            let above = !after.contains_key(path) && watch.starts_with(&format!("{path}/"));
            (at || above) && may(path)
        })
    };
    watched().into_iter().filter(is_hit).collect()
}

struct Test {
    world: World,
    tree: Tree,
    transactions: BTreeMap<(u16, usize), Transaction>,
    changes: usize,
}

impl Test {
    fn new() -> Self {
        let world = World::new(2);
        let mut tree = Tree::new();
        for (path, owner) in [
            ("/local", 0),
            ("/local/domain", 0),
            ("/local/domain/1", 1),
            ("/local/domain/2", 2),
        ] {
            let node = Node {
                value: Vec::new(),
                owner,
                default: 'n',
                other: None,
            };
            tree.insert(path.to_owned(), node);
        }
        for id in 1..=2 {
            world
                .own(SET_PERMS, &format!("/local/domain/{id}\0n{id}\0"))
                .unwrap();
            for path in watched() {
                world.text(id, WATCH, &format!("{path}\0{path}\0")).unwrap();
            }
            world.events(id);
        }
        Self {
            world,
            tree,
            transactions: BTreeMap::new(),
            changes: 0,
        }
    }

    fn told(
        &mut self,
        before: &Tree,
        changed: &[String],
        is_loud: bool,
    ) -> Result<(), TestCaseError> {
        self.changes += changed.len();
        for domain in 1..=2 {
            let heard: BTreeSet<String> = self
                .world
                .events(domain)
                .into_iter()
                .map(|(_, token)| token)
                .collect();
            let must = must_hear(before, &self.tree, changed, domain);
            prop_assert!(
                heard.is_superset(&must),
                "{domain}: {heard:?}, not {must:?}; {changed:?}"
            );
            // A transaction may have written what was there before: that may be told too.
            prop_assert!(is_loud || !changed.is_empty() || heard.is_empty());
        }
        Ok(())
    }

    fn act(&mut self, action: &Action) -> Result<(), TestCaseError> {
        let before = self.tree.clone();
        match action {
            Action::Ask(domain, slot, request) => {
                let (kind, payload) = request.wire(*domain);
                if let Some(transaction) = self.transactions.get_mut(&(*domain, *slot)) {
                    let answer = self.world.ask(*domain, transaction.number, kind, &payload);
                    transaction
                        .log
                        .push((request.clone(), request.sorted(answer)));
                    return self.told(&before, &[], false);
                }
                let answer = self.world.ask(*domain, 0, kind, &payload);
                let (expected, changed) = request.carry_out(&mut self.tree, *domain);
                prop_assert_eq!(request.sorted(answer), expected);
                self.told(&before, &changed, false)?;
            }
            Action::Start(domain, slot) => {
                if !self.transactions.contains_key(&(*domain, *slot)) {
                    let number = self.world.text(*domain, TRANSACTION_START, "\0").unwrap();
                    let number = number.trim_end_matches('\0').parse().unwrap();
                    let transaction = Transaction {
                        number,
                        log: Vec::new(),
                        changes: self.changes,
                    };
                    self.transactions.insert((*domain, *slot), transaction);
                }
            }
            Action::End(domain, slot, keep) => {
                let Some(transaction) = self.transactions.remove(&(*domain, *slot)) else {
                    return Ok(());
                };
                let how: &[u8] = if *keep { b"T\0" } else { b"F\0" };
                let answer = self
                    .world
                    .ask(*domain, transaction.number, TRANSACTION_END, how);
                match answer {
                    Ok(_) if *keep => {
                        let mut changed = Vec::new();
                        for (request, observed) in &transaction.log {
                            let (expected, paths) = request.carry_out(&mut self.tree, *domain);
                            prop_assert_eq!(observed, &expected, "{:?}", request);
                            changed.extend(paths);
                        }
                        // What was written as it was is a change to other transactions.
                        self.changes += transaction.log.len();
                        // What the transaction made and removed again has not changed.
                        changed.retain(|path| before.get(path) != self.tree.get(path));
                        self.told(&before, &changed, true)?;
                    }
                    Ok(_) => self.told(&before, &[], false)?,
                    Err(error) => {
                        prop_assert_eq!(error, "EAGAIN");
                        prop_assert!(
                            self.changes > transaction.changes,
                            "nobody has disturbed it"
                        );
                        self.told(&before, &[], false)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The whole tree is the model's, and nothing else is in the blocks.
    fn check(&mut self) -> Result<(), TestCaseError> {
        for (domain, slot) in self.transactions.keys().copied().collect::<Vec<_>>() {
            self.act(&Action::End(domain, slot, false))?;
        }
        for (path, node) in &self.tree {
            if node.owner != 0 {
                prop_assert_eq!(
                    self.world.own(READ, &format!("{path}\0")),
                    Ok(node.value.clone())
                );
                prop_assert_eq!(
                    self.world.own(GET_PERMS, &format!("{path}\0")),
                    Ok(node.text().into())
                );
            }
            let request = Request::List(path.clone());
            let expected = request.carry_out(&mut self.tree.clone(), node.owner).0;
            prop_assert_eq!(
                request.sorted(self.world.own(DIRECTORY, &format!("{path}\0"))),
                expected
            );
        }
        for id in 1..=2 {
            self.world.remove(id);
            prop_assert_eq!(self.world.used(id), 0);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn the_store_does_what_the_model_does(actions in prop::collection::vec(action(), 1..60)) {
        let mut test = Test::new();
        for action in &actions {
            test.act(action)?;
        }
        test.check()?;
    }
}
