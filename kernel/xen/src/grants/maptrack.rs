//! What a domain has mapped of others, by handle. The table grows by a page when all its places are taken,
//! up to the number of frames that the domain's description gives it.

use crate::state;
use abi::DomainId;
use abi::grant_table::GrantRef;
use alloc::boxed::Box;
use alloc::vec::Vec;
use memory::Pa;

/// Places in a page, as in a frame of Xen's.
pub(super) const PER_PAGE: usize = 256;

/// No next free place.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// Somebody is mapping or unmapping.
    Claimed,
    Mapped,
}

/// A granted frame that is mapped.
#[derive(Clone, Copy)]
pub(super) struct Map {
    pub(super) granter: DomainId,
    pub(super) reference: GrantRef,
    pub(super) write: bool,
    pub(super) frame: Pa,
    /// Guest frame number where it was put, in 32 bits: stage 2 has 40 bits of address.
    pub(super) gfn: u32,
}

#[derive(Clone, Copy)]
struct Place {
    state: State,
    write: bool,
    granter: DomainId,
    reference: GrantRef,
    /// Frame number; of a free place, the next free one.
    frame: u32,
    gfn: u32,
}

/// What a domain has mapped.
pub(crate) struct Maptrack {
    pages: Vec<Box<[Place]>>,
    most_pages: usize,
    free: u32,
    /// Where the release of all of them goes on.
    cursor: u32,
}

impl Maptrack {
    pub(super) fn new(most_frames: u32) -> Self {
        Self {
            pages: Vec::new(),
            most_pages: most_frames as usize,
            free: NONE,
            cursor: 0,
        }
    }

    fn place(&mut self, handle: u32) -> Option<&mut Place> {
        let page = self.pages.get_mut(handle as usize / PER_PAGE)?;
        page.get_mut(handle as usize % PER_PAGE)
    }

    /// Takes a free place; `None` if there is none.
    pub(super) fn claim(&mut self) -> Option<u32> {
        if self.free == NONE {
            self.grow()?;
        }
        let handle = self.free;
        let place = self.place(handle)?;
        place.state = State::Claimed;
        let next = place.frame;
        self.free = next;
        Some(handle)
    }

    fn grow(&mut self) -> Option<()> {
        if self.pages.len() >= self.most_pages {
            return None;
        }
        self.pages.try_reserve(1).ok()?;
        let first = u32::try_from(self.pages.len().checked_mul(PER_PAGE)?).ok()?;
        first.checked_add(PER_PAGE as u32)?;
        let page = state::boxed(PER_PAGE, |index| Place {
            state: State::Free,
            write: false,
            granter: DomainId(0),
            reference: GrantRef(0),
            frame: match index.wrapping_add(1) {
                PER_PAGE => NONE,
                next => first.wrapping_add(next as u32),
            },
            gfn: 0,
        })?;
        self.pages.push(page);
        self.free = first;
        Some(())
    }

    /// Fills a place that was claimed.
    pub(super) fn fill(&mut self, handle: u32, map: Map) {
        if let Some(place) = self.place(handle) {
            *place = Place {
                state: State::Mapped,
                write: map.write,
                granter: map.granter,
                reference: map.reference,
                frame: map.frame.frame_number() as u32,
                gfn: map.gfn,
            };
        }
    }

    /// What is mapped by a handle; the place is claimed, so that no other call finds it.
    pub(super) fn take(&mut self, handle: u32) -> Option<Map> {
        let place = self.place(handle)?;
        if place.state != State::Mapped {
            return None;
        }
        place.state = State::Claimed;
        Some(Map {
            granter: place.granter,
            reference: place.reference,
            write: place.write,
            frame: Pa::from_frame_number(u64::from(place.frame))?,
            gfn: place.gfn,
        })
    }

    /// Whether something is mapped by a handle.
    pub(super) fn is_mapped(&mut self, handle: u32) -> bool {
        self.place(handle)
            .is_some_and(|place| place.state == State::Mapped)
    }

    /// Frees a place that was claimed.
    pub(super) fn give(&mut self, handle: u32) {
        let next = self.free;
        if let Some(place) = self.place(handle) {
            place.state = State::Free;
            place.frame = next;
            self.free = handle;
        }
    }

    /// Whether a frame is mapped by a place of `page`; `None` if there is no such page.
    pub(super) fn page_maps(&self, page: usize, frame: Pa) -> Option<bool> {
        let number = frame.frame_number();
        let places = self.pages.get(page)?;
        Some(
            places
                .iter()
                .any(|place| place.state == State::Mapped && u64::from(place.frame) == number),
        )
    }

    /// The next of all that is mapped, each once; `None` when all have been taken. The places are of no use
    /// afterwards: the domain has ended.
    pub(super) fn take_next(&mut self) -> Option<Map> {
        while (self.cursor as usize) < self.pages.len().saturating_mul(PER_PAGE) {
            let handle = self.cursor;
            self.cursor = handle.wrapping_add(1);
            if let Some(map) = self.take(handle) {
                return Some(map);
            }
        }
        self.pages = Vec::new();
        self.free = NONE;
        self.most_pages = 0;
        None
    }
}
