//! What the screens ask for, done on this machine.
//!
//! Why here: like `unattended`, it joins sources, inventory, plan and execution on a real machine, in the order that an
//! operator asks for. Route in: the consoles, the key to trust. Route out: an exit code; on success the machine is already
//! going down.

mod drive;
mod network;
mod rehearsal;

pub use rehearsal::Rehearsal;

use drive::Drive;
use sheaf_config::node::{NodeConfig, Then};
use sheaf_host::disk::RawDisk;
use sheaf_host::efi::EfiVars;
use sheaf_host::mount::{self, Mount};
use sheaf_host::run::{Command, Run, System};
use sheaf_host::tty::{Terminal, Tty, quiet_kernel};
use sheaf_installer::execute::{self, Means};
use sheaf_installer::inventory::{self, Reserved};
use sheaf_installer::progress::{Progress, Watch};
use sheaf_installer::session::{SCRATCH, open_disk};
use sheaf_installer::sources;
use sheaf_installer::sources::medium::{self, Medium};
use sheaf_installer::tui::event::{Check, Failed};
use sheaf_installer::tui::file::Ready;
use sheaf_installer::tui::machine::Machine;
use sheaf_installer::tui::runner::{self, Effects};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use uuid::Uuid;

/// The public key of the cluster's administrator, on a labelled drive.
const ADMIN_KEY: &str = "admin.pub";

/// Shows `effects` on those of `consoles` that are terminals; nothing when none is.
pub fn run(consoles: &[PathBuf], effects: Arc<dyn Effects>) -> Option<ExitCode> {
    let open = |path: &PathBuf| Some(Arc::new(Tty::open(path).ok()?) as Arc<dyn Terminal>);
    let terminals: Vec<_> = consoles.iter().filter_map(open).collect();
    if terminals.is_empty() {
        return None;
    }
    runner::run(terminals, effects);
    Some(ExitCode::SUCCESS)
}

/// This machine.
pub struct ThisMachine {
    key: PathBuf,
    /// The medium that was found, and the machine as it was then.
    found: Mutex<Option<(Medium, Machine)>>,
}

impl ThisMachine {
    /// Trusts releases that `key` signed. The kernel no longer writes on the screens.
    pub fn new(key: &Path) -> Self {
        // Not allowed: then its lines stay on the screen until the next page.
        let _ = quiet_kernel();
        Self { key: key.to_owned(), found: Mutex::new(None) }
    }

    fn found(&self) -> MutexGuard<'_, Option<(Medium, Machine)>> {
        self.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn find(&self) -> anyhow::Result<(Medium, Machine)> {
        if let Some((medium, _)) = self.found().take() {
            // One that can not be unmounted is found again where it is.
            let _ = mount::System.unmount(&medium.mounted);
        }
        let devices = sources::settled(&System, |devices| !medium::candidates(devices).is_empty())?;
        let medium = medium::find(&devices, &mount::System, &mounts(), &self.key)?;
        let reserved = Reserved { medium: Some(&medium.device), config: None };
        let inventory = inventory::probe(&System, Path::new("/"), reserved)?;
        let (manifest, images) = (medium.manifest.clone(), medium.images.clone());
        Ok((medium, Machine { inventory, manifest, images, id: Uuid::new_v4() }))
    }

    fn drive<T>(&self, act: impl FnOnce(&Drive<'_>) -> anyhow::Result<T>) -> Result<T, String> {
        act(&Drive { run: &System, mount: &mount::System, mounts: &mounts() })
            .map_err(|error| format!("{error:#}"))
    }
}

fn mounts() -> PathBuf {
    Path::new(SCRATCH).join("mounts")
}

impl Effects for ThisMachine {
    fn look(&self) -> Result<Machine, String> {
        let found = self.find().map_err(|error| format!("{error:#}"))?;
        let machine = found.1.clone();
        *self.found() = Some(found);
        Ok(machine)
    }

    fn try_network(&self, config: &NodeConfig, tell: &mut dyn FnMut(Vec<Check>)) {
        if let Some((_, machine)) = self.found().clone() {
            network::attempt(config, &machine.inventory, tell);
        }
    }

    fn admin_key(&self) -> Result<String, String> {
        self.drive(|drive| drive.read(ADMIN_KEY))
    }

    fn save(&self, name: &str, text: &str) -> Result<String, String> {
        self.drive(|drive| drive.write(name, text))
    }

    fn install(&self, ready: &Ready, watch: Watch) -> Result<(), Failed> {
        let plan = &ready.plan;
        let untouched = "No disk was written.";
        let fail = |reason: String| Failed { reason, remedy: None, disk: untouched.into() };
        let Some((medium, _)) = self.found().clone() else {
            return Err(fail("the medium is no longer there".into()));
        };
        let progress = Progress::watched(watch);
        let disk = RawDisk::open(&plan.disk.path).map_err(|error| fail(error.to_string()))?;
        let means = Means {
            run: &System,
            mount: &mount::System,
            firmware: &EfiVars::default(),
            disk: &disk,
            open: &open_disk,
            medium: &medium.folder,
            remote: None,
            scratch: Path::new(SCRATCH),
            node_toml: &ready.text,
            progress: &progress,
        };
        execute::install(plan, &means).map(drop).map_err(|failure| Failed {
            remedy: Some(failure.source.remedy().to_owned()),
            disk: failure.disk.describe(&plan.disk.path),
            reason: format!("{:#}", anyhow::Error::new(failure)),
        })
    }

    fn leave(&self, then: Then) -> Result<(), String> {
        if let Some((medium, _)) = self.found().take() {
            // Whatever is still mounted, the shutdown unmounts.
            let _ = mount::System.unmount(&medium.mounted);
        }
        let action = match then {
            Then::Reboot => "reboot",
            Then::PowerOff => "poweroff",
        };
        let command = Command::new("systemctl").args([action, "--force"]);
        System.run(&command).map(drop).map_err(|error| format!("The machine does not {action}: {error}"))
    }
}
