//! Removal of nodes on the real API server and scheduler: one that leaves by the agent's own code, one that is dead, one that stays.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sheaf_agent::cluster::Hosts;
use sheaf_agent::cluster::identity::{CLIENT, Store};
use sheaf_agent::cluster::kubeconfig::{self, Credentials};
use sheaf_agent::cluster::release::release_with;
use sheaf_agent::cluster::token::{self, Grant, Token};
use sheaf_agent::status::{Phase as Membership, Status};
use sheaf_api::{
    node_maintenance::NodeMaintenance,
    node_removal::{NodeRemoval, NodeRemovalStatus, Phase},
    storage::{BlockDevice, LocalVolume},
};
use sheaf_host::fakes::{FakeRun, FakeUnits};
use sheaf_tests::cluster::{AgentNode, RunningAgent, TOKEN};
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::evicted::{alive, bound, cordoned, create, powers_off, register, runs};
use std::sync::Arc;
use std::time::Duration;

const REMOVAL: &str = r"
apiVersion: sheaf.dev/v1alpha1
kind: NodeRemoval
metadata:
  name: n1
spec:
  nodeName: n1
  reason: sold
";

/// Longest wait for the agent; the machine is shared with other tests.
const TIMEOUT: Duration = Duration::from_secs(90);

async fn asked(on: &Controlled) -> Result<()> {
    let said = on.kubectl_with(&["apply"], REMOVAL)?;
    ensure!(said.contains("created"), "{said}");
    Ok(())
}

/// The status of the removal, once it is in `phase` and its message holds `words`.
async fn reaches(on: &Controlled, phase: Phase, words: &str) -> Result<NodeRemovalStatus> {
    let objects: Api<NodeRemoval> = Api::all(on.client.clone());
    wait(&format!("the removal is {phase:?}: {words}"), async || {
        let status = objects.get_opt("n1").await?.and_then(|object| object.status);
        let says = |status: &NodeRemovalStatus| status.message.as_deref().unwrap_or_default().contains(words);
        Ok(status.filter(|status| status.phase == Some(phase) && says(status)))
    })
    .await
}

async fn patched(on: &Controlled, spec: Value) -> Result<()> {
    let objects: Api<NodeRemoval> = Api::all(on.client.clone());
    objects.patch("n1", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await?;
    Ok(())
}

fn hosts() -> Hosts {
    Hosts { run: Arc::new(FakeRun::default()), units: Arc::new(FakeUnits::default()) }
}

async fn agent_says(agent: &RunningAgent, what: &str, holds: impl Fn(&Status) -> bool) -> Result<Status> {
    let mut status = agent.ctx.status.subscribe();
    let found = tokio::time::timeout(TIMEOUT, status.wait_for(|status| holds(status))).await;
    match found {
        Ok(found) => Ok(found?.clone()),
        Err(_) => {
            anyhow::bail!("no {what}; the status is {:#?}", agent.ctx.status.subscribe().borrow().cluster)
        }
    }
}

async fn new_token(on: &Controlled) -> Result<String> {
    let token = Token::generate()?;
    let grant = Grant { lifetime: token::LIFETIME, description: "a test", only_for: None };
    token::allow(&on.client, &token, grant).await?;
    Ok(token.reveal())
}

/// A client with the certificate that the node has now.
async fn client_of(on: &Controlled, node: &AgentNode) -> Result<Client> {
    let store = Store::of(&node.paths());
    let identity = store.load(CLIENT).context("it has a certificate")?;
    let credentials = Credentials::Certificate(&identity.certificate, &identity.key);
    kubeconfig::client(&on.plane.server, store.ca().as_deref(), credentials).await
}

/// A disk of n1, and a volume that only its agent would remove.
async fn things(on: &Controlled) -> Result<()> {
    let disk = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "BlockDevice", "metadata": {"name": "n1.serial-a"},
        "spec": {"nodeName": "n1", "identity": {"serial": "A"}}});
    Api::<BlockDevice>::all(on.client.clone())
        .create(&PostParams::default(), &serde_json::from_value(disk)?)
        .await?;
    let volume = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "LocalVolume",
        "metadata": {"name": "kept", "finalizers": ["sheaf.dev/local-volume"]},
        "spec": {"nodeName": "n1", "pool": "default", "sizeBytes": 1_073_741_824_u64, "source": {"blank": {}}}});
    Api::<LocalVolume>::all(on.client.clone())
        .create(&PostParams::default(), &serde_json::from_value(volume)?)
        .await?;
    Ok(())
}

/// Nothing of n1 is left.
async fn is_gone(on: &Controlled) -> Result<()> {
    let client = || on.client.clone();
    let of_node = ListParams::default().fields("spec.nodeName=n1");
    ensure!(Api::<Node>::all(client()).get_opt("n1").await?.is_none(), "the Node is there");
    ensure!(
        Api::<Lease>::namespaced(client(), "kube-node-lease").get_opt("n1").await?.is_none(),
        "its Lease is there"
    );
    ensure!(Api::<BlockDevice>::all(client()).list(&of_node).await?.items.is_empty(), "a disk is there");
    ensure!(Api::<LocalVolume>::all(client()).list(&of_node).await?.items.is_empty(), "a volume is there");
    ensure!(
        Api::<NodeMaintenance>::all(client()).get_opt("n1").await?.is_none(),
        "its NodeMaintenance is there"
    );
    let requests = Api::<CertificateSigningRequest>::all(client()).list(&ListParams::default()).await?;
    let own = requests.items.iter().any(|request| request.spec.username.as_deref() == Some("system:node:n1"));
    ensure!(!own, "a certificate request is there");
    let map = Api::<ConfigMap>::namespaced(client(), "sheaf-system").get("node-identities").await?;
    let entry = map.data.unwrap_or_default().remove("n1").unwrap_or_default();
    ensure!(entry == r#"{"removed":true}"#, "the record of names has {entry}");
    Ok(())
}

/// What the certificate of the removed node n1 can still do: each write is refused by the policy, and of reads none is left that is
/// about somebody else.
async fn can_do_nothing(client: Client) -> Result<()> {
    let made = PostParams::default();
    let node = json!({"metadata": {"name": "n1"}});
    let lease =
        json!({"metadata": {"name": "n1", "namespace": "kube-node-lease"}, "spec": {"holderIdentity": "n1"}});
    let disk = json!({"apiVersion": "sheaf.dev/v1alpha1", "kind": "BlockDevice", "metadata": {"name": "n1.serial-b"},
        "spec": {"nodeName": "n1", "identity": {"serial": "B"}}});
    let event = json!({"metadata": {"name": "e", "namespace": "default"}, "involvedObject": {"namespace": "default"}});
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let events: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(client.clone(), "default");
    let answers = [
        (
            "makes its Node again",
            Api::<Node>::all(client.clone()).create(&made, &serde_json::from_value(node)?).await.err(),
        ),
        ("makes its Lease again", leases.create(&made, &serde_json::from_value(lease)?).await.err()),
        (
            "shows a disk",
            Api::<BlockDevice>::all(client.clone()).create(&made, &serde_json::from_value(disk)?).await.err(),
        ),
        ("writes an Event", events.create(&made, &serde_json::from_value(event)?).await.err()),
    ];
    for (tried, answer) in answers {
        let answer = answer.with_context(|| format!("allowed: {tried}"))?.to_string();
        ensure!(answer.contains("node n1 was removed from the cluster"), "{tried}: {answer}");
        println!("| {tried} | policy `sheaf-node-removed` |");
    }
    let every = ListParams::default();
    let reads = [
        ("lists Secrets", Api::<Secret>::all(client.clone()).list(&every).await.err()),
        ("lists Pods", Api::<Pod>::all(client.clone()).list(&every).await.err()),
        ("reads another Node", Api::<Node>::all(client.clone()).get("n2").await.err()),
        ("lists every volume", Api::<LocalVolume>::all(client.clone()).list(&every).await.err()),
        ("lists every removal", Api::<NodeRemoval>::all(client.clone()).list(&every).await.err()),
    ];
    for (tried, answer) in reads {
        let answer = answer.with_context(|| format!("allowed: {tried}"))?;
        let code = if let kube::Error::Api(status) = &answer { status.code } else { 0 };
        ensure!(code == 403, "{tried}: {answer}");
        println!("| {tried} | 403 |");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_forgets_its_keys_nothing_of_it_is_left_and_its_certificate_is_of_no_use()
-> Result<()> {
    let on = Controlled::start().await?;
    let node = on.plane.joining("n1", "aaaa", TOKEN, &on.plane.ca_hash)?;
    let agent = node.start(hosts())?;
    agent_says(&agent, "ready node", |status| status.cluster.phase == Membership::Ready).await?;
    let thief = client_of(&on, &node).await?;
    create(&on, "web", "Always").await?;
    let web = bound(&on, "web", "n1").await?;
    runs(&on, &web).await?;
    let _n2 = alive(&on, "n2").await?;
    things(&on).await?;

    // What is lost is named, and nothing is touched before it is confirmed.
    asked(&on).await?;
    let status = reaches(&on, Phase::Blocked, "LocalVolume/kept").await?;
    let message = "LocalVolume/kept: is on n1 only (a volume of no claim, 1Gi) and is lost with it; copy it away (virtctl \
                   vmexport) and delete it, or add its name to spec.acceptLoss";
    ensure!(status.message.as_deref() == Some(message), "{status:?}");
    cordoned(&on, "n1", false).await?;
    let said = on.kubectl(&["get", "noderemovals"])?;
    ensure!(said.contains("Blocked") && said.contains("sold"), "{said}");
    patched(&on, json!({"acceptLoss": ["LocalVolume/kept"]})).await?;

    // The VM starts elsewhere, the node leaves.
    powers_off(&on, &web).await?;
    bound(&on, "web", "n2").await?;
    let left = agent_says(&agent, "node that left", |status| {
        status
            .cluster
            .problem
            .as_deref()
            .is_some_and(|problem| problem.contains("was removed from the cluster"))
    })
    .await?;
    let remedy = left.cluster.remedy.unwrap_or_default();
    ensure!(remedy.starts_with("install this machine again; or"), "{remedy}");
    ensure!(Store::of(&node.paths()).load(CLIENT).is_none(), "its certificate is still there");
    let status = reaches(&on, Phase::Removed, "its name is free").await?;
    ensure!(status.losses.iter().any(|loss| loss.name == "LocalVolume/kept"), "{status:?}");
    is_gone(&on).await?;
    can_do_nothing(thief).await?;

    // Another machine has the name only after it was released; the old object is no order for it.
    let again = on.plane.joining("n1", "bbbb", &new_token(&on).await?, &on.plane.ca_hash)?;
    let next = again.start(hosts())?;
    let refused = agent_says(&next, "refusal", |status| status.cluster.phase == Membership::Failed).await?;
    let problem = refused.cluster.problem.unwrap_or_default();
    ensure!(
        problem.contains("node n1 was removed from the cluster. For another machine of that name"),
        "{problem}"
    );
    release_with(&on.client, "n1").await?;
    agent_says(&next, "ready node", |status| status.cluster.phase == Membership::Ready).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_to_erase_itself_is_marked_and_restarts_when_it_has_left() -> Result<()> {
    let on = Controlled::start().await?;
    let node = on.plane.joining("n1", "aaaa", TOKEN, &on.plane.ca_hash)?;
    let paths = node.paths();
    std::fs::create_dir_all(&paths.run)?;
    std::fs::write(paths.boot_env(), "SLOT=a\nINSTALL_ID=6b1f7a3e-93c2-4d55-8f10-012345678900\n")?;
    let (install, partition) = sheaf_agent::reset::place(&paths)?;
    std::fs::create_dir_all(partition.parent().context("it is in a folder")?)?;
    std::fs::write(&partition, vec![0; 1 << 20])?;
    let units = Arc::new(FakeUnits::default());
    let agent = node.start(Hosts { run: Arc::new(FakeRun::default()), units: units.clone() })?;
    agent_says(&agent, "ready node", |status| status.cluster.phase == Membership::Ready).await?;
    ensure!(units.asked().iter().all(|asked| asked != "start reboot.target"), "{:?}", units.asked());

    let said =
        on.kubectl_with(&["apply"], &format!("{REMOVAL}  wipe: {{confirmNode: n1, pools: true}}\n"))?;
    ensure!(said.contains("created"), "{said}");
    let said = agent_says(&agent, "node that erases itself", |status| {
        status.cluster.problem.as_deref().is_some_and(|problem| problem.contains("and is being erased"))
    })
    .await?;
    ensure!(said.cluster.remedy.as_deref() == Some("wait for the restart of this machine"), "{said:?}");
    ensure!(units.asked().iter().any(|asked| asked == "start reboot.target"), "{:?}", units.asked());
    let mark = sheaf_agent::reset::asked(&paths)?.context("it is not marked")?;
    ensure!((mark.install, mark.node.as_str(), mark.pools) == (install, "n1", true) && mark.config.is_none());
    ensure!(Store::of(&paths).load(CLIENT).is_none(), "its certificate is still there");

    let refused =
        patched(&on, json!({"wipe": null})).await.err().context("wipe can be withdrawn")?.to_string();
    ensure!(
        refused.contains("wipe cannot be asked for, changed or withdrawn any more: the node is leaving"),
        "{refused}"
    );
    reaches(&on, Phase::Removed, "It erases itself; its screen shows when that is done").await?;
    is_gone(&on).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_removed_and_its_vm_starts_elsewhere_only_after_it_is_said_to_be_switched_off()
-> Result<()> {
    let on = Controlled::start().await?;
    register(&on, "n1").await?;
    create(&on, "web", "Always").await?;
    let web = bound(&on, "web", "n1").await?;
    runs(&on, &web).await?;
    let _n2 = alive(&on, "n2").await?;
    things(&on).await?;
    let silent = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown",
        "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    Api::<Node>::all(on.client.clone())
        .patch_status("n1", &PatchParams::default(), &Patch::Strategic(silent))
        .await?;

    asked(&on).await?;
    let status = reaches(&on, Phase::Blocked, "and may still run its VMs").await?;
    ensure!(status.blockers.len() == 2, "{status:?}");
    patched(&on, json!({"acceptLoss": ["LocalVolume/kept"]})).await?;
    wait("what was confirmed is no blocker", async || {
        let objects: Api<NodeRemoval> = Api::all(on.client.clone());
        let status = objects.get("n1").await?.status.unwrap_or_default();
        Ok((status.blockers.len() == 1).then_some(()))
    })
    .await?;
    let pod = on.here::<Pod>().get(&web).await?;
    ensure!(pod.metadata.deletion_timestamp.is_none(), "its VM counts as ended");

    patched(&on, json!({"poweredOff": true})).await?;
    bound(&on, "web", "n2").await?;
    reaches(&on, Phase::Removed, "its name is free").await?;
    is_gone(&on).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_is_blocked_touches_no_vm_and_leaves_the_node_as_it_was_when_it_is_deleted()
-> Result<()> {
    let on = Controlled::start().await?;
    let _n1 = alive(&on, "n1").await?;
    create(&on, "once", "Once").await?;
    let once = bound(&on, "once", "n1").await?;
    // So that the image of n1 is on another node, too.
    let _n2 = alive(&on, "n2").await?;
    runs(&on, &once).await?;
    let refused = on.kubectl_with(&["create", "--dry-run=server", "--as=somebody"], REMOVAL)?;
    ensure!(refused.contains("cannot create resource \"noderemovals\""), "{refused}");
    asked(&on).await?;
    reaches(&on, Phase::Blocked, "VM default/once: its runStrategy Once does not start it again").await?;
    cordoned(&on, "n1", true).await?;
    let said = on.kubectl(&["delete", "noderemoval", "n1", "--timeout=60s"])?;
    ensure!(said.contains("deleted"), "{said}");
    cordoned(&on, "n1", false).await?;
    let maintenances: Api<NodeMaintenance> = Api::all(on.client.clone());
    ensure!(maintenances.get_opt("n1").await?.is_none(), "the NodeMaintenance is still there");
    let pod = on.here::<Pod>().get(&once).await?;
    ensure!(pod.metadata.deletion_timestamp.is_none(), "the VM was stopped");
    Ok(())
}
