//! What nodes cost the control plane: 100, 500 and 1000 simulated nodes with 10 VMs each (`SHEAF_FLEET=100,200` names other sizes).
//!
//! Why here: the design asks for a thousand nodes at a flat cost for each. The control plane is the real one, as processes; nodes are
//! the agent's own code on fakes (`sheaf_tests::fleet`), in as many processes as the limit of open files asks for. One fleet
//! grows from size to size. Route in: sheaf-controller as it is in a release. Route out: processor seconds, MiB, seconds, requests.

use crate::Report;
use crate::controller::{AT_ONCE, Controller, led, vm};
use crate::figures::{bend, counters, percentile};
use crate::process::{memory, processor};
use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use sheaf_api::{VirtualMachine, status::PrintableStatus};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_tests::cluster::ControlPlane;
use sheaf_tests::controlled::NodeReads;
use sheaf_tests::fleet::process::{Part, Words};
use sheaf_tests::fleet::{most_files, most_nodes};
use sheaf_tests::harness::Case;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::AbortHandle;

const SIZES: [u32; 3] = [100, 500, 1000];
const VMS_PER_NODE: u32 = 10;
/// How long the fleet is watched at rest; six beats of every node.
const WINDOW: Duration = Duration::from_secs(60);
/// Longest wait for something of every node or VM: this long, and [`EACH`] for each of them.
const LEAST: Duration = Duration::from_secs(900);
/// kube-scheduler binds some tens a second; two cores do it all here.
const EACH: Duration = Duration::from_secs(1);
/// What each node may cost more where there are the most, over where there are the fewest.
const BAR: &str = "1.2";
/// Requests by who: API Priority and Fairness sorts them by user and group, and counts what it lets pass.
const DISPATCHED: &str = "apiserver_flowcontrol_dispatched_requests_total";
/// Flow schemas of Kubernetes, and who they are here.
const WHO: [(&str, &str); 6] = [
    ("system-node-high", "nodes: leases and status of Nodes"),
    ("system-nodes", "nodes: all else"),
    ("kube-controller-manager", "kube-controller-manager"),
    ("kube-scheduler", "kube-scheduler"),
    ("system-leader-election", "leases of leaders"),
    ("global-default", "sheaf-controller"),
];
const UNITS: [&str; 4] =
    ["kube-apiserver.service", "etcd.service", "kube-controller-manager.service", "kube-scheduler.service"];

impl Report {
    /// The section of this file.
    pub fn fleet(&mut self, case: &Case) -> Result<()> {
        let sizes = sizes(std::env::var("SHEAF_FLEET").ok().as_deref())?;
        let build = Command::new("cargo").dir(case.root());
        System.run(&build.args(["build", "--release", "--quiet", "-p", "sheaf-controller"]))?;
        let program = case.root().join("target/release/sheaf-controller");
        let runtime = tokio::runtime::Runtime::new()?;
        let steps = runtime.block_on(measure(&program, case, &sizes))?;
        let heads: Vec<String> = sizes.iter().map(|size| format!("{size} nodes")).collect();
        self.head(
            &format!("The control plane with simulated nodes, {VMS_PER_NODE} VMs on each"),
            "utime + stime of /proc/PID/stat over 60 s at rest; VmRSS of /proc/PID/status; \
             apiserver_flowcontrol_dispatched_requests_total of the API server's /metrics over the same time",
            &format!("what | {} | last ÷ first", heads.join(" | ")),
        );
        for (what, values, digits) in rows(&steps) {
            let cells = values.iter().map(|value| format!("{value:.digits$}"));
            let ratio = bend(&values).map_or_else(|| "–".into(), |ratio| format!("{ratio:.2}"));
            let cells: Vec<String> = [what].into_iter().chain(cells).chain([ratio]).collect();
            self.row(&cells.iter().map(String::as_str).collect::<Vec<_>>());
        }
        self.line(&format!(
            "\nNodes join 20 at a time from each process of nodes; VMs are made {AT_ONCE} at a time and are placed by kube-scheduler. \
             Everything runs on the same cores, so seconds are upper bounds."
        ));
        Ok(())
    }
}

/// Sizes of the fleet, each larger than the one before.
fn sizes(asked: Option<&str>) -> Result<Vec<u32>> {
    let Some(asked) = asked else { return Ok(SIZES.to_vec()) };
    let read = |word: &str| {
        word.trim().parse::<u32>().with_context(|| format!("SHEAF_FLEET: {word} is not a number"))
    };
    let sizes = asked.split(',').map(read).collect::<Result<Vec<_>>>()?;
    let grow = sizes.first().is_some_and(|first| *first > 0) && sizes.is_sorted_by(|a, b| a < b);
    ensure!(grow, "SHEAF_FLEET: {asked}: each size must be larger than the one before");
    Ok(sizes)
}

/// The nodes `new` in parts of at most `most` each.
fn parts(new: Range<u32>, most: u32) -> Vec<Range<u32>> {
    new.clone()
        .step_by(most.max(1) as usize)
        .map(|start| start..new.end.min(start.saturating_add(most.max(1))))
        .collect()
}

/// What was measured at one size.
#[derive(Default)]
struct Step {
    nodes: u32,
    /// Seconds until Ready of each that joined for it.
    joins: Vec<f64>,
    /// VMs that were made for it, and seconds until all are bound and run.
    vms: u32,
    bound: f64,
    running: f64,
    /// Processor seconds in a minute of API server, etcd and sheaf-controller.
    processor: [f64; 3],
    /// KiB of the same.
    memory: [f64; 3],
    /// KiB of the API server before the first node.
    empty: f64,
    /// Requests per second, by who.
    requests: BTreeMap<String, f64>,
    /// KiB of all processes of nodes.
    simulator: f64,
}

/// Rows of the table: what, a value for each size, digits after the point.
fn rows(steps: &[Step]) -> Vec<(String, Vec<f64>, usize)> {
    let of = |value: &dyn Fn(&Step) -> f64| steps.iter().map(value).collect::<Vec<f64>>();
    let each = |step: &Step| f64::from(step.nodes);
    let mut rows = Vec::new();
    let mut row =
        |what: &str, value: &dyn Fn(&Step) -> f64, digits| rows.push((what.to_owned(), of(value), digits));
    for (index, name) in ["API server", "etcd", "sheaf-controller"].into_iter().enumerate() {
        let bar = if index == 0 { format!(" (bar of last ÷ first: {BAR})") } else { String::new() };
        let what = format!("{name}, processor ms per node and minute at rest{bar}");
        row(&what, &|step| step.processor[index] * 1000.0 / each(step), 1);
    }
    for (index, name) in ["API server", "etcd", "sheaf-controller"].into_iter().enumerate() {
        row(&format!("{name}, RSS, MiB"), &|step| step.memory[index] / 1024.0, 0);
    }
    let more = |step: &Step| (step.memory[0] - step.empty).max(0.0) / each(step);
    row(&format!("API server, RSS per node with its VMs, KiB (bar of last ÷ first: {BAR})"), &more, 0);
    row("seconds to join, P50", &|step| percentile(&step.joins, 50), 1);
    row("seconds to join, P95", &|step| percentile(&step.joins, 95), 1);
    row("VMs that were made", &|step| f64::from(step.vms), 0);
    row("seconds until all of them are bound", &|step| step.bound, 0);
    row("seconds until all of them are Running", &|step| step.running, 0);
    row("seconds until Running, per 100 VMs", &|step| step.running * 100.0 / f64::from(step.vms.max(1)), 1);
    row("requests per second at rest, all", &|step| step.requests.values().sum(), 1);
    let names: BTreeSet<&String> = steps.iter().flat_map(|step| step.requests.keys()).collect();
    for name in names {
        let by = |step: &Step| step.requests.get(name).copied().unwrap_or_default();
        row(&format!("requests per second, {name}"), &by, 1);
    }
    row(
        "requests per node and minute, all",
        &|step| step.requests.values().sum::<f64>() * 60.0 / each(step),
        1,
    );
    row("the simulator itself, RSS, MiB", &|step| step.simulator / 1024.0, 0);
    rows
}

async fn measure(program: &Path, case: &Case, sizes: &[u32]) -> Result<Vec<Step>> {
    let (plane, controller) = led(program, case.artefacts().join("controller.log")).await?;
    let _reads = NodeReads::start(plane.namespace())?;
    let client = plane.admin.clone();
    let empty = memory(pid(&plane, UNITS[0])?)?.all;
    let vms =
        count(Api::<VirtualMachine>::default_namespaced(client.clone()), watcher::Config::default(), |vm| {
            vm.status.as_ref().and_then(|status| status.printable_status) == Some(PrintableStatus::Running)
        });
    let launchers = watcher::Config::default().labels("kubevirt.io=virt-launcher");
    let bound = count(Api::<Pod>::default_namespaced(client.clone()), launchers, |pod| {
        pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
    });
    let most = most_nodes(most_files()?);
    ensure!(most > 0, "this process may open too few files for a node: raise `ulimit -n`");
    let (mut fleet, mut steps, mut before) = (Vec::new(), Vec::new(), 0);
    for &size in sizes {
        let mut step = Step { nodes: size, empty, vms: (size - before) * VMS_PER_NODE, ..Step::default() };
        let mut coming = Vec::new();
        for numbers in parts(before..size, most) {
            let words = Words {
                kubeconfig: plane.kubeconfig(),
                server: plane.server.clone(),
                ca_hash: plane.ca_hash.clone(),
                numbers: numbers.clone(),
            };
            coming.push(Part::start(&words, case.artefacts().join(format!("nodes-{}.log", numbers.start)))?);
        }
        for part in &mut coming {
            step.joins.extend(part.joined(LEAST + EACH * size).await?);
        }
        fleet.extend(coming);
        let begin = Instant::now();
        make(&client, before * VMS_PER_NODE..size * VMS_PER_NODE).await?;
        let wanted = (size * VMS_PER_NODE) as usize;
        let timeout = LEAST + EACH * step.vms;
        bound.reaches(wanted, "bound", timeout).await?;
        step.bound = begin.elapsed().as_secs_f64();
        vms.reaches(wanted, "Running", timeout).await?;
        step.running = begin.elapsed().as_secs_f64();
        // What still follows from the last start is not rest.
        tokio::time::sleep(WINDOW).await;
        rest(&plane, &controller, &mut step).await?;
        for part in &mut fleet {
            part.check()?;
            step.simulator += memory(part.pid())?.all;
        }
        eprintln!("{size} nodes: joined, {wanted} VMs run");
        steps.push(step);
        before = size;
    }
    Ok(steps)
}

fn pid(plane: &ControlPlane, unit: &str) -> Result<u32> {
    plane.pid(unit).with_context(|| format!("{unit} does not run"))
}

/// Measures over [`WINDOW`].
async fn rest(plane: &ControlPlane, controller: &Controller, step: &mut Step) -> Result<()> {
    let pids = [pid(plane, UNITS[0])?, pid(plane, UNITS[1])?, controller.pid()];
    let begin = Instant::now();
    let requests = dispatched(&plane.admin).await?;
    let used = pids.map(processor).into_iter().collect::<Result<Vec<_>>>()?;
    tokio::time::sleep(WINDOW).await; // what is measured
    let seconds = begin.elapsed().as_secs_f64();
    for (index, pid) in pids.into_iter().enumerate() {
        step.processor[index] = (processor(pid)? - used[index]) * 60.0 / seconds;
        step.memory[index] = memory(pid)?.all;
    }
    for (schema, count) in dispatched(&plane.admin).await? {
        let more = count - requests.get(&schema).copied().unwrap_or_default();
        if more > 0.0 {
            *step.requests.entry(who(&schema)).or_default() += more / seconds;
        }
    }
    Ok(())
}

fn who(schema: &str) -> String {
    let known = WHO.iter().find(|(known, _)| *known == schema);
    known.map_or_else(|| format!("flow schema {schema}"), |(_, who)| (*who).to_owned())
}

/// Requests that the API server let pass, by flow schema.
async fn dispatched(client: &Client) -> Result<BTreeMap<String, f64>> {
    let page = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
    let counted = counters(&page, DISPATCHED, "flow_schema");
    ensure!(!counted.is_empty(), "the API server's /metrics has no {DISPATCHED}");
    Ok(counted)
}

/// Makes the VMs of these numbers.
async fn make(client: &Client, numbers: Range<u32>) -> Result<()> {
    let machines: Api<VirtualMachine> = Api::default_namespaced(client.clone());
    let create = async |number: u32| -> Result<()> {
        let vm = serde_json::from_value(vm(number as usize))
            .with_context(|| json!(vm(number as usize)).to_string())?;
        machines.create(&PostParams::default(), &vm).await?;
        Ok(())
    };
    futures::stream::iter(numbers).map(create).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    Ok(())
}

/// How many objects are as they shall be, kept by one watch: a list of ten thousand VMs each second would be what is measured.
struct Count {
    now: watch::Receiver<usize>,
    task: AbortHandle,
}

impl Drop for Count {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Count {
    async fn reaches(&self, wanted: usize, what: &str, timeout: Duration) -> Result<()> {
        let mut now = self.now.clone();
        let reached = tokio::time::timeout(timeout, now.wait_for(|count| *count >= wanted))
            .await
            .map(|found| found.map(drop));
        let count = *self.now.borrow();
        reached
            .with_context(|| format!("{count} of {wanted} VMs are {what} after {} s", timeout.as_secs()))??;
        Ok(())
    }
}

fn count<K>(api: Api<K>, which: watcher::Config, holds: fn(&K) -> bool) -> Count
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let (count, now) = watch::channel(0);
    let task = tokio::spawn(async move {
        let mut names = BTreeSet::new();
        let mut events = watcher(api, which).boxed();
        while let Some(event) = events.next().await {
            // The watcher tries again by itself.
            let Ok(event) = event else { continue };
            take(&mut names, event, holds);
            count.send_replace(names.len());
        }
    });
    Count { now, task: task.abort_handle() }
}

fn take<K: kube::Resource>(names: &mut BTreeSet<String>, event: Event<K>, holds: fn(&K) -> bool) {
    match event {
        Event::Init => names.clear(),
        Event::InitApply(object) | Event::Apply(object) if holds(&object) => {
            names.insert(object.name_any());
        }
        Event::InitApply(object) | Event::Apply(object) | Event::Delete(object) => {
            names.remove(&object.name_any());
        }
        Event::InitDone => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_that_were_asked_for_and_must_grow() {
        assert_eq!(sizes(None).unwrap(), [100, 500, 1000]);
        assert_eq!(sizes(Some("5, 20")).unwrap(), [5, 20]);
        assert_eq!(sizes(Some("5,x")).unwrap_err().to_string(), "SHEAF_FLEET: x is not a number");
        for asked in ["20,5", "5,5", "0,5"] {
            let expected = format!("SHEAF_FLEET: {asked}: each size must be larger than the one before");
            assert_eq!(sizes(Some(asked)).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn every_new_node_is_in_one_part_and_no_part_has_more_than_a_process_can() {
        assert_eq!(parts(500..1000, 400), [500..900, 900..1000]);
        assert_eq!(parts(0..100, 521), vec![0..100]);
        assert!(parts(7..7, 10).is_empty());
    }

    #[test]
    fn a_node_that_costs_the_same_at_every_size_has_the_ratio_one_in_the_table() {
        let step = |nodes: u32| {
            let all = f64::from(nodes);
            let requests = [("nodes: all else".to_owned(), all / 2.0)].into();
            let memory = [1000.0 + all * 512.0, 2048.0, 4096.0];
            let processor = [all * 0.25, 1.0, 2.0];
            Step {
                nodes,
                memory,
                processor,
                requests,
                empty: 1000.0,
                vms: nodes * 10,
                running: all,
                ..Step::default()
            }
        };
        let rows = rows(&[step(100), step(1000)]);
        let find = |what: &str| rows.iter().find(|row| row.0.starts_with(what)).unwrap();
        for (what, value) in [
            ("API server, processor ms per node and minute", 250.0),
            ("API server, RSS per node", 512.0),
            ("requests per node and minute", 30.0),
            ("seconds until Running, per 100 VMs", 10.0),
        ] {
            let (_, values, _) = find(what);
            assert_eq!((values.as_slice(), bend(values)), ([value, value].as_slice(), Some(1.0)), "{what}");
        }
        assert_eq!(find("requests per second, nodes: all else").1, [50.0, 500.0]);
        assert_eq!(bend(&find("etcd, processor").1), Some(0.1));
    }

    #[test]
    fn objects_count_while_they_are_as_they_shall_be() {
        let pod = |name: &str, node: Option<&str>| -> Pod {
            serde_json::from_value(
                json!({"metadata": {"name": name}, "spec": {"containers": [], "nodeName": node}}),
            )
            .unwrap()
        };
        let is_bound = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        let mut names = BTreeSet::new();
        let mut after = |event| {
            take(&mut names, event, is_bound);
            names.len()
        };
        assert_eq!(after(Event::InitApply(pod("a", None))), 0);
        assert_eq!(after(Event::Apply(pod("a", Some("n1")))), 1);
        assert_eq!(after(Event::Apply(pod("a", Some("n1")))), 1);
        assert_eq!(after(Event::Apply(pod("b", Some("n1")))), 2);
        assert_eq!(after(Event::Delete(pod("b", Some("n1")))), 1);
        assert_eq!(after(Event::Init), 0);
    }
}
