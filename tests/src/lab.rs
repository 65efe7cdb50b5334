//! A node whose agent is a process, with libvirt and QEMU of the tools chroot, on the real control plane.
//!
//! Why here: Pods that are virtual machines are tried (`tests/vms.rs`) and measured (`bench`) without a machine. Route in: the
//! agent's program. Route out: Pods, and the processes behind them; all of it is gone when the [`Lab`] is dropped.

use crate::cluster::{AgentNode, Approver, ControlPlane, TOKEN};
use crate::libvirt::Libvirt;
use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sheaf_agent::vms::filters::{self, State};
use sheaf_host::nft::{Filter, Nft};
use sheaf_host::run::{Command, Run, System};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// Longest wait for anything here; the machine is shared with other tests.
const PATIENCE: Duration = Duration::from_secs(90);

/// What the guest says on its serial port.
pub const GREETING: &str = "SHEAF GUEST UP";

/// A disk that says [`GREETING`] on the first serial port and then does nothing forever; it knows no ACPI.
fn guest_disk() -> Vec<u8> {
    // xor ax,ax; mov ds,ax; cld; mov si,text; mov dx,3f8h; next: lodsb; test al,al; jz end; out dx,al; jmp next;
    // end: hlt; jmp end
    let mut sector = vec![
        0x31, 0xc0, 0x8e, 0xd8, 0xfc, 0xbe, 0, 0, 0xba, 0xf8, 0x03, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb,
        0xf8, 0xf4, 0xeb, 0xfd,
    ];
    let text = 0x7c00 + sector.len() as u16;
    sector[6..8].copy_from_slice(&text.to_le_bytes());
    sector.extend(format!("\r\n{GREETING}\r\n\0").bytes());
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector.resize(1 << 20, 0);
    sector
}

/// One node: an agent process, libvirt, a control plane.
pub struct Lab {
    agent: Option<Child>,
    /// libvirt and QEMU.
    pub libvirt: Libvirt,
    /// The node's files.
    pub node: AgentNode,
    _approver: Approver,
    /// The control plane.
    pub plane: ControlPlane,
    program: PathBuf,
}

impl Lab {
    /// Starts the agent of this checkout, or the one that SHEAF_AGENT names.
    pub async fn start() -> Result<Self> {
        Self::with(built_agent()?).await
    }

    /// Starts this agent.
    pub async fn with(program: PathBuf) -> Result<Self> {
        let plane = ControlPlane::start("").await?;
        let approver = plane.approver().await?;
        for words in [
            vec!["link", "add", "br0", "type", "bridge"],
            vec!["address", "add", "192.0.2.7/24", "dev", "br0"],
            vec!["link", "set", "br0", "up"],
            // A bridge is up once a port of it is.
            vec!["link", "add", "port0", "master", "br0", "type", "veth", "peer", "name", "wire0"],
            vec!["link", "set", "port0", "up"],
            vec!["link", "set", "wire0", "up"],
        ] {
            System.run(&Command::new("ip").args(["-n", plane.namespace()]).args(words))?;
        }
        let libvirt = Libvirt::start(plane.namespace())?;
        let disk = guest_disk();
        let sha256: String = Sha256::digest(&disk).iter().map(|byte| format!("{byte:02x}")).collect();
        let node = AgentNode::new(
            &format!(
                "version = 1\n[system]\nhostname = \"n1\"\n[cluster]\nmode = \"join\"\nserver = \"{}\"\ntoken = \"{TOKEN}\"\n\
                 ca-hash = \"{}\"\n[[image]]\nname = \"tiny.raw\"\nurl = \"http://192.0.2.1/tiny.raw\"\nsha256 = \"{sha256}\"\n",
                plane.server, plane.ca_hash
            ),
            "aaaa",
        )?;
        std::fs::create_dir_all(node.paths().images())?;
        std::fs::write(node.paths().images().join("tiny.raw"), disk)?;
        std::fs::create_dir_all(&node.paths().run_root)?;
        std::os::unix::fs::symlink(libvirt.sockets()?, node.paths().run_root.join("libvirt"))?;
        let clock = node.paths().run_root.join("systemd/timesync");
        std::fs::create_dir_all(&clock)?;
        std::fs::write(clock.join("synchronized"), "")?;
        let class = json!({
            "metadata": {"name": "sheaf-vm"}, "handler": "sheaf-vm",
            "scheduling": {"nodeSelector": {"sheaf.dev/vm-node": "true"},
                           "tolerations": [{"key": "sheaf.dev/vm-only", "operator": "Exists", "effect": "NoSchedule"}]},
        });
        let classes: Api<RuntimeClass> = Api::all(plane.admin.clone());
        classes.create(&PostParams::default(), &serde_json::from_value(class)?).await?;
        let mut lab = Self { agent: None, libvirt, node, _approver: approver, plane, program };
        lab.start_agent()?;
        let nodes: Api<Node> = Api::all(lab.plane.admin.clone());
        lab.wait("Ready node with the image", async || {
            let node = nodes.get_opt("n1").await?;
            let labels = node.as_ref().and_then(|node| node.metadata.labels.clone()).unwrap_or_default();
            let status = node.and_then(|node| node.status).unwrap_or_default();
            let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
            Ok((ready && labels.contains_key("image.sheaf.dev/tiny.raw")).then_some(()))
        })
        .await?;
        Ok(lab)
    }

    /// Starts the agent, again after [`Lab::kill_agent`].
    pub fn start_agent(&mut self) -> Result<()> {
        let root = self.root();
        let path =
            format!("{}:{}", self.libvirt.programs().display(), std::env::var("PATH").unwrap_or_default());
        let command = Command::new("ip")
            .args(["netns", "exec", self.plane.namespace()])
            .arg(&self.program)
            .arg("--root")
            .arg(&root)
            .arg("run")
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.libvirt.bus())
            .env("SHEAF_DOMAIN_TYPE", "qemu")
            .env("SHEAF_LOG", "info,sheaf_agent::vms=debug")
            .env("PATH", path)
            .log(root.join("agent.log"));
        self.agent = Some(System.start(&command)?);
        Ok(())
    }

    /// As `kill -9` does.
    pub fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().ok();
            agent.wait().ok();
        }
    }

    /// Process of the agent.
    pub fn agent(&self) -> Option<u32> {
        self.agent.as_ref().map(Child::id)
    }

    /// The packet filter of the node.
    pub fn filter(&self) -> Result<State> {
        let nft = Command::new("ip").args(["netns", "exec", self.plane.namespace()]);
        let nft = Nft::by(nft.arg(self.libvirt.programs().join("nft")));
        Ok(State::read(&nft.table(filters::FAMILY, filters::TABLE)?))
    }

    /// Directory that is `/` to the agent.
    pub fn root(&self) -> PathBuf {
        self.node.paths().data.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// The Pods of the default namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.plane.admin.clone(), "default")
    }

    /// What sheaf-controller would make for VMI `name`.
    pub async fn place(&self, name: &str, vmi_uid: &str, spec: Value) -> Result<()> {
        self.place_with(name, vmi_uid, spec, "100m").await
    }

    /// The same, with this much CPU set aside.
    pub async fn place_with(&self, name: &str, vmi_uid: &str, spec: Value, cpu: &str) -> Result<()> {
        let annotation =
            json!({"name": name, "namespace": "default", "uid": vmi_uid, "spec": spec}).to_string();
        self.create(json!({
            "metadata": {"name": name, "annotations": {"sheaf.dev/vmi": annotation},
                         "labels": {"kubevirt.io/created-by": vmi_uid}},
            "spec": {
                "runtimeClassName": "sheaf-vm", "restartPolicy": "Never", "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 4,
                "containers": [{"name": "compute", "image": "sheaf.dev/virtual-machine", "resources": {
                    "requests": {"cpu": cpu, "memory": "100Mi"}, "limits": {"devices.kubevirt.io/kvm": "1"}}}],
            },
        }))
        .await
    }

    /// Creates a Pod.
    pub async fn create(&self, pod: Value) -> Result<()> {
        let pod: Pod = serde_json::from_value(pod)?;
        // The service account of the namespace comes a moment after the API server.
        self.wait("Pod accepted", async || match self.pods().create(&PostParams::default(), &pod).await {
            Ok(_) => Ok(Some(())),
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
            Err(error) => Err(error.into()),
        })
        .await
    }

    /// Waits until `found` finds something in the Pod.
    pub async fn wait_pod<T>(&self, name: &str, what: &str, found: impl Fn(&Pod) -> Option<T>) -> Result<T> {
        self.wait(&format!("{what} of Pod {name}"), async || Ok(found(&self.pods().get(name).await?))).await
    }

    /// Waits until `ask` has an answer; otherwise fails with what everybody said.
    pub async fn wait<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = ask().await.with_context(|| what.to_owned())? {
                return Ok(found);
            }
            if Instant::now() > end {
                let pods = self.pods().list(&ListParams::default()).await?.items;
                let said: Vec<_> = pods.iter().map(|pod| serde_json::to_string(&pod.status)).collect();
                let log = std::fs::read_to_string(self.root().join("agent.log")).unwrap_or_default();
                bail!("no {what}\nPods: {said:?}\nagent:\n{log}\nlibvirt:\n{}", self.libvirt.log());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kill_agent();
    }
}

/// The agent: SHEAF_AGENT, else the one of this checkout, built as these tests are.
fn built_agent() -> Result<PathBuf> {
    match std::env::var_os("SHEAF_AGENT") {
        Some(program) => Ok(program.into()),
        None => built("sheaf-agent"),
    }
}

/// A program of this checkout, built as these tests are. A test depends on its library alone: the program may be of an earlier
/// day, or not there.
pub fn built(program: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").context("CARGO is not set: these tests are run by cargo")?;
    System.run(&Command::new(cargo).args(["build", "--quiet", "--package", program]))?;
    // …/target/debug/deps/all-HASH of cases, …/target/debug/bench
    let own = std::env::current_exe()?;
    let folder = own.parent().context("this program lies in a target directory")?;
    let folder = if folder.ends_with("deps") { folder.parent().context("deps")? } else { folder };
    Ok(folder.join(program))
}
