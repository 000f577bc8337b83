//! The hypervisor's own pages of a domain, shared_info and the frames of its grant table, and where the
//! guest has mapped them. A page is mapped at one place at a time (`xen/arch/arm/mm.c`,
//! `xenmem_add_to_physmap_one`).
//!
//! The lock is held while the image changes the stage-2 table, so that the record is always right.

use crate::{Caller, SharedPage};
use abi::{Errno, grant_table};
use alloc::vec::Vec;
use sync::{Guard, SpinLock};

/// Frames that the grant table grows by before the call is restarted.
const GROW_STEP: usize = 8;

/// Most frames of any grant table, whatever the description says: `setup_table` lists them in one step.
const MOST_FRAMES: u32 = 256;

/// A page and the guest frame number where it is mapped, [`NOWHERE`] if it is not.
struct Placed {
    page: SharedPage,
    gfn: u64,
}

/// No frame of a guest has this number: nothing is ever mapped there.
const NOWHERE: u64 = u64::MAX;

/// Which page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    SharedInfo,
    GrantFrame(usize),
}

pub(crate) struct Record {
    shared_info: Placed,
    /// Capacity was reserved for `max_grant_frames`.
    grant_frames: Vec<Placed>,
    max_grant_frames: usize,
}

/// The hypervisor's own pages of a domain.
pub(crate) struct OwnPages(SpinLock<Record>);

impl OwnPages {
    /// `None` if there is no memory.
    pub(crate) fn new(
        shared_info: SharedPage,
        grant_frame: SharedPage,
        max_grant_frames: u32,
    ) -> Option<Self> {
        let max_grant_frames =
            max_grant_frames.clamp(grant_table::INITIAL_FRAMES, MOST_FRAMES) as usize;
        let mut grant_frames = Vec::new();
        grant_frames.try_reserve_exact(max_grant_frames).ok()?;
        grant_frames.push(Placed {
            page: grant_frame,
            gfn: NOWHERE,
        });
        Some(Self(SpinLock::new(Record {
            shared_info: Placed {
                page: shared_info,
                gfn: NOWHERE,
            },
            grant_frames,
            max_grant_frames,
        })))
    }

    pub(crate) fn lock(&self) -> Guard<'_, Record> {
        self.0.lock()
    }
}

impl Record {
    /// Frames of the grant table now.
    pub(crate) fn grant_frames(&self) -> usize {
        self.grant_frames.len()
    }

    /// Most frames of the grant table.
    pub(crate) fn max_grant_frames(&self) -> usize {
        self.max_grant_frames
    }

    /// A frame of the grant table.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn grant_page(&self, index: usize) -> Option<SharedPage> {
        Some(self.grant_frames.get(index)?.page)
    }

    /// Guest frame number of a frame of the grant table; `None` if it is not mapped.
    pub(crate) fn grant_gfn(&self, index: usize) -> Option<u64> {
        let gfn = self.grant_frames.get(index)?.gfn;
        (gfn != NOWHERE).then_some(gfn)
    }

    /// Grows the grant table to `frames` frames; does nothing if it is as large.
    ///
    /// # Errors
    /// [`Errno::Invalid`] beyond the limit, [`Errno::NoMemory`], [`Errno::Restart`] when a step is done.
    pub(crate) fn grow_grants<C: Caller>(
        &mut self,
        caller: &C,
        frames: usize,
    ) -> Result<(), Errno> {
        if frames > self.max_grant_frames {
            return Err(Errno::Invalid);
        }
        for _ in 0..GROW_STEP {
            if self.grant_frames.len() >= frames {
                return Ok(());
            }
            caller.make_room();
            let page = caller.new_page().ok_or(Errno::NoMemory)?;
            caller.state().grants.active.lock().grow(page)?;
            self.grant_frames.push(Placed { page, gfn: NOWHERE });
        }
        if self.grant_frames.len() >= frames {
            return Ok(());
        }
        Err(Errno::Restart)
    }

    /// As at first: one frame of the grant table, and nothing mapped by the guest. The other frames are the
    /// image's to use again.
    pub(crate) fn renew(&mut self) {
        self.grant_frames.truncate(1);
        for placed in self.all() {
            placed.gfn = NOWHERE;
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Placed> {
        core::iter::once(&mut self.shared_info).chain(&mut self.grant_frames)
    }

    /// Maps one of the pages at `gfn`.
    ///
    /// # Errors
    /// [`Errno::Busy`] if it is mapped elsewhere, [`Errno::Invalid`] if there is no such page; what
    /// [`Caller::map_page`] says.
    pub(crate) fn place<C: Caller>(
        &mut self,
        caller: &C,
        which: Which,
        gfn: u64,
    ) -> Result<(), Errno> {
        let placed = match which {
            Which::SharedInfo => &mut self.shared_info,
            Which::GrantFrame(index) => self.grant_frames.get_mut(index).ok_or(Errno::Invalid)?,
        };
        match placed.gfn {
            NOWHERE => {}
            old if old == gfn => return Ok(()),
            _ => return Err(Errno::Busy),
        }
        caller.map_page(gfn, &placed.page)?;
        // What was there of ours is there no longer.
        self.forget(gfn);
        match which {
            Which::SharedInfo => self.shared_info.gfn = gfn,
            Which::GrantFrame(index) => {
                if let Some(placed) = self.grant_frames.get_mut(index) {
                    placed.gfn = gfn;
                }
            }
        }
        Ok(())
    }

    /// Takes away what is mapped at `gfn`, ours or not.
    ///
    /// # Errors
    /// What [`Caller::remove_page`] says.
    pub(crate) fn remove<C: Caller>(&mut self, caller: &C, gfn: u64) -> Result<(), Errno> {
        caller.remove_page(gfn)?;
        self.forget(gfn);
        Ok(())
    }

    /// Something else is mapped at `gfn` now, or nothing.
    pub(crate) fn forget(&mut self, gfn: u64) {
        for placed in self.all() {
            if placed.gfn == gfn {
                placed.gfn = NOWHERE;
            }
        }
    }
}
