//! The three machines, as QEMU command lines.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::console::Console;
use crate::guest::Guest;
use crate::host_tree::{self, Loaded};
use crate::images::{self, Image};
use crate::monitor;
use crate::paths::scratch;
use crate::slots;

/// The interrupt controller of QEMU's `virt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gic {
    /// GICv2 with virtualization extensions.
    V2,
    /// GICv3.
    V3,
}

/// A machine that QEMU plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Board {
    /// `virt`: starts secondaries by PSCI.
    Virt(Gic),
    /// `raspi4b`: 4 CPUs, 2 GiB, spin table, its console on the second UART.
    RaspberryPi4,
}

/// A machine being described.
#[derive(Clone, Debug)]
pub struct Machine {
    board: Board,
    cpu: &'static str,
    cpus: u32,
    memory_mib: u64,
    image: Image,
    bundle: Option<PathBuf>,
    guests: Vec<Guest>,
    chosen: String,
    tree: Option<PathBuf>,
    arguments: Vec<String>,
    devices: Vec<String>,
    load_address: Option<u64>,
    el2: bool,
    icount: bool,
    alone: bool,
    monitor: bool,
    first_uart: bool,
    second_uart: Option<PathBuf>,
}

impl Machine {
    /// One of the three, with 2 CPUs and 1 GiB where that can be chosen.
    #[must_use]
    pub fn new(board: Board) -> Self {
        let (cpus, memory_mib) = match board {
            Board::Virt(_) => (2, 1024),
            Board::RaspberryPi4 => (4, 2048),
        };
        Self {
            board,
            cpu: "cortex-a72",
            cpus,
            memory_mib,
            image: Image::default(),
            bundle: None,
            guests: Vec::new(),
            chosen: String::new(),
            tree: None,
            arguments: Vec::new(),
            devices: Vec::new(),
            load_address: None,
            el2: true,
            icount: false,
            alone: false,
            monitor: false,
            first_uart: false,
            second_uart: None,
        }
    }

    /// QEMU's `virt`.
    #[must_use]
    pub fn virt(gic: Gic) -> Self {
        Self::new(Board::Virt(gic))
    }

    /// QEMU's `raspi4b`.
    #[must_use]
    pub fn pi4() -> Self {
        Self::new(Board::RaspberryPi4)
    }

    /// Which machine this is.
    #[must_use]
    pub fn board(&self) -> Board {
        self.board
    }

    /// Which CPU, by QEMU's name (`virt` only; a Pi has Cortex-A72).
    #[must_use]
    pub fn cpu(mut self, name: &'static str) -> Self {
        self.cpu = name;
        self
    }

    /// Number of CPUs (`virt` only; a Pi has four).
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// RAM in MiB (`virt` only; the Pi has 2 GiB).
    #[must_use]
    pub fn memory_mib(mut self, mib: u64) -> Self {
        self.memory_mib = mib;
        self
    }

    /// The build that boots.
    #[must_use]
    pub fn image(mut self, image: Image) -> Self {
        self.image = image;
        self
    }

    /// A bundle in the initrd slot.
    #[must_use]
    pub fn bundle(mut self, path: impl AsRef<Path>) -> Self {
        self.bundle = Some(path.as_ref().to_path_buf());
        self
    }

    /// A guest in the host tree, its modules in memory.
    #[must_use]
    pub fn guest(mut self, guest: Guest) -> Self {
        self.guests.push(guest);
        self
    }

    /// Source to add to the host tree's `/chosen`, before the guests' nodes.
    #[must_use]
    pub fn chosen(mut self, source: &str) -> Self {
        self.chosen.push_str(source);
        self
    }

    /// Another host tree to start from.
    #[must_use]
    pub fn tree(mut self, path: impl AsRef<Path>) -> Self {
        self.tree = Some(path.as_ref().to_path_buf());
        self
    }

    /// A boot argument of the hypervisor.
    #[must_use]
    pub fn argument(mut self, word: &str) -> Self {
        self.arguments.push(word.to_owned());
        self
    }

    /// More words of QEMU's, with spaces between: devices to add. They change no tree.
    #[must_use]
    pub fn device(mut self, words: &str) -> Self {
        self.devices
            .extend(words.split_whitespace().map(str::to_owned));
        self
    }

    /// Puts the image at this address instead of where QEMU's loader would (`virt` only). A few
    /// instructions in front of it do what a boot loader does.
    #[must_use]
    pub fn load_at(mut self, address: u64) -> Self {
        self.load_address = Some(address);
        self
    }

    /// Starts at EL1 (`virt` only): there is no EL2 then.
    #[must_use]
    pub fn without_el2(mut self) -> Self {
        self.el2 = false;
        self
    }

    /// Counts instructions: 1 ns of virtual time each, the same every run, one CPU.
    #[must_use]
    pub fn icount(mut self) -> Self {
        self.icount = true;
        self
    }

    /// Runs while no other QEMU does: for tests with an eye on the clock.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Lets [`Monitor`](crate::Monitor) look into it.
    #[must_use]
    pub fn monitored(mut self) -> Self {
        self.monitor = true;
        self
    }

    /// The console is the first UART, the PL011 (`raspi4b` only; its tree must say so).
    #[must_use]
    pub fn on_first_uart(mut self) -> Self {
        self.first_uart = true;
        self
    }

    /// Keeps in this file what the hypervisor sends to the UART that is not the console's. On the Pi that is the PL011,
    /// to which nothing is attached then.
    #[must_use]
    pub fn second_uart(mut self, path: impl AsRef<Path>) -> Self {
        self.second_uart = Some(path.as_ref().to_path_buf());
        self
    }

    /// Switches the hypervisor's trace on, and keeps it in this file.
    #[must_use]
    pub fn traced(self, path: impl AsRef<Path>) -> Self {
        self.second_uart(path).argument("trace=on")
    }

    /// The UARTs for QEMU's command line, with the console on `console`.
    pub fn serials(&self, console: &str, command: &mut Command) {
        let other = match &self.second_uart {
            Some(path) => format!("file:{}", path.display()),
            None => "null".to_owned(),
        };
        match self.board {
            Board::RaspberryPi4 if !self.first_uart => {
                command.args(["-serial", &other, "-serial", console]);
            }
            Board::RaspberryPi4 => {
                command.args(["-serial", console]);
            }
            Board::Virt(_) => {
                command.args(["-serial", console]);
                // It is on the board if somebody wants it.
                if self.second_uart.is_some() {
                    command.args(["-serial", &other]);
                }
            }
        }
    }

    /// Starts it. `name` is that of the test; the console is kept as `target/tests/NAME.log`.
    #[must_use]
    pub fn start(&self, name: &str) -> Console {
        // First of all: what has to be built is built where it disturbs nobody who has an eye on the clock.
        let slots = slots::take(self.icount || self.alone);
        let mut command = Command::new("setpriv");
        // Should this process be killed, QEMU goes with it.
        command.args(["--pdeathsig", "KILL", "qemu-system-aarch64"]);
        self.arguments(name, &mut command);
        command.args(["-display", "none", "-no-reboot", "-monitor"]);
        if self.monitor {
            let socket = monitor::socket(name);
            let _ = std::fs::remove_file(&socket);
            command.arg(format!("unix:{},server=on,wait=off", socket.display()));
        } else {
            command.arg("none");
        }
        command.args(&self.devices);
        self.serials("stdio", &mut command);
        Console::start(name, command, slots)
    }

    /// Everything on QEMU's command line but the consoles. Writes trees beside the logs of `name`.
    pub fn arguments(&self, name: &str, command: &mut Command) {
        self.board_arguments(command);
        let image = self.image.path();
        let mut files = Vec::new();
        let mut tree = self.tree.clone();
        if !self.guests.is_empty() || !self.chosen.is_empty() {
            let merged = scratch().join(format!("{name}.dtb"));
            let (source, loaded) =
                host_tree::chosen(&self.guests, &self.chosen, self.module_base());
            files = loaded;
            host_tree::merge(&self.base_tree(name), &source, &merged);
            tree = Some(merged);
        } else if self.board == Board::RaspberryPi4 {
            tree = Some(self.base_tree(name));
        }
        if let Some(address) = self.load_address {
            command.arg("-kernel").arg(trampoline(name, address));
            files.push(Loaded {
                address,
                path: image,
            });
        } else {
            command.arg("-kernel").arg(&image);
        }
        if let Some(tree) = &tree {
            command.arg("-dtb").arg(tree);
        }
        if let Some(bundle) = &self.bundle {
            command.arg("-initrd").arg(bundle);
        }
        if !self.arguments.is_empty() {
            command.arg("-append").arg(self.arguments.join(" "));
        }
        for file in files {
            let path = file.path.display();
            command.arg("-device").arg(format!(
                "loader,file={path},addr={:#x},force-raw=on",
                file.address
            ));
        }
    }

    fn board_arguments(&self, command: &mut Command) {
        match self.board {
            Board::Virt(gic) => {
                let version = if gic == Gic::V2 { 2 } else { 3 };
                let el2 = if self.el2 { "on" } else { "off" };
                command.arg("-M").arg(format!(
                    "virt,gic-version={version},virtualization={el2},dtb-randomness=off"
                ));
                command.args(["-cpu", self.cpu, "-nic", "none"]);
                command.arg("-smp").arg(self.cpus.to_string());
                command.arg("-m").arg(format!("{}M", self.memory_mib));
            }
            Board::RaspberryPi4 => {
                command.args(["-M", "raspi4b"]);
            }
        }
        // Tests of the failure path leave through it.
        command.args(["-semihosting-config", "enable=on,target=native"]);
        if self.icount {
            command.args(["-icount", "shift=0,sleep=off"]);
        }
    }

    /// The tree that the machine itself would hand over.
    fn base_tree(&self, name: &str) -> PathBuf {
        if let Some(tree) = &self.tree {
            return tree.clone();
        }
        if self.board == Board::RaspberryPi4 {
            let tree = images::pi4_tree();
            if self.second_uart.is_none() {
                return tree;
            }
            let free = scratch().join(format!("{name}.free-uart.dtb"));
            host_tree::remove(&tree, "/soc/serial@7e201000/bluetooth", &free);
            return free;
        }
        let path = scratch().join(format!("{name}.machine.dtb"));
        let mut command = Command::new("qemu-system-aarch64");
        self.board_arguments(&mut command);
        if self.second_uart.is_some() {
            command.args(["-serial", "null", "-serial", "null"]);
        }
        if let Err(message) = dump(command, &path) {
            panic!("{message}");
        }
        path
    }

    /// The tree that the hypervisor finds on this machine, bundle and boot arguments included.
    ///
    /// # Errors
    /// What QEMU says against it.
    pub fn tree_at_boot(&self, name: &str) -> Result<Vec<u8>, String> {
        let path = scratch().join(format!("{name}.{}.dtb", std::process::id()));
        let mut command = Command::new("qemu-system-aarch64");
        self.arguments(name, &mut command);
        dump(command, &path)?;
        let tree = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()));
        let _ = std::fs::remove_file(&path);
        tree
    }

    /// Where modules of the host tree start: above what QEMU's loader places by itself.
    fn module_base(&self) -> u64 {
        match self.board {
            Board::Virt(_) => 0x5000_0000,
            Board::RaspberryPi4 => 0x1000_0000,
        }
    }
}

/// Has QEMU write the tree of a machine to a file, instead of running it.
fn dump(mut command: Command, path: &Path) -> Result<(), String> {
    let dump = format!("dumpdtb={}", path.display());
    match command.args(["-display", "none", "-M", &dump]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("QEMU: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("cannot run QEMU (./setup installs it): {error}")),
    }
}

/// Where the trampoline lies, as an offset into RAM.
const TRAMPOLINE: u64 = 0x0f00_0000;

/// An arm64 `Image` that jumps to `address` with all registers as it got them: QEMU's loader treats
/// it as the kernel, and the image that is tested is put at `address` by a loader device.
fn trampoline(name: &str, address: u64) -> PathBuf {
    let mut bytes = Vec::new();
    bytes.extend(0x5800_0204_u32.to_le_bytes()); // ldr x4, the word behind the header
    bytes.extend(0xd61f_0080_u32.to_le_bytes()); // br x4
    bytes.extend(TRAMPOLINE.to_le_bytes()); // text offset
    bytes.extend(0x1000_u64.to_le_bytes()); // image size
    bytes.extend([0; 32]);
    bytes.extend(*b"ARM\x64");
    bytes.extend([0; 4]);
    bytes.extend(address.to_le_bytes());
    let path = scratch().join(format!("{name}.trampoline"));
    if let Err(error) = std::fs::write(&path, bytes) {
        panic!("cannot write {}: {error}", path.display());
    }
    path
}
