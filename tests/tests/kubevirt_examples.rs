//! KubeVirt's own example manifests, of the release that virtctl is built from, on the real API server.
//!
//! Why here: what people copy from KubeVirt's documentation is accepted, or refused by the name of the field that a node
//! cannot do. Route in: the module cache of Go. Route out: a list of files, each with what the API server said.

use anyhow::{Context as _, Result, ensure};
use sheaf_tests::examples::{DEFINITIONS, OTHER_KINDS, REFUSED, examples};
use sheaf_tests::played::cluster;
use std::collections::BTreeMap;

/// How many manifests of VMs must be accepted (docs/testing.md).
const BAR: usize = 33;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubevirts_examples_are_accepted_or_refused_by_the_name_of_what_no_node_can_do() -> Result<()> {
    let on = cluster().await?;
    let mut said = BTreeMap::new();
    for file in std::fs::read_dir(examples()?)? {
        let path = file?.path();
        let name = path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        let is_manifest = path.extension().is_some_and(|extension| extension == "yaml");
        if is_manifest && !OTHER_KINDS.contains(&name.as_str()) {
            let file = path.display().to_string();
            said.insert(name, on.kubectl(&["create", "--dry-run=server", "-f", &file])?);
        }
    }
    let is_accepted = |text: &str| text.lines().all(|line| line.ends_with("created (server dry run)"));
    let mut wrong = Vec::new();
    for (name, text) in &said {
        match REFUSED.iter().find(|(refused, _)| refused == name) {
            Some((_, reason)) if text.contains(reason) && !is_accepted(text) => {}
            None if is_accepted(text) => {}
            _ => wrong.push(format!("{name}: {text}")),
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {} are not as they should be:\n{}",
        wrong.len(),
        said.len(),
        wrong.join("\n")
    );
    let vms = || said.iter().filter(|(name, _)| !DEFINITIONS.contains(&name.as_str()));
    let accepted = vms().filter(|(_, text)| is_accepted(text)).count();
    println!("{accepted} of {} manifests of VMs accepted", vms().count());
    ensure!(accepted >= BAR, "{accepted} of {} manifests of VMs are accepted", vms().count());
    Ok(())
}
