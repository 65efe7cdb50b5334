//! Controller `identity-provider`: the API server of a control-plane node takes tokens of the provider that ClusterConfig names.
//!
//! Reads: ClusterConfig `cluster`. Owns: `authentication.json` in `/run/sheaf` and `/var/lib/sheaf`
//! ([`crate::cluster::create::authentication`]). Never touches: the API server, which reads the file by itself when it changes.

use crate::api_server::Kube;
use crate::channels::Context;
use crate::cluster::create::authentication;
use crate::reconcile::{self, Next, Wakes, Woken, blocking};
use anyhow::Context as _;
use kube::Api;
use sheaf_api::ClusterConfig;
use sheaf_api::cluster_config;
use sheaf_config::node::Role;
use std::time::Duration;

/// Between two looks: kube-apiserver itself looks at the file once a minute.
const LOOK: Duration = Duration::from_secs(20);
/// Longest time for a look: one request.
const ROUND: Duration = Duration::from_secs(15);

/// What wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// The node has joined: its control plane is up.
    Joined,
}

/// Runs until shutdown.
pub async fn run(ctx: Context) -> anyhow::Result<()> {
    let wakes = Wakes::new().watch(Source::Joined, ctx.cluster.clone());
    let (handle, shutdown) = (ctx.controllers.register("identity-provider"), ctx.shutdown.clone());
    let kube = Kube::new(ctx.cluster.clone()).with_timeout(ROUND);
    reconcile::run(Controller { ctx, kube, failing: false }, wakes, handle, shutdown).await
}

struct Controller {
    ctx: Context,
    kube: Kube,
    failing: bool,
}

impl Controller {
    async fn look(&self) -> anyhow::Result<()> {
        let configs: Api<ClusterConfig> = Api::all(self.kube.joined()?.client);
        let found = configs.get_opt(cluster_config::NAME).await.context("ClusterConfig cluster")?;
        let provider = found.and_then(|config| config.spec.identity_provider);
        let (run, lib) = (self.ctx.paths.run.clone(), self.ctx.paths.lib.clone());
        let named = provider.as_ref().map(|provider| provider.issuer.clone());
        if blocking(move || authentication::keep(&run, &lib, provider.as_ref())).await? {
            tracing::info!(
                provider = named,
                "the API server takes tokens of another identity provider than before"
            );
        }
        Ok(())
    }
}

impl reconcile::Controller for Controller {
    type Source = Source;

    async fn round(&mut self, _: &Woken<Source>) -> Next {
        let config = self.ctx.config.borrow().clone();
        if config.cluster.as_ref().is_none_or(|cluster| cluster.role() != Role::ControlPlane) {
            return Next::WOKEN;
        }
        if self.ctx.cluster.borrow().is_none() {
            return Next::WOKEN.waiting_for("the control plane");
        }
        let looked = self.look().await;
        // Once, not at each look.
        if let (Err(error), false) = (&looked, self.failing) {
            tracing::warn!("the identity provider: {error:#}; it is tried again every {} s", LOOK.as_secs());
        }
        self.failing = looked.is_err();
        Next::after(LOOK)
    }
}
