//! Paths, as a guest writes them: absolute, relative to its own `/local/domain/N`, or one of the two special
//! names. `@introduceDomain` and `@releaseDomain` are nodes below the root here, so that they have permissions.

use abi::Errno;
use abi::xenstore::{ABSOLUTE_PATH_MAX, RELATIVE_PATH_MAX};

/// Where domains have their homes.
pub(crate) const HOMES: &[u8] = b"/local/domain/";
/// Told when a domain is added.
pub(crate) const INTRODUCED: &[u8] = b"@introduceDomain";
/// Told when a domain is removed.
pub(crate) const RELEASED: &[u8] = b"@releaseDomain";

/// From where a path goes down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum From {
    Root,
    /// The root, at a name that begins with `@`.
    Special,
    Home,
}

/// A path that was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Path<'a> {
    pub(crate) from: From,
    /// Components with single slashes between them; empty for the root.
    pub(crate) rest: &'a [u8],
}

/// Whether a byte may stand in a path: letters, digits, `-`, `/`, `_`, `@`.
const ALLOWED: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut rest: &[u8] = b"-/_@0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    while let Some((byte, others)) = rest.split_first() {
        // In a constant, where an index out of range is an error of the compiler's.
        #[expect(clippy::indexing_slicing, reason = "a byte, and 256 entries")]
        {
            allowed[*byte as usize] = true;
        }
        rest = others;
    }
    allowed
};

impl<'a> Path<'a> {
    /// Checks a path, which may be `most` bytes long unless the protocol's limit is lower, and have `depth`
    /// components.
    ///
    /// # Errors
    /// [`Errno::Invalid`].
    pub(crate) fn new(text: &'a [u8], most: usize, depth: usize) -> Result<Self, Errno> {
        if text == INTRODUCED || text == RELEASED {
            return Ok(Self {
                from: From::Special,
                rest: text,
            });
        }
        let (from, rest, limit) = match text.split_first() {
            Some((b'/', [])) => {
                return Ok(Self {
                    from: From::Root,
                    rest: &[],
                });
            }
            Some((b'/', rest)) => (From::Root, rest, ABSOLUTE_PATH_MAX),
            Some((b'@', _)) | None => return Err(Errno::Invalid),
            Some(_) => (From::Home, text, RELATIVE_PATH_MAX),
        };
        if text.len() > limit.min(most) {
            return Err(Errno::Invalid);
        }
        let mut before = b'/';
        let mut slashes: usize = 0;
        for &byte in rest {
            slashes = slashes.saturating_add(usize::from(byte == b'/'));
            let is_allowed = ALLOWED.get(usize::from(byte)).copied();
            if is_allowed != Some(true) || (byte == b'/' && before == b'/') {
                return Err(Errno::Invalid);
            }
            before = byte;
        }
        if before == b'/' || slashes >= depth {
            return Err(Errno::Invalid);
        }
        Ok(Self { from, rest })
    }

    /// Its components.
    pub(crate) fn components(&self) -> Components<'a> {
        Components(self.rest)
    }
}

/// Components that are left, the first one first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Components<'a>(&'a [u8]);

impl<'a> Components<'a> {
    pub(crate) fn of(rest: &'a [u8]) -> Self {
        Self(rest)
    }
}

impl<'a> Iterator for Components<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().position(|byte| *byte == b'/');
        let (component, rest) = self.0.split_at_checked(end.unwrap_or(self.0.len()))?;
        self.0 = rest.get(1..).unwrap_or_default();
        Some(component)
    }
}

/// What siblings are sorted by.
pub(crate) fn hash(name: &[u8]) -> u16 {
    let sum = name.iter().fold(0x811c_9dc5_u32, |sum, byte| {
        (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    (sum ^ sum.wrapping_shr(16)) as u16
}

/// A number in decimal, all digits.
pub(crate) fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u32, |value, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// A number as decimal digits.
pub(crate) fn decimal(value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut value = value;
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0'.wrapping_add((value % 10) as u8);
        value /= 10;
        start = start.saturating_sub(1);
        if value == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}
