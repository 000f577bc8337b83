//! The line editor: bytes of a terminal to a line, with the keys that readline has made everybody's.
//!
//! Nothing here touches the screen: [`Editor::render`] says what the line is to look like, in one row whatever its
//! length. Lines are printable ASCII.

use arrayvec::ArrayVec;

/// Bytes of a line. More are refused.
pub(crate) const MAX_COMMAND: usize = 160;
/// Lines that are remembered.
const REMEMBERED: usize = 16;
/// Characters of the line that are shown at once, behind the prompt.
const WINDOW: usize = 66;

/// What stands before the line.
pub(crate) const PROMPT: &str = "viaduct> ";

/// A line.
pub(crate) type Line = ArrayVec<u8, MAX_COMMAND>;
/// How a line is drawn: the prompt, what is shown of the line, and where the cursor goes.
pub(crate) type Drawn = ArrayVec<u8, 96>;

/// What came of a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Edited {
    /// Nothing that can be seen.
    Nothing,
    /// The line or the cursor is another.
    Changed,
    /// The line is complete.
    Enter,
    /// The word before the cursor is to be completed.
    Complete,
    /// The line is given up.
    Cancel,
}

/// Where in an escape sequence of the keyboard the stream is (ECMA-48 5.4; xterm's keys).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Escape {
    #[default]
    None,
    Started,
    /// In a control sequence, with its first parameter.
    Sequence(u8),
    /// After ESC O.
    Single,
}

/// The editor.
#[derive(Default)]
pub(crate) struct Editor {
    line: Line,
    cursor: usize,
    escape: Escape,
    /// Oldest first.
    history: ArrayVec<Line, REMEMBERED>,
    /// Which of them is shown, counted from the newest; 0: none.
    recalled: usize,
    /// What was typed before the first was recalled.
    draft: Line,
    /// The last byte was a carriage return: a line feed behind it is the same key.
    returned: bool,
}

impl Editor {
    /// The line.
    pub(crate) fn line(&self) -> &str {
        str::from_utf8(&self.line).unwrap_or("")
    }

    /// The line up to the cursor.
    pub(crate) fn before_cursor(&self) -> &str {
        self.line().get(..self.cursor).unwrap_or("")
    }

    /// Begins a new line; the old one is remembered.
    pub(crate) fn accept(&mut self) -> Line {
        let line = self.line.clone();
        let blank = line.iter().all(|&byte| byte == b' ');
        if !blank && self.history.last() != Some(&line) {
            if self.history.is_full() {
                self.history.remove(0);
            }
            self.history.push(line.clone());
        }
        self.clear();
        line
    }

    /// Begins a new line.
    pub(crate) fn clear(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.recalled = 0;
    }

    /// Puts text before the cursor, as much as fits.
    pub(crate) fn insert(&mut self, text: &str) {
        for byte in text.bytes().filter(|byte| matches!(byte, b' '..=b'~')) {
            if self.line.try_insert(self.cursor, byte).is_ok() {
                self.cursor += 1;
            }
        }
    }

    /// Takes a byte from the keyboard.
    pub(crate) fn take(&mut self, byte: u8) -> Edited {
        let after_return = core::mem::replace(&mut self.returned, byte == b'\r');
        match (self.escape, byte) {
            (Escape::None, 0x1b) => self.within(Escape::Started),
            (Escape::None, b'\n') if after_return => Edited::Nothing,
            (Escape::None, _) => self.key(byte),
            (Escape::Started, b'[') => self.within(Escape::Sequence(0)),
            (Escape::Started, b'O') => self.within(Escape::Single),
            (Escape::Sequence(parameter), b'0'..=b'9') => self.within(Escape::Sequence(
                parameter.wrapping_mul(10).wrapping_add(byte - b'0'),
            )),
            (Escape::Sequence(_), b';') => self.within(Escape::Sequence(0)),
            (Escape::Sequence(parameter), b'~') => {
                self.escape = Escape::None;
                match parameter {
                    1 | 7 => self.to(0),
                    4 | 8 => self.to(self.line.len()),
                    3 => self.delete(),
                    _ => Edited::Nothing,
                }
            }
            (Escape::Sequence(_) | Escape::Single, _) => {
                self.escape = Escape::None;
                match byte {
                    b'A' => self.recall(true),
                    b'B' => self.recall(false),
                    b'C' => self.to(self.cursor + 1),
                    b'D' => self.to(self.cursor.saturating_sub(1)),
                    b'H' => self.to(0),
                    b'F' => self.to(self.line.len()),
                    _ => Edited::Nothing,
                }
            }
            (Escape::Started, _) => self.within(Escape::None),
        }
    }

    fn within(&mut self, escape: Escape) -> Edited {
        self.escape = escape;
        Edited::Nothing
    }

    fn key(&mut self, byte: u8) -> Edited {
        match byte {
            b'\r' | b'\n' => Edited::Enter,
            b'\t' => Edited::Complete,
            b' '..=b'~' if self.line.is_full() => Edited::Nothing,
            b' '..=b'~' => {
                self.line.insert(self.cursor, byte);
                self.cursor += 1;
                Edited::Changed
            }
            0x08 | 0x7f if self.cursor > 0 => {
                self.cursor -= 1;
                self.delete()
            }
            _ => self.control(byte),
        }
    }

    /// Ctrl and a letter.
    fn control(&mut self, byte: u8) -> Edited {
        match byte | 0x60 {
            b'a' => self.to(0),
            b'b' => self.to(self.cursor.saturating_sub(1)),
            b'c' => Edited::Cancel,
            b'd' => self.delete(),
            b'e' => self.to(self.line.len()),
            b'f' => self.to(self.cursor + 1),
            b'k' => {
                self.line.truncate(self.cursor);
                Edited::Changed
            }
            b'l' => Edited::Changed,
            b'n' => self.recall(false),
            b'p' => self.recall(true),
            b'u' => self.cut_from(0),
            b'w' => {
                let before = self.before_cursor().trim_end_matches(' ');
                let word = before.rfind(' ').map_or(0, |space| space + 1);
                self.cut_from(word)
            }
            _ => Edited::Nothing,
        }
    }

    fn to(&mut self, cursor: usize) -> Edited {
        self.cursor = cursor.min(self.line.len());
        Edited::Changed
    }

    fn delete(&mut self) -> Edited {
        match self.line.pop_at(self.cursor) {
            Some(_) => Edited::Changed,
            None => Edited::Nothing,
        }
    }

    /// Takes out what is between a place and the cursor.
    fn cut_from(&mut self, start: usize) -> Edited {
        let start = start.min(self.cursor);
        self.line.drain(start..self.cursor);
        self.to(start)
    }

    fn recall(&mut self, older: bool) -> Edited {
        let wanted = if older {
            (self.recalled + 1).min(self.history.len())
        } else {
            self.recalled.saturating_sub(1)
        };
        if wanted == self.recalled {
            return Edited::Nothing;
        }
        if self.recalled == 0 {
            self.draft = self.line.clone();
        }
        self.recalled = wanted;
        let at = self.history.len().checked_sub(wanted);
        self.line = match at.and_then(|at| self.history.get(at)) {
            Some(line) if wanted != 0 => line.clone(),
            _ => self.draft.clone(),
        };
        self.to(self.line.len())
    }

    /// How the line is to look: the prompt, a window of the line around the cursor, and the way back to the cursor.
    pub(crate) fn render(&self) -> Drawn {
        // The cursor may stand behind the last character.
        let start = self.cursor.saturating_sub(WINDOW - 1);
        let shown = self.line.get(start..).unwrap_or_default();
        let shown = shown.get(..WINDOW).unwrap_or(shown);
        let mut drawn = Drawn::new();
        let back = shown.len().saturating_sub(self.cursor - start);
        for byte in PROMPT.as_bytes().iter().chain(shown) {
            let _ = drawn.try_push(*byte);
        }
        if back != 0 {
            let mut text = arrayvec::ArrayString::<8>::new();
            // CUB (ECMA-48 8.3.18). It fits: two digits.
            let _ = core::fmt::Write::write_fmt(&mut text, format_args!("\x1b[{back}D"));
            let _ = drawn.try_extend_from_slice(text.as_bytes());
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(keys: &str) -> Editor {
        let mut editor = Editor::default();
        for byte in keys.bytes() {
            if editor.take(byte) == Edited::Enter {
                let _ = editor.accept();
            }
        }
        editor
    }

    #[test]
    fn keys_do_what_they_do_everywhere() {
        for (keys, line, cursor) in [
            ("list", "list", 4),
            ("lst\x1b[D\x1b[Di", "list", 2),
            ("st\x01li\x05 a", "list a", 6),
            ("xlist\x1b[H\x1b[3~\x1b[F!", "list!", 5),
            ("xlist\x1b[1~\x04\x1b[4~!", "list!", 5),
            ("lists\x7f\x08t", "list", 4),
            ("info one two\x17three", "info one three", 14),
            ("info one  \x17", "info ", 5),
            ("rubbish\x15list", "list", 4),
            (
                "list rubbish\x1bOD\x1b[D\x02\x02\x02\x02\x02\x0b",
                "list ",
                5,
            ),
            ("\x1b[D\x1b[C\x7f\x04", "", 0),
            ("a\x1b[5~\x1b[1;5C\x1bxb\x00\x1f", "ab", 2),
            ("one\rtwo\r\nthr\x10", "two", 3),
            ("one\rtwo\rthr\x1b[A\x1b[A\x1b[A", "one", 3),
            ("one\rtwo\rthr\x1b[A\x1b[A\x1b[B\x1b[B\x1b[B", "thr", 3),
            ("one\rone\r\r  \rtwo\r\x10\x10", "one", 3),
        ] {
            let editor = typed(keys);
            assert_eq!((editor.line(), editor.cursor), (line, cursor), "{keys:?}");
        }
    }

    #[test]
    fn it_is_drawn_in_one_row() {
        assert_eq!(&typed("list").render()[..], b"viaduct> list");
        assert_eq!(
            &typed("list\x1b[D\x1b[D").render()[..],
            b"viaduct> list\x1b[2D"
        );
        let long = typed(&"x".repeat(300));
        assert_eq!(long.line().len(), MAX_COMMAND);
        assert_eq!(long.render().len(), PROMPT.len() + WINDOW - 1);
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let lines: String = (0..40).map(|number| format!("line {number}\r")).collect();
        let editor = typed(&(lines + &"\x1b[A".repeat(60)));
        assert_eq!(editor.line(), "line 24");
    }

    proptest! {
        #[test]
        fn any_bytes_leave_a_line(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut editor = Editor::default();
            for byte in bytes {
                if editor.take(byte) == Edited::Enter {
                    let _ = editor.accept();
                }
                prop_assert!(editor.cursor <= editor.line.len());
                prop_assert!(editor.line().bytes().all(|byte| matches!(byte, b' '..=b'~')));
                let drawn = editor.render();
                prop_assert!(drawn.starts_with(PROMPT.as_bytes()) && drawn.len() <= PROMPT.len() + WINDOW + 5);
            }
        }
    }
}
