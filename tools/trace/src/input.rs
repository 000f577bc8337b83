//! From bytes to records.

use std::collections::BTreeMap;
use std::fmt;

use defmt_decoder::Table;
use records::stream::{self, Packet};

use crate::event::{Event, Who};

/// A record of a CPU, or that some are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The CPU's number.
    pub cpu: u8,
    /// The counter.
    pub ticks: u64,
    /// What it says.
    pub text: String,
    /// The same, understood.
    pub event: Event,
}

/// A trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Ticks a second of the counter; 0 if the trace does not tell.
    pub frequency: u64,
    /// Names of domains.
    pub names: BTreeMap<u16, String>,
    /// By time; those of one CPU in its order where times are equal.
    pub records: Vec<Record>,
    /// Records of each CPU that were overwritten before they were sent.
    pub lost: BTreeMap<u8, u64>,
    /// Packets that arrived damaged, or that the format strings make no sense of.
    pub damaged: u64,
}

impl Trace {
    /// Reads what was sent to a UART, or lines with `trace` and hexadecimal digits, whichever it is.
    #[must_use]
    pub fn read(bytes: &[u8], table: &Table) -> Self {
        let mut trace = Self::default();
        let lines = packets_in_text(bytes);
        if lines.is_empty() {
            // What comes before the first zero may be the end of something, and after the last, the beginning.
            let Some(end) = bytes.iter().rposition(|byte| *byte == 0) else {
                return trace;
            };
            let whole = bytes.get(..end).unwrap_or_default();
            for wire in whole.split(|byte| *byte == 0) {
                let packet = stream::decode(wire);
                trace.add(packet.as_deref().and_then(Packet::parse), table);
            }
        } else {
            for packet in &lines {
                trace.add(Packet::parse(packet), table);
            }
        }
        trace.records.sort_by_key(|record| record.ticks);
        trace
    }

    fn add(&mut self, packet: Option<Packet<'_>>, table: &Table) {
        match packet {
            None => self.damaged += 1,
            Some(Packet::Begin(frequency)) => self.frequency = frequency,
            Some(Packet::Domain(id, name)) => {
                let name = String::from_utf8_lossy(name).into_owned();
                self.names.insert(id, name);
            }
            Some(Packet::Lost(cpu, count)) => {
                *self.lost.entry(cpu).or_default() += u64::from(count);
                // Just before what comes next.
                self.push(cpu, None, format!("lost {count}"));
            }
            Some(Packet::Record(cpu, frame)) => match decode(frame, table) {
                Some((ticks, text)) => self.push(cpu, Some(ticks), text),
                None => self.damaged += 1,
            },
        }
    }

    fn push(&mut self, cpu: u8, ticks: Option<u64>, text: String) {
        let before = self.records.iter().rev().find(|record| record.cpu == cpu);
        let ticks = ticks.or(before.map(|before| before.ticks)).unwrap_or(0);
        let event = Event::parse(&text);
        self.records.push(Record {
            cpu,
            ticks,
            text,
            event,
        });
    }

    /// Nanoseconds since the first record.
    #[must_use]
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        let start = self.records.first().map_or(0, |first| first.ticks);
        let ticks = u128::from(ticks.saturating_sub(start));
        let frequency = u128::from(self.frequency.max(1));
        u64::try_from(ticks * 1_000_000_000 / frequency).unwrap_or(u64::MAX)
    }

    /// Nanoseconds from the first record to the last.
    #[must_use]
    pub fn length(&self) -> u64 {
        let last = self.records.last();
        last.map_or(0, |last| self.nanoseconds(last.ticks))
    }

    /// A vCPU by its domain's name, where that is known.
    #[must_use]
    pub fn name(&self, who: Who) -> String {
        match self.names.get(&who.domain) {
            Some(name) => format!("{name} v{}", who.vcpu),
            None => who.to_string(),
        }
    }

    /// Records that were lost, in all.
    #[must_use]
    pub fn all_lost(&self) -> u64 {
        self.lost.values().sum()
    }
}

/// A line a record: microseconds since the first, the CPU, and what it says.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, name) in &self.names {
            writeln!(f, "# d{id} is {name}")?;
        }
        for record in &self.records {
            let nanoseconds = self.nanoseconds(record.ticks);
            let (micros, rest) = (nanoseconds / 1000, nanoseconds % 1000);
            writeln!(
                f,
                "{micros:>9}.{rest:03}  CPU {}  {}",
                record.cpu, record.text
            )?;
        }
        Ok(())
    }
}

/// A frame's time and text.
fn decode(frame: &[u8], table: &Table) -> Option<(u64, String)> {
    let (decoded, used) = table.decode(frame).ok()?;
    if used != frame.len() {
        return None;
    }
    let ticks = decoded.display_timestamp()?.to_string().parse().ok()?;
    Some((ticks, decoded.display_message().to_string()))
}

/// The packets in lines of text: what follows the word `trace`, if all of it is hexadecimal digits.
fn packets_in_text(bytes: &[u8]) -> Vec<Vec<u8>> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let packet = |line: &[u8]| {
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.split_whitespace();
        words.find(|word| *word == "trace")?;
        let digits = words.next().filter(|_| words.next().is_none())?;
        let pairs = digits.as_bytes().chunks(2);
        let packet: Option<Vec<u8>> = pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        packet.filter(|packet| digits.len().is_multiple_of(2) && packet.len() >= 2)
    };
    lines.filter_map(packet).collect()
}

#[cfg(test)]
mod tests {
    use super::packets_in_text;

    #[test]
    fn packets_are_found_among_other_lines() {
        let text = "PANIC: no trace of it\r\n  trace 8001ff\r\nviaduct| trace 00aabb \nguest| trace xy\ntrace 123\n";
        assert_eq!(
            packets_in_text(text.as_bytes()),
            [vec![0x80, 1, 0xff], vec![0, 0xaa, 0xbb]]
        );
        assert!(packets_in_text(&[0xff, b'\n', 0]).is_empty());
    }
}
