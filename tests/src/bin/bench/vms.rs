//! A VM from the request to running, beside libvirt's own start of the same domain.
//!
//! Why here: what Sheaf adds to a start (API server, controller, scheduler, agent) is its own cost. Route in: a node
//! restored from its snapshot. Route out: seconds.

use super::VM;
use anyhow::{Context as _, Result};
use sheaf_host::run::{Run as _, System};
use sheaf_host::wait::until;
use sheaf_tests::harness::{Case, Cluster, READY, RUNNING};
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Starts that are measured on each side; the first of a node is not among them, since libvirt probes QEMU before it.
const ROUNDS: usize = 3;
/// One start, emulated.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Starts the domain that runs, from its own XML, and prints the seconds from the call to its return, as `virsh start`
/// waits for it: with the agent stopped, which would restart it otherwise.
const DIRECT: &str = r#"set -eu
connect='org.libvirt /org/libvirt/QEMU org.libvirt.Connect'
path=$(busctl call $connect ListDomains u 1 | cut -d '"' -f 2)
xml=$(busctl --json=short call org.libvirt "$path" org.libvirt.Domain GetXMLDesc u 0)
xml=$(printf '%s' "$xml" | sed -e 's/^{"type":"s","data":\["//' -e 's/"\]}$//')
xml=$(printf '%b' "$(printf '%s' "$xml" | sed -e 's/\\"/"/g')")
busctl call org.libvirt "$path" org.libvirt.Domain Destroy u 0
begin=$(date +%s%N)
busctl call --timeout=120 $connect DomainCreateXML su "$xml" 0 >/dev/null
end=$(date +%s%N)
echo $(( (end - begin) / 1000000 ))"#;

/// What is watched while a VM starts: the kind, and what kubectl prints at each change.
const WATCHED: [(&str, &str); 3] = [
    ("vm", "{.status.printableStatus}{\"\\n\"}"),
    ("vmi", "{.metadata.name} {.status.phase}{\"\\n\"}"),
    ("pods", "{.metadata.name} node={.spec.nodeName} {.status.phase}{\"\\n\"}"),
];
/// Between two looks at what the watches printed: the resolution of a phase.
const LOOK: Duration = Duration::from_millis(20);

/// A turn in the start of a VM: its name, which watch prints it, and what that prints.
const TURNS: [(&str, usize, &str); 5] = [
    ("the VM has an instance", 1, "wheat "),
    ("the instance has a Pod", 2, "virt-launcher-wheat-"),
    ("the Pod is bound to the node", 2, "node=node1"),
    ("the node runs the domain", 2, " Running"),
    ("the VM is Running", 0, "Running"),
];

/// Medians, in seconds.
pub struct Starts {
    /// From `kubectl apply` to a VirtualMachine that is Running.
    pub created: f64,
    /// libvirt's start of the same domain.
    pub direct: f64,
    /// What of [`Starts::created`] had passed at each turn, in the order of time.
    pub phases: [(&'static str, f64); TURNS.len()],
}

/// Measures both on one node.
pub fn starts(case: &Case) -> Result<Starts> {
    let cluster = case.cluster()?;
    cluster.start_vm(VM, "wheat")?;
    remove(&cluster)?;
    let mut created = Vec::new();
    let mut turns: [Vec<f64>; TURNS.len()] = Default::default();
    for round in 0..ROUNDS {
        let watches = Watches::start(&cluster, case, round)?;
        let begin = Instant::now();
        cluster.operator.wait_apply(VM, READY)?;
        // A watch, not a poll: it returns when the status changes.
        let timeout = format!("--timeout={}s", RUNNING.as_secs());
        let wait = ["wait", "vm/wheat", "--for=jsonpath={.status.printableStatus}=Running", &timeout];
        System.run(&cluster.operator.kubectl_command(&wait).deadline(RUNNING))?;
        created.push(begin.elapsed().as_secs_f64());
        for (times, seen) in turns.iter_mut().zip(watches.end(begin)?) {
            times.push(seen);
        }
        if round + 1 < ROUNDS {
            remove(&cluster)?;
        }
    }
    cluster.root("systemctl stop sheaf-agent")?;
    let mut direct = Vec::new();
    for _ in 0..ROUNDS {
        let milliseconds = cluster.machine.shell().run(DIRECT, START_TIMEOUT)?;
        let milliseconds = milliseconds.lines().last().unwrap_or_default().trim().parse::<f64>();
        direct.push(milliseconds.context("libvirt's start")? / 1000.0);
    }
    let mut phases = TURNS.map(|(name, ..)| (name, 0.0));
    for (phase, times) in phases.iter_mut().zip(turns) {
        phase.1 = super::median(times);
    }
    Ok(Starts { created: super::median(created), direct: super::median(direct), phases })
}

/// kubectl that watches, and a thread that notes when each turn is printed first.
struct Watches {
    programs: Vec<Child>,
    noting: JoinHandle<[Option<Instant>; TURNS.len()]>,
    stop: Arc<AtomicBool>,
}

impl Watches {
    fn start(cluster: &Cluster, case: &Case, round: usize) -> Result<Self> {
        let mut programs = Vec::new();
        let mut logs: Vec<PathBuf> = Vec::new();
        for (kind, template) in WATCHED {
            let log = case.work().join(format!("watch-{kind}-{round}"));
            std::fs::write(&log, b"")?;
            let output = format!("-o=jsonpath={template}");
            let words = ["get", kind, "--watch-only", &output];
            programs.push(System.start(&cluster.operator.kubectl_command(&words).log(&log))?);
            logs.push(log);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let noting = std::thread::spawn(move || {
            let mut seen = [None; TURNS.len()];
            until(START_TIMEOUT, LOOK, || {
                let texts: Vec<String> =
                    logs.iter().map(|log| std::fs::read_to_string(log).unwrap_or_default()).collect();
                for (seen, (_, watch, words)) in seen.iter_mut().zip(TURNS) {
                    if seen.is_none() && texts[watch].contains(words) {
                        *seen = Some(Instant::now());
                    }
                }
                (stopped.load(Ordering::Relaxed) || seen.iter().all(Option::is_some)).then_some(())
            });
            seen
        });
        Ok(Self { programs, noting, stop })
    }

    /// Seconds from `begin` to each turn.
    fn end(self, begin: Instant) -> Result<[f64; TURNS.len()]> {
        // The last change may still be on its way to a watch.
        until(Duration::from_secs(5), LOOK, || self.noting.is_finished().then_some(()));
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.noting.join().map_err(|_| anyhow::anyhow!("the watches were not read"))?;
        for mut program in self.programs {
            program.kill().ok();
            program.wait().ok();
        }
        let mut times = [0.0; TURNS.len()];
        for (time, (seen, (name, ..))) in times.iter_mut().zip(seen.into_iter().zip(TURNS)) {
            let seen = seen.with_context(|| format!("no watch has seen: {name}"))?;
            *time = seen.saturating_duration_since(begin).as_secs_f64();
        }
        Ok(times)
    }
}

/// Deletes the VM and waits until nothing of it is left.
fn remove(cluster: &Cluster) -> Result<()> {
    let timeout = format!("--timeout={}s", RUNNING.as_secs());
    let delete = ["delete", "vm", "wheat", "--cascade=foreground", "--wait=true", &timeout];
    System.run(&cluster.operator.kubectl_command(&delete).deadline(RUNNING))?;
    Ok(())
}
