//! Records on their way out: packets on a wire that may lose bytes.
//!
//! A packet is `kind`, payload, `check`, where all bytes together add up to 0 modulo 256. On a UART each is encoded by
//! COBS (S. Cheshire and M. Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM Transactions on Networking 7:2,
//! 1999), which leaves no zero in it, and ended by a zero: a reader that comes late, or misses something, is in step
//! again at the next zero. Numbers are little-endian.
//!
//! | kind | payload |
//! |---|---|
//! | 0x00 + CPU | a defmt frame, raw encoding: a record of that CPU |
//! | 0x40 + CPU | u32: so many records of that CPU were overwritten here |
//! | 0x80 | u8 [`VERSION`], u64 ticks a second of the counter: the stream begins |
//! | 0x81 | u16 domain, its name in UTF-8, cut at [`NAME`] bytes |

use arrayvec::ArrayVec;

/// Of this format.
pub const VERSION: u8 = 1;
/// Bytes of a domain's name that are told.
pub const NAME: usize = 28;
/// Bytes of the longest packet.
pub const PACKET: usize = 34;
/// The same on the wire: a byte of COBS (there are never 254 bytes without a zero), and the zero.
pub const WIRE: usize = PACKET + 2;

const RECORD: u8 = 0x00;
const LOST: u8 = 0x40;
const BEGIN: u8 = 0x80;
const DOMAIN: u8 = 0x81;
/// CPUs that have a kind.
const CPUS: u8 = 0x40;

/// What a packet says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet<'p> {
    /// A record of a CPU: its frame.
    Record(u8, &'p [u8]),
    /// So many records of a CPU are missing here.
    Lost(u8, u32),
    /// The stream begins: ticks a second of the counter.
    Begin(u64),
    /// The name of a domain.
    Domain(u16, &'p [u8]),
}

/// Bytes of a packet, as many as there is room for.
pub type Bytes<const N: usize> = ArrayVec<u8, N>;

/// Adds bytes at the end of `to`. Those that find no room are left out: none are, by [`PACKET`] and [`WIRE`].
fn extend<const N: usize>(to: &mut Bytes<N>, bytes: &[u8]) {
    let room = to.remaining_capacity().min(bytes.len());
    let _ = to.try_extend_from_slice(bytes.get(..room).unwrap_or_default());
}

impl<'p> Packet<'p> {
    /// The packet as bytes. What is too long is cut off.
    #[must_use]
    pub fn bytes(&self) -> Bytes<PACKET> {
        let mut packet = Bytes::default();
        match *self {
            Self::Record(cpu, frame) => {
                extend(&mut packet, &[RECORD | (cpu % CPUS)]);
                extend(&mut packet, frame.get(..crate::FRAME).unwrap_or(frame));
            }
            Self::Lost(cpu, count) => {
                extend(&mut packet, &[LOST | (cpu % CPUS)]);
                extend(&mut packet, &count.to_le_bytes());
            }
            Self::Begin(frequency) => {
                extend(&mut packet, &[BEGIN, VERSION]);
                extend(&mut packet, &frequency.to_le_bytes());
            }
            Self::Domain(id, name) => {
                extend(&mut packet, &[DOMAIN]);
                extend(&mut packet, &id.to_le_bytes());
                extend(&mut packet, name.get(..NAME).unwrap_or(name));
            }
        }
        let check = 0_u8.wrapping_sub(sum(&packet));
        extend(&mut packet, &[check]);
        packet
    }

    /// The packet for a wire: encoded, and ended by a zero.
    #[must_use]
    pub fn on_wire(&self) -> Bytes<WIRE> {
        let mut wire = Bytes::default();
        // Each run without a zero, after its length and one; the zero itself is left out.
        for run in self.bytes().split(|byte| *byte == 0) {
            extend(&mut wire, &[run.len() as u8 + 1]);
            extend(&mut wire, run);
        }
        extend(&mut wire, &[0]);
        wire
    }

    /// Reads a packet's bytes; `None` if they make no sense.
    #[must_use]
    pub fn parse(bytes: &'p [u8]) -> Option<Self> {
        if sum(bytes) != 0 {
            return None;
        }
        let (_, rest) = bytes.split_last()?;
        let (kind, payload) = rest.split_first()?;
        let cpu = kind % CPUS;
        match kind - cpu {
            RECORD => Some(Self::Record(cpu, payload)),
            LOST => Some(Self::Lost(
                cpu,
                u32::from_le_bytes(payload.try_into().ok()?),
            )),
            _ if *kind == BEGIN => {
                let (version, frequency) = payload.split_first()?;
                let frequency = u64::from_le_bytes(frequency.try_into().ok()?);
                (*version == VERSION).then_some(Self::Begin(frequency))
            }
            _ if *kind == DOMAIN => {
                let (id, name) = payload.split_first_chunk::<2>()?;
                Some(Self::Domain(u16::from_le_bytes(*id), name))
            }
            _ => None,
        }
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

/// Undoes COBS: the packet of the bytes before a zero; `None` if they make no sense, or are too many.
#[must_use]
pub fn decode(wire: &[u8]) -> Option<Bytes<PACKET>> {
    let mut packet = Bytes::new();
    let mut rest = wire;
    loop {
        let (code, after) = rest.split_first()?;
        let run = usize::from(*code).checked_sub(1)?;
        let (bytes, after) = after.split_at_checked(run)?;
        if bytes.contains(&0) {
            return None;
        }
        packet.try_extend_from_slice(bytes).ok()?;
        if after.is_empty() {
            return Some(packet);
        }
        packet.try_push(0).ok()?;
        rest = after;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back(packet: Packet<'_>) {
        let wire = packet.on_wire();
        let (zero, wire) = wire.split_last().unwrap();
        assert_eq!(*zero, 0);
        assert!(!wire.contains(&0), "{packet:?}: {wire:02x?}");
        let bytes = decode(wire).unwrap();
        assert_eq!(Packet::parse(&bytes), Some(packet));
    }

    #[test]
    fn packets_survive_the_wire() {
        there_and_back(Packet::Begin(62_500_000));
        there_and_back(Packet::Lost(3, 0));
        there_and_back(Packet::Lost(63, u32::MAX));
        there_and_back(Packet::Domain(1, b"linux"));
        there_and_back(Packet::Domain(0x7fef, &[b'x'; NAME]));
        there_and_back(Packet::Record(0, &[]));
        there_and_back(Packet::Record(7, &[0; crate::FRAME]));
        there_and_back(Packet::Record(7, &[0xff; crate::FRAME]));
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let wire = Packet::Record(1, b"abcdefgh").on_wire();
        let wire = &wire[..wire.len() - 1];
        for index in 0..wire.len() {
            for bit in 0..8 {
                let mut damaged = wire.to_vec();
                damaged[index] ^= 1 << bit;
                let read = decode(&damaged);
                let read = read.as_deref().and_then(Packet::parse);
                assert_eq!(read, None, "byte {index}, bit {bit}");
            }
        }
        assert_eq!(Packet::parse(&[]), None);
        // A version that is not ours.
        let mut begin = Packet::Begin(1).bytes().to_vec();
        begin[1] += 1;
        *begin.last_mut().unwrap() = begin.last().unwrap().wrapping_sub(1);
        assert_eq!(Packet::parse(&begin), None);
    }

    proptest! {
        #[test]
        fn any_record_survives(cpu in 0_u8..64, frame in proptest::collection::vec(any::<u8>(), 0..=crate::FRAME)) {
            there_and_back(Packet::Record(cpu, &frame));
        }

        #[test]
        fn any_bytes_are_taken_or_refused(wire in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(bytes) = decode(&wire) {
                let _ = Packet::parse(&bytes);
            }
        }
    }
}
