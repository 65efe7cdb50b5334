//! `make bench`: measures and writes docs/benchmarks.md, each figure with the command behind it.
//!
//! Why here: figures are taken from built artefacts and running machines, as a user meets them. Route in: what
//! `sheaf build` left, machines in QEMU. Route out: one Markdown file, section by section. `--cold` also builds with an empty
//! cache; `--only NAME,NAME` measures these sections alone; `--print` prints instead of writing.

mod agent;
mod console;
mod controller;
mod debian;
mod desk;
mod document;
mod failover;
mod figures;
mod fleet;
mod hundred;
mod kit;
mod many;
mod mkosi;
mod network;
mod process;
mod storage;
mod streams;
mod transfer;
mod update;
mod vms;
mod volumes;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use sheaf_host::run::{Command, Run as _, System};
use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_machine::operator::condition;
use sheaf_tests::fleet::process as part;
use sheaf_tests::harness::{Case, READY, case};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const VM: &str = include_str!("../../../../docs/examples/vm.yaml");
/// Proportional set size in KiB, and name, of every process; the largest first.
const PSS: &str = "for p in /proc/[0-9]*; do pss=$(awk '/^Pss:/ {print $2}' $p/smaps_rollup 2>/dev/null); \
    [ -n \"$pss\" ] && echo \"$pss $(cat $p/comm)\"; done | sort -rn";
const AGENT_RSS: &str =
    "awk '/^VmRSS/ {print $2}' /proc/$(systemctl show --property MainPID --value sheaf-agent)/status";
const AGENT_READY: &str = "systemctl show --property ActiveEnterTimestampMonotonic --value sheaf-agent";

/// Processor seconds of every unit since the boot, children that ended included; the largest first.
const PROCESSOR: &str = "systemctl list-units --type=service --no-legend --plain | while read -r unit rest; do \
    ns=$(systemctl show --property CPUUsageNSec --value \"$unit\"); \
    case $ns in [0-9]*) echo \"$((ns / 1000000)) $unit\";; esac; done | sort -rn";

/// Measures one thing and says it.
type Section = fn(&mut Report, &Case) -> Result<()>;

/// What is measured, in the file's order, under the names that `--only` knows.
const SECTIONS: [(&str, Section); 24] = [
    ("sizes", Report::sizes),
    ("build", Report::build),
    ("mkosi", Report::mkosi),
    ("desk", Report::desk),
    ("installation", Report::installation),
    ("memory", Report::memory),
    ("first-boot", Report::first_boot),
    ("boot", Report::boot),
    ("debian", Report::debian),
    ("vms", Report::vms),
    ("many", Report::many),
    ("hundred", Report::hundred),
    ("controller", Report::controller),
    ("console", Report::console),
    ("fleet", Report::fleet),
    ("failover", Report::failover),
    ("streams", Report::streams),
    ("transfer", Report::transfer),
    ("storage", Report::storage),
    ("volumes", Report::volumes),
    ("import", Report::import),
    ("agent", Report::agent),
    ("network", Report::network),
    ("update", Report::update),
];

/// What is asked for.
#[derive(Default)]
struct Arguments {
    cold: bool,
    print: bool,
    /// Sections; none: all.
    only: Vec<String>,
}

fn arguments() -> Result<Arguments> {
    let mut words = std::env::args().skip(1);
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--cold" => arguments.cold = true,
            "--print" => arguments.print = true,
            "--only" => {
                let names = words.next().context("--only: of which section?")?;
                arguments.only = names.split(',').map(str::to_owned).collect();
            }
            _ => bail!("{word}: unknown; there are --cold, --print and --only NAME,NAME"),
        }
    }
    let names = SECTIONS.map(|(name, _)| name);
    if let Some(wanted) = arguments.only.iter().find(|wanted| !names.contains(&wanted.as_str())) {
        bail!("--only {wanted}: there are {}", names.join(", "));
    }
    Ok(arguments)
}

fn main() -> Result<()> {
    // The section `fleet` starts this program again for its nodes.
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((part::WORD, words)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return part::serve(&part::Words::parse(words)?);
    }
    let arguments = arguments()?;
    let names = SECTIONS.map(|(name, _)| name);
    let path = sheaf_machine::workspace()?.join("docs/benchmarks.md");
    let mut failed = Vec::new();
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    for (name, section) in SECTIONS.into_iter().filter(|(name, _)| wanted(name)) {
        // What was measured before it, and what comes after, is not lost with it.
        let Ok(text) = std::panic::catch_unwind(|| measured(name, section, arguments.cold)) else {
            failed.push(name);
            continue;
        };
        if arguments.print {
            print!("{text}");
            continue;
        }
        let document = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let document = document::with(&document, &names, name, &format!("{text}\n{}", origin()?))?;
        sheaf_host::file::write_atomically(&path, document.as_bytes(), 0o644)?;
        println!("{name}: written to {}", path.display());
    }
    anyhow::ensure!(failed.is_empty(), "not measured: {}; their artefacts say why", failed.join(", "));
    Ok(())
}

/// When and on what a section was measured.
fn origin() -> Result<String> {
    let commit = System.run(&Command::new("git").args(["rev-parse", "--short", "HEAD"]))?.text();
    let date = System.run(&Command::new("date").args(["-u", "+%Y-%m-%d"]))?.text();
    let cores = std::thread::available_parallelism()?;
    let accelerator = std::env::var("SHEAF_ACCEL").unwrap_or_else(|_| "tcg".into());
    Ok(format!("({date}, commit {commit}, {cores} cores, QEMU 10 with `-accel {accelerator}`)"))
}

/// The text of one section. Each is a case of its own: what the emulator broke is measured again, and no more than that.
fn measured(name: &str, section: Section, cold: bool) -> String {
    let text = RefCell::default();
    case(&format!("bench-{name}"), |case| {
        let mut report = Report { text: String::new(), cold };
        section(&mut report, case)?;
        *text.borrow_mut() = report.text;
        Ok(())
    });
    text.into_inner()
}

struct Report {
    text: String,
    /// Also build with an empty cache.
    cold: bool,
}

impl Report {
    fn sizes(&mut self, case: &Case) -> Result<()> {
        let built = case.built()?;
        self.head("Sizes", "sheaf iso RELEASE; stat -c '%s %n' ISO RELEASE/*", "what | bytes | MB");
        let iso = case.work().join("sheaf.iso");
        System.run(&Command::new(&built.sheaf).arg("iso").arg(&built.release).arg("--out").arg(&iso))?;
        self.row(&["ISO (bar: 300 MB, firmware apart)", &size(&iso)?, &megabytes(&iso)?]);
        let mut files: Vec<_> =
            std::fs::read_dir(&built.release)?.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            self.row(&[&name, &size(file)?, &megabytes(file)?]);
        }
        self.row(&["`kube`, before compression", &size(&built.kube)?, &megabytes(&built.kube)?]);
        Ok(())
    }

    fn build(&mut self, case: &Case) -> Result<()> {
        let built = case.built()?;
        self.head("Building", "sheaf build configs/images/sheaf.toml", "build | seconds");
        let recipe = case.root().join("configs/images/sheaf.toml");
        let build = Command::new(&built.sheaf).arg("build").arg(&recipe).dir(case.root());
        let seconds = |command: &Command| -> Result<String> {
            let start = Instant::now();
            System.run(command)?;
            Ok(format!("{:.0}", start.elapsed().as_secs_f32()))
        };
        if self.cold {
            let cache = case.work().join("cache");
            self.row(&["cold (empty SHEAF_CACHE)", &seconds(&build.clone().env("SHEAF_CACHE", &cache))?]);
        }
        self.row(&["warm, nothing changed", &seconds(&build)?]);
        let changed = Changed::line_of(case.root().join("agent/src/main.rs"))?;
        self.row(&["warm, one line of the agent changed (bar: 90)", &seconds(&build)?]);
        drop(changed);
        // What is measured from here on is the commit's own release again: from the cache.
        System.run(&build)?;
        Ok(())
    }

    fn desk(&mut self, case: &Case) -> Result<()> {
        let built = case.built()?;
        self.head("Checking a config", "sheaf config check fleet.toml", "what | ms");
        let (median, most, size) = desk::fleet_check(case, &built)?;
        let what = |what: &str| format!("500 nodes in one file of {size} KiB, {what}");
        self.row(&[&what("median of 11 runs (bar: 200)"), &format!("{median:.0}")]);
        self.row(&[&what("slowest"), &format!("{most:.0}")]);

        self.head(
            "Writing the root image to a disk",
            "dd if=root.erofs of=DISK bs=4M oflag=direct conv=fsync; dd if=DISK bs=4M iflag=direct | cmp - root.erofs; \
             target/release/examples/write_path RELEASE DISK; \
             coreos-installer install --offline --insecure --image-file root.erofs DISK (loop device, direct-io=on)",
            "who | seconds, median of 3 in turns | ÷ dd | ÷ dd with verification",
        );
        let writers = desk::writers(case, &built)?;
        let mut row = |who: &str, seconds: f64| {
            let [seconds, alone, verified] =
                [seconds, seconds / writers.dd, seconds / writers.dd_verified].map(|n| format!("{n:.2}"));
            self.row(&[who, &seconds, &alone, &verified]);
        };
        row(&format!("`dd`, {} MB from memory", writers.bytes / 1_000_000), writers.dd);
        row("`dd` with verification: read back past the page cache, compared by `cmp`", writers.dd_verified);
        row("installer: frames checked, decoded, written, flushed", writers.written);
        row(
            "installer: the same, read back and compared (bar: 1.1 × dd with verification)",
            writers.verified,
        );
        match writers.coreos {
            Some(seconds) => row("coreos-installer: copied, not read back", seconds),
            None => {
                self.line("\ncoreos-installer: not measured (no loop device here, or it could not be built).")
            }
        }
        // A disk as fast as memory shows what the processors do; on one that is not, they wait for it.
        let rate = writers.bytes as f64 / writers.dd / 1e6;
        self.line(&format!("\nThe disk took {rate:.0} MB/s from `dd`."));
        if let Some(coreos) = writers.coreos {
            self.line(&format!(
                "\nInstaller, read back and compared, ÷ coreos-installer: {:.2}",
                writers.verified / coreos
            ));
        }
        Ok(())
    }

    fn installation(&mut self, case: &Case) -> Result<()> {
        // The first node of the cases; it is installed when none is there.
        drop(case.cluster()?);
        let serial = case.snapshot_serial()?;
        self.head("Installation", "grep 'sheaf-installer: timing' serial.log", "phase | seconds");
        let (_, json) =
            serial.split_once("sheaf-installer: timing ").context("the installer told no times")?;
        let timing: Value = serde_json::from_str(json.lines().next().unwrap_or_default().trim())?;
        for (phase, seconds) in timing["seconds"].as_object().into_iter().flatten() {
            self.row(&[phase, &format!("{:.1}", seconds.as_f64().unwrap_or_default())]);
        }
        self.row(&["in all", &format!("{:.1}", timing["total"].as_f64().unwrap_or_default())]);
        let payload = timing["payload_bytes"].as_u64().unwrap_or_default() / 1_000_000;
        self.row(&["payload written and read again, MB", &payload.to_string()]);
        Ok(())
    }

    fn memory(&mut self, case: &Case) -> Result<()> {
        let cluster = case.cluster()?;
        self.head(
            "Memory of an idle first node (control plane and agent)",
            "PSS of every process, /proc/*/smaps_rollup; MemTotal − MemAvailable of /proc/meminfo; VmRSS of the agent",
            "what | MiB",
        );
        let used = cluster.root(
            "awk '/^MemTotal/ {t=$2} /^MemAvailable/ {a=$2} END {print int((t-a)/1024)}' /proc/meminfo",
        )?;
        self.row(&["whole node, used (bar: 800)", &used]);
        for line in cluster.root(PSS)?.lines().take(14) {
            let (kib, name) = line.split_once(' ').unwrap_or_default();
            self.row(&[&format!("`{name}` (PSS)"), &mebibytes(kib)]);
        }
        self.row(&["agent RSS, idle (bar: 20)", &mebibytes(&cluster.root(AGENT_RSS)?)]);
        cluster.start_vm(VM, "wheat")?;
        self.row(&["agent RSS, one VM", &mebibytes(&cluster.root(AGENT_RSS)?)]);
        Ok(())
    }

    /// What a new cluster costs until its node is Ready with its image and its pool: the moment of the snapshot.
    fn first_boot(&mut self, case: &Case) -> Result<()> {
        let cluster = case.cluster()?;
        self.head(
            "First boot of a new cluster, until its node, its image and its pool are Ready",
            "systemctl show --property CPUUsageNSec of every unit; /proc/uptime",
            "unit | processor seconds",
        );
        let units = cluster.root(PROCESSOR)?;
        let uptime = cluster.root("cut -d ' ' -f 1 /proc/uptime")?;
        for line in units.lines().take(12) {
            let (milliseconds, unit) = line.split_once(' ').unwrap_or_default();
            let seconds = milliseconds.parse::<f64>().unwrap_or_default() / 1e3;
            self.row(&[&format!("`{unit}`"), &format!("{seconds:.1}")]);
        }
        self.row(&["the machine, time since the kernel's start", &uptime]);
        Ok(())
    }

    /// The machine is switched off and on.
    fn boot(&mut self, case: &Case) -> Result<()> {
        let mut cluster = case.cluster()?;
        self.head(
            "Boot from disk to a Ready node",
            "power on; then systemd-analyze, systemctl show, kubectl get node",
            "until | seconds",
        );
        let old = cluster.boot_id(READY)?;
        // The old machine ends when the new one takes its place; both must not have the disk.
        cluster.power_cycle()?;
        let start = Instant::now();
        let new = cluster.boot_id(BOOT_DEADLINE)?;
        anyhow::ensure!(old != new, "the machine did not boot again");
        cluster.operator.wait("Ready after the boot", &["node", "node1"], BOOT_DEADLINE, |node| {
            let same = node["status"]["nodeInfo"]["bootID"] == new.as_str();
            (same && condition(node, "Ready") == Some("True")).then_some(())
        })?;
        let ready = start.elapsed();
        let agent: f64 = cluster.root(AGENT_READY)?.parse().unwrap_or_default();
        self.row(&["agent ready, from the kernel's start", &format!("{:.1}", agent / 1e6)]);
        self.row(&["Node Ready, from power-on, firmware included", &format!("{:.1}", ready.as_secs_f32())]);
        let analyze =
            cluster.machine.shell().run("systemd-analyze", Duration::from_secs(60)).unwrap_or_default();
        self.line(&format!("\n`systemd-analyze`: {}", analyze.lines().next().unwrap_or("not in the image")));
        Ok(())
    }

    /// A node's boot beside that of stock Debian in the same machine.
    fn debian(&mut self, case: &Case) -> Result<()> {
        let debian = debian::boot_seconds(case)?;
        let mut cluster = case.cluster()?;
        cluster.power_cycle()?;
        cluster.boot_id(BOOT_DEADLINE)?;
        cluster.operator.wait_node_ready("node1", BOOT_DEADLINE)?;
        let agent = cluster.root(AGENT_READY)?.parse::<f64>()? / 1e6;
        self.head(
            "Boot, beside stock Debian",
            "systemctl show --property ActiveEnterTimestampMonotonic sheaf-agent; Debian (variant standard): the total of \
             systemd's \"Startup finished\" (2 processors, 4 GiB, virtio-blk, median of 3)",
            "from the kernel's start | seconds",
        );
        self.row(&["node: agent ready", &format!("{agent:.1}")]);
        self.row(&["stock Debian: startup finished", &format!("{debian:.1}")]);
        self.row(&["node ÷ Debian (bar: 0.6)", &format!("{:.2}", agent / debian)]);
        Ok(())
    }

    /// A VM's start beside libvirt's own.
    fn vms(&mut self, case: &Case) -> Result<()> {
        let starts = vms::starts(case)?;
        self.head(
            "Starting a VM",
            "kubectl apply -f docs/examples/vm.yaml; kubectl wait vm/wheat --for=jsonpath={.status.printableStatus}=Running; \
             busctl call org.libvirt /org/libvirt/QEMU org.libvirt.Connect DomainCreateXML (what virsh create does), agent stopped",
            "who | seconds, median of 3",
        );
        self.row(&["Sheaf: created → Running", &format!("{:.2}", starts.created)]);
        self.row(&["libvirt: the same domain", &format!("{:.2}", starts.direct)]);
        self.row(&["Sheaf ÷ libvirt (bar: 1.2)", &format!("{:.2}", starts.created / starts.direct)]);
        // Issue 11's bar, which allows for what the API takes.
        let bar = 1.2 * starts.direct + 0.3;
        self.row(&["bar of operating VMs: 1.2 × libvirt + 300 ms", &format!("{bar:.2}")]);
        self.head(
            "Starting a VM, by phase",
            "kubectl get vm,vmi,pods --watch-only, one program each; the same starts as above",
            "until | seconds after apply, median of 3",
        );
        for (name, seconds) in starts.phases {
            self.row(&[name, &format!("{seconds:.2}")]);
        }
        Ok(())
    }

    fn head(&mut self, title: &str, command: &str, columns: &str) {
        eprintln!("{title} …");
        let count = columns.split('|').count();
        self.line(&format!("\n## {title}\n`{command}`\n\n| {columns} |\n|{}", "---|".repeat(count)));
    }

    fn row(&mut self, cells: &[&str]) {
        // Told at once: what comes later may fail.
        eprintln!("{}", cells.join(" | "));
        self.line(&format!("| {} |", cells.join(" | ")));
    }

    fn line(&mut self, line: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// A source file with one line more, until it is dropped.
struct Changed {
    path: PathBuf,
    text: String,
}

impl Changed {
    fn line_of(path: PathBuf) -> Result<Self> {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        // Another number each time, or the second measurement would find the first one's result in the cache.
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let line = format!("#[used]\nstatic MEASURED: u64 = {now};\n");
        let changed = Self { path, text };
        std::fs::write(&changed.path, format!("{}\n{line}", changed.text))?;
        Ok(changed)
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(&self.path, &self.text) {
            eprintln!("{}: not restored: {error}; git checkout it", self.path.display());
        }
    }
}

fn size(path: &Path) -> Result<String> {
    Ok(path.metadata().with_context(|| path.display().to_string())?.len().to_string())
}

fn megabytes(path: &Path) -> Result<String> {
    Ok(format!("{:.1}", path.metadata()?.len() as f64 / 1e6))
}

fn mebibytes(kib: &str) -> String {
    format!("{:.1}", kib.trim().parse::<f64>().unwrap_or_default() / 1024.0)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
