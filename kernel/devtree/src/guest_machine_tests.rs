//! Machines of guests whose memory has its place.

use memory::{Pa, PaRange};

use super::*;
use crate::guest::DomainConfig;
use crate::plan::Planner;
use crate::{Tree, fit::Fit};

const BUNDLE: &[u8] = include_bytes!("../tests/data/bundle.fit");
const GIC_V2: &[u8] = include_bytes!("../tests/data/virt-gicv2.dtb");
const GIC_V3: &[u8] = include_bytes!("../tests/data/virt-gicv3.dtb");

fn with(tree: &[u8], change: impl FnOnce(&mut DomainConfig)) -> Result<GuestMachine, Error> {
    let board = Board::from_tree(tree).unwrap();
    let mut planner = Planner::new(&board, Some(Fit::new(BUNDLE).unwrap()));
    let tree = Tree::new(tree).unwrap();
    let mut config = planner.describe(tree, &[], &mut |_| {}).remove(0);
    let piece = |start, size| PaRange::new(Pa::new(start), size).unwrap();
    config.static_memory = vec![piece(0x7000_0000, 48 << 20), piece(0x5000_0000, 16 << 20)];
    change(&mut config);
    GuestMachine::new(&board, &config)
}

#[test]
fn static_memory_alone_changes_nothing_that_the_guest_sees() {
    let machine = with(GIC_V2, |_| {}).unwrap();
    assert_eq!(machine.banks, placement::banks(64 << 20).unwrap());
    assert_eq!(machine.magic, Ipa::new(layout::MAGIC));
    assert_eq!(machine.uart.unwrap().1, 32);
}

#[test]
fn a_direct_mapped_guest_has_the_boards_addresses() {
    for (tree, is_v3) in [(GIC_V2, false), (GIC_V3, true)] {
        let machine = with(tree, |config| config.direct_map = true).unwrap();
        let banks: Vec<_> = machine
            .banks
            .iter()
            .map(|bank| bank.start().get())
            .collect();
        assert_eq!(banks, [0x7000_0000, 0x5000_0000]);
        match machine.gic {
            GuestGic::V2 {
                distributor,
                cpu_interface,
            } => {
                assert!(!is_v3);
                assert_eq!(distributor.start(), Ipa::new(0x0800_0000));
                assert_eq!(cpu_interface, range(0x0801_0000, 0x2000).unwrap());
            }
            GuestGic::V3 {
                distributor,
                redistributors,
            } => {
                assert!(is_v3);
                assert_eq!(distributor.start(), Ipa::new(0x0800_0000));
                assert_eq!(redistributors, range(0x080a_0000, 2 * 0x2_0000).unwrap());
            }
        }
        // The board's console, and its interrupt, which needs its word of shared ones.
        assert_eq!(
            machine.uart,
            Some((range(0x0900_0000, 0x1000).unwrap(), 33))
        );
        assert!(machine.spis >= 2);
        // Above the board's RAM, and above 4 GiB.
        let window = machine.grant_window;
        assert_eq!(window.start(), Ipa::new(1 << 32));
        assert_eq!(machine.magic, window.end());
        let rest = machine.extended_regions[0];
        assert_eq!(rest.start(), Ipa::new((1 << 32) + (32 << 20)));
        assert_eq!(rest.end(), Ipa::new(2 << 32));
    }
}

#[test]
fn a_direct_mapped_guest_has_no_more_redistributors_than_the_board() {
    let many = with(GIC_V3, |config| {
        config.direct_map = true;
        config.vcpus = 124;
    });
    assert_eq!(
        many.unwrap_err(),
        Error::NoPlace("a redistributor for each vCPU")
    );
}

fn shared(start: u64, size: u64) -> crate::guest::SharedMemory {
    crate::guest::SharedMemory {
        node: "shm".into(),
        id: "mailbox".into(),
        host: None,
        guest: range(start, size).unwrap(),
        owner: false,
    }
}

#[test]
fn shared_memory_is_cut_out_of_what_is_free_for_grants() {
    let machine = with(GIC_V3, |config| {
        config.shared = vec![shared(0x6000_0000, 0x1000), shared(0x6040_0000, 0x1000)];
    });
    let regions: Vec<_> = machine
        .unwrap()
        .extended_regions
        .iter()
        .take(2)
        .copied()
        .collect();
    let between = |start, end| IpaRange::between(Ipa::new(start), Ipa::new(end)).unwrap();
    assert_eq!(
        regions,
        [
            between(0x4400_0000, 0x6000_0000),
            between(0x6060_0000, 0x1_0000_0000)
        ]
    );
}

#[test]
fn shared_memory_keeps_clear_of_the_guests_devices() {
    for start in [
        layout::GICV3_DISTRIBUTOR - 1,
        layout::VPL011,
        layout::GRANT_TABLE,
        layout::MAGIC,
    ] {
        let start = start & !0xfff;
        let machine = with(GIC_V3, |config| config.shared = vec![shared(start, 0x2000)]);
        assert_eq!(machine.unwrap_err(), Error::SharedPlace(0), "{start:#x}");
    }
}
