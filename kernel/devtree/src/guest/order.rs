//! Who starts after whom: `viaduct,after`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::DomainConfig;
use super::node::Context;
use crate::tree::Property;
use crate::{Problem, Severity};

/// Reads `viaduct,after`: names of nodes of guests.
pub(super) fn after(context: &mut Context<'_>, property: &Property<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in property.strings() {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_string());
        }
    }
    if names.is_empty() || names.iter().any(String::is_empty) {
        context.refuse("", property.name, property, "names of guests' nodes");
    }
    names
}

/// Takes out of every `viaduct,after` what nobody can wait for: guests that there are not, and those that wait for this one
/// themselves, at once or by others. Each is told of.
pub(crate) fn check_order(domains: &mut [DomainConfig], report: &mut dyn FnMut(Problem)) {
    for number in 0..domains.len() {
        let Some(domain) = domains.get_mut(number) else {
            continue;
        };
        let (name, named) = (domain.name.clone(), core::mem::take(&mut domain.after));
        let mut kept = Vec::new();
        for other in named {
            let at = domains.iter().position(|domain| domain.name == other);
            let expected = match at {
                None => "the name of a guest that starts",
                // What earlier guests keep has no circles; this one's names so far are looked at with the others'.
                Some(at) if at == number || waits(domains, at, number) => {
                    "a guest that does not itself start after this one"
                }
                Some(_) => {
                    kept.push(other);
                    continue;
                }
            };
            report(Problem::new(
                Severity::Warning,
                &format!("/chosen/{name}"),
                "viaduct,after",
                format_args!("{other:?}"),
                expected,
            ));
        }
        if let Some(domain) = domains.get_mut(number) {
            domain.after = kept;
        }
    }
}

/// Whether guest number `from` starts after number `to`, at once or by others. Each guest is looked at once.
fn waits(domains: &[DomainConfig], from: usize, to: usize) -> bool {
    let mut seen = vec![false; domains.len()];
    let mut next = vec![from];
    while let Some(number) = next.pop() {
        let Some(domain) = domains.get(number) else {
            continue;
        };
        for name in &domain.after {
            let Some(at) = domains.iter().position(|other| other.name == *name) else {
                continue;
            };
            if at == to {
                return true;
            }
            if let Some(seen) = seen.get_mut(at).filter(|seen| !**seen) {
                *seen = true;
                next.push(at);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::tests::{KERNEL, guest, read_chosen};
    use super::*;
    use crate::random::Random;

    /// The names that remain, guest by guest, and what was told.
    fn order(guests: &[(&str, &str)]) -> (Vec<Vec<String>>, Vec<String>) {
        let text: String = guests
            .iter()
            .map(|(name, after)| {
                let property = match *after {
                    "" => String::new(),
                    after => format!("viaduct,after = {after};"),
                };
                guest(name, &format!("{property} {KERNEL}"))
            })
            .collect();
        let (mut domains, problems) = read_chosen(&text);
        let mut told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        check_order(&mut domains, &mut |problem| told.push(problem.to_string()));
        (
            domains.into_iter().map(|domain| domain.after).collect(),
            told,
        )
    }

    #[test]
    fn who_is_waited_for_is_there() {
        let (after, told) = order(&[
            ("a", "\"c\", \"b\", \"c\", \"nobody\""),
            ("b", "\"c\""),
            ("c", ""),
        ]);
        assert_eq!(after, [vec!["c", "b"], vec!["c"], vec![]]);
        assert_eq!(told.len(), 1, "{told:?}");
        let expected = "/chosen/a: viaduct,after: found \"nobody\", expected the name of a guest that starts; ignored";
        assert_eq!(told[0], expected);
    }

    #[test]
    fn circles_are_opened_where_they_close_first() {
        let (after, told) = order(&[("a", "\"b\""), ("b", "\"c\""), ("c", "\"a\", \"c\"")]);
        // The first that finds itself waited for.
        assert_eq!(after, [vec![] as Vec<&str>, vec!["c"], vec!["a"]]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].starts_with(
                "/chosen/a: viaduct,after: found \"b\", expected a guest that does not"
            )
        );
        assert!(told[1].starts_with("/chosen/c: viaduct,after: found \"c\""));
    }

    #[test]
    fn an_empty_name_leaves_the_guest_out() {
        let (after, told) = order(&[("a", "\"\"")]);
        assert!(
            after.is_empty() && told[0].contains("names of guests' nodes"),
            "{told:?}"
        );
    }

    /// Whatever is named, all start in some order.
    #[test]
    fn nobody_waits_for_ever() {
        let mut random = Random::new(1);
        for _ in 0..100 {
            let count = random.below(24);
            let edges: Vec<(u64, u64)> = (0..count)
                .map(|_| (random.below(6), random.below(6)))
                .collect();
            let named = |number| {
                let named = edges.iter().filter(move |(from, _)| *from == number);
                let named: Vec<String> = named.map(|(_, to)| format!("\"g{to}\"")).collect();
                named.join(", ")
            };
            let guests: Vec<(String, String)> = (0..6)
                .map(|number| (format!("g{number}"), named(number)))
                .collect();
            let guests: Vec<(&str, &str)> = guests
                .iter()
                .map(|(name, after)| (name.as_str(), after.as_str()))
                .collect();
            let (after, _) = order(&guests);
            let mut started: Vec<&str> = Vec::new();
            for _ in 0..guests.len() {
                for ((name, _), after) in guests.iter().zip(&after) {
                    let is_free = after.iter().all(|other| started.contains(&other.as_str()));
                    if is_free && !started.contains(name) {
                        started.push(name);
                    }
                }
            }
            assert_eq!(started.len(), 6, "{edges:?}");
        }
    }
}
