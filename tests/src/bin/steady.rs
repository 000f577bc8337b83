//! `just steady`: what Linux loses to the hypervisor below it while it works, as ratios of instructions to the
//! bare machine, and how late it is woken, as a distribution; Debian's Xen beside it. The figures are in
//! target/steady.json as well. `xen=no` leaves Xen out, `gic=2` takes GICv2.

use viaduct_tests::steady::{self, Below, Beside};
use viaduct_tests::{Gic, target};

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
    let loads = below
        .iter()
        .map(|(name, below)| Ok(((*name).to_owned(), steady::loads(gic, *below)?)))
        .collect::<Result<Vec<_>, String>>()?;
    print_loads(&loads)?;
    let woken = latencies(gic, below)?;
    println!("\n{}", steady::table(&woken));
    print!("wake-ups by instructions\n{}", steady::distribution(&woken));
    let path = target().join("steady.json");
    std::fs::write(&path, steady::json(&loads, &woken)).map_err(|error| error.to_string())?;
    println!("the same as JSON: {}", path.display());
    Ok(())
}

fn print_loads(columns: &[(String, Vec<(String, u64)>)]) -> Result<(), String> {
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

fn latencies(gic: Gic, below: &[(&str, Below)]) -> Result<Vec<steady::Titled>, String> {
    let beside = [
        ("alone", Beside::Nobody),
        ("3 idle", Beside::Idle),
        ("3 busy", Beside::Busy),
        ("3 busy, real time", Beside::BusyButRealTime),
    ];
    let mut found = Vec::new();
    for (name, below) in below {
        for (title, beside) in beside {
            if steady::is_possible(*below, beside) {
                let latency = steady::latency(gic, *below, beside)?;
                found.push((format!("{name}, {title}"), latency));
            }
        }
    }
    Ok(found)
}
