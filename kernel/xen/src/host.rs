//! What this crate asks of the EL2 image: three small traits. The image implements them once; the
//! tests implement them with vectors.

use crate::{SharedPage, XenState};
use abi::{DomainId, Errno, VcpuId};
use memory::{Pa, Va};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Memory of the guest whose EL1 context is loaded on this CPU, by virtual address.
pub trait GuestMemory {
    /// Fills `buffer` from the guest's memory at `from`.
    ///
    /// # Errors
    /// [`Errno::Fault`] if a page is not mapped readable, or is not the guest's RAM.
    fn read(&self, from: Va, buffer: &mut [u8]) -> Result<(), Errno>;

    /// Writes `bytes` to the guest's memory at `to`.
    ///
    /// # Errors
    /// [`Errno::Fault`] if a page is not mapped writable, or is not the guest's RAM. Pages before it may
    /// have been written.
    fn write(&self, to: Va, bytes: &[u8]) -> Result<(), Errno>;

    /// Where an item is that is read and then written, if one look finds that out, and by words: for [`Self::read_place`] and
    /// [`Self::write_place`] in the same call, whatever that does to the guest's map meanwhile.
    ///
    /// # Errors
    /// [`Errno::Fault`] if it is not mapped writable, or is not the guest's RAM.
    #[inline]
    fn place(&self, _at: Va, _length: usize) -> Result<Option<Pa>, Errno> {
        Ok(None)
    }

    /// Fills `buffer` from what [`Self::place`] gave for as many bytes.
    #[inline]
    fn read_place(&self, _place: Pa, _buffer: &mut [u8]) {}

    /// Writes `bytes` to what [`Self::place`] gave for as many.
    #[inline]
    fn write_place(&self, _place: Pa, _bytes: &[u8]) {}

    /// A 32-bit word, if that takes no more than a look; `None` for all else, which [`Self::read_u32`] is for.
    #[inline]
    fn read_u32_at_once(&self, _from: Va) -> Option<u32> {
        None
    }

    /// A 32-bit word: the argument of the hot calls, worth a path of its own.
    ///
    /// # Errors
    /// As [`Self::read`].
    #[inline]
    fn read_u32(&self, from: Va) -> Result<u32, Errno> {
        if let Some(word) = self.read_u32_at_once(from) {
            return Ok(word);
        }
        let mut word = [0; 4];
        self.read(from, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }
}

/// The machine and the other domains.
pub trait Host {
    /// Makes the event interrupt (PPI 31) pending on a vCPU, once, and wakes the vCPU. Called when
    /// `evtchn_upcall_pending` goes from 0 to 1; may be called for a vCPU that is off.
    fn upcall(&self, domain: DomainId, vcpu: VcpuId);

    /// Makes a vCPU runnable whose [`Outcome::Poll`](crate::Outcome::Poll) is over. It may not have gone to
    /// sleep yet: the image asks [`XenState::is_polling`] under the lock that it sleeps with.
    fn wake(&self, domain: DomainId, vcpu: VcpuId);

    /// The state of a domain that lives; `None` if there is none with this id.
    fn peer(&self, id: DomainId) -> Option<&XenState>;

    /// The state of a domain by whose grants something is mapped: one that has ended is found too.
    fn granter(&self, id: DomainId) -> Option<&XenState>;

    /// The frame of a domain's own RAM at a guest frame number; `None` if there is none. It stays that
    /// domain's, or nobody's, until the call that asks is over.
    fn frame(&self, domain: DomainId, gfn: u64) -> Option<Pa>;

    /// Whose RAM a frame is.
    fn owner(&self, frame: Pa) -> Option<DomainId>;

    /// Keeps a domain's own frame in it, whatever it does, until [`Self::release`].
    ///
    /// # Errors
    /// [`Errno::Invalid`] if it is not in the domain's map, [`Errno::Busy`] if it is held too often,
    /// [`Errno::NoMemory`].
    fn hold(&self, domain: DomainId, frame: Pa) -> Result<(), Errno>;

    /// [`Self::frame`], and a [`Self::hold`] of what it found.
    ///
    /// # Errors
    /// As [`Self::hold`]; [`Errno::Invalid`] if there is none.
    #[inline]
    fn hold_at(&self, domain: DomainId, gfn: u64) -> Result<Pa, Errno> {
        let frame = self.frame(domain, gfn).ok_or(Errno::Invalid)?;
        self.hold(domain, frame)?;
        Ok(frame)
    }

    /// Ends a [`Self::hold`] of a frame of this domain.
    fn release(&self, domain: DomainId, frame: Pa);

    /// Puts an empty page of `domain`'s own in place of a frame that it has mapped by a grant at `gfn`, with the same
    /// rights, if that is there still. The empty page's frame; `None` if it was not.
    fn replace_map(&self, domain: DomainId, gfn: u64, frame: Pa) -> Option<Pa>;

    /// Takes bytes that a domain writes to its console. Always takes all; what cannot be kept is dropped
    /// and counted there.
    fn console_write(&self, domain: DomainId, bytes: &[u8]);

    /// Whether the console has much room for what a domain writes. If not, its PV ring is left as it is, so
    /// that the domain waits instead of losing lines; the image calls
    /// [`XenState::serve_console`] when there is room again.
    fn console_has_room(&self, domain: DomainId) -> bool;

    /// Gives back a page that [`Caller::ram_page`] gave: nobody in this crate reaches it any more.
    fn release_page(&self, domain: DomainId, page: &SharedPage);

    /// Does a step of what a domain has asked of xenstore, where it has sent an event; whether there is more to
    /// do. The domains whose rings have moved are told by [`XenState::notify_store`].
    fn serve_store(&self, domain: DomainId) -> bool;

    /// A domain keeps writing a word that it shares with the hypervisor, so that an event could not be set:
    /// it is to end. May be called with locks of this crate held, so nothing is ended at once.
    fn condemn(&self, domain: DomainId);

    /// Whether [`Self::trace`] is to be called. It is asked on hot paths.
    #[inline(always)]
    fn is_traced(&self) -> bool {
        false
    }

    /// Records what was done.
    fn trace(&self, what: Traced) {
        let _ = what;
    }
}

/// What is worth a record in a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traced {
    /// A domain sent an event by a port of its own.
    Sent {
        /// Who.
        from: DomainId,
        /// Its port.
        port: u32,
        /// Whose port it is connected to, if it is.
        to: Option<(DomainId, u32)>,
    },
    /// A frame was mapped by a grant.
    Mapped {
        /// Who mapped it.
        user: DomainId,
        /// Who granted it.
        granter: DomainId,
        /// By which entry of its table.
        reference: u32,
        /// Where it is now.
        gfn: u64,
        /// It can be written.
        write: bool,
    },
    /// Such a map is to end.
    Unmapped {
        /// Who had mapped it.
        user: DomainId,
        /// Who had granted it.
        granter: DomainId,
        /// By which entry of its table.
        reference: u32,
    },
}

/// How much memory the calling domain has; all in 4 KiB pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryFigures {
    /// Greatest frame number of the machine.
    pub maximum_ram_page: u64,
    /// Pages the domain owns.
    pub current: u64,
    /// Most pages it may own.
    pub maximum: u64,
    /// Greatest guest frame number at which something is mapped.
    pub maximum_gfn: u64,
}

/// What was at a guest frame number before something else was mapped there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replaced {
    /// A page of the hypervisor's, by [`Caller::map_page`].
    OwnPage,
    /// Anything else, or nothing.
    Nothing,
}

/// The vCPU that makes a hypercall.
pub trait Caller: GuestMemory + Host {
    /// Its domain.
    fn state(&self) -> &XenState;

    /// Its number.
    fn vcpu(&self) -> VcpuId;

    /// System time of its domain in nanoseconds: what the guest reads from CNTVCT_EL0, converted.
    fn now(&self) -> u64;

    /// Takes input that waits for the domain's `console_io`; the result is the number of bytes.
    fn console_read(&self, buffer: &mut [u8]) -> usize;

    /// Size of the domain.
    fn memory(&self) -> MemoryFigures;

    /// A page of the domain's own RAM, which then stays the domain's until [`Host::release_page`] or its end.
    ///
    /// # Errors
    /// [`Errno::Invalid`] if nothing is mapped there, [`Errno::Access`] if it is not the domain's RAM.
    fn ram_page(&self, gfn: u64) -> Result<SharedPage, Errno>;

    /// Sees to it that the heap has room for a page or two: what the domain may have within its bounds, and what is noted of
    /// that, is not to depend on what others took.
    fn make_room(&self);

    /// A zeroed page for the hypervisor to share with the domain, cleaned to the point of coherency,
    /// charged to the domain. `None` if its quota or the pool is used up.
    fn new_page(&self) -> Option<SharedPage>;

    /// Maps a page of the hypervisor's at a guest frame number, read-write, never executable, in place of
    /// what is there. RAM that is there is given up.
    ///
    /// # Errors
    /// [`Errno::Invalid`] if the frame number is not one that the guest may map, [`Errno::NoMemory`] if
    /// the table cannot grow.
    fn map_page(&self, gfn: u64, page: &SharedPage) -> Result<(), Errno>;

    /// Takes away what is mapped at a guest frame number. RAM is given up, as by [`Self::give_up`].
    ///
    /// # Errors
    /// [`Errno::NoEntry`] if nothing is mapped there, [`Errno::Invalid`] if it is not to be taken away.
    fn remove_page(&self, gfn: u64) -> Result<(), Errno>;

    /// Gives up the domain's own RAM at a guest frame number: the domain may take as much again, anywhere.
    ///
    /// # Errors
    /// [`Errno::NoEntry`] if nothing is mapped there, [`Errno::Invalid`] if it is not the domain's own RAM.
    fn give_up(&self, gfn: u64) -> Result<(), Errno>;

    /// Gives the domain zeroed RAM at a guest frame number, in place of what is there.
    ///
    /// # Errors
    /// [`Errno::Invalid`] if the frame number is not one that the guest may map, [`Errno::NoMemory`] if it
    /// has as much as it may, or there is none.
    fn populate(&self, gfn: u64) -> Result<Replaced, Errno>;

    /// Maps a frame of another domain, or of the caller's own, at a guest frame number, never executable, in
    /// place of what is there. RAM that is there is given up.
    ///
    /// # Errors
    /// As [`Self::map_page`].
    fn map_granted(&self, gfn: u64, frame: Pa, write: bool) -> Result<Replaced, Errno>;

    /// Takes away a frame that [`Self::map_granted`] mapped. No CPU reaches it through this domain any more.
    ///
    /// # Errors
    /// [`Errno::Invalid`] or [`Errno::NoEntry`] if that frame is not there.
    fn unmap_granted(&self, gfn: u64, frame: Pa) -> Result<(), Errno>;

    /// Copies within frames that [`Host::frame`] named.
    fn copy(&self, from: Pa, to: Pa, length: u64);

    /// Cleans and invalidates data caches to the point of coherency.
    fn flush(&self, start: Pa, length: u64);

    /// Says that [`XenState::next_watchdog`] has a new answer.
    fn watchdog_changed(&self);
}

/// Reads a structure of the ABI. The copy is the only one that is looked at: the guest may change the
/// original meanwhile.
pub(crate) fn read<T: FromBytes + IntoBytes>(
    memory: &impl GuestMemory,
    from: u64,
) -> Result<T, Errno> {
    let mut value = T::new_zeroed();
    memory.read(Va::new(from), value.as_mut_bytes())?;
    Ok(value)
}

/// Reads a structure of the ABI, has it changed, and writes it back: the item of a list. The copy is the only one that is
/// looked at.
#[inline]
pub(crate) fn update<T: FromBytes + IntoBytes + Immutable>(
    memory: &impl GuestMemory,
    at: u64,
    change: impl FnOnce(&mut T),
) -> Result<(), Errno> {
    let mut item = read(memory, at)?;
    change(&mut item);
    write(memory, at, &item)
}

/// The item at a place ([`GuestMemory::place`]).
#[inline(always)]
pub(crate) fn read_at<T: FromBytes + IntoBytes>(memory: &impl GuestMemory, place: Pa) -> T {
    let mut item = T::new_zeroed();
    memory.read_place(place, item.as_mut_bytes());
    item
}

/// Writes it back, from the byte `FROM` of it on: what is before that has not changed.
#[inline(always)]
pub(crate) fn write_at<T: IntoBytes + Immutable, const FROM: usize>(
    memory: &impl GuestMemory,
    place: Pa,
    item: &T,
) {
    let place = place.checked_add(FROM as u64);
    if let (Some(place), Some(bytes)) = (place, item.as_bytes().get(FROM..)) {
        memory.write_place(place, bytes);
    }
}

/// Writes a structure of the ABI.
pub(crate) fn write<T: IntoBytes + Immutable>(
    memory: &impl GuestMemory,
    to: u64,
    value: &T,
) -> Result<(), Errno> {
    memory.write(Va::new(to), value.as_bytes())
}

/// Resolves a domain id of a call that acts on the caller alone: [`DomainId::SELF`] or its own number.
///
/// # Errors
/// [`Errno::Perm`] for another domain, [`Errno::NoSuchDomain`] if there is no such domain.
#[inline]
pub(crate) fn own_domain(caller: &impl Caller, id: DomainId) -> Result<(), Errno> {
    if id == DomainId::SELF || id == caller.state().id() {
        return Ok(());
    }
    Err(match caller.peer(id) {
        Some(_) => Errno::Perm,
        None => Errno::NoSuchDomain,
    })
}
