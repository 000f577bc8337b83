//! `console_io`, hypercall 18, and the PV console ring (`xen/include/public/io/console.h`).
//!
//! Indices of the ring run free and are masked on use. Each side writes bytes, then its index, then
//! sends the event.

/// x1 = bytes, x2 = buffer: written to the console.
pub const WRITE: u64 = 0;
/// x1 = bytes, x2 = buffer: filled with input; the result is the number of bytes.
pub const READ: u64 = 1;

/// Offset of the bytes to the guest.
pub const RING_IN: usize = 0;
/// Bytes of the ring to the guest.
pub const RING_IN_SIZE: usize = 1024;
/// Offset of the bytes from the guest.
pub const RING_OUT: usize = 1024;
/// Bytes of the ring from the guest.
pub const RING_OUT_SIZE: usize = 2048;
/// Offset of the index of the next byte that the guest reads, `u32`.
pub const RING_IN_CONS: usize = 3072;
/// Offset of the index of the next byte that the backend writes, `u32`.
pub const RING_IN_PROD: usize = 3076;
/// Offset of the index of the next byte that the backend reads, `u32`.
pub const RING_OUT_CONS: usize = 3080;
/// Offset of the index of the next byte that the guest writes, `u32`.
pub const RING_OUT_PROD: usize = 3084;
/// Offset of the connection state, `u8`: 0 connected, 1 not.
pub const RING_CONNECTION: usize = 3088;

const _: () = {
    assert!(RING_IN + RING_IN_SIZE == RING_OUT);
    assert!(RING_OUT + RING_OUT_SIZE == RING_IN_CONS);
    assert!(RING_IN_SIZE.is_power_of_two() && RING_OUT_SIZE.is_power_of_two());
};
