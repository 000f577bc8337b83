//! Channels that the device tree makes (`xen,evtchn-v1`, `xen/common/device-tree/static-evtchn.c`): the
//! ports are reserved when a domain is made, and connected when all are. Guests need no call but `send`.

use super::channel::{Binding, Channel};
use super::table::lock_both;
use crate::{Host, XenState};
use abi::{DomainId, Errno, Port, VcpuId};

/// One end of such a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StaticChannel {
    /// The domain's port.
    pub port: Port,
    /// Domain at the other end.
    pub peer: DomainId,
    /// Its port.
    pub peer_port: Port,
}

impl XenState {
    /// Holds the port open for the other end.
    pub(crate) fn reserve_channel(&self, channel: &StaticChannel) -> Result<(), Errno> {
        let mut table = self.events.lock();
        table.claim(channel.port.0)?;
        let binding = Binding::Unbound(channel.peer);
        self.events
            .set(channel.port.0, Channel::new(binding, VcpuId(0)));
        Ok(())
    }

    /// Connects the two ends, if both domains are there and nobody has done so. As on Xen the other end, which
    /// binds to this one, starts pending.
    pub fn connect_channel<H: Host>(&self, host: &H, channel: &StaticChannel) {
        let Some(peer) = host.peer(channel.peer) else {
            return;
        };
        let (Port(port), Port(remote)) = (channel.port, channel.peer_port);
        let (table, peer_table) = lock_both(self, peer);
        let is_open = self.events.is_bound(port, Binding::Unbound(peer.id()))
            && peer.events.is_bound(remote, Binding::Unbound(self.id()));
        let connect = |state: &Self, port, binding| {
            if let Ok(channel) = state.events.channel(port) {
                state.events.set(port, channel.rebind(binding));
            }
        };
        if is_open {
            connect(self, port, Binding::Interdomain(peer.id(), remote));
            connect(peer, remote, Binding::Interdomain(self.id(), port));
        }
        drop((table, peer_table));
        if is_open {
            peer.raise(host, remote, 0);
        }
    }
}
