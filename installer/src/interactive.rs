//! What the screens ask for, done on this machine.
//!
//! Why here: like `unattended`, it joins sources, inventory, plan and execution on a real machine, in the order that an
//! operator asks for. Route in: the consoles, the key to trust. Route out: an exit code; on success the machine is already
//! going down.

mod drive;
mod network;
mod rehearsal;

pub use rehearsal::Rehearsal;

use crate::unattended;
use drive::Drive;
use sheaf_config::node::{Event, NodeConfig, Then};
use sheaf_host::efi::EfiVars;
use sheaf_host::fetch::Http;
use sheaf_host::run::{Command, Run, System};
use sheaf_host::tty::{Terminal, Tty, quiet_kernel};
use sheaf_installer::progress::{Progress, Watch};
use sheaf_installer::record;
use sheaf_installer::session::{Host, News, Session};
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
    host: Host<'static>,
    /// What was found at the last look.
    found: Mutex<Option<Arc<Found>>>,
}

/// A session, and the machine as it was at its beginning.
struct Found {
    session: Session<'static>,
    machine: Machine,
}

impl ThisMachine {
    /// Trusts releases that `key` signed. The kernel no longer writes on the screens.
    pub fn new(key: &Path) -> Self {
        // Not allowed: then its lines stay on the screen until the next page.
        let _ = quiet_kernel();
        // One for the whole program, which the threads of actions outlive nothing of.
        let (firmware, fetch) = (Box::leak(Box::default()), Box::leak(Box::default()));
        let host = unattended::host(firmware as &EfiVars, fetch as &Http);
        Self { key: key.to_owned(), host, found: Mutex::new(None) }
    }

    fn found(&self) -> MutexGuard<'_, Option<Arc<Found>>> {
        self.found.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn present(&self) -> Option<Arc<Found>> {
        self.found().clone()
    }

    fn find(&self) -> anyhow::Result<Found> {
        *self.found() = None;
        let session = Session::open(self.host, &self.key, &|_| ())?;
        let inventory = session.inventory(None)?;
        let (manifest, images) = (session.release.manifest().clone(), session.release.images().clone());
        Ok(Found { session, machine: Machine { inventory, manifest, images, id: Uuid::new_v4() } })
    }
}

impl Effects for ThisMachine {
    fn look(&self) -> Result<Machine, String> {
        let found = self.find().map_err(|error| format!("{error:#}"))?;
        let machine = found.machine.clone();
        *self.found() = Some(Arc::new(found));
        Ok(machine)
    }

    fn try_network(&self, config: &NodeConfig, tell: &mut dyn FnMut(Vec<Check>)) {
        if let Some(found) = self.present() {
            network::attempt(&found.session, config, &found.machine.inventory, tell);
        }
    }

    fn admin_key(&self) -> Result<String, String> {
        let mounts = self.host.scratch.join("mounts");
        let drive = Drive { run: self.host.run, mount: self.host.mount, mounts: &mounts };
        drive.read(ADMIN_KEY).map_err(|error| format!("{error:#}"))
    }

    fn save(&self, name: &str, text: &str) -> Result<String, String> {
        record::save(&self.host, name, text.as_bytes())
            .map_err(|error| format!("{:#}", anyhow::Error::new(error)))
    }

    fn install(&self, ready: &Ready, watch: Watch) -> Result<(), Failed> {
        let untouched = |reason: String| Failed { reason, remedy: None, disk: "No disk was written.".into() };
        let found = self.present().ok_or_else(|| untouched("the release is no longer there".into()))?;
        let session = &found.session;
        // Minutes have passed since the review's plan was made: the machine may be another by now.
        let inventory = session.inventory(None).map_err(|error| untouched(format!("{error:#}")))?;
        let plan_from = |inventory| session.plan(&ready.config, inventory, found.machine.id);
        let plan = plan_from(&inventory).map_err(|errors| untouched(errors.to_string()))?;
        if plan_from(&found.machine.inventory).ok().as_ref() != Some(&plan) {
            return Err(Failed {
                remedy: Some("choose Start over, and review the plan again".into()),
                ..untouched("the disks or NICs of this machine changed after the review".into())
            });
        }
        let disks = session.claim(&plan, &inventory, None).map_err(|error| Failed {
            remedy: Some(error.remedy().to_owned()),
            ..untouched(format!("{:#}", anyhow::Error::new(error)))
        })?;
        record::keep_config(Path::new(record::FOLDER), &ready.config);
        let progress = Progress::watched(watch);
        let tell = |event, reason: Option<&str>, seconds| {
            let news = News { event, plan: Some(&plan), reason, seconds };
            session.tell(&ready.config, news, &progress);
        };
        tell(Event::Started, None, None);
        match session.install(&plan, &disks, &ready.text, &progress) {
            Ok(timing) => {
                tell(Event::Succeeded, None, Some(timing.total));
                Ok(())
            }
            Err(failure) => {
                let (remedy, disk) = (failure.source.remedy(), failure.disk.describe(&plan.disk.path));
                let reason = format!("{:#}", anyhow::Error::new(failure));
                tell(Event::Failed, Some(&format!("{reason}\nWhat to do: {remedy}\n{disk}")), None);
                Err(Failed { reason, remedy: Some(remedy.to_owned()), disk })
            }
        }
    }

    fn leave(&self, then: Then) -> Result<(), String> {
        if let Some(found) = self.present() {
            found.session.close();
        }
        let action = match then {
            Then::Reboot => "reboot",
            Then::PowerOff => "poweroff",
        };
        let command = Command::new("systemctl").args([action, "--force"]);
        System.run(&command).map(drop).map_err(|error| format!("The machine does not {action}: {error}"))
    }
}
