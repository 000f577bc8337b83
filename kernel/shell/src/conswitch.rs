//! The key that moves the input from source to source: Xen's `conswitch` option (Xen's command line
//! document; drivers/char/console.c for what three presses do).

use core::fmt;

/// Presses that switch.
const PRESSES: u8 = 3;

/// The switch key: Ctrl and a letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Switch {
    letter: u8,
    /// Whether the first guest gets the input at boot, which the option's `x` prevents.
    pub to_guest_at_boot: bool,
}

/// The option is not a letter, or a letter and `x`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadSwitch;

impl fmt::Display for BadSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("conswitch: expected a letter from a to z, and perhaps an x after it")
    }
}

impl Default for Switch {
    /// Ctrl-A, and the input goes to the first guest.
    fn default() -> Self {
        Self {
            letter: b'a',
            to_guest_at_boot: true,
        }
    }
}

impl Switch {
    /// Parses the value of `conswitch=`: a letter, and `x` if the hypervisor is to keep the input at
    /// boot.
    ///
    /// # Errors
    ///
    /// [`BadSwitch`] for anything else.
    pub fn parse(option: &str) -> Result<Self, BadSwitch> {
        let (letter, to_guest_at_boot) = match *option.as_bytes() {
            [letter] => (letter, true),
            [letter, b'x'] => (letter, false),
            _ => return Err(BadSwitch),
        };
        let letter = letter.to_ascii_lowercase();
        if letter.is_ascii_lowercase() {
            Ok(Self {
                letter,
                to_guest_at_boot,
            })
        } else {
            Err(BadSwitch)
        }
    }

    /// The letter pressed with Ctrl, as a capital.
    #[must_use]
    pub fn letter(self) -> char {
        char::from(self.letter.to_ascii_uppercase())
    }

    /// The byte that a terminal sends for it.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.letter & 0x1f
    }
}

/// What a byte from the keyboard means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pressed {
    /// It may become a switch: kept back.
    Kept,
    /// The third in a row: switch.
    Switch,
    /// Something else, after so many presses of the switch key that were none.
    Other(u8),
}

/// Counts presses. As on Xen, presses that turn out not to switch reach the guest before what follows.
#[derive(Default, Debug)]
pub(crate) struct Presses(u8);

impl Presses {
    pub(crate) fn take(&mut self, switch: Switch, byte: u8) -> Pressed {
        if byte != switch.code() {
            return Pressed::Other(core::mem::take(&mut self.0));
        }
        self.0 += 1;
        if self.0 < PRESSES {
            return Pressed::Kept;
        }
        self.0 = 0;
        Pressed::Switch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_xen() {
        let switch = Switch::parse("a").unwrap();
        assert_eq!(
            (switch, switch.code(), switch.letter()),
            (Switch::default(), 1, 'A')
        );
        let switch = Switch::parse("bx").unwrap();
        assert_eq!((switch.code(), switch.to_guest_at_boot), (2, false));
        assert_eq!(Switch::parse("Z").unwrap().code(), 26);
        for wrong in ["", "1", "ab", "axx", "é", "xxx", " "] {
            assert_eq!(Switch::parse(wrong), Err(BadSwitch), "{wrong}");
        }
    }
}
