//! Each node.toml with the layers beside it gives exactly these steps, and these back; or exactly this refusal.
//!
//! Route in: `network/NAME.toml` (the node) and `network/NAME.yaml` (`now` and `then`, layers by rank). Route out:
//! `network/NAME.steps`; `UPDATE=1 cargo test -p sheaf-agent --test network` rewrites them.

use serde::Deserialize;
use sheaf_agent::network::change::{Machine, Step, steps};
use sheaf_agent::network::layers::Layer;
use sheaf_agent::network::merge::merge;
use sheaf_links::FoundNic;
use std::path::Path;

/// A change of layers.
#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    now: Vec<Layer>,
    then: Vec<Layer>,
}

/// A machine with four NICs.
fn found_nics() -> Vec<FoundNic> {
    let nic = |number: usize| FoundNic {
        name: format!("enp{number}s0"),
        path: Some(format!("pci-0000:0{number}:00.0")),
        permanent_mac: Some(format!("52:54:00:00:00:0{number}")),
    };
    (1..=4).map(nic).collect()
}

fn shown(step: &Step) -> String {
    match step {
        Step::Write(_, text) => {
            let lines: String =
                text.lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect();
            format!("{step}\n{lines}")
        }
        _ => format!("{step}\n"),
    }
}

fn outcome(case: &Path) -> String {
    let node =
        sheaf_config::load::node_config(case).unwrap_or_else(|errors| panic!("{errors}")).network.links;
    let text = std::fs::read_to_string(case.with_extension("yaml")).unwrap();
    let change: Case =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
    let (found_nics, merged) = (found_nics(), |layers: &[Layer]| merge(&node, layers, &found_nics(), None));
    let now = merged(&change.now).unwrap_or_else(|refusal| panic!("{}: {refusal}", case.display())).links;
    let then = match merged(&change.then) {
        Ok(then) => then.links,
        Err(refusal) => return format!("refused: {refusal}\n"),
    };
    let machine = Machine { found_nics: &found_nics, usual: None };
    let (there, back) = (steps(&now, &then, machine), steps(&then, &now, machine));
    for step in there.iter().chain(&back) {
        // node.toml's first NIC and its bridges are what the node is known by.
        let is_fatal = match step {
            Step::Release(found_nic) => found_nic == "enp1s0",
            Step::Delete(link) => node.bridges.iter().any(|bridge| bridge.name == *link),
            _ => false,
        };
        assert!(!is_fatal, "{}: {step}", case.display());
    }
    let there: String = there.iter().map(shown).collect();
    let back: String = back.iter().map(|step| format!("{step}\n")).collect();
    format!("{there}\nback:\n{back}")
}

#[test]
fn each_change_takes_exactly_the_steps_beside_it_or_is_refused_in_these_words() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/network");
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    cases.sort();
    assert!(cases.len() >= 14, "{} cases", cases.len());
    for case in cases {
        let (text, golden) = (outcome(&case), case.with_extension("steps"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&golden).unwrap_or_default(), "{}", golden.display());
    }
}

#[test]
fn nothing_laid_over_node_toml_changes_nothing() {
    let text = "version = 1\nsystem.hostname = \"a\"\n";
    let node = sheaf_config::load::parse_node_config("n", text)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .network
        .links;
    let (found_nics, empty) = (found_nics(), Layer { name: "p".into(), ..Layer::default() });
    assert_eq!(merge(&node, &[empty], &found_nics, None).unwrap().links, node);
}
