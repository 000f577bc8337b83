//! What is done at the end of a guest, and whether it starts at boot: `viaduct,restart` and what belongs to it.

use super::node::Context;
use crate::tree::Property;

/// When a guest that has ended is started again (`viaduct,restart`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Restart {
    /// Never.
    #[default]
    Never,
    /// After a crash, when its watchdog has run out, or when it asks for it (reboot).
    OnCrash,
    /// After every end of its own.
    Always,
}

/// Restarts in a row, where the tree does not say how many.
const RESTART_LIMIT: u32 = 5;
/// Milliseconds before the first of them, where the tree does not say how many.
const RESTART_BACKOFF: u32 = 100;
/// The most that it may say.
const MAX_RESTART_BACKOFF: u32 = 60_000;

/// A guest's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LifeConfig {
    /// When it is started again.
    pub restart: Restart,
    /// Restarts in a row at most; 0 for no limit (`viaduct,restart-limit`).
    pub limit: u32,
    /// Milliseconds before the first, twice as many before each further one (`viaduct,restart-backoff-ms`).
    pub backoff: u32,
    /// It is described at boot, and started by hand (`viaduct,manual-start`).
    pub manual_start: bool,
    /// Those after it wait until it says that it is ready, and not only until it runs (`viaduct,says-ready`).
    pub says_ready: bool,
    /// The board is of no use without it: its watchdog is fed while it lives (`viaduct,critical`).
    pub critical: bool,
}

impl Default for LifeConfig {
    fn default() -> Self {
        Self {
            restart: Restart::Never,
            limit: RESTART_LIMIT,
            backoff: RESTART_BACKOFF,
            manual_start: false,
            says_ready: false,
            critical: false,
        }
    }
}

/// Reads a property, if it is one of these.
pub(super) fn property(
    context: &mut Context<'_>,
    property: &Property<'_>,
    life: &mut LifeConfig,
) -> bool {
    match property.name {
        "viaduct,restart" => match property.str() {
            Some("never") => life.restart = Restart::Never,
            Some("on-crash") => life.restart = Restart::OnCrash,
            Some("always") => life.restart = Restart::Always,
            _ => {
                let expected = "\"never\", \"on-crash\" or \"always\"";
                context.refuse("", property.name, property, expected);
            }
        },
        "viaduct,restart-limit" => {
            let expected = "one cell: restarts in a row, 0 for no limit";
            life.limit = context.number(property, 0..=u32::MAX, &expected);
        }
        "viaduct,restart-backoff-ms" => {
            let expected = format_args!("one cell: 0 to {MAX_RESTART_BACKOFF} milliseconds");
            life.backoff = context.number(property, 0..=MAX_RESTART_BACKOFF, &expected);
        }
        "viaduct,manual-start" => life.manual_start = true,
        "viaduct,says-ready" => life.says_ready = true,
        "viaduct,critical" => life.critical = true,
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::tests::{KERNEL, guest, read_chosen};
    use super::*;

    fn read(properties: &str) -> Result<LifeConfig, alloc::string::String> {
        let (domains, problems) =
            read_chosen(&guest("g", &alloc::format!("{properties} {KERNEL}")));
        match domains.first() {
            Some(domain) if problems.is_empty() => Ok(domain.life),
            _ => Err(alloc::format!("{problems:?}")),
        }
    }

    #[test]
    fn what_follows_an_end_is_read() {
        assert_eq!(read(""), Ok(LifeConfig::default()));
        let all = "viaduct,restart = \"on-crash\"; viaduct,restart-limit = <0>;
            viaduct,restart-backoff-ms = <60000>; viaduct,manual-start; viaduct,says-ready; viaduct,critical;";
        let expected = LifeConfig {
            restart: Restart::OnCrash,
            limit: 0,
            backoff: 60_000,
            manual_start: true,
            says_ready: true,
            critical: true,
        };
        assert_eq!(read(all), Ok(expected));
        let restart =
            |word| read(&alloc::format!("viaduct,restart = {word};")).map(|life| life.restart);
        assert_eq!(restart("\"never\""), Ok(Restart::Never));
        assert_eq!(restart("\"always\""), Ok(Restart::Always));
    }

    #[test]
    fn what_is_wrong_leaves_the_guest_out() {
        for (property, expected) in [
            ("viaduct,restart = \"sometimes\";", "on-crash"),
            ("viaduct,restart;", "on-crash"),
            ("viaduct,restart-limit = <1 2>;", "0 for no limit"),
            (
                "viaduct,restart-backoff-ms = <60001>;",
                "60000 milliseconds",
            ),
        ] {
            let told = read(property).unwrap_err();
            assert!(told.contains(expected), "{property}: {told}");
        }
    }
}
