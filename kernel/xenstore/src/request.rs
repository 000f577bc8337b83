//! What each request does. The caller's payload is parsed where it lies; once the nodes that it names are found, the
//! reply is written over it, or the path that those who watch are told.

use crate::list::{Writer, first, only, two};
use crate::node::Ref;
use crate::path::{Path, number};
use crate::permissions::{OWNER, Permissions, READ, WRITE};
use crate::store::Store;
use crate::tree::View;
use crate::watch::Fan;
use abi::xenstore::{self as wire, Header};
use abi::{DomainId, Errno};

/// What is to be done after a request was carried out.
pub(crate) enum Done {
    /// This many bytes of the buffer are the reply.
    Reply(usize),
    /// "OK", and nobody needs to know.
    Ok,
    /// Those who watch are told, and then it is "OK".
    Tell(Fan),
    /// Watches and transactions are dropped, and then it is "OK".
    Forget,
}

impl Store {
    /// Carries out a request whose payload is the first `header.length` bytes of `buffer`.
    ///
    /// # Errors
    /// What the caller is told.
    pub(crate) fn request(
        &mut self,
        who: u16,
        header: &Header,
        buffer: &mut [u8],
    ) -> Result<Done, Errno> {
        let payload = buffer.get(..header.length as usize).ok_or(Errno::Io)?;
        let transaction = match header.transaction {
            0 => None,
            _ if header.kind == wire::TRANSACTION_START => return Err(Errno::Busy),
            id => Some(self.transaction_slot(who, id)?),
        };
        let view = View { who, transaction };
        match header.kind {
            wire::READ | wire::GET_PERMS | wire::DIRECTORY => {
                let path = self.path(who, only(payload)?)?;
                let (node, _) = self.get(view, &path, READ)?;
                self.show(header.kind, node, buffer)
            }
            wire::DIRECTORY_PART => {
                let (path, offset) = two(payload)?;
                let path = self.path(who, path)?;
                let offset = number(offset).ok_or(Errno::Invalid)? as usize;
                let (node, _) = self.get(view, &path, READ)?;
                self.show_part(node, offset, buffer)
            }
            wire::WRITE => {
                let (path, value) = first(payload)?;
                self.write(view, path, Some(value))
                    .and_then(|at| self.told(view, at, None, buffer))
            }
            wire::MKDIR => match self.write(view, only(payload)?, None)? {
                None => Ok(Done::Ok),
                at => self.told(view, at, None, buffer),
            },
            wire::RM => self.rm(view, header.length as usize, buffer),
            wire::SET_PERMS => {
                let (path, list) = first(payload)?;
                let path = self.path(who, path)?;
                let permissions = Permissions::parse(list)?;
                let (node, _) = self.get(view, &path, OWNER)?;
                let old = self.node(node).ok_or(Errno::Io)?.permissions;
                if who != 0 && permissions.owner() != old.owner() {
                    return Err(Errno::Perm);
                }
                self.set_permissions(node, permissions);
                self.told(view, Some(node), Some(old), buffer)
            }
            wire::WATCH => {
                let (path, token) = two(payload)?;
                let path = self.path(who, path)?;
                self.watch(who, &path, token)?;
                Ok(Done::Ok)
            }
            wire::UNWATCH => {
                let (path, token) = two(payload)?;
                let path = self.path(who, path)?;
                self.unwatch(who, &path, token)?;
                Ok(Done::Ok)
            }
            wire::TRANSACTION_START => {
                only(payload)?;
                let id = self.start_transaction(who)?;
                reply(buffer, |out| {
                    out.number(u64::from(id))?;
                    out.push(&[0])
                })
            }
            wire::TRANSACTION_END => {
                let slot = transaction.ok_or(Errno::NoEntry)?;
                match only(payload)? {
                    b"T" => {
                        self.commit(who, slot)?;
                        Ok(Done::Tell(Fan::of_transaction(slot)))
                    }
                    b"F" => {
                        self.drop_transaction(who, slot);
                        Ok(Done::Ok)
                    }
                    _ => Err(Errno::Invalid),
                }
            }
            wire::GET_DOMAIN_PATH => {
                let domain = number(only(payload)?).ok_or(Errno::Invalid)?;
                let domain = u16::try_from(domain).map_err(|_| Errno::Invalid)?;
                reply(buffer, |out| {
                    out.push(crate::path::HOMES)?;
                    out.number(u64::from(domain))?;
                    out.push(&[0])
                })
            }
            wire::IS_DOMAIN_INTRODUCED => {
                let domain = number(only(payload)?).ok_or(Errno::Invalid)?;
                let domain = u16::try_from(domain).map_err(|_| Errno::Invalid)?;
                let is_there = domain == DomainId::SELF.0
                    || self.account(domain).is_some_and(|account| account.present);
                reply(buffer, |out| {
                    out.push(if is_there { b"T\0" } else { b"F\0" })
                })
            }
            wire::RESET_WATCHES => Ok(Done::Forget),
            // These are the toolstack's; the hypervisor adds and removes domains by itself.
            wire::CONTROL | wire::INTRODUCE | wire::RELEASE | wire::RESUME | wire::SET_TARGET
                if who != 0 =>
            {
                Err(Errno::Access)
            }
            _ => Err(Errno::NoSys),
        }
    }

    fn path<'p>(&mut self, who: u16, text: &'p [u8]) -> Result<Path<'p>, Errno> {
        let quota = &self.of(who)?.quota;
        Path::new(text, quota.path, quota.depth)
    }

    /// The reply to a request that shows a node.
    fn show(&self, kind: u32, at: Ref, buffer: &mut [u8]) -> Result<Done, Errno> {
        reply(buffer, |out| match kind {
            wire::READ => {
                for piece in self.value(at).ok_or(Errno::NoEntry)? {
                    out.push(piece)?;
                }
                Ok(())
            }
            wire::GET_PERMS => self.node(at).ok_or(Errno::NoEntry)?.permissions.write(out),
            _ => {
                let mut result = Ok(());
                self.children(at, |mut name| {
                    result = name.try_for_each(|piece| out.push(piece));
                    result = result.and_then(|()| out.push(&[0]));
                    result.is_ok()
                });
                result
            }
        })
    }

    /// The part of a node's children that begins at this byte of the list: the generation, then names, then an
    /// empty one if these were the last.
    fn show_part(&self, at: Ref, offset: usize, buffer: &mut [u8]) -> Result<Done, Errno> {
        let generation = self.node(at).ok_or(Errno::NoEntry)?.generation;
        reply(buffer, |out| {
            out.number(generation)?;
            out.push(&[0])?;
            let mut position: usize = 0;
            let mut is_complete = true;
            self.children(at, |name| {
                let length = name.clone().map(<[u8]>::len).fold(1, usize::saturating_add);
                let begins = position;
                position = position.saturating_add(length);
                if begins < offset {
                    return true;
                }
                // One byte is kept for the empty name.
                is_complete = length < out.room();
                if is_complete {
                    let _ = { name }.try_for_each(|piece| out.push(piece));
                    let _ = out.push(&[0]);
                }
                is_complete
            });
            if is_complete { out.push(&[0]) } else { Ok(()) }
        })
    }

    /// `WRITE`, and `MKDIR` without a value: the node that has changed, if one has.
    fn write(
        &mut self,
        view: View,
        path: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Option<Ref>, Errno> {
        let path = self.path(view.who, path)?;
        if value.is_some_and(|value| {
            self.of(view.who)
                .is_ok_and(|own| value.len() > own.quota.value)
        }) {
            return Err(Errno::NoSpace);
        }
        let walk = self.walk(view, &path)?;
        self.check(view, walk.deepest, WRITE)?;
        match (walk.node(), value) {
            (Some(_), None) => Ok(None),
            (Some(node), Some(value)) => {
                self.set_value(node, walk.last, value)?;
                Ok(Some(node))
            }
            (None, value) => self
                .create(view, &walk, value.unwrap_or_default())
                .map(Some),
        }
    }

    /// Outside a transaction, those who watch are told of a change; inside they are when it ends.
    fn told(
        &self,
        view: View,
        at: Option<Ref>,
        old: Option<Permissions>,
        buffer: &mut [u8],
    ) -> Result<Done, Errno> {
        let (None, Some(at)) = (view.transaction, at) else {
            return Ok(Done::Ok);
        };
        Ok(self
            .fan(at, false, old, buffer)
            .map_or(Done::Ok, Done::Tell))
    }

    /// What is to be told of a node, which is still in the tree.
    pub(crate) fn fan(
        &self,
        at: Ref,
        removed: bool,
        old: Option<Permissions>,
        buffer: &mut [u8],
    ) -> Option<Fan> {
        let node = self.node(at)?;
        let above = self.node(node.parent).unwrap_or(node).permissions;
        let now = node.permissions;
        let path = self.write_path(at, buffer)?;
        Some(Fan::new(path, removed, [now, old.unwrap_or(now), above]))
    }

    fn rm(&mut self, view: View, length: usize, buffer: &mut [u8]) -> Result<Done, Errno> {
        let payload = buffer.get(..length).ok_or(Errno::Io)?;
        let path = self.path(view.who, only(payload)?)?;
        let walk = self.walk(view, &path)?;
        self.check(view, walk.deepest, WRITE)?;
        let Some(at) = walk.node() else {
            // What is not there is removed, if the node above is.
            let mut missing = walk.missing;
            missing.next();
            return match missing.next() {
                None => Ok(Done::Ok),
                Some(_) => Err(Errno::NoEntry),
            };
        };
        let parent = self.node(at).ok_or(Errno::Io)?.parent;
        if !parent.is_some() {
            return Err(Errno::Invalid);
        }
        if view.transaction.is_some() {
            self.remove_in(view, at, walk.last)?;
            return Ok(Done::Ok);
        }
        let fan = self.fan(at, true, None, buffer);
        self.remove(at);
        Ok(fan.map_or(Done::Ok, Done::Tell))
    }
}

/// Writes a reply to the front of the buffer.
fn reply(
    buffer: &mut [u8],
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), Errno>,
) -> Result<Done, Errno> {
    let mut out = Writer::new(buffer);
    write(&mut out)?;
    Ok(Done::Reply(out.length))
}
