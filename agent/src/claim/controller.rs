//! The rounds: is there an administrator, and if not, is there a code?
//!
//! Route in: time, the end of the join. Route out: what [`super::plan`] says; the section `console`.

use super::observe::observe;
use super::plan::{Observed, plan};
use super::{apply, report};
use crate::channels::Context;
use crate::cluster::create::console::serving_certificate;
use crate::cluster::create::pki::Pki;
use crate::cluster::kubeconfig;
use crate::reconcile::{self, Next, Woken, blocking};
use crate::status::{ConsoleSection, Section};
use anyhow::Context as _;
use sheaf_config::node::{ClusterMode, Role};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Between two looks while the cluster can be claimed: the screens show it soon when it was, and how many tries are left.
const LOOK: Duration = Duration::from_secs(10);
/// The same once somebody administers it: a claim by hand is the only news.
const RARELY: Duration = Duration::from_secs(60);
/// Longest time for a round: it is a handful of requests to the API server of this machine.
const ROUND: Duration = Duration::from_secs(30);

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The node has joined: its control plane is up.
    Joined,
}

/// The controller's state.
pub struct Controller {
    ctx: Context,
    section: Section<ConsoleSection>,
    /// There was a claim at the last look.
    had_claim: bool,
    /// Since when there is none.
    gone: Option<Instant>,
    failing: bool,
}

impl Controller {
    /// One that has observed nothing yet.
    pub fn new(ctx: Context, section: Section<ConsoleSection>) -> Self {
        Self { ctx, section, had_claim: false, gone: None, failing: false }
    }

    /// How long there has been no claim, for an agent that saw one.
    fn gone_for(&mut self, has_claim: bool) -> Option<Duration> {
        match has_claim {
            true => self.gone = None,
            false if self.had_claim => self.gone = Some(Instant::now()),
            false => {}
        }
        self.had_claim = has_claim;
        self.gone.map(|gone| gone.elapsed())
    }

    async fn keep(&mut self, is_first: bool) -> anyhow::Result<Observed> {
        let node = self.ctx.config.borrow().system.hostname.clone();
        let paths = self.ctx.paths.clone();
        let pki = Pki { dir: paths.kubernetes.clone() };
        let (client, server) = {
            let file = pki.kubeconfig("super-admin");
            let server = kubeconfig::certificate_and_server(&file).map(|(_, server)| server);
            let server = server.context("super-admin.conf cannot be read")?;
            (kubeconfig::client_from_file(&file).await?, server)
        };
        let look = async || observe(&client, &paths, &node, is_first).await;
        let mut observed = look().await?;
        observed.gone_for = self.gone_for(observed.kept.is_some());
        let now = seconds();
        let actions = plan(&observed, now);
        for action in &actions {
            tracing::info!("{action}");
            apply::apply(&client, &paths, &node, *action, now).await?;
        }
        if !actions.is_empty() {
            observed = look().await?;
            // What this round itself closed was not taken by the console.
            self.had_claim = observed.kept.is_some();
        }
        let shown = blocking(move || Ok(std::fs::read_to_string(serving_certificate(&pki))?)).await;
        let fingerprint = shown.ok().and_then(|pem| report::fingerprint(&pem));
        self.section.set(report::section(&observed, &report::url_of(&server), fingerprint, seconds()));
        Ok(observed)
    }
}

/// Seconds since 1970. A clock before that is at its beginning.
pub(super) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl reconcile::Controller for Controller {
    type Source = Source;

    async fn round(&mut self, _: &Woken<Source>) -> Next {
        let config = self.ctx.config.borrow().clone();
        let cluster = config.cluster.as_ref().filter(|cluster| cluster.role() == Role::ControlPlane);
        let Some(cluster) = cluster else {
            return Next::WOKEN;
        };
        // Before that `cluster` is making or starting the control plane.
        if self.ctx.cluster.borrow().is_none() {
            return Next::WOKEN.waiting_for("the control plane");
        }
        let is_first = cluster.mode == ClusterMode::Create;
        let kept = tokio::time::timeout(ROUND, self.keep(is_first)).await;
        let (why, is_quiet) = match kept {
            Ok(Ok(observed)) => {
                (None, observed.is_administered && observed.kept.is_none() && !observed.is_bound)
            }
            Ok(Err(error)) => (Some(format!("{error:#}")), false),
            Err(_) => (Some(format!("the API server did not answer within {} s", ROUND.as_secs())), false),
        };
        // Once, not at each look.
        if let (Some(why), false) = (&why, self.failing) {
            tracing::warn!("the claim of the cluster: {why}; it is tried again every {} s", LOOK.as_secs());
        }
        self.failing = why.is_some();
        Next::after(if is_quiet { RARELY } else { LOOK })
    }
}
