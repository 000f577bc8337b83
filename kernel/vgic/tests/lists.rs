//! The raw formats of list registers (IHI0048B 5.3.9, IHI0069 12.4.10), and which interrupts get one.

use proptest::prelude::*;
use viaduct_vgic::{Candidate, IntId, Link, ListRegister, MAX_LISTS, Maintenance, Version, choose};

fn intid(number: u32) -> IntId {
    IntId::new(number).unwrap()
}

fn software(source: u8, end_notice: bool) -> Link {
    Link::Software { source, end_notice }
}

#[test]
fn raw_formats() {
    let timer = ListRegister {
        intid: intid(27),
        priority: 0xa0,
        pending: true,
        active: false,
        link: Link::Hardware(intid(30)),
    };
    // HW 31, State 29:28, Priority 27:23, PhysicalID 19:10, VirtualID 9:0.
    let v2 = 1 << 31 | 1 << 28 | 0x14 << 23 | 30 << 10 | 27;
    assert_eq!(timer.encode(Version::V2), v2);
    // State 63:62, HW 61, Group 60, Priority 55:48, pINTID 44:32, vINTID 31:0.
    let v3 = 1 << 62 | 1 << 61 | 1 << 60 | 0xa0 << 48 | 30 << 32 | 27;
    assert_eq!(timer.encode(Version::V3), v3);
    let sgi = ListRegister {
        intid: intid(9),
        priority: 0x08,
        pending: true,
        active: true,
        link: software(5, true),
    };
    // EOI 19, CPUID 12:10.
    let v2 = 3 << 28 | 1 << 23 | 1 << 19 | 5 << 10 | 9;
    assert_eq!(sgi.encode(Version::V2), v2);
    // EOI 41.
    let v3 = 3 << 62 | 1 << 60 | 8 << 48 | 1 << 41 | 9;
    assert_eq!(sgi.encode(Version::V3), v3);
}

#[test]
fn numbers_that_are_never_listed() {
    assert!(ListRegister::decode(1 << 62 | 8192, Version::V3).is_none());
    assert!(ListRegister::decode(1 << 28 | 1023, Version::V2).is_none());
}

/// IHI0048B 5.3.2: UIE 1, LRENPIE 2, NPIE 3.
#[test]
fn maintenance_bits() {
    assert_eq!(Maintenance::UNLISTED_END.bits(), 0b100);
    assert_eq!(Maintenance::NONE_PENDING.bits(), 0b1000);
}

#[test]
fn one_that_is_pending_always_gets_in() {
    let active = (0..4).map(|n| Candidate::new(intid(32 + n), 0x10, true));
    let pending = (0..3).map(|n| Candidate::new(intid(40 + n), 0xf0 - 8 * n as u8, false));
    let choice = choose(active.chain(pending), 4);
    let chosen: Vec<u32> = choice
        .chosen()
        .iter()
        .filter_map(|one| one.intid())
        .map(IntId::get)
        .collect();
    assert_eq!(chosen, [32, 33, 34, 42]);
    let both = Maintenance::NONE_PENDING.union(Maintenance::UNLISTED_END);
    assert_eq!(choice.maintenance(), both);
}

fn candidate() -> impl Strategy<Value = (u32, u8, bool)> {
    (0_u32..1020, 0_u8..32, any::<bool>())
        .prop_map(|(number, level, active)| (number, level << 3, active))
}

proptest! {
    #[test]
    fn formats_keep_everything(
        number in 0_u32..1020,
        level in 0_u8..32,
        state in 0_u8..4,
        link in prop_oneof![
            (0_u8..8, any::<bool>()).prop_map(|(source, notice)| software(source, notice)),
            (0_u32..1020).prop_map(|physical| Link::Hardware(intid(physical))),
        ],
        version in prop_oneof![Just(Version::V2), Just(Version::V3)],
    ) {
        let link = match (version, link) {
            (Version::V3, Link::Software { end_notice, .. }) => software(0, end_notice),
            (_, link) => link,
        };
        let list = ListRegister {
            intid: intid(number),
            priority: level << 3,
            pending: state & 1 != 0,
            active: state & 2 != 0,
            link,
        };
        prop_assert_eq!(ListRegister::decode(list.encode(version), version), Some(list));
        prop_assert!(version == Version::V3 || list.encode(version) >> 32 == 0);
    }

    #[test]
    fn any_raw_value_decodes_or_not(raw: u64) {
        let _ = ListRegister::decode(raw, Version::V2);
        let _ = ListRegister::decode(raw, Version::V3);
    }

    #[test]
    fn the_most_urgent_get_in(
        offered in proptest::collection::vec(candidate(), 0..40),
        capacity in 1_usize..20,
    ) {
        let room = capacity.min(MAX_LISTS);
        let all: Vec<Candidate> = offered
            .iter()
            .map(|&(number, priority, active)| Candidate::new(intid(number), priority, active))
            .collect();
        let choice = choose(all.iter().copied(), capacity);
        let mut sorted = all.clone();
        sorted.sort();
        let fits = sorted.len() <= room;
        let first: Vec<Candidate> = sorted.iter().copied().take(room).collect();
        let pending = |list: &[Candidate]| {
            list.iter().any(|one| offered.iter().any(|&(number, priority, active)| {
                !active && *one == Candidate::new(intid(number), priority, false)
            }))
        };
        if fits || pending(&first) || !pending(&sorted) {
            prop_assert_eq!(choice.chosen(), &first[..]);
        } else {
            prop_assert_eq!(&choice.chosen()[..room - 1], &first[..room - 1]);
            prop_assert!(pending(choice.chosen()));
        }
        prop_assert_eq!(choice.maintenance() == Maintenance::NONE, fits);
    }
}
