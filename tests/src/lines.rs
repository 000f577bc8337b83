//! What Viaduct and its guests say, in one place: tests wait for these.

/// Prefix of the hypervisor's own lines.
pub const VIADUCT: &str = "viaduct| ";
/// The first line.
pub const BANNER: &str = "viaduct| Viaduct ";
/// How the report of a failure of the hypervisor itself starts: a panic, or a fault at EL2. Only a
/// test that asks for one may ever see it.
pub const FAILURES: [&str; 2] = ["PANIC: ", "FAULT in EL2: "];
/// The end of that report.
pub const HALTED: &str = "halted";
/// The last guest has stopped.
pub const ALL_STOPPED: &str = "viaduct| every guest has stopped";
/// Nothing to run.
pub const NO_GUESTS: &str = "viaduct| no guests";
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
