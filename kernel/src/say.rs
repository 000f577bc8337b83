//! What the hypervisor says to its user, by the `log` crate's levels. Its macros would build a record with file, line and
//! module wherever a line is said: 150 bytes each time, of which nobody reads more than level and text.

use core::fmt::Arguments;

use log::{Level, Record};

macro_rules! say {
    ($level:ident, $($what:tt)+) => {
        if log::Level::$level <= log::max_level() {
            $crate::say::line(log::Level::$level, format_args!($($what)+));
        }
    };
}
macro_rules! error {
    ($($what:tt)+) => { $crate::say::say!(Error, $($what)+) };
}
// `warn` alone would be the attribute.
macro_rules! warning {
    ($($what:tt)+) => { $crate::say::say!(Warn, $($what)+) };
}
macro_rules! info {
    ($($what:tt)+) => { $crate::say::say!(Info, $($what)+) };
}
macro_rules! debug {
    ($($what:tt)+) => { $crate::say::say!(Debug, $($what)+) };
}
pub(crate) use {debug, error, info, say, warning as warn};

/// Says a line.
#[cold]
#[inline(never)]
pub(crate) fn line(level: Level, what: Arguments<'_>) {
    log::logger().log(&Record::builder().level(level).args(what).build());
}
