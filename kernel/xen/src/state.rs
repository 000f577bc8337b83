//! All that this crate keeps of one domain. Built once, with every allocation, when the domain is;
//! afterwards reached through shared references from any CPU.

use crate::events::Events;
use crate::grants::GrantTable;
use crate::pages::OwnPages;
use crate::ring::ConsoleRing;
use crate::sched::Watchdogs;
use crate::vcpu::VcpuState;
use crate::{Host, Parameters, SharedPage, StaticChannel};
use abi::{DomainId, DomainSet, Port, VcpuId, event_channel, grant_table, version};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

/// Most vCPUs of a domain: the vCPU of a channel is kept in 8 bits.
const MAX_VCPUS: u32 = 256;

/// The PV console of a domain.
#[derive(Clone, Copy)]
pub struct ConsoleConfig {
    /// Zeroed page of the ring, mapped in the guest at `gfn` by the image.
    pub page: SharedPage,
    /// Guest frame number of it.
    pub gfn: u64,
}

/// The xenstore of a domain: the image serves it ([`Host::serve_store`]).
#[derive(Clone, Copy)]
pub struct StoreConfig {
    /// Guest frame number of its ring.
    pub gfn: u64,
    /// The guest is told of it only after it has looked: the parameter reads all ones first, and then an event
    /// says that it has changed (`xen,enhanced = "legacy"`).
    pub late: bool,
}

/// What a domain is to have.
#[derive(Clone, Copy)]
pub struct Config<'a> {
    /// Its number.
    pub id: DomainId,
    /// Its vCPUs, 1 to 256.
    pub vcpus: u32,
    /// Greatest port that it may use; limited to what the 2-level ABI has.
    pub max_port: u32,
    /// Most frames of its grant table, 1 to 256; other numbers are moved to the nearest of these.
    pub max_grant_frames: u32,
    /// Most frames of its table of what it has mapped of others, of 256 places each.
    pub max_maptrack_frames: u32,
    /// Zeroed page for shared_info.
    pub shared_info: SharedPage,
    /// Zeroed page for the first frame of its grant table.
    pub grant_frame: SharedPage,
    /// Its PV console, if it has one.
    pub console: Option<ConsoleConfig>,
    /// Its xenstore, if it has one.
    pub store: Option<StoreConfig>,
    /// Whether it may use `console_io`.
    pub console_io: bool,
    /// Its UUID.
    pub handle: [u8; version::GUEST_HANDLE_LENGTH],
    /// Domains that it may deal with.
    pub peers: DomainSet,
    /// Its ends of the channels that the device tree makes.
    pub channels: &'a [StaticChannel],
    /// Its guest frame numbers are those of the machine.
    pub direct_mapped: bool,
}

impl Config<'_> {
    /// What a domain gets whose description says nothing else.
    #[must_use]
    pub const fn new(
        id: DomainId,
        vcpus: u32,
        shared_info: SharedPage,
        grant_frame: SharedPage,
    ) -> Self {
        Self {
            id,
            vcpus,
            max_port: event_channel::DEFAULT_MAX_PORT,
            max_grant_frames: grant_table::DEFAULT_MAX_FRAMES,
            max_maptrack_frames: grant_table::DEFAULT_MAX_MAPTRACK_FRAMES,
            shared_info,
            grant_frame,
            console: None,
            store: None,
            console_io: true,
            handle: [0; version::GUEST_HANDLE_LENGTH],
            peers: DomainSet::NONE,
            channels: &[],
            direct_mapped: false,
        }
    }
}

/// Why a [`XenState`] could not be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewError {
    /// The heap has no room.
    NoMemory,
    /// No vCPU, or more than 256.
    VcpuCount,
    /// There is no port left for console or xenstore.
    NoPort,
    /// A channel that the device tree makes has a port that the domain cannot have, or another's.
    BadPort,
}

impl fmt::Display for NewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoMemory => "no memory for the domain's Xen state",
            Self::VcpuCount => "a domain has 1 to 256 vCPUs",
            Self::BadPort => "a static event channel's port is too great, or used twice",
            Self::NoPort => "no event channel port left for console or xenstore",
        })
    }
}

impl core::error::Error for NewError {}

/// The Xen side of one domain.
pub struct XenState {
    id: DomainId,
    pub(crate) events: Events,
    pub(crate) vcpus: Box<[VcpuState]>,
    pub(crate) shared_info: SharedPage,
    parameters: Parameters,
    pub(crate) peers: DomainSet,
    pub(crate) pages: OwnPages,
    pub(crate) grants: GrantTable,
    pub(crate) watchdogs: Watchdogs,
    /// Its PV console's ring, and the guest frame number of that.
    pub(crate) console: Option<(ConsoleRing, u64)>,
    store: Option<StoreConfig>,
    /// `vm_assist` types in force, bit n for type n.
    pub(crate) assists: AtomicU32,
    /// Reason of the first shutdown or `shutdown_code`; [`NO_SHUTDOWN_CODE`] before.
    pub(crate) shutdown_code: AtomicU32,
    console_io: bool,
    direct_mapped: bool,
    handle: [u8; version::GUEST_HANDLE_LENGTH],
}

/// [`XenState::shutdown_code`] before the guest has given a reason.
pub(crate) const NO_SHUTDOWN_CODE: u32 = u32::MAX;

/// `count` values in a slice of their own; `None` if there is no memory.
pub(crate) fn boxed<T>(count: usize, mut make: impl FnMut(usize) -> T) -> Option<Box<[T]>> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).ok()?;
    values.extend((0..count).map(&mut make));
    Some(values.into_boxed_slice())
}

impl XenState {
    /// The state of a new domain, with all memory that it will ever take from the heap.
    ///
    /// # Errors
    /// [`NewError`].
    pub fn new(config: &Config<'_>) -> Result<Self, NewError> {
        if config.vcpus == 0 || config.vcpus > MAX_VCPUS {
            return Err(NewError::VcpuCount);
        }
        let vcpus = boxed(config.vcpus as usize, |_| VcpuState::new()).ok_or(NewError::NoMemory)?;
        if let Some(first) = vcpus.first() {
            first.use_shared_info(config.shared_info);
        }
        let pages = OwnPages::new(
            config.shared_info,
            config.grant_frame,
            config.max_grant_frames,
        )
        .ok_or(NewError::NoMemory)?;
        let frames = pages.lock().max_grant_frames();
        let grants = GrantTable::new(config.grant_frame, frames, config.max_maptrack_frames);
        let console = config
            .console
            .map(|console| (ConsoleRing::new(console.page), console.gfn));
        let state = Self {
            id: config.id,
            events: Events::new(config.max_port, config.vcpus).ok_or(NewError::NoMemory)?,
            vcpus,
            shared_info: config.shared_info,
            parameters: Parameters::default(),
            peers: config.peers,
            pages,
            grants: grants.ok_or(NewError::NoMemory)?,
            watchdogs: Watchdogs::default(),
            console,
            store: config.store,
            assists: AtomicU32::new(0),
            shutdown_code: AtomicU32::new(NO_SHUTDOWN_CODE),
            console_io: config.console_io,
            direct_mapped: config.direct_mapped,
            handle: config.handle,
        };
        state.arrange(config.channels)?;
        Ok(state)
    }

    /// Binds what a domain finds bound when it begins: the same each time.
    fn arrange(&self, channels: &[StaticChannel]) -> Result<(), NewError> {
        // Before the console takes the lowest port that is left.
        for channel in channels {
            self.reserve_channel(channel)
                .map_err(|_| NewError::BadPort)?;
        }
        if let Some((_, gfn)) = &self.console {
            let port = self
                .allocate_service_port(crate::Service::Console)
                .map_err(|_| NewError::NoPort)?;
            self.parameters.set_console(*gfn, port);
            let reference = grant_table::RESERVED_CONSOLE;
            self.grants.seed(reference, DomainId::XEN, *gfn);
        }
        if let Some(store) = self.store {
            let port = self
                .allocate_service_port(crate::Service::Store)
                .map_err(|_| NewError::NoPort)?;
            self.parameters.set_store(store.gfn, port, store.late);
        }
        Ok(())
    }

    /// The same state for a new life of the domain, with the same memory. It has been disconnected, its maps
    /// and those of its frames are gone, no CPU is in a call of its last life, and the pages that it shares with
    /// the hypervisor are zeroed.
    ///
    /// # Errors
    /// [`NewError`], which [`Self::new`] would have said too.
    pub fn renew(&self, channels: &[StaticChannel]) -> Result<(), NewError> {
        self.events.renew();
        for vcpu in &self.vcpus {
            vcpu.renew();
        }
        self.pages.lock().renew();
        self.grants.renew();
        self.watchdogs.renew();
        if let Some((ring, _)) = &self.console {
            ring.renew();
        }
        self.assists.store(0, Ordering::Release);
        self.shutdown_code
            .store(NO_SHUTDOWN_CODE, Ordering::Release);
        self.arrange(channels)
    }

    /// The feature bit that says how its frame numbers stand to those of the machine
    /// (`xen/include/public/features.h`): Linux asks before it does DMA.
    pub(crate) const fn mapping_feature(&self) -> u32 {
        match self.direct_mapped {
            true => version::FEATURE_DIRECT_MAPPED,
            false => version::FEATURE_NOT_DIRECT_MAPPED,
        }
    }

    /// The domain's number.
    #[must_use]
    #[inline]
    pub fn id(&self) -> DomainId {
        self.id
    }

    /// Its HVM parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Its UUID.
    #[must_use]
    pub fn handle(&self) -> &[u8; version::GUEST_HANDLE_LENGTH] {
        &self.handle
    }

    /// Port of its PV console; `None` if it has none.
    #[must_use]
    pub fn console_port(&self) -> Option<Port> {
        self.console
            .as_ref()
            .map(|_| self.parameters.console_port())
    }

    /// Its PV console ring; `None` if it has none.
    #[must_use]
    pub fn console_ring(&self) -> Option<&ConsoleRing> {
        self.console.as_ref().map(|(ring, _)| ring)
    }

    /// Port of its xenstore; `None` if it has none.
    #[must_use]
    pub fn store_port(&self) -> Option<Port> {
        self.store.map(|_| self.parameters.store_port())
    }

    /// Tells the guest that its xenstore ring has moved.
    pub fn notify_store<H: Host>(&self, host: &H) {
        if let Some(port) = self.store_port() {
            self.raise_service(host, port);
        }
    }

    /// The reason to give for a shutdown: what the guest recorded before by `SCHEDOP_shutdown_code` or an
    /// earlier shutdown, else `reason`, which is recorded. For shutdowns by PSCI and by a watchdog; those by
    /// hypercall have been through here.
    pub fn shutdown_reason(&self, reason: u8) -> u8 {
        let recorded = self.shutdown_code.compare_exchange(
            NO_SHUTDOWN_CODE,
            u32::from(reason),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        match recorded {
            Ok(_) => reason,
            Err(earlier) => earlier as u8,
        }
    }

    pub(crate) fn may_use_console_io(&self) -> bool {
        self.console_io
    }

    /// The state of a vCPU.
    ///
    /// # Errors
    /// [`abi::Errno::NoEntry`] if the domain has no such vCPU.
    #[inline]
    pub(crate) fn vcpu(&self, vcpu: u32) -> Result<(VcpuId, &VcpuState), abi::Errno> {
        let state = self.vcpus.get(vcpu as usize);
        Ok((VcpuId(vcpu), state.ok_or(abi::Errno::NoEntry)?))
    }
}

impl fmt::Debug for XenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XenState")
            .field("id", &self.id)
            .field("vcpus", &self.vcpus.len())
            .finish_non_exhaustive()
    }
}
