//! Unpacks a gzip file (RFC 1952) in steps: kernels as Debian packs them.
//!
//! A step gives at most 32 KiB of what was packed, out of a window that the next step writes again, so that
//! no second copy of a kernel is ever in memory. Whatever the file holds, no more comes out than it promised,
//! and its checksum is compared before the end is told.

use alloc::vec::Vec;

use crc::{Digest, Table};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::Error;
use crate::fit::CRC_32;

/// What deflate looks back over (RFC 1951), and so what a step gives at most.
const WINDOW: usize = 32 * 1024;
/// Compressed bytes that one step reads at most.
pub(crate) const STEP: usize = 64 * 1024;
/// Fixed part of the header: magic, method, flags, time, extra flags, system.
const HEADER: usize = 10;
/// Checksum and length.
const TRAILER: usize = 8;
/// Method: deflate, the only one there is.
const DEFLATE: u8 = 8;

const CORRUPT: Error = Error::Kernel("gzip data: it is damaged");

/// Whether these are the first bytes of a gzip file.
pub(crate) fn is_gzip(file: &[u8]) -> bool {
    file.starts_with(&[0x1f, 0x8b])
}

/// A gzip file that is being unpacked.
pub struct Gunzip<'a> {
    /// Compressed data that has not been read.
    rest: &'a [u8],
    checksum: u32,
    length: u64,
    /// One element; a list, since it alone can be made without aborting when the heap is exhausted.
    inflator: Vec<DecompressorOxide>,
    window: Vec<u8>,
    /// Where in the window the next bytes go.
    at: usize,
    done: u64,
    digest: Digest<'static, u32, Table<1>>,
    ended: bool,
}

impl<'a> Gunzip<'a> {
    /// Reads the header and the trailer, which must end the file. Takes some 48 KiB of heap.
    ///
    /// # Errors
    /// It is no gzip file, or uses what RFC 1952 reserves, or the heap is exhausted.
    pub fn new(file: &'a [u8]) -> Result<Self, Error> {
        let (rest, checksum, length) = read_ends(file)?;
        let mut inflator = Vec::new();
        let mut window = Vec::new();
        let room = inflator
            .try_reserve_exact(1)
            .and_then(|()| window.try_reserve_exact(WINDOW));
        room.map_err(|_| Error::DoesNotFit("what unpacks the kernel"))?;
        inflator.push(DecompressorOxide::new());
        window.resize(WINDOW, 0);
        Ok(Self {
            rest,
            checksum,
            length,
            inflator,
            window,
            at: 0,
            done: 0,
            digest: CRC_32.digest(),
            ended: false,
        })
    }

    /// Begins with another file, or the same again, in the same memory.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn begin(&mut self, file: &'a [u8]) -> Result<(), Error> {
        (self.rest, self.checksum, self.length) = read_ends(file)?;
        self.inflator.first_mut().ok_or(CORRUPT)?.init();
        (self.at, self.done, self.ended) = (0, 0, false);
        self.digest = CRC_32.digest();
        Ok(())
    }

    /// Bytes that come out, as the file says; unpacking fails if they are more or fewer.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The next bytes, in order; `None` when all have come and the checksum was right. A step may bring no
    /// byte and not be the last.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn step(&mut self) -> Result<Option<&[u8]>, Error> {
        self.step_of(STEP)
    }

    /// The same, reading at most so many bytes of what is packed.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn step_of(&mut self, most: usize) -> Result<Option<&[u8]>, Error> {
        if self.ended {
            return Ok(None);
        }
        let input = self.rest.get(..most.min(self.rest.len())).unwrap_or(&[]);
        let more = input.len() < self.rest.len();
        let inflator = self.inflator.first_mut().ok_or(CORRUPT)?;
        let flags = if more { TINFL_FLAG_HAS_MORE_INPUT } else { 0 };
        let from = self.at;
        let (status, read, written) = decompress(inflator, input, &mut self.window, from, flags);
        self.rest = self.rest.get(read..).ok_or(CORRUPT)?;
        let end = from.checked_add(written).ok_or(CORRUPT)?;
        let bytes = self.window.get(from..end).ok_or(CORRUPT)?;
        self.done = self.done.saturating_add(written as u64);
        self.digest.update(bytes);
        self.at = if end == WINDOW { 0 } else { end };
        if self.done > self.length {
            return Err(Error::Kernel("gzip data: more than its length says"));
        }
        match status {
            TINFLStatus::Done => {
                self.ended = true;
                if !self.rest.is_empty() {
                    return Err(Error::Kernel("gzip data: bytes behind its end"));
                }
                if self.done != self.length {
                    return Err(Error::Kernel("gzip data: fewer than its length says"));
                }
                if self.digest.clone().finalize() != self.checksum {
                    return Err(Error::HashMismatch("gzip checksum"));
                }
            }
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::NeedsMoreInput if more && read > 0 => {}
            _ => return Err(CORRUPT),
        }
        Ok(Some(bytes))
    }
}

/// What is wrong with a gzip file whose length, as it says itself, is no use: it may be cut off, so that something else
/// was taken for the length. `None` if nothing is found in what makes its first `most` bytes.
pub(crate) fn damage(file: &[u8], most: u64) -> Option<Error> {
    let mut unpacking = match Gunzip::new(file) {
        Ok(unpacking) => unpacking,
        Err(error) => return Some(error),
    };
    while unpacking.done <= most {
        match unpacking.step() {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(error) => return Some(error),
        }
    }
    None
}

/// Reads header and trailer: what lies between, the checksum, and the length of what comes out.
fn read_ends(file: &[u8]) -> Result<(&[u8], u32, u64), Error> {
    let (packed, trailer) = file
        .len()
        .checked_sub(TRAILER)
        .and_then(|end| file.split_at_checked(end))
        .ok_or(CORRUPT)?;
    let word = |offset: usize| {
        let bytes = trailer.get(offset..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let (checksum, length) = word(0).zip(word(4)).ok_or(CORRUPT)?;
    let rest = skip_header(packed).ok_or(Error::Kernel("gzip header"))?;
    Ok((rest, checksum, u64::from(length)))
}

/// What follows the header; `None` if it is none, or is cut off.
fn skip_header(file: &[u8]) -> Option<&[u8]> {
    const HEADER_CHECKSUM: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;
    const RESERVED: u8 = 0xe0;

    let (fixed, mut rest) = file.split_at_checked(HEADER)?;
    let flags = *fixed.get(3)?;
    if !is_gzip(fixed) || *fixed.get(2)? != DEFLATE || flags & RESERVED != 0 {
        return None;
    }
    if flags & EXTRA != 0 {
        let (size, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*size))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0)?;
            rest = rest.get(end.checked_add(1)?..)?;
        }
    }
    if flags & HEADER_CHECKSUM != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

#[cfg(test)]
#[path = "gzip_tests.rs"]
pub(crate) mod tests;
