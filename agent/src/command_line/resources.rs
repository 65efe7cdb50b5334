//! `network` and `volumes`: what this node has, changed by hand.
//!
//! Route in: arguments. Route out: `sheaf_agent::network`, the agent's door for images, the status that the agent left.

use super::{Here, Shown, block_on};
use clap::Subcommand;
use sheaf_agent::network::by_hand;
use sheaf_agent::volumes::upload::send::{Upload, send};
use sheaf_agent::{config, console, runtime};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[derive(Subcommand)]
pub enum VolumesCommand {
    /// Sends an image into a volume of this node that waits for one: of a DataVolume with source upload. Raw or qcow2,
    /// plain or compressed by xz, zstd or gzip.
    Upload {
        /// The DataVolume or claim, namespace/name; or the volume's own name.
        into: String,
        /// The image; - is standard input.
        file: PathBuf,
        /// Length of standard input in bytes. This or --sha256 is required for standard input, to detect a truncated file.
        #[arg(long)]
        bytes: Option<u64>,
        /// SHA-256 of the file, 64 hexadecimal digits.
        #[arg(long)]
        sha256: Option<String>,
    },
}

#[derive(Subcommand)]
pub enum NetworkCommand {
    /// Tries the links of a NodeNetworkPolicy (or of its `network` alone) on this node. They are rolled back if a probe
    /// that passed before fails, or if they are not confirmed in time.
    Apply {
        /// YAML or JSON; a file without links removes what was applied by hand before.
        file: PathBuf,
        /// Keeps them if all probes pass, instead of waiting for `confirm`.
        #[arg(long)]
        confirm: bool,
        /// Seconds to wait for `confirm`.
        #[arg(long, default_value_t = 60, conflicts_with = "confirm")]
        within: u64,
    },
    /// Keeps the change that is on trial.
    Confirm,
    /// Rolls back the change that is on trial.
    Revert {
        /// Only the trial with this id.
        #[arg(long, hide = true)]
        trial: Option<String>,
    },
}

/// Links of this machine; changes them, or ends their trial.
pub fn network(here: Here, shown: &Shown, command: Option<NetworkCommand>) -> anyhow::Result<()> {
    let Some(command) = command else {
        return console::show(shown.watch, || console::network(&here.paths, shown.json));
    };
    let said = block_on(async {
        let trials = runtime::trials(Arc::new(here.paths)).await?;
        match command {
            NetworkCommand::Apply { file, confirm, within } => {
                let node = config::effective(&trials.paths, &trials.paths.root).config.network.links;
                let links = by_hand::read(&file)?;
                let confirm = match confirm {
                    true => by_hand::Confirm::Itself,
                    false => by_hand::Confirm::Within(Duration::from_secs(within)),
                };
                by_hand::apply(&trials, &node, links, confirm).await
            }
            NetworkCommand::Confirm => by_hand::confirm(&trials).await,
            NetworkCommand::Revert { trial } => by_hand::revert(&trials, trial.as_deref()).await,
        }
    })?;
    print!("{said}");
    Ok(())
}

/// Volumes of this node; sends an image into one.
pub fn volumes(here: &Here, shown: &Shown, command: Option<VolumesCommand>) -> anyhow::Result<()> {
    let Some(VolumesCommand::Upload { into, file, bytes, sha256 }) = command else {
        return console::show(shown.watch, || console::volumes(&here.paths, shown.json));
    };
    let upload = Upload { into, file, bytes, sha256 };
    println!("{}", send(&here.paths.uploads(), &upload, |line| eprintln!("{line}"))?);
    Ok(())
}
