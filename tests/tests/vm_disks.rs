//! A disk from an operator's machine to a VM that runs and back: uploaded, added, written by the guest, removed, downloaded.
//!
//! Why a whole machine: logical volumes, AppArmor, QEMU's devices and the guest's kernel all have a hand in it. The guest says
//! on its console what it sees of the disk. Route in: virtctl and curl, as an operator uses them.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sheaf_fuzz::Random;
use sheaf_host::run::{Command, Run as _, System};
use sheaf_host::wait::until;
use sheaf_tests::harness::{Case, Cluster, case, field};
use sheaf_tests::virtctl::Virtctl;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

const MIB: usize = 1 << 20;
/// What is uploaded.
const IMAGE: usize = 8 * MIB;
/// Where the guest writes, in MiB, and what.
const WRITTEN_AT: usize = 12;
const LINE: &str = "grain\n";
/// Longest wait for one step of an emulated node.
const STEP: Duration = Duration::from_secs(300);
/// The node's address in its network.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 11);
/// Of the proxy that takes uploads and serves exports (docs/cluster.md).
const PROXY: u16 = 10913;

/// Waits for a SCSI disk, says what is on it, writes on it, and says when it is gone.
const GUEST: &str = r#"#!/bin/sh
# hostname: web
disk() { mdev -s; for path in /sys/block/sd*; do [ -e "$path" ] && echo "${path##*/}"; done | head -n 1; }
while [ -z "$(disk)" ]; do sleep 1; done
name=$(disk)
echo "disk added bytes=$(($(cat /sys/block/$name/size) * 512)) sum=$(dd if=/dev/$name bs=1M count=8 2>/dev/null | sha256sum | cut -c 1-64)"
yes grain | head -c 1048576 > /tmp/piece
dd if=/tmp/piece of=/dev/$name bs=1M seek=12 oflag=direct 2>/dev/null && echo disk written
while [ -e /sys/block/$name ]; do sleep 1; done
echo disk removed
"#;

fn vm() -> String {
    let script: String = GUEST.lines().map(|line| format!("              {line}\n")).collect();
    format!(
        r"
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {{name: web}}
spec:
  runStrategy: Always
  template:
    spec:
      terminationGracePeriodSeconds: 30
      domain:
        memory: {{guest: 128Mi}}
        devices: {{disks: [{{name: system}}, {{name: seed}}]}}
      volumes:
        - name: system
          hostDisk: {{path: /data/images/guest.raw, type: Disk}}
        - name: seed
          cloudInitNoCloud:
            userData: |
{script}"
    )
}

/// Bytes that do not repeat.
fn image(case: &Case) -> Result<(Vec<u8>, String)> {
    let mut random = Random::new(1);
    let bytes: Vec<u8> = (0..IMAGE).map(|_| random.byte()).collect();
    let path = case.work().join("image.raw");
    std::fs::write(&path, &bytes)?;
    Ok((bytes, path.display().to_string()))
}

/// Waits until the instance says of its volume `data` that it is in `phase`.
fn wait_phase(cluster: &Cluster, phase: &str) -> Result<()> {
    Ok(cluster.operator.wait(&format!("volume data {phase}"), &["vmi", "web"], STEP, |vmi| {
        let of_data = |one: &&Value| one["name"] == "data";
        let found = vmi["status"]["volumeStatus"].as_array()?.iter().find(of_data)?;
        (found["phase"] == phase).then_some(())
    })?)
}

/// Downloads the claim `data` to `file` with the token of an export, by curl.
fn download(cluster: &mut Cluster, virtctl: &Virtctl, folder: &Path, file: &Path) -> Result<()> {
    let (good, said) = virtctl.run(&["vmexport", "create", "away", "--pvc=data"])?;
    ensure!(good, "{said}");
    let export = cluster.operator.wait("export Ready", &["vmexport", "away"], STEP, |export| {
        (export["status"]["phase"] == "Ready").then(|| export.clone())
    })?;
    let links = &export["status"]["links"]["external"];
    let authority = folder.join("ca.pem");
    std::fs::write(&authority, links["cert"].as_str().context("the export has a certificate")?)?;
    let formats = links["volumes"][0]["formats"].as_array().context("the export has formats")?;
    let raw = formats.iter().find(|one| one["format"] == "raw").context("raw")?;
    let url = raw["url"].as_str().context("a URL")?;
    let secret = export["status"]["tokenSecretRef"].as_str().context("the export has a token")?;
    let secret = cluster.operator.kubectl(&[
        "get",
        "secret",
        secret,
        "-o",
        "go-template={{.data.token | base64decode}}",
    ])?;
    let port = cluster.machine.forward(NODE, PROXY)?;
    let curl = Command::new("curl")
        .args([
            "--fail",
            "--silent",
            "--show-error",
            "--connect-to",
            &format!("::127.0.0.1:{port}"),
            "--cacert",
        ])
        .arg(&authority)
        .args(["-H", &format!("x-kubevirt-export-token: {}", secret.trim()), "-o"])
        .arg(file)
        .arg(url)
        .deadline(STEP);
    System.run(&curl)?;
    Ok(())
}

#[test]
fn a_disk_is_uploaded_added_to_a_vm_that_runs_written_removed_and_downloaded() {
    case("vm-disks", |case| {
        let mut cluster = case.cluster()?;
        let server = cluster.operator.server().context("the cluster has an address")?;
        let virtctl = Virtctl::new(cluster.operator.kubeconfig_file())?.at(server);
        let (bytes, path) = image(case)?;

        let port = cluster.machine.forward(NODE, PROXY)?;
        let proxy = format!("--uploadproxy-url=https://127.0.0.1:{port}");
        let image = format!("--image-path={path}");
        let words =
            ["image-upload", "dv", "data", "--size=64Mi", &image, "--insecure", "--force-bind", &proxy];
        let (good, said) = virtctl.run(&[&words[..], &["--wait-secs=300"]].concat())?;
        ensure!(good && said.contains("completed successfully"), "{said}");

        let up = cluster.start_vm(&vm(), "web")?;
        let (good, said) = virtctl.run(&["addvolume", "web", "--volume-name=data", "--persist"])?;
        ensure!(good, "{said}");
        let added = cluster.console_line("web", "guest: disk added")?;
        let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(field(&added, "bytes") == (64 * MIB).to_string() && field(&added, "sum") == sum, "{added}");
        wait_phase(&cluster, "Ready")?;
        cluster.console_line("web", "guest: disk written")?;

        let (good, said) = virtctl.run(&["removevolume", "web", "--volume-name=data", "--persist"])?;
        ensure!(good, "{said}");
        cluster.console_line("web", "guest: disk removed")?;
        let beat = cluster.console_line("web", "guest: alive")?;
        ensure!(field(&beat, "boot-id") == field(&up, "boot-id"), "another guest: {up}\n{beat}");
        // The claim is free once the node says that no domain has the disk.
        until(STEP, Duration::from_secs(2), || {
            let pods = cluster.operator.kubectl(&["get", "pods", "-o", "name"]).ok()?;
            (!pods.contains("hp-volume")).then_some(())
        })
        .context("the attachment Pod stays")?;

        let file = case.work().join("downloaded");
        download(&mut cluster, &virtctl, case.work(), &file)?;
        let found = std::fs::read(&file)?;
        ensure!(
            found.len() == 64 * MIB && found[..IMAGE] == bytes[..],
            "{} bytes, not what was uploaded",
            found.len()
        );
        let written = &found[WRITTEN_AT * MIB..(WRITTEN_AT + 1) * MIB];
        ensure!(
            written.chunks(LINE.len()).all(|line| LINE.as_bytes().starts_with(line)),
            "not what the guest wrote"
        );
        Ok(())
    });
}
