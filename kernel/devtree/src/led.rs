//! The board's light: the one that the Pi's tree calls ACT, on a pin of the BCM2711's GPIO block. Where no UART
//! works it is all that a person can see of a stop.

use memory::PaRange;

use crate::Tree;
use crate::device::Device;
use crate::walk::{Visit, Walk};

/// Pins that the BCM2711's GPIO block has (BCM2711 ARM Peripherals, chapter 5).
const PINS: u32 = 58;
/// Bit 0 of the flags in a `gpios` entry: the light is on while the pin is low.
const ACTIVE_LOW: u32 = 1;

/// A light on a GPIO pin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Led {
    /// The registers of the GPIO block, as the CPU sees them.
    pub registers: PaRange,
    /// The pin, below 58.
    pub pin: u32,
    /// Whether it is lit while the pin is low.
    pub is_active_low: bool,
}

/// Picks it up on the way through a tree, in which lights and GPIO block come in any order.
#[derive(Default)]
pub(crate) struct Finder {
    /// Phandle and registers of the GPIO block.
    block: Option<(u32, PaRange)>,
    /// Phandle of the controller, pin and flags of lights: the first ones that the tree names.
    lights: [Option<[u32; 3]>; LIGHTS],
}

/// Lights that are looked at. A Pi 4 has two, of which one hangs on another controller.
const LIGHTS: usize = 4;

impl Finder {
    /// A node just visited, of which [`Visit::device`] has been asked.
    pub(crate) fn visit<'a>(&mut self, walk: &Walk<'a>, visit: &Visit<'a>, device: Device) {
        match device {
            Device::Gpio => {
                let found = visit.phandle.zip(walk.register(visit, 0));
                self.block = self.block.or(found);
            }
            Device::Leds => {
                let lights = visit.node.children().filter_map(|light| {
                    let mut cells = light.property("gpios")?.cells();
                    Some([cells.next()?, cells.next()?, cells.next()?])
                });
                for (place, light) in self.lights.iter_mut().zip(lights) {
                    *place = Some(light);
                }
            }
            _ => {}
        }
    }

    /// The first light on the GPIO block.
    pub(crate) fn found(&self) -> Option<Led> {
        let (block, registers) = self.block?;
        let mut lights = self.lights.iter().flatten();
        let [_, pin, flags] =
            *lights.find(|[controller, pin, _]| *controller == block && *pin < PINS)?;
        Some(Led {
            registers,
            pin,
            is_active_low: flags & ACTIVE_LOW != 0,
        })
    }
}

/// The light of the board with this tree, found before anything else is up. `None` if it has none, or these bytes
/// are not a tree.
#[must_use]
pub fn led(tree: &[u8]) -> Option<Led> {
    let tree = Tree::new(tree).ok()?;
    let mut walk = Walk::new(&tree);
    let mut finder = Finder::default();
    while let Some(visit) = walk.next() {
        if let Some(device) = visit.device().filter(|_| visit.enabled) {
            finder.visit(&walk, &visit, device);
        }
    }
    finder.found()
}
