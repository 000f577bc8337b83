//! What is remembered of a list register that was filled.

use crate::identity::IntId;

/// What a list register was filled with: the interrupt, and where its state came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot(u16);

impl Slot {
    /// Of one that was never filled.
    pub(crate) const NOTHING: Self = Self(0);

    /// The pending state came (also) from the latch: it goes back there.
    const LATCH: u16 = 1 << 15;
    const ACTIVE: u16 = 1 << 14;
    const HARDWARE: u16 = 1 << 13;
    /// Hardware, and its pending state came also from a register write.
    const WRITTEN: u16 = 1 << 12;

    #[inline]
    pub(crate) const fn new(intid: IntId, latch: bool, active: bool, hardware: bool) -> Self {
        let flags = ((latch as u16) << 15) | ((active as u16) << 14) | ((hardware as u16) << 13);
        Self((intid.get() & 0x3ff) as u16 | flags)
    }

    #[inline]
    pub(crate) const fn intid(self) -> IntId {
        IntId::from_word((self.0 >> 5) as u32, self.0 as u32)
    }

    pub(crate) const fn latch(self) -> bool {
        self.0 & Self::LATCH != 0
    }

    pub(crate) const fn active(self) -> bool {
        self.0 & Self::ACTIVE != 0
    }

    pub(crate) const fn hardware(self) -> bool {
        self.0 & Self::HARDWARE != 0
    }

    pub(crate) const fn written(self) -> bool {
        self.0 & Self::WRITTEN != 0
    }

    /// Whether a register shows it as pending for its own sake, and not for that of a line.
    pub(crate) const fn shows_latch(self) -> bool {
        if self.hardware() && self.intid().is_private() {
            self.written()
        } else {
            self.latch()
        }
    }

    /// The same, also pending by a register write.
    pub(crate) const fn with_written(self) -> Self {
        Self(self.0 | Self::WRITTEN)
    }

    /// The same with a latch merged into its pending state.
    pub(crate) const fn with_latch(self) -> Self {
        Self(self.0 | Self::LATCH)
    }

    /// The same without its link: the hardware interrupt has ended.
    pub(crate) const fn without_hardware(self) -> Self {
        Self(self.0 & !Self::HARDWARE)
    }
}
