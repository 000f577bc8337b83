//! Modules of a guest: kernel and RAM disk, in memory or in the bundle
//! (docs/misc/arm/device-tree/booting.txt, xen/common/device-tree/bootinfo-fdt.c).

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use memory::{Pa, PaRange};

use super::node::{Cells, Context};
use super::{Container, DomainConfig, MAX_BOOTARGS, ModuleSource};
use crate::properties::Properties;
use crate::tree::Property;
use crate::walk::take;

/// Alignment of an instruction, and so of where a raw binary starts.
const INSTRUCTION: u64 = 4;
/// Alignment of a flattened tree (Devicetree Specification 0.4, section 5.6).
const TREE_ALIGNMENT: u64 = 8;

/// What a module is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Kernel,
    Ramdisk,
    /// Which devices of the board the guest gets.
    DeviceTree,
}

impl Kind {
    /// What a module's node says that it is for.
    pub(super) fn of(node: &Properties<'_>) -> Option<Self> {
        // The second string of each pair is an older name of Xen's.
        if node.is_compatible(&["multiboot,kernel", "xen,linux-zimage"]) {
            Some(Self::Kernel)
        } else if node.is_compatible(&["multiboot,ramdisk", "xen,linux-initrd"]) {
            Some(Self::Ramdisk)
        } else if node.is_compatible(&["multiboot,device-tree"]) {
            Some(Self::DeviceTree)
        } else {
            None
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Ramdisk => "RAM disk",
            Self::DeviceTree => "partial tree",
        })
    }
}

/// A module that has been read.
pub(super) struct Module {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) source: ModuleSource,
    pub(super) bootargs: Option<String>,
    pub(super) load_offset: Option<u64>,
    pub(super) tree_offset: Option<u64>,
}

/// Whether a node with this `compatible` is a module. The name of the node says nothing: ImageBuilder's are
/// like "module0x2000000".
pub(super) fn is_module(compatible: &Property<'_>) -> bool {
    compatible.strings().any(|text| {
        text.starts_with("multiboot,")
            || matches!(
                text,
                "xen,multiboot-module" | "xen,linux-zimage" | "xen,linux-initrd"
            )
    })
}

impl Context<'_> {
    /// Reads a module; `None` if it has been refused.
    pub(super) fn module(
        &mut self,
        node: &Properties<'_>,
        name: &str,
        cells: Cells,
    ) -> Option<Module> {
        let Some(kind) = Kind::of(node) else {
            let found = node
                .property("compatible")
                .map(|list| list.to_string())
                .unwrap_or_default();
            let expected = "\"multiboot,kernel\", \"multiboot,ramdisk\" or \"multiboot,device-tree\": others are not supported";
            self.refuse(name, "compatible", found, expected);
            return None;
        };
        let (mut source, mut bootargs) = (None, None);
        let (mut load_offset, mut tree_offset) = (None, None);
        let mut has_source = false;
        for property in node.iter() {
            match property.name {
                "compatible" | "phandle" | "linux,phandle" | "description" | "#address-cells"
                | "#size-cells" => {}
                "reg" | "image" => {
                    has_source = true;
                    source = self.source(name, &property, cells).or(source);
                }
                "bootargs" if kind == Kind::Kernel => match property.str() {
                    Some(line) if line.len() <= MAX_BOOTARGS => bootargs = Some(line.to_string()),
                    _ => {
                        let expected = format!("one string of at most {MAX_BOOTARGS} bytes");
                        self.refuse(name, property.name, property, expected);
                    }
                },
                "viaduct,load-offset" if kind == Kind::Kernel => {
                    load_offset = self.offset(name, &property, INSTRUCTION);
                }
                "viaduct,dtb-offset" if kind == Kind::Kernel => {
                    tree_offset = self.offset(name, &property, TREE_ALIGNMENT);
                }
                "bootargs" => self.warn(name, property.name, property, "it with the kernel"),
                "xen,uefi-binary" => {
                    has_source = true;
                    self.refuse(name, property.name, property, self.wanted_source());
                }
                _ => self.unknown(name, &property),
            }
        }
        if !has_source {
            let (property, expected) = match self.container {
                Container::Host(_) => ("reg", "address and size of the module"),
                Container::Bundle(_) => ("image", "the name of an image"),
            };
            self.refuse(name, property, "nothing", expected);
        }
        let bootargs = bootargs.filter(|line| !line.is_empty());
        Some(Module {
            name: name.to_string(),
            kind,
            source: source?,
            bootargs,
            load_offset,
            tree_offset,
        })
    }

    /// Bytes from the start of RAM.
    fn offset(&mut self, name: &str, property: &Property<'_>, alignment: u64) -> Option<u64> {
        let offset = property.number();
        let offset = offset.filter(|offset| offset.is_multiple_of(alignment));
        if offset.is_none() {
            let expected = format_args!("one or two cells: a multiple of {alignment} bytes");
            self.refuse(name, property.name, property, expected);
        }
        offset
    }

    fn wanted_source(&self) -> &'static str {
        match self.container {
            Container::Host(_) => "\"reg\": address and size of the module",
            Container::Bundle(_) => "\"image\": the name of an image of the bundle",
        }
    }

    fn source(
        &mut self,
        name: &str,
        property: &Property<'_>,
        cells: Cells,
    ) -> Option<ModuleSource> {
        match (self.container, property.name) {
            (Container::Host(_), "reg") => self
                .in_memory(name, property, cells)
                .map(ModuleSource::Memory),
            (Container::Bundle(fit), "image") => {
                let Some(image) = property.str() else {
                    self.refuse(
                        name,
                        property.name,
                        property,
                        "one string: the name of an image",
                    );
                    return None;
                };
                if let Err(error) = fit.image(image) {
                    self.refuse(
                        name,
                        property.name,
                        property,
                        format_args!("a usable image ({error})"),
                    );
                    return None;
                }
                Some(ModuleSource::Image(image.to_string()))
            }
            _ => {
                self.refuse(name, property.name, property, self.wanted_source());
                None
            }
        }
    }

    fn in_memory(&mut self, name: &str, property: &Property<'_>, cells: Cells) -> Option<PaRange> {
        let Cells { address, size } = cells;
        if !(1..=2).contains(&address) || !(1..=2).contains(&size) {
            let (name, found) = match (1..=2).contains(&address) {
                true => ("#size-cells", size),
                false => ("#address-cells", address),
            };
            self.refuse("", name, format_args!("<{found:#x}>"), "<1> or <2>");
            return None;
        }
        let mut rest = property.value;
        let numbers = take(&mut rest, address).zip(take(&mut rest, size));
        let shape = format!("{address} cell(s) of address and {size} of size");
        let Some((start, bytes)) = numbers else {
            self.refuse(name, property.name, property, shape);
            return None;
        };
        if !rest.is_empty() {
            // Xen takes the first pair as well.
            self.warn(
                name,
                property.name,
                format_args!("more than a pair, {property}"),
                shape,
            );
        }
        let range = PaRange::new(Pa::new(start), bytes).filter(|range| !range.is_empty());
        let Some(range) = range else {
            self.refuse(
                name,
                property.name,
                property,
                "a size above 0 and an end within 64 bits",
            );
            return None;
        };
        if !self
            .limits
            .memory
            .iter()
            .any(|ram| ram.contains_range(range))
        {
            self.refuse(name, property.name, range, "a range inside the board's RAM");
            return None;
        }
        if let Some(taken) = self.limits.taken.iter().find(|taken| taken.overlaps(range)) {
            self.refuse(
                name,
                property.name,
                range,
                format_args!("a range clear of {taken}, which is taken"),
            );
            return None;
        }
        Some(range)
    }

    /// A guest's modules must not overlap. Those of different guests should not, but may be the very same, as on Xen:
    /// nobody can tell which of two is wrong, and what is only read does no harm to the other.
    pub(super) fn check_memory(
        &mut self,
        module: &Module,
        kernel: &Option<ModuleSource>,
        domain: &DomainConfig,
        others: &[DomainConfig],
    ) {
        let ModuleSource::Memory(range) = module.source else {
            return;
        };
        for guest in others.iter().chain([domain]) {
            let mut claims = guest.claims().filter(|(_, what)| *what != "a module");
            if let Some((other, what)) = claims.find(|(other, _)| other.overlaps(range)) {
                let expected = format!("a range clear of {other}, {what} of {}", guest.name);
                self.refuse(&module.name, "reg", range, expected);
                return;
            }
        }
        let own = [
            kernel.as_ref(),
            domain.ramdisk.as_ref(),
            domain.device_tree.as_ref(),
        ];
        let own = own.into_iter().flatten();
        for source in own {
            if let ModuleSource::Memory(other) = source
                && other.overlaps(range)
            {
                let expected = format!("a range clear of {other}, another module");
                self.refuse(&module.name, "reg", range, expected);
                return;
            }
        }
        for guest in others {
            let same = match module.kind {
                Kind::Kernel => Some(&guest.kernel),
                Kind::Ramdisk => guest.ramdisk.as_ref(),
                Kind::DeviceTree => guest.device_tree.as_ref(),
            };
            for source in guest.modules() {
                let may_share = same.is_some_and(|same| core::ptr::eq(same, source));
                if let ModuleSource::Memory(other) = source
                    && other.overlaps(range)
                    && !(may_share && *other == range)
                {
                    let expected = format!("a range clear of {other}, a module of {}", guest.name);
                    self.warn(&module.name, "reg", range, expected);
                    return;
                }
            }
        }
    }
}
