//! Linux's devices for grants and event channels (`include/uapi/xen/{gntalloc,gntdev,evtchn}.h`).

use crate::system::{Command, File, Mapping, Trouble, command_number};

/// Most pages of one exchange.
pub(crate) const MOST_PAGES: usize = 32;

/// Both devices' "tell when it is unmapped": a byte is set to 0, and an event sent.
const CLEAR_BYTE_AND_SEND: u32 = 3;

#[repr(C)]
struct Allocate {
    domain: u16,
    flags: u16,
    count: u32,
    index: u64,
    grants: [u32; MOST_PAGES],
}

// SAFETY: `ioctl_gntalloc_alloc_gref`, its list as long as `count` may be here.
unsafe impl Command for Allocate {
    const NAME: &'static str = "gntalloc alloc";
    // The size in the number is that of a list of one.
    const NUMBER: usize = command_number(b'G', 5, 24);
}

#[repr(C)]
struct Deallocate {
    index: u64,
    count: u32,
    padding: u32,
}

// SAFETY: `ioctl_gntalloc_dealloc_gref`.
unsafe impl Command for Deallocate {
    const NAME: &'static str = "gntalloc dealloc";
    const NUMBER: usize = command_number(b'G', 6, size_of::<Self>());
}

/// Own pages, granted to another domain; given back when this value ends.
pub(crate) struct Granted {
    device: File,
    index: u64,
    /// Their references.
    pub(crate) grants: [u32; MOST_PAGES],
    count: u32,
    /// The pages.
    pub(crate) pages: Mapping,
}

impl Granted {
    /// Grants `count` new pages to `domain`, to read and write.
    pub(crate) fn new(domain: u16, count: usize) -> Result<Self, Trouble> {
        const WRITABLE: u16 = 1;
        let device = File::open(c"/dev/xen/gntalloc")?;
        let mut request = Allocate {
            domain,
            flags: WRITABLE,
            count: count.min(MOST_PAGES) as u32,
            index: 0,
            grants: [0; MOST_PAGES],
        };
        device.control(&mut request)?;
        let pages = device.map("gntalloc mmap", request.index, request.count as usize)?;
        Ok(Self {
            device,
            index: request.index,
            grants: request.grants,
            count: request.count,
            pages,
        })
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        let mut request = Deallocate {
            index: self.index,
            count: self.count,
            padding: 0,
        };
        let _ = self.device.control(&mut request);
    }
}

#[repr(C)]
struct Map {
    count: u32,
    padding: u32,
    index: u64,
    /// Domain and reference.
    grants: [[u32; 2]; MOST_PAGES],
}

// SAFETY: `ioctl_gntdev_map_grant_ref`, its list as long as `count` may be here.
unsafe impl Command for Map {
    const NAME: &'static str = "gntdev map";
    const NUMBER: usize = command_number(b'G', 0, 24);
}

#[repr(C)]
struct Notify {
    index: u64,
    action: u32,
    port: u32,
}

// SAFETY: `ioctl_gntdev_unmap_notify`.
unsafe impl Command for Notify {
    const NAME: &'static str = "gntdev notify";
    const NUMBER: usize = command_number(b'G', 7, size_of::<Self>());
}

/// Pages of another domain's.
pub(crate) struct Mapped {
    /// Also for copies.
    pub(crate) device: File,
    index: u64,
    /// The pages.
    pub(crate) pages: Mapping,
}

impl Mapped {
    /// Maps `grants` of `domain`.
    pub(crate) fn new(domain: u16, grants: &[u32]) -> Result<Self, Trouble> {
        let device = File::open(c"/dev/xen/gntdev")?;
        let mut request = Map {
            count: grants.len().min(MOST_PAGES) as u32,
            padding: 0,
            index: 0,
            grants: [[0; 2]; MOST_PAGES],
        };
        for (slot, grant) in request.grants.iter_mut().zip(grants) {
            *slot = [u32::from(domain), *grant];
        }
        device.control(&mut request)?;
        let pages = device.map("gntdev mmap", request.index, request.count as usize)?;
        Ok(Self {
            device,
            index: request.index,
            pages,
        })
    }

    /// However this program ends: byte `at` becomes 0, and an event goes out of `port`.
    pub(crate) fn say_farewell(&self, at: usize, port: u32) -> Result<(), Trouble> {
        let mut request = Notify {
            index: self.index + at as u64,
            action: CLEAR_BYTE_AND_SEND,
            port,
        };
        self.device.control(&mut request).map(|_| ())
    }
}

#[repr(C)]
struct BindInterdomain {
    domain: u32,
    port: u32,
}

// SAFETY: `ioctl_evtchn_bind_interdomain`.
unsafe impl Command for BindInterdomain {
    const NAME: &'static str = "evtchn bind interdomain";
    const NUMBER: usize = command_number(b'E', 1, size_of::<Self>());
}

#[repr(transparent)]
struct BindUnbound(u32);

// SAFETY: `ioctl_evtchn_bind_unbound_port`.
unsafe impl Command for BindUnbound {
    const NAME: &'static str = "evtchn bind unbound";
    const NUMBER: usize = command_number(b'E', 2, size_of::<Self>());
}

#[repr(transparent)]
struct Send(u32);

// SAFETY: `ioctl_evtchn_notify`.
unsafe impl Command for Send {
    const NAME: &'static str = "evtchn notify";
    const NUMBER: usize = command_number(b'E', 4, size_of::<Self>());
}

/// One event channel, with a descriptor of its own.
pub(crate) struct Channel {
    device: File,
    /// This side's port.
    pub(crate) port: u32,
}

impl Channel {
    /// A port that `domain` may bind.
    pub(crate) fn open_for(domain: u16) -> Result<Self, Trouble> {
        let device = File::open(c"/dev/xen/evtchn")?;
        let port = device.control(&mut BindUnbound(u32::from(domain)))? as u32;
        Ok(Self { device, port })
    }

    /// The other end of `port` of `domain`. It begins with an event, as the ABI has it.
    pub(crate) fn bind(domain: u16, port: u32) -> Result<Self, Trouble> {
        let device = File::open(c"/dev/xen/evtchn")?;
        let domain = u32::from(domain);
        let port = device.control(&mut BindInterdomain { domain, port })? as u32;
        Ok(Self { device, port })
    }

    /// Sends an event.
    pub(crate) fn send(&self) -> Result<(), Trouble> {
        self.device.control(&mut Send(self.port)).map(|_| ())
    }

    /// Waits for one, and lets the next come.
    pub(crate) fn wait(&self) -> Result<(), Trouble> {
        let mut port = [0; 4];
        self.device.read_exactly("an event", &mut port)?;
        if u32::from_ne_bytes(port) != self.port {
            return Err(Trouble(
                "an event of another port",
                u32::from_ne_bytes(port) as i32,
            ));
        }
        self.device.write("evtchn unmask", &port).map(|_| ())
    }
}
