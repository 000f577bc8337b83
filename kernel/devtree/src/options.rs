//! The hypervisor's command line: Xen's options that mean something here, and our own.
//!
//! `xen,xen-bootargs = "conswitch=bx sched=null on-last-stop=poweroff"`. An option that nobody knows, or a
//! value that it cannot have, is told once and is never fatal.

use log::LevelFilter;

/// What to do when nothing is left to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Stay up, doing nothing.
    Halt,
    /// Start again.
    Reboot,
    /// Switch the board off.
    PowerOff,
    /// Leave the emulator by semihosting, with an exit code.
    Exit,
}

impl Action {
    fn parse(value: &str) -> Option<Self> {
        match value {
            "halt" => Some(Self::Halt),
            "reboot" => Some(Self::Reboot),
            "poweroff" => Some(Self::PowerOff),
            "exit" => Some(Self::Exit),
            _ => None,
        }
    }
}

/// Options, with what holds where the line says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options<'l> {
    /// `conswitch=`: the key that switches the console's input, as Xen has it.
    pub console_switch: Option<&'l str>,
    /// `loglvl=`: what the hypervisor says of itself.
    pub log_level: LevelFilter,
    /// `vwfi=native`: guests' WFI is never trapped.
    pub native_wait: bool,
    /// `sched=null`: no time slices.
    pub no_slices: bool,
    /// `bootscrub=`: whether guests' memory is zeroed; it always is, the option is only understood.
    pub scrub: bool,
    /// `on-last-stop=`: what happens when the last guest has stopped.
    pub on_last_stop: Action,
    /// `on-panic=`: what happens when the hypervisor itself has failed.
    pub on_panic: Action,
    /// `trace=on`: binary trace of the hot paths.
    pub trace: bool,
    /// `longest-stretch=on`: how long each CPU takes no interrupts is measured, and told at the end.
    pub longest_stretch: bool,
    /// `fault=`: fail on purpose, in a build for that test.
    pub fault: Option<&'l str>,
}

/// Options of Xen's that have no meaning here, and need not be told about.
const SILENT: [&str; 5] = [
    "console",
    "dtuart",
    "guest_loglvl",
    "dom0_mem",
    "dom0_max_vcpus",
];

/// What the Raspberry Pi's firmware writes before the card's `cmdline.txt`, for Linux: parameters of its
/// modules, `module.name=value`, which no option of ours looks like, and a few of its own.
fn is_linux_own(name: &str) -> bool {
    name.contains('.') || matches!(name, "coherent_pool" | "video" | "numa_policy" | "numa")
}

impl<'l> Options<'l> {
    /// Reads a command line. `unknown` is told of each option that has no effect, and why.
    pub fn parse(line: &'l str, mut unknown: impl FnMut(&str, &'static str)) -> Self {
        let mut options = Self {
            console_switch: None,
            log_level: LevelFilter::Info,
            native_wait: false,
            no_slices: false,
            scrub: true,
            on_last_stop: Action::Halt,
            on_panic: Action::Halt,
            trace: false,
            longest_stretch: false,
            fault: None,
        };
        for word in line.split_ascii_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let known = match name {
                "conswitch" => {
                    options.console_switch = Some(value);
                    true
                }
                "loglvl" => level(value)
                    .map(|level| options.log_level = level)
                    .is_some(),
                "vwfi" => one_of(value, "native", "trap", &mut options.native_wait),
                "sched" => {
                    options.no_slices = value == "null";
                    matches!(value, "null" | "credit" | "credit2")
                }
                "bootscrub" => {
                    options.scrub = true;
                    true
                }
                "on-last-stop" => set(Action::parse(value), &mut options.on_last_stop),
                "on-panic" => set(Action::parse(value), &mut options.on_panic),
                "trace" => one_of(value, "on", "off", &mut options.trace),
                "longest-stretch" => one_of(value, "on", "off", &mut options.longest_stretch),
                "fault" => {
                    options.fault = Some(value);
                    true
                }
                name if SILENT.contains(&name) || is_linux_own(name) => true,
                _ => {
                    unknown(word, "no such option");
                    continue;
                }
            };
            if !known {
                unknown(word, "no such value");
            }
        }
        options
    }
}

fn set<T>(value: Option<T>, target: &mut T) -> bool {
    value.map(|value| *target = value).is_some()
}

fn one_of(value: &str, on: &str, off: &str, target: &mut bool) -> bool {
    *target = value == on;
    value == on || value == off
}

/// Xen's levels (`all`, `debug`, `info`, `warning`, `error`, `none`), or two with a slash between, of which
/// the first is meant.
fn level(value: &str) -> Option<LevelFilter> {
    match value.split('/').next()? {
        "all" => Some(LevelFilter::Trace),
        "debug" => Some(LevelFilter::Debug),
        "info" => Some(LevelFilter::Info),
        "warning" => Some(LevelFilter::Warn),
        "error" => Some(LevelFilter::Error),
        "none" => Some(LevelFilter::Off),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xens_options_and_ours_are_read() {
        let mut told = Vec::new();
        let line = "console=dtuart dtuart=serial0 conswitch=bx sched=null vwfi=native \
                    loglvl=debug/info on-last-stop=poweroff on-panic=exit trace=on longest-stretch=on bootscrub=0";
        let options = Options::parse(line, |word, why| told.push((word.to_string(), why)));
        assert!(told.is_empty(), "{told:?}");
        assert_eq!(options.console_switch, Some("bx"));
        assert_eq!(options.log_level, LevelFilter::Debug);
        assert!(options.no_slices && options.native_wait && options.trace && options.scrub);
        assert!(options.longest_stretch);
        assert_eq!(options.on_last_stop, Action::PowerOff);
        assert_eq!(options.on_panic, Action::Exit);
    }

    #[test]
    fn what_firmware_writes_for_linux_is_passed_over() {
        let line = "coherent_pool=1M 8250.nr_uarts=1 snd_bcm2835.enable_hdmi=1 video=HDMI-A-1:1920x1080M@60 \
                    smsc95xx.macaddr=DC:A6:32:01:02:03 vc_mem.mem_base=0x3ec00000 on-panic=reboot";
        let options = Options::parse(line, |word, why| panic!("{word}: {why}"));
        assert_eq!(options.on_panic, Action::Reboot);
    }

    #[test]
    fn what_is_not_known_is_told_once_and_changes_nothing() {
        let mut told = Vec::new();
        let options = Options::parse("iommu=no on-panic=explode trace=maybe", |word, why| {
            told.push((word.to_string(), why));
        });
        assert_eq!(
            told,
            [
                ("iommu=no".to_string(), "no such option"),
                ("on-panic=explode".to_string(), "no such value"),
                ("trace=maybe".to_string(), "no such value"),
            ]
        );
        assert_eq!(options, Options::parse("", |_, _| ()));
    }
}
