//! Schema and code know the same properties: each word that stands in one of them is tried as a property, and both are
//! asked whether they know it.

use std::fs;

use devtree::Problem;

use crate::{against, compile, folder, problems, root};

/// Every word in the schema, and every one in quotes in the code that reads guests: some are names of properties.
fn words() -> Vec<String> {
    let read = |folder: &str| {
        let files = fs::read_dir(root().join(folder)).unwrap();
        let files = files.map(|file| file.unwrap().path());
        let files =
            files.filter(|path| path.is_file() && !path.to_string_lossy().contains("tests.rs"));
        files
            .map(|path| fs::read_to_string(path).unwrap())
            .collect::<String>()
    };
    let is_name = |word: &&str| {
        let first = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '#');
        let rest = word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "#,-_".contains(c));
        first && rest && (2..=31).contains(&word.len()) && !word.ends_with(',')
    };
    let (code, schema) = (read("kernel/devtree/src/guest"), read("docs/bindings"));
    let code = code.split('"').filter(is_name);
    let schema = schema.split(|c: char| c.is_whitespace() || "\":^()|$[]".contains(c));
    let mut words: Vec<String> = code
        .chain(schema.filter(is_name))
        .map(str::to_owned)
        .collect();
    words.sort();
    words.dedup();
    words
}

/// One property in one node that otherwise has what is needed.
struct Trial<'w> {
    word: &'w str,
    kind: &'static str,
    name: String,
}

#[test]
fn schema_and_code_know_the_same_properties() {
    let folder = folder("names");
    let words = words();
    for word in [
        "memory",
        "viaduct,console-focus",
        "hard-affinity",
        "bootargs",
        "image",
        "xen,static-mem",
    ] {
        assert!(
            words.iter().any(|known| known == word),
            "{word} is not looked for"
        );
    }
    let mut trials = Vec::new();
    for (number, word) in words.iter().enumerate() {
        for kind in ["domain", "module", "vcpu", "channel", "shared"] {
            // The name of a node must be its own, and what every trial has cannot be tried.
            let there: &[&str] = match kind {
                "domain" => &["name", "compatible", "memory", "cpus"],
                _ => &["name", "compatible"],
            };
            if !there.contains(&word.as_str()) {
                trials.push(Trial {
                    word,
                    kind,
                    name: format!("{kind}-{number}"),
                });
            }
        }
    }
    // Twice, since each container refuses what belongs to the other; and in parts, for there is a bound on guests.
    let mut known_to_code = vec![false; trials.len()];
    let mut trees = Vec::new();
    for (part, some) in trials.chunks(200).enumerate() {
        let guests: String = some
            .iter()
            .zip(1..)
            .map(|(trial, number)| node(trial, number))
            .collect();
        let tree = folder.join(format!("{part}.dtb"));
        let chosen = format!("/dts-v1/; / {{ chosen {{ {guests} }}; MORE }};");
        compile(&chosen.replace("MORE", "images { };"), &tree);
        let mut both = vec![problems(&fs::read(&tree).unwrap())];
        compile(&chosen.replace("MORE", ""), &tree);
        both.push(problems(&fs::read(&tree).unwrap()));
        for (trial, known) in some.iter().zip(&mut known_to_code[part * 200..]) {
            *known = both.iter().any(|problems| !is_refused(problems, trial));
        }
        trees.push(tree);
    }
    let said = against(&trees);
    let mut different = Vec::new();
    for (trial, code) in trials.iter().zip(known_to_code) {
        let at = match trial.kind {
            "domain" => format!("dtb: {}: {}: ", trial.name, trial.word),
            _ => format!("dtb: x-{}: '{}' ", trial.name, trial.word),
        };
        let unknown = [
            "is not of type 'object'",
            "does not match any of the regexes",
        ];
        let schema = !said
            .lines()
            .any(|line| line.contains(&at) && unknown.iter().any(|unknown| line.contains(unknown)));
        // The standard lets every node be switched off; for parts of a guest the code warns about it.
        if schema != code && !(trial.word == "status" && trial.kind != "domain") {
            let (who, other) = if code {
                ("code", "schema")
            } else {
                ("schema", "code")
            };
            different.push(format!(
                "{} of a {}: the {who} knows it, the {other} does not",
                trial.word, trial.kind
            ));
        }
    }
    assert!(
        different.is_empty(),
        "docs/bindings and kernel/devtree/src/guest differ: {different:#?}"
    );
}

/// A guest of its own for each trial.
fn node(trial: &Trial<'_>, number: usize) -> String {
    let Trial { word, kind, name } = trial;
    let trial = format!("{word} = <{number}>;");
    let part = |kind| format!("x-{name} {{ compatible = \"{kind}\"; {trial} }};");
    let (own, child) = match *kind {
        "domain" => (trial.as_str(), String::new()),
        "module" => ("", part("multiboot,kernel")),
        "vcpu" => ("", part("xen,vcpu")),
        "shared" => ("", part("xen,domain-shared-memory-v1")),
        _ => ("", part("xen,evtchn-v1")),
    };
    format!(
        "{name} {{ compatible = \"xen,domain\"; memory = <0 0x4000>; cpus = <1>; {own} {child} }};"
    )
}

/// Whether the code warned that it does not know the property, or refused it whatever its value.
fn is_refused(problems: &[Problem], trial: &Trial<'_>) -> bool {
    let node = match trial.kind {
        "domain" => format!("/chosen/{}", trial.name),
        _ => format!("/chosen/{0}/x-{0}", trial.name),
    };
    let refused = [
        "a property of the binding",
        "no such property",
        "\"reg\": ",
        "\"image\": ",
    ];
    problems.iter().any(|problem| {
        problem.node == node
            && problem.property == trial.word
            && refused
                .iter()
                .any(|refused| problem.expected.starts_with(refused))
    })
}
