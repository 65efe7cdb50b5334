//! Controller `claim`: a way in by the console while nobody administers the cluster.
//!
//! Reads: ClusterRoleBindings of administrators, `cluster.admin-keys` by way of them. Owns: the Secret `sheaf-console/claim`, the
//! bindings of the user `console:.claim`, `/run/sheaf/claim` (the code, for the screens of this node), the section `console`. Never
//! touches: users and administrators: those are made by the console, which takes the code.
//!
//! A node has no login, and nobody types a public key in PEM: who stands before its screen reads a code of eight letters there. The
//! node that made the cluster makes it while there is no administrator, and another when it has ended; `sheaf-agent claim new`
//! makes one on any control-plane node ([`by_hand`]). The code is in memory of this machine alone: after a restart there is another
//! one. [`observe`] → [`plan`] → [`apply`] → [`report`] in the loop [`controller`]; docs/decisions/0054.

mod apply;
pub mod by_hand;
mod controller;
mod observe;
pub mod plan;
mod report;

use crate::channels::Context;
use crate::paths::Paths;
use crate::reconcile::{self, Wakes};
use crate::status::{ConsoleSection, Section};
use controller::{Controller, Source};
use std::fs;

/// Runs until shutdown.
pub async fn run(ctx: Context, section: Section<ConsoleSection>) -> anyhow::Result<()> {
    let wakes = Wakes::new().watch(Source::Joined, ctx.cluster.clone());
    let (handle, shutdown) = (ctx.controllers.register("claim"), ctx.shutdown.clone());
    reconcile::run(Controller::new(ctx, section), wakes, handle, shutdown).await
}

/// The code that the screens of this node show, if there is one.
pub fn shown(paths: &Paths) -> Option<String> {
    fs::read_to_string(paths.claim()).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}
