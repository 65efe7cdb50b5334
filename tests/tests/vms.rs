//! The agent as a process, real libvirt and QEMU, the real control plane: Pods that are virtual machines.

use anyhow::{Context as _, Result, anyhow, bail};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sheaf_agent::vms::filters::{self, State};
use sheaf_host::nft::{Filter, Nft};
use sheaf_host::run::{Command, Run, System};
use sheaf_tests::cluster::{AgentNode, Approver, ControlPlane, TOKEN};
use sheaf_tests::libvirt::Libvirt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// Longest wait for anything here; the machine is shared with other tests.
const PATIENCE: Duration = Duration::from_secs(90);

/// What the guest says on its serial port.
const GREETING: &str = "SHEAF GUEST UP";

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
struct Lab {
    agent: Option<Child>,
    libvirt: Libvirt,
    node: AgentNode,
    _approver: Approver,
    plane: ControlPlane,
    program: PathBuf,
}

impl Lab {
    async fn start() -> Result<Self> {
        let program = built_agent()?;
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

    fn start_agent(&mut self) -> Result<()> {
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
    fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().ok();
            agent.wait().ok();
        }
    }

    /// The packet filter of the node.
    fn filter(&self) -> Result<State> {
        let nft = Command::new("ip").args(["netns", "exec", self.plane.namespace()]);
        let nft = Nft::by(nft.arg(self.libvirt.programs().join("nft")));
        Ok(State::read(&nft.table(filters::FAMILY, filters::TABLE)?))
    }

    fn root(&self) -> PathBuf {
        self.node.paths().data.parent().map(Path::to_owned).unwrap_or_default()
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.plane.admin.clone(), "default")
    }

    /// What sheaf-controller would make for VMI `name`.
    async fn place(&self, name: &str, vmi_uid: &str, spec: Value) -> Result<()> {
        let annotation =
            json!({"name": name, "namespace": "default", "uid": vmi_uid, "spec": spec}).to_string();
        self.create(json!({
            "metadata": {"name": name, "annotations": {"sheaf.dev/vmi": annotation},
                         "labels": {"kubevirt.io/created-by": vmi_uid}},
            "spec": {
                "runtimeClassName": "sheaf-vm", "restartPolicy": "Never", "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 4,
                "containers": [{"name": "compute", "image": "sheaf.dev/virtual-machine", "resources": {
                    "requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"devices.kubevirt.io/kvm": "1"}}}],
            },
        }))
        .await
    }

    async fn create(&self, pod: Value) -> Result<()> {
        let pod: Pod = serde_json::from_value(pod)?;
        // The service account of the namespace comes a moment after the API server.
        self.wait("Pod accepted", async || match self.pods().create(&PostParams::default(), &pod).await {
            Ok(_) => Ok(Some(())),
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
            Err(error) => Err(error.into()),
        })
        .await
    }

    async fn wait_pod<T>(&self, name: &str, what: &str, found: impl Fn(&Pod) -> Option<T>) -> Result<T> {
        self.wait(&format!("{what} of Pod {name}"), async || Ok(found(&self.pods().get(name).await?))).await
    }

    async fn wait<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
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
    if let Some(program) = std::env::var_os("SHEAF_AGENT") {
        return Ok(program.into());
    }
    // A test depends on the agent's library alone: its program may be of an earlier day, or not there.
    let cargo = std::env::var_os("CARGO").context("CARGO is not set: these tests are run by cargo")?;
    System.run(&Command::new(cargo).args(["build", "--quiet", "--package", "sheaf-agent"]))?;
    // …/target/debug/deps/all-HASH
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("the test lies in a target directory")?;
    Ok(folder.join("sheaf-agent"))
}

fn running_vm(disks: Value, volumes: Value) -> Value {
    json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {
        "disks": disks, "rng": {}, "interfaces": [{"name": "default", "bridge": {}, "macAddress": "02:00:00:00:00:07"}]}},
        "networks": [{"name": "default", "pod": {}}], "volumes": volumes})
}

fn tiny() -> Value {
    running_vm(
        json!([{"name": "root", "disk": {"bus": "virtio"}}, {"name": "scratch", "disk": {"bus": "sata"}},
               {"name": "seed", "cdrom": {"bus": "sata"}}]),
        json!([{"name": "root", "hostDisk": {"path": "/data/images/tiny.raw", "type": "Disk"}},
               {"name": "scratch", "emptyDisk": {"capacity": "1Gi"}},
               {"name": "seed", "cloudInitNoCloud": {"userData": "#cloud-config\n"}}]),
    )
}

fn phase(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.phase.clone()
}

fn is_ready(pod: &Pod) -> Option<()> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True").then_some(())
}

/// Phase and reason, once the Pod has ended.
fn end(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.clone()?;
    let phase = status.phase.filter(|phase| phase == "Failed" || phase == "Succeeded")?;
    Some((phase, status.reason.unwrap_or_default()))
}

const VMI: &str = "0b0e6d2c-6a4e-4c9f-9a53-0d0e1f2a3b4c";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_is_placed_survives_its_agent_and_ends_with_its_pod() -> Result<()> {
    let mut lab = Lab::start().await?;
    lab.place("web", VMI, tiny()).await?;
    lab.wait_pod("web", "readiness", is_ready).await?;
    let qemu = lab.libvirt.qemu("default_web").context("QEMU runs")?;
    let folder = lab.node.paths().data.join("vms").join(VMI);
    lab.wait("greeting on the console", async || {
        let log = std::fs::read_to_string(folder.join("console.log")).unwrap_or_default();
        Ok(log.contains(GREETING).then_some(()))
    })
    .await?;
    lab.wait_pod("web", "console tail", |pod| {
        let tail = pod.metadata.annotations.as_ref()?.get("sheaf.dev/console-tail")?;
        tail.contains(GREETING).then_some(())
    })
    .await?;

    // Named by the VMI's UID; there before the guest could send.
    let tap = sheaf_agent::names::tap(VMI, 0);
    assert!(lab.filter()?.ports[&tap].version.is_some());
    lab.wait_pod("web", "interfaces", |pod| {
        let seen = pod.metadata.annotations.as_ref()?.get("sheaf.dev/interfaces")?;
        (seen == r#"[{"name":"default","infoSource":"domain"}]"#).then_some(())
    })
    .await?;

    lab.kill_agent();
    std::fs::remove_file(lab.node.paths().status_json())?;
    assert_eq!(lab.libvirt.qemu("default_web"), Some(qemu), "the VM outlives its agent");
    lab.start_agent()?;
    lab.wait("VM in the status of the new agent", async || {
        let json = std::fs::read_to_string(lab.node.paths().status_json()).unwrap_or_default();
        Ok((json.contains("default/web") && json.contains("\"Running\"")).then_some(()))
    })
    .await?;
    assert_eq!(lab.libvirt.qemu("default_web"), Some(qemu), "the new agent leaves it as it is");
    assert_eq!(phase(&lab.pods().get("web").await?).as_deref(), Some("Running"));

    lab.pods().delete("web", &DeleteParams::default()).await?;
    lab.wait("end of the Pod", async || Ok(lab.pods().get_opt("web").await?.is_none().then_some(()))).await?;
    assert_eq!(lab.libvirt.qemu("default_web"), None);
    lab.wait("end of the folder", async || Ok((!folder.exists()).then_some(()))).await?;
    lab.wait("end of its filters", async || Ok(lab.filter()?.ports.is_empty().then_some(()))).await?;
    let log = std::fs::read_to_string(lab.root().join("agent.log"))?;
    let (button, switch) = (log.find("PressPowerButton"), log.find("Destroy"));
    assert!(button.context("the button")? < switch.context("the switch")?, "ACPI first:\n{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_or_can_not_run_is_said_in_its_pod() -> Result<()> {
    let lab = Lab::start().await?;
    let uid = |n: u32| format!("0b0e6d2c-6a4e-4c9f-9a53-{n:012}");

    let stolen = running_vm(
        json!([{"name": "d"}]),
        json!([{"name": "d", "hostDisk": {"path": "/etc/shadow", "type": "Disk"}}]),
    );
    lab.place("stolen", &uid(1), stolen).await?;
    assert_eq!(lab.wait_pod("stolen", "end", end).await?, ("Failed".into(), "InvalidSpec".into()));

    let absent = json!([{"name": "d", "hostDisk": {"path": "/data/images/absent.raw", "type": "Disk"}}]);
    lab.place("absent", &uid(2), running_vm(json!([{"name": "d"}]), absent)).await?;
    assert_eq!(lab.wait_pod("absent", "end", end).await?, ("Failed".into(), "ImageNotPresent".into()));

    lab.place("crash", &uid(3), tiny()).await?;
    lab.wait_pod("crash", "readiness", is_ready).await?;
    let qemu = lab.libvirt.qemu("default_crash").ok_or_else(|| anyhow!("QEMU runs"))?;
    System.run(&Command::new("kill").args(["-9", &qemu.to_string()]))?;
    assert_eq!(lab.wait_pod("crash", "end", end).await?, ("Failed".into(), "Crashed".into()));

    lab.create(json!({
        "metadata": {"name": "container"},
        "spec": {"nodeName": "n1", "automountServiceAccountToken": false,
                 "tolerations": [{"operator": "Exists"}], "containers": [{"name": "c", "image": "i"}]},
    }))
    .await?;
    let waiting = |pod: &Pod| {
        let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?.clone();
        container.state?.waiting?.reason
    };
    assert_eq!(lab.wait_pod("container", "reason", waiting).await?, "UnsupportedRuntime");
    let events: Api<Event> = Api::namespaced(lab.plane.admin.clone(), "default");
    let told = events.list(&ListParams::default().fields("involvedObject.name=container")).await?.items;
    let reasons = told.iter().filter(|event| event.reason.as_deref() == Some("UnsupportedRuntime")).count();
    assert_eq!(reasons, 1, "{told:?}");
    lab.pods().delete("container", &DeleteParams::default()).await?;
    lab.wait("end of the Pod", async || Ok(lab.pods().get_opt("container").await?.is_none().then_some(())))
        .await
}
