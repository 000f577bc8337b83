//! `just bench`: what operations cost, beside their budgets, the guest's own share, and Debian's Xen. `record=yes`
//! writes what was measured into the baseline; `xen=no` leaves Xen out.

use viaduct_tests::cost::stretch::{self, Stretch};
use viaduct_tests::cost::{self, Baseline, Column};
use viaduct_tests::{Gic, Spread, XEN, target};

/// For the spread of boots in real time.
const BOOTS: u32 = 9;
/// For the spread of restarts.
const RESTARTS: u32 = 100;

fn main() -> Result<(), String> {
    let (mut record, mut with_xen) = (false, true);
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "record=yes" => record = true,
            "xen=no" => with_xen = false,
            _ => return Err(format!("bench: {word:?} is none of record=yes, xen=no")),
        }
    }
    let gics = [(Gic::V2, "GICv2"), (Gic::V3, "GICv3")];
    let column = |title: String, costs| Column { title, costs };
    let mut columns = Vec::new();
    for (gic, name) in gics {
        columns.push(column(name.to_owned(), cost::measure(gic)));
    }
    let ours = columns.len();
    if record {
        Baseline::record(&columns[0].costs, &columns[1].costs)?;
    }
    columns.push(column("guest's own".to_owned(), cost::own_share(Gic::V3)));
    for (version, ..) in XEN.iter().filter(|_| with_xen) {
        for (gic, name) in gics {
            match cost::operations_on_xen(gic, version) {
                Ok(costs) => columns.push(column(format!("Xen {version} {name}"), costs)),
                Err(why) => eprintln!("bench: no Xen {version}: {why}"),
            }
        }
    }
    print!("{}", cost::table(&columns, ours));
    println!(
        "a record of the trace, while it is on (at most {}):",
        cost::RECORD
    );
    let traced = cost::operations_traced(Gic::V3);
    if let Some(off) = columns.get(1) {
        for operation in cost::RECORDED {
            let added = cost::added(&traced, &off.costs, operation.name);
            let each = added / f64::from(operation.records);
            println!("{:<22} {each:>12.1}", operation.name);
        }
    }
    boots();
    restarts(&gics);
    stretches(&gics);
    let path = target().join("bench.json");
    std::fs::write(&path, cost::json(&columns)).map_err(|error| error.to_string())?;
    println!("the same as JSON: {}", path.display());
    Ok(())
}

/// What several CPUs make of a boot: in real time, and so no two runs are the same.
fn boots() {
    println!(
        "64 guests of 16 MiB, from reset until they start, in milliseconds of this workstation, by how many CPUs build them:"
    );
    for cpus in [1, 2, 4] {
        let spread = Spread::of((0..BOOTS).map(|_| cost::boot_in_real_time(cpus)));
        println!("{cpus}: {spread}");
    }
}

/// How far restarts are from each other.
fn restarts(gics: &[(Gic, &str)]) {
    println!("restart-16-mib, {RESTARTS} in a row, in instructions:");
    for &(gic, name) in gics {
        for (beside, what) in [(false, "alone"), (true, "beside one that computes")] {
            let spread = Spread::of(cost::restarts(gic, RESTARTS, beside));
            println!("{name}, {what}: {spread}");
        }
    }
}

/// How long EL2 takes no interrupts, and why.
fn stretches(gics: &[(Gic, &str)]) {
    println!(
        "the longest stretch without interrupts (at most {} instructions):",
        stretch::STRETCH
    );
    for &(gic, name) in gics {
        let runs = [
            stretch::hostile(gic, 1, 5_000),
            stretch::restart(gic),
            stretch::linux(gic),
        ];
        for Stretch {
            run,
            instructions,
            cause,
        } in runs
        {
            println!("{run:<10} {name} {instructions:>8}  {cause}");
        }
    }
}
