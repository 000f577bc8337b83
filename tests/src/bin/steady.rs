//! `just steady`: what Linux loses to the hypervisor below it while it works, as ratios of instructions to the
//! bare machine, and how late it is woken; Debian's Xen beside it. `xen=no` leaves Xen out, `gic=2` takes GICv2.

use viaduct_tests::Gic;
use viaduct_tests::steady::{self, Below, Beside};

fn main() -> Result<(), String> {
    let (mut with_xen, mut gic) = (true, Gic::V3);
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "xen=no" => with_xen = false,
            "gic=2" => gic = Gic::V2,
            "gic=3" => gic = Gic::V3,
            _ => return Err(format!("steady: {word:?} is none of xen=no, gic=2, gic=3")),
        }
    }
    let below = [
        ("bare", Below::Machine),
        ("Viaduct", Below::Viaduct),
        ("Xen 4.20", Below::Xen("4.20")),
    ];
    let below = below
        .get(..if with_xen { 3 } else { 2 })
        .unwrap_or_default();
    print_loads(gic, below)?;
    println!();
    print_latencies(gic, below)
}

fn print_loads(gic: Gic, below: &[(&str, Below)]) -> Result<(), String> {
    let columns: Vec<_> = below
        .iter()
        .map(|(name, below)| Ok((name, steady::loads(gic, *below)?)))
        .collect::<Result<_, String>>()?;
    let Some((_, bare)) = columns.first() else {
        return Ok(());
    };
    print!("{:<12} {:>15}", "load", "bare");
    for (name, _) in columns.iter().skip(1) {
        print!(" {name:>10}");
    }
    println!();
    for (row, (load, own)) in bare.iter().enumerate() {
        print!("{load:<12} {own:>15}");
        for (_, counts) in columns.iter().skip(1) {
            let count = counts.get(row).filter(|(name, _)| name == load);
            let (_, count) = count.ok_or_else(|| format!("{load} is missing"))?;
            print!(" {:>10.5}", steady::ratio(*count, *own));
        }
        println!();
    }
    Ok(())
}

fn print_latencies(gic: Gic, below: &[(&str, Below)]) -> Result<(), String> {
    println!(
        "{:<32} {:>9} {:>9} {:>9} {:>9}",
        "instructions until woken", "median", "99 %", "99.9 %", "most"
    );
    let beside = [
        ("alone", Beside::Nobody),
        ("3 idle", Beside::Idle),
        ("3 busy", Beside::Busy),
        ("3 busy, real time", Beside::BusyButRealTime),
    ];
    for (name, below) in below {
        for (title, beside) in beside {
            if !steady::is_possible(*below, beside) {
                continue;
            }
            let found = steady::latency(gic, *below, beside)?;
            let title = format!("{name}, {title}");
            println!(
                "{title:<32} {:>9} {:>9} {:>9} {:>9}",
                found.median, found.most, found.nearly_all, found.maximum
            );
        }
    }
    Ok(())
}
