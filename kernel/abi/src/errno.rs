//! Error numbers (`xen/include/public/errno.h`); they equal Linux's generic ones.

use core::fmt;

macro_rules! errno {
    ($($(#[$doc:meta])* $variant:ident = $number:expr, $name:expr;)*) => {
        /// Why a hypercall failed. A guest sees it negated, see [`Errno::as_return`].
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(i64)]
        pub enum Errno {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Errno {
            /// The error behind a negative result of a hypercall; `None` for results that are not
            /// negative and for numbers that Xen does not define.
            #[must_use]
            pub const fn from_return(result: i64) -> Option<Self> {
                match result.checked_neg() {
                    $(Some($number) => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its name in the Xen headers, such as "EINVAL".
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

errno! {
    /// Operation not permitted.
    Perm = 1, "EPERM";
    /// No such entry.
    NoEntry = 2, "ENOENT";
    /// No such domain.
    NoSuchDomain = 3, "ESRCH";
    /// Interrupted.
    Interrupted = 4, "EINTR";
    /// Input/output error.
    Io = 5, "EIO";
    /// No such device or address.
    NoSuchAddress = 6, "ENXIO";
    /// Argument too big.
    TooBig = 7, "E2BIG";
    /// Image not understood.
    NoExec = 8, "ENOEXEC";
    /// Bad descriptor.
    BadDescriptor = 9, "EBADF";
    /// No child.
    NoChild = 10, "ECHILD";
    /// Try again.
    Again = 11, "EAGAIN";
    /// Out of memory.
    NoMemory = 12, "ENOMEM";
    /// Access denied.
    Access = 13, "EACCES";
    /// Bad guest address.
    Fault = 14, "EFAULT";
    /// Busy.
    Busy = 16, "EBUSY";
    /// Exists already.
    Exists = 17, "EEXIST";
    /// Crosses a boundary between devices.
    CrossDevice = 18, "EXDEV";
    /// No such device.
    NoDevice = 19, "ENODEV";
    /// Not a directory.
    NotDirectory = 20, "ENOTDIR";
    /// Is a directory.
    IsDirectory = 21, "EISDIR";
    /// Invalid argument.
    Invalid = 22, "EINVAL";
    /// Too many files in all.
    FileTable = 23, "ENFILE";
    /// Too many files.
    TooManyFiles = 24, "EMFILE";
    /// No space left: no free port, no free timer.
    NoSpace = 28, "ENOSPC";
    /// Read-only.
    ReadOnly = 30, "EROFS";
    /// Too many links.
    TooManyLinks = 31, "EMLINK";
    /// Outside the domain of the function.
    Domain = 33, "EDOM";
    /// Result out of range.
    Range = 34, "ERANGE";
    /// Would deadlock.
    Deadlock = 35, "EDEADLK";
    /// Name too long.
    NameTooLong = 36, "ENAMETOOLONG";
    /// No locks left.
    NoLock = 37, "ENOLCK";
    /// Not implemented: unknown hypercall or command.
    NoSys = 38, "ENOSYS";
    /// Directory not empty.
    NotEmpty = 39, "ENOTEMPTY";
    /// No data.
    NoData = 61, "ENODATA";
    /// Timer expired.
    Time = 62, "ETIME";
    /// Not a data message.
    BadMessage = 74, "EBADMSG";
    /// Value too large for its type.
    Overflow = 75, "EOVERFLOW";
    /// Illegal byte sequence.
    IllegalSequence = 84, "EILSEQ";
    /// The call is to be made again (never seen by a guest).
    Restart = 85, "ERESTART";
    /// Not a socket.
    NotSocket = 88, "ENOTSOCK";
    /// Message too long.
    MessageSize = 90, "EMSGSIZE";
    /// Not supported on this system.
    NotSupported = 95, "EOPNOTSUPP";
    /// Address in use.
    AddressInUse = 98, "EADDRINUSE";
    /// Address not available.
    AddressNotAvailable = 99, "EADDRNOTAVAIL";
    /// The guest's buffer is too short.
    NoBuffer = 105, "ENOBUFS";
    /// Connected already.
    IsConnected = 106, "EISCONN";
    /// Not connected.
    NotConnected = 107, "ENOTCONN";
    /// Timed out.
    TimedOut = 110, "ETIMEDOUT";
    /// Refused.
    Refused = 111, "ECONNREFUSED";
}

impl Errno {
    /// What a guest finds in x0: the number, negated.
    #[must_use]
    pub const fn as_return(self) -> i64 {
        (self as i64).wrapping_neg()
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_go_both_ways() {
        assert_eq!(Errno::NoSys.as_return(), -38);
        assert_eq!(Errno::from_return(-38), Some(Errno::NoSys));
        assert_eq!(Errno::from_return(0), None);
        assert_eq!(Errno::from_return(38), None);
        assert_eq!(Errno::from_return(-15), None);
        assert_eq!(Errno::from_return(i64::MIN), None);
        assert_eq!(Errno::Invalid.to_string(), "EINVAL");
    }
}
