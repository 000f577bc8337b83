//! Gzip files, made here, whole and damaged.

use super::*;
use crate::random::Random;

/// Like a kernel: some of it repeats, some does not.
pub(crate) fn content(length: usize) -> Vec<u8> {
    let mut random = Random::new(length as u64);
    let mut bytes = Vec::new();
    while bytes.len() < length {
        match random.below(3) {
            0 => bytes.extend(random.next().to_le_bytes()),
            1 => bytes.extend([0; 100]),
            _ => bytes.extend((0..60).map(|number| number as u8)),
        }
    }
    bytes.truncate(length);
    bytes
}

/// `content` as `gzip -n` would have it, with these flags and what they announce.
pub(crate) fn pack(content: &[u8], flags: u8, announced: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, DEFLATE, flags, 0, 0, 0, 0, 0, 3];
    file.extend(announced);
    file.extend(miniz_oxide::deflate::compress_to_vec(content, 6));
    file.extend(CRC_32.checksum(content).to_le_bytes());
    file.extend((content.len() as u32).to_le_bytes());
    file
}

fn unpack(file: &[u8]) -> Result<Vec<u8>, Error> {
    let mut unpacking = Gunzip::new(file)?;
    let mut bytes = Vec::new();
    while let Some(part) = unpacking.step()? {
        assert!(part.len() <= WINDOW);
        bytes.extend(part);
        assert!(
            bytes.len() as u64 <= unpacking.length(),
            "more than promised"
        );
    }
    assert_eq!(unpacking.step(), Ok(None), "the end stays the end");
    Ok(bytes)
}

#[test]
fn what_was_packed_comes_out() {
    for length in [
        0,
        1,
        100,
        WINDOW - 1,
        WINDOW,
        WINDOW + 1,
        3 * WINDOW,
        1_000_003,
    ] {
        let content = content(length);
        assert!(
            unpack(&pack(&content, 0, &[])) == Ok(content),
            "{length} bytes"
        );
    }
    // Nothing repeats, so the file is larger than what it holds, and read in several steps.
    let mut random = Random::new(1);
    let noise: Vec<u8> = (0..300_000).map(|_| random.next() as u8).collect();
    assert!(unpack(&pack(&noise, 0, &[])) == Ok(noise));
}

#[test]
fn optional_fields_are_passed_over() {
    let content = content(5_000);
    for (flags, announced) in [
        (0x08, &b"Image\0"[..]),
        (0x10, b"a comment\0"),
        (0x04, b"\x03\0abc"),
        (0x02, b"\x12\x34"),
        (0x01, b""),
        (0x1e, b"\x01\0xname\0comment\0\xff\xff"),
    ] {
        assert!(
            unpack(&pack(&content, flags, announced)).as_ref() == Ok(&content),
            "{flags:#x}"
        );
    }
}

#[test]
fn what_is_wrong_is_named() {
    let good = pack(&content(100_000), 0, &[]);
    let end = good.len();
    let changed = |at: usize, byte: u8| {
        let mut file = good.clone();
        file[at] ^= byte;
        unpack(&file).unwrap_err()
    };
    let header = Error::Kernel("gzip header");
    assert_eq!(changed(2, 1), header, "method");
    assert_eq!(changed(3, 0x80), header, "reserved flags");
    assert_eq!(unpack(&good[..17]), Err(header), "cut off in the header");
    assert_eq!(unpack(&good[..7]), Err(CORRUPT));
    assert_eq!(changed(end - 8, 1), Error::HashMismatch("gzip checksum"));
    assert_eq!(
        changed(end - 4, 1),
        Error::Kernel("gzip data: fewer than its length says")
    );
    assert_eq!(
        changed(end - 2, 1),
        Error::Kernel("gzip data: more than its length says")
    );
    // Cut off in the middle, its last eight bytes are taken for the trailer.
    assert!(unpack(&good[..end / 2]).is_err());
    let longer = [&good[..end - 8], &[0; 5], &good[end - 8..]].concat();
    assert_eq!(
        unpack(&longer),
        Err(Error::Kernel("gzip data: bytes behind its end"))
    );
    assert!(unpack(&pack(&[], 0x08, b"a name without an end")).is_err());
}

#[test]
fn damage_never_passes() {
    let content = content(20_000);
    let good = pack(&content, 0, &[]);
    let mut random = Random::new(2);
    let mut refused = 0;
    for _ in 0..10_000 {
        let mut file = good.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(file.len() as u64) as usize;
            file[at] ^= 1 << random.below(8);
        }
        if random.below(8) == 0 {
            file.truncate(random.below(file.len() as u64 + 1) as usize);
        }
        match unpack(&file) {
            // A bit of the header that means nothing, such as the time.
            Ok(bytes) => assert!(bytes == content),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 9_900, "{refused}");
}
