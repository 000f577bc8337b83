//! What is on its way to a domain, reply or event, goes into its ring in pieces.

use super::{HEADER, Out, header_bytes};
use crate::arena::NIL;
use crate::ring::BadIndex;
use crate::store::Account;
use abi::xenstore::{Header, WATCH_EVENT};

impl Account {
    /// Puts bytes of what is on its way into the ring; their number.
    pub(super) fn put(&mut self) -> Result<usize, BadIndex> {
        let event = self.event();
        let connection = &mut self.connection;
        let Some(page) = &connection.page else {
            return Ok(0);
        };
        let (header, text, sent, length) = match (connection.out, event) {
            (Out::Reply(sent), _) => {
                let length = connection.header().length as usize;
                (connection.header, NIL, sent, length)
            }
            (Out::Event(sent), Some(event)) => {
                let header = Header {
                    kind: WATCH_EVENT,
                    length: u32::from(event.length),
                    ..Header::default()
                };
                (
                    header_bytes(&header),
                    event.text,
                    sent,
                    usize::from(event.length),
                )
            }
            _ => return Ok(0),
        };
        let mut put = connection
            .ring
            .put(page, header.get(sent..).unwrap_or_default())?;
        let skip = sent.saturating_add(put).saturating_sub(HEADER);
        if sent.saturating_add(put) >= HEADER {
            if text == NIL {
                let rest = connection.payload.get(skip..length).unwrap_or_default();
                put = put.saturating_add(connection.ring.put(page, rest)?);
            } else {
                for piece in self.arena.pieces(text, skip, length.saturating_sub(skip)) {
                    let count = connection.ring.put(page, piece)?;
                    put = put.saturating_add(count);
                    if count < piece.len() {
                        break;
                    }
                }
            }
        }
        let sent = sent.saturating_add(put);
        let is_whole = sent == HEADER.saturating_add(length);
        match (connection.out, is_whole) {
            (Out::Reply(_), false) => connection.out = Out::Reply(sent),
            (Out::Event(_), false) => connection.out = Out::Event(sent),
            (out, _) => {
                connection.out = Out::Nothing;
                connection.request_is_next = matches!(out, Out::Event(_));
                if connection.request_is_next {
                    self.drop_event();
                }
            }
        }
        Ok(put)
    }
}
