//! Takes from a stream of bytes what must not reach the terminal in the name of a source that does not
//! have the input: control characters, escape sequences (ECMA-48: 5.4 control sequences, 5.6 control
//! strings), C1 controls and bytes that are no UTF-8.

/// What a byte amounts to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kept {
    /// Nothing to show.
    Nothing,
    /// The first byte of a character of so many bytes.
    First(usize),
    /// A further byte of a character.
    Further,
    /// The character that was begun is a control character: it is to be taken back.
    TakeBack,
    /// The end of the line.
    End,
    /// Back to the start of the line.
    Return,
}

/// Where in the grammar the stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// In a control sequence: up to a final byte.
    Sequence,
    /// In a control string: up to BEL, or ESC and `\`.
    String,
    /// In a character: so many bytes to come; whether it is the first of them after C2.
    Character(u8, bool),
}

/// The filter of one source.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Filter(State);

/// The first bytes of a stream that are letters and the like: each of them is kept by a filter that [is at
/// rest](Filter::is_at_rest), and leaves it so.
pub(crate) fn plain(bytes: &[u8]) -> &[u8] {
    let is_other = |byte: &u8| !matches!(byte, b' '..=b'~');
    let length = bytes.iter().position(is_other).unwrap_or(bytes.len());
    bytes.get(..length).unwrap_or_default()
}

impl Filter {
    /// It is in the middle of no character and no sequence.
    pub(crate) fn is_at_rest(self) -> bool {
        self.0 == State::Ground
    }

    pub(crate) fn take(&mut self, byte: u8) -> Kept {
        // A line ends in any state: no sequence swallows what comes after it.
        if byte == b'\n' {
            self.0 = State::Ground;
            return Kept::End;
        }
        match (self.0, byte) {
            (State::Escape, b'[') => self.to(State::Sequence),
            // OSC, DCS, SOS, PM, APC.
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => self.to(State::String),
            // Intermediate bytes, as in "ESC ( B".
            (State::Escape, 0x20..=0x2f) => Kept::Nothing,
            (State::Escape, _) if byte != 0x1b => self.to(State::Ground),
            (State::Sequence, 0x20..=0x3f) => Kept::Nothing,
            (State::Sequence, 0x40..=0x7e) => self.to(State::Ground),
            (State::String, 0x07) => self.to(State::Ground),
            (State::String, _) if byte != 0x1b => Kept::Nothing,
            (State::Character(left, after_c2), 0x80..=0xbf) => {
                self.0 = match left {
                    0 | 1 => State::Ground,
                    _ => State::Character(left - 1, false),
                };
                // U+0080 to U+009F are the C1 controls, which terminals obey.
                if after_c2 && byte < 0xa0 {
                    Kept::TakeBack
                } else {
                    Kept::Further
                }
            }
            _ => self.ground(byte),
        }
    }

    fn to(&mut self, state: State) -> Kept {
        self.0 = state;
        Kept::Nothing
    }

    fn ground(&mut self, byte: u8) -> Kept {
        let more = match byte {
            0xc2..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf4 => 3,
            _ => 0,
        };
        self.0 = match (byte, more) {
            (0x1b, _) => State::Escape,
            (_, 0) => State::Ground,
            _ => State::Character(more, byte == 0xc2),
        };
        match byte {
            b'\r' => Kept::Return,
            b'\t' | b' '..=b'~' | 0xc2..=0xf4 => Kept::First(usize::from(more) + 1),
            _ => Kept::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(bytes: &[u8]) -> Vec<u8> {
        let (mut filter, mut out) = (Filter::default(), Vec::new());
        for &byte in bytes {
            match filter.take(byte) {
                Kept::Nothing => {}
                Kept::First(_) | Kept::Further | Kept::End => out.push(byte),
                Kept::TakeBack => assert_eq!(out.pop(), Some(0xc2)),
                Kept::Return => out.push(b'<'),
            }
        }
        out
    }

    #[test]
    fn what_moves_the_cursor_is_taken_out() {
        for (raw, kept) in [
            (&b"plain\ttext~"[..], &b"plain\ttext~"[..]),
            (b"\x1b[1;31mred\x1b[0m", b"red"),
            (b"a\x1b]0;title\x07b\x1bP1;2q\x1b\\c", b"abc"),
            (b"\x1b(B\x1b7x\x1bc", b"x"),
            (b"\x1b\x1b[2Jx\x08\x7f\0y", b"xy"),
            (b"\x1b[31\nnext", b"\nnext"),
            (b"\x1b]never ended\nnext", b"\nnext"),
            (b"10%\r20%", b"10%<20%"),
            ("grüße €🦀".as_bytes(), "grüße €🦀".as_bytes()),
            (b"\x9b2J\x85\xff\xc0x", b"2Jx"),
            (b"\xc2\x9b2J", b"2J"),
        ] {
            assert_eq!(filtered(raw), kept, "{raw:?}");
        }
    }
}
