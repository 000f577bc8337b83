//! Random steps of guests and devices.

use proptest::prelude::*;

use crate::reference::VCPUS;

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Enable {
        by: u32,
        intid: u32,
        on: bool,
    },
    Pend {
        by: u32,
        intid: u32,
        on: bool,
    },
    Activate {
        by: u32,
        intid: u32,
        on: bool,
    },
    Priority {
        by: u32,
        intid: u32,
        level: u8,
    },
    Route {
        by: u32,
        intid: u32,
        to: u32,
    },
    Configure {
        by: u32,
        intid: u32,
        edge: bool,
    },
    Control {
        by: u32,
        on: bool,
    },
    Sgi {
        by: u32,
        to: u32,
        number: u32,
    },
    Source {
        by: u32,
        number: u32,
        source: u32,
        on: bool,
    },
    Pulse {
        at: Option<u32>,
        to: u32,
        intid: u32,
    },
    Level {
        at: Option<u32>,
        intid: u32,
        high: bool,
    },
    Timer {
        of: u32,
        high: bool,
    },
    Acknowledge {
        by: u32,
    },
    End {
        by: u32,
    },
    Deactivate {
        by: u32,
        which: usize,
    },
    Leave {
        who: u32,
    },
    Arrive {
        who: u32,
        cpu: usize,
    },
}

impl Step {
    /// The vCPU that must be on a CPU to do this.
    pub(crate) fn actor(&self) -> Option<u32> {
        match *self {
            Self::Enable { by, .. }
            | Self::Pend { by, .. }
            | Self::Activate { by, .. }
            | Self::Priority { by, .. }
            | Self::Route { by, .. }
            | Self::Configure { by, .. }
            | Self::Control { by, .. }
            | Self::Sgi { by, .. }
            | Self::Source { by, .. }
            | Self::Acknowledge { by }
            | Self::Deactivate { by, .. }
            | Self::End { by } => Some(by),
            Self::Timer { of: who, .. } | Self::Leave { who } => Some(who),
            Self::Pulse { .. } | Self::Level { .. } | Self::Arrive { .. } => None,
        }
    }
}

const SPIS: [u32; 6] = [32, 33, 40, 63, 64, 95];

pub(crate) fn steps(overflow: bool) -> impl Strategy<Value = Vec<Step>> {
    let by = || 0..VCPUS;
    let at = || proptest::option::of(0..VCPUS);
    let spi = || proptest::sample::select(&SPIS);
    let any_intid = || {
        prop_oneof![
            3 => proptest::sample::select(&SPIS),
            2 => 0_u32..4,
            1 => Just(31_u32),
            1 => Just(27_u32),
        ]
    };
    // Nothing but its line and a register write makes a timer's interrupt pending.
    let soft = || {
        prop_oneof![
            3 => proptest::sample::select(&SPIS),
            2 => 0_u32..4,
            1 => Just(31_u32),
        ]
    };
    let register = prop_oneof![
        4 => (by(), any_intid(), any::<bool>()).prop_map(|(by, intid, on)| Step::Enable { by, intid, on }),
        2 => (by(), any_intid(), any::<bool>()).prop_map(|(by, intid, on)| Step::Pend { by, intid, on }),
        2 => (by(), any_intid(), 0_u8..32).prop_map(|(by, intid, level)| Step::Priority { by, intid, level }),
        2 => (by(), spi(), 0..VCPUS + 1).prop_map(|(by, intid, to)| Step::Route { by, intid, to }),
        1 => (by(), spi(), any::<bool>()).prop_map(|(by, intid, edge)| Step::Configure { by, intid, edge }),
        1 => (by(), prop::bool::weighted(0.8)).prop_map(|(by, on)| Step::Control { by, on }),
        2 => (by(), 0_u32..4, 0..VCPUS, any::<bool>()).prop_map(|(by, number, source, on)| Step::Source { by, number, source, on }),
    ];
    let arrival = prop_oneof![
        (by(), by(), 0_u32..4).prop_map(|(by, to, number)| Step::Sgi { by, to, number }),
        (at(), by(), soft()).prop_map(|(at, to, intid)| Step::Pulse { at, to, intid }),
        (at(), spi(), any::<bool>()).prop_map(|(at, intid, high)| Step::Level { at, intid, high }),
        (by(), any::<bool>()).prop_map(|(of, high)| Step::Timer { of, high }),
    ];
    let activate = (by(), any_intid(), any::<bool>()).prop_map(|(by, intid, on)| Step::Activate {
        by,
        intid,
        on,
    });
    let guest = prop_oneof![
        3 => by().prop_map(|by| Step::Acknowledge { by }),
        3 => by().prop_map(|by| Step::End { by }),
        2 => (by(), 0_usize..8).prop_map(|(by, which)| Step::Deactivate { by, which }),
        1 => by().prop_map(|who| Step::Leave { who }),
        2 => (by(), 0_usize..3).prop_map(|(who, cpu)| Step::Arrive { who, cpu }),
    ];
    // An end without a list register names no interrupt: which one it was is only certain while
    // ends nest, so where list registers are few the guest does not touch active states itself.
    let active = u32::from(!overflow);
    let step = prop_oneof![6 => register, 6 => arrival, 6 => guest, active => activate];
    proptest::collection::vec(step, 1..150)
}
