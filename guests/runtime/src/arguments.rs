//! The boot arguments: words, and `key=value` pairs.

use crate::entry;
use core::time::Duration;

/// The text of `/chosen` `bootargs`.
#[derive(Clone, Copy, Debug)]
pub struct Arguments(&'static str);

/// The arguments that this guest was started with.
pub fn arguments() -> Arguments {
    let chosen = entry::tree().and_then(|tree| tree.find("/chosen"));
    Arguments(
        chosen
            .and_then(|node| node.text("bootargs"))
            .unwrap_or_default(),
    )
}

impl Arguments {
    /// The whole line.
    pub fn line(self) -> &'static str {
        self.0
    }

    /// Whether the bare word is there.
    pub fn flag(self, word: &str) -> bool {
        self.0.split_whitespace().any(|candidate| candidate == word)
    }

    /// The value of the last `key=value`.
    pub fn get(self, key: &str) -> Option<&'static str> {
        let mut words = self.0.split_whitespace();
        words
            .rfind(|word| word.split_once('=').is_some_and(|(name, _)| name == key))?
            .split_once('=')
            .map(|(_, value)| value)
    }

    /// A number, decimal or `0x` hexadecimal.
    pub fn number(self, key: &str) -> Option<u64> {
        let value = self.get(key)?;
        match value.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => value.parse().ok(),
        }
    }

    /// A time such as `250ms`, `10us` or `2s`.
    pub fn duration(self, key: &str) -> Option<Duration> {
        let value = self.get(key)?;
        let digits = value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let number: u64 = digits.parse().ok()?;
        match value.get(digits.len()..)? {
            "us" => Some(Duration::from_micros(number)),
            "ms" => Some(Duration::from_millis(number)),
            "s" => Some(Duration::from_secs(number)),
            _ => None,
        }
    }
}
