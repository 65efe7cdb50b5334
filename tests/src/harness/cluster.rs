//! The first node of a cluster: installed, booted, joined, and from then on restored in a second.
//!
//! Why here: an installation and a boot under emulation take minutes, so only the cases about them pay for them.
//! Route in: a case. Route out: a [`Cluster`] whose node is Ready and runs no VM. The state behind it lies in
//! `target/sheaf/snapshots/KEY/`; the key is the content of release, guest disk and harness.

use super::{Case, built::Built};
use anyhow::{Context as _, Result};
use sha2::{Digest, Sha256};
use sheaf_machine::spec::{Forward, Lan};
use sheaf_machine::{
    Machine, Medium, Nic, NodeMachine, Operator, Spec, Switch, UserNetwork, Vlans, death, files, lab, node,
    ports,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Raise it when a change here changes what a snapshot holds.
const SNAPSHOT_VERSION: u32 = 6;
/// From the first answer of the API server to a Ready node, under emulation.
pub const READY: Duration = Duration::from_secs(300);
/// How long a running VM may need, the first on a node included.
pub const RUNNING: Duration = Duration::from_secs(240);
/// The VMs' image on the node's medium.
pub const IMAGE: &str = "guest.raw";

/// A cluster of one node in a machine that is on.
pub struct Cluster {
    /// The node's machine.
    pub machine: Machine,
    /// How to switch it on again after its power was cut.
    pub node: NodeMachine,
    /// Anyone who administers it.
    pub operator: Operator,
    /// The hash that joining nodes pin.
    pub ca_hash: String,
    // Last: it outlives the machine.
    /// The network, for another machine's cable.
    pub switch: Switch,
}

impl Case {
    /// The operator's programs and the release.
    pub fn built(&self) -> Result<Built> {
        Built::find(self.root())
    }

    /// A cluster of one Ready node, from its snapshot, which is made when there is none.
    pub fn cluster(&self) -> Result<Cluster> {
        let snapshot = self.snapshot()?;
        if !snapshot.join("complete").exists() {
            self.try_snapshot(&snapshot).context("the node that cases start from")?;
        }
        self.restore(&snapshot)
    }

    /// A node that did not come up is not tried again by every case: minutes each, for the same answer.
    fn try_snapshot(&self, folder: &Path) -> Result<()> {
        let failure = folder.join("failed");
        if let Ok(reason) = std::fs::read_to_string(&failure) {
            anyhow::bail!("{reason}\n(as an earlier case found; to try again: rm -r {})", folder.display());
        }
        self.make_snapshot(folder).inspect_err(|error| {
            // Only spares the next case its wait.
            let _ = std::fs::write(&failure, format!("{error:#}"));
        })
    }

    /// What the node's machine said while the snapshot was made: installer and first boot.
    pub fn snapshot_serial(&self) -> Result<String> {
        let path = self.snapshot()?.join("serial.log");
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    fn snapshot(&self) -> Result<PathBuf> {
        // Of anyone who shares `target` with other checkouts, which remove what is not theirs.
        if let Some(own) = std::env::var_os("SHEAF_SNAPSHOT") {
            return Ok(own.into());
        }
        let mut hash = Sha256::new();
        hash.update(SNAPSHOT_VERSION.to_le_bytes());
        hash.update(self.built()?.manifest()?);
        hash.update(std::fs::read(self.guest_disk()?.with_extension("key"))?);
        hash.update(self.tools.root().as_os_str().as_encoded_bytes());
        hash.update(lab::Node::first("").toml());
        let key: String = hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        Ok(self.made().join("snapshots").join(key))
    }

    /// The operator's way: key, node.toml, medium, installation, first boot, kubeconfig, Ready; then the state is saved.
    fn make_snapshot(&self, folder: &Path) -> Result<()> {
        if let Some(all) = folder.parent().filter(|all| all.ends_with("snapshots") && all.exists()) {
            // Earlier builds': some GB each.
            std::fs::remove_dir_all(all)?;
        }
        std::fs::create_dir_all(folder)?;
        let built = self.built()?;
        let operator = Operator::new(&built.sheaf, &built.kube, folder);
        let node = self.first_node(&operator.admin_key()?)?;
        let iso = self.iso(&operator, &built, &node)?;

        let mut machine = NodeMachine::blank(&self.tools, &node, folder, &self.artefacts())?;
        machine.install(Medium::Cd(iso), |_| {})?;
        let port = ports::free_port()?;
        let switch = Switch::start()?;
        cable(&mut machine.spec, &node, port, &switch)?;
        let mut running = machine.boot()?;
        let ca_hash = node::ca_hash(&mut running)?;
        std::fs::write(folder.join("ca-hash"), &ca_hash)?;
        operator.wait_kubeconfig(&format!("https://127.0.0.1:{port}"), &ca_hash, node::BOOT_DEADLINE)?;
        operator.wait_node_ready(&node.name, READY)?;
        // VMs are scheduled by the image's label, which comes when the image was copied and verified.
        let label = format!("image.sheaf.dev/{IMAGE}");
        operator.wait("image's label on the node", &["node", &node.name], READY, |object| {
            object["metadata"]["labels"][&label].as_str().map(drop)
        })?;
        // Whatever sheaf-controller brings is there, and the node has answered to it.
        operator.wait(
            "default pool",
            &["storagepool", &format!("default.{}", node.name)],
            READY,
            |pool| (pool["status"]["phase"] == "Ready").then_some(()),
        )?;
        // The last of it.
        operator
            .wait("preferences", &["virtualmachineclusterpreferences", "windows.11"], READY, |_| Some(()))?;
        std::fs::copy(running.serial.path(), folder.join("serial.log"))?;
        running.save(&folder.join("state"))?;
        std::fs::write(folder.join("complete"), "")?;
        Ok(())
    }

    /// A machine that continues where the saved one was, on disks of its own.
    fn restore(&self, snapshot: &Path) -> Result<Cluster> {
        let built = self.built()?;
        let node = self.first_node("")?;
        let port = ports::free_port()?;
        let switch = Switch::start()?;
        let mut machine = NodeMachine::existing(&self.tools, &node, snapshot, &self.artefacts());
        for file in machine.spec.files_mut() {
            let own = self.work().join(file.file_name().context("a disk without a name")?);
            files::overlay(&self.tools, file, &own)?;
            *file = own;
        }
        cable(&mut machine.spec, &node, port, &switch)?;
        let restored = Spec { restore: Some(snapshot.join("state")), ..machine.spec.clone() };
        let ca_hash = std::fs::read_to_string(snapshot.join("ca-hash"))?;
        let operator =
            Operator::new(&built.sheaf, &built.kube, snapshot).at(&format!("https://127.0.0.1:{port}"));
        let operator = operator.until_dead(&self.artefacts());
        let mut running = self.start(&restored)?;
        self.try_programs(&mut running)?;
        operator.wait_node_ready(&node.name, READY)?;
        operator.wait_apis(READY)?;
        Ok(Cluster { machine: running, node: machine, operator, ca_hash, switch })
    }

    /// The first node of every cluster here, with the VMs' image on its medium.
    pub fn first_node(&self, admin_key: &str) -> Result<lab::Node> {
        self.with_image(lab::Node::first(admin_key))
    }

    /// `node`, with the VMs' image on its medium.
    pub fn with_image(&self, mut node: lab::Node) -> Result<lab::Node> {
        let disk = self.guest_disk()?;
        let bytes = std::fs::read(&disk).with_context(|| disk.display().to_string())?;
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        node.images.push((IMAGE.into(), sha256));
        Ok(node)
    }

    /// A second machine on the cable of `cluster`, installed, joined by token and Ready as node2; it has a shell.
    pub fn second_node(&self, cluster: &Cluster) -> Result<Machine> {
        Ok(self.joined(cluster, lab::Node::second)?.1)
    }

    /// A further machine on the cable of `cluster`, installed, joined by a token of its own and Ready as the node that `of` gives for the
    /// hash of the CA and the token; it has a shell. What switches it on again after its power was cut, and the machine.
    pub fn joined(
        &self,
        cluster: &Cluster,
        of: impl FnOnce(&str, &str) -> lab::Node,
    ) -> Result<(NodeMachine, Machine)> {
        let node = self.with_image(of(&cluster.ca_hash, &cluster.new_token()?))?;
        let iso = self.iso(&cluster.operator, &self.built()?, &node)?;
        let mut machine = NodeMachine::blank(&self.tools, &node, self.work(), &self.artefacts())?;
        machine.spec.lan = Lan::Cable(cluster.switch.socket());
        machine.install(Medium::Usb(iso), |_| {})?;
        machine.spec.shell = true;
        let running = machine.boot()?;
        cluster.operator.wait_node_ready(&node.name, READY)?;
        Ok((machine, running))
    }

    /// A medium that installs `node`.
    pub fn iso(&self, operator: &Operator, built: &Built, node: &lab::Node) -> Result<PathBuf> {
        let (config, iso) =
            (self.work().join(format!("{}.toml", node.name)), self.work().join(format!("{}.iso", node.name)));
        std::fs::write(&config, node.toml())?;
        let images: &[PathBuf] = if node.images.is_empty() { &[] } else { &[self.guest_disk()?] };
        operator.iso(&built.release, &config, images, &iso)?;
        Ok(iso)
    }
}

impl Cluster {
    /// Cuts the node's power and switches it on again.
    pub fn power_cycle(&mut self) -> Result<()> {
        self.machine.cut_power();
        self.machine = self.node.boot()?;
        Ok(())
    }

    /// The socket that the further NIC `index` is plugged into.
    pub fn further_port(&self, index: usize) -> PathBuf {
        self.switch.socket().with_file_name(FURTHER_PORTS[index])
    }

    /// A token for one more node, as its operator makes it.
    fn new_token(&self) -> Result<String> {
        let table = self.root("sheaf-agent token create")?;
        let token = table.lines().find_map(|line| line.strip_prefix("token = \"")?.strip_suffix('"'));
        Ok(token.with_context(|| format!("sheaf-agent token create shows no token: {table}"))?.to_owned())
    }

    /// Runs `command` as root on the node.
    pub fn root(&self, command: &str) -> Result<String> {
        // Anything a case asks a node takes a moment, even emulated.
        Ok(self.machine.shell().run(command, Duration::from_secs(60))?)
    }

    /// Starts the VM of `manifest` and waits until its console shows `guest: up`; gives that line.
    pub fn start_vm(&self, manifest: &str, name: &str) -> Result<String> {
        self.operator.wait_apply(manifest, READY)?;
        self.operator.wait_vm_running(name, RUNNING)?;
        self.console_line(name, "guest: up")
    }

    /// Looks until there is something; a node that is gone has nothing any more.
    fn look<T>(&self, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let gone = || death::cause(self.machine.folder()).map(|_| None);
        sheaf_host::wait::until(deadline, Duration::from_secs(2), || look().map(Some).or_else(gone)).flatten()
    }

    /// The kernel's random identifier of the node's boot, once its shell answers.
    pub fn boot_id(&self, deadline: Duration) -> Result<String> {
        let answer = self.look(deadline, || {
            self.machine.shell().run("cat /proc/sys/kernel/random/boot_id", Duration::from_secs(5)).ok()
        });
        answer.with_context(|| format!("the node's shell does not answer within {} s", deadline.as_secs()))
    }

    /// Like [`Cluster::console_line`], of a guest whose boot is not `old`.
    pub fn new_console_line(&self, name: &str, text: &str, old: &str) -> Result<String> {
        let found = self.look(node::BOOT_DEADLINE, || {
            self.console_line(name, text).ok().filter(|line| field(line, "boot-id") != old)
        });
        found.with_context(|| format!("VM {name} does not boot again"))
    }

    /// The last line of the VM's console, on the node itself, that holds `text`.
    pub fn console_line(&self, name: &str, text: &str) -> Result<String> {
        let vmi = self.operator.wait_vm_running(name, RUNNING)?;
        let uid = vmi["metadata"]["uid"].as_str().context("a VirtualMachineInstance without a uid")?;
        let found = self.look(RUNNING, || {
            // After a boot of the node the one that ran before is still told for a moment; the next has a file of its own.
            let now = ["get", "vmi", name, "-o", "jsonpath={.metadata.uid}"];
            let now = self.operator.kubectl(&now).ok()?;
            let look = format!("grep -a '{text}' /data/vms/{}/console.log | tail -n 1", now.trim());
            self.root(&look).ok().filter(|line| line.contains(text))
        });
        found.with_context(|| {
            format!(
                "the console of VM {name} shows no \"{text}\" within {} s\n{}",
                RUNNING.as_secs(),
                self.guest_state(uid)
            )
        })
    }

    /// What is to be known of a guest that does not say what it should: the end of its console, its processors twice
    /// (two equal pictures: it stands still), what KVM counted.
    fn guest_state(&self, vmi_uid: &str) -> String {
        let script = format!(
            "virsh='virsh --connect qemu:///system'; tail -c 2000 /data/vms/{vmi_uid}/console.log
             for domain in $($virsh list --name); do
               for look in 1 2; do
                 $virsh qemu-monitor-command $domain --hmp 'info status'
                 $virsh qemu-monitor-command $domain --hmp 'info registers -a' | grep -E 'RIP|CR0|CS |HLT'
                 grep -H . /sys/kernel/debug/kvm/*/{{exits,halt_exits,irq_exits,nmi_injections,insn_emulation}} 2>/dev/null
                 sleep 2
               done
             done; uptime; dmesg | tail -n 20"
        );
        // Only an aid: what failed is said anyway.
        self.root(&script).unwrap_or_else(|error| format!("its node says no more: {error}"))
    }
}

/// MAC addresses of the NICs that nobody uses until a case does.
pub const FURTHER_NICS: [&str; 2] = ["52:54:00:5e:af:81", "52:54:00:5e:af:82"];
/// The VLAN in which a second user-mode network, 10.0.3.0/24, is found.
pub const FURTHER_VLAN: u16 = 777;
/// Names of the further NICs' sockets at the switch.
const FURTHER_PORTS: [&str; 2] = ["further-0", "further-1"];

fn cable(spec: &mut Spec, node: &lab::Node, port: u16, switch: &Switch) -> Result<()> {
    // The same devices for every restored node: those of the one that was saved.
    spec.nics.clear();
    for (mac, name) in FURTHER_NICS.iter().zip(FURTHER_PORTS) {
        let switch = Some(switch.port(name, Vlans::all())?);
        spec.nics.push(Nic { switch, ..Nic::new(mac) });
    }
    let uplink = switch.port("uplink", Vlans::access(FURTHER_VLAN))?;
    spec.networks = vec![UserNetwork { prefix: [10, 0, 3], switch: uplink }];
    spec.forwards = vec![Forward { host: port, guest: node.address, port: 6443 }];
    spec.lan = Lan::Gateway(switch.socket());
    spec.shell = true;
    Ok(())
}

/// The word after `name=` in a line of the guest.
pub fn field(line: &str, name: &str) -> String {
    let start = format!("{name}=");
    line.split_whitespace().find_map(|word| word.strip_prefix(&start)).unwrap_or_default().to_owned()
}
