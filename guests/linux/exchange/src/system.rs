//! What the program needs of Linux (arm64), by system calls: files, mappings, arguments, its end. The only file with
//! `unsafe`.
//!
//! Numbers are those of `include/uapi/asm-generic/unistd.h`.

use core::ffi::{CStr, c_char};
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU64};

const OPENAT: usize = 56;
const CLOSE: usize = 57;
const READ: usize = 63;
const WRITE: usize = 64;
const PPOLL: usize = 73;
const EXIT_GROUP: usize = 94;
const IOCTL: usize = 29;
const MUNMAP: usize = 215;
const MMAP: usize = 222;

const AT_FDCWD: usize = -100_isize as usize;
const O_RDWR: usize = 2;
const POLLIN: u16 = 1;
const PROT_READ_WRITE: usize = 3;
const MAP_SHARED: usize = 1;

/// How long anything that another guest does is waited for.
const PATIENCE_SECONDS: u64 = 60;

/// What went wrong: at what, and Linux's number for it (0: it did not come in time).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble(pub(crate) &'static str, pub(crate) i32);

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            0 => write!(out, "{}: nothing came", self.0),
            number => write!(out, "{}: errno {number}", self.0),
        }
    }
}

core::arch::global_asm!(
    ".global _start",
    "_start:",
    // The stack pointer is at the number of arguments; there is no caller.
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "b {start}",
    start = sym start,
);

extern "C" fn start(stack: *const usize) -> ! {
    exit(crate::main(Arguments { stack, next: 1 }))
}

/// The words of the command line, without the program's name.
pub(crate) struct Arguments {
    stack: *const usize,
    next: usize,
}

impl Iterator for Arguments {
    type Item = &'static str;

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: Linux puts the number of arguments where the stack begins, and a pointer for each behind it.
        let count = unsafe { self.stack.read() };
        if self.next >= count {
            return None;
        }
        // SAFETY: as above, `next` being less than their number.
        let place = unsafe { self.stack.add(1 + self.next) };
        // SAFETY: and there it is.
        let text = unsafe { place.read() };
        self.next += 1;
        // SAFETY: each is a string that ends in 0 and stays for as long as the program runs.
        let text = unsafe { CStr::from_ptr(text as *const c_char) };
        Some(text.to_str().unwrap_or(""))
    }
}

/// # Safety
/// The kernel reads and writes what `arguments` point to, as the call is defined.
unsafe fn call(what: &'static str, number: usize, arguments: [usize; 6]) -> Result<usize, Trouble> {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: the convention of arm64: number in x8, arguments in x0 to x5, result in x0, all else kept. What is reached by
    // pointers is the caller's promise.
    unsafe {
        core::arch::asm!("svc #0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d,
            in("x4") e, in("x5") f, options(nostack));
    }
    match result {
        -4095..0 => Err(Trouble(what, -result as i32)),
        _ => Ok(result as usize),
    }
}

/// Ends the program.
pub(crate) fn exit(code: i32) -> ! {
    loop {
        // SAFETY: it does not come back.
        let _ = unsafe { call("exit", EXIT_GROUP, [code as usize, 0, 0, 0, 0, 0]) };
    }
}

/// An open file or device.
pub(crate) struct File(usize);

impl File {
    /// Standard output.
    pub(crate) const OUTPUT: Self = Self(1);

    /// Opens a device to read and write.
    pub(crate) fn open(path: &'static CStr) -> Result<Self, Trouble> {
        let what = path.to_str().unwrap_or("open");
        let arguments = [AT_FDCWD, path.as_ptr() as usize, O_RDWR, 0, 0, 0];
        // SAFETY: the path is a string that ends in 0.
        unsafe { call(what, OPENAT, arguments) }.map(Self)
    }

    /// Writes; how many bytes were taken.
    pub(crate) fn write(&self, what: &'static str, bytes: &[u8]) -> Result<usize, Trouble> {
        let arguments = [self.0, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0];
        // SAFETY: as many bytes are there to be read.
        unsafe { call(what, WRITE, arguments) }
    }

    /// Fills `bytes`, waiting for them for as long as patience lasts.
    pub(crate) fn read_exactly(&self, what: &'static str, bytes: &mut [u8]) -> Result<(), Trouble> {
        let mut left = bytes;
        while !left.is_empty() {
            self.wait(what)?;
            let arguments = [self.0, left.as_mut_ptr() as usize, left.len(), 0, 0, 0];
            // SAFETY: as many bytes may be written.
            let count = unsafe { call(what, READ, arguments) }?;
            left = left.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    fn wait(&self, what: &'static str) -> Result<(), Trouble> {
        let mut poll = u64::from(POLLIN) << 32 | self.0 as u64;
        let limit = [PATIENCE_SECONDS, 0];
        let arguments = [&raw mut poll as usize, 1, limit.as_ptr() as usize, 0, 0, 0];
        // SAFETY: one `struct pollfd` (descriptor, events, what came) that is written, a `struct timespec` that is read.
        match unsafe { call(what, PPOLL, arguments) }? {
            0 => Err(Trouble(what, 0)),
            _ => Ok(()),
        }
    }

    /// A command to a device; `argument` is what the command of that name takes, or more.
    ///
    /// # Safety
    /// The command reads and writes no more than `T`, and pointers in it point to what the command expects.
    unsafe fn command<T>(
        &self,
        what: &'static str,
        number: usize,
        argument: &mut T,
    ) -> Result<usize, Trouble> {
        let arguments = [
            self.0,
            number,
            core::ptr::from_mut(argument) as usize,
            0,
            0,
            0,
        ];
        // SAFETY: the caller's promise.
        unsafe { call(what, IOCTL, arguments) }
    }

    /// A command whose argument holds no pointer.
    pub(crate) fn control<T: Command>(&self, argument: &mut T) -> Result<usize, Trouble> {
        // SAFETY: `Command` is implemented for the commands' own structures alone.
        unsafe { self.command(T::NAME, T::NUMBER, argument) }
    }

    /// `IOCTL_GNTDEV_GRANT_COPY` of one page, between a grant and a page of this program's.
    pub(crate) fn copy_page(
        &self,
        grant: Foreign,
        page: &mut Page,
        to_grant: bool,
    ) -> Result<(), Trouble> {
        #[repr(C)]
        struct Segment {
            source: u64,
            dest: u64,
            length: u16,
            flags: u16,
            status: i16,
        }
        #[repr(C)]
        struct Copy {
            count: u32,
            segments: *mut Segment,
        }
        let own = core::ptr::from_mut(page) as u64;
        let grant = u64::from(grant.grant) | u64::from(grant.domain) << 48;
        let mut segment = Segment {
            source: if to_grant { own } else { grant },
            dest: if to_grant { grant } else { own },
            length: abi::PAGE_SIZE as u16,
            flags: if to_grant { 2 } else { 1 },
            status: -1,
        };
        let mut copy = Copy {
            count: 1,
            segments: &raw mut segment,
        };
        let number = command_number(b'G', 8, size_of::<Copy>());
        // SAFETY: one segment, whose page is this program's and whole.
        unsafe { self.command("gntdev copy", number, &mut copy) }?;
        match segment.status {
            0 => Ok(()),
            status => Err(Trouble("gntdev copy's status", i32::from(status))),
        }
    }

    /// Maps `pages` from `offset` of the device.
    pub(crate) fn map(
        &self,
        what: &'static str,
        offset: u64,
        pages: usize,
    ) -> Result<Mapping, Trouble> {
        let length = pages * abi::PAGE_SIZE;
        let arguments = [
            0,
            length,
            PROT_READ_WRITE,
            MAP_SHARED,
            self.0,
            offset as usize,
        ];
        // SAFETY: Linux chooses the place: nothing is mapped over.
        let address = unsafe { call(what, MMAP, arguments) }?;
        Ok(Mapping { address, length })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the number is this value's own.
        let _ = unsafe { call("close", CLOSE, [self.0, 0, 0, 0, 0, 0]) };
    }
}

/// The argument of an `ioctl` without pointers.
///
/// # Safety
/// The command of this number takes this structure, reads and writes nothing behind it, and any bytes of it are values.
pub(crate) unsafe trait Command {
    /// For messages.
    const NAME: &'static str;
    /// What [`command_number`] says.
    const NUMBER: usize;
}

/// `_IOC(_IOC_NONE, kind, number, size)`: how Xen's devices number their commands.
pub(crate) const fn command_number(kind: u8, number: u8, size: usize) -> usize {
    size << 16 | (kind as usize) << 8 | number as usize
}

/// A grant of another domain.
#[derive(Clone, Copy)]
pub(crate) struct Foreign {
    /// Whose.
    pub(crate) domain: u16,
    /// Which.
    pub(crate) grant: u32,
}

/// A page of this program's own.
#[repr(C, align(4096))]
pub(crate) struct Page(pub(crate) [u64; abi::PAGE_SIZE / 8]);

/// Pages that the other guest sees too, mapped until this value ends. Reached by atomics alone: both sides write.
pub(crate) struct Mapping {
    address: usize,
    length: usize,
}

impl Mapping {
    /// Its words.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: mapped, of this length and aligned to a page until `self` ends; whatever is in it is a number.
        unsafe { core::slice::from_raw_parts(self.address as *const AtomicU64, self.length / 8) }
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: as for `words`.
        unsafe { core::slice::from_raw_parts(self.address as *const AtomicU8, self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to it any more: references borrow `self`.
        let _ = unsafe { call("munmap", MUNMAP, [self.address, self.length, 0, 0, 0, 0]) };
    }
}

impl fmt::Write for File {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut left = text.as_bytes();
        while !left.is_empty() {
            let count = self.write("write", left).map_err(|_| fmt::Error)?;
            left = left.get(count..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($words:tt)*) => {{
        use core::fmt::Write;
        let mut output = core::mem::ManuallyDrop::new($crate::system::File::OUTPUT);
        let _ = writeln!(output, $($words)*);
    }};
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("exchange: {info}");
    exit(101)
}
