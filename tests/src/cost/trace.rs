//! What the trace costs, by operations that it records.

use super::{Costs, operations_of};
use crate::images::Image;
use crate::machine::Gic;

/// An operation that the trace records.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// Its name.
    pub name: &'static str,
    /// Records of one such operation.
    pub records: u32,
    /// Points on its way that ask whether the trace is on; the rest is in vectors of the trace's own.
    pub points: u32,
}

/// What a record may cost, in instructions.
pub const RECORD: f64 = 100.0;
/// What a point may cost while the trace is off.
pub const POINT: f64 = 3.0;

/// Operations by which the cost of the trace is measured.
pub const RECORDED: [Recorded; 7] = [
    recorded("null-hypercall", 2, 0),
    recorded("psci-version-hvc", 2, 0),
    recorded("id-register", 2, 0),
    recorded("gicd-typer", 2, 0),
    recorded("event-send-masked", 3, 1),
    recorded("grant-map-unmap", 6, 2),
    recorded("two-switches", 10, 6),
];

const fn recorded(name: &'static str, records: u32, points: u32) -> Recorded {
    Recorded {
        name,
        records,
        points,
    }
}

/// Operations with the trace on; nothing is sent.
#[must_use]
pub fn operations_traced(gic: Gic) -> Costs {
    operations_of(gic, Image::Release, "trace=on")
}

/// Operations on an image without the points of the trace.
#[must_use]
pub fn operations_untraced(gic: Gic) -> Costs {
    operations_of(gic, Image::Untraced, "")
}

/// What `with` adds to an operation beside `without`.
#[must_use]
pub fn added(with: &Costs, without: &Costs, name: &str) -> f64 {
    let of = |costs: &Costs| {
        let found = costs.iter().find(|(known, _)| known == name);
        found.map_or(f64::NAN, |(_, cost)| *cost)
    };
    of(with) - of(without)
}
