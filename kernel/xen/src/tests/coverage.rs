//! The table of hypercalls in `docs/abi-coverage.md` against the dispatch, the unit tests and the conformance guest: what
//! one of them has, all have.

use super::support::{Machine, SCRATCH};
use crate::Outcome;
use abi::hypercall::{CONSOLE_IO, VM_ASSIST};
use abi::{Errno, hypercall};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const BOOK: &str = include_str!("../../../../docs/abi-coverage.md");
/// Subjects of the conformance guest that are no operation's.
const GENERAL: [&str; 3] = ["convention", "grant_table_op.lists", "others"];
/// Greatest number and command that is tried of all; no table has greater ones.
const MOST: u64 = 100;

/// What a guest gets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Served,
    Refused,
    Answer(i64),
    /// A call that has a table of its own.
    Below,
}

/// A row: what is served under a number, or under all others.
#[derive(Debug)]
struct Row {
    number: Option<u64>,
    name: String,
    state: State,
    test: String,
}

fn state(text: &str) -> State {
    match text {
        "served" => State::Served,
        "refused" => State::Refused,
        "below" => State::Below,
        "0" => State::Answer(0),
        _ => {
            let name = text.strip_prefix('-').expect(text);
            let errno = (1..200).find_map(|number| {
                let errno = Errno::from_return(-number)?;
                (errno.to_string() == name).then_some(errno)
            });
            State::Answer(errno.expect(name).as_return())
        }
    }
}

/// The tables of the section on hypercalls, by the heading above each; "" is the first.
fn tables() -> BTreeMap<String, Vec<Row>> {
    let section = BOOK.split("## Hypercalls").nth(1).unwrap();
    let section = section.split("### Pages").next().unwrap();
    let mut tables: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let mut heading = String::new();
    for line in section.lines() {
        if let Some(name) = line.strip_prefix("### ") {
            name.clone_into(&mut heading);
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, number, name, text, test, _, _] = cells[..] else {
            continue;
        };
        if name.starts_with("---") || ["call", "operation"].contains(&name) {
            continue;
        }
        tables.entry(heading.clone()).or_default().push(Row {
            number: (!number.is_empty()).then(|| number.parse().expect(number)),
            name: name.to_owned(),
            state: state(text),
            test: test.to_owned(),
        });
    }
    tables
}

/// Holds one table against the answers to every number.
fn compare(table: &str, rows: &[Row], most: u64, answers: impl Fn(u64) -> Vec<Outcome>) {
    let others = rows.iter().find(|row| row.number.is_none());
    let others = others.unwrap_or_else(|| panic!("{table}: no row for the others"));
    let State::Answer(unknown) = others.state else {
        panic!("{table}: others are {:?}", others.state);
    };
    let numbers: Vec<u64> = rows.iter().filter_map(|row| row.number).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{table}");
    for number in (0..=most).chain((most == MOST).then_some(0xfff)) {
        let row = rows.iter().find(|row| row.number == Some(number));
        let answers = answers(number);
        let name = row.map_or("others", |row| &row.name);
        let context = format!("{table} {number} {name}: {answers:?}");
        let all = |value| {
            answers
                .iter()
                .all(|answer| *answer == Outcome::Return(value))
        };
        match row.map_or(State::Answer(unknown), |row| row.state) {
            State::Below => {}
            State::Answer(value) => assert!(all(value), "{context}"),
            // Not one that the dispatch does not know.
            State::Served => assert!(!all(unknown), "{context}"),
            State::Refused => {
                assert!(!all(unknown), "{context}");
                let refused =
                    |answer: &Outcome| matches!(answer, Outcome::Return(value) if *value < 0);
                assert!(answers.iter().all(refused), "{context}");
            }
        }
    }
}

#[test]
fn the_dispatch_has_what_the_book_says() {
    let tables = tables();
    let calls = &tables[""];
    // A fresh machine for each: a call may end what the next one needs.
    let run = |number, arguments: &[u64]| {
        let machine = Machine::new(2, 1);
        machine.guest(1).call(number, arguments)
    };
    compare("hypercalls", calls, MOST, |number| match number {
        // Nothing in the list.
        hypercall::MULTICALL => vec![run(number, &[8, 1])],
        _ => [0, 8, SCRATCH].map(|at| run(number, &[at, 0])).into(),
    });
    let with_tables: BTreeSet<&str> = calls
        .iter()
        .filter(|row| row.state == State::Below)
        .map(|row| row.name.as_str())
        .collect();
    let headings: BTreeSet<&str> = tables.keys().map(String::as_str).collect();
    let headings: BTreeSet<&str> = headings
        .into_iter()
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(with_tables, headings);
    for row in calls.iter().filter(|row| row.state == State::Below) {
        let number = row.number.unwrap();
        let most = match number {
            // Above are where a call goes on.
            hypercall::MEMORY_OP => abi::memory_op::COMMAND_MASK,
            _ => MOST,
        };
        compare(
            &row.name,
            &tables[&row.name],
            most,
            |command| match number {
                VM_ASSIST => vec![run(number, &[command, 5])],
                CONSOLE_IO => vec![run(number, &[command, 8, 8]), run(number, &[command, 0, 8])],
                hypercall::VCPU_OP => {
                    vec![
                        run(number, &[command, 0, 8]),
                        run(number, &[command, 0, SCRATCH]),
                    ]
                }
                _ => [8, SCRATCH].map(|at| run(number, &[command, at, 1])).into(),
            },
        );
    }
}

fn source(path: &Path) -> String {
    let files = std::fs::read_dir(path).unwrap();
    let mut text = String::new();
    for file in files {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|name| name == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
    text
}

#[test]
fn every_row_has_its_tests() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guest = source(&own.join("../../guests/conformance/src"));
    let mut subjects = BTreeSet::new();
    for (table, rows) in &tables() {
        for row in rows.iter().filter(|row| row.state != State::Below) {
            let subject = match table.as_str() {
                "" => row.name.clone(),
                call => format!("{call}.{}", row.name),
            };
            assert!(
                guest.contains(&format!("\"{subject}\"")),
                "the conformance guest does not know {subject}"
            );
            subjects.insert(subject);
            let (file, test) = row.test.split_once("::").expect(&row.name);
            let path = own.join(format!("src/tests/{file}.rs"));
            let text = std::fs::read_to_string(path).expect(file);
            assert!(text.contains(&format!("fn {test}()")), "{}", row.test);
        }
    }
    // And the guest has no subject that the book does not know.
    let calls: Vec<String> = tables()[""].iter().map(|row| row.name.clone()).collect();
    for word in guest.split('"') {
        let call = word.split('.').next().unwrap_or(word);
        let is_subject = calls.iter().any(|name| name == call)
            && word
                .chars()
                .all(|letter| letter.is_alphanumeric() || "_.".contains(letter));
        assert!(
            !is_subject || subjects.contains(word) || GENERAL.contains(&word),
            "{word} is no row"
        );
    }
}
