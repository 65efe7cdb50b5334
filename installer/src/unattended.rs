//! An installation from start to end without a question asked.
//!
//! Why here: it decides what follows what on a real machine, and what is left when it fails: the reason, its remedy, the
//! log, a word to the webhooks, and a way to try again. Route in: consoles, the key to trust. Route out: how it ended; on
//! success the machine is already going down.

use anyhow::Context;
use sheaf_config::node::{Event, Identity, Then};
use sheaf_host::call;
use sheaf_host::efi::EfiVars;
use sheaf_host::fetch;
use sheaf_host::mount;
use sheaf_host::net;
use sheaf_host::run::{Command, Run, System};
use sheaf_installer::claim::Claimed;
use sheaf_installer::execute::{DiskState, Failure, Timing};
use sheaf_installer::inventory::{self, Inventory};
use sheaf_installer::network::State;
use sheaf_installer::plan::InstallPlan;
use sheaf_installer::progress::Progress;
use sheaf_installer::record;
use sheaf_installer::session::{Host, News, SCRATCH, Session, open_disk};
use sheaf_installer::sources::config::{ConfigError, Found};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use uuid::Uuid;

/// Exists once the reason of a failure was said, for others that print to the consoles.
const FAILED: &str = "/run/sheaf/install-failed";
/// A connection to a release's server that is silent for longer is given up and taken up again.
const SILENCE: Duration = Duration::from_secs(20);

/// How an installation ended.
pub enum End {
    /// As it was asked for.
    Done,
    /// The operator was asked, and this is what came of it.
    Asked(ExitCode),
    /// It failed, and said why.
    Failed,
}

/// An installation that ended early: why, what to do, what became of the disk.
struct Failed {
    reason: String,
    remedy: Option<String>,
    disk: String,
}

impl Failed {
    /// All of it, for anyone who is not here.
    fn text(&self) -> String {
        let remedy = self.remedy.as_ref().map(|remedy| format!("\nWhat to do: {remedy}")).unwrap_or_default();
        format!("{}{remedy}\n{}", self.reason, self.disk)
    }

    /// Before any disk was touched.
    fn early(error: impl std::fmt::Display) -> Self {
        Self { reason: format!("{error:#}"), remedy: None, disk: "No disk was written.".into() }
    }
}

/// Installs; with `dry_run` only shows the plan, as JSON when it is `Some(true)`. Where no source has a node.toml the
/// operator is asked, if there is a terminal for it.
pub fn run(
    progress: &Progress,
    key: &Path,
    dry_run: Option<bool>,
    ask: &dyn Fn() -> Option<ExitCode>,
) -> End {
    let _ = std::fs::remove_file(FAILED);
    progress.say(&format!("Sheaf installer {}", env!("CARGO_PKG_VERSION")));
    let firmware = EfiVars::default();
    let fetch = fetch::Http::silent_for(SILENCE);
    let host = host(&firmware, &fetch);
    // Who only wants to see the plan wants nothing written.
    let saved = dry_run.is_none().then_some(host);
    let session = match Session::open(host, key, &|text| progress.say(text)) {
        Ok(session) => session,
        Err(error) => return end(progress, saved, &Failed::early(format!("{error:#}"))),
    };
    let found = match session.config(&|text| progress.say(text)) {
        Ok(found) => found,
        Err(error) => {
            let nothing = matches!(error, ConfigError::None { .. });
            // The screens look at the machine themselves.
            session.close();
            let asked = if nothing && dry_run.is_none() { ask() } else { None };
            let failed = Failed::early(format!("{:#}", anyhow::Error::new(error)));
            return match asked {
                Some(code) => End::Asked(code),
                None => end(progress, saved, &failed),
            };
        }
    };
    progress.say(&format!("Config node.toml of {}", found.origin));
    found.others.iter().for_each(|other| progress.say(&format!("  not {other}")));
    record::keep_config(Path::new(record::FOLDER), &found.config);
    let drive = found.device.as_deref();
    let (inventory, plan) = match planned(&session, &found) {
        Ok(planned) => planned,
        Err(error) => {
            let failed = Failed::early(format!("{error:#}"));
            if dry_run.is_none() {
                let reason = failed.text();
                let news = News { event: Event::Failed, plan: None, reason: Some(&reason), seconds: None };
                session.tell(&found.config, news, progress);
            }
            return end(progress, saved, &failed);
        }
    };
    if let Some(json) = dry_run {
        return show(progress, &plan, json);
    }
    let installed = session
        .claim(&plan, &inventory, drive)
        .map_err(|error| Failed {
            remedy: Some(error.remedy().to_owned()),
            disk: untouched(&plan),
            reason: format!("{:#}", anyhow::Error::new(error)),
        })
        .and_then(|disks| install(progress, &session, &found, &inventory, &plan, &disks));
    match installed {
        Ok(timing) => {
            let news = News {
                event: Event::Succeeded,
                plan: Some(&plan),
                reason: None,
                seconds: Some(timing.total),
            };
            session.tell(&found.config, news, progress);
            session.close();
            match leave(progress, &plan) {
                Ok(()) => End::Done,
                Err(error) => {
                    let disk = "The disk is complete.".into();
                    let failed = Failed { reason: format!("{error:#}"), remedy: None, disk };
                    end(progress, saved, &failed)
                }
            }
        }
        Err(failed) => {
            let reason = failed.text();
            let news = News { event: Event::Failed, plan: Some(&plan), reason: Some(&reason), seconds: None };
            session.tell(&found.config, news, progress);
            end(progress, saved, &failed)
        }
    }
}

/// This machine.
pub fn host<'h>(firmware: &'h EfiVars, fetch: &'h fetch::Http) -> Host<'h> {
    Host {
        run: &System,
        mount: &mount::System,
        call: &call::Http,
        fetch,
        net: &net::System,
        firmware,
        open: &open_disk,
        root: Path::new("/"),
        scratch: Path::new(SCRATCH),
    }
}

fn planned(session: &Session<'_>, found: &Found) -> anyhow::Result<(Inventory, InstallPlan)> {
    let inventory = session.inventory(found.device.as_deref())?;
    let plan = session.plan(&found.config, &inventory, Uuid::new_v4())?;
    let text = serde_json::to_string_pretty(&plan).context("plan as JSON")?;
    record::keep(Path::new(record::FOLDER), "plan.json", &text);
    Ok((inventory, plan))
}

fn untouched(plan: &InstallPlan) -> String {
    DiskState::Untouched.describe(&plan.disk.path)
}

fn show(progress: &Progress, plan: &InstallPlan, json: bool) -> End {
    if !json {
        progress.say(&plan.to_string());
        return End::Done;
    }
    match serde_json::to_string_pretty(plan) {
        Ok(text) => {
            println!("{text}");
            End::Done
        }
        Err(error) => end(progress, None, &Failed::early(error)),
    }
}

fn install(
    progress: &Progress,
    session: &Session<'_>,
    found: &Found,
    inventory: &Inventory,
    plan: &InstallPlan,
    disks: &Claimed,
) -> Result<Timing, Failed> {
    progress.say(&plan.to_string());
    progress.say("Checking the network before anything is written to a disk");
    let outcomes = session.try_network(&found.config, inventory, &mut |outcome| {
        if outcome.state != State::Running {
            progress.say(&format!("  {outcome}"));
        }
    });
    let text = serde_json::to_string_pretty(&outcomes).unwrap_or_default();
    record::keep(Path::new(record::FOLDER), "network.json", &text);
    if let Some(outcome) = outcomes.iter().find(|outcome| outcome.state == State::Failed) {
        return Err(Failed {
            reason: format!("{}: {}", outcome.probe.what, outcome.found),
            remedy: outcome.remedy.clone(),
            disk: untouched(plan),
        });
    }
    let news = News { event: Event::Started, plan: Some(plan), reason: None, seconds: None };
    session.tell(&found.config, news, progress);
    let timing = session.install(plan, disks, &found.text, progress).map_err(|failure: Failure| Failed {
        remedy: Some(failure.source.remedy().to_owned()),
        disk: failure.disk.describe(&plan.disk.path),
        reason: format!("{:#}", anyhow::Error::new(failure)),
    })?;
    let text = serde_json::to_string(&timing).unwrap_or_default();
    progress.say(&format!("sheaf-installer: timing {text}"));
    Ok(timing)
}

/// Says what comes next and takes the machine there. `--force` skips waiting for units, not unmounting.
fn leave(progress: &Progress, plan: &InstallPlan) -> anyhow::Result<()> {
    let done = format!("Installed {} on {}.", plan.release, plan.disk.path.display());
    let (next, action) = match plan.then {
        Then::Reboot => ("The machine reboots now and starts from this disk. Remove the medium.", "reboot"),
        Then::PowerOff => (
            "The machine powers off now. Remove the medium. When it is switched on again, it starts from this disk.",
            "poweroff",
        ),
    };
    progress.say(&format!("{done}\n{next}"));
    System.run(&Command::new("systemctl").args([action, "--force"])).map(drop).with_context(|| {
        format!("the installation is complete, but the machine does not {action}; please do it yourself")
    })
}

/// What the machine says of itself, however far the installation came.
fn machine(host: &Host<'_>) -> Identity {
    let nics = sheaf_host::nic::wired(host.root).unwrap_or_default();
    inventory::identity(host.root, nics.into_iter().filter_map(|nic| nic.permanent_mac))
}

/// The last words of an installation that failed, on the consoles and on the labelled drive.
fn end(progress: &Progress, host: Option<Host<'_>>, failed: &Failed) -> End {
    progress.say(&format!("\nINSTALLATION FAILED\n{}", failed.text()));
    if let Some(host) = host {
        let log = std::fs::read(Path::new(record::FOLDER).join(record::LOG)).unwrap_or_default();
        let name = format!("sheaf-install-{}.log", record::name_of(&machine(&host)));
        match record::save(&host, &name, &log) {
            Ok(place) => progress.say(&format!("Log: {place}")),
            Err(error) => progress.say(&format!("Log: not saved, {error}")),
        }
    }
    let text = "The machine stays on so that this can be read. Press Enter here to try again, \
                or switch it off.";
    progress.say(text);
    // For those who speak on the consoles after us; without it they only say more.
    let _ = sheaf_host::file::write_atomically(&PathBuf::from(FAILED), text.as_bytes(), 0o644);
    End::Failed
}
