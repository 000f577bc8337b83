//! Completion: what the word before the cursor may become.

use crate::command::{COMMANDS, Kind, entry};
use crate::system::System;

/// What is being completed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'l> {
    /// What may stand there; `None` if anything may.
    kind: Option<Kind>,
    /// What of it has been typed.
    pub(crate) typed: &'l str,
}

impl<'l> Place<'l> {
    /// The place at the end of a line that has been typed so far.
    pub(crate) fn at_end(line: &'l str) -> Self {
        let typed = line.rsplit(' ').next().unwrap_or("");
        let mut before = line
            .get(..line.len() - typed.len())
            .unwrap_or("")
            .split_ascii_whitespace();
        let kind = match before.next() {
            None => Some(Kind::Command),
            Some(name) => {
                entry(name).and_then(|entry| entry.arguments.get(before.count()).copied())
            }
        };
        Self { kind, typed }
    }

    /// The candidate with this number, of all that may stand there: those that begin otherwise are an empty text.
    fn candidate<'s>(&self, number: usize, system: &'s dyn System) -> Option<&'s str> {
        let word = match self.kind? {
            Kind::Command => COMMANDS.get(number)?.name,
            Kind::Guest => {
                if number >= system.guests() {
                    return None;
                }
                system.name(number).map_or("", |(_, name)| name)
            }
            Kind::OneOf(words) => words.get(number)?,
        };
        Some(if word.starts_with(self.typed) {
            word
        } else {
            ""
        })
    }

    /// The candidates that fit.
    pub(crate) fn candidates<'s>(&self, system: &'s dyn System) -> impl Iterator<Item = &'s str> {
        (0..)
            .map_while(|number| self.candidate(number, system))
            .filter(|word| !word.is_empty())
    }

    /// What all candidates go on with, and whether there is only one.
    pub(crate) fn common<'s>(&self, system: &'s dyn System) -> Option<(&'s str, bool)> {
        let mut all = self.candidates(system);
        let first = all.next()?;
        let (mut length, mut only) = (first.len(), true);
        for word in all {
            only = false;
            let same = first
                .bytes()
                .zip(word.bytes())
                .take_while(|(one, other)| one == other)
                .count();
            length = length.min(same);
        }
        // Names may have any characters: the cut falls between two.
        while !first.is_char_boundary(length) {
            length -= 1;
        }
        Some((first.get(self.typed.len()..length)?, only))
    }
}
