//! `just inspect` tells before the boot what the hypervisor says at the boot: CPUs, free memory, and of each guest
//! its id, its CPUs and its entry.

use std::path::PathBuf;
use std::sync::LazyLock;

use viaduct_inspect::{Fate, Inputs, Report, image_size};
use viaduct_tests::demo::Contents;
use viaduct_tests::{Gic, Image, Machine, lines, seconds};

fn what_is_told_comes_true(name: &str, machine: Machine) {
    // Written once: the machines of this file boot side by side.
    static BUNDLE: LazyLock<PathBuf> = LazyLock::new(|| Contents::Demo.bundle(None, None).unwrap());
    let bundle = BUNDLE.as_path();
    let machine = machine.bundle(bundle);
    let tree = machine.tree_at_boot(name).unwrap();
    let bundle = std::fs::read(bundle).unwrap();
    let report = Report::new(&Inputs {
        tree: &tree,
        bundle: Some(&bundle),
        image_size: image_size(&Image::Release.path()).unwrap(),
        modules: &[],
    });
    let report = report.unwrap();
    assert!(report.all_well(), "{report}");
    let text = report.to_string();
    std::fs::write(
        viaduct_tests::scratch().join(format!("{name}.report")),
        &text,
    )
    .unwrap();
    let all = report.board.cpus.len() + report.board.cpus_left_out;
    let mut told = vec![format!("CPUs: {} of {all} up", report.cpus.len())];
    let memory = text.lines().find(|line| line.starts_with("memory: "));
    told.push(memory.unwrap().to_owned());
    for guest in &report.guests {
        let Fate::Built(plan) = &guest.fate else {
            panic!("{} is not built: {report}", guest.config.name);
        };
        told.push(plan.line(&guest.config, guest.homes.iter().copied()));
    }
    assert_eq!(told.len(), 5, "Linux and two unikernels: {report}");
    let focus = report.focus.as_deref().unwrap();
    told.push(format!("*** input goes to {focus}"));

    let mut console = machine.start(name);
    console.expect(lines::GUESTS_START, seconds(60));
    for line in &told {
        console.expect_ever(line, seconds(60));
    }
    let said = console.lines();
    for line in &told {
        let found = said
            .iter()
            .any(|said| said.starts_with(lines::VIADUCT) && said.contains(line));
        assert!(found, "not said at the boot: {line}\n{said:#?}");
    }
}

#[test]
fn demo_on_virt_with_gicv2() {
    what_is_told_comes_true("inspect-v2", Machine::virt(Gic::V2));
}

#[test]
fn demo_on_virt_with_gicv3() {
    what_is_told_comes_true("inspect-v3", Machine::virt(Gic::V3).cpus(4).memory_mib(512));
}

#[test]
fn demo_on_raspi4b() {
    what_is_told_comes_true("inspect-pi4", Machine::pi4());
}
