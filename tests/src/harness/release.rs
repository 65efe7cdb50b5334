//! The release that comes after the one under test, and how a node is asked to run it.
//!
//! Why here: the cases of updates and their benchmark need the same. Route in: the recipe, built again under another version.
//! Route out: its folder, which [`super::Server::folder`] serves; the NodeUpdate of the first node.

use super::Case;
use anyhow::Result;
use serde_json::json;
use sheaf_host::run::{Command, Run as _, System};
use std::path::PathBuf;
use std::time::Duration;

/// The next version.
pub const NEXT: &str = "0.1.1";
/// Root and tree compressed again, all else from the cache.
const BUILD: Duration = Duration::from_secs(1800);

impl Case {
    /// The next release: the same recipe under another version, in the case's own folder.
    pub fn next_release(&self) -> Result<PathBuf> {
        let sheaf = self.built()?.sheaf;
        let build = Command::new(&sheaf)
            .args(["build", "configs/images/sheaf.toml", "--version", NEXT, "--into"])
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
