//! What Viaduct and its guests say, in one place: tests wait for these.

/// Prefix of the hypervisor's own lines.
pub const VIADUCT: &str = "viaduct| ";
/// The first line.
pub const BANNER: &str = "Viaduct 0.";
/// How the report of a failure of the hypervisor itself starts: a panic, or a fault at EL2. Only a
/// test that asks for one may ever see it.
pub const FAILURES: [&str; 2] = ["PANIC: ", "FAULT in EL2: "];
/// The end of that report.
pub const HALTED: &str = "halted";
/// The last guest has stopped.
pub const ALL_STOPPED: &str = "viaduct| all guests have stopped";
/// After that: how much memory is free for guests, and of how much.
pub const MEMORY_FREE: &str = "KiB free for guests";
/// Everything is built; the line ends with the time since reset.
pub const GUESTS_START: &str = "viaduct| guests start";
/// Which CPUs have built guests, with the boot argument `loglvl=debug`; their numbers follow.
pub const BUILT_BY: &str = "viaduct| guests built by CPUs ";
/// Nothing to run.
pub const NO_GUESTS: &str = "viaduct| no guest to run";
/// Started at EL1, or at EL3: nothing to do there.
pub const NOT_AT_EL2: &str = "started at EL1; it must be EL2";

/// Boot argument: power off when the last guest has stopped.
pub const POWER_OFF: &str = "on-last-stop=poweroff";

/// Boot argument: leave QEMU by semihosting when the hypervisor itself has failed.
pub const EXIT_ON_FAILURE: &str = "on-panic=exit";
/// The exit code then.
pub const FAILURE_CODE: i32 = 101;

/// The prompt of the hypervisor's shell.
pub const PROMPT: &str = "viaduct> ";
/// The input has gone to the shell.
pub const INPUT_TO_SHELL: &str = "*** input goes to the shell ";

/// Whether a line stands under a name: a guest's, or the hypervisor's.
#[must_use]
pub fn is_under_a_name(line: &str) -> bool {
    line.split_once("| ")
        .is_some_and(|(name, _)| !name.is_empty() && !name.contains(' '))
}

/// The prefix of a guest's lines.
#[must_use]
pub fn of(guest: &str) -> String {
    format!("{guest}| ")
}

/// The line that says that a guest has stopped, and why (`poweroff`, `reboot`, `crash` ...).
#[must_use]
pub fn stopped(guest: &str, reason: &str) -> String {
    format!("viaduct| {guest}: stopped ({reason})")
}

/// How long a guest took to live again, in microseconds, if this is the line on it: from the end of the last life to the
/// moment when its first vCPU may run.
#[must_use]
pub fn restarted(guest: &str, line: &str) -> Option<f64> {
    let said = line.strip_prefix(VIADUCT)?.strip_prefix(guest)?;
    let number = said.strip_prefix(": runs again, ")?;
    number.strip_suffix(" us later")?.parse().ok()
}

/// Whether a line with [`MEMORY_FREE`] says that all of it is.
#[must_use]
pub fn all_is_free(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let of = words.iter().position(|word| *word == "of");
    of.is_some_and(|of| of > 0 && words.get(of - 1) == words.get(of + 1))
}

#[cfg(test)]
mod tests {
    #[test]
    fn restarts_have_their_time() {
        let line = "viaduct| victim: runs again, 1219 us later";
        assert_eq!(super::restarted("victim", line), Some(1219.0));
        for other in [
            "viaduct| victim: runs, 12 us later",
            "viaduct| victim: runs again, 12",
            "victim: runs again, 12 us later",
        ] {
            assert_eq!(super::restarted("victim", other), None, "{other}");
        }
    }

    #[test]
    fn memory_is_free_when_both_numbers_agree() {
        assert!(super::all_is_free(
            "viaduct| memory: 12 of 12 KiB free for guests"
        ));
        assert!(!super::all_is_free(
            "viaduct| memory: 10 of 12 KiB free for guests"
        ));
        assert!(!super::all_is_free(""));
    }
}
