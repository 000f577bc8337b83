//! Xenstore, as Linux's `/dev/xen/xenbus` passes it on: the wire protocol, one request at a time.

use crate::system::{File, Trouble};
use abi::xenstore as wire;
use core::fmt::{self, Write};

/// Text of a bounded length; what is too much is left out, and told by [`Self::is_whole`].
pub(crate) struct Text {
    bytes: [u8; 1024],
    length: usize,
    whole: bool,
}

impl Text {
    /// What `format_args!` says.
    pub(crate) fn new(words: fmt::Arguments<'_>) -> Result<Self, Trouble> {
        let mut text = Self {
            bytes: [0; 1024],
            length: 0,
            whole: true,
        };
        let _ = text.write_fmt(words);
        match text.whole {
            true => Ok(text),
            false => Err(Trouble("a text is too long", 7)),
        }
    }

    /// What is in it.
    pub(crate) fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or("")
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        match self.bytes.get_mut(self.length..end) {
            Some(slot) => {
                slot.copy_from_slice(text.as_bytes());
                self.length = end;
                Ok(())
            }
            None => {
                self.whole = false;
                Err(fmt::Error)
            }
        }
    }
}

/// The kernel's way to the store.
pub(crate) struct Store {
    device: File,
    watched: bool,
}

impl Store {
    /// Opens it.
    pub(crate) fn open() -> Result<Self, Trouble> {
        let device = File::open(c"/dev/xen/xenbus")?;
        Ok(Self {
            device,
            watched: false,
        })
    }

    /// A message: its kind, and as much of what is in it as text takes.
    fn receive(&mut self) -> Result<(u32, Text), Trouble> {
        let mut header = [0; 16];
        self.device.read_exactly("xenstore", &mut header)?;
        let word = |at: usize| {
            let bytes = header.get(at..at + 4).and_then(|four| four.try_into().ok());
            u32::from_ne_bytes(bytes.unwrap_or_default())
        };
        let mut text = Text::new(format_args!(""))?;
        text.length = word(12) as usize;
        let room = text.bytes.get_mut(..text.length);
        let room = room.ok_or(Trouble("xenstore's answer is too long", 7))?;
        self.device.read_exactly("xenstore", room)?;
        Ok((word(0), text))
    }

    fn ask(
        &mut self,
        what: &'static str,
        kind: u32,
        words: fmt::Arguments<'_>,
    ) -> Result<Text, Trouble> {
        let payload = Text::new(words)?;
        let mut message = [0; 16 + 1024];
        let length = payload.length as u32;
        let header = [kind, 1, 0, length].map(u32::to_ne_bytes);
        let (head, body) = message.split_at_mut(16);
        head.copy_from_slice(header.as_flattened());
        body.copy_from_slice(&payload.bytes);
        let used = message.get(..16 + payload.length).unwrap_or_default();
        self.device.write(what, used)?;
        loop {
            match self.receive()? {
                (wire::WATCH_EVENT, _) => self.watched = true,
                // It names its errors; these two are told apart here.
                (wire::ERROR, text) => {
                    return Err(Trouble(
                        what,
                        match text.as_str().trim_end_matches('\0') {
                            "ENOENT" => NOT_THERE,
                            "EACCES" => DENIED,
                            _ => 5,
                        },
                    ));
                }
                (_, text) => return Ok(text),
            }
        }
    }

    /// A node's value.
    pub(crate) fn read(&mut self, path: &str) -> Result<Text, Trouble> {
        self.ask("xenstore read", wire::READ, format_args!("{path}\0"))
    }

    /// Sets it.
    pub(crate) fn write(&mut self, path: &str, value: &str) -> Result<(), Trouble> {
        let words = format_args!("{path}\0{value}");
        self.ask("xenstore write", wire::WRITE, words).map(|_| ())
    }

    /// Removes a node.
    pub(crate) fn remove(&mut self, path: &str) -> Result<(), Trouble> {
        self.ask("xenstore rm", wire::RM, format_args!("{path}\0"))
            .map(|_| ())
    }

    /// `own` owns the node, `reader` may read it.
    pub(crate) fn show(&mut self, path: &str, own: u16, reader: u16) -> Result<(), Trouble> {
        let words = format_args!("{path}\0n{own}\0r{reader}\0");
        self.ask("xenstore chmod", wire::SET_PERMS, words)
            .map(|_| ())
    }

    /// Asks to be told of changes of a node.
    pub(crate) fn watch(&mut self, path: &str) -> Result<(), Trouble> {
        let words = format_args!("{path}\0exchange\0");
        self.ask("xenstore watch", wire::WATCH, words).map(|_| ())
    }

    /// Waits until that happens.
    pub(crate) fn wait(&mut self) -> Result<(), Trouble> {
        while !self.watched {
            let (kind, _) = self.receive()?;
            self.watched = kind == wire::WATCH_EVENT;
        }
        self.watched = false;
        Ok(())
    }
}

/// `ENOENT`.
pub(crate) const NOT_THERE: i32 = 2;
/// `EACCES`.
pub(crate) const DENIED: i32 = 13;
