//! An installation from start to end without a question asked.
//!
//! Why here: the only place that joins sources, inventory, plan and execution on a real machine.
//! Route in: consoles, the key to trust. Route out: exit code; on success the machine is already going down.

use anyhow::Context;
use sheaf_config::node::Then;
use sheaf_host::disk::RawDisk;
use sheaf_host::efi::EfiVars;
use sheaf_host::mount::{self, Mount};
use sheaf_host::run::{Command, Run, System};
use sheaf_installer::execute::{self, Failure, Means};
use sheaf_installer::inventory::{self, Reserved};
use sheaf_installer::plan::{self, InstallPlan, Supply};
use sheaf_installer::progress::Progress;
use sheaf_installer::sources::config::{ConfigError, Found, Patience, Places};
use sheaf_installer::sources::medium::Medium;
use sheaf_installer::sources::{self, arguments, config, medium};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use uuid::Uuid;

/// Everything of the installer's while it runs; a tmpfs.
pub const SCRATCH: &str = "/run/sheaf/installer";
/// Exists once the reason of a failure was said, for whoever else speaks on the consoles.
const FAILED: &str = "/run/sheaf/install-failed";

/// What is installed from what onto what.
struct Prepared {
    medium: Medium,
    config: Found,
    plan: InstallPlan,
}

/// Installs; with `dry_run` only shows the plan, as JSON when it is `Some(true)`. Where no source has a node.toml the
/// operator is asked, if there is a terminal for it.
pub fn run(
    progress: &Progress,
    key: &Path,
    dry_run: Option<bool>,
    ask: &dyn Fn() -> Option<ExitCode>,
) -> ExitCode {
    progress.say(&format!("Sheaf installer {}", env!("CARGO_PKG_VERSION")));
    let prepared = match prepare(progress, key) {
        Ok(prepared) => prepared,
        Err(error) => {
            let nothing = matches!(error.downcast_ref(), Some(ConfigError::None { .. }));
            let asked = if nothing && dry_run.is_none() { ask() } else { None };
            return asked.unwrap_or_else(|| failed(progress, &format!("{error:#}"), "No disk was written."));
        }
    };
    if let Some(json) = dry_run {
        return show(progress, &prepared.plan, json);
    }
    match install(progress, &prepared) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Failure>() {
            Some(failure) => {
                let reason = format!("{error:#}\nWhat to do: {}", failure.source.remedy());
                failed(progress, &reason, &failure.disk.describe(&prepared.plan.disk.path))
            }
            None => failed(progress, &format!("{error:#}"), "No disk was written."),
        },
    }
}

fn prepare(progress: &Progress, key: &Path) -> anyhow::Result<Prepared> {
    let mounts = Path::new(SCRATCH).join("mounts");
    progress.say("Looking for the install medium and node.toml");
    let devices = sources::settled(&System, |devices| !medium::candidates(devices).is_empty())?;
    let medium = medium::find(&devices, &mount::System, &mounts, key)?;
    let manifest = &medium.manifest;
    progress.say(&format!("Release {} {} on {}", manifest.name, manifest.version, medium.device.display()));
    let arguments = arguments::parse(&std::fs::read_to_string("/proc/cmdline")?)?;
    let config = config::find(&Places {
        argument: arguments.config.as_ref(),
        devices: &devices,
        medium: Some(&medium),
        mount: &mount::System,
        mounts: &mounts,
        call: &sheaf_host::call::Http,
        patience: Patience::default(),
        tell: &|text| progress.say(text),
    })?;
    progress.say(&format!("Config node.toml of {}", config.origin));
    config.others.iter().for_each(|other| progress.say(&format!("  not {other}")));
    let reserved = Reserved { medium: Some(&medium.device), config: config.device.as_deref() };
    let inventory = inventory::probe(&System, Path::new("/"), reserved)?;
    let supply = Supply { manifest: &medium.manifest, images: &medium.images };
    let plan = plan::plan(&config.config, &inventory, supply, Uuid::new_v4())?;
    Ok(Prepared { medium, config, plan })
}

fn show(progress: &Progress, plan: &InstallPlan, json: bool) -> ExitCode {
    if !json {
        progress.say(&plan.to_string());
        return ExitCode::SUCCESS;
    }
    match serde_json::to_string_pretty(plan) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => failed(progress, &error.to_string(), "No disk was written."),
    }
}

fn install(progress: &Progress, prepared: &Prepared) -> anyhow::Result<()> {
    let Prepared { medium, config, plan } = prepared;
    progress.say(&plan.to_string());
    let disk = RawDisk::open(&plan.disk.path)?;
    let means = Means {
        run: &System,
        mount: &mount::System,
        firmware: &EfiVars::default(),
        disk: &disk,
        open: &|path| Ok(Box::new(RawDisk::open(path)?)),
        medium: &medium.folder,
        remote: None,
        scratch: Path::new(SCRATCH),
        node_toml: &config.text,
        progress,
    };
    let timing = execute::install(plan, &means)?;
    let timing = serde_json::to_string(&timing).context("timing as JSON")?;
    progress.say(&format!("sheaf-installer: timing {timing}"));
    // The disk is complete; a medium that can not be unmounted does no harm, the shutdown unmounts it too.
    let _ = mount::System.unmount(&medium.mounted);
    leave(progress, plan)
}

/// Says what comes next and takes the machine there. `--force` skips waiting for units, not unmounting.
fn leave(progress: &Progress, plan: &InstallPlan) -> anyhow::Result<()> {
    let done = format!("Installed {} on {}.", plan.release, plan.disk.path.display());
    let (next, action) = match plan.then {
        Then::Reboot => ("The machine reboots now and starts from this disk. Remove the medium.", "reboot"),
        Then::PowerOff => (
            "The machine powers off now. Remove the medium; switched on again it starts from this disk.",
            "poweroff",
        ),
    };
    progress.say(&format!("{done}\n{next}"));
    System.run(&Command::new("systemctl").args([action, "--force"])).map(drop).with_context(|| {
        format!("the installation is complete, but the machine does not {action}; do it by hand")
    })
}

fn failed(progress: &Progress, reason: &str, disk: &str) -> ExitCode {
    let text = format!(
        "\nINSTALLATION FAILED\n{reason}\n{disk}\n\
         The machine stays as it is, so that this can be read: switch it off, or reset it to try again."
    );
    progress.say(&text);
    // For those who speak on the consoles after us; without it they only say more.
    let _ = sheaf_host::file::write_atomically(&PathBuf::from(FAILED), text.as_bytes(), 0o644);
    ExitCode::FAILURE
}
