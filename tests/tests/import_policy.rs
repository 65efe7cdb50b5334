//! Who says which servers images come from, on the real API server: the controller what is the cluster's own, an
//! administrator the rest, nodes and tenants nothing.
//!
//! Route in: a control plane with a controller. Route out: the ImportPolicy `default`, and what is refused.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use sheaf_api::import_policy::{IMPORT_POLICY, ImportPolicy};
use sheaf_tests::controlled::{Controlled, wait};

#[tokio::test(flavor = "multi_thread")]
async fn the_clusters_own_addresses_are_protected_and_the_rules_are_an_administrators_alone() -> Result<()> {
    let bench = Controlled::start().await?;
    let nodes: Api<Node> = Api::all(bench.client.clone());
    let node = serde_json::from_value(json!({"metadata": {"name": "n1"}}))?;
    nodes.create(&PostParams::default(), &node).await?;
    let addresses = json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.77"}]}});
    nodes.patch_status("n1", &PatchParams::default(), &Patch::Merge(&addresses)).await?;

    let policies: Api<ImportPolicy> = Api::all(bench.client.clone());
    let protected = async |what: &str| {
        wait(&format!("{what} is protected"), async || {
            let policy = policies.get_opt(IMPORT_POLICY).await?;
            let all = policy.and_then(|policy| policy.status).unwrap_or_default().protected;
            Ok(all.into_iter().find(|one| one.what == what).map(|one| one.cidr))
        })
        .await
    };
    ensure!(protected("node n1").await? == "192.0.2.77/32");
    ensure!(protected("Services").await?.contains('/'));
    ensure!(protected("the API server").await?.ends_with("/32"));

    let change = |who: &[&str], sub: &[&str]| {
        let patch = r#"--patch={"spec":{"allow":[{"cidrs":["127.0.0.0/8"]}]},"status":{"protected":[]}}"#;
        let words = ["patch", "importpolicy", IMPORT_POLICY, "--type=merge", patch];
        bench.kubectl(&[&words[..], who, sub].concat())
    };
    let as_node = ["--as=system:node:n1", "--as-group=system:nodes", "--as-group=system:authenticated"];
    bench.kubectl(&[
        "create",
        "rolebinding",
        "tenant",
        "--clusterrole=edit",
        "--user=tenant",
        "-n",
        "default",
    ])?;
    for who in [&as_node[..], &["--as=tenant"]] {
        for sub in [&[][..], &["--subresource=status"]] {
            let said = change(who, sub)?;
            ensure!(said.contains("is forbidden") || said.contains("Forbidden"), "{who:?} {sub:?}: {said}");
        }
    }
    let read = bench.kubectl(&[&["get", "importpolicy", IMPORT_POLICY][..], &as_node].concat())?;
    ensure!(read.contains(IMPORT_POLICY) && !read.contains("orbidden"), "{read}");

    // An administrator's rules stay what they are.
    let said = change(&[], &[])?;
    ensure!(said.contains("patched"), "{said}");
    bench.kubectl(&[
        "patch",
        "node",
        "n1",
        "--subresource=status",
        "--type=merge",
        r#"--patch={"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.78"}]}}"#,
    ])?;
    wait("the new address is protected", async || {
        let policy = policies.get(IMPORT_POLICY).await?;
        let all = policy.status.clone().unwrap_or_default().protected;
        Ok(all.iter().any(|one| one.cidr == "192.0.2.78/32").then_some(policy))
    })
    .await
    .and_then(|policy| {
        ensure!(policy.spec.allow.len() == 1, "{:?}", policy.spec);
        Ok(())
    })
}
