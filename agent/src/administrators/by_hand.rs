//! `sheaf-agent administrators`: who administers the cluster, on a control-plane node.
//!
//! Why here and not only with kubectl: what is changed takes effect at once, and works for somebody whose kubeconfig does not.
//! Route in: a request. Route out: the record, what follows from it, and what was done, in words.

use super::plan::{self, Administrator, NODE_TOML, Observed, REVOKED, administrators};
use super::{RECORD, configured, keep, observe};
use crate::cluster::create::pki::Pki;
use crate::cluster::keys;
use crate::cluster::time::rfc3339;
use crate::cluster::{is_status, token};
use crate::console::columns::columns;
use crate::paths::Paths;
use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sheaf_config::node::{Cluster, NodeConfig};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Show them.
    List,
    /// One more.
    Add {
        /// A name for the list.
        name: String,
        /// PEM.
        key: String,
    },
    /// End the rights of one.
    Revoke {
        /// `sheaf-admin-…`.
        user: String,
    },
    /// Give them back.
    Allow {
        /// `sheaf-admin-…`.
        user: String,
    },
}

/// Does what `request` asks, on the node with these files.
pub async fn ask(paths: &Paths, config: &NodeConfig, request: &Ask) -> anyhow::Result<String> {
    let cluster = config.cluster.as_ref().context("this node is in no cluster")?;
    ask_with(&token::administrator(paths).await?, paths, cluster, request).await
}

/// [`ask`] by a client that may do everything.
pub async fn ask_with(
    client: &kube::Client,
    paths: &Paths,
    cluster: &Cluster,
    request: &Ask,
) -> anyhow::Result<String> {
    let observed = observe::observe(client).await?;
    let (all, problems) = administrators(configured(cluster), &observed)?;
    let change = match request {
        Ask::List => return Ok(table(&all, observed.published.as_ref(), &problems)),
        Ask::Add { name, key } => add(&all, &observed.record, name, key)?,
        Ask::Revoke { user } => json!({known(&all, user)?: REVOKED}),
        Ask::Allow { user } => {
            ensure!(observed.record.contains_key(user), "{user} was not revoked");
            json!({user.as_str(): null})
        }
    };
    write(client, &change).await?;
    let pki = Pki { dir: paths.kubernetes.clone() };
    let read = |name: &str| {
        let path = pki.file(name);
        std::fs::read_to_string(&path)
            .with_context(|| format!("{}: cannot be read; run this as root", path.display()))
    };
    keep(client, &read("ca.crt")?, &read("ca.key")?, configured(cluster), SystemTime::now()).await?;
    Ok(match request {
        Ask::List => String::new(),
        Ask::Add { name, .. } => {
            format!("{name} is an administrator; the owner of the key now runs `sheaf admin kubeconfig`\n")
        }
        Ask::Revoke { user } => {
            let left = all.iter().filter(|one| !one.revoked && one.user != *user).count();
            format!(
                "{user} has no rights any more, and gets no further certificate. {left} administrators are left. What {user} \
                 made stays: look at ClusterRoleBindings, RoleBindings, Secrets of service accounts and certificate requests\n"
            )
        }
        Ask::Allow { user } => format!("{user} is an administrator again\n"),
    })
}

fn known<'a>(all: &[Administrator], user: &'a str) -> anyhow::Result<&'a str> {
    let is_known = all.iter().any(|one| one.user == user);
    ensure!(
        is_known,
        "no administrator is called {user}; `sheaf-agent administrators` shows those that there are"
    );
    Ok(user)
}

fn add(
    all: &[Administrator],
    record: &BTreeMap<String, String>,
    name: &str,
    key: &str,
) -> anyhow::Result<Value> {
    // The keys of a ConfigMap; a user name as a key is who was revoked.
    let fits = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    ensure!(fits, "{name:?} is no name for the list: letters, digits, \"-\", \".\" and \"_\", 63 at most");
    ensure!(
        name != NODE_TOML && !name.starts_with("sheaf-admin-"),
        "{name} cannot be chosen: names of users begin with sheaf-admin-, and {NODE_TOML} is where other keys are"
    );
    ensure!(!record.contains_key(name), "{name} is in the list already: choose another name");
    let fresh: BTreeMap<String, String> = [(name.to_owned(), key.to_owned())].into();
    let (new, _) = administrators(None, &Observed { record: fresh, ..Observed::default() })?;
    let Some(new) = new.first() else {
        bail!("this is not a public key in PEM; give the admin.pub that `sheaf admin new DIR` made");
    };
    if let Some(there) = all.iter().find(|one| one.user == new.user) {
        let state = if there.revoked { "was revoked" } else { "is an administrator already" };
        bail!("the owner of this key, {} ({}), {state}", there.user, there.origin);
    }
    Ok(json!({name: key}))
}

async fn write(client: &kube::Client, data: &Value) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let entry = json!({"metadata": {"name": RECORD, "namespace": "kube-system"}, "data": data});
    match maps.patch(RECORD, &PatchParams::default(), &Patch::Merge(&entry)).await {
        Err(error) if is_status(&error, 404) => {
            maps.create(&PostParams::default(), &serde_json::from_value(entry)?).await.map(drop)
        }
        answer => answer.map(drop),
    }
    .with_context(|| format!("writing ConfigMap kube-system/{RECORD}"))
}

fn table(all: &[Administrator], published: Option<&BTreeMap<String, String>>, problems: &[String]) -> String {
    let mut rows = vec![["USER", "KEY FROM", "CERTIFICATE ENDS", "STATE"].map(str::to_owned)];
    for one in all {
        let certificate = published.and_then(|data| data.get(&one.entry()));
        let ends = certificate.and_then(|pem| keys::facts(pem).ok()).map(|facts| rfc3339(facts.not_after));
        let state = if one.revoked { plan::REVOKED } else { "administrator" };
        rows.push([one.user.clone(), one.origin.clone(), ends.unwrap_or_else(|| "-".into()), state.into()]);
    }
    let problems: String =
        problems.iter().map(|problem| format!("ConfigMap kube-system/{RECORD}: {problem}\n")).collect();
    columns(&rows) + &problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::keys::Key;

    #[test]
    fn a_name_or_key_that_cannot_be_added_is_refused_with_the_reason() {
        let key = || Key::generate().unwrap().public_pem().unwrap();
        let (alice, bob) = (key(), key());
        let record = BTreeMap::from([("bob".to_owned(), bob.clone())]);
        let observed = Observed { record: record.clone(), ..Observed::default() };
        let (all, _) = administrators(Some(std::slice::from_ref(&alice)), &observed).unwrap();
        let refused = |name: &str, key: &str| add(&all, &record, name, key).unwrap_err().to_string();
        let new = key();
        assert_eq!(
            refused("a b", &new),
            "\"a b\" is no name for the list: letters, digits, \"-\", \".\" and \"_\", 63 at most"
        );
        assert_eq!(
            refused("sheaf-admin-x", &new),
            "sheaf-admin-x cannot be chosen: names of users begin with sheaf-admin-, and node.toml is where other keys are"
        );
        assert_eq!(refused("bob", &new), "bob is in the list already: choose another name");
        assert_eq!(
            refused("carol", "ssh-ed25519 AAAA"),
            "this is not a public key in PEM; give the admin.pub that `sheaf admin new DIR` made"
        );
        assert_eq!(
            refused("carol", &alice),
            format!("the owner of this key, {} (node.toml), is an administrator already", all[0].user)
        );
        assert_eq!(add(&all, &record, "carol", &new).unwrap(), json!({"carol": new}));
        assert_eq!(
            known(&all, "sheaf-admin-0").unwrap_err().to_string(),
            "no administrator is called sheaf-admin-0; `sheaf-agent administrators` shows those that there are"
        );
        let shown = table(&all, None, &["x".into()]);
        let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], [&*all[0].user, "node.toml", "-", "administrator"]);
        assert_eq!(rows[2], [&*all[1].user, "bob", "-", "administrator"]);
        assert!(shown.ends_with("ConfigMap kube-system/sheaf-administrators: x\n"), "{shown}");
    }
}
