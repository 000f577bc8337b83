//! Console output as a person sees it at the end: escape sequences gone, a line that was drawn
//! again (`\r`, then erased) kept once, in its last form.

/// Text of a console, in lines. The last one may be unfinished.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    raw: Vec<u8>,
    lines: Vec<String>,
    current: Vec<u8>,
    returned: bool,
    escape: Escape,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Started,
    Sequence,
}

impl Transcript {
    /// Takes what the console sent.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        for &byte in bytes {
            self.byte(byte);
        }
    }

    fn byte(&mut self, byte: u8) {
        match self.escape {
            Escape::Started => {
                self.escape = if byte == b'[' {
                    Escape::Sequence
                } else {
                    Escape::None
                };
                return;
            }
            Escape::Sequence => {
                if (0x40..=0x7e).contains(&byte) {
                    self.escape = Escape::None;
                    // Erase to the end of the line, after a carriage return: all of it.
                    if byte == b'K' && self.returned {
                        self.current.clear();
                        self.returned = false;
                    }
                }
                return;
            }
            Escape::None => {}
        }
        match byte {
            0x1b => self.escape = Escape::Started,
            b'\n' => {
                self.lines
                    .push(String::from_utf8_lossy(&self.current).into_owned());
                self.current.clear();
                self.returned = false;
            }
            b'\r' => self.returned = true,
            0x20.. | b'\t' => {
                if self.returned {
                    self.current.clear();
                    self.returned = false;
                }
                self.current.push(byte);
            }
            _ => {}
        }
    }

    /// Every line, the unfinished one last.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = self.lines.clone();
        if !self.current.is_empty() {
            lines.push(String::from_utf8_lossy(&self.current).into_owned());
        }
        lines
    }

    /// Lines from number `from` on, finished ones and the unfinished one.
    pub(crate) fn since(&self, from: usize) -> impl Iterator<Item = (usize, String)> {
        let unfinished = (!self.current.is_empty()).then(|| {
            (
                self.lines.len(),
                String::from_utf8_lossy(&self.current).into_owned(),
            )
        });
        let finished = self
            .lines
            .iter()
            .enumerate()
            .skip(from)
            .map(|(at, line)| (at, line.clone()));
        finished.chain(unfinished.filter(move |(at, _)| *at >= from))
    }

    /// Whether line number `at` is the unfinished one.
    pub(crate) fn grows(&self, at: usize) -> bool {
        at >= self.finished()
    }

    /// How many lines will not change any more.
    pub(crate) fn finished(&self) -> usize {
        self.lines.len()
    }

    /// What was received, untouched.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }
}

#[cfg(test)]
mod tests {
    use super::Transcript;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut transcript = Transcript::default();
        transcript.push(bytes);
        transcript.lines()
    }

    #[test]
    fn lines_end_with_either_ending() {
        assert_eq!(lines(b"one\r\ntwo\n\nthree"), ["one", "two", "", "three"]);
    }

    #[test]
    fn a_line_drawn_again_counts_once() {
        assert_eq!(
            lines(b"a| prom\r\x1b[Kb| beat\r\na| prompt"),
            ["b| beat", "a| prompt"]
        );
    }

    #[test]
    fn escape_sequences_are_dropped() {
        assert_eq!(lines(b"\x1b[1;31mred\x1b[0m\x1b[6n \x07x"), ["red x"]);
    }

    #[test]
    fn since_counts_the_unfinished_line() {
        let mut transcript = Transcript::default();
        transcript.push(b"one\ntw");
        let seen: Vec<_> = transcript.since(1).collect();
        assert_eq!(seen, [(1, "tw".to_owned())]);
        assert_eq!(transcript.since(2).count(), 0);
        assert!(transcript.grows(1) && !transcript.grows(0));
    }
}
