//! The one error type of this crate: why a tree, a bundle, a kernel or a placement cannot be used.

use core::fmt;

use crate::guest::Reservation;

/// Why a tree, a bundle or a kernel cannot be used. Mistakes in one guest's description are not here:
/// they are [`Problem`](crate::Problem)s.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The first four bytes are not those of a flattened device tree.
    NotATree,
    /// The header of the tree contradicts itself or the bytes given; which field.
    Header(&'static str),
    /// The structure block is damaged, `offset` bytes from its start.
    Structure {
        /// Bytes from the start of the structure block.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// The board's tree lacks something that Viaduct cannot do without.
    Missing(&'static str),
    /// More of something than there is room for.
    TooMany(&'static str),
    /// No image of that name is in the bundle.
    NoSuchImage,
    /// An image of the bundle is described wrongly; the property.
    Image(&'static str),
    /// The bundle asks for something that is not built; what.
    NotBuilt(&'static str),
    /// The data of an image does not match its hash; the algorithm.
    HashMismatch(&'static str),
    /// The RAM disk does not match its hash; the algorithm.
    RamdiskHashMismatch(&'static str),
    /// A kernel of a kind that is recognised and not supported; which.
    KernelKind(&'static str),
    /// Neither an arm64 Image nor an ELF64 file for AArch64.
    UnknownKernel,
    /// A kernel file is damaged or makes no sense; what.
    Kernel(&'static str),
    /// Something does not fit into the guest's memory; what.
    DoesNotFit(&'static str),
    /// The guest's tree could not be written; what.
    Writing(&'static str),
    /// Less memory is free than the guest needs.
    NotEnoughMemory {
        /// Bytes that it needs, whole chunks.
        wanted: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// There is no room for something at the board's own addresses; what.
    NoPlace(&'static str),
    /// The memory that the guest is to have by its place is not free.
    StaticMemory,
    /// A shared memory lies where the guest has something else; its number in the description.
    SharedPlace(usize),
    /// It may not have the devices that it asks for; why was told.
    Devices,
    /// No CPU that a vCPU may run on is up.
    NoCpu,
    /// With `sched=null`: each CPU that a vCPU may run on has one already.
    NoFreeCpu {
        /// Its number.
        vcpu: u32,
    },
    /// No CPU that a real-time vCPU may run on has so much time left.
    NoTime {
        /// Its number.
        vcpu: u32,
        /// What it asks for.
        reservation: Reservation,
        /// What is left of the CPU that has most, in millionths.
        free: u32,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATree => f.write_str("not a flattened device tree"),
            Self::Header(field) => write!(f, "device tree header: bad {field}"),
            Self::Structure { offset, what } => {
                write!(
                    f,
                    "device tree damaged at structure offset {offset:#x}: {what}"
                )
            }
            Self::Missing(what) => write!(f, "device tree has no {what}"),
            Self::TooMany(what) => write!(f, "too many {what}"),
            Self::NoSuchImage => f.write_str("no image of that name in the bundle"),
            Self::Image(property) => write!(f, "image in the bundle: bad {property}"),
            Self::NotBuilt(what) => write!(f, "{what} is not supported"),
            Self::HashMismatch(algorithm) | Self::RamdiskHashMismatch(algorithm) => {
                write!(f, "data does not match its {algorithm}")
            }
            Self::KernelKind(kind) => write!(f, "{kind} is not supported"),
            Self::UnknownKernel => f.write_str("neither an arm64 Image nor an AArch64 ELF file"),
            Self::Kernel(what) => write!(f, "kernel file: bad {what}"),
            Self::DoesNotFit(what) => write!(f, "{what} does not fit into the guest's memory"),
            Self::Writing(what) => write!(f, "guest tree: {what}"),
            Self::NotEnoughMemory { wanted, free } => write!(
                f,
                "memory: found {} KiB free, expected {} KiB",
                free >> 10,
                wanted >> 10
            ),
            Self::NoPlace(what) => write!(f, "direct-map: no room for {what}"),
            Self::StaticMemory => f.write_str("xen,static-mem: not free"),
            Self::SharedPlace(_) => f.write_str("xen,shared-mem: something else is there"),
            Self::Devices => f.write_str("devices that it cannot have"),
            Self::NoCpu => f.write_str("hard-affinity: no CPU of it is up"),
            Self::NoFreeCpu { vcpu } => {
                write!(f, "vCPU {vcpu}, and every CPU that it may run on has one")
            }
            Self::NoTime {
                vcpu, reservation, ..
            } => write!(
                f,
                "{} of {} us for vCPU {vcpu}",
                reservation.budget, reservation.period
            ),
        }
    }
}

impl core::error::Error for Error {}
