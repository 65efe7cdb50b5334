//! Cases as processes: those that start no machine some at a time, the others alone.
//!
//! Why here: rung 4 waits more than it computes, and a machine in emulation wants both cores. Route in: [`Test`]s. Route
//! out: a [`Ran`] for each as soon as it ended, a log per case.

use anyhow::{Context as _, Result};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_tests::harness::RETRIES;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A case that takes longer hangs: the longest, an update with two releases that are rolled back, takes 36 minutes on two
/// busy cores.
const CASE_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// Compiles everything twice.
const DOUBLE_BUILD: (&str, Duration) = ("reproducible", Duration::from_secs(4 * 3600));
/// Control planes at a time: one uses a third of a core, and 600 MiB.
const AT_A_TIME: usize = 3;
/// Files whose cases start control planes, libvirt and agents as processes, and no machine. One that is missing here runs
/// alone.
const PROCESSES: &[&str] = &[
    "certificates",
    "cluster_update",
    "console",
    "console_crawl",
    "console_files",
    "console_pages",
    "console_sso",
    "control_plane_join",
    "control_planes",
    "controller",
    "export",
    "filters",
    "hostile_node",
    "hostile_tenant",
    "hotplug",
    "hotplug_nics",
    "import_credentials",
    "import_policy",
    "instancetypes",
    "kubeadm_cluster",
    "kubevirt_examples",
    "leader",
    "live",
    "maintenance",
    "membership",
    "network_tenants",
    "node_lost",
    "objects",
    "operate",
    "removal",
    "replicas",
    "rotations",
    "sessions",
    "snapshots_etcd",
    "upload",
    "vip",
    "virtctl",
    "vm_snapshots",
    "vms",
    "volumes_agent",
    "volumes_cluster",
];

/// A case and the program that holds it.
pub struct Test {
    pub program: PathBuf,
    /// FILE::NAME.
    pub case: String,
}

impl Test {
    pub fn file(&self) -> &str {
        self.case.split("::").next().unwrap_or_default()
    }
}

/// How a case went.
pub struct Ran {
    pub case: String,
    pub passed: bool,
    pub seconds: f64,
    pub retries: u32,
    pub log: PathBuf,
}

/// Runs all, and hands each result to `report`, one at a time, in the order of their ends.
pub fn all(
    tests: Vec<Test>,
    root: &Path,
    logs: &Path,
    mut report: impl FnMut(Ran) -> Result<()> + Send,
) -> Result<()> {
    let (processes, machines): (VecDeque<_>, VecDeque<_>) =
        tests.into_iter().partition(|test| PROCESSES.contains(&test.file()));
    let report = Mutex::new(&mut report);
    for (tests, workers) in [(processes, AT_A_TIME), (machines, 1)] {
        let tests = Mutex::new(tests);
        let work = || -> Result<()> {
            loop {
                let Some(test) = locked(&tests).pop_front() else { return Ok(()) };
                println!("{} …", test.case);
                let ran = one(&test, root, logs)?;
                locked(&report)(ran)?;
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
    }
    Ok(())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn one(test: &Test, root: &Path, logs: &Path) -> Result<Ran> {
    let log = logs.join(format!("{}.log", test.case.replace("::", ".")));
    let retries = log.with_extension("retries");
    for file in [&log, &retries] {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(file.display().to_string());
            }
            _ => {}
        }
    }
    let (file, timeout) = DOUBLE_BUILD;
    let timeout = if test.file() == file { timeout } else { CASE_TIMEOUT };
    let command = Command::new(&test.program)
        .args(["--exact", &test.case, "--nocapture", "--test-threads", "1"])
        // Where cargo would run it, and what it would set.
        .dir(root.join("tests"))
        .env("CARGO", std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .env(RETRIES, &retries)
        .env("RUST_BACKTRACE", "0")
        .log(&log)
        .deadline(timeout);
    let begin = Instant::now();
    let ended = System.run(&command);
    let retries = std::fs::read_to_string(&retries).map_or(0, |text| text.lines().count());
    Ok(Ran {
        case: test.case.clone(),
        passed: ended.is_ok(),
        seconds: begin.elapsed().as_secs_f64(),
        retries: u32::try_from(retries)?,
        log,
    })
}
