//! Memory past the caches, the tree's bytes, the console.

use crate::calls;
use core::cell::UnsafeCell;
use core::fmt;

/// Bytes in a page.
pub(crate) const PAGE: u64 = 4096;

/// A page of this guest's RAM.
#[repr(C, align(4096))]
pub(crate) struct Page(UnsafeCell<[u64; 512]>);

// SAFETY: there is one CPU, no interrupt is ever taken, and the page is reached by volatile accesses alone.
unsafe impl Sync for Page {}

impl Page {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new([0; 512]))
    }

    pub(crate) fn address(&self) -> u64 {
        self.0.get() as u64
    }

    pub(crate) fn gfn(&self) -> u64 {
        self.address() / PAGE
    }
}

/// Reads a word that the hypervisor writes too. What its caches hold of it is written back first: at EL1 below a
/// second stage, DC IVAC cleans as well (DDI 0487, D7.5.9).
pub(crate) fn load(address: u64) -> u64 {
    let value: u64;
    // SAFETY: every caller names a page that is mapped, its own or the hypervisor's.
    unsafe {
        core::arch::asm!(
            "dc ivac, {at}", "dsb sy", "ldr {value}, [{at}]",
            at = in(reg) address, value = out(reg) value,
        );
    }
    value
}

/// Writes such a word. It is in memory at once: caches are off.
pub(crate) fn store(address: u64, value: u64) {
    // SAFETY: as above; the pages are reached in no other way.
    unsafe {
        core::arch::asm!(
            "str {value}, [{at}]", "dsb sy", "dc ivac, {at}", "dsb sy",
            at = in(reg) address, value = in(reg) value,
        );
    }
}

/// A device's register.
pub(crate) fn read32(address: u64) -> u32 {
    let value: u32;
    // SAFETY: the interrupt controller's registers, by their fixed addresses.
    unsafe {
        core::arch::asm!("ldr {value:w}, [{at}]", at = in(reg) address, value = out(reg) value);
    };
    value
}

/// Writes a device's register.
pub(crate) fn write32(address: u64, value: u32) {
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("dsb sy", "str {value:w}, [{at}]", at = in(reg) address, value = in(reg) value);
    }
}

/// The bytes of the device tree.
pub(crate) fn tree(address: u64) -> &'static [u8] {
    let size = u32::from_be(read32(address + 4)) as usize;
    // SAFETY: the boot protocol puts the tree there, of the size that it says; nobody writes it.
    unsafe { core::slice::from_raw_parts(address as *const u8, size.min(1 << 20)) }
}

/// Where a text is in the tree.
pub(crate) fn find(tree: &'static [u8], text: &str) -> Option<&'static [u8]> {
    let at = tree
        .windows(text.len())
        .position(|window| window == text.as_bytes())?;
    tree.get(at + text.len()..)
}

/// A line for `console_io`, which is written whole: several guests share the console.
pub(crate) struct Line {
    bytes: [u8; 160],
    length: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // What is too long is cut off.
        for (slot, byte) in self.bytes.iter_mut().skip(self.length).zip(text.bytes()) {
            *slot = byte;
            self.length += 1;
        }
        Ok(())
    }
}

/// Prints a line.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    let mut line = Line {
        bytes: [0; 160],
        length: 0,
    };
    let _ = fmt::Write::write_fmt(&mut line, text);
    let _ = fmt::Write::write_str(&mut line, "\n");
    let _ = calls::console_write(&line.bytes[..line.length]);
}
