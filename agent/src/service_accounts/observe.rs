//! What the next step follows from.
//!
//! Route in: the node's files, the API server, what the control-plane nodes share. Route out: [`Observed`].

use super::keys::KeySet;
use super::plan::{Observed, needs_tokens};
use super::serve::is_served;
use super::tokens;
use crate::cluster::token::administrator;
use crate::shared_keys::{self, Place};

/// All of it; none before there is a key.
pub async fn observe(place: &Place<'_>) -> anyhow::Result<Option<Observed>> {
    let Some(set) = KeySet::load(place.paths)? else { return Ok(None) };
    let is_served = is_served(place.paths, &set);
    let underway = !set.is_settled(place.now) || !is_served;
    let shared = shared_keys::observe(place, set.generation, underway).await?;
    let mut observed = Observed { set, is_served, shared, tokens: tokens::Others::default(), now: place.now };
    if needs_tokens(&observed) {
        let id = observed.set.signing().map(super::keys::Key::id).unwrap_or_default();
        observed.tokens = tokens::others(&administrator(place.paths).await?, &id).await?;
    }
    Ok(Some(observed))
}
