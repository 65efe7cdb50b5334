//! What administrators do with control-plane nodes: invite one, list the members, remove one.
//!
//! Why here: all three run on a control-plane node, as root, beside the agent; [`super::demotions`] removes one for a NodeRemoval.
//! Route in: arguments. Route out: what to tell the administrator; a token with its parcel; an etcd without the member.

use super::member;
use super::parcel::{self, CertificateKey, Parcel};
use crate::cluster::create::objects;
use crate::cluster::token::{self, Grant, LIFETIME, Token};
use crate::cluster::{is_status, kubeconfig, servers};
use crate::encryption::keys::Ring;
use crate::etcd::keys::Keys;
use crate::etcd::program::{self, Etcd, Health, Member};
use crate::paths::Paths;
use crate::reconcile::blocking;
use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use sheaf_api::names::CONTROL_PLANE_ROLE_LABEL;
use sheaf_config::pin::CaPin;
use sheaf_host::run::Run;
use std::sync::Arc;
use std::time::Duration;

/// Makes a token for one control-plane node, and returns what that node's node.toml needs, ready to paste.
pub async fn create(
    paths: &Paths,
    run: &dyn Run,
    lifetime: Duration,
    only_for: Option<&str>,
) -> anyhow::Result<String> {
    ensure!(
        lifetime <= LIFETIME,
        "--control-plane: such a token is valid for 1 hour at most, since it brings the keys of the cluster; leave --hours out"
    );
    // Its API server would not know a key that is added, or taken out of use, from now on.
    let is_changing = Ring::load(paths)?.is_some_and(|ring| ring.keys.len() > 1);
    ensure!(
        !is_changing,
        "the keys of Secrets are being changed; run this again when `sheaf-agent encryption rotate` has ended"
    );
    let admin = token::administrator(paths).await?;
    let env = paths.run.join("control-plane.env");
    let text = std::fs::read_to_string(&env).with_context(|| format!("{}: cannot be read", env.display()))?;
    let value = |name: &str| {
        let found =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
        found.with_context(|| format!("{}: {name} is missing; restart the agent", env.display()))
    };
    let address = value("SHEAF_ADDRESS")?.parse().context("SHEAF_ADDRESS is not an address")?;
    // The new member reaches this one by it.
    member::announce(paths, run, address).context("telling etcd the address of this node")?;
    let parcel = Parcel { keys: Keys::collect(paths)?, service_cidr: value("SHEAF_SERVICE_CIDR")? };
    let (token, key) = (Token::generate()?, CertificateKey::generate()?);
    let description = "Made by sheaf-agent token create --control-plane";
    token::allow(&admin, &token, Grant { lifetime, description, only_for }).await?;
    parcel::send(&admin, &token, &key, &parcel)
        .await
        .context("storing the keys of the cluster for the new node")?;
    let file = paths.kubernetes.join("super-admin.conf");
    let (_, own) = kubeconfig::certificate_and_server(&file).context("super-admin.conf names no server")?;
    let vips = servers::published_vips(&admin).await?;
    // Every control-plane node may have it.
    let vip = match vips.as_slice() {
        [vip] => format!("vip = \"{vip}\"\n"),
        _ => String::new(),
    };
    let server = sheaf_api::join_token::server(&vips, own);
    let ca =
        std::fs::read_to_string(paths.kubernetes.join("pki/ca.crt")).context("pki/ca.crt: cannot be read")?;
    let (pin, token, key) = (CaPin::of_certificate(&ca)?, token.reveal(), key.reveal());
    Ok(format!(
        "[cluster]\nmode = \"join\"\nrole = \"control-plane\"\nserver = \"{server}\"\ntoken = \"{token}\"\ncertificate-key = \
         \"{key}\"\nca-hash = \"{pin}\"\n{vip}"
    ))
}

/// The members with what they answer.
fn members(paths: &Paths, run: &dyn Run) -> anyhow::Result<Vec<(Member, Option<Health>)>> {
    let listed = run.run(&Etcd::of(paths).members()).context(
        "etcd cannot list its members: half of them or more may be down; read `journalctl -u etcd`",
    )?;
    let listed = program::members(&listed.text())?;
    let asked = listed.into_iter().map(|member| {
        let health = (!member.clients.is_empty())
            .then(|| run.run(&Etcd::others(paths, member.clients.clone()).status()).ok())
            .flatten();
        (member, health.and_then(|output| Health::parse(&output.text()).ok()))
    });
    Ok(asked.collect())
}

/// The members of etcd in columns.
pub fn list(paths: &Paths, run: &dyn Run) -> anyhow::Result<String> {
    Ok(table(&members(paths, run)?))
}

fn table(members: &[(Member, Option<Health>)]) -> String {
    let mut text = format!("{:<20} {:<17} {:<8} {:<8} PEERS\n", "NAME", "ID", "VOTES", "ANSWERS");
    for (member, health) in members {
        let name = if member.name.is_empty() { "(never started)" } else { &member.name };
        let votes = if member.is_learner { "no" } else { "yes" };
        let answers = if health.is_some() { "yes" } else { "no" };
        text +=
            &format!("{name:<20} {:<17x} {votes:<8} {answers:<8} {}\n", member.id, member.peers.join(" "));
    }
    text
}

/// Takes the member `name` (or its number) out of etcd, unless the others could then not decide; how many with a vote are left.
fn take_out(paths: &Paths, run: &dyn Run, name: &str) -> anyhow::Result<(Member, usize)> {
    let listed = members(paths, run)?;
    let all: Vec<Member> = listed.iter().map(|(member, _)| member.clone()).collect();
    let answers =
        |member: &Member| listed.iter().any(|(other, health)| other.id == member.id && health.is_some());
    let member = member::removable(&all, name, answers)?;
    run.run(&Etcd::of(paths).remove(member.id))
        .with_context(|| format!("removing {} from etcd", member.shown()))?;
    let left = all.iter().filter(|other| !other.is_learner && other.id != member.id).count();
    Ok((member.clone(), left))
}

/// What else of the control plane names the node `name`: the list of API servers, the control plane's addresses, its role.
async fn take_role(admin: &kube::Client, name: &str) -> anyhow::Result<()> {
    servers::withdraw(admin, name).await.context("removing it from the list of API servers")?;
    objects::forget(admin, name).await.context("removing its addresses from the control plane's")?;
    let patch = serde_json::json!({"metadata": {"labels": {CONTROL_PLANE_ROLE_LABEL: null}}});
    let nodes: Api<Node> = Api::all(admin.clone());
    match nodes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(error) if !is_status(&error, 404) => Err(error).context("taking the role from its Node"),
        _ => Ok(()),
    }
}

/// The same for the node `name`, as often as it takes: a member that is gone already is no error.
pub async fn demote(
    paths: &Paths,
    run: &Arc<dyn Run>,
    admin: &kube::Client,
    name: &str,
) -> anyhow::Result<()> {
    let (of, run, node) = (paths.clone(), run.clone(), name.to_owned());
    blocking(move || if_member(&of, &*run, &node)).await?;
    take_role(admin, name).await
}

/// Takes the member of the node `name` out of etcd, if it has one. By name only: a member's number may be what another node is called.
fn if_member(paths: &Paths, run: &dyn Run, name: &str) -> anyhow::Result<()> {
    let listed = members(paths, run)?;
    if listed.iter().any(|(member, _)| member.name == name) {
        return take_out(paths, run, name).map(drop);
    }
    // One that never started, or was restored and did not start since, may be that node's.
    let unknown = listed.iter().find(|(member, _)| member.name.is_empty() || member.name == program::MEMBER);
    match unknown {
        Some((member, _)) => bail!(
            "etcd has no member {name}, and one whose node is not known: {}. Start etcd there, or run `sheaf-agent etcd remove {:x}`",
            member.shown(),
            member.id
        ),
        None => Ok(()),
    }
}

/// Takes the member `name` (or its number) out of etcd, unless the others could then not decide. What to tell the administrator.
pub async fn remove(paths: &Paths, run: &dyn Run, name: &str) -> anyhow::Result<String> {
    let (member, left) = take_out(paths, run, name)?;
    if !member.name.is_empty() {
        take_role(&token::administrator(paths).await?, &member.name).await?;
    }
    let even =
        if left % 2 == 0 { ", an even number: add a control-plane node, or remove another" } else { "" };
    Ok(format!(
        "{} is no longer a member of etcd; {left} with a vote are left{even}. Keep that machine switched off, or install it again: it \
         still holds the keys of the cluster. A NodeRemoval takes its Node and what is left of it away.",
        member.shown()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::fakes::FakeRun;
    use sheaf_host::run::Command;

    #[test]
    fn members_are_listed_in_columns() {
        let of = |id, name: &str, is_learner| Member {
            id,
            name: name.into(),
            is_learner,
            peers: vec![format!("https://192.0.2.1{id}:2380")],
            ..Member::default()
        };
        assert_eq!(
            table(&[(of(1, "n1", false), Some(Health::default())), (of(2, "", true), None)]),
            "NAME                 ID                VOTES    ANSWERS  PEERS\n\
             n1                   1                 yes      yes      https://192.0.2.11:2380\n\
             (never started)      2                 no       no       https://192.0.2.12:2380\n"
        );
    }

    /// An etcd of these members, all of which answer.
    fn etcd(members: &str) -> FakeRun {
        let status = r#"[{"Status":{"header":{"cluster_id":1,"member_id":1,"revision":8},"leader":1,"version":"3.7.0","dbSize":1,"dbSizeInUse":1}}]"#;
        let members = format!(r#"{{"members":[{members}]}}"#);
        let prints = |words: &'static str, text: String| {
            move |command: &Command| command.to_string().contains(words).then(|| text.clone())
        };
        FakeRun::default()
            .answers(prints("member list", members))
            .answers(prints("endpoint status", status.into()))
    }

    fn member(id: u64, name: &str) -> String {
        format!(
            r#"{{"ID":{id},"name":"{name}","peerURLs":["https://192.0.2.1{id}:2380"],"clientURLs":["https://192.0.2.1{id}:2379"]}}"#
        )
    }

    fn removed(run: &FakeRun) -> Vec<String> {
        let last = |asked: String| asked.split(" member ").last().unwrap_or_default().to_owned();
        run.asked().into_iter().filter(|asked| asked.contains(" member remove ")).map(last).collect()
    }

    #[test]
    fn a_node_that_is_demoted_loses_its_member_by_name_and_one_that_has_none_any_more_is_no_error() {
        let paths = Paths::under(std::path::Path::new("/nowhere"));
        let three = [member(1, "n1"), member(2, "n2"), member(3, "n3")].join(",");
        let run = etcd(&three);
        if_member(&paths, &run, "n2").unwrap();
        assert_eq!(removed(&run), ["remove 2"]);
        // "3" is the number of n3, and a node that has no member.
        let run = etcd(&three);
        if_member(&paths, &run, "3").unwrap();
        assert!(removed(&run).is_empty());
        let run = etcd(&member(1, "n1"));
        assert_eq!(
            if_member(&paths, &run, "n1").unwrap_err().to_string(),
            "n1 is the only member of etcd: without it there is no cluster"
        );
        assert!(removed(&run).is_empty());
    }

    #[test]
    fn a_member_whose_node_is_not_known_may_be_that_of_the_node_that_is_demoted() {
        let paths = Paths::under(std::path::Path::new("/nowhere"));
        for name in ["", "default"] {
            let run = etcd(&[member(1, "n1"), member(2, name)].join(","));
            let error = if_member(&paths, &run, "n2").unwrap_err().to_string();
            assert!(
                error.starts_with("etcd has no member n2, and one whose node is not known: ")
                    && error.ends_with(". Start etcd there, or run `sheaf-agent etcd remove 2`"),
                "{error}"
            );
            assert!(removed(&run).is_empty());
        }
    }

    #[tokio::test]
    async fn a_token_with_the_keys_of_the_cluster_is_refused_for_longer_than_an_hour() {
        let paths = Paths::under(std::path::Path::new("/nowhere"));
        let run = FakeRun::default();
        let error = create(&paths, &run, LIFETIME * 2, None).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "--control-plane: such a token is valid for 1 hour at most, since it brings the keys of the cluster; leave --hours out"
        );
    }
}
