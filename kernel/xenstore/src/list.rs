//! Lists of strings in a payload, each with a NUL after it: taking them apart and writing them.

use abi::Errno;

/// The first string of a payload, and what follows its NUL.
///
/// # Errors
/// [`Errno::Invalid`] if there is no NUL.
pub(crate) fn first(payload: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    let end = payload.iter().position(|byte| *byte == 0);
    let (string, rest) = end
        .and_then(|end| payload.split_at_checked(end))
        .ok_or(Errno::Invalid)?;
    Ok((string, rest.get(1..).unwrap_or_default()))
}

/// The only string of a payload.
///
/// # Errors
/// [`Errno::Invalid`] if there is none, or anything behind it.
pub(crate) fn only(payload: &[u8]) -> Result<&[u8], Errno> {
    match first(payload)? {
        (string, []) => Ok(string),
        _ => Err(Errno::Invalid),
    }
}

/// The only two strings of a payload.
///
/// # Errors
/// As [`only`].
pub(crate) fn two(payload: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    let (string, rest) = first(payload)?;
    Ok((string, only(rest)?))
}

/// Whether two strings are the same; word by word, which the compiler's own comparison is not everywhere.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let (ones, others) = (one.chunks_exact(8), other.chunks_exact(8));
    let is_rest_same = ones
        .remainder()
        .iter()
        .zip(others.remainder())
        .all(|(a, b)| a == b);
    let word = |bytes: &[u8]| {
        bytes
            .first_chunk::<8>()
            .map(|bytes| u64::from_le_bytes(*bytes))
    };
    is_rest_same && ones.zip(others).all(|(a, b)| word(a) == word(b))
}

/// Writes a payload from its front.
pub(crate) struct Writer<'a> {
    buffer: &'a mut [u8],
    pub(crate) length: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, length: 0 }
    }

    /// Bytes that have room.
    pub(crate) fn room(&self) -> usize {
        self.buffer.len().saturating_sub(self.length)
    }

    /// # Errors
    /// [`Errno::TooBig`] if there is no room.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let end = self.length.saturating_add(bytes.len());
        let room = self.buffer.get_mut(self.length..end);
        room.ok_or(Errno::TooBig)?.copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }

    /// A number in decimal.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn number(&mut self, value: u64) -> Result<(), Errno> {
        let mut digits = [0; 20];
        self.push(crate::path::decimal(value, &mut digits))
    }
}
