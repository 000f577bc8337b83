//! The SBSA subset of a PL011 (DDI 0183, SBSA 3.0 appendix B): data and flags, no set-up.

use crate::{mmio::Mmio, tree::Tree};

const DATA: usize = 0x00;
const FLAGS: usize = 0x18;
const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;

#[derive(Clone, Copy, Debug)]
pub(super) struct Uart(Mmio);

impl Uart {
    pub(super) fn find(tree: &Tree<'_>) -> Option<Self> {
        let node = tree
            .compatible("arm,sbsa-uart")
            .or_else(|| tree.compatible("arm,pl011"))?;
        let (base, size) = node.reg().next()?;
        Some(Self(Mmio::new(base, size)))
    }

    fn put(self, byte: u8) {
        while self.0.read32(FLAGS) & TRANSMIT_FULL != 0 {}
        self.0.write32(DATA, u32::from(byte));
    }

    pub(super) fn write(self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.put(b'\r');
            }
            self.put(*byte);
        }
    }

    pub(super) fn read(self, bytes: &mut [u8]) -> usize {
        let mut count = 0;
        for byte in bytes {
            if self.0.read32(FLAGS) & RECEIVE_EMPTY != 0 {
                break;
            }
            *byte = self.0.read32(DATA) as u8;
            count += 1;
        }
        count
    }
}
