//! Plans: the bundle of the tests on the boards of the tests.

use memory::{Ipa, Pa};

use crate::guest_tree::GuestGic;

use super::*;

const BUNDLE: &[u8] = include_bytes!("../tests/data/bundle.fit");
const GIC_V2: &[u8] = include_bytes!("../tests/data/virt-gicv2.dtb");
const GIC_V3: &[u8] = include_bytes!("../tests/data/virt-gicv3.dtb");

fn nothing_in_memory(_: PaRange) -> &'static [u8] {
    panic!("a bundle's files are in the bundle")
}

/// Reads the bundle on a board, and hands planner and descriptions on.
fn with_bundle(tree: &[u8], then: impl FnOnce(&mut Planner<'_, '_>, &[DomainConfig])) {
    let board = Board::from_tree(tree).unwrap();
    let mut planner = Planner::new(&board, Some(Fit::new(BUNDLE).unwrap()));
    let configs = planner.describe(Tree::new(tree).unwrap(), &[], &mut |problem| {
        panic!("{problem}")
    });
    then(&mut planner, &configs);
}

/// The descriptions of the bundle, for other tests.
pub(crate) fn described(then: impl FnOnce(&[DomainConfig])) {
    with_bundle(GIC_V3, |_, configs| then(configs));
}

#[test]
fn a_machine_has_the_boards_gic() {
    for (tree, is_v3) in [(GIC_V2, false), (GIC_V3, true)] {
        with_bundle(tree, |planner, configs| {
            let machine = GuestMachine::new(planner.board, &configs[0]).unwrap();
            match machine.gic {
                GuestGic::V2 { cpu_interface, .. } => {
                    assert!(!is_v3);
                    assert_eq!(cpu_interface.start(), Ipa::new(0x0300_2000));
                }
                GuestGic::V3 { redistributors, .. } => {
                    assert!(is_v3);
                    assert_eq!(redistributors.size(), 2 * 0x2_0000);
                }
            }
            assert_eq!((machine.chunks, machine.spis), (32, 32));
            assert_eq!(machine.affinities, [0, 1]);
            assert_eq!(machine.uart.unwrap().1, 32);
            assert!(machine.enhanced);
            let small = GuestMachine::new(planner.board, &configs[1]).unwrap();
            assert!(small.uart.is_none() && !small.enhanced);
            assert_eq!(small.chunks, 2);
        });
    }
}

#[test]
fn the_uart_has_an_interrupt_however_few_are_asked_for() {
    with_bundle(GIC_V3, |planner, configs| {
        let mut config = configs[0].clone();
        for (asked, vpl011, spis) in [
            (None, false, 32),
            (Some(0), false, 0),
            (Some(0), true, 1),
            (Some(64), true, 64),
        ] {
            (config.spis, config.vpl011) = (asked, vpl011);
            assert_eq!(
                GuestMachine::new(planner.board, &config).unwrap().spis,
                spis
            );
        }
    });
}

#[test]
fn a_plan_from_the_bundle() {
    with_bundle(GIC_V3, |planner, configs| {
        let mut plan = |number: usize| {
            let plan = planner.plan(number, &configs[number], &|range| nothing_in_memory(range));
            plan.unwrap()
        };
        let (web, tick) = (plan(0), plan(1));
        assert_eq!((web.id, tick.id), (DomainId(1), DomainId(2)));
        assert_eq!(web.place.initrd.unwrap().size(), web.ramdisk.len() as u64);
        assert_eq!((tick.ramdisk, tick.place.initrd), (&[][..], None));
        let tree = Tree::new(&web.tree).unwrap();
        assert_eq!(
            tree.find("/chosen").unwrap().str("bootargs"),
            Some("console=hvc0")
        );
        assert!(tree.find("/hypervisor").is_some());
        assert!(Tree::new(&tick.tree).unwrap().find("/hypervisor").is_none());
        // Two guests of one image: hashed once.
        assert_eq!(planner.checked, ["kernel-1", "ramdisk-1"]);
    });
}

#[test]
fn a_plan_from_memory() {
    with_bundle(GIC_V3, |planner, configs| {
        let fit = planner.bundle.unwrap();
        let image = fit.image("kernel-1").unwrap().data;
        let mut config = configs[1].clone();
        let range = PaRange::new(Pa::new(0x4800_0000), image.len() as u64).unwrap();
        config.kernel = ModuleSource::Memory(range);
        assert_eq!(modules(std::slice::from_ref(&config)), [range]);
        let mut planner = Planner::new(planner.board, None);
        let plan = planner.plan(4, &config, &|asked| {
            assert_eq!(asked, range);
            image
        });
        let plan = plan.unwrap();
        assert_eq!(
            (plan.id, plan.place.entry),
            (DomainId(5), placement::BANK_0)
        );
        assert_eq!(plan.kernel_file, image);
        assert_eq!(
            plan.line(&config, [3].into_iter()),
            "tick: domain 5, 4 MiB, 1 vCPU on CPU 3, entry 0x40000000"
        );
        let text = planner.plan(4, &config, &|_| b"no kernel");
        assert_eq!(text.unwrap_err(), Error::UnknownKernel);
    });
}

#[test]
fn a_damaged_file_is_no_plan() {
    let mut bundle = BUNDLE.to_vec();
    let data = Fit::new(BUNDLE).unwrap().image("kernel-1").unwrap().data;
    let at = data.as_ptr().addr() - BUNDLE.as_ptr().addr();
    bundle[at + data.len() - 1] ^= 1;
    let board = Board::from_tree(GIC_V3).unwrap();
    let mut planner = Planner::new(&board, Some(Fit::new(&bundle).unwrap()));
    let configs = planner.describe(Tree::new(GIC_V3).unwrap(), &[], &mut |_| {});
    let plan = planner.plan(0, &configs[0], &|range| nothing_in_memory(range));
    assert_eq!(plan.unwrap_err(), Error::HashMismatch("crc32"));
    assert!(planner.checked.is_empty());
}

#[test]
fn the_input_goes_to_who_asks_and_is_there() {
    with_bundle(GIC_V3, |_, configs| {
        let [web, tick] = [DomainId(1), DomainId(2)];
        assert_eq!(focus(configs, &[web, tick]), Some(web));
        assert_eq!(focus(configs, &[tick]), Some(tick));
        assert_eq!(focus(configs, &[]), None);
        let other_order: Vec<_> = configs.iter().rev().cloned().collect();
        assert_eq!(focus(&other_order, &[web, tick]), Some(tick));
    });
}

/// Each error of building has a line that names node, property, found and expected.
#[test]
fn what_could_not_be_built_is_told() {
    with_bundle(GIC_V3, |_, configs| {
        let cases = [
            (
                Error::UnknownKernel,
                "/chosen/web/kernel: image: found neither an arm64 Image nor an AArch64 ELF file, expected an Image",
            ),
            (
                Error::KernelKind("a uImage"),
                "/chosen/web/kernel: image: found a uImage is not supported, expected an Image",
            ),
            (
                Error::Kernel("text offset"),
                "/chosen/web/kernel: image: found kernel file: bad text offset, expected a sound file",
            ),
            (
                Error::HashMismatch("sha1"),
                "/chosen/web/kernel: image: found data does not match its sha1, expected a sound file",
            ),
            (
                Error::RamdiskHashMismatch("crc32"),
                "/chosen/web/ramdisk: image: found data does not match its crc32, expected a sound file",
            ),
            (
                Error::NotEnoughMemory {
                    wanted: 4 << 20,
                    free: 2 << 20,
                },
                "/chosen/web: memory: found 2048 KiB free, expected 4096 KiB",
            ),
            (
                Error::DoesNotFit("the kernel"),
                "/chosen/web: memory: found 65536 KiB, expected room for the kernel",
            ),
            (
                Error::NoCpu,
                "/chosen/web: found hard-affinity: no CPU of it is up, expected a guest that can",
            ),
        ];
        for (error, expected) in cases {
            let told = problem(&configs[0], &error).to_string();
            assert!(told.starts_with(expected), "{told}");
            assert!(told.ends_with("; guest left out"), "{told}");
        }
    });
}

/// Where a packed kernel is cut off, anything stands in place of its length: that the file is damaged is what is told.
#[test]
fn a_packed_kernel_that_was_cut_off_is_damaged() {
    let mut kernel: Vec<u8> = (0..200_000_u32)
        .map(|number| (number.wrapping_mul(0x9e37_79b9) >> 24) as u8)
        .collect();
    kernel[..64].fill(0);
    kernel[56..60].copy_from_slice(b"ARM\x64");
    let packed = crate::gzip::tests::pack(&kernel, 0, &[]).leak();
    with_bundle(GIC_V3, |planner, configs| {
        let mut config = configs[0].clone();
        let range = PaRange::new(Pa::new(0x5000_0000), packed.len() as u64).unwrap();
        config.kernel = ModuleSource::Memory(range);
        let mut too_long = 0;
        for cut in (100..packed.len()).step_by(97) {
            let file = &packed[..cut];
            let length = u32::from_le_bytes(*file.last_chunk().unwrap());
            too_long += u32::from(u64::from(length) > config.memory);
            match planner.plan(0, &config, &|_| file) {
                // It fits, and unpacking it will tell.
                Ok(_) => assert!(u64::from(length) <= config.memory, "{cut}"),
                Err(Error::Kernel(_)) => {}
                Err(error) => panic!("{cut}: {error}"),
            }
        }
        assert!(too_long > 0);
        // One that is whole and too large is told as that.
        config.memory = 4 << 20;
        let mut large = kernel.clone();
        large[16..24].copy_from_slice(&(64_u64 << 20).to_le_bytes());
        let large = crate::gzip::tests::pack(&large, 0, &[]).leak();
        assert_eq!(
            planner.plan(0, &config, &|_| &*large).map(|_| ()),
            Err(Error::DoesNotFit("the kernel"))
        );
    });
}

#[test]
fn more_than_39_bits_of_address_are_only_for_who_needs_them() {
    described(|configs| {
        let mut configs: Vec<DomainConfig> = configs.to_vec();
        assert_eq!(ipa_bits(&configs), 39);
        let changes: [fn(&mut DomainConfig); 3] = [
            |config| config.memory = placement::BANK_0_SIZE + (1 << 39),
            |config| config.direct_map = true,
            |config| config.device_tree = Some(config.kernel.clone()),
        ];
        for change in changes {
            let before = configs[1].clone();
            change(&mut configs[1]);
            assert_eq!(ipa_bits(&configs), 40);
            configs[1] = before;
        }
        configs[1].memory = placement::BANK_0_SIZE + (1 << 39) - placement::BANK_1.get();
        assert_eq!(ipa_bits(&configs), 39);
    });
}
