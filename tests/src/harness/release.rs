//! The release that comes after the one under test, and how a node is asked to run it.
//!
//! Why here: the cases of updates and their benchmark need the same. Route in: the recipe, built again under another version.
//! Route out: its folder, which [`super::Server::folder`] serves; the NodeUpdate of the first node.

use super::Case;
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_machine::Operator;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The next version.
pub const NEXT: &str = "0.1.1";
/// What the release under test is built from.
const RECIPE: &str = "configs/images/sheaf.toml";
/// Root and tree compressed again, all else from the cache.
const BUILD: Duration = Duration::from_secs(1800);

/// A unit of a release with a fault: what it does is in `/state/fault` of the node that runs it.
const FAULT: &str = "[Unit]
Description=The fault of this release
DefaultDependencies=no
RequiresMountsFor=/state
Before=sheaf-config.service

[Service]
ExecStart=/bin/sh /state/fault

[Install]
WantedBy=multi-user.target
";

/// The recipe of such a release, for a folder beside which `overlay` is.
fn recipe(base: &Path) -> String {
    format!(
        "version = 1\nextends = \"{}\"\n[release]\nname = \"sheaf\"\n[root]\noverlays = [\"overlay\"]\n\
         [units]\nenable = [\"sheaf-fault.service\"]\n",
        base.display()
    )
}

impl Case {
    /// The next release: the same recipe under another version, in the case's own folder.
    pub fn next_release(&self) -> Result<PathBuf> {
        self.next_release_of(Path::new(RECIPE))
    }

    /// The next release with a fault that each node chooses: it runs `/state/fault` before anything else of Sheaf.
    pub fn faulty_release(&self) -> Result<PathBuf> {
        let units = self.work().join("overlay/usr/lib/systemd/system");
        std::fs::create_dir_all(&units)?;
        std::fs::write(units.join("sheaf-fault.service"), FAULT)?;
        let path = self.work().join("faulty.toml");
        std::fs::write(&path, recipe(&self.root().join(RECIPE)))?;
        self.next_release_of(&path)
    }

    fn next_release_of(&self, recipe: &Path) -> Result<PathBuf> {
        let sheaf = self.built()?.sheaf;
        let build = Command::new(&sheaf)
            .arg("build")
            .arg(recipe)
            .args(["--version", NEXT, "--into"])
            .arg(self.work())
            .dir(self.root())
            .deadline(BUILD);
        System.run(&build)?;
        Ok(self.work().join(format!("releases/sheaf-{NEXT}")))
    }
}

/// The NodeUpdate of the first node; `health` is its `healthTimeoutSeconds`.
pub fn node_update(version: &str, url: &str, action: &str, health: u32) -> String {
    json!({
        "apiVersion": "sheaf.dev/v1alpha1", "kind": "NodeUpdate", "metadata": {"name": "node1"},
        "spec": {
            "nodeName": "node1", "version": version, "source": {"url": url}, "action": action,
            "healthTimeoutSeconds": health,
        },
    })
    .to_string()
}

/// Waits until the first node's NodeUpdate is in `phase`; its status. One that ends otherwise is not waited for.
pub fn wait_update(operator: &Operator, phase: &str, deadline: Duration) -> Result<Value> {
    let what = format!("NodeUpdate {phase}");
    let status = operator.wait(&what, &["nodeupdate", "node1"], deadline, |object| {
        let status = &object["status"];
        // What it says of an earlier request is no answer.
        let is_of_request = status["observedGeneration"] == object["metadata"]["generation"];
        let now = status["phase"].as_str()?;
        (is_of_request && [phase, "Refused", "RolledBack"].contains(&now)).then(|| status.clone())
    })?;
    ensure!(status["phase"] == phase, "{status:#}");
    Ok(status)
}
