//! Emulated device accesses: what the guest did, which device that is, and what a load leaves in the
//! register.

use core::fmt;

use arrayvec::ArrayVec;
use memory::{Ipa, IpaRange};

/// Bytes of an access.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Width {
    /// 1 byte.
    Byte = 1,
    /// 2 bytes.
    Half = 2,
    /// 4 bytes.
    Word = 4,
    /// 8 bytes.
    Double = 8,
}

impl Width {
    /// Number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self as u64
    }

    /// All bits that the access moves.
    #[must_use]
    pub const fn mask(self) -> u64 {
        match self {
            Self::Byte => 0xff,
            Self::Half => 0xffff,
            Self::Word => 0xffff_ffff,
            Self::Double => u64::MAX,
        }
    }
}

/// One load or store that stage 2 refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Where.
    pub ipa: Ipa,
    /// How much.
    pub width: Width,
    /// Store rather than load.
    pub write: bool,
    /// Number of the general register that gives or takes the value; 31 is the zero register.
    pub register: u8,
    /// Loads: the value's top bit is copied upwards.
    pub sign_extend: bool,
    /// Loads: the register is an X register; otherwise a W register, whose upper half becomes zero.
    pub sixty_four: bool,
}

impl Access {
    /// Whether the address is a multiple of the width.
    #[must_use]
    pub const fn is_aligned(&self) -> bool {
        self.ipa.get() & self.width.bytes().wrapping_sub(1) == 0
    }

    /// What is stored, given what the register holds.
    #[must_use]
    pub const fn stored(&self, register: u64) -> u64 {
        register & self.width.mask()
    }

    /// What the register holds after the load, given what the device answered.
    #[must_use]
    pub const fn loaded(&self, raw: u64) -> u64 {
        let value = raw & self.width.mask();
        if !self.sign_extend {
            return value;
        }
        let extended = match self.width {
            Width::Byte => value as u8 as i8 as u64,
            Width::Half => value as u16 as i16 as u64,
            Width::Word => value as u32 as i32 as u64,
            // There is nothing to extend, whatever the syndrome says of the register.
            Width::Double => return value,
        };
        if self.sixty_four {
            extended
        } else {
            extended & 0xffff_ffff
        }
    }
}

/// The devices that EL2 emulates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Device {
    /// GIC distributor.
    Distributor,
    /// GICv3 redistributors, 128 KiB a vCPU.
    Redistributor,
    /// SBSA UART.
    Vpl011,
}

/// Most devices on one bus.
pub const MAX_DEVICES: usize = 8;

/// Why a device was not put on the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BusError {
    /// The range is that of this device, in part at least.
    Overlap(Device),
    /// The range holds no byte.
    Empty,
    /// The range is no number of words, or of 4 GiB and more.
    Shape,
    /// [`MAX_DEVICES`] are there.
    Full,
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlap(device) => write!(f, "overlaps {device:?}"),
            Self::Empty => f.write_str("empty range"),
            Self::Shape => f.write_str("no range of words below 4 GiB"),
            Self::Full => f.write_str("too many devices"),
        }
    }
}

/// Which emulated device lies where, for one domain. Sorted, without overlaps.
#[derive(Clone, Debug, Default)]
pub struct Bus {
    devices: ArrayVec<(IpaRange, Device), MAX_DEVICES>,
    /// One that [`find_word`](Self::find_word) does not find.
    aside: Option<(IpaRange, Device)>,
}

impl Bus {
    /// A bus without devices.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            devices: ArrayVec::new_const(),
            aside: None,
        }
    }

    /// Puts a device at `range`.
    ///
    /// # Errors
    ///
    /// The range is empty or taken, or the bus is full; nothing has changed then.
    pub fn attach(&mut self, range: IpaRange, device: Device) -> Result<(), BusError> {
        if range.is_empty() {
            return Err(BusError::Empty);
        }
        if !range.start().is_aligned(4)
            || !range.size().is_multiple_of(4)
            || range.size() >> 32 != 0
        {
            return Err(BusError::Shape);
        }
        if let Some((_, other)) = self.devices.iter().find(|(taken, _)| taken.overlaps(range)) {
            return Err(BusError::Overlap(*other));
        }
        let index = self
            .devices
            .partition_point(|(taken, _)| taken.start() < range.start());
        self.devices
            .try_insert(index, (range, device))
            .map_err(|_| BusError::Full)
    }

    /// The device that an access reaches, and the offset within its range. `None` if there is none there,
    /// if the access is not aligned or leaves the range: an abort for the guest.
    #[inline]
    #[must_use]
    pub fn find(&self, access: &Access) -> Option<(Device, u64)> {
        if !access.is_aligned() {
            return None;
        }
        for (range, device) in &self.devices {
            if range.contains(access.ipa) {
                let offset = access.ipa.get().wrapping_sub(range.start().get());
                let room = range.size().wrapping_sub(offset);
                return (access.width.bytes() <= room).then_some((*device, offset));
            }
        }
        self.find_aside(access)
    }

    #[cold]
    fn find_aside(&self, access: &Access) -> Option<(Device, u64)> {
        let (range, device) = self.aside.filter(|(range, _)| range.contains(access.ipa))?;
        let offset = access.ipa.get().wrapping_sub(range.start().get());
        let room = range.size().wrapping_sub(offset);
        (access.width.bytes() <= room).then_some((device, offset))
    }

    /// Puts a device, one that was attached, where only [`find`](Self::find) finds it: each of its accesses goes the long
    /// way.
    pub fn set_aside(&mut self, device: Device) {
        if let Some(index) = self.devices.iter().position(|(_, other)| *other == device) {
            self.aside = Some(self.devices.remove(index));
        }
    }

    /// [`find`](Self::find) for an access of four bytes: devices are made of whole words.
    #[inline(always)]
    #[must_use]
    pub fn find_word(&self, ipa: Ipa) -> Option<(Device, u32)> {
        if ipa.get() & 3 != 0 {
            return None;
        }
        for (range, device) in &self.devices {
            let offset = ipa.get().wrapping_sub(range.start().get());
            if offset < range.size() {
                return Some((*device, offset as u32));
            }
        }
        None
    }

    /// Whether a device has part of `range`: where RAM or a mapping must not go.
    #[must_use]
    pub fn overlaps(&self, range: IpaRange) -> bool {
        let all = self.devices.iter().chain(&self.aside);
        all.into_iter().any(|(taken, _)| taken.overlaps(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u64, size: u64) -> IpaRange {
        IpaRange::new(Ipa::new(start), size).unwrap()
    }

    fn load(ipa: u64, width: Width) -> Access {
        Access {
            ipa: Ipa::new(ipa),
            width,
            write: false,
            register: 0,
            sign_extend: false,
            sixty_four: true,
        }
    }

    #[test]
    fn loads_extend() {
        for (width, sign_extend, sixty_four, expected) in [
            (Width::Byte, false, true, 0x80),
            (Width::Byte, true, false, 0xffff_ff80),
            (Width::Byte, true, true, 0xffff_ffff_ffff_ff80),
            (Width::Half, true, true, 0xffff_ffff_ffff_8080),
            (Width::Half, true, false, 0xffff_8080),
            (Width::Word, false, false, 0x8080_8080),
            (Width::Word, true, true, 0xffff_ffff_8080_8080),
            (Width::Double, true, true, 0x8080_8080_8080_8080),
        ] {
            let access = Access {
                sign_extend,
                sixty_four,
                ..load(0, width)
            };
            assert_eq!(access.loaded(0x8080_8080_8080_8080), expected, "{access:?}");
        }
    }

    #[test]
    fn stores_move_no_more_than_their_width() {
        assert_eq!(load(0, Width::Byte).stored(u64::MAX), 0xff);
        assert_eq!(load(0, Width::Double).stored(u64::MAX), u64::MAX);
    }

    #[test]
    fn devices_are_found_by_offset() {
        let mut bus = Bus::new();
        bus.attach(range(0x2200_0000, 0x1000), Device::Vpl011)
            .unwrap();
        bus.attach(range(0x300_1000, 0x1_0000), Device::Distributor)
            .unwrap();
        bus.attach(range(0x302_0000, 0x100_0000), Device::Redistributor)
            .unwrap();
        let find = |ipa, width| bus.find(&load(ipa, width));
        assert_eq!(
            find(0x300_1004, Width::Word),
            Some((Device::Distributor, 4))
        );
        assert_eq!(
            find(0x311_0008, Width::Double),
            Some((Device::Redistributor, 0xf_0008))
        );
        assert_eq!(
            find(0x2200_0fff, Width::Byte),
            Some((Device::Vpl011, 0xfff))
        );
        assert_eq!(find(0x2200_1000, Width::Byte), None);
        assert_eq!(find(0x300_1002, Width::Word), None);
        assert_eq!(find(u64::MAX, Width::Byte), None);
        assert!(bus.overlaps(range(0x2200_0fff, 2)) && !bus.overlaps(range(0, 0x100)));
    }

    #[test]
    fn an_access_must_not_leave_its_device() {
        let mut bus = Bus::new();
        bus.attach(range(0x1000, 4), Device::Vpl011).unwrap();
        assert_eq!(bus.find(&load(0x1000, Width::Double)), None);
        assert!(bus.find(&load(0x1000, Width::Word)).is_some());
    }

    #[test]
    fn the_bus_refuses_what_it_cannot_hold() {
        let mut bus = Bus::new();
        assert_eq!(
            bus.attach(range(0, 0), Device::Vpl011),
            Err(BusError::Empty)
        );
        for odd in [range(2, 8), range(8, 6), range(0, 1 << 32)] {
            assert_eq!(bus.attach(odd, Device::Vpl011), Err(BusError::Shape));
        }
        for index in 0..MAX_DEVICES as u64 {
            bus.attach(range(index * 16, 16), Device::Vpl011).unwrap();
        }
        assert_eq!(
            bus.attach(range(0x1000, 16), Device::Distributor),
            Err(BusError::Full)
        );
    }

    proptest! {
        #[test]
        fn ranges_never_overlap_and_stay_sorted(
            ranges in prop::collection::vec((0_u64..16, 0_u64..4), 0..20),
            probe in 0_u64..96,
        ) {
            let mut bus = Bus::new();
            let mut taken: Vec<IpaRange> = Vec::new();
            for (start, size) in ranges {
                let range = range(start * 4, size * 4);
                let expected = if size == 0 {
                    false
                } else {
                    taken.len() < MAX_DEVICES && !taken.iter().any(|other| other.overlaps(range))
                };
                prop_assert_eq!(bus.attach(range, Device::Vpl011).is_ok(), expected);
                if expected {
                    taken.push(range);
                }
            }
            prop_assert!(bus.devices.is_sorted_by_key(|(range, _)| range.start()));
            let owner = taken.iter().find(|range| range.contains(Ipa::new(probe)));
            let found = bus.find(&load(probe, Width::Byte));
            prop_assert_eq!(
                found.map(|(_, offset)| offset),
                owner.map(|range| probe - range.start().get())
            );
            let word = bus.find_word(Ipa::new(probe));
            let same = bus.find(&load(probe, Width::Word));
            prop_assert_eq!(word, same.map(|(device, offset)| (device, offset as u32)));
        }
    }
}
