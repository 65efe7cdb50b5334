//! What an operator does at a desk: keys, media, `kubectl`.
//!
//! Why here: demo and cases go the operator's way, with the built programs. Route in: paths of `sheaf` and `kube`, a
//! folder for keys and kubeconfig. Route out: media, answers of the API server.

use crate::death;
use crate::notice::Notice;
use serde_json::Value;
use sheaf_host::run::{Command, Run, RunError, System};
use sheaf_host::wait::until;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A whole ISO is written, hashed and read again.
const ISO_DEADLINE: Duration = Duration::from_secs(300);
/// One request; an emulated API server under load needs seconds.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition in the cluster is polled.
const INTERVAL: Duration = Duration::from_secs(1);

/// Annotation of a VM's Pod with the last lines of the VM's serial console.
const CONSOLE_TAIL: &str = "sheaf.dev/console-tail";

/// The operator.
#[derive(Clone, Debug)]
pub struct Operator {
    sheaf: PathBuf,
    kube: PathBuf,
    folder: PathBuf,
    server: Option<String>,
    /// Logs of the machines that it waits for.
    logs: Option<PathBuf>,
}

/// A condition of the cluster that did not come.
#[derive(Debug, thiserror::Error)]
#[error("no {what} within {} s; the last answer:\n{last}", .after.as_secs())]
pub struct Late {
    what: String,
    after: Duration,
    last: String,
}

impl Operator {
    /// Uses the programs `sheaf` and `kube`; keys and kubeconfig lie in `folder`.
    pub fn new(sheaf: &Path, kube: &Path, folder: &Path) -> Self {
        Self { sheaf: sheaf.into(), kube: kube.into(), folder: folder.into(), server: None, logs: None }
    }

    /// Finds the API server at `url`, whatever the kubeconfig says.
    #[must_use]
    pub fn at(mut self, url: &str) -> Self {
        self.server = Some(url.into());
        self
    }

    /// Stops waiting once the logs in `folder` say that a machine is dead.
    #[must_use]
    pub fn until_dead(mut self, folder: &Path) -> Self {
        self.logs = Some(folder.into());
        self
    }

    /// Polls until `poll` returns something, the deadline passes or the machine is dead. A long wait says for what.
    fn poll<T>(&self, what: &str, deadline: Duration, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
        let is_dead = || self.logs.as_deref().and_then(death::cause).is_some();
        let mut notice = Notice::new(what, deadline);
        until(deadline, INTERVAL, || {
            notice.tick();
            poll().map(Some).or_else(|| is_dead().then_some(None))
        })
        .flatten()
    }

    /// Where the API server is found, if not where the kubeconfig says.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// Makes the administrator's key; gives the public half (PEM).
    pub fn admin_key(&self) -> Result<String, RunError> {
        let folder = self.folder.join("admin");
        System.run(&Command::new(&self.sheaf).args(["admin", "new"]).arg(&folder))?;
        System.run(&Command::new("cat").arg(folder.join("admin.pub"))).map(|output| output.text())
    }

    /// Writes an ISO of `release` that installs as `node_toml` says, with `images` on it.
    pub fn iso(
        &self,
        release: &Path,
        node_toml: &Path,
        images: &[PathBuf],
        out: &Path,
    ) -> Result<(), RunError> {
        let mut command = Command::new(&self.sheaf).arg("iso").arg(release).arg("--config").arg(node_toml);
        for image in images {
            command = command.arg("--image").arg(image);
        }
        System.run(&command.arg("--out").arg(out).deadline(ISO_DEADLINE)).map(drop)
    }

    /// Writes an ISO of `release` that finds its node.toml elsewhere.
    pub fn plain_iso(&self, release: &Path, out: &Path) -> Result<(), RunError> {
        let command = Command::new(&self.sheaf).arg("iso").arg(release).arg("--out").arg(out);
        System.run(&command.deadline(ISO_DEADLINE)).map(drop)
    }

    /// [`Operator::kubeconfig`] as soon as the API server has it.
    pub fn wait_kubeconfig(&self, server: &str, ca_hash: &str, deadline: Duration) -> Result<(), Late> {
        self.retry("kubeconfig", deadline, || self.kubeconfig(server, ca_hash))
    }

    /// [`Operator::apply`] as soon as the API server knows the manifest's kinds.
    pub fn wait_apply(&self, manifest: &str, deadline: Duration) -> Result<String, Late> {
        self.retry("accepted manifest", deadline, || self.apply(manifest))
    }

    /// Waits until every API that the cluster names answers: kubectl knows no short names and validates nothing before.
    pub fn wait_apis(&self, deadline: Duration) -> Result<(), Late> {
        self.retry("answer of every API", deadline, || self.kubectl(&["api-resources", "--output=name"]))
            .map(drop)
    }

    fn retry<T>(
        &self,
        what: &str,
        after: Duration,
        mut act: impl FnMut() -> Result<T, RunError>,
    ) -> Result<T, Late> {
        let mut last = String::new();
        let done = self.poll(what, after, || match act() {
            Ok(value) => Some(value),
            Err(error) => {
                last = error.to_string();
                None
            }
        });
        done.ok_or(Late { what: what.into(), after, last })
    }

    /// Fetches the administrator's kubeconfig from `server`, whose CA must have the hash.
    pub fn kubeconfig(&self, server: &str, ca_hash: &str) -> Result<(), RunError> {
        let key = self.folder.join("admin/admin.key");
        let command =
            Command::new(&self.sheaf).args(["admin", "kubeconfig", "--server", server, "--ca-hash", ca_hash]);
        let output = System.run(&command.arg("--key").arg(key).deadline(REQUEST_DEADLINE))?;
        let write = Command::new("tee").arg(self.kubeconfig_file()).stdin(output.stdout);
        System.run(&write).map(drop)
    }

    /// Where the kubeconfig is.
    pub fn kubeconfig_file(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// `kubectl` with these arguments.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let kubectl = Command::new(&self.kube).arg("kubectl").arg("--kubeconfig").arg(self.kubeconfig_file());
        let kubectl = self.server.iter().fold(kubectl, |kubectl, url| kubectl.arg("--server").arg(url));
        kubectl.args(args).deadline(REQUEST_DEADLINE)
    }

    /// What `kubectl` printed.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, RunError> {
        System.run(&self.kubectl_command(args)).map(|output| output.text())
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) -> Result<String, RunError> {
        System.run(&self.kubectl_command(&["apply", "-f", "-"]).stdin(manifest)).map(|output| output.text())
    }

    /// Asks for `resource` as JSON until `ready` returns something.
    pub fn wait<T>(
        &self,
        what: &str,
        resource: &[&str],
        deadline: Duration,
        mut ready: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T, Late> {
        let mut last = String::new();
        let args: Vec<&str> = ["get", "-o", "json"].iter().chain(resource).copied().collect();
        let found = self.poll(what, deadline, || match self.kubectl(&args) {
            Ok(text) => {
                let value = serde_json::from_str(&text).unwrap_or(Value::Null);
                last = text;
                ready(&value)
            }
            Err(error) => {
                last = error.to_string();
                None
            }
        });
        found.ok_or(Late { what: what.into(), after: deadline, last })
    }

    /// Waits until the Node `name` has condition Ready.
    pub fn wait_node_ready(&self, name: &str, deadline: Duration) -> Result<Value, Late> {
        self.wait(&format!("Node {name} Ready"), &["node", name], deadline, |node| {
            (condition(node, "Ready") == Some("True")).then(|| node.clone())
        })
    }

    /// Waits until the VirtualMachine `name` is ready; gives its running VirtualMachineInstance.
    pub fn wait_vm_running(&self, name: &str, deadline: Duration) -> Result<Value, Late> {
        self.wait(&format!("VM {name} Ready"), &["vm", name], deadline, |vm| {
            (vm["status"]["ready"] == true).then_some(())
        })?;
        self.wait(&format!("VM {name} Running"), &["vmi", name], deadline, |vmi| {
            (vmi["status"]["phase"] == "Running").then(|| vmi.clone())
        })
    }

    /// Waits until the last lines of the VM's console, as its node reports them, contain `text`; gives them.
    pub fn wait_console(&self, vm: &str, text: &str, deadline: Duration) -> Result<String, Late> {
        let selector = format!("vm.kubevirt.io/name={vm}");
        self.wait(
            &format!("console of VM {vm} with \"{text}\""),
            &["pods", "-l", &selector],
            deadline,
            |pods| {
                let pods = pods["items"].as_array()?;
                let tails =
                    pods.iter().filter_map(|pod| pod["metadata"]["annotations"][CONSOLE_TAIL].as_str());
                tails.filter(|tail| tail.contains(text)).map(str::to_owned).next()
            },
        )
    }
}

/// Status of a condition of any object.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}
