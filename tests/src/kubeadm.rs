//! A control plane as `kubeadm init` makes it: its own certificates, its own static Pods, nothing of Sheaf.
//!
//! Why here: a node of Sheaf may join a Kubernetes that is there already, so it must ask for nothing that Kubernetes does not document.
//! kubeadm's phases make the files; a kubelet would start the static Pods as containers, here their commands are processes. Route in:
//! a network namespace. Route out: its address, the hash of its CA, an administrator's client.

use crate::cluster::{Namespace, client_of, kube_binary};
use anyhow::{Context as _, Result, ensure};
use sheaf_config::pin::CaPin;
use sheaf_host::run::{Command, Run as _, System};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The static Pods of a control plane, in the order in which they need each other.
const PODS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
/// Longest time until the API server is ready; the machine is shared with other work.
const READY: Duration = Duration::from_secs(180);
/// Between two questions.
const LOOK: Duration = Duration::from_millis(500);
/// Where kubeadm says that the control plane's files are.
const HOME: &str = "/etc/kubernetes";
const DATA: &str = "/var/lib/etcd";

/// A control plane of kubeadm; dropped, it leaves nothing behind.
pub struct KubeadmCluster {
    /// `https://ADDRESS:6443`.
    pub server: String,
    /// `sha256:…` of its CA, as `kubeadm token create --print-join-command` prints it.
    pub ca_hash: String,
    /// May do everything.
    pub admin: kube::Client,
    /// Its kubeconfig.
    pub kubeconfig: PathBuf,
    // Dropped in this order: processes, their files, their namespace.
    running: Vec<Child>,
    root: TempDir,
    namespace: Namespace,
}

impl KubeadmCluster {
    /// Makes and starts one that takes nodes with `token`.
    pub async fn start(token: &str) -> Result<Self> {
        let (kube, namespace, root) = (kube_binary()?, Namespace::make()?, tempfile::tempdir()?);
        let home = root.path().join("kubernetes");
        fs::create_dir_all(&home)?;
        let (config, inside) = (home.join("kubeadm.yaml"), namespace.name.clone());
        let version = System.run(&Command::new(&kube).args(["kubeadm", "version", "-o", "short"]))?.text();
        fs::write(&config, self::config(namespace.address, &home.join("pki"), &version, token))?;
        let phase = |words: &[&str]| {
            let command = Command::new("ip")
                .args(["netns", "exec", &inside])
                .arg(&kube)
                .args(["kubeadm", "init", "phase"])
                .args(words.iter().copied())
                .arg("--config")
                .arg(&config)
                // Where static Pods are written when they are only shown.
                .env("KUBEADM_INIT_DRYRUN_DIR", &home);
            System.run(&command)
        };
        let folder = home.display().to_string();
        phase(&["certs", "all"])?;
        phase(&["kubeconfig", "all", "--kubeconfig-dir", &folder])?;
        phase(&["etcd", "local", "--dry-run"])?;
        phase(&["control-plane", "all", "--dry-run"])?;
        let mut running = Vec::new();
        for pod in PODS {
            let manifest = home.join(format!("{pod}.yaml"));
            let text = fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
            let words = command(&text).with_context(|| manifest.display().to_string())?;
            let data = root.path().join("etcd").display().to_string();
            let words = words.iter().map(|word| word.replace(HOME, &folder).replace(DATA, &data));
            let start = Command::new("ip")
                .args(["netns", "exec", &namespace.name])
                .arg(&kube)
                .args(words)
                .log(root.path().join(format!("{pod}.log")));
            running.push(System.start(&start)?);
        }
        let (kubeconfig, server) =
            (home.join("super-admin.conf"), format!("https://{}:6443", namespace.address));
        let ca_hash = CaPin::of_certificate(&fs::read_to_string(home.join("pki/ca.crt"))?)?.to_string();
        let admin = client_of(&kubeconfig).await?;
        let made = Self { server, ca_hash, admin, kubeconfig, running, root, namespace };
        made.ready().await?;
        let admin = made.kubeconfig.display().to_string();
        phase(&["bootstrap-token", "--skip-token-print", "--kubeconfig", &admin])?;
        Ok(made)
    }

    async fn ready(&self) -> Result<()> {
        let ends = Instant::now() + READY;
        loop {
            let asked = self.admin.request_text(http::Request::get("/readyz").body(Vec::new())?);
            let Err(error) = asked.await else { return Ok(()) };
            ensure!(Instant::now() < ends, "not ready: {error}\n{}", self.tails());
            tokio::time::sleep(LOOK).await; // until the next question
        }
    }

    /// The last lines of every component, for a failure.
    pub fn tails(&self) -> String {
        let tail = |pod| {
            let log = self.root.path().join(format!("{pod}.log"));
            let log = fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(15).collect();
            format!("--- {pod}\n{}\n", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        PODS.map(tail).concat()
    }

    /// The address by which the API server reaches this process.
    pub fn near_address(&self) -> IpAddr {
        self.namespace.near
    }
}

impl Drop for KubeadmCluster {
    fn drop(&mut self) {
        for child in &mut self.running {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// What an administrator gives to `kubeadm init`. JSON is YAML.
fn config(address: IpAddr, certificates: &Path, version: &str, token: &str) -> String {
    let init = serde_json::json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": address, "bindPort": 6443},
        "nodeRegistration": {"name": "plane", "criSocket": "unix:///run/containerd/containerd.sock"},
        "bootstrapTokens": [{"token": token}],
    });
    let cluster = serde_json::json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        // Named, so that kubeadm does not ask the internet for one.
        "kubernetesVersion": version,
        "certificatesDir": certificates,
    });
    format!("{init}\n---\n{cluster}\n")
}

/// The command of the container in a static Pod's manifest.
fn command(manifest: &str) -> Result<Vec<String>> {
    let (_, after) = manifest.split_once("  - command:\n").context("no container has a command")?;
    let words: Vec<String> =
        after.lines().map_while(|line| line.strip_prefix("    - ")).map(str::to_owned).collect();
    ensure!(!words.is_empty(), "its command is empty");
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_a_static_pod_is_read_and_nothing_after_it() {
        let manifest = "spec:\n  containers:\n  - command:\n    - etcd\n    - --name=plane\n    image: registry/etcd\n    args:\n    - x\n";
        assert_eq!(command(manifest).unwrap(), ["etcd", "--name=plane"]);
        assert!(command("spec: {}\n").is_err());
    }
}
