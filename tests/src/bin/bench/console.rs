//! The administration console with many browsers and machines.
//!
//! Why here: it runs on every control-plane node, beside what the cluster needs, and holds every machine for every browser. The
//! control plane is the real one; machines are objects that do not run. Route in: the program `sheaf-console`, as tests are built;
//! curl as browsers, each with one stream of changes. Route out: MiB, seconds.

use crate::Report;
use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use sheaf_api::VirtualMachine;
use sheaf_host::run::{Command, System};
use sheaf_tests::console::{Browser, Program, ask};
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::harness::Case;
use sheaf_tests::played::vm;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

const MACHINES: usize = 1000;
const BROWSERS: usize = 50;
/// Changes of machines, so many a second.
const CHANGES: usize = 400;
const RATE: usize = 20;
/// Requests at once while machines are made.
const AT_ONCE: usize = 8;
/// What pages of machines watch.
const STREAM: &str = "/console/watch?kinds=machines,instances,nodes";

struct Measured {
    /// MiB: with nobody logged in, with the machines, with the browsers while machines change.
    memory: [u64; 3],
    /// Seconds until one browser has all machines.
    first: f64,
    /// Bytes of the list in one stream.
    list: u64,
    /// Changes that each browser was sent, the fewest.
    seen: usize,
}

impl Report {
    /// The section of this file.
    pub fn console(&mut self, _case: &Case) -> Result<()> {
        let command = format!(
            "sheaf-console (as tests build it) on a control plane of processes; {MACHINES} VirtualMachines; {BROWSERS} × curl {STREAM}"
        );
        self.head("Administration console", &command, "what | figure");
        let Measured { memory, first, list, seen } = tokio::runtime::Runtime::new()?.block_on(measure())?;
        self.row(&["RSS, idle, MiB (bar: 30)", &memory[0].to_string()]);
        self.row(&[&format!("RSS, {MACHINES} machines, MiB"), &memory[1].to_string()]);
        self.row(&[
            &format!("RSS, {MACHINES} machines, {BROWSERS} browsers, {RATE} changes a second, MiB (bar: 80)"),
            &memory[2].to_string(),
        ]);
        self.row(&[&format!("a browser has all {MACHINES}, s"), &format!("{first:.2}")]);
        self.row(&["their list in the stream, KiB", &(list / 1024).to_string()]);
        self.row(&[&format!("changes that each browser was sent, of {CHANGES}"), &seen.to_string()]);
        Ok(())
    }
}

/// Curl that reads the stream; dropped, it is killed.
struct Reader {
    child: Child,
    /// What it has read.
    file: PathBuf,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Reader {
    fn start(folder: &Path, number: usize, console: &str, browser: &Browser) -> Result<Self> {
        let file = folder.join(number.to_string());
        let command = Command::new("curl").args(["-skN", "-H", &browser.cookie, "-o"]).arg(&file);
        Ok(Self { child: System.start(&command.arg(format!("{console}{STREAM}")))?, file })
    }

    /// How often `text` is in what it has read.
    fn count(&self, text: &str) -> usize {
        std::fs::read_to_string(&self.file).map_or(0, |read| read.matches(text).count())
    }

    /// All of what it watches has arrived.
    fn is_whole(&self) -> bool {
        self.count("\"synced\"") >= 3
    }
}

async fn measure() -> Result<Measured> {
    let on = Controlled::start().await?;
    let program = Program::start(&on.plane).await?;
    let idle = program.memory("VmRSS")?;
    let browser = Browser::claim(&on.plane, &program.address, "anna").await?;
    machines(&on.client).await?;
    let folder = tempfile::tempdir()?;
    // Its login is new: what it may see is asked first.
    wait("anna sees machines", async || {
        let path = "/api/apis/kubevirt.io/v1/namespaces/default/virtualmachines?limit=1";
        let asked = ask(&program.address, &["-H", &browser.cookie], path);
        Ok(asked.is_ok_and(|answer| answer.status == 200).then_some(()))
    })
    .await?;
    let begin = Instant::now();
    let first = Reader::start(folder.path(), 0, &program.address, &browser)?;
    wait("the first browser has all machines", async || Ok(first.is_whole().then_some(()))).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let list = std::fs::metadata(&first.file)?.len();
    ensure!(first.count("\"set\"") >= MACHINES, "{} objects", first.count("\"set\""));
    let listed = program.memory("VmRSS")?;
    let mut browsers = vec![first];
    for number in 1..BROWSERS {
        browsers.push(Reader::start(folder.path(), number, &program.address, &browser)?);
    }
    wait("all browsers have all machines", async || Ok(browsers.iter().all(Reader::is_whole).then_some(())))
        .await?;
    let most = changes(&on.client, &program).await?;
    let count = || browsers.iter().map(|browser| browser.count("bench-change")).min();
    wait("every browser has every change", async || {
        // Each change is followed by one of the controller, which has the label too; more than one of a machine may come together.
        Ok(count().is_some_and(|seen| seen >= CHANGES).then_some(()))
    })
    .await?;
    let memory = [idle, listed, most].map(|kib| kib / 1024);
    Ok(Measured { memory, first: seconds, list, seen: count().context("browsers")?.min(CHANGES) })
}

/// Makes the machines.
async fn machines(client: &Client) -> Result<()> {
    let machines: Api<VirtualMachine> = Api::default_namespaced(client.clone());
    stream::iter(0..MACHINES)
        .map(|number| {
            let machines = machines.clone();
            async move {
                machines.create(&PostParams::default(), &vm(&format!("vm-{number:04}"), "Halted")?).await?;
                Ok::<_, anyhow::Error>(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Changes [`RATE`] machines a second, each once; answers the most memory that the console had, in KiB.
async fn changes(client: &Client, program: &Program) -> Result<u64> {
    let machines: Api<VirtualMachine> = Api::default_namespaced(client.clone());
    let mut interval = tokio::time::interval(Duration::from_secs(1) / RATE as u32);
    let mut most = program.memory("VmRSS")?;
    for number in 0..CHANGES {
        interval.tick().await;
        let change = json!({"metadata": {"labels": {"bench-change": "yes"}}});
        let name = format!("vm-{number:04}");
        machines.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&change)).await?;
        most = most.max(program.memory("VmRSS")?);
    }
    Ok(most)
}
