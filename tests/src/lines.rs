//! What Viaduct and its guests say, in one place: tests wait for these.

/// Prefix of the hypervisor's own lines.
pub const VIADUCT: &str = "viaduct| ";
/// The first line.
pub const BANNER: &str = "viaduct| Viaduct ";
/// A failure of the hypervisor itself; no test but those that ask for one may ever see it.
pub const PANIC: &str = "viaduct| panic";
/// The last guest has stopped.
pub const ALL_STOPPED: &str = "viaduct| every guest has stopped";
/// Started at EL1, or at EL3: nothing to do there.
pub const NOT_AT_EL2: &str = "not started at EL2";

/// Boot argument: power off when the last guest has stopped.
pub const POWER_OFF: &str = "on-last-stop=poweroff";

/// The prefix of a guest's lines.
#[must_use]
pub fn of(guest: &str) -> String {
    format!("{guest}| ")
}

/// The line that says that a guest has stopped, and why (`poweroff`, `reboot`, `crash` ...).
#[must_use]
pub fn stopped(guest: &str, reason: &str) -> String {
    format!("viaduct| {guest}: stopped: {reason}")
}
