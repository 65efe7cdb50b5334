//! Disks that are taken away by KubeVirt's own virtctl, and by curl, on the real control plane.
//!
//! Why here: Node authorizer, garbage collector and virtctl decide what an export comes to. The node is the agent's own code;
//! its volumes are files of the test.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sheaf_agent::channels::Usable;
use sheaf_api::{
    VirtualMachine,
    cdi::DataVolume,
    conditions::find,
    names::EXPORT_LABEL,
    storage::{LocalVolume, local_volume::VolumeKind},
    vm_export::{ExportPhase, Format, VirtualMachineExport, VirtualMachineExportStatus},
    vm_snapshot::VirtualMachineSnapshot,
};
use sheaf_fuzz::Random;
use sheaf_host::run::{Command, System};
use sheaf_tests::controlled::{Controlled, wait};
use sheaf_tests::played::{PlayedNode, cluster, vm};
use sheaf_tests::played_volumes::PlayedVolumes;
use sheaf_tests::virtctl::Virtctl;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Child;

/// Size of the disk that is exported.
const SIZE: u64 = 64 << 20;
/// What of it is not zero.
const MIDDLE: Range<usize> = 32 << 20..36 << 20;

/// A cluster with one node, and the claim `disk`.
struct Bench {
    on: Controlled,
    node: PlayedNode,
    _volumes: PlayedVolumes,
    virtctl: Virtctl,
    files: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Result<Self> {
        let on = cluster().await?;
        let node = PlayedNode::start(&on).await?;
        let _volumes = PlayedVolumes::start(&on).await?;
        let virtctl = Virtctl::new(on.plane.kubeconfig())?;
        let this = Self { on, node, _volumes, virtctl, files: tempfile::tempdir()? };
        this.on.make::<DataVolume>(json!({
            "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
            "metadata": {"name": "disk", "annotations": {"cdi.kubevirt.io/storage.bind.immediate.requested": "true"}},
            "spec": {"source": {"blank": {}}, "storage": {"resources": {"requests": {"storage": "64Mi"}}}},
        }))
        .await?;
        wait("the claim is bound", async || {
            let claim = this.on.here::<PersistentVolumeClaim>().get_opt("disk").await?;
            let phase = claim.and_then(|claim| claim.status?.phase);
            Ok((phase.as_deref() == Some("Bound")).then_some(()))
        })
        .await?;
        // Zeros around bytes that do not compress, as on a thin volume.
        let mut bytes = vec![0_u8; SIZE as usize];
        let mut random = Random::new(1);
        bytes[MIDDLE].fill_with(|| random.byte());
        fs::write(this.disk(), bytes)?;
        this.publish().await?;
        Ok(this)
    }

    fn disk(&self) -> PathBuf {
        self.files.path().join("disk")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// The node has every LocalVolume that there is, with the bytes of the disk.
    async fn publish(&self) -> Result<()> {
        let volumes: Api<LocalVolume> = Api::all(self.on.client.clone());
        let usable = |volume: &LocalVolume| Usable {
            ready: volume.spec.kind == VolumeKind::Volume,
            readable: volume.metadata.deletion_timestamp.is_none(),
            device: self.disk(),
            bytes: SIZE,
            problem: None,
        };
        let listed = volumes.list(&ListParams::default()).await?;
        let all = listed.iter().map(|volume| (volume.name_any(), usable(volume))).collect();
        self.node.agent.publish.volumes.send_replace(Some(all));
        Ok(())
    }

    /// An export of the claim.
    async fn export(&self, name: &str, spec: Value) -> Result<()> {
        let mut object = json!({
            "apiVersion": "export.kubevirt.io/v1", "kind": "VirtualMachineExport", "metadata": {"name": name},
            "spec": {"source": {"apiGroup": "", "kind": "PersistentVolumeClaim", "name": "disk"}},
        });
        for (key, value) in spec.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        let said = self.on.kubectl_with(&["create"], &object.to_string())?;
        ensure!(said.contains("created"), "{said}");
        Ok(())
    }

    async fn ready(&self, name: &str) -> Result<VirtualMachineExportStatus> {
        self.in_phase(name, ExportPhase::Ready).await
    }

    async fn in_phase(&self, name: &str, phase: ExportPhase) -> Result<VirtualMachineExportStatus> {
        wait(&format!("export {name} is {phase}"), async || {
            let status =
                self.on.here::<VirtualMachineExport>().get_opt(name).await?.and_then(|one| one.status);
            Ok(status.filter(|status| status.phase == Some(phase)))
        })
        .await
    }

    /// The token of an export.
    async fn token(&self, status: &VirtualMachineExportStatus) -> Result<String> {
        let secret = status.token_secret_ref.clone().context("a Secret")?;
        let token =
            self.on.here::<Secret>().get(&secret).await?.data.and_then(|mut data| data.remove("token"));
        Ok(String::from_utf8(token.context("a token")?.0)?)
    }

    /// Starts curl of a link, with a token and the authority of the link.
    fn start_curl(
        &self,
        token: &str,
        status: &VirtualMachineExportStatus,
        format: Format,
        words: &[&str],
    ) -> Result<Child> {
        let link = status.links.as_ref().and_then(|links| links.external.as_ref()).context("a link")?;
        let authority = self.file("authority.pem");
        fs::write(&authority, &link.cert)?;
        // Programs append to it.
        fs::write(self.file("curl.log"), b"")?;
        let volume = link.volumes.first().context("a volume")?;
        let url = &volume.formats.iter().find(|one| one.format == format).context("the format")?.url;
        let command = Command::new("curl")
            .args(["--silent", "--show-error", "--noproxy", "*", "--write-out", "%{http_code}", "--cacert"])
            .arg(&authority)
            .args(["--header", &format!("x-kubevirt-export-token: {token}")])
            .args(words)
            .arg(url)
            .log(self.file("curl.log"));
        Ok(System.start(&command)?)
    }

    /// Its exit code and what it prints, the HTTP status last.
    fn curl(
        &self,
        token: &str,
        status: &VirtualMachineExportStatus,
        format: Format,
        words: &[&str],
    ) -> Result<(i32, String)> {
        let ended = self.start_curl(token, status, format, words)?.wait()?;
        Ok((ended.code().unwrap_or(-1), fs::read_to_string(self.file("curl.log"))?))
    }

    /// A slow download into `file` that has begun. It is far larger than what sockets hold.
    async fn begun(&self, status: &VirtualMachineExportStatus, file: &Path) -> Result<Child> {
        let token = self.token(status).await?;
        fs::write(file, b"")?;
        let to = file.display().to_string();
        let slow = ["--limit-rate", "2M", "--output", &to];
        let child = self.start_curl(&token, status, Format::Raw, &slow)?;
        wait("the download has begun", async || {
            Ok(fs::metadata(file).ok().filter(|file| file.len() > 0).map(drop))
        })
        .await?;
        Ok(child)
    }

    fn is_the_disk(&self, file: &Path) -> Result<bool> {
        Ok(fs::read(file)? == fs::read(self.disk())?)
    }

    /// The export, its Pod and its Secret are gone.
    async fn gone(&self, name: &str) -> Result<()> {
        wait(&format!("nothing is left of export {name}"), async || {
            let export = self.on.here::<VirtualMachineExport>().get_opt(name).await?;
            let pods = self.on.here::<Pod>().list(&ListParams::default().labels(EXPORT_LABEL)).await?.items;
            let secrets = self.on.here::<Secret>().list(&ListParams::default()).await?.items;
            Ok((export.is_none() && pods.is_empty() && secrets.is_empty()).then_some(()))
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn virtctl_takes_a_disk_a_snapshot_and_a_vm_away_and_nothing_is_left() -> Result<()> {
    let bench = Bench::start().await?;
    let run = |words: &[&str]| bench.virtctl.run(words);

    let (good, said) = run(&["vmexport", "create", "away", "--pvc=disk"])?;
    ensure!(good && said.contains("created succesfully"), "{said}");
    bench.ready("away").await?;
    for (format, name) in [("--format=raw", "raw"), ("--format=gzip", "packed")] {
        let file = bench.file(name);
        let to = format!("--output={}", file.display());
        let (good, said) = run(&["vmexport", "download", "away", "--volume=disk", format, &to])?;
        ensure!(good && said.contains("Download finished succesfully"), "{said}");
    }
    ensure!(bench.is_the_disk(&bench.file("raw"))?, "what virtctl unpacked differs");
    let packed = bench.file("packed");
    ensure!(fs::metadata(&packed)?.len() < SIZE / 2, "zeros are not small");
    let unpacked = format!("gzip -dc {} | cmp - {}", packed.display(), bench.disk().display());
    ensure!(System.start(&Command::new("sh").args(["-c", &unpacked]))?.wait()?.success(), "gzip differs");
    let (good, said) = run(&["vmexport", "delete", "away"])?;
    ensure!(good && said.contains("deleted succesfully"), "{said}");
    bench.gone("away").await?;

    // A VM, and the manifest by which another cluster makes it.
    let mut web = vm("web", "Halted")?;
    web.spec.template.spec.volumes =
        serde_json::from_value(json!([{"name": "root", "dataVolume": {"name": "disk"}}]))?;
    bench.on.here::<VirtualMachine>().create(&PostParams::default(), &web).await?;
    let manifest = bench.file("manifest");
    let to = format!("--output={}", manifest.display());
    let words = ["vmexport", "download", "web-away", "--vm=web", "--manifest", "--include-secret", &to];
    let (good, said) = run(&words)?;
    let text = fs::read_to_string(&manifest)?;
    ensure!(good, "{said}");
    for expected in
        ["kind: VirtualMachine\n", "kind: DataVolume\n", "kind: Secret\n", "volumes/disk/disk.img.gz"]
    {
        ensure!(text.contains(expected), "no {expected} in {text}");
    }
    let status = bench.ready("web-away").await?;
    ensure!(status.virtual_machine_name.as_deref() == Some("web"), "{status:?}");

    // A VM that starts does not wait for it.
    let starts = Patch::Merge(json!({"spec": {"runStrategy": "Always"}}));
    bench.on.here::<VirtualMachine>().patch("web", &PatchParams::default(), &starts).await?;
    let status = bench.in_phase("web-away", ExportPhase::Pending).await?;
    let ready = find(&status.conditions, "Ready").context("a condition")?;
    ensure!(ready.message.as_deref() == Some("Virtual Machine default/web is running"), "{ready:?}");
    let pod = wait("its Pod is bound to the node", async || {
        let pods =
            bench.on.here::<Pod>().list(&ListParams::default().labels("kubevirt.io=virt-launcher")).await?;
        let bound = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        Ok(pods.items.into_iter().find(bound))
    })
    .await?;
    let stops = Patch::Merge(json!({"spec": {"runStrategy": "Halted"}}));
    bench.on.here::<VirtualMachine>().patch("web", &PatchParams::default(), &stops).await?;
    bench.on.node_ends(&pod.name_any()).await?;
    bench.ready("web-away").await?;
    bench.on.here::<VirtualMachineExport>().delete("web-away", &DeleteParams::default()).await?;
    bench.gone("web-away").await?;

    // A snapshot.
    bench
        .on
        .make::<VirtualMachineSnapshot>(json!({
            "apiVersion": "snapshot.kubevirt.io/v1beta1", "kind": "VirtualMachineSnapshot",
            "metadata": {"name": "nightly"},
            "spec": {"source": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "web"}},
        }))
        .await?;
    let (good, said) = run(&["vmexport", "create", "old", "--snapshot=nightly"])?;
    ensure!(good, "{said}");
    bench.ready("old").await?;
    bench.publish().await?;
    let file = bench.file("old");
    let to = format!("--output={}", file.display());
    let (good, said) = run(&["vmexport", "download", "old", "--format=raw", &to, "--delete-vme"])?;
    ensure!(good && bench.is_the_disk(&file)?, "{said}");
    bench.gone("old").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_needs_the_token_is_resumed_and_ends_with_its_export() -> Result<()> {
    let bench = Bench::start().await?;
    bench.export("away", json!({})).await?;
    let status = bench.ready("away").await?;
    let file = bench.file("part");
    let to = file.display().to_string();

    for wrong in ["wrong", ""] {
        let (_, said) = bench.curl(wrong, &status, Format::Raw, &["--output", "/dev/null"])?;
        ensure!(said == "401", "{said}");
    }
    let token = bench.token(&status).await?;
    let (_, said) = bench.curl(&token, &status, Format::Raw, &["--head"])?;
    ensure!(said.contains(&format!("content-length: {SIZE}")) && said.ends_with("200"), "{said}");
    let (_, said) = bench.curl(&token, &status, Format::Raw, &["--range", &format!("{SIZE}-")])?;
    ensure!(said.ends_with("416"), "{said}");

    // What a broken connection left is completed.
    let half = SIZE as usize / 2 + 12_345;
    let resumes = ["--continue-at", "-", "--output", &to];
    fs::write(&file, &fs::read(bench.disk())?[..half])?;
    let (code, said) = bench.curl(&token, &status, Format::Raw, &resumes)?;
    ensure!(code == 0 && said == "206" && bench.is_the_disk(&file)?, "{code} {said}");

    // Another controller leads: the links are its own, and what the former had sent is completed.
    let options = bench.on.plane.controller_options();
    bench.on.kill_controller();
    let successor = tokio::spawn(async move { sheaf_controller::run(&options).await });
    let moved = wait("the links are those of the successor", async || {
        let found = bench.on.here::<VirtualMachineExport>().get("away").await?.status.unwrap_or_default();
        Ok((found.phase == Some(ExportPhase::Ready) && found.links != status.links).then_some(found))
    })
    .await?;
    fs::write(&file, &fs::read(bench.disk())?[..half])?;
    let (code, said) = bench.curl(&token, &moved, Format::Raw, &resumes)?;
    ensure!(code == 0 && said == "206" && bench.is_the_disk(&file)?, "{code} {said}");

    // The export is deleted while its volume is sent.
    let mut child = bench.begun(&moved, &file).await?;
    bench.on.here::<VirtualMachineExport>().delete("away", &DeleteParams::default()).await?;
    ensure!(!child.wait()?.success(), "a download that was cut looks complete");
    bench.gone("away").await?;

    // Its time is over.
    bench.export("short", json!({"ttlDuration": "5s"})).await?;
    bench.gone("short").await?;

    // The claim is deleted while it is read.
    bench.export("late", json!({})).await?;
    let status = bench.ready("late").await?;
    let mut child = bench.begun(&status, &file).await?;
    bench.on.here::<DataVolume>().delete("disk", &DeleteParams::default()).await?;
    ensure!(!child.wait()?.success(), "a download that was cut looks complete");
    let status = bench.in_phase("late", ExportPhase::Pending).await?;
    let claims = find(&status.conditions, "PVCReady").and_then(|found| found.reason.clone());
    ensure!(claims.as_deref() == Some("PVCNotFound") && status.links.is_none(), "{status:?}");
    let volumes: Api<LocalVolume> = Api::all(bench.on.client.clone());
    wait("the volume is gone", async || {
        Ok(volumes.list(&ListParams::default()).await?.items.is_empty().then_some(()))
    })
    .await?;
    successor.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_from_a_killed_agent_is_cut_and_completed_by_the_next_agent() -> Result<()> {
    let mut bench = Bench::start().await?;
    bench.export("away", json!({})).await?;
    let status = bench.ready("away").await?;
    let file = bench.file("part");
    let mut child = bench.begun(&status, &file).await?;
    bench.node.kill();
    ensure!(!child.wait()?.success(), "a download that was cut looks complete");
    let part = fs::metadata(&file)?.len();
    ensure!(part < SIZE, "{part} bytes came");

    bench.node.again(&bench.on).await?;
    bench.publish().await?;
    let token = bench.token(&status).await?;
    let to = file.display().to_string();
    let resumes = ["--continue-at", "-", "--retry", "30", "--retry-all-errors", "--output", &to];
    let (code, said) = bench.curl(&token, &status, Format::Raw, &resumes)?;
    ensure!(code == 0 && said == "206" && bench.is_the_disk(&file)?, "{code} {said}");
    Ok(())
}
