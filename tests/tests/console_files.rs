//! Images through the administration console, on the real API server: as the user who sends them, into the volume of a node.
//! And what the pages write of machines and images, object by object.
//!
//! Why here: that the console's own identity finds sheaf-controller, that its certificate is trusted there, and that the user's
//! rights decide, is RBAC, TLS and the aggregated API together. The node is the agent's own code with LVM in memory. Route in: curl as a
//! browser. Route out: a disk with the image, or a refusal.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use sheaf_agent::claim::by_hand;
use sheaf_api::cdi::DataVolumePhase;
use sheaf_config::load::parse_node_config;
use sheaf_host::run::{Command, System};
use sheaf_tests::controlled::wait;
use sheaf_tests::played_pool::PlayedPool;
use std::path::Path;

const PASSWORD: &str = "correct horse battery";
const JSON: &str = "content-type: application/json";

/// A cluster with a pool, and a console.
struct Ground {
    pool: PlayedPool,
    console: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ground {
    async fn make() -> Result<Self> {
        let pool = PlayedPool::start(256).await?;
        let options = sheaf_console::Options {
            kubeconfig: pool.on.plane.paths.kubernetes.join("sheaf-console.conf"),
            listen: ([127, 0, 0, 1], 0).into(),
            certificate: None,
            node_authority: None,
        };
        let console = sheaf_console::open(&options).await?;
        let address = format!("https://{}", console.address);
        let ground = Self { pool, console: address, task: tokio::spawn(console.run()) };
        wait("the console has read its records", async || {
            let ready = ground.ask(&[], "/healthz").is_ok_and(|(head, _)| head.contains(" 200 "));
            Ok(ready.then_some(()))
        })
        .await?;
        Ok(ground)
    }

    /// The head and the body of the answer to curl with these words.
    fn ask(&self, words: &[&str], path: &str) -> Result<(String, String)> {
        let folder = tempfile::tempdir()?;
        let (head, body) = (folder.path().join("head"), folder.path().join("body"));
        // `Expect` is curl's own; no browser sends it.
        let command =
            Command::new("curl").args(["-sk", "--max-time", "120", "-H", "expect:", "-D"]).arg(&head);
        let command = command.arg("-o").arg(&body).args(words).arg(format!("{}{path}", self.console));
        System.start(&command)?.wait()?;
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        Ok((read(&head), read(&body)))
    }

    /// The cookie of a user who makes a session by `path`.
    fn session(&self, path: &str, body: &Value) -> Result<String> {
        let (head, said) = self.ask(&["-H", JSON, "--data-raw", &body.to_string()], path)?;
        let line = head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        let cookie =
            line.and_then(|line| line.split(';').next()).with_context(|| format!("a cookie: {said}"))?;
        Ok(format!("cookie: {cookie}"))
    }

    /// Saves what a browser downloads; the head, and the body as far as it is text.
    fn save(&self, cookie: &str, path: &str, words: &[&str], to: &Path) -> Result<(String, String)> {
        let head = to.with_extension("head");
        let command = Command::new("curl").args(["-sk", "--max-time", "120", "-H", cookie, "-D"]).arg(&head);
        System
            .start(&command.arg("-o").arg(to).args(words).arg(format!("{}{path}", self.console)))?
            .wait()?;
        let body = String::from_utf8_lossy(&std::fs::read(to)?).into_owned();
        Ok((std::fs::read_to_string(&head)?.to_lowercase().replacen("http", "HTTP", 1), body))
    }

    /// Sends a file into the volume; status and message.
    fn upload(&self, cookie: &str, volume: &str, file: &Path) -> Result<(u16, String)> {
        let origin = format!("origin: {}", self.console);
        let sent = format!("@{}", file.display());
        let words = [
            "-H",
            cookie,
            "-H",
            &origin,
            "-H",
            "x-sheaf-console: 1",
            "-H",
            "content-type: application/octet-stream",
            "-X",
            "POST",
            "--data-binary",
            &sent,
        ];
        let (head, said) = self.ask(&words, &format!("/console/upload/default/{volume}"))?;
        let status = head.split(' ').nth(1).with_context(|| format!("a status: {head}"))?.parse()?;
        let said: Value = serde_json::from_str(&said).unwrap_or_default();
        Ok((status, said["message"].as_str().unwrap_or_default().to_owned()))
    }
}

impl Ground {
    /// Makes the first administrator; answers her cookie.
    async fn claim(&self) -> Result<String> {
        let text = "version = 1\n[system]\nhostname = \"plane\"\n[cluster]\nmode = \"create\"\n";
        let config = parse_node_config("node.toml", text).map_err(|errors| anyhow!("{errors}"))?;
        let shown = by_hand::new(&self.pool.on.plane.paths, &config).await?;
        let code = shown.lines().find_map(|line| line.strip_prefix("code: ")).context("a code")?;
        wait("the console knows of the claim", async || {
            let open = self.ask(&[], "/console/claim").is_ok_and(|(_, said)| said.contains("true"));
            Ok(open.then_some(()))
        })
        .await?;
        self.session("/console/claim", &json!({"code": code, "user": "anna", "password": PASSWORD}))
    }

    /// A change by a session, as its page asks for it; status and body.
    fn change(&self, cookie: &str, method: &str, path: &str, body: &Value) -> Result<(u16, String)> {
        let origin = format!("origin: {}", self.console);
        let kind = match method {
            "PATCH" => "content-type: application/merge-patch+json",
            _ => JSON,
        };
        let body = body.to_string();
        let session = ["-H", cookie, "-H", &origin, "-H", "x-sheaf-console: 1"];
        let words = [&["-X", method, "-H", kind, "--data-raw", &body][..], &session].concat();
        let (head, said) = self.ask(&words, path)?;
        Ok((head.split(' ').nth(1).with_context(|| format!("a status: {head}"))?.parse()?, said))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_pages_of_machines_and_images_write_is_what_the_server_takes() -> Result<()> {
    let on = Ground::make().await?;
    let anna = on.claim().await?;
    let text = include_str!("../manifests/console/written.json");
    let all: Value = serde_json::from_str(text)?;
    let vms = "/api/apis/kubevirt.io/v1/namespaces/default/virtualmachines";
    let (status, said) = on.change(&anna, "POST", vms, &all["machine"])?;
    ensure!(status == 201, "{status}: {said}");
    let made: Value = serde_json::from_str(&said)?;
    let uid = made["metadata"]["uid"].as_str().context("a UID")?;
    let all: Value = serde_json::from_str(&text.replace("\"UID\"", &json!(uid).to_string()))?;
    let written = all["written"].as_array().context("a list")?;
    ensure!(written.len() > 20, "the file has {} requests", written.len());
    let mut wrong = Vec::new();
    for request in written {
        let [Some(method), Some(path)] = [0, 1].map(|at| request[at].as_str()) else { bail!("{request}") };
        let mut body = request[2].clone();
        let path = match method {
            // Of an act the body says that nothing is changed.
            "PUT" => {
                body["dryRun"] = json!(["All"]);
                path.to_owned()
            }
            _ => format!("{path}?dryRun=All&fieldValidation=Strict"),
        };
        let (status, said) = on.change(&anna, method, &path, &body)?;
        if !(200..300).contains(&status) {
            wrong.push(format!("{method} {path} {body}: {status} {said}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_goes_in_and_a_disk_out_with_the_rights_of_the_user_and_a_bad_one_is_refused_in_words()
-> Result<()> {
    let on = Ground::make().await?;
    let anna = on.claim().await?;
    let viewer =
        json!({"name": "vera", "password": PASSWORD, "roles": [{"role": "view", "project": "default"}]});
    let (status, said) = on.change(&anna, "POST", "/console/users", &viewer)?;
    ensure!(status == 201, "{status}: {said}");
    let vera = on.session("/console/login", &json!({"user": "vera", "password": PASSWORD}))?;

    let image: Vec<u8> = (0..4_usize << 20).map(|at| (at % 251) as u8).collect();
    let file = on.pool.file("plain.raw", &image)?;
    on.pool.asked("disk", 8).await?;
    let (status, said) = on.upload(&vera, "disk", &file)?;
    ensure!(status == 403 && said.contains("uploadtokenrequests"), "{status}: {said}");
    let (status, said) = on.upload(&anna, "none", &file)?;
    ensure!(status == 404 && said.contains("none"), "{status}: {said}");
    let large = on.pool.qcow2(&vec![1; 16 << 20])?;
    let (status, said) = on.upload(&anna, "disk", &large)?;
    ensure!(status == 422 && said.contains("16777216 bytes, the volume 8388608"), "{status}: {said}");
    let (status, said) = on.upload(&anna, "disk", &file)?;
    ensure!(status == 204, "the right one follows at once: {status}: {said}");
    on.pool.phase("disk", DataVolumePhase::Succeeded).await?;
    ensure!(on.pool.disk("disk").await?.starts_with(&image), "the image is on the disk");
    let (status, said) = on.upload(&anna, "disk", &file)?;
    ensure!(status == 409 && said == "the claim disk is filled already", "{status}: {said}");

    // And out again.
    let away = json!({"apiVersion": "export.kubevirt.io/v1beta1", "kind": "VirtualMachineExport", "metadata": {"name": "away"},
        "spec": {"source": {"apiGroup": "", "kind": "PersistentVolumeClaim", "name": "disk"}}});
    let exports = "/api/apis/export.kubevirt.io/v1beta1/namespaces/default/virtualmachineexports";
    let (status, said) = on.change(&anna, "POST", exports, &away)?;
    ensure!(status == 201, "{status}: {said}");
    wait("the export is ready", async || {
        let read = on.ask(&["-H", &anna], &format!("{exports}/away"));
        Ok(read.is_ok_and(|(_, said)| said.contains(r#""phase":"Ready""#)).then_some(()))
    })
    .await?;
    let disk = "/console/download/default/away/disk/disk.img";
    let saved = on.pool.folder.path().join("saved");
    let (head, _) = on.save(&anna, disk, &[], &saved)?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
    ensure!(head.contains("content-disposition: attachment; filename=\"disk.img\""), "{head}");
    let bytes = std::fs::read(&saved)?;
    ensure!(bytes.len() == 8 << 20 && bytes.starts_with(&image), "{} bytes", bytes.len());
    let (head, _) = on.save(&anna, disk, &["-H", "range: bytes=1000-1999"], &saved)?;
    ensure!(head.starts_with("HTTP/1.1 206 ") && std::fs::read(&saved)? == image[1000..2000], "{head}");
    let (head, said) = on.save(&vera, disk, &[], &saved)?;
    ensure!(
        head.starts_with("HTTP/1.1 403 ") && said.contains("secrets"),
        "who reads no Secret gets no disk: {head}{said}"
    );
    Ok(())
}
