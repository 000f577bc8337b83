//! Cases, counted and told.

use core::fmt::Debug;
use runtime::abi::{DomainId, Errno};
use runtime::println;

/// What a call should answer: a number, or an error of the ABI.
pub(crate) trait Answer {
    fn value(self) -> i64;
}

impl Answer for i64 {
    fn value(self) -> i64 {
        self
    }
}

impl Answer for Errno {
    fn value(self) -> i64 {
        self.as_return()
    }
}

/// No domain has this number.
pub(crate) const NOBODY: DomainId = DomainId(0x7000);

/// Addresses that nothing may be read from or written to: unmapped, outside the address space, wrapping.
pub(crate) const BAD_POINTERS: [u64; 5] = [
    8,
    0x7f_ffff_f000,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_f000,
    u64::MAX,
];

pub(crate) struct Suite {
    pub(crate) own: DomainId,
    /// Lives, and is no peer.
    pub(crate) stranger: DomainId,
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    subject: &'static str,
}

impl Suite {
    pub(crate) fn new(own: DomainId, stranger: DomainId) -> Self {
        Self {
            own,
            stranger,
            passed: 0,
            failed: 0,
            subject: "",
        }
    }

    /// What follows is about this operation.
    pub(crate) fn subject(&mut self, name: &'static str) {
        self.subject = name;
    }

    /// The answer of a call.
    pub(crate) fn is(&mut self, case: &str, found: i64, wanted: impl Answer) {
        self.equal(case, found, wanted.value());
    }

    /// Any value.
    pub(crate) fn equal<T: PartialEq + Debug>(&mut self, case: &str, found: T, wanted: T) {
        if found == wanted {
            self.passed += 1;
            println!("PASS {}: {case}", self.subject);
        } else {
            self.failed += 1;
            println!("FAIL {}: {case}: {found:x?}, not {wanted:x?}", self.subject);
        }
    }

    pub(crate) fn that(&mut self, case: &str, holds: bool) {
        self.equal(case, holds, true);
    }

    /// Each of [`BAD_POINTERS`] is a fault.
    pub(crate) fn faults(&mut self, call: impl Fn(u64) -> i64) {
        for pointer in BAD_POINTERS {
            let case = alloc::format!("pointer {pointer:#x}");
            self.is(&case, call(pointer), Errno::Fault);
        }
    }
}
