//! The screens without a machine: an inventory and a manifest from files, nothing tried and nothing written but what is
//! saved.
//!
//! Why: to see at one's desk what the installer would ask of a server and how its node.toml comes out; and tests drive the
//! real program by it. Route in: `sheaf-installer run --dry-run --inventory FILE --manifest FILE`. Route out: node.toml in
//! the working directory, when it is saved.

use anyhow::{Context, Result};
use sheaf_config::node::{NodeConfig, Then};
use sheaf_host::file::write_atomically;
use sheaf_installer::progress::{Told, Watch};
use sheaf_installer::tui::event::{Check, CheckState, Failed};
use sheaf_installer::tui::file::Ready;
use sheaf_installer::tui::machine::Machine;
use sheaf_installer::tui::runner::Effects;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// A machine on paper.
pub struct Rehearsal {
    machine: Machine,
    folder: PathBuf,
}

impl Rehearsal {
    /// The machine that `sheaf-installer inventory --json` described, and the release of a manifest. Files are saved to
    /// `folder`.
    pub fn new(inventory: &Path, manifest: &Path, folder: &Path) -> Result<Self> {
        let machine = Machine {
            inventory: read(inventory)?,
            manifest: read(manifest)?,
            images: BTreeMap::new(),
            id: Uuid::new_v4(),
        };
        Ok(Self { machine, folder: folder.to_owned() })
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not as expected", path.display()))
}

impl Effects for Rehearsal {
    fn look(&self) -> Result<Machine, String> {
        Ok(self.machine.clone())
    }

    fn try_network(&self, config: &NodeConfig, tell: &mut dyn FnMut(Vec<Check>)) {
        let mut checks = super::network::waiting(config, &self.machine.inventory);
        for check in &mut checks {
            (check.state, check.found) = (CheckState::Skipped, "this is a dry run".into());
        }
        tell(checks);
    }

    fn admin_key(&self) -> Result<String, String> {
        let path = self.folder.join(super::ADMIN_KEY);
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn save(&self, name: &str, text: &str) -> Result<String, String> {
        let path = self.folder.join(name);
        let written = write_atomically(&path, text.as_bytes(), 0o600);
        written.map(|()| path.display().to_string()).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn install(&self, ready: &Ready, watch: Watch) -> Result<(), Failed> {
        watch(Told::Say(ready.plan.to_string()));
        Err(Failed {
            reason: "This is a dry run: the installation ends here.".into(),
            remedy: Some("boot the medium on the machine itself".into()),
            disk: "No disk was written.".into(),
        })
    }

    fn leave(&self, _: Then) -> Result<(), String> {
        Ok(())
    }
}
