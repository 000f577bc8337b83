//! The drivers over ordinary memory: what they compute and where they write it.

use core::sync::atomic::Ordering::Relaxed;

use memory::{Pa, PaRange};

use super::{Acknowledged, Error, Gic, IntId, Trigger, VirtualState};
use crate::mmio::tests::Block;

struct V2 {
    distributor: &'static Block,
    cpu: &'static Block,
    hypervisor: &'static Block,
    gic: Gic,
}

fn range(block: &Block, size: u64) -> PaRange {
    PaRange::new(Pa::new(block.base() as u64), size).unwrap()
}

fn v2() -> V2 {
    let (distributor, cpu, hypervisor) =
        (Block::new(0x1000), Block::new(0x2000), Block::new(0x1000));
    // 160 interrupts, four CPUs; four list registers.
    distributor.set(0x4, 3 << 5 | 4);
    hypervisor.set(0x4, 3);
    // SAFETY: ordinary memory that is never freed.
    let gic = unsafe {
        Gic::v2(
            range(distributor, 0x1000),
            range(cpu, 0x2000),
            range(hypervisor, 0x1000),
        )
    };
    V2 {
        distributor,
        cpu,
        hypervisor,
        gic: gic.unwrap(),
    }
}

fn spi(number: u32) -> IntId {
    IntId::new(number + 32).unwrap()
}

#[test]
fn v2_distributor_starts_from_a_known_state() {
    let v2 = v2();
    assert_eq!(v2.gic.interrupts(), 160);
    for word in 0..6 {
        v2.distributor.set(0x80 + 4 * word, !0);
    }
    v2.gic.init_distributor().unwrap();
    for word in 1..5 {
        assert_eq!(v2.distributor.get(0x80 + 4 * word), 0, "group");
        for clear in [0x180, 0x280, 0x380] {
            assert_eq!(v2.distributor.get(clear + 4 * word), !0);
        }
    }
    // Private interrupts are each CPU's business, and what lies beyond is not touched.
    assert_eq!(
        (v2.distributor.get(0x80), v2.distributor.get(0x94)),
        (!0, !0)
    );
    assert_eq!(
        (v2.distributor.get(0x400), v2.distributor.get(0x420)),
        (0, 0xa0a0_a0a0)
    );
    assert_eq!(
        (v2.distributor.get(0x49c), v2.distributor.get(0x4a0)),
        (0xa0a0_a0a0, 0)
    );
    assert_eq!(v2.distributor.get(0), 1);
}

#[test]
fn v2_targets_are_the_numbers_that_the_cpus_found() {
    let v2 = v2();
    // Logical CPU 0 sits at interface 2; the first words of its targets read as 0, as on some boards.
    v2.distributor.set(0x808, 0x0404_0404);
    v2.gic.init_cpu(0, 0x8000_0000).unwrap();
    v2.distributor.set(0x808, 0x0101_0101);
    v2.gic.init_cpu(3, 0x8000_0003).unwrap();

    v2.gic.set_target(spi(1), 0).unwrap();
    v2.gic.set_target(spi(2), 3).unwrap();
    assert_eq!(v2.distributor.get(0x820), 0x0001_0400);
    v2.gic.send_sgi(0, 5).unwrap();
    assert_eq!(v2.distributor.get(0xf00), 4 << 16 | 5);

    assert_eq!(v2.gic.send_sgi(1, 0), Err(Error::CpuNumber(1)));
    assert_eq!(v2.gic.set_target(spi(1), 16), Err(Error::CpuNumber(16)));
    let timer = IntId::new(27).unwrap();
    assert_eq!(v2.gic.set_target(timer, 0), Err(Error::NotShared(timer)));
}

#[test]
fn v2_cpu_without_a_number() {
    let v2 = v2();
    assert_eq!(v2.gic.init_cpu(0, 0), Err(Error::NoCpuInterface));
    v2.distributor.set(0x4, 4);
    v2.gic.init_cpu(0, 0).unwrap();
    v2.gic.send_sgi(0, 0).unwrap();
    assert_eq!(v2.distributor.get(0xf00), 1 << 16);
}

#[test]
fn v2_cpu_interface_splits_ends_and_keeps_the_bypass() {
    let v2 = v2();
    v2.distributor.set(0x800, 1);
    v2.cpu.set(0, 0x1e7);
    v2.gic.init_cpu(0, 0).unwrap();
    assert_eq!(v2.cpu.get(0), 0x3e1);
    assert_eq!(v2.cpu.get(4), 0xff);

    v2.cpu.set(0xc, 0x1c05);
    let taken = v2.gic.acknowledge().unwrap();
    assert_eq!(taken.intid(), IntId::new(5).unwrap());
    v2.gic.priority_drop(taken);
    v2.gic.deactivate(taken);
    // An SGI is ended with its sender.
    assert_eq!((v2.cpu.get(0x10), v2.cpu.get(0x1000)), (0x1c05, 0x1c05));
    for nothing in 1020..1024 {
        v2.cpu.set(0xc, nothing);
        assert!(v2.gic.acknowledge().is_none());
    }
}

#[test]
fn bits_are_where_the_interrupt_is() {
    let v2 = v2();
    let intid = spi(97 - 32);
    v2.gic.enable(0, intid).unwrap();
    assert_eq!(v2.distributor.get(0x10c), 1 << 1);
    v2.gic.disable(0, intid).unwrap();
    assert_eq!(v2.distributor.get(0x18c), 1 << 1);
    v2.gic.clear_pending(0, intid).unwrap();
    assert_eq!(v2.distributor.get(0x28c), 1 << 1);
    v2.gic.set_active(0, intid, true).unwrap();
    assert_eq!(v2.distributor.get(0x30c), 1 << 1);
    assert!(v2.gic.is_active(0, intid).unwrap() && !v2.gic.is_active(0, spi(64 - 32)).unwrap());
    v2.gic.set_active(0, intid, false).unwrap();
    assert_eq!(v2.distributor.get(0x38c), 1 << 1);

    v2.distributor.set(0xc18, 0x5555_5555);
    v2.gic.set_trigger(0, intid, Trigger::Edge).unwrap();
    assert_eq!(v2.distributor.get(0xc18), 0x5555_555d);
    v2.gic.set_trigger(0, intid, Trigger::Level).unwrap();
    assert_eq!(v2.distributor.get(0xc18), 0x5555_5555);
}

#[test]
fn an_interrupt_beyond_the_last_is_nobodys() {
    let v2 = v2();
    v2.gic.claim(0, spi(100)).unwrap();
    assert_eq!(v2.distributor.get(0x190), 1 << 4);
    let beyond = spi(160 - 32);
    assert_eq!(v2.gic.claim(0, beyond), Err(Error::Kept(beyond)));
    assert!(IntId::new(1019).is_some() && IntId::new(1020).is_none());
}

#[test]
fn v2_list_registers_and_control() {
    let v2 = v2();
    assert_eq!(v2.gic.list_count(), 4);
    v2.gic.write_list(3, 0xffff_ffff_1234_5678);
    assert_eq!(
        (v2.hypervisor.get(0x10c), v2.gic.read_list(3)),
        (0x1234_5678, 0x1234_5678)
    );
    v2.hypervisor.set(0x30, 0x7);
    assert_eq!(v2.gic.empty_lists(), 7);

    v2.hypervisor.set(0, 3 << 27);
    v2.gic.enable_virtual(true);
    v2.gic.set_maintenance(1 << 3 | 1 << 2);
    assert_eq!(v2.hypervisor.get(0), 3 << 27 | 0xd);
    v2.gic.set_maintenance(1 << 2);
    assert_eq!((v2.gic.take_end_count(), v2.gic.take_end_count()), (3, 0));
    assert_eq!(v2.hypervisor.get(0), 0x5);

    v2.gic.set_vmcr(0xf800_0001);
    v2.hypervisor.set(0xf0, 0x10);
    let words = |state: &VirtualState| {
        let VirtualState {
            vmcr,
            active_priorities,
        } = state;
        (vmcr.load(Relaxed), active_priorities[0].load(Relaxed))
    };
    let state = VirtualState::default();
    v2.gic.save_virtual(&state);
    assert_eq!(words(&state), (0xf800_0001, 0x10));
    v2.gic.load_virtual(&Default::default());
    assert_eq!((v2.hypervisor.get(0x8), v2.hypervisor.get(0xf0)), (0, 0));
    v2.gic.load_virtual(&state);
    let again = VirtualState::default();
    v2.gic.save_virtual(&again);
    assert_eq!(words(&again), words(&state));
    again.reset();
    assert_eq!(words(&again), (0, 0));
}

#[test]
fn a_small_region_is_refused() {
    let block = Block::new(0x2000);
    let (whole, half) = (range(block, 0x2000), range(block, 0x1000));
    // SAFETY: ordinary memory; the CPU interface is refused for want of its second page.
    let result = unsafe { Gic::v2(whole, half, whole) };
    assert_eq!(result.err(), Some(Error::Region(half)));
}

/// Redistributors of these affinities; `stride` frames of 64 KiB each.
fn redistributors(affinities: &[u32], stride: usize, last: bool) -> &'static Block {
    let block = Block::new((affinities.len() * stride) << 16);
    for (index, &affinity) in affinities.iter().enumerate() {
        let base = (index * stride) << 16;
        let is_last = last && index == affinities.len() - 1;
        block.set(
            base + 8,
            u32::from(is_last) << 4 | u32::from(stride == 4) << 1,
        );
        block.set(base + 12, affinity);
    }
    block
}

#[test]
fn v3_finds_redistributors_in_all_regions() {
    let distributor = Block::new(0x1_0000);
    distributor.set(0x4, 2);
    // A region longer than its redistributors, which says which is the last; and one of GICv4.
    let first = redistributors(&[0x000, 0x001, 0xdead], 2, false);
    first.set(0x2_0008, 1 << 4);
    let second = redistributors(&[0x100, 0x0100_0100], 4, false);
    let regions = [range(first, 0x6_0000), range(second, 0x8_0000)];
    // SAFETY: ordinary memory that is never freed.
    let gic = unsafe { Gic::v3(range(distributor, 0x1_0000), &regions) }.unwrap();
    assert_eq!(gic.regions().len(), 3);
    let Gic::V3(v3) = &gic else { unreachable!() };
    assert_eq!(
        v3.affinities().collect::<Vec<_>>(),
        [0, 1, 0x100, 0x0100_0100]
    );

    gic.init_distributor().unwrap();
    assert_eq!(distributor.get(0), 0x12);
    assert_eq!((distributor.get(0x84), distributor.get(0x88)), (!0, !0));
    assert_eq!(gic.init_cpu(0, 0x8000_0002), Err(Error::NoRedistributor(2)));
    assert_eq!(
        gic.enable(0, IntId::new(27).unwrap()),
        Err(Error::CpuNumber(0))
    );
}

#[test]
fn acknowledged_filters_what_is_no_interrupt() {
    assert!(Acknowledged::new(1023).is_none());
    assert_eq!(Acknowledged::new(0x401).unwrap().intid().get(), 1);
}
