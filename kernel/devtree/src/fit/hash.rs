//! The hashes of a FIT image, worked out in steps: a board without crypto instructions takes long over a RAM
//! disk, and a hypervisor must not be away for long.

use arrayvec::ArrayVec;
use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::{Hash, MAX_HASHES};
use crate::Error;

pub(crate) static CRC_32: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// A hash algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// The CRC of Ethernet and gzip, most significant byte first.
    Crc32,
    /// SHA-1 (FIPS 180-4).
    Sha1,
    /// SHA-256 (FIPS 180-4).
    Sha256,
}

impl Algorithm {
    /// The algorithm that `algo` names; others that U-Boot knows are refused by name.
    pub fn from_name(name: &str) -> Result<Self, Error> {
        match name {
            "crc32" => Ok(Self::Crc32),
            "sha1" => Ok(Self::Sha1),
            "sha256" => Ok(Self::Sha256),
            "md5" => Err(Error::NotBuilt("hash algorithm \"md5\"")),
            "crc16-ccitt" => Err(Error::NotBuilt("hash algorithm \"crc16-ccitt\"")),
            "sha384" => Err(Error::NotBuilt("hash algorithm \"sha384\"")),
            "sha512" => Err(Error::NotBuilt("hash algorithm \"sha512\"")),
            _ => Err(Error::NotBuilt(
                "a hash algorithm other than crc32, sha1, sha256",
            )),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "crc32",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// Bytes of its value.
    pub fn size(self) -> usize {
        match self {
            Self::Crc32 => 4,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

enum Hasher {
    Crc32(Digest<'static, u32, Table<1>>),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Crc32 => Self::Crc32(CRC_32.digest()),
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32(digest) => digest.update(bytes),
            Self::Sha1(digest) => digest.update(bytes),
            Self::Sha256(digest) => digest.update(bytes),
        }
    }

    fn is(self, value: &[u8]) -> bool {
        match self {
            Self::Crc32(digest) => digest.finalize().to_be_bytes() == value,
            Self::Sha1(digest) => digest.finalize().as_slice() == value,
            Self::Sha256(digest) => digest.finalize().as_slice() == value,
        }
    }
}

/// How far a check has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Not at the end: step on.
    More,
    /// Over: every hash is right, or the first that is not.
    Done(Result<(), Error>),
}

/// A check of an image's hashes on its way, one hash after the other.
pub struct Check<'a> {
    data: &'a [u8],
    hashes: ArrayVec<Hash<'a>, MAX_HASHES>,
    current: Option<(Hash<'a>, Hasher, &'a [u8])>,
}

impl<'a> Check<'a> {
    pub(super) fn new(data: &'a [u8], mut hashes: ArrayVec<Hash<'a>, MAX_HASHES>) -> Self {
        // Taken from the end.
        hashes.reverse();
        Self {
            data,
            hashes,
            current: None,
        }
    }

    /// Hashes at most `bytes` bytes (0: it comes no further).
    pub fn step(&mut self, bytes: usize) -> Progress {
        let (hash, mut hasher, rest) = match self.current.take() {
            Some(current) => current,
            None => match self.hashes.pop() {
                Some(hash) => (hash, Hasher::new(hash.algorithm), self.data),
                None => return Progress::Done(Ok(())),
            },
        };
        let (now, rest) = rest.split_at_checked(bytes).unwrap_or((rest, &[]));
        hasher.update(now);
        if !rest.is_empty() {
            self.current = Some((hash, hasher, rest));
            return Progress::More;
        }
        if hasher.is(hash.value) {
            Progress::More
        } else {
            self.hashes.clear();
            Progress::Done(Err(Error::HashMismatch(hash.algorithm.name())))
        }
    }
}
