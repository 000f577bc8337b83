//! The devices that Viaduct drives itself, told by `compatible`.

use crate::tree::Property;

/// A kind of device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Device {
    /// Arm's PL011, or the SBSA's part of it.
    Pl011,
    /// The "mini UART" of the BCM283x and BCM2711.
    MiniUart,
    /// GICv2.
    GicV2,
    /// GICv3.
    GicV3,
    /// The generic timer.
    Timer,
    /// PSCI 0.2 or later.
    Psci,
    /// The power management block of the BCM2835 and BCM2711.
    PowerManagement,
    /// A clock of one frequency.
    FixedClock,
    /// The GPIO block of the BCM2711.
    Gpio,
    /// Lights on GPIO pins.
    Leds,
}

impl Device {
    /// The device that the first known string of a `compatible` names. Every node of the board is asked, so
    /// the list is gone through once.
    pub(crate) fn of(compatible: &Property<'_>) -> Option<Self> {
        compatible
            .value
            .split(|&byte| byte == 0)
            .find_map(|text| match text {
                b"arm,pl011" | b"arm,sbsa-uart" => Some(Self::Pl011),
                b"brcm,bcm2835-aux-uart" => Some(Self::MiniUart),
                b"arm,gic-400"
                | b"arm,cortex-a15-gic"
                | b"arm,cortex-a9-gic"
                | b"arm,cortex-a7-gic" => Some(Self::GicV2),
                b"arm,gic-v3" => Some(Self::GicV3),
                b"arm,armv8-timer" => Some(Self::Timer),
                b"arm,psci-1.0" | b"arm,psci-0.2" => Some(Self::Psci),
                b"brcm,bcm2711-pm" | b"brcm,bcm2835-pm" | b"brcm,bcm2835-pm-wdt" => {
                    Some(Self::PowerManagement)
                }
                b"fixed-clock" => Some(Self::FixedClock),
                b"brcm,bcm2711-gpio" => Some(Self::Gpio),
                b"gpio-leds" => Some(Self::Leds),
                _ => None,
            })
    }
}
