//! The administration console as people meet it: served beside a control plane, claimed by a code, asked by curl as a browser asks.
//!
//! Why here: cases, benchmarks and `make console` begin in the same way. The console runs in this process, or as the program, with
//! the identity that the agent made. Route in: [`ControlPlane`]. Route out: answers: status, head and body.

use crate::cluster::ControlPlane;
use crate::controlled::wait;
use crate::harness::{Cluster, READY};
use crate::lab::built;
use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use sheaf_agent::claim::by_hand;
use sheaf_agent::paths::Paths;
use sheaf_config::load::parse_node_config;
use sheaf_config::node::NodeConfig;
use sheaf_host::run::{Command, System};
use sheaf_host::wait::until;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

/// The password of all users here.
pub const PASSWORD: &str = "correct horse battery";
/// Seconds of a request, unless its words say otherwise.
const LONGEST: &str = "20";
/// The first node's address in its network, and the console's port there.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 11);
const CONSOLE_PORT: u16 = 443;
const LOOK: Duration = Duration::from_secs(2);
const JSON: &str = "content-type: application/json";
const PATCH: &str = "content-type: application/merge-patch+json";

/// What a console answered.
pub struct Answer {
    /// Of HTTP.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// As it came.
    pub body: Vec<u8>,
}

impl Answer {
    /// Its body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Values of a header, as they came.
    pub fn values(&self, name: &str) -> Vec<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .collect()
    }

    /// What a browser is to keep: `name=value`.
    pub fn cookies(&self) -> Vec<String> {
        let lines = self.values("set-cookie");
        lines.iter().filter_map(|line| line.split(';').next().map(str::to_owned)).collect()
    }

    /// Where a browser goes next; empty if nowhere.
    pub fn location(&self) -> String {
        self.values("location").pop().unwrap_or_default()
    }

    /// Status and text.
    pub fn said(&self) -> (u16, String) {
        (self.status, self.text())
    }

    /// Status and the message of a refusal; no message if it is none.
    pub fn message(&self) -> (u16, String) {
        let said: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        (self.status, said["message"].as_str().unwrap_or_default().to_owned())
    }
}

/// What a console at `address` answers to curl with these words; of a stream, what came within [`LONGEST`].
pub fn ask(address: &str, words: &[&str], path: &str) -> Result<Answer> {
    let folder = tempfile::tempdir()?;
    let (head, body) = (folder.path().join("head"), folder.path().join("body"));
    // `Expect` is curl's own; no browser sends it.
    let command = Command::new("curl")
        .args(["-sk", "--path-as-is", "--max-time", LONGEST, "-H", "expect:", "-D"])
        .arg(&head)
        .arg("-o")
        .arg(&body)
        .args(words)
        .arg(format!("{address}{path}"));
    System.start(&command)?.wait()?;
    let head = std::fs::read_to_string(&head).with_context(|| format!("{address}{path}: no answer"))?;
    let status = head.split(' ').nth(1).with_context(|| format!("a status: {head}"))?.parse()?;
    // There is no file without a body.
    Ok(Answer { status, head, body: std::fs::read(&body).unwrap_or_default() })
}

/// The same with a method, headers and a body of JSON.
pub fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[&str],
    body: Option<&Value>,
) -> Result<Answer> {
    let mut words = vec!["-X", method];
    words.extend(headers.iter().flat_map(|header| ["-H", *header]));
    let body = body.map(Value::to_string);
    if let Some(body) = &body {
        let is_patch = method == "PATCH" && path.starts_with("/api/");
        words.extend(["-H", if is_patch { PATCH } else { JSON }, "--data-raw", body]);
    }
    ask(address, &words, path)
}

/// Whether it has read what it keeps.
fn is_ready(address: &str) -> bool {
    ask(address, &[], "/healthz").is_ok_and(|answer| answer.status == 200)
}

/// A console in this process; dropped, it ends.
pub struct Served {
    /// `https://ADDRESS:PORT`.
    pub address: String,
    /// SHA-256 of its certificate.
    pub fingerprint: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    /// One with plots, on a port of its own, that has read what it keeps.
    pub async fn start(plane: &ControlPlane) -> Result<Self> {
        Self::at(plane, ([127, 0, 0, 1], 0).into()).await
    }

    /// The same where it is to listen.
    pub async fn at(plane: &ControlPlane, listen: SocketAddr) -> Result<Self> {
        let options = sheaf_console::Options {
            kubeconfig: plane.paths.kubernetes.join("sheaf-console.conf"),
            listen,
            certificate: None,
            node_authority: Some(plane.paths.kubernetes.join("pki/kubelet-serving-ca.crt")),
        };
        let console = sheaf_console::open(&options).await?;
        let (address, fingerprint) = (format!("https://{}", console.address), console.fingerprint.clone());
        let served = Self { address, fingerprint, task: tokio::spawn(console.run()) };
        wait("the console has read its records", async || Ok(is_ready(&served.address).then_some(())))
            .await?;
        Ok(served)
    }

    /// Returns when it ends, which it does not by itself.
    pub async fn ended(&mut self) -> Result<()> {
        (&mut self.task).await.context("the console ended")
    }
}

/// The console as the program that images have, as tests build it; dropped, it is killed.
pub struct Program {
    /// `https://ADDRESS:PORT`.
    pub address: String,
    child: Child,
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Program {
    /// Starts it with the certificate that the agent made; it has read what it keeps.
    pub async fn start(plane: &ControlPlane) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("said");
        let listen = format!("{}:8443", plane.near_address());
        let kubernetes = &plane.paths.kubernetes;
        let command = Command::new(built("sheaf-console")?)
            .arg("--kubeconfig")
            .arg(kubernetes.join("sheaf-console.conf"))
            .args(["--listen", &listen])
            .arg("--certificate")
            .arg(kubernetes.join("pki/sheaf-console-serving.crt"))
            .arg("--key")
            .arg(kubernetes.join("pki/sheaf-console-serving.key"))
            .arg("--node-authority")
            .arg(kubernetes.join("pki/kubelet-serving-ca.crt"))
            .log(&log);
        let program = Self { address: format!("https://{listen}"), child: System.start(&command)? };
        wait("the program is ready", async || Ok(is_ready(&program.address).then_some(())))
            .await
            .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        Ok(program)
    }

    /// A figure of `/proc/PID/status`, in KiB: `VmRSS`, `RssAnon`.
    pub fn memory(&self, figure: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context(figure.to_owned())?;
        Ok(kib.trim().parse()?)
    }
}

/// The node.toml of the node that the control plane is on.
pub fn node_config() -> Result<NodeConfig> {
    let text = "version = 1\n[system]\nhostname = \"plane\"\n[cluster]\nmode = \"create\"\n";
    parse_node_config("node.toml", text).map_err(|errors| anyhow!("{errors}"))
}

/// What is behind `code: `.
pub fn code_in(said: &str) -> Result<&str> {
    said.lines().find_map(|line| line.strip_prefix("code: ")).context("a code")
}

/// The console of the first node of `cluster`, reached from here: its address, and the code of a claim that it knows of.
pub fn claimable(cluster: &mut Cluster) -> Result<(String, String)> {
    let port = cluster.machine.forward(NODE, CONSOLE_PORT)?;
    let address = format!("https://127.0.0.1:{port}");
    let said = cluster.root("sheaf-agent claim new")?;
    let open = until(READY, LOOK, || {
        ask(&address, &[], "/console/claim").ok().filter(|answer| answer.text().contains("true")).map(drop)
    });
    open.context("the console does not know of the claim")?;
    Ok((address, code_in(&said)?.to_owned()))
}

/// A browser of somebody who has logged in.
#[derive(Clone)]
pub struct Browser {
    address: String,
    /// `cookie: …`
    pub cookie: String,
    /// `origin: …`, the console's own.
    pub origin: String,
}

impl Browser {
    /// With the session that a request to `path` begins.
    fn begin(address: &str, path: &str, body: &Value) -> Result<Self> {
        let answer = request(address, "POST", path, &[], Some(body))?;
        let cookie = answer.cookies().into_iter().next();
        let cookie = cookie.with_context(|| format!("a cookie: {} {}", answer.status, answer.text()))?;
        Ok(Self {
            address: address.to_owned(),
            cookie: format!("cookie: {cookie}"),
            origin: format!("origin: {address}"),
        })
    }

    /// Of a user with [`PASSWORD`].
    pub fn log_in(address: &str, user: &str) -> Result<Self> {
        Self::begin(address, "/console/login", &json!({"user": user, "password": PASSWORD}))
    }

    /// Of `user`, who claims the cluster by the code that `sheaf-agent claim new` makes on the node.
    pub async fn claim(plane: &ControlPlane, address: &str, user: &str) -> Result<Self> {
        Self::claim_on(&plane.paths, &node_config()?, address, user).await
    }

    /// The same on the node with these files and this node.toml.
    pub async fn claim_on(paths: &Paths, config: &NodeConfig, address: &str, user: &str) -> Result<Self> {
        let shown = by_hand::new(paths, config).await?;
        wait("the console knows of the claim", async || {
            let asked = ask(address, &[], "/console/claim");
            Ok(asked.is_ok_and(|answer| answer.text().contains("true")).then_some(()))
        })
        .await?;
        Self::claim_by(address, code_in(&shown)?, user)
    }

    /// The same session at another address of the cluster.
    pub fn at(&self, address: &str) -> Self {
        Self {
            address: address.to_owned(),
            cookie: self.cookie.clone(),
            origin: format!("origin: {address}"),
        }
    }

    /// Of `user`, who claims the cluster by `code`.
    pub fn claim_by(address: &str, code: &str, user: &str) -> Result<Self> {
        Self::begin(address, "/console/claim", &json!({"code": code, "user": user, "password": PASSWORD}))
    }

    /// The headers of a change.
    pub fn headers(&self) -> [&str; 3] {
        [&self.cookie, &self.origin, "x-sheaf-console: 1"]
    }

    /// Opens a stream of these kinds, as a page does.
    pub fn watch(&self, kinds: &str) -> Result<Stream> {
        let folder = tempfile::tempdir()?;
        let said = folder.path().join("said");
        let command = Command::new("curl")
            .args(["-skN", "--connect-timeout", "1", "-H", &self.cookie, "-o"])
            .arg(&said)
            .arg(format!("{}/console/watch?kinds={kinds}", self.address));
        Ok(Stream { child: System.start(&command)?, said, _folder: folder })
    }

    /// Sends a file into a volume of the project `default`, so many bytes a second at most (`2M`).
    pub fn upload(&self, volume: &str, file: &Path, rate: &str) -> Result<Upload> {
        let folder = tempfile::tempdir()?;
        let said = folder.path().join("said");
        let mut words = vec!["-sk", "-X", "POST", "-H", "expect:", "--limit-rate", rate, "--max-time", "600"];
        words.extend(["-H", "content-type: application/octet-stream", "-w", "\\n%{http_code}"]);
        words.extend(self.headers().iter().flat_map(|header| ["-H", *header]));
        let command = Command::new("curl")
            .args(words)
            .arg("-T")
            .arg(file)
            .arg(format!("{}/console/upload/default/{volume}", self.address))
            .log(&said);
        Ok(Upload { child: System.start(&command)?, said, _folder: folder })
    }

    /// What is answered to a request of its page.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        request(&self.address, method, path, &self.headers(), body)
    }
}

/// An open stream of `/console/watch`; dropped, it is closed.
pub struct Stream {
    child: Child,
    said: PathBuf,
    _folder: tempfile::TempDir,
}

impl Stream {
    /// Whether `text` has come.
    pub fn has(&self, text: &str) -> bool {
        std::fs::read_to_string(&self.said).is_ok_and(|said| said.contains(text))
    }

    /// Whether its end was noticed.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An upload under way; dropped, it breaks.
pub struct Upload {
    child: Child,
    said: PathBuf,
    _folder: tempfile::TempDir,
}

impl Upload {
    /// Status and text of the answer once it has ended; the status is 0 without an answer.
    pub fn ended(&mut self) -> Result<Option<(u16, String)>> {
        if self.child.try_wait()?.is_none() {
            return Ok(None);
        }
        let said = std::fs::read_to_string(&self.said)?;
        let (text, status) = said.rsplit_once('\n').context("a status")?;
        Ok(Some((status.parse()?, text.trim().to_owned())))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
