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

/// [`RING_SERVER_FEATURES`]: the guest may ask for a new start.
pub const FEATURE_RECONNECTION: u32 = 1;
/// [`RING_SERVER_FEATURES`]: [`RING_ERROR`] is used.
pub const FEATURE_ERROR: u32 = 2;
/// [`RING_CONNECTION`]: all is well.
pub const CONNECTED: u32 = 0;
/// [`RING_CONNECTION`]: the guest has asked for a new start.
pub const RECONNECT: u32 = 1;
/// [`RING_ERROR`]: an index of the guest's makes no sense.
pub const ERROR_RING_INDEX: u32 = 2;
/// [`RING_ERROR`]: a message is longer than [`PAYLOAD_MAX`].
pub const ERROR_PROTOCOL: u32 = 3;

/// Commands of the toolstack's.
pub const CONTROL: u32 = 0;
/// Names of a node's children.
pub const DIRECTORY: u32 = 1;
/// A node's value.
pub const READ: u32 = 2;
/// A node's permissions.
pub const GET_PERMS: u32 = 3;
/// Asks for events.
pub const WATCH: u32 = 4;
/// Asks for no more of them.
pub const UNWATCH: u32 = 5;
/// Begins a transaction.
pub const TRANSACTION_START: u32 = 6;
/// Ends a transaction.
pub const TRANSACTION_END: u32 = 7;
/// Adds a domain: the toolstack's.
pub const INTRODUCE: u32 = 8;
/// Removes a domain: the toolstack's.
pub const RELEASE: u32 = 9;
/// Where a domain has its home.
pub const GET_DOMAIN_PATH: u32 = 10;
/// Sets a value.
pub const WRITE: u32 = 11;
/// Makes a node.
pub const MKDIR: u32 = 12;
/// Removes a node with all below.
pub const RM: u32 = 13;
/// Sets permissions.
pub const SET_PERMS: u32 = 14;
/// From the server: something that is watched has changed.
pub const WATCH_EVENT: u32 = 15;
/// From the server: the request failed.
pub const ERROR: u32 = 16;
/// Whether a domain is known.
pub const IS_DOMAIN_INTRODUCED: u32 = 17;
/// After a suspend: the toolstack's.
pub const RESUME: u32 = 18;
/// Lets a domain act for another one: the toolstack's.
pub const SET_TARGET: u32 = 19;
/// Drops all watches and transactions of the caller.
pub const RESET_WATCHES: u32 = 21;
/// A part of the names of a node's children.
pub const DIRECTORY_PART: u32 = 22;

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
