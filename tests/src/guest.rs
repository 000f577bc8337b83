//! A guest as the binding describes it, written the same way into both containers: the FIT bundle
//! (modules by `image`) and the host tree (modules by `reg`).

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::{host_tree, images};

/// The clock of QEMU's `virt`.
pub const CLOCK: &str = "gic: gic { #interrupt-cells = <3>; interrupt-controller; };
    aliases { rtc0 = \"/passthrough/rtc@9010000\"; };
    passthrough { compatible = \"simple-bus\"; #address-cells = <2>; #size-cells = <2>; ranges;
        rtc@9010000 { compatible = \"arm,pl031\"; reg = <0 0x9010000 0 0x1000>;
            interrupt-parent = <&gic>; interrupts = <0 2 4>;
            xen,reg = <0 0x9010000 0 0x1000 0 0x9010000>; xen,path = \"/pl031@9010000\";
            xen,force-assign-without-iommu; }; };";

/// One domain node of `/chosen`.
#[derive(Clone, Debug)]
pub struct Guest {
    name: String,
    memory_kib: u64,
    cpus: u32,
    kernel: PathBuf,
    ramdisk: Option<PathBuf>,
    devices: Option<PathBuf>,
    boot_arguments: String,
    vpl011: bool,
    enhanced: Option<String>,
    kernel_extra: String,
    extra: String,
}

impl Guest {
    /// A guest of `kernel` with 16 MiB, one CPU and Xen's interfaces without xenstore.
    pub fn new(name: &str, kernel: impl AsRef<Path>) -> Self {
        Self {
            name: name.to_owned(),
            memory_kib: 16 * 1024,
            cpus: 1,
            kernel: kernel.as_ref().to_path_buf(),
            ramdisk: None,
            devices: None,
            boot_arguments: String::new(),
            vpl011: false,
            enhanced: Some("no-xenstore".to_owned()),
            kernel_extra: String::new(),
            extra: String::new(),
        }
    }

    /// Our heartbeat unikernel.
    #[must_use]
    pub fn hello(name: &str) -> Self {
        Self::new(name, images::guest_elf("hello"))
    }

    /// A test guest of ours; `subject` is what it does, given as its boot arguments.
    #[must_use]
    pub fn probe(name: &str, subject: &str) -> Self {
        Self::new(name, images::guest_elf("probe")).boot_arguments(subject)
    }

    /// A test guest that has the clock of QEMU's `virt` and sets its alarm.
    pub fn clock(name: &str) -> Self {
        Self::probe(name, "test=rtc").devices(CLOCK)
    }

    /// Debian's Linux with the busybox initramfs: 256 MiB, its console on hvc0.
    #[must_use]
    pub fn linux(name: &str) -> Self {
        Self::new(name, images::linux_kernel())
            .ramdisk(images::linux_initramfs())
            .memory_mib(256)
            .boot_arguments("console=hvc0")
    }

    /// Another kernel, everything else as it is.
    #[must_use]
    pub fn kernel(mut self, path: impl AsRef<Path>) -> Self {
        self.kernel = path.as_ref().to_path_buf();
        self
    }

    /// RAM in MiB.
    #[must_use]
    pub fn memory_mib(mut self, mib: u64) -> Self {
        self.memory_kib = mib * 1024;
        self
    }

    /// RAM in KiB.
    #[must_use]
    pub fn memory_kib(mut self, kib: u64) -> Self {
        self.memory_kib = kib;
        self
    }

    /// Number of virtual CPUs.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// An initial RAM disk.
    #[must_use]
    pub fn ramdisk(mut self, path: impl AsRef<Path>) -> Self {
        self.ramdisk = Some(path.as_ref().to_path_buf());
        self
    }

    /// A partial tree of the devices that it gets, as source: what stands in the tree's root.
    #[must_use]
    pub fn devices(mut self, source: &str) -> Self {
        self.devices = Some(host_tree::partial(&self.name, source));
        self
    }

    /// The kernel's command line.
    #[must_use]
    pub fn boot_arguments(mut self, line: &str) -> Self {
        line.clone_into(&mut self.boot_arguments);
        self
    }

    /// Gives the guest the emulated UART.
    #[must_use]
    pub fn vpl011(mut self) -> Self {
        self.vpl011 = true;
        self
    }

    /// The value of `xen,enhanced`; `None` leaves the property out.
    #[must_use]
    pub fn enhanced(mut self, value: Option<&str>) -> Self {
        self.enhanced = value.map(str::to_owned);
        self
    }

    /// Properties of the kernel's module to add as they are, in device tree source.
    #[must_use]
    pub fn kernel_extra(mut self, source: &str) -> Self {
        self.kernel_extra.push_str(source);
        self
    }

    /// Properties and child nodes to add as they are, in device tree source.
    #[must_use]
    pub fn extra(mut self, source: &str) -> Self {
        self.extra.push_str(source);
        self
    }

    /// The files that the guest is made of: kernel, RAM disk, partial tree.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let others = [&self.ramdisk, &self.devices].into_iter().flatten();
        std::iter::once(self.kernel.as_path()).chain(others.map(PathBuf::as_path))
    }

    /// The domain node. `source` says where a file is: a property in device tree source, and a
    /// suffix for the module node's name.
    pub(crate) fn node(&self, source: &mut dyn FnMut(&Path) -> (String, String)) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{} {{", self.name);
        let _ = writeln!(text, "    compatible = \"xen,domain\";");
        let _ = writeln!(text, "    #address-cells = <2>;\n    #size-cells = <2>;");
        let _ = writeln!(
            text,
            "    memory = <{:#x} {:#x}>;",
            self.memory_kib >> 32,
            self.memory_kib & 0xffff_ffff
        );
        let _ = writeln!(text, "    cpus = <{}>;", self.cpus);
        if self.vpl011 {
            let _ = writeln!(text, "    vpl011;");
        }
        if let Some(value) = &self.enhanced {
            let _ = writeln!(text, "    xen,enhanced = {value:?};");
        }
        // Properties must come before child nodes, so what is extra may hold both only at the end
        // of the properties.
        let (properties, children) = split_extra(&self.extra);
        text.push_str(properties);
        let (property, suffix) = source(&self.kernel);
        let _ = writeln!(text, "    kernel{suffix} {{");
        let _ = writeln!(
            text,
            "        compatible = \"multiboot,kernel\", \"multiboot,module\";"
        );
        let _ = writeln!(text, "        {property} {}", self.kernel_extra);
        if !self.boot_arguments.is_empty() {
            let _ = writeln!(text, "        bootargs = {:?};", self.boot_arguments);
        }
        let _ = writeln!(text, "    }};");
        if let Some(path) = &self.ramdisk {
            let (property, suffix) = source(path);
            let _ = writeln!(text, "    ramdisk{suffix} {{");
            let _ = writeln!(
                text,
                "        compatible = \"multiboot,ramdisk\", \"multiboot,module\";"
            );
            let _ = writeln!(text, "        {property}\n    }};");
        }
        if let Some(path) = &self.devices {
            let (property, suffix) = source(path);
            let _ = writeln!(text, "    devices{suffix} {{");
            let _ = writeln!(
                text,
                "        compatible = \"multiboot,device-tree\", \"multiboot,module\";"
            );
            let _ = writeln!(text, "        {property}\n    }};");
        }
        text.push_str(children);
        let _ = writeln!(text, "}};");
        text
    }
}

/// Properties, and the child nodes after them.
fn split_extra(source: &str) -> (&str, &str) {
    match source.find('{') {
        None => (source, ""),
        Some(brace) => {
            let end = source[..brace].rfind(';').map_or(0, |at| at + 1);
            source.split_at(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Guest, split_extra};

    #[test]
    fn extra_properties_come_before_children() {
        assert_eq!(
            split_extra("a; b = <1>; c { d; };"),
            ("a; b = <1>;", " c { d; };")
        );
        assert_eq!(split_extra("a;"), ("a;", ""));
        assert_eq!(split_extra("c { d; };"), ("", "c { d; };"));
    }

    #[test]
    fn a_node_has_what_the_binding_asks_for() {
        let guest = Guest::new("one", "/k")
            .memory_mib(8192)
            .cpus(3)
            .boot_arguments("a b")
            .vpl011();
        let node = guest.node(&mut |_| ("image = \"k\";".into(), String::new()));
        assert!(node.contains("memory = <0x0 0x800000>;"), "{node}");
        assert!(
            node.contains("cpus = <3>;") && node.contains("vpl011;"),
            "{node}"
        );
        assert!(
            node.contains("bootargs = \"a b\";") && node.contains("image = \"k\";"),
            "{node}"
        );
    }
}
