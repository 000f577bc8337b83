//! The xenstore ring and the header of its messages (`xen/include/public/io/xs_wire.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Offset of the requests.
pub const RING_REQUEST: usize = 0;
/// Offset of the replies.
pub const RING_RESPONSE: usize = 1024;
/// Bytes of each of the two rings.
pub const RING_SIZE: usize = 1024;
/// Offset of the index of the next request byte that the server reads, `u32`.
pub const RING_REQUEST_CONS: usize = 2048;
/// Offset of the index of the next request byte that the guest writes, `u32`.
pub const RING_REQUEST_PROD: usize = 2052;
/// Offset of the index of the next reply byte that the guest reads, `u32`.
pub const RING_RESPONSE_CONS: usize = 2056;
/// Offset of the index of the next reply byte that the server writes, `u32`.
pub const RING_RESPONSE_PROD: usize = 2060;
/// Offset of the server's feature bits, `u32`.
pub const RING_SERVER_FEATURES: usize = 2064;
/// Offset of the connection state, `u32`: 0 connected, 1 the guest wants a new start.
pub const RING_CONNECTION: usize = 2068;
/// Offset of the error, `u32`.
pub const RING_ERROR: usize = 2072;
/// Offset of the event channel's port, `u32`.
pub const RING_EVENT_CHANNEL: usize = 2076;

/// Most bytes of a message after its header.
pub const PAYLOAD_MAX: usize = 4096;
/// Most bytes of an absolute path.
pub const ABSOLUTE_PATH_MAX: usize = 3072;
/// Most bytes of a relative path.
pub const RELATIVE_PATH_MAX: usize = 2048;

/// What stands before every message.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Header {
    /// What is asked.
    pub kind: u32,
    /// Chosen by the guest, repeated in the reply.
    pub request: u32,
    /// Transaction, 0 for none.
    pub transaction: u32,
    /// Bytes that follow.
    pub length: u32,
}
layout!(Header, 16, kind @ 0, request @ 4, transaction @ 8, length @ 12);
