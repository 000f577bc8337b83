//! A stored trace, with the table of formats of the image that made it: what is read from it stays the same.

use std::path::{Path, PathBuf};

use viaduct_trace_reader::{Event, Reason, Summary, Table, Trace, Who, timeline};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn stored() -> (Vec<u8>, Table) {
    let formats = std::fs::read(data("formats.json")).expect("the formats");
    let table = serde_json::from_slice(&formats).expect("a table");
    (std::fs::read(data("trace.log")).expect("the trace"), table)
}

const HELLO: Who = Who { domain: 1, vcpu: 0 };

#[test]
fn a_console_log_is_read() {
    let (bytes, table) = stored();
    let trace = Trace::read(&bytes, &table);
    assert_eq!((trace.damaged, trace.all_lost()), (0, 0));
    assert_eq!(trace.frequency, 62_500_000);
    assert_eq!(trace.names.get(&1).map(String::as_str), Some("hello-1"));
    assert!(trace.records.len() > 100, "{}", trace.records.len());
    assert!(trace.records.is_sorted_by_key(|record| record.ticks));
    let unknown = |event: &Event| *event == Event::Unknown;
    assert!(!trace.records.iter().any(|record| unknown(&record.event)));
    let text = trace.to_string();
    assert!(text.contains("# d1 is hello-1"), "{text}");
}

/// The same packets as a UART sends them, and with a byte missing.
#[test]
fn a_wire_is_read_as_well() {
    let (bytes, table) = stored();
    let log = String::from_utf8(bytes.clone()).expect("text");
    let packet = |line: &str| -> Option<Vec<u8>> {
        let digits = line.split_whitespace().last()?;
        let pairs = digits.as_bytes().chunks(2);
        pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect()
    };
    let wire: Vec<u8> = log
        .lines()
        .filter_map(packet)
        .filter_map(|packet| {
            let packet = records::stream::Packet::parse(&packet)?;
            Some(packet.on_wire().to_vec())
        })
        .flatten()
        .collect();
    let whole = Trace::read(&bytes, &table);
    assert_eq!(Trace::read(&wire, &table), whole);

    let mut damaged = wire;
    damaged.remove(damaged.len() / 2);
    let damaged = Trace::read(&damaged, &table);
    assert_eq!(damaged.damaged, 1);
    assert_eq!(damaged.records.len() + 1, whole.records.len());
}

#[test]
fn counts_and_shares_are_told() {
    let (bytes, table) = stored();
    let trace = Trace::read(&bytes, &table);
    let summary = Summary::of(&trace);
    let calls: u64 = summary.exits[&HELLO]
        .iter()
        .filter(|(reason, _)| matches!(reason, Reason::Hypercall(_)))
        .map(|(_, count)| count)
        .sum();
    let text = trace.to_string();
    let lines = text
        .lines()
        .filter(|line| line.contains("  hypercall d1v0 "));
    assert_eq!(calls, lines.count() as u64);
    let text = summary.to_string();
    for part in [
        "hello-1 v0",
        "event_channel_op",
        "CPU 0:",
        "from exit to entry",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_timeline_is_json_with_a_track_for_each() {
    let (bytes, table) = stored();
    let trace = Trace::read(&bytes, &table);
    let json: serde_json::Value = serde_json::from_str(&timeline::json(&trace)).expect("JSON");
    let events = json["traceEvents"].as_array().expect("events");
    let named = |name: &str| {
        let is_it = |event: &&serde_json::Value| event["args"]["name"] == name;
        events.iter().filter(is_it).count()
    };
    for track in ["CPUs", "vCPUs", "CPU 0", "hello-1 v0", "hello-2 v0"] {
        assert_eq!(named(track), 1, "{track}");
    }
    let spans = events.iter().filter(|event| event["ph"] == "X");
    assert!(spans.clone().count() > 50);
    // On each track one thing at a time.
    let mut ends = std::collections::BTreeMap::new();
    for span in spans {
        let track = (span["pid"].as_u64(), span["tid"].as_u64());
        let number = |name: &str| span[name].as_f64().expect("a number");
        let end = ends.entry(track).or_insert(0.0);
        assert!(number("ts") >= *end - 0.001, "{span}");
        *end = number("ts") + number("dur");
    }
}

/// Stores another trace: the first records of the one that the system test `gicv3` of `trace.rs` left.
#[test]
#[ignore = "writes the files that the others read"]
fn store() {
    let target = viaduct_tests::target();
    let elf = std::fs::read(target.join("viaduct.elf")).expect("an ELF file");
    let table = Table::parse(&elf).expect("formats").expect("formats");
    let json = serde_json::to_string_pretty(&table).expect("JSON");
    std::fs::write(data("formats.json"), json + "\n").expect("the formats");
    let wire = std::fs::read(target.join("tests/trace-v3.trace")).expect("a trace");
    let mut log = String::new();
    for packet in wire.split(|byte| *byte == 0).take(400) {
        let Some(bytes) = records::stream::decode(packet) else {
            continue;
        };
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        log.push_str(&format!("viaduct| trace {digits}\n"));
    }
    std::fs::write(data("trace.log"), log).expect("the trace");
}
