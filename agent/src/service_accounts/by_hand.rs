//! `sheaf-agent service-accounts` and `sheaf-agent service-accounts rotate`, on a control-plane node.
//!
//! Why not over the agent: a terminal shows each step. The agents complete what this does not. Route in: arguments. Route out:
//! what was done, in words.

use super::apply::change;
use super::keys::KeySet;
use super::settle;
use crate::cluster::Hosts;
use crate::cluster::time::rfc3339;
use crate::paths::Paths;
use crate::shared_keys::{self, Place, Turn, lock};
use anyhow::{Context as _, ensure};
use std::time::SystemTime;

/// What is said before there is a key.
const NONE: &str = "this node has no key of service accounts: is this a control-plane node?";

/// The keys, and what each is for.
pub fn status(paths: &Paths) -> anyhow::Result<String> {
    Ok(text(&KeySet::load(paths)?.context(NONE)?))
}

fn text(set: &KeySet) -> String {
    let mut text = format!("{:<5} {:<21} {:<44} USE\n", "KEY", "MADE", "KID");
    let signing = set.signing().map(|key| key.number).unwrap_or_default();
    for key in &set.keys {
        let used = match key.ends() {
            Some(end) => format!("verifies until {}", rfc3339(end)),
            None if key.number == signing => "signs and verifies".into(),
            None => "verifies".into(),
        };
        let made = if key.made.is_empty() { "with the cluster" } else { &key.made };
        text += &format!("{:<5} {made:<21} {:<44} {used}\n", key.number, key.id());
    }
    text
}

/// Has a new key sign, or completes a change that was interrupted; each step is told to `say`. On one of several control-plane
/// nodes the others follow, one after the other.
pub async fn rotate(
    paths: &Paths,
    hosts: &Hosts,
    now: SystemTime,
    say: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<String> {
    let lock = lock(paths)?;
    ensure!(lock.is_some(), "the agent is changing keys of the cluster now; run this again in a few minutes");
    let place = Place { paths, hosts, now, by_hand: true };
    let mut set = KeySet::load(paths)?.context(NONE)?;
    let turn = shared_keys::turn(&place, &set, set.is_settled(now)).await?;
    let begun = matches!(turn, Turn::Begin { .. });
    if let Turn::Begin { generation, is_shared } = turn {
        set.generation = generation;
        set.add(now)?;
        change(paths, &set, is_shared).await?;
    } else {
        say("completing the change of keys that was under way");
    }
    shared_keys::complete(say, async || settle(place, say).await).await?;
    let set = KeySet::load(paths)?.context(NONE)?;
    let signing = set.signing().map(|key| key.number).unwrap_or_default();
    let again = if begun { "" } else { " It is the key of that change; run this again for another." };
    let end = set.keys.iter().filter_map(super::keys::Key::ends).max().map(rfc3339);
    let former = end.map_or_else(String::new, |end| {
        format!(" Tokens of the former key are accepted until {end}; the agent forgets that key then.")
    });
    Ok(format!(
        "key {signing} signs tokens of service accounts.{again}{former} Tokens in Secrets were made again, and \
         copies of the former ones are refused from now on: have programs read them from the Secret again. Save the keys of \
         the cluster again (sheaf-agent snapshot \
         save-keys FILE)\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service_accounts::keys::LONGEST_TOKEN;
    use std::time::Duration;

    #[test]
    fn the_status_says_what_each_key_is_for_and_until_when() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let mut set = KeySet { keys: Vec::new(), generation: 0 };
        set.add(now).unwrap();
        set.add(now).unwrap();
        let uses = |set: &KeySet| {
            let of = |line: &str| (line[..5].trim().to_owned(), line[73..].to_owned());
            text(set).lines().skip(1).map(of).collect::<Vec<_>>()
        };
        let rows = |rows: &[(&str, &str)]| {
            rows.iter().map(|(key, used)| ((*key).to_owned(), (*used).to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(uses(&set), rows(&[("1", "signs and verifies"), ("2", "verifies")]));
        set.sign_with(2);
        set.retire(&[1], now);
        let end = format!("verifies until {}", rfc3339(now + LONGEST_TOKEN));
        assert_eq!(uses(&set), rows(&[("2", "signs and verifies"), ("1", &end)]));
    }
}
