//! `just bench`: what operations cost in instructions, beside their budgets, on GICv2 and GICv3.

use viaduct_tests::{Gic, cost};

fn main() {
    let v2 = cost::measure(Gic::V2);
    let v3 = cost::measure(Gic::V3);
    println!("instructions                  GICv2        GICv3       budget");
    for (name, on_v3) in &v3 {
        let on_v2 = v2.iter().find(|(other, _)| other == name);
        let on_v2 = on_v2.map_or(f64::NAN, |(_, cost)| *cost);
        let budget = cost::limit_of(name).map(|limit| limit.budget);
        let mark = match budget {
            Some(budget) if on_v2.max(*on_v3) > budget => "  over",
            _ => "",
        };
        let budget = budget.map_or(String::new(), |budget| format!("{budget:.0}"));
        println!("{name:<22} {on_v2:>12.1} {on_v3:>12.1} {budget:>12}{mark}");
    }
}
