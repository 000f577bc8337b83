//! Guests: Xen's own example, what ImageBuilder writes, a bundle, and every way to be wrong.

use memory::Pa;

use super::*;
use crate::{Severity, dts};

const BUNDLE: &[u8] = include_bytes!("../../tests/data/bundle.fit");

fn range(start: u64, size: u64) -> PaRange {
    PaRange::new(Pa::new(start), size).unwrap()
}

/// Reads the guests of a tree whose /chosen is given, on a board with 1 GiB at 0x40000000.
pub(super) fn read_chosen(chosen: &str) -> (Vec<DomainConfig>, Vec<Problem>) {
    let source = format!(
        "/ {{ #address-cells = <2>; #size-cells = <2>;
            chosen {{ #address-cells = <2>; #size-cells = <2>; {chosen} }}; }};"
    );
    let tree = dts::compile(&source);
    read_container(&Container::Host(Tree::new(&tree).unwrap()))
}

pub(super) fn read_container(container: &Container<'_>) -> (Vec<DomainConfig>, Vec<Problem>) {
    let (vcpus, vcpus_because) = Limits::vcpu_bound(false, 64);
    let limits = Limits {
        vcpus,
        vcpus_because,
        cpus: 4,
        memory: &[range(0x4000_0000, 1 << 30)],
        taken: &[range(0x4020_0000, 0x10_0000)],
    };
    let (mut domains, mut problems) = (Vec::new(), Vec::new());
    read(container, &limits, &mut domains, &mut |problem| {
        problems.push(problem);
    });
    (domains, problems)
}

pub(super) const KERNEL: &str =
    "module@48000000 { compatible = \"multiboot,kernel\", \"multiboot,module\";
    reg = <0 0x48000000 0 0x10000>; };";

/// A guest with `more` in its node; comes after "memory" and "cpus", so may not repeat them.
pub(super) fn guest(name: &str, more: &str) -> String {
    format!("{name} {{ compatible = \"xen,domain\"; memory = <0 0x8000>; cpus = <2>; {more} }};")
}

#[test]
fn a_whole_guest() {
    let (domains, problems) = read_chosen(
        "web: { };
        guest-web@1 { compatible = \"xen,domain\"; #address-cells = <1>; #size-cells = <1>;
            memory = <0x0 0x40000>; cpus = <3>; vpl011 = <0>; nr_spis = <64>; xen,enhanced;
            max_grant_frames = <32>; max_grant_version = <2>; trap-unmapped-accesses = <0>;
            xen,domain-p2m-mem-mb = <3>; capabilities = <0>; sve = <0>; passthrough = \"disabled\";
            linux { compatible = \"multiboot,kernel\", \"multiboot,module\"; reg = <0x48000000 0x1c3f200>;
                bootargs = \"console=ttyAMA0 rdinit=/init\"; };
            disk { compatible = \"multiboot,ramdisk\", \"multiboot,module\"; reg = <0x4c000000 0x301000>; };
            vcpu0 { compatible = \"xen,vcpu\"; id = <0>; hard-affinity = \"2\"; };
            vcpu2 { compatible = \"xen,vcpu\"; id = <2>; hard-affinity = \"0-1,3\"; }; };"
            .trim_start_matches("web: { };"),
    );
    assert_eq!(problems, []);
    let expected = DomainConfig {
        name: "guest-web@1".into(),
        memory: 256 << 20,
        vcpus: 3,
        affinity: vec![CpuSet::from_bits(4), CpuSet::ALL, CpuSet::from_bits(0b1011)],
        scheduling: vec![Scheduling::default(); 3],
        vpl011: true,
        spis: Some(64),
        enhanced: Enhanced::Full,
        grants: GrantLimits {
            version: 2,
            frames: 32,
            maptrack_frames: 1024,
        },
        trap_unmapped: false,
        table_memory: Some(3 << 20),
        console_focus: false,
        scroll_back: None,
        life: LifeConfig::default(),
        peers: vec![],
        after: vec![],
        channels: vec![],
        kernel: ModuleSource::Memory(range(0x4800_0000, 0x1c3_f200)),
        load_offset: None,
        tree_offset: None,
        nodes: ModuleNodes {
            kernel: "linux".into(),
            ramdisk: "disk".into(),
            device_tree: String::new(),
        },
        ramdisk: Some(ModuleSource::Memory(range(0x4c00_0000, 0x30_1000))),
        static_memory: vec![],
        direct_map: false,
        hardware: false,
        shared: vec![],
        device_tree: None,
        bootargs: Some("console=ttyAMA0 rdinit=/init".into()),
    };
    assert_eq!(domains, [expected]);
}

#[test]
fn what_image_builder_writes() {
    let (domains, problems) = read_chosen(
        "xen,xen-bootargs = \"console=dtuart\"; xen,dom0-bootargs = \"console=hvc0\";
        dom0 { compatible = \"xen,linux-zimage\", \"xen,multiboot-module\"; reg = <0 0x44000000 0 0x1000>; };
        dom0-ramdisk { compatible = \"xen,linux-initrd\", \"xen,multiboot-module\"; reg = <0 0x45000000 0 0x1000>; };
        domU0 { compatible = \"xen,domain\"; #address-cells = <2>; #size-cells = <2>; memory = <0 0x20000>;
            cpus = <1>; vpl011 = <1>;
            module0x46000000 { compatible = \"multiboot,kernel\", \"multiboot,module\";
                reg = <0 0x46000000 0 0x2000>; bootargs = \"console=ttyAMA0\"; };
            module0x46200000 { compatible = \"multiboot,ramdisk\", \"multiboot,module\";
                reg = <0 0x46200000 0 0x2000>; }; };
        domU1 { compatible = \"xen,domain\"; #address-cells = <2>; #size-cells = <2>; memory = <0 0x20000>;
            cpus = <1>; vpl011 = <1>;
            module0x46000000 { compatible = \"multiboot,kernel\", \"multiboot,module\";
                reg = <0 0x46000000 0 0x2000>; bootargs = \"console=ttyAMA0\"; }; };",
    );
    assert_eq!(domains.len(), 2);
    assert_eq!(
        domains[0].kernel,
        ModuleSource::Memory(range(0x4600_0000, 0x2000))
    );
    assert!(domains[1].vpl011 && domains[1].ramdisk.is_none());
    // dom0 takes one line, however many modules it has.
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].severity, Severity::Note);
    assert_eq!(
        problems[0].to_string(),
        "/chosen/dom0: found a module of a classic dom0, expected only guests: dom0 is left out"
    );
}

#[test]
fn guests_of_a_bundle() {
    let (domains, problems) = read_container(&Container::Bundle(Fit::new(BUNDLE).unwrap()));
    assert_eq!(problems, []);
    assert_eq!(domains.len(), 2);
    assert_eq!((&*domains[0].name, domains[0].memory), ("web", 64 << 20));
    assert_eq!(domains[0].enhanced, Enhanced::WithoutXenstore);
    assert!(domains[0].console_focus && !domains[1].console_focus);
    assert_eq!(
        domains[0].ramdisk,
        Some(ModuleSource::Image("ramdisk-1".into()))
    );
    assert_eq!(domains[1].kernel, ModuleSource::Image("kernel-1".into()));
}

/// What is told of a guest with `more` in it; the guest beside it always boots.
pub(super) fn refusal(node: &str) -> Vec<String> {
    let beside = guest("beside", &KERNEL.replace("0x48000000", "0x70000000"));
    let (domains, problems) = read_chosen(&format!("{node} {beside}"));
    assert_eq!(domains.len(), 1, "{node}: {problems:?}");
    assert_eq!(domains[0].name, "beside");
    assert!(
        problems
            .iter()
            .any(|problem| problem.severity == Severity::Refused)
    );
    problems.iter().map(|problem| problem.to_string()).collect()
}

#[test]
fn wrong_properties_leave_the_guest_out() {
    let cases = [
        (
            "vpmu;",
            "vpmu: found no value, expected no such property: it is not supported",
        ),
        (
            "llc-colors = \"4-8\";",
            "llc-colors: found \"4-8\", expected no such",
        ),
        ("domain-cpupool = <3>;", "domain-cpupool: found <0x3>"),
        (
            "passthrough = \"enabled\";",
            "passthrough: found \"enabled\", expected \"disabled\"",
        ),
        ("sve;", "sve: found no value, expected <0>"),
        ("sve = <128>;", "sve: found <0x80>, expected <0>"),
        (
            "capabilities = <1>;",
            "capabilities: found <0x1>, expected <2>, hardware, or <0>",
        ),
        (
            "capabilities = <2>;",
            "xen,force-assign-without-iommu: found nothing, expected it",
        ),
        (
            "nr_spis = <989>;",
            "nr_spis: found <0x3dd>, expected one cell: 0 to 988",
        ),
        (
            "trap-unmapped-accesses = <2>;",
            "trap-unmapped-accesses: found <0x2>, expected <0> or <1>",
        ),
        (
            "max_grant_frames = <0x80000000>;",
            "max_grant_frames: found <0x80000000>, expected one cell: 0 to 0x7fff",
        ),
        ("max_grant_version = <3>;", "max_grant_version: found <0x3>"),
        (
            "xen,sci_type = \"scmi_smc\";",
            "xen,sci_type: found \"scmi_smc\", expected \"none\"",
        ),
        (
            "#address-cells = <3>;",
            "#address-cells: found <0x3>, expected <1> or <2>",
        ),
        (
            "#size-cells = <0>;",
            "#size-cells: found <0x0>, expected <1> or <2>",
        ),
        (
            "e { compatible = \"xen,evtchn-v1\"; };",
            "/chosen/bad/e: xen,evtchn: found nothing, expected a port and",
        ),
        (
            "s { compatible = \"xen,domain-shared-memory-v1\"; xen,shm-id = \"a\"; };",
            "/chosen/bad/s: xen,shared-mem: found nothing, expected the guest's address, and the size",
        ),
        (
            "v { compatible = \"xen,vcpu\"; };",
            "/chosen/bad/v: id: found nothing",
        ),
        (
            "v { compatible = \"xen,vcpu\"; id = <2>; };",
            "id: found <0x2>, expected one cell: 0 to 1, each once",
        ),
        (
            "v { compatible = \"xen,vcpu\"; id = <1>; }; w { compatible = \"xen,vcpu\"; id = <1>; };",
            "/chosen/bad/w: id: found <0x1>",
        ),
        (
            "v { compatible = \"xen,vcpu\"; id = <1>; hard-affinity = \"4\"; };",
            "hard-affinity: found \"4\", expected a list like \"0-1,3\" of CPUs 0 to 3",
        ),
        (
            "v { compatible = \"xen,vcpu\"; id = <1>; hard-affinity = \"3-1\"; };",
            "hard-affinity",
        ),
        (
            "v { compatible = \"xen,vcpu\"; id = <1>; hard-affinity = \"\"; };",
            "hard-affinity",
        ),
        (
            "v { compatible = \"xen,vcpu\"; id = <1>; hard-affinity = \"0-4294967295\"; };",
            "hard-affinity",
        ),
    ];
    for (more, expected) in cases {
        let told = refusal(&guest("bad", &format!("{more} {KERNEL}")));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(expected), "{told:?} for {more}");
        assert!(
            told[0].starts_with("/chosen/bad") && told[0].ends_with("; guest left out"),
            "{told:?}"
        );
    }
}

#[test]
fn memory_and_cpus_are_needed_and_bounded() {
    let cases = [
        (
            "cpus = <1>;",
            "memory: found nothing, expected two cells: KiB of RAM, 64 bits",
        ),
        (
            "memory = <0x8000>; cpus = <1>;",
            "memory: found <0x8000>, expected two cells",
        ),
        (
            "memory = <0 0>; cpus = <1>;",
            "memory: found <0x0 0x0>, expected two cells",
        ),
        (
            "memory = <0 5>; cpus = <1>;",
            "memory: found <0x0 0x5>, expected a multiple of 4 KiB",
        ),
        (
            "memory = <0xffffffff 0xffffffff>; cpus = <1>;",
            "memory: found <0xffffffff 0xffffffff>",
        ),
        ("memory = \"64M\"; cpus = <1>;", "memory: found \"64M\""),
        (
            "memory = <0 4>;",
            "cpus: found nothing, expected one cell: the number of vCPUs",
        ),
        (
            "memory = <0 4>; cpus = <0>;",
            "cpus: found <0x0>, expected one cell: 1 to 8 (GICv2's bound)",
        ),
        (
            "memory = <0 4>; cpus = <9>;",
            "cpus: found <0x9>, expected one cell: 1 to 8 (GICv2's bound)",
        ),
        ("memory = <0 4>; cpus = <0 1>;", "cpus: found <0x0 0x1>"),
    ];
    for (more, expected) in cases {
        let told = refusal(&format!(
            "bad {{ compatible = \"xen,domain\"; {more} {KERNEL} }};"
        ));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(expected), "{told:?} for {more}");
    }
    assert_eq!(Limits::vcpu_bound(true, 200), (128, "GICv3's bound"));
    assert_eq!(Limits::vcpu_bound(true, 16), (16, "Viaduct's bound"));
    assert_eq!(Limits::vcpu_bound(false, 16), (8, "GICv2's bound"));
}

#[test]
fn names_differ() {
    let (domains, problems) =
        read_chosen(&format!("{} {}", guest("a", KERNEL), guest("a", KERNEL)));
    assert_eq!(domains.len(), 1);
    assert_eq!(
        problems[0].to_string(),
        "/chosen/a: found a second guest of this name, expected names that differ; guest left out"
    );
    let (domains, _) = read_chosen(&format!(
        "{} {}",
        guest("a@1", KERNEL),
        guest("a@2", KERNEL)
    ));
    assert_eq!(domains.len(), 2);
}

#[test]
fn what_nobody_knows_is_warned_about() {
    let more = format!("vcpus = <3>; xen,static_mem; viaduct,colour = \"red\"; {KERNEL} x {{ }};");
    let more = more.replace("reg =", "rge; reg =");
    let (domains, problems) = read_chosen(&guest("a", &more));
    assert_eq!(domains.len(), 1);
    let told: Vec<String> = problems.iter().map(|problem| problem.to_string()).collect();
    let expected = [
        "/chosen/a: vcpus: found <0x3>, expected a property of the binding; ignored",
        "/chosen/a: xen,static_mem: found no value, expected a property of the binding; ignored",
        "/chosen/a: viaduct,colour: found \"red\", expected a property of the binding; ignored",
        "/chosen/a/module@48000000: rge: found no value, expected a property of the binding; ignored",
        "/chosen/a/x: found a node that is no module and no vCPU, expected a node of the binding; ignored",
    ];
    assert_eq!(told, expected);
}

#[test]
fn harmless_oddities_are_taken() {
    let enhanced = [
        ("xen,enhanced = \"enabled\";", Enhanced::Full, 0),
        ("xen,enhanced = \"\";", Enhanced::Full, 0),
        ("xen,enhanced = \"legacy\";", Enhanced::Legacy, 0),
        ("xen,enhanced = \"disabled\";", Enhanced::Off, 0),
        ("xen,enhanced = \"no_xenstore\";", Enhanced::Off, 1),
        ("status = \"okay\";", Enhanced::Off, 0),
    ];
    for (more, expected, problems_expected) in enhanced {
        let (domains, problems) = read_chosen(&guest("a", &format!("{more} {KERNEL}")));
        assert_eq!(
            (domains[0].enhanced, problems.len()),
            (expected, problems_expected),
            "{more}"
        );
    }
    // A second pair in reg.
    let two = KERNEL.replace("0 0x10000>", "0 0x10000 0 0x49000000 0 1>");
    let (domains, problems) = read_chosen(&guest("a", &two));
    assert_eq!((domains.len(), problems.len()), (1, 1));
    assert_eq!(problems[0].severity, Severity::Warning);
    // Switched off; somebody else's; nearly a guest.
    let chosen = format!(
        "xen,static-heap = <0 0x60000000 0 0x1000000>;
        {} other {{ compatible = \"acme,thing\"; }}; near {{ compatible = \"xen,domian\"; cpus = <1>; }};
        pool {{ compatible = \"xen,cpupool\"; }};",
        guest("a", "status = \"disabled\";")
    );
    let (domains, problems) = read_chosen(&chosen);
    assert_eq!(domains.len(), 0);
    let told: Vec<String> = problems.iter().map(|problem| problem.to_string()).collect();
    let expected = [
        "/chosen: xen,static-heap: found <0x0 0x60000000 0x0 0x1000000>, expected no such property: it is not supported; ignored",
        "/chosen/a: status: found a guest switched off, expected \"okay\" to start it",
        "/chosen/near: compatible: found \"xen,domian\", expected \"xen,domain\" on a guest; ignored",
        "/chosen/pool: compatible: found \"xen,cpupool\", expected no such node: it is not supported; ignored",
    ];
    assert_eq!(told, expected);
}

#[test]
fn there_are_only_so_many_guests() {
    let guests: String = (0..MAX_DOMAINS + 1)
        .map(|number| guest(&format!("g{number}"), KERNEL))
        .collect();
    let (domains, problems) = read_chosen(&guests);
    assert_eq!((domains.len(), problems.len()), (MAX_DOMAINS, 1));
}

fn channel(label: &str, cells: &str) -> String {
    let handle = |label: &str| (label.as_bytes()[0] - b'a' + 1).to_string();
    let mut cells = cells.to_string();
    for other in ["a", "b", "c", "d"] {
        cells = cells.replace(&format!("&{other}"), &handle(other));
    }
    format!(
        "{label} {{ compatible = \"xen,evtchn-v1\"; phandle = <{}>; xen,evtchn = <{cells}>; }};",
        handle(label)
    )
}

#[test]
fn static_event_channels_join_the_nodes_that_name_each_other() {
    let one = guest(
        "one",
        &format!(
            "{KERNEL} {} {}",
            channel("a", "10 &b"),
            channel("c", "11 &d")
        ),
    );
    let two = guest(
        "two",
        &format!(
            "{} {} {}",
            KERNEL,
            channel("b", "1023 &a"),
            channel("d", "1 &a")
        ),
    );
    let (domains, problems) = read_chosen(&format!("{one} {two}"));
    let ends = |number: usize| -> Vec<_> {
        let ends = domains[number].channels.iter();
        ends.map(|end| (end.port, end.other)).collect()
    };
    assert_eq!(ends(0), [(10, Some((1, 1023)))]);
    assert_eq!(ends(1), [(1023, Some((0, 10)))]);
    // "d" does not name "c" back.
    let told: Vec<_> = problems.iter().map(|problem| &*problem.node).collect();
    assert_eq!(told, ["/chosen/one/c", "/chosen/two/d"]);
    assert!(
        problems
            .iter()
            .all(|problem| problem.severity == Severity::Warning)
    );
    assert!(are_peers(&domains, 0, 1) && are_peers(&domains, 1, 0));
    assert!(!are_peers(&domains, 0, 0));
}

#[test]
fn a_static_event_channel_that_is_wrong_leaves_out_its_guest() {
    for cells in ["0 &b", "1024 &b", "5", "5 &b 1"] {
        let nodes = format!("{KERNEL} {} {}", channel("a", cells), channel("b", "6 &a"));
        let (domains, problems) = read_chosen(&guest("one", &nodes));
        assert!(domains.is_empty(), "{cells}");
        assert_eq!(problems[0].node, "/chosen/one/a");
    }
    let twice = format!("{KERNEL} {} {}", channel("a", "5 &b"), channel("b", "5 &a"));
    assert!(read_chosen(&guest("one", &twice)).0.is_empty());
    // A node that names itself has no other end.
    let itself = format!("{KERNEL} {}", channel("a", "5 &a"));
    assert_eq!(read_chosen(&guest("one", &itself)).0[0].channels, []);
}

#[test]
fn peers_are_who_the_tree_names() {
    let other = |address: &str| KERNEL.replace("48000000", address);
    let tree = [
        guest(
            "one",
            &format!("viaduct,peers = \"two\", \"nobody\"; {KERNEL}"),
        ),
        guest("two", &other("49000000")),
        guest("three", &other("4a000000")),
    ];
    let (domains, problems) = read_chosen(&tree.concat());
    assert_eq!(problems, []);
    let peers = |one, other| are_peers(&domains, one, other);
    assert!(peers(0, 1) && peers(1, 0));
    assert!(!peers(0, 2) && !peers(2, 0) && !peers(1, 2) && !peers(0, 7));
    let mut problems = Vec::new();
    check_names(&domains, &mut |problem| problems.push(problem));
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].found, "\"nobody\"");

    let all = [
        guest("one", &format!("viaduct,peers = \"*\"; {KERNEL}")),
        guest("two", &other("49000000")),
        guest("three", &other("4a000000")),
    ];
    let (domains, _) = read_chosen(&all.concat());
    assert!(are_peers(&domains, 0, 2) && are_peers(&domains, 1, 0));
    assert!(!are_peers(&domains, 1, 2));
    let (none, _) = read_chosen(&guest("one", &format!("viaduct,peers; {KERNEL}")));
    assert!(none.is_empty());
}
