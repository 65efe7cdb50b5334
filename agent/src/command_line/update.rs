//! `update`: a release for this node, by hand.
//!
//! Route in: arguments. Route out: the agent that runs, over its socket ([`by_hand`]); the status that it left.

use super::{Here, Shown};
use clap::Subcommand;
use sheaf_agent::console;
use sheaf_agent::update::Place;
use sheaf_agent::update::by_hand::{self, Ask};
use sheaf_api::node_update::Action;

#[derive(Subcommand)]
pub enum UpdateCommand {
    /// Shows which release runs, what is in the other slot, and how far the update of this node is.
    Status {
        #[command(flatten)]
        shown: Shown,
    },
    /// Judges a release; no slot is written.
    Check {
        /// Its version, as in 0.2.0.
        version: String,
        #[command(flatten)]
        from: SourceArguments,
    },
    /// Writes a release to the other slot; the machine does not restart.
    Stage {
        /// Its version, as in 0.2.0.
        version: String,
        #[command(flatten)]
        from: SourceArguments,
    },
    /// Stages a release, stops the VMs, restarts the machine into it, and keeps it if the node is as healthy as before.
    Apply {
        /// Its version, as in 0.2.0.
        version: String,
        #[command(flatten)]
        from: SourceArguments,
        /// Seconds in which it must pass the health gate.
        #[arg(long, default_value_t = by_hand::HEALTH_TIMEOUT)]
        health_timeout: u32,
        /// On a control-plane node: takes no snapshot of etcd before the restart. For a control plane that does not work.
        #[arg(long)]
        without_snapshot: bool,
    },
    /// Stops the VMs and restarts the machine into the release in the other slot, which ran well before.
    Rollback,
    /// Withdraws what was asked for here; the NodeUpdate of this node counts again.
    Cancel,
}

/// Where a release is taken from. One that is in the other slot needs none of these.
#[derive(clap::Args)]
#[group(multiple = false)]
pub struct SourceArguments {
    /// URL of its folder.
    #[arg(long)]
    url: Option<String>,
    /// An artifact in a registry, registry.example.org/sheaf:0.2.0.
    #[arg(long)]
    oci: Option<String>,
    /// A drive at this node, by the label of its file system.
    #[arg(long, value_name = "LABEL", num_args = 0..=1, require_equals = true, default_missing_value = by_hand::DRIVE)]
    drive: Option<String>,
}

impl SourceArguments {
    fn place(self) -> Option<Place> {
        let url = self.url.map(Place::Url);
        url.or_else(|| self.oci.map(Place::Oci)).or_else(|| self.drive.map(Place::Drive))
    }
}

/// Shows how far the update is, or asks the agent for one.
pub fn update(here: &Here, shown: &Shown, command: Option<UpdateCommand>) -> anyhow::Result<()> {
    let paths = &here.paths;
    let update = |version, from: SourceArguments, action, timeout, without_snapshot| Ask::Update {
        version,
        source: from.place(),
        action,
        timeout,
        without_snapshot,
    };
    let ask = match command {
        None => return console::show(shown.watch, || console::update(paths, shown.json)),
        Some(UpdateCommand::Status { shown }) => {
            return console::show(shown.watch, || console::update(paths, shown.json));
        }
        Some(UpdateCommand::Check { version, from }) => {
            update(version, from, Action::Check, by_hand::HEALTH_TIMEOUT, false)
        }
        Some(UpdateCommand::Stage { version, from }) => {
            update(version, from, Action::Stage, by_hand::HEALTH_TIMEOUT, false)
        }
        Some(UpdateCommand::Apply { version, from, health_timeout, without_snapshot }) => {
            update(version, from, Action::Apply, health_timeout, without_snapshot)
        }
        Some(UpdateCommand::Rollback) => Ask::Rollback,
        Some(UpdateCommand::Cancel) => Ask::Cancel,
    };
    println!("{}", by_hand::ask(&paths.update_socket(), &ask)?);
    Ok(())
}
