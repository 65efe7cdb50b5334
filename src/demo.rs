//! `sheaf demo`: from a recipe to a running VM, in QEMU, before the operator's eyes.
//!
//! Why here: it is the shortest proof that all parts fit, and goes the way an operator goes: medium, unattended
//! installation, status page on the serial line, kubeconfig, `kubectl`. Route in: a recipe. Route out: one last line
//! that says what happened; nothing is left running (`--keep`: until it is interrupted).

mod show;

use crate::workplace::Workplace;
use anyhow::Context as _;
use sheaf_machine::spec::Forward;
use sheaf_machine::{Machine, Medium, NodeMachine, Operator, Tools, death, lab, node, ports};
use sheaf_os_image::inputs::Digest;
use show::Show;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The VM of docs/examples/vm.yaml.
const VM: &str = "wheat";
/// An image of the demo, as node.toml and the VM name it.
const IMAGE: &str = "guest.raw";
/// The node is Ready when its agent has joined and libvirt answers; all of it emulated.
const READY: Duration = Duration::from_secs(300);
/// A first VM: libvirt's capability probe, then a start under emulated KVM.
const RUNNING: Duration = Duration::from_secs(240);
/// A guest's way to its first line, as a VM in an emulated machine.
const CONSOLE: Duration = Duration::from_secs(180);

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// What is built
    #[arg(long, default_value = "configs/images/sheaf.toml")]
    recipe: PathBuf,
    /// Take this release folder instead of building the recipe
    #[arg(long, value_name = "FOLDER")]
    release: Option<PathBuf>,
    /// Leave the node running at the end, and print how to reach it
    #[arg(long)]
    keep: bool,
}

/// Ports of 127.0.0.1 that lead to the node.
struct Ports {
    /// To the API server.
    api: u16,
    /// To the console.
    console: u16,
}

/// Everything the steps share.
struct Demo {
    place: Workplace,
    tools: Tools,
    operator: Operator,
    folder: PathBuf,
    show: Show,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let show = Show::begin();
    let place = Workplace::find()?;
    let release = match &arguments.release {
        Some(folder) => folder.clone(),
        None => show.step("build the release", || {
            crate::build::release(&arguments.recipe, crate::build::Packages::Kept, false)
        })?,
    };
    let kube =
        show.step("build the control plane's binary (kubectl is part of it)", || crate::kube::build(&place))?;
    let guest = show.step("make a small disk for the VM", || crate::guest::build(&place, None))?;

    let folder = place.source.path("target/sheaf/demo");
    let sheaf = std::env::current_exe().context("this program's own path")?;
    let operator = Operator::new(&sheaf, &kube, &folder).until_dead(&folder);
    let demo = Demo { operator, place, tools: Tools::find()?, folder, show };
    match demo.attempt(&release, &guest, arguments.keep) {
        Ok(()) => {}
        Err(error) => {
            // A machine that broke says nothing about Sheaf alone: what broke is shown, and it is tried once more.
            let Some(cause) = death::cause(&demo.folder) else { return Err(error) };
            demo.show.again(&cause);
            demo.attempt(&release, &guest, arguments.keep)?;
        }
    }
    demo.show.end(&format!("node1 was installed unattended, is Ready, and runs the VM {VM} under KVM"));
    Ok(())
}

impl Demo {
    /// Everything that a machine is needed for, from an empty folder.
    fn attempt(&self, release: &Path, guest: &Path, keep: bool) -> anyhow::Result<()> {
        clear(&self.folder)?;
        let (ports, node) = self.node(release, guest)?;
        let mut machine = self.show.step("boot the node from its disk", || Ok(node.boot()?))?;
        self.join(&mut machine, ports.api)?;
        self.vm()?;
        self.show.hardware();
        if keep {
            self.show.reach(&self.operator.kubectl_command(&["get", "vm,vmi,node"]).to_string());
            let (secret, code) = crate::admin::code::new()?;
            self.operator.wait_apply(&secret, READY)?;
            self.show.console(&format!("https://127.0.0.1:{}/", ports.console), &code);
            machine.wait_until_off()?;
        } else {
            machine.cut_power();
            self.remove_disks()?;
        }
        Ok(())
    }

    /// Key, node.toml, medium, installation.
    fn node(&self, release: &Path, guest: &Path) -> anyhow::Result<(Ports, NodeMachine)> {
        let mut node = lab::Node::first(
            &self.show.step("make the administrator's key", || Ok(self.operator.admin_key()?))?,
        );
        node.images.push((IMAGE.into(), Digest::of_file(guest)?.as_str().to_owned()));
        let (config, iso) = (self.folder.join("node.toml"), self.folder.join("demo.iso"));
        std::fs::write(&config, node.toml()).with_context(|| config.display().to_string())?;
        self.show.step("write an ISO with node.toml and the VM's image on it", || {
            Ok(self.operator.iso(release, &config, &[guest.to_owned()], &iso)?)
        })?;
        let ports = Ports { api: ports::free_port()?, console: ports::free_port()? };
        let mut machine = NodeMachine::blank(&self.tools, &node, &self.folder, &self.folder)?;
        for (host, port) in [(ports.api, 6443), (ports.console, 443)] {
            machine.spec.forwards.push(Forward { host, guest: node.address, port });
        }
        self.show.step("install on an empty disk (QEMU, UEFI, no key pressed)", || {
            Ok(machine.install(Medium::Cd(iso), |line| self.show.installer(line))?)
        })?;
        Ok((ports, machine))
    }

    /// Status page, kubeconfig, Node.
    fn join(&self, machine: &mut Machine, port: u16) -> anyhow::Result<()> {
        let pin = self
            .show
            .step("read the cluster's CA hash on the node's status page", || Ok(node::ca_hash(machine)?))?;
        self.show.say(&pin);
        let server = format!("https://127.0.0.1:{port}");
        self.show.step("fetch the administrator's kubeconfig", || {
            Ok(self.operator.wait_kubeconfig(&server, &pin, node::BOOT_DEADLINE)?)
        })?;
        self.show
            .step("wait for the node to be Ready", || Ok(self.operator.wait_node_ready("node1", READY)?))?;
        self.print(&["get", "nodes", "-o", "wide"])
    }

    /// A VM from the manifest an operator reads in the documentation.
    fn vm(&self) -> anyhow::Result<()> {
        let manifest = self.place.source.path("docs/examples/vm.yaml");
        let text = std::fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
        self.show.step("kubectl apply -f docs/examples/vm.yaml", || {
            Ok(self.operator.wait_apply(&text, READY)?)
        })?;
        self.show.step("wait for the VM to run", || Ok(self.operator.wait_vm_running(VM, RUNNING)?))?;
        self.print(&["get", "vm,vmi,pods", "-o", "wide"])?;
        let tail = self
            .show
            .step("read the VM's console", || Ok(self.operator.wait_console(VM, "guest: up", CONSOLE)?))?;
        tail.lines().for_each(|line| self.show.say(line));
        Ok(())
    }

    fn print(&self, kubectl: &[&str]) -> anyhow::Result<()> {
        self.show.say(&format!("$ kubectl {}", kubectl.join(" ")));
        self.operator.kubectl(kubectl)?.lines().for_each(|line| self.show.say(line));
        Ok(())
    }

    /// The machine's disks; keys and media stay.
    fn remove_disks(&self) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "qcow2") {
                std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }
}

fn clear(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir_all(folder),
    }
    .with_context(|| folder.display().to_string())
}
