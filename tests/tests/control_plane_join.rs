//! A control-plane node that joins with something wrong: a slip in the key, a worker's token, keys that somebody changed or fetched.
//!
//! Why here: the keys of the cluster travel through the API server, where who may write Secrets of kube-system can change them; only
//! there is a token used up. Nothing that is refused may leave a member of etcd or a key behind, and what a person corrects must
//! then join. Route in: machines in network namespaces, the agent's own code. Route out: what each reports, and etcd's members.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use sheaf_agent::cluster::planes::{invite, parcel};
use sheaf_agent::cluster::token::{self, Grant, LIFETIME, Token};
use sheaf_agent::etcd::program::{self, Etcd};
use sheaf_tests::planes::{Network, Plane, first};

/// Decrypts nothing.
const WRONG_KEY: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Why a key, or keys, are refused.
const NOT_DECRYPTED: &str = "certificate-key does not decrypt the keys of the cluster";
/// What helps against all of this.
const REMEDY: &str = "run `sheaf-agent token create --control-plane` on a control-plane node, write token and certificate-key into \
                      node.toml and restart the agent";

/// The value of a line `NAME = "VALUE"` of a table.
fn value<'a>(table: &'a str, name: &str) -> Result<&'a str> {
    let line =
        table.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"'));
    line.with_context(|| format!("{name} is missing in {table}"))
}

/// Starts the agent with this table; what it says of its control plane, and that nothing of it is there.
async fn refused(joins: &mut Plane, table: &str, by: &Plane) -> Result<String> {
    joins.kill_agent();
    let text = format!("version = 1\n[system]\nhostname = \"{}\"\n{table}", joins.name());
    std::fs::write(joins.paths().node_toml, text)?;
    joins.start()?;
    let plane = joins.refusal("is not refused").await?;
    ensure!(plane.step == "receiving the keys of the cluster", "{plane:?}");
    ensure!(plane.remedy.as_deref() == Some(REMEDY), "{plane:?}");
    ensure!(!joins.paths().kubernetes.join("pki").exists(), "keys were kept that were refused");
    ensure!(members(by)? == 1, "a node without keys is a member of etcd");
    plane.problem.context("it has a problem")
}

fn members(of: &Plane) -> Result<usize> {
    Ok(program::members(&of.hosts.run.run(&Etcd::of(&of.paths()).members())?.text())?.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_the_right_key_or_with_keys_that_were_changed_is_no_member_and_joins_once_it_is_corrected()
-> Result<()> {
    let network = Network::make()?;
    let a = first(&network).await?;
    let _approver = a.approver().await?;
    let admin = a.admin().await?;

    let table = invite::create(&a.paths(), &*a.hosts.run, LIFETIME, None).await?;
    let mut b = Plane::new(&network, "b", &table)?;
    let slip = table.replace(value(&table, "certificate-key")?, WRONG_KEY);
    let problem = refused(&mut b, &slip, &a).await?;
    ensure!(problem == NOT_DECRYPTED, "{problem}");

    // Somebody who may write Secrets of kube-system changes the keys, or cuts them.
    let id = value(&table, "token")?.split('.').next().context("a token has an id")?;
    let (secrets, name) = (Api::<Secret>::namespaced(admin.clone(), "kube-system"), parcel::name(id));
    let sealed = secrets.get(&name).await?.data.context("it has data")?;
    let (key, whole) = sealed.first_key_value().context("it has keys")?;
    let put = async |bytes: Vec<u8>| -> Result<()> {
        let patch = Patch::Merge(json!({"data": {key: ByteString(bytes)}}));
        secrets.patch(&name, &PatchParams::default(), &patch).await?;
        Ok(())
    };
    let mut changed = whole.0.clone();
    changed[100] ^= 1;
    for (bytes, expected) in
        [(changed, NOT_DECRYPTED), (whole.0[..5].to_vec(), "the keys of the cluster were cut")]
    {
        put(bytes).await?;
        let problem = refused(&mut b, &table, &a).await?;
        ensure!(problem == expected, "{problem}");
    }
    // What was sealed for another token does not open either.
    let other = invite::create(&a.paths(), &*a.hosts.run, LIFETIME, None).await?;
    let other_id = value(&other, "token")?.split('.').next().context("a token has an id")?;
    let foreign = secrets.get(&parcel::name(other_id)).await?.data.unwrap_or_default();
    put(foreign.get(key).context("it has keys")?.0.clone()).await?;
    let mixed = table.replace(value(&table, "certificate-key")?, value(&other, "certificate-key")?);
    let problem = refused(&mut b, &mixed, &a).await?;
    ensure!(problem == NOT_DECRYPTED, "{problem}");

    // A worker's token brings no keys, whatever is written beside it.
    let token = Token::generate()?;
    let grant = Grant { lifetime: LIFETIME, description: "a test", only_for: None };
    token::allow(&admin, &token, grant).await?;
    let revealed = token.reveal();
    let workers = table
        .replace(value(&table, "token")?, &revealed)
        .replace(value(&table, "certificate-key")?, WRONG_KEY);
    let mut c = Plane::new(&network, "c", &workers)?;
    let problem = refused(&mut c, &workers, &a).await?;
    let expected = |id: &str| {
        format!("token {id}.*** brings no keys: it is for a worker, or its keys were fetched before")
    };
    ensure!(problem == expected(&token.id), "{problem}");

    // What was corrected joins, by the token that was refused before.
    put(whole.0.clone()).await?;
    b.kill_agent();
    std::fs::write(b.paths().node_toml, format!("version = 1\n[system]\nhostname = \"b\"\n{table}"))?;
    b.start()?;
    b.up().await?;
    ensure!(members(&a)? == 2, "b is not a member of etcd");

    // Its keys were fetched: another machine with the same table gets none.
    c.kill_agent();
    std::fs::write(c.paths().node_toml, format!("version = 1\n[system]\nhostname = \"c\"\n{table}"))?;
    c.start()?;
    let problem = c.refusal("is not refused").await?.problem.unwrap_or_default();
    ensure!(
        problem == expected(id) || problem == format!("token {id}.*** was used or has expired"),
        "{problem}"
    );
    ensure!(members(&a)? == 2, "c is a member of etcd by the token of b");
    Ok(())
}
