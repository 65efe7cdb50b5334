//! Sessions under failures: fifty consoles and a leader that is killed; an agent that is killed while it has a console and a
//! frozen guest.
//!
//! Why here: kube-apiserver chooses the replica of a session and carries its bytes, so only the real one shows what a client sees
//! of a loss. Node and libvirt are played; each guest's serial port repeats what is typed. What a killed agent leaves of an
//! upload and of a download is in `upload.rs` and `export.rs`.

use anyhow::{Context as _, Result, ensure};
use futures::future::{join_all, try_join_all};
use futures::{SinkExt as _, StreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use sheaf_api::{VirtualMachine, VirtualMachineInstance};
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::played::{PlayedNode, act, cluster, vm};
use sheaf_tests::stream::{self, Stream};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// Consoles that are open at once.
const CONSOLES: usize = 50;
/// Longest time until a client sees the end of its session, and until it has a new one.
const SOON: Duration = Duration::from_secs(10);
/// Between two attempts of a client.
const RETRY: Duration = Duration::from_millis(200);

/// What became of a session.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The guest repeated what was typed.
    Repeated,
    /// The connection broke, or was closed with this code.
    Ended(Option<u16>),
    /// Nothing came.
    Silence,
}

/// An open console, as virtctl has one.
struct Console(Stream);

impl Console {
    /// Asks the aggregated API for it.
    async fn open(on: &Controlled, vm: &str) -> Result<Self> {
        Ok(Self(stream::open(&on.client, vm, "console").await?))
    }

    /// [`Console::open`] again until there is one, until `end`.
    async fn open_until(on: &Controlled, vm: &str, end: Instant) -> Result<Self> {
        loop {
            match Self::open(on, vm).await {
                Ok(console) => return Ok(console),
                Err(error) => ensure!(Instant::now() < end, "not within {SOON:?}: {error:#}"),
            }
            tokio::time::sleep(RETRY).await; // the next attempt
        }
    }

    /// Types `text`, and says what came of it.
    async fn types(&mut self, text: &str) -> Answer {
        // A connection that broke says so when it is read, too.
        let _ = self.0.send(Message::Binary(Bytes::copy_from_slice(text.as_bytes()))).await;
        self.reads(text).await
    }

    /// Reads until the guest has written `text`, or the session ends.
    async fn reads(&mut self, text: &str) -> Answer {
        let mut seen = Vec::new();
        let read = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Binary(bytes))) => seen.extend_from_slice(&bytes),
                    Some(Ok(Message::Close(frame))) => {
                        return Answer::Ended(frame.map(|frame| u16::from(frame.code)));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Answer::Ended(None),
                }
                if !text.is_empty() && seen.ends_with(text.as_bytes()) {
                    return Answer::Repeated;
                }
            }
        };
        tokio::time::timeout(SOON, read).await.unwrap_or(Answer::Silence)
    }
}

/// A guest whose serial port repeats what is typed, to one client after the other.
async fn repeats(serial: UnixListener) {
    while let Ok((mut client, _)) = serial.accept().await {
        let (mut read, mut write) = client.split();
        // A client that goes is no failure.
        let _ = tokio::io::copy(&mut read, &mut write).await;
    }
}

/// VMs that run and are typed into, by name; the UIDs of their instances.
async fn running(on: &Controlled, node: &PlayedNode, count: usize) -> Result<BTreeMap<String, String>> {
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    let start = async |name: String| -> Result<(String, String)> {
        let mut vm = vm(&name, "Always")?;
        vm.spec.template.spec.domain.resources = serde_json::from_value(json!({"requests": {"cpu": "10m"}}))?;
        machines.create(&PostParams::default(), &vm).await?;
        let (vmi, serial) = node.run(on, &name, "").await?;
        tokio::spawn(repeats(serial));
        Ok((name, vmi.metadata.uid.context("a UID")?))
    };
    let all = (0..count).map(|number| start(format!("vm{number}")));
    Ok(try_join_all(all).await?.into_iter().collect())
}

/// Instances that run, with their UIDs.
async fn instances(on: &Controlled) -> Result<BTreeMap<String, String>> {
    let instances: Api<VirtualMachineInstance> = Api::default_namespaced(on.client.clone());
    let all = instances.list(&ListParams::default()).await?.items.into_iter();
    let runs = |vmi: &VirtualMachineInstance| {
        let phase = vmi.status.as_ref().and_then(|status| status.phase);
        phase == Some(sheaf_api::status::Phase::Running) && vmi.metadata.deletion_timestamp.is_none()
    };
    Ok(all.filter(runs).filter_map(|vmi| vmi.metadata.name.zip(vmi.metadata.uid)).collect())
}

/// Who leads.
async fn leader(on: &Controlled) -> kube::Result<Option<String>> {
    let leases: Api<Lease> = Api::namespaced(on.client.clone(), "sheaf-system");
    Ok(leases.get("sheaf-controller").await?.spec.and_then(|spec| spec.holder_identity))
}

/// Connections that are established with `address`, `ADDRESS:PORT`, of this machine.
fn connections(address: &str) -> Result<usize> {
    let port: u16 = address.rsplit(':').next().context("a port")?.parse()?;
    let local = format!(":{port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
    let lines = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    // Local address, remote address, state: 01 is ESTABLISHED.
    let is = |line: &&str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.get(1).is_some_and(|word| word.ends_with(&local)) && words.get(3) == Some(&"01")
    };
    Ok(lines.filter(is).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_consoles_those_through_a_killed_leader_end_and_open_again_and_no_vm_changes() -> Result<()>
{
    let on = cluster().await?;
    let node = PlayedNode::start(&on).await?;
    let dead = on.replicas().await?.pop().context("the leader listens")?;
    let _other = on.replica()?;
    wait("there are two endpoints", async || Ok((on.replicas().await?.len() == 2).then_some(()))).await?;
    let before = running(&on, &node, CONSOLES).await?;
    let names: Vec<&String> = before.keys().collect();
    let opened = names.iter().map(|name| Console::open(&on, name));
    let mut consoles = try_join_all(opened).await?;
    let typed = join_all(consoles.iter_mut().map(|console| console.types("before\n"))).await;
    ensure!(typed.iter().all(|answer| *answer == Answer::Repeated), "{typed:?}");
    let (led, through_dead) = (leader(&on).await?, connections(&dead)?);

    on.kill_controller();
    let killed = Instant::now();
    let typed = join_all(consoles.iter_mut().map(|console| console.types("after\n"))).await;
    let ended = typed.iter().filter(|answer| matches!(answer, Answer::Ended(_))).count();
    println!("{ended} of {CONSOLES} sessions ended; {through_dead} connections were the leader's");
    // Both replicas had some, and only those of the dead one ended.
    ensure!((1..CONSOLES).contains(&ended) && ended <= through_dead, "{ended} of {through_dead}: {typed:?}");
    // A client tells the loss from the end of its VM, which is a normal close, and from silence.
    let known = |answer: &Answer| {
        matches!(answer, Answer::Repeated | Answer::Ended(None)) || *answer == Answer::Ended(Some(1006))
    };
    ensure!(typed.iter().all(known), "{typed:?}");
    let again = names.iter().zip(&typed).filter(|(_, answer)| matches!(answer, Answer::Ended(_)));
    let opened = again.map(|(name, _)| Console::open_until(&on, name, killed + SOON));
    let mut opened = try_join_all(opened).await?;
    println!("all are open again after {:?}", killed.elapsed());
    let typed = join_all(opened.iter_mut().map(|console| console.types("again\n"))).await;
    ensure!(typed.iter().all(|answer| *answer == Answer::Repeated), "{typed:?}");

    ensure!(instances(&on).await? == before, "an instance changed");
    wait("the other replica leads", async || {
        // Who reads nothing for 45 s answers no ping, and is taken for gone.
        join_all(consoles.iter_mut().map(|console| console.types("still\n"))).await;
        Ok(leader(&on).await?.filter(|now| Some(now) != led.as_ref()))
    })
    .await?;
    let typed = join_all(consoles.iter_mut().map(|console| console.types("later\n"))).await;
    let repeated = typed.iter().filter(|answer| **answer == Answer::Repeated).count();
    ensure!(repeated == CONSOLES - ended, "{repeated} of {} sessions go on", CONSOLES - ended);
    ensure!(instances(&on).await? == before, "an instance changed");
    ensure!(node.vms.running().len() == CONSOLES && node.vms.asked().is_empty(), "{:?}", node.vms.asked());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_ends_its_sessions_and_the_next_one_thaws_the_guest_and_opens_consoles() -> Result<()>
{
    let on = cluster().await?;
    let mut node = PlayedNode::start(&on).await?;
    let before = running(&on, &node, 1).await?;
    let uuid = node.vms.running().first().context("it runs")?.uuid.clone();
    let mut console = Console::open(&on, "vm0").await?;
    ensure!(console.types("before\n").await == Answer::Repeated);
    let freeze = "virtualmachineinstances/vm0/freeze";
    ensure!(act(&on, freeze, r#"{"unfreezeTimeout":"20s"}"#).await?.0 == 200);

    node.kill();
    let last = console.reads("").await;
    ensure!(last == Answer::Ended(None), "{last:?}");
    ensure!(node.vms.running().len() == 1 && node.vms.asked() == [format!("freeze {uuid}")]);
    let (code, said) = act(&on, "virtualmachineinstances/vm0/unfreeze", "{}").await?;
    ensure!(code == 500 && said.contains("node n1"), "{code} {said}");

    node.again(&on).await?;
    wait("the next agent thaws the guest", async || {
        Ok(node.vms.asked().iter().any(|asked| *asked == format!("thaw {uuid}")).then_some(()))
    })
    .await?;
    let mut console = Console::open_until(&on, "vm0", Instant::now() + SOON).await?;
    ensure!(console.types("again\n").await == Answer::Repeated);
    ensure!(instances(&on).await? == before && node.vms.running().len() == 1, "the VM changed");
    Ok(())
}
