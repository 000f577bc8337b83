//! A block of device registers, by offset. The offsets' names live with each driver.

/// Device registers, mapped by [`crate::memory::map_device`].
#[derive(Clone, Copy, Debug)]
pub struct Mmio {
    base: usize,
    size: usize,
}

impl Mmio {
    /// The block at `base`, mapped as device memory.
    ///
    /// # Panics
    /// If there is no room for its map.
    pub fn new(base: u64, size: u64) -> Self {
        crate::memory::map_device(base, size);
        Self {
            base: base as usize,
            size: size as usize,
        }
    }

    /// The address of the first register.
    pub fn base(self) -> u64 {
        self.base as u64
    }

    /// The length in bytes.
    pub fn size(self) -> u64 {
        self.size as u64
    }

    /// The block `offset` bytes further on.
    #[must_use]
    pub fn at(self, offset: u64) -> Self {
        assert!(offset < self.size());
        Self {
            base: self.base + offset as usize,
            size: self.size - offset as usize,
        }
    }

    fn address(self, offset: usize, width: usize) -> usize {
        assert!(offset + width <= self.size && offset.is_multiple_of(width));
        self.base + offset
    }
}

macro_rules! access {
    ($($read:ident, $write:ident, $type:ty, $width:literal bits, $load:literal, $store:literal;)*) => {
        impl Mmio {
            $(
                #[doc = concat!("Reads ", stringify!($width), " bits.")]
                #[inline]
                pub fn $read(self, offset: usize) -> $type {
                    let address = self.address(offset, size_of::<$type>());
                    let value: u64;
                    // SAFETY: a load from a mapped device register inside the block; it has a plain
                    // base register, so that a hypervisor that emulates it gets a valid syndrome.
                    unsafe {
                        core::arch::asm!($load, address = in(reg) address, value = out(reg) value,
                                         options(nostack, preserves_flags));
                    }
                    value as $type
                }

                #[doc = concat!("Writes ", stringify!($width), " bits.")]
                #[inline]
                pub fn $write(self, offset: usize, value: $type) {
                    let address = self.address(offset, size_of::<$type>());
                    let value = u64::from(value);
                    // SAFETY: as for the load; device registers are not Rust memory.
                    unsafe {
                        core::arch::asm!($store, address = in(reg) address, value = in(reg) value,
                                         options(nostack, preserves_flags));
                    }
                }
            )*
        }
    };
}

access! {
    read8, write8, u8, 8 bits, "ldrb {value:w}, [{address}]", "strb {value:w}, [{address}]";
    read16, write16, u16, 16 bits, "ldrh {value:w}, [{address}]", "strh {value:w}, [{address}]";
    read32, write32, u32, 32 bits, "ldr {value:w}, [{address}]", "str {value:w}, [{address}]";
    read64, write64, u64, 64 bits, "ldr {value:x}, [{address}]", "str {value:x}, [{address}]";
}
