//! Fail-over of the control plane: three machines, of which one is killed 50 times in turn and started again.
//!
//! Why here: a client is to be answered 10 s after any single loss. `kill -9` ends the agent and every program of the machine at
//! once. The client is that of a worker's agent, which has the list of API servers and changes over by itself
//! (`agent/src/cluster/servers.rs`). `SHEAF_FAILOVERS=3` asks for another number. Route in: control planes as processes, each in a
//! network namespace. Route out: seconds, MiB.

use crate::Report;
use crate::figures::percentile;
use crate::process::{memory, together};
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use sheaf_tests::cluster::RunningAgent;
use sheaf_tests::harness::Case;
use sheaf_tests::planes::{Network, Plane, TIMEOUT, answered, first, joined, until_answered, worker};
use std::time::{Duration, Instant};

/// How often one is killed.
const KILLS: usize = 50;
/// On the worker's Node, as the worker writes it: number of the kill.
const ANNOTATION: &str = "bench.sheaf.dev/kill";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Programs of a control plane that are units of their own.
const UNITS: [&str; 4] =
    ["kube-apiserver.service", "etcd.service", "kube-controller-manager.service", "kube-scheduler.service"];

/// One kill.
struct Kill {
    /// The worker's client used the API server that was killed.
    was_used: bool,
    /// Seconds until it was answered.
    answered: f64,
    /// Seconds until what it wrote afterwards was read through another API server.
    read: f64,
}

struct Measured {
    kills: Vec<Kill>,
    /// KiB of the only control plane, and of each of three.
    one: f64,
    three: Vec<f64>,
}

impl Report {
    /// The section of this file.
    pub fn failover(&mut self, _case: &Case) -> Result<()> {
        let count = kills(std::env::var("SHEAF_FAILOVERS").ok().as_deref())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let measured = runtime.block_on(measure(count))?;
        self.head(
            &format!("Fail-over of three control-plane nodes, of which one is killed {count} times in turn"),
            "SIGKILL of every program of one machine; a worker's client asks for its Node every 100 ms; then it writes an annotation, \
             which is read through an API server that neither was killed nor was written through",
            "seconds | P50 | P95 | most",
        );
        let of = |used: Option<bool>, value: fn(&Kill) -> f64| -> Vec<f64> {
            let which = |kill: &&Kill| used.is_none_or(|used| kill.was_used == used);
            measured.kills.iter().filter(which).map(value).collect()
        };
        for (what, values) in [
            ("until a client is answered (bar: 10)", of(None, |kill| kill.answered)),
            ("the same, when it used the one that was killed", of(Some(true), |kill| kill.answered)),
            ("until an acknowledged write is read through another", of(None, |kill| kill.read)),
        ] {
            let cells = [50, 95, 100].map(|percent| format!("{:.2}", percentile(&values, percent)));
            let what = format!("{what}, {} kills", values.len());
            self.row(&[&what, &cells[0], &cells[1], &cells[2]]);
        }
        self.head(
            "Memory of a control plane by the number of members",
            "RssAnon of etcd, kube-apiserver, kube-controller-manager and kube-scheduler, and RssFile of the largest: they are one \
             program. sheaf-controller, the agent and the system are not in it (`memory` has a whole node)",
            "members | MiB (bar of a whole node: 800)",
        );
        self.row(&["1", &format!("{:.0}", measured.one / 1024.0)]);
        let most = measured.three.iter().copied().fold(0.0, f64::max);
        self.row(&["3, the largest", &format!("{:.0}", most / 1024.0)]);
        Ok(())
    }
}

/// How many kills were asked for.
fn kills(asked: Option<&str>) -> Result<usize> {
    let Some(asked) = asked else { return Ok(KILLS) };
    let count = asked.parse().ok().filter(|count| *count > 0);
    count.with_context(|| format!("SHEAF_FAILOVERS: {asked} is not a number of kills"))
}

async fn measure(count: usize) -> Result<Measured> {
    let network = Network::make()?;
    let a = first(&network).await?;
    let approver = a.approver().await?;
    let one = control_plane(&a)?;
    let (b, c) = (joined(&network, &a, "b").await?, joined(&network, &a, "c").await?);
    let (_files, agent) = worker(&a).await?;
    drop(approver);
    let mut planes = [a, b, c];
    let mut kills = Vec::new();
    for number in 0..count {
        // The list has all three, and what is in use is known, as soon as the agent has reported once more.
        let reported = async {
            while servers(&agent).len() < planes.len() {
                tokio::time::sleep(LOOK).await; // until the next look
            }
        };
        tokio::time::timeout(TIMEOUT, reported)
            .await
            .context("the worker does not list three API servers")?;
        answered(&agent).await?;
        let kill = kill(&mut planes, number, &agent).await?;
        eprintln!(
            "kill {} of {count}: used: {}, answered after {:.2} s, read after {:.2} s",
            number + 1,
            kill.was_used,
            kill.answered,
            kill.read
        );
        kills.push(kill);
    }
    let three = planes.iter().map(control_plane).collect::<Result<_>>()?;
    Ok(Measured { kills, one, three })
}

/// Kills one machine, measures, and starts it again.
async fn kill(planes: &mut [Plane; 3], number: usize, agent: &RunningAgent) -> Result<Kill> {
    let lost = number % planes.len();
    let used = agent.ctx.status.read().cluster.server.clone().unwrap_or_default();
    let was_used = used == url(&planes[lost]);
    let others: Vec<usize> = (0..planes.len()).filter(|other| *other != lost).collect();
    let admins = [planes[others[0]].admin().await?, planes[others[1]].admin().await?];
    let begin = Instant::now();
    planes[lost].cut_power();
    // From the order to kill: a client feels it all.
    let rest = answered(agent).await;
    let answered = begin.elapsed().as_secs_f64();
    rest?;
    let value = number.to_string();
    let patch = json!({"metadata": {"annotations": {ANNOTATION: value}}});
    let write = |client| {
        let patch = &patch;
        async move { Api::<Node>::all(client).patch("w", &PatchParams::default(), &Patch::Merge(patch)).await }
    };
    until_answered(agent, write).await?;
    // It was written through one of the two: both must have it.
    for admin in admins {
        let node = until_read(admin).await?;
        let read = node.annotations().get(ANNOTATION);
        ensure!(
            read == Some(&value),
            "an acknowledged write is lost: {ANNOTATION} is {read:?}, was written as {value}"
        );
    }
    let read = begin.elapsed().as_secs_f64();
    planes[lost].start()?;
    planes[lost].up().await?;
    let again = until_read(planes[lost].admin().await?).await?;
    let read_again = again.annotations().get(ANNOTATION);
    ensure!(read_again == Some(&value), "the machine that is back has {read_again:?} for {value}");
    Ok(Kill { was_used, answered, read })
}

/// The worker's Node by this client, once there is an answer. A read without a revision is answered by a majority of etcd.
async fn until_read(admin: kube::Client) -> Result<Node> {
    let nodes: Api<Node> = Api::all(admin);
    let end = Instant::now() + TIMEOUT;
    loop {
        match nodes.get("w").await {
            Ok(node) => return Ok(node),
            Err(error) => {
                ensure!(Instant::now() < end, "the Node cannot be read through another API server: {error}")
            }
        }
        tokio::time::sleep(LOOK).await; // until the next try
    }
}

fn url(plane: &Plane) -> String {
    format!("https://{}:6443", plane.address)
}

fn servers(agent: &RunningAgent) -> Vec<String> {
    agent.ctx.status.read().cluster.servers.clone()
}

/// KiB of the programs of one control plane.
fn control_plane(of: &Plane) -> Result<f64> {
    let each = UNITS.map(|unit| memory(of.pid(unit).with_context(|| format!("{unit} does not run"))?));
    Ok(together(&each.into_iter().collect::<Result<Vec<_>>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_kills_is_fifty_or_what_was_asked_for() {
        assert_eq!((kills(None).unwrap(), kills(Some("3")).unwrap()), (50, 3));
        for asked in ["0", "x", "-1"] {
            let expected = format!("SHEAF_FAILOVERS: {asked} is not a number of kills");
            assert_eq!(kills(Some(asked)).unwrap_err().to_string(), expected);
        }
    }
}
