//! What operations cost, in instructions: run under `-icount shift=0`, where a nanosecond of virtual time
//! is an instruction. Prints `COUNT name N.NN`, the guest's own loop included. Boot argument `loops=N`.

use crate::check::Outcome;
use crate::raw;
use runtime::gic::{self, Gic, distributor};
use runtime::{arguments::arguments, cpu, entry, event, exception, memory, println, timer};

/// Times `$loops` turns of the given instructions; x21 holds an address for them, and the loop itself is
/// two instructions more.
macro_rules! measure {
    ($name:literal, $loops:expr, [$($instruction:literal),*] $(, $address:expr)?) => {{
        let loops: u64 = $loops;
        let address: u64 = 0 $(+ $address)?;
        let before = cpu::mask();
        let start = timer::now();
        // SAFETY: the instructions of each use are calls or device accesses that change nothing that
        // Rust relies on; what they clobber is named.
        unsafe {
            core::arch::asm!(
                "2:",
                $($instruction,)*
                "subs x20, x20, #1",
                "b.ne 2b",
                inout("x20") loops => _,
                in("x21") address,
                clobber_abi("C"),
            );
        }
        let ticks = timer::now() - start;
        cpu::restore(before);
        report($name, ticks, loops);
    }};
}

fn report(name: &str, ticks: u64, loops: u64) {
    let nanoseconds = timer::duration(ticks).as_nanos() as u64;
    let hundredths = nanoseconds * 100 / loops;
    println!("COUNT {name} {}.{:02}", hundredths / 100, hundredths % 100);
}

/// How long the machine had run when this guest came to its main function.
pub(crate) fn first() {
    report("boot", raw::physical_counter(), 1);
    println!("DONE");
}

pub(crate) fn run() -> Outcome {
    let loops = arguments().number("loops").unwrap_or(10_000);
    println!(
        "NOTE count {} ps a tick, {loops} loops",
        1_000_000_000_000 / timer::frequency()
    );
    measure!("empty-loop", loops, ["nop"]);
    measure!(
        "null-hypercall",
        loops,
        ["mov x16, #17", "mov x0, #0", "mov x1, #0", "hvc #0xea1"]
    );
    measure!(
        "unknown-hypercall",
        loops,
        ["mov x16, #1000", "mov x0, #0", "mov x1, #0", "hvc #0xea1"]
    );
    measure!(
        "psci-version-hvc",
        loops,
        ["mov x0, #0x84000000", "mov x1, #0", "mov x2, #0", "hvc #0"]
    );
    measure!(
        "psci-version-smc",
        loops,
        ["mov x0, #0x84000000", "mov x1, #0", "mov x2, #0", "smc #0"]
    );
    measure!(
        "smccc-version-hvc",
        loops,
        ["mov x0, #0x80000000", "mov x1, #0", "mov x2, #0", "hvc #0"]
    );
    measure!("id-register", loops, ["mrs x0, id_aa64pfr0_el1", "nop"]);
    measure!(
        "yield",
        loops,
        ["mov x16, #29", "mov x0, #0", "mov x1, #0", "hvc #0xea1"]
    );
    if let Some(gic) = gic::driver() {
        let base = match gic {
            Gic::V2(gic) => gic.distributor.base(),
            Gic::V3(gic) => gic.distributor.base(),
        };
        let register = base + distributor::ISENABLER as u64 + 4;
        measure!("gicd-typer", loops, ["ldr w0, [x21]", "nop"], base + 4);
        measure!("isenabler-read", loops, ["ldr w0, [x21]", "nop"], register);
        measure!(
            "isenabler-write",
            loops,
            ["str wzr, [x21]", "nop"],
            register
        );
    }
    let uart = entry::tree().and_then(|tree| tree.compatible("arm,sbsa-uart"));
    if let Some((base, size)) = uart.and_then(|node| node.reg().next()) {
        memory::map_device(base, size);
        if exception::load32(base + 0x18).is_ok() {
            measure!("uart-flags", loops, ["ldr w0, [x21]", "nop"], base + 0x18);
        }
    }
    if let Ok(port) = event::bind_ipi(0) {
        event::mask(port);
        let argument = port.0;
        let pointer = &raw const argument as u64;
        measure!(
            "event-send-masked",
            loops,
            ["mov x16, #32", "mov x0, #4", "mov x1, x21", "hvc #0xea1"],
            pointer
        );
        event::take(port);
        let _ = event::close(port);
    }
    count_grants(loops)
}

/// A copy of a page to another, and a map with its end, by grants to this guest itself.
fn count_grants(loops: u64) -> Outcome {
    use crate::tests::grants;
    use runtime::abi::grant_table as op;
    let own = grants::own_number()?;
    let reference = grants::give(own, grants::page(0)?, false)?;
    let place = grants::place(0)?;
    let copy = op::GrantCopy {
        source: op::CopyPointer {
            frame_or_ref: u64::from(reference.0),
            domid: own,
            ..Default::default()
        },
        dest: op::CopyPointer {
            frame_or_ref: grants::page(1)? / memory::PAGE,
            domid: runtime::abi::DomainId::SELF,
            ..Default::default()
        },
        len: 4096,
        flags: op::CopyFlags::SOURCE_GREF.bits(),
        ..Default::default()
    };
    measure!(
        "grant-copy-4k",
        loops,
        [
            "mov x16, #20",
            "mov x0, #5",
            "mov x1, x21",
            "mov x2, #1",
            "hvc #0xea1"
        ],
        &raw const copy as u64
    );
    let both = op::MapFlags::HOST_MAP;
    let Ok(handle) = grants::map_at(own, reference, both, place) else {
        crate::check::fail!("the page cannot be mapped");
    };
    crate::check::equal!(grants::unmap_at(handle, place), 0, "unmap");
    // The place of a map that has ended is the next to be given out: the handle is the same every time.
    #[repr(C)]
    struct Pair {
        map: op::MapGrantRef,
        unmap: op::UnmapGrantRef,
    }
    let mut pair = Pair {
        map: op::MapGrantRef {
            host_addr: place,
            flags: both.bits(),
            gref: reference,
            dom: own,
            ..Default::default()
        },
        unmap: op::UnmapGrantRef {
            host_addr: place,
            handle,
            ..Default::default()
        },
    };
    measure!(
        "grant-map-unmap",
        loops,
        [
            "mov x16, #20",
            "mov x0, #0",
            "mov x1, x21",
            "mov x2, #1",
            "hvc #0xea1",
            "mov x16, #20",
            "mov x0, #1",
            "add x1, x21, #32",
            "mov x2, #1",
            "hvc #0xea1"
        ],
        &raw mut pair as u64
    );
    // SAFETY: the calls have written both; the compiler is to read what is there.
    let ended = unsafe { (&raw const pair).read_volatile() };
    let statuses = (ended.map.status, ended.unmap.status);
    crate::check::equal!(statuses, (0, 0), "statuses");
    crate::check::check!(runtime::grant::revoke(reference), "still in use");
    Ok(())
}
