//! One arm per step; no decision is taken here.
//!
//! Route in: [`Step`]s. Route out: the file of keys, kube-apiserver and kube-controller-manager restarted, Secrets.

use super::keys::KeySet;
use super::plan::{Observed, Step};
use super::{serve, tokens};
use crate::cluster::create::ready;
use crate::cluster::token::administrator;
use crate::paths::Paths;
use crate::shared_keys::{self, Follow, Place};

/// What verifies and signs, and what signs the tokens in Secrets.
const UNITS: [&str; 2] = ["kube-apiserver.service", "kube-controller-manager.service"];

/// Does `step`.
pub async fn apply(place: &Place<'_>, observed: Observed, step: &Step) -> anyhow::Result<()> {
    let (paths, is_shared) = (place.paths, observed.shared.is_some());
    let mut set = observed.set;
    match step {
        Step::Follow(Follow::Adopt(shared)) => return shared.save(paths),
        Step::Follow(Follow::Report) => return shared_keys::report(paths, &set).await,
        Step::Follow(Follow::Wait(_)) => return Ok(()),
        Step::Serve => {
            serve::write(paths, &set)?;
            let [api_server, controllers] = UNITS;
            place.hosts.units.restart(api_server).await?;
            ready(&administrator(paths).await?).await?;
            place.hosts.units.restart(controllers).await?;
            return serve::served(paths);
        }
        Step::Renew(secrets) => return tokens::renew(&administrator(paths).await?, secrets).await,
        Step::Follow(Follow::Share) => set.next(),
        Step::Sign(number) => set.sign_with(*number),
        Step::Retire(numbers) => set.retire(numbers, place.now),
        Step::Forget(numbers) => set.forget(numbers),
    }
    change(paths, &set, is_shared).await
}

/// Shares `set` if other nodes are to follow, then keeps it. If another node was faster its keys are adopted next.
pub(super) async fn change(paths: &Paths, set: &KeySet, is_shared: bool) -> anyhow::Result<()> {
    if is_shared && !shared_keys::publish(paths, set).await? {
        return Ok(());
    }
    set.save(paths)
}
