//! Images through the administration console, on the real API server: as the user who sends them, into the volume of a node.
//! And what the pages write of machines and images, object by object.
//!
//! Why here: that the console's own identity finds sheaf-controller, that its certificate is trusted there, and that the user's
//! rights decide, is RBAC, TLS and the aggregated API together. The node is the agent's own code with LVM in memory. Route in: curl as a
//! browser. Route out: a disk with the image, or a refusal.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use sheaf_api::cdi::DataVolumePhase;
use sheaf_tests::console::{Browser, PASSWORD, Served, ask};
use sheaf_tests::controlled::wait;
use sheaf_tests::played_pool::PlayedPool;
use std::path::Path;

/// A cluster with a pool, and a console.
struct Ground {
    pool: PlayedPool,
    console: Served,
}

impl Ground {
    async fn make() -> Result<Self> {
        let pool = PlayedPool::start(256).await?;
        let console = Served::start(&pool.on.plane).await?;
        Ok(Self { pool, console })
    }

    async fn claim(&self) -> Result<Browser> {
        Browser::claim(&self.pool.on.plane, &self.console.address, "anna").await
    }

    /// Sends a file into the volume; status and message.
    fn upload(&self, browser: &Browser, volume: &str, file: &Path) -> Result<(u16, String)> {
        let sent = format!("@{}", file.display());
        let mut words = vec![
            "-X",
            "POST",
            "--max-time",
            "120",
            "-H",
            "content-type: application/octet-stream",
            "--data-binary",
            &sent,
        ];
        words.extend(browser.headers().iter().flat_map(|header| ["-H", *header]));
        Ok(ask(&self.console.address, &words, &format!("/console/upload/default/{volume}"))?.message())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_pages_of_machines_and_images_write_is_what_the_server_takes() -> Result<()> {
    let on = Ground::make().await?;
    let anna = on.claim().await?;
    let text = include_str!("../manifests/console/written.json");
    let all: Value = serde_json::from_str(text)?;
    let vms = "/api/apis/kubevirt.io/v1/namespaces/default/virtualmachines";
    let (status, said) = anna.ask("POST", vms, Some(&all["machine"]))?.said();
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
        let (status, said) = anna.ask(method, &path, Some(&body))?.said();
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
    let (status, said) = anna.ask("POST", "/console/users", Some(&viewer))?.said();
    ensure!(status == 201, "{status}: {said}");
    let vera = Browser::log_in(&on.console.address, "vera")?;

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
    let (status, said) = anna.ask("POST", exports, Some(&away))?.said();
    ensure!(status == 201, "{status}: {said}");
    wait("the export is ready", async || {
        let read = anna.ask("GET", &format!("{exports}/away"), None);
        Ok(read.is_ok_and(|answer| answer.text().contains(r#""phase":"Ready""#)).then_some(()))
    })
    .await?;
    let disk = "/console/download/default/away/disk/disk.img";
    let save = |browser: &Browser, words: &[&str]| {
        ask(&on.console.address, &[&["-H", browser.cookie.as_str()][..], words].concat(), disk)
    };
    let whole = save(&anna, &[])?;
    ensure!(whole.status == 200, "{}", whole.head);
    let attachment = "content-disposition: attachment; filename=\"disk.img\"";
    ensure!(whole.head.to_lowercase().contains(attachment), "{}", whole.head);
    ensure!(whole.body.len() == 8 << 20 && whole.body.starts_with(&image), "{} bytes", whole.body.len());
    let part = save(&anna, &["-H", "range: bytes=1000-1999"])?;
    ensure!(part.status == 206 && part.body == image[1000..2000], "{}", part.head);
    let (status, said) = save(&vera, &[])?.said();
    ensure!(status == 403 && said.contains("secrets"), "who reads no Secret gets no disk: {status} {said}");
    Ok(())
}
