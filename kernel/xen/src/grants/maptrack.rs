//! What a domain has mapped of others, by handle. Who maps or unmaps has the table locked meanwhile, so that it always
//! says what is there: who looks for the maps of a domain that has ended finds each. The table grows by a page when all its places are taken,
//! up to the number of frames that the domain's description gives it.

use super::active::frame_at;
use crate::{Caller, state};
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
    Mapped,
    /// Its domain has ended: an empty page is there instead.
    Broken,
}

/// A granted frame that is mapped.
#[derive(Clone, Copy)]
pub(super) struct Map {
    pub(super) granter: DomainId,
    pub(super) reference: GrantRef,
    pub(super) write: bool,
    pub(super) frame: Pa,
    /// Guest frame number at which it was mapped.
    pub(super) gfn: u32,
    /// Its domain has ended: the frame is an empty page.
    pub(super) is_broken: bool,
}

/// What is found where the maps of a domain's frames are looked for.
pub(super) enum Found {
    /// This one, which is broken now.
    Map(Map),
    /// Something else, or nothing.
    Other,
    /// The end of all places.
    End,
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

/// The places of page number `page`, all free, each with the next.
fn fresh(page: u32, index: usize) -> Place {
    let first = page.wrapping_mul(PER_PAGE as u32);
    Place {
        state: State::Free,
        write: false,
        granter: DomainId(0),
        reference: GrantRef(0),
        frame: match index.wrapping_add(1) {
            PER_PAGE => NONE,
            next => first.wrapping_add(next as u32),
        },
        gfn: 0,
    }
}

impl Place {
    #[inline]
    fn of(map: Map) -> Self {
        Self {
            state: match map.is_broken {
                true => State::Broken,
                false => State::Mapped,
            },
            write: map.write,
            granter: map.granter,
            reference: map.reference,
            frame: map.frame.frame_number() as u32,
            gfn: map.gfn,
        }
    }
}

/// A place for a map, by the handle that it will have.
pub(super) struct Vacancy<'a> {
    pub(super) handle: u32,
    place: &'a mut Place,
    free: &'a mut u32,
}

impl Vacancy<'_> {
    /// Something is mapped by its handle now.
    #[inline]
    pub(super) fn fill(self, map: Map) {
        *self.free = self.place.frame;
        *self.place = Place::of(map);
    }
}

/// The place of something that is mapped.
pub(super) struct Occupied<'a> {
    handle: u32,
    place: &'a mut Place,
    free: &'a mut u32,
}

impl Occupied<'_> {
    /// What it is.
    #[inline]
    pub(super) fn map(&self) -> Map {
        let place = &*self.place;
        Map {
            granter: place.granter,
            reference: place.reference,
            write: place.write,
            frame: frame_at(place.frame),
            gfn: place.gfn,
            is_broken: place.state == State::Broken,
        }
    }

    /// It is mapped no more, and its handle is another's to have; what it was.
    #[inline]
    pub(super) fn free(self) -> Map {
        let map = self.map();
        self.place.state = State::Free;
        self.place.frame = *self.free;
        *self.free = self.handle;
        map
    }
}

/// What a domain has mapped.
pub(crate) struct Maptrack {
    /// Those that a life of the domain had more than this one stay for later, with all places free.
    pages: Vec<Box<[Place; PER_PAGE]>>,
    /// How many of them there are now.
    grown: usize,
    most_pages: usize,
    free: u32,
    /// Where the release of all of them goes on.
    cursor: u32,
}

impl Maptrack {
    pub(super) fn new(most_frames: u32) -> Self {
        Self {
            pages: Vec::new(),
            grown: 0,
            most_pages: most_frames as usize,
            free: NONE,
            cursor: 0,
        }
    }

    /// A free place, which the next call finds again if this one does not fill it; `None` if there is none.
    #[inline]
    pub(super) fn vacancy(&mut self, caller: &impl Caller) -> Option<Vacancy<'_>> {
        if self.free == NONE {
            self.grow(caller)?;
        }
        let handle = self.free;
        let page = self.pages.get_mut(handle as usize / PER_PAGE)?;
        Some(Vacancy {
            handle,
            place: page.get_mut(handle as usize % PER_PAGE)?,
            free: &mut self.free,
        })
    }

    /// What is mapped by a handle.
    #[inline]
    pub(super) fn find(&mut self, handle: u32) -> Option<Occupied<'_>> {
        let page = self.pages.get_mut(handle as usize / PER_PAGE)?;
        let place = page.get_mut(handle as usize % PER_PAGE)?;
        if place.state == State::Free {
            return None;
        }
        Some(Occupied {
            handle,
            place,
            free: &mut self.free,
        })
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, caller: &impl Caller) -> Option<()> {
        if self.grown >= self.most_pages {
            return None;
        }
        let number = u32::try_from(self.grown).ok()?;
        let first = number.checked_mul(PER_PAGE as u32)?;
        first.checked_add(PER_PAGE as u32)?;
        if let Some(page) = self.pages.get_mut(self.grown) {
            for (index, place) in page.iter_mut().enumerate() {
                *place = fresh(number, index);
            }
        } else {
            caller.make_room();
            self.pages.try_reserve(1).ok()?;
            let page = state::boxed(PER_PAGE, |index| fresh(number, index))?;
            self.pages.push(page.try_into().ok()?);
        }
        self.grown = self.grown.saturating_add(1);
        self.free = first;
        Some(())
    }

    /// What is at `handle`, if it is a frame of this domain: `replace` is given its guest frame number and its frame,
    /// and gives the frame that is there from now on, if it was there at all. All under the lock, so that who unmaps
    /// it finds the one or the other.
    pub(super) fn break_at(
        &mut self,
        handle: u32,
        granter: DomainId,
        replace: impl FnOnce(u64, Pa) -> Option<Pa>,
    ) -> Found {
        if handle as usize / PER_PAGE >= self.pages.len() {
            return Found::End;
        }
        let Some(found) = self.find(handle) else {
            return Found::Other;
        };
        let map = found.map();
        if map.is_broken || map.granter != granter {
            return Found::Other;
        }
        let empty = replace(u64::from(map.gfn), map.frame);
        *found.place = Place::of(Map {
            frame: empty.unwrap_or(Pa::new(0)),
            is_broken: true,
            ..map
        });
        Found::Map(map)
    }

    /// Whether a frame is mapped by a place of `page`; `None` if there is no such page.
    pub(super) fn page_maps(&self, page: usize, frame: Pa) -> Option<bool> {
        let number = frame.frame_number();
        let places = self.pages.get(..self.grown)?.get(page)?;
        Some(
            places
                .iter()
                .any(|place| place.state == State::Mapped && u64::from(place.frame) == number),
        )
    }

    /// The next of all that is mapped, each once; `None` when all have been taken. The domain has ended.
    pub(super) fn take_next(&mut self) -> Option<Map> {
        while (self.cursor as usize) < self.grown.saturating_mul(PER_PAGE) {
            let handle = self.cursor;
            self.cursor = handle.wrapping_add(1);
            if let Some(found) = self.find(handle) {
                return Some(found.free());
            }
        }
        None
    }

    /// The domain lives again, and has mapped nothing.
    pub(super) fn renew(&mut self) {
        (self.grown, self.cursor, self.free) = (0, 0, NONE);
    }
}
