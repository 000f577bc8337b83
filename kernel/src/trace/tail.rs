//! The last records as lines of text: in the report of a failure all at once, for the operator one at a time.

use core::fmt;

use records::stream::Packet;
use records::{Reader, Taken};
use shell::TracePlace;

use crate::cpus::{self, Cpu};
use crate::machine;

/// Names of domains that are told in the report of a failure.
const NAMES: usize = 8;

/// Gives `line` the last `count` records of each CPU that is given, as packets to be written in lines of text, with
/// what the reader must know beforehand.
pub(crate) fn tail<'c>(
    of: impl Iterator<Item = &'c Cpu>,
    count: u64,
    mut line: impl FnMut(Line<'_>),
) {
    line(Line(Packet::Begin(arch::time::frequency())));
    for domain in machine::domains().iter().take(NAMES) {
        line(Line(Packet::Domain(domain.id.0, domain.name.as_bytes())));
    }
    for cpu in of {
        let Some(ring) = cpu.trace.ring.get() else {
            continue;
        };
        let mut reader = Reader::of_last(ring, count);
        // Other CPUs go on writing: what there is now is enough.
        for _ in 0..count {
            match reader.take(ring) {
                Some(Taken::Record(slot)) => {
                    line(Line(Packet::Record(cpu.index as u8, slot.frame())));
                }
                Some(Taken::Lost(count)) => {
                    let count = u32::try_from(count).unwrap_or(u32::MAX);
                    line(Line(Packet::Lost(cpu.index as u8, count)));
                }
                None => break,
            }
        }
    }
}

/// A packet as text: `trace` and hexadecimal digits, which the host's tool finds among other lines.
#[derive(Debug)]
pub(crate) struct Line<'p>(Packet<'p>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("trace ")?;
        let bytes = self.0.bytes();
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What stands at a place of the last records, `last` of each CPU: `line` is given it, if there is something. Where it goes
/// on; `None` at the end. First come the frequency and the domains' names, which the reader must know.
pub(crate) fn tell(
    last: u32,
    place: TracePlace,
    line: impl FnOnce(Line<'_>),
) -> Option<TracePlace> {
    let next = TracePlace {
        part: place.part.saturating_add(1),
        ..TracePlace::default()
    };
    let Some(part) = place.part.checked_sub(1) else {
        line(Line(Packet::Begin(arch::time::frequency())));
        return Some(next);
    };
    let domains = machine::domains();
    if let Some(domain) = domains.get(part) {
        line(Line(Packet::Domain(domain.id.0, domain.name.as_bytes())));
        return Some(next);
    }
    let cpu = cpus::all().get(part.saturating_sub(domains.len()))?;
    let Some(ring) = cpu.trace.ring.get() else {
        return Some(next);
    };
    let (mut reader, left) = if place.left == 0 {
        let reader = Reader::of_last(ring, last.into());
        (reader, reader.waiting(ring).min(last.into()))
    } else {
        (Reader::at(place.record), place.left)
    };
    let told = match reader.take(ring) {
        Some(Taken::Record(slot)) => {
            line(Line(Packet::Record(cpu.index as u8, slot.frame())));
            1
        }
        Some(Taken::Lost(count)) => {
            let told = u32::try_from(count).unwrap_or(u32::MAX);
            line(Line(Packet::Lost(cpu.index as u8, told)));
            count
        }
        None => return Some(next),
    };
    Some(match left.saturating_sub(told) {
        0 => next,
        left => TracePlace {
            record: reader.position(),
            left,
            ..place
        },
    })
}
