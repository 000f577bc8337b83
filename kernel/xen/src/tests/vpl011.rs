use crate::{Abort, Vpl011, Wires};
use proptest::prelude::*;

const DR: u64 = 0x00;
const FR: u64 = 0x18;
const IMSC: u64 = 0x38;
const RIS: u64 = 0x3c;
const MIS: u64 = 0x40;
const ICR: u64 = 0x44;

#[derive(Default)]
struct Board {
    sent: Vec<u8>,
    levels: Vec<bool>,
}

impl Wires for Board {
    fn transmit(&mut self, byte: u8) {
        self.sent.push(byte);
    }
    fn interrupt(&mut self, level: bool) {
        assert_ne!(self.levels.last(), Some(&level), "told of changes alone");
        self.levels.push(level);
    }
}

#[test]
fn reset_state() {
    let (uart, mut board) = (Vpl011::new(), Board::default());
    for (offset, value) in [(FR, 0x90), (IMSC, 0), (RIS, 0), (MIS, 0), (DR, 0), (4, 0)] {
        assert_eq!(uart.read(offset, 4, &mut board), Ok(value));
    }
    // A full PL011's registers, and the peripheral id.
    for offset in [0x24, 0x28, 0x2c, 0x30, 0x34, 0x48, 0xfe0, 0xffc, 0x19] {
        assert_eq!(uart.write(offset, 4, 0xffff, &mut board), Ok(()));
        assert_eq!(uart.read(offset, 4, &mut board), Ok(0));
    }
}

#[test]
fn bad_accesses_abort() {
    let (uart, mut board) = (Vpl011::new(), Board::default());
    assert_eq!(uart.read(ICR, 4, &mut board), Err(Abort));
    for size in [0, 3, 8, 16] {
        assert_eq!(uart.read(FR, size, &mut board), Err(Abort));
        assert_eq!(uart.write(DR, size, 1, &mut board), Err(Abort));
    }
    assert!(board.sent.is_empty());
}

#[test]
fn what_is_sent_goes_out_at_once() {
    let (uart, mut board) = (Vpl011::new(), Board::default());
    for byte in b"hi" {
        let _ = uart.write(DR, 1, u64::from(*byte) | 0x4200, &mut board);
    }
    assert_eq!(board.sent, b"hi");
    assert_eq!(uart.read(FR, 4, &mut board), Ok(0x90), "never full or busy");
    assert_eq!(uart.read(RIS, 4, &mut board), Ok(1 << 5));
    assert!(board.levels.is_empty());
    // A driver that enables the transmit interrupt then has one, until it clears or masks it.
    uart.write(IMSC, 2, 1 << 5, &mut board).unwrap();
    assert_eq!(uart.read(MIS, 2, &mut board), Ok(1 << 5));
    uart.write(ICR, 2, 1 << 5, &mut board).unwrap();
    uart.write(DR, 4, 0x21, &mut board).unwrap();
    uart.write(IMSC, 2, 0, &mut board).unwrap();
    assert_eq!(board.levels, [true, false, true, false]);
}

#[test]
fn what_arrives_waits_and_interrupts() {
    let (uart, mut board) = (Vpl011::new(), Board::default());
    uart.write(IMSC, 4, 1 << 4 | 1 << 6, &mut board).unwrap();
    assert_eq!(uart.room(), 32);
    assert_eq!(uart.receive(b"", &mut board), 0);
    assert_eq!(uart.receive(b"a", &mut board), 1);
    assert_eq!(uart.read(RIS, 4, &mut board), Ok(1 << 6));
    assert_eq!(uart.read(FR, 4, &mut board), Ok(0x80));
    let text: Vec<u8> = (0..40).collect();
    assert_eq!(uart.receive(&text, &mut board), 31);
    assert_eq!(uart.read(FR, 4, &mut board), Ok(0xc0));
    assert_eq!(uart.read(RIS, 4, &mut board), Ok(1 << 6 | 1 << 4));
    assert_eq!(uart.receive(b"x", &mut board), 0);
    assert_eq!(uart.read(DR, 4, &mut board), Ok(u64::from(b'a')));
    for byte in 0..31 {
        assert_eq!(board.levels, [true]);
        assert_eq!(uart.read(DR, 1, &mut board), Ok(byte));
    }
    assert_eq!(board.levels, [true, false]);
    assert_eq!(uart.read(FR, 1, &mut board), Ok(0x90));
    assert_eq!(uart.read(RIS, 4, &mut board), Ok(0));
}

#[test]
fn an_interrupt_that_is_cleared_comes_again_with_the_next_byte() {
    let (uart, mut board) = (Vpl011::new(), Board::default());
    uart.write(IMSC, 4, 1 << 6, &mut board).unwrap();
    uart.receive(b"a", &mut board);
    uart.write(ICR, 4, 0x7ff, &mut board).unwrap();
    uart.receive(b"b", &mut board);
    assert_eq!(board.levels, [true, false, true]);
}

#[test]
fn narrow_writes_of_the_mask_keep_the_rest() {
    let (uart, mut board) = (Vpl011::new(), Board::default());
    uart.write(IMSC, 4, u64::MAX, &mut board).unwrap();
    uart.write(IMSC, 1, 0x10, &mut board).unwrap();
    assert_eq!(uart.read(IMSC, 4, &mut board), Ok(0x710));
    assert_eq!(uart.read(IMSC, 1, &mut board), Ok(0x10));
}

proptest! {
    #[test]
    fn the_line_is_always_ris_and_imsc(
        steps in proptest::collection::vec((0_u8..4, 0_u64..0x50, any::<u64>()), 1..200),
    ) {
        let (uart, mut board) = (Vpl011::new(), Board::default());
        for (kind, offset, value) in steps {
            let offset = offset & !3;
            match kind {
                0 => { let _ = uart.read(offset, 4, &mut board); }
                1 => { let _ = uart.write(offset, 4, value, &mut board); }
                2 => { let _ = uart.read(DR, 1, &mut board); }
                _ => { uart.receive(&value.to_le_bytes()[..offset as usize % 9], &mut board); }
            }
            let level = uart.read(MIS, 4, &mut board).unwrap() != 0;
            prop_assert_eq!(level, board.levels.last().copied().unwrap_or(false));
            let flags = uart.read(FR, 4, &mut board).unwrap();
            prop_assert_eq!(flags & 0x10 != 0, uart.room() == 32);
            prop_assert_eq!(flags & 0x40 != 0, uart.room() == 0);
            prop_assert_eq!(flags & 0xa8, 0x80);
        }
    }
}
