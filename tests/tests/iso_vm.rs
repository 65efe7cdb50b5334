//! A VM that is installed from an ISO by its display and its keyboard alone, and then boots from its disk.
//!
//! Why a whole machine: what a CD, a text screen and a PS/2 keyboard of a VM do is QEMU's. The installer is the project's own
//! (`tests/machine/guest/installer`): it asks for a disk and a name, which are typed and read off the pixels. Route in: `virtctl vnc`.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sheaf_host::run::{Command, System};
use sheaf_host::wait::until;
use sheaf_machine::{guest::medium, ports};
use sheaf_tests::harness::{Case, Cluster, READY, Server, case, field};
use sheaf_tests::rfb::{CALIBRATION, Display, ENTER};
use sheaf_tests::virtctl::Virtctl;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

/// A medium boots, or a disk is written, under two emulations.
const LONG: Duration = Duration::from_secs(600);
/// Longest wait for an answer of the node.
const STEP: Duration = Duration::from_secs(300);
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// The disk is empty at first, so the firmware takes the CD.
const VM: &str = r"
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: byhand}
spec:
  runStrategy: Manual
  dataVolumeTemplates:
    - metadata: {name: byhand-root}
      spec:
        source: {blank: {}}
        storage: {resources: {requests: {storage: 128Mi}}}
  template:
    spec:
      terminationGracePeriodSeconds: 30
      domain:
        memory: {guest: 256Mi}
        devices:
          disks:
            - {name: root, bootOrder: 1, disk: {bus: virtio}}
            - {name: cd, bootOrder: 2, cdrom: {bus: sata}}
      volumes:
        - {name: root, dataVolume: {name: byhand-root}}
        - {name: cd, dataVolume: {name: installer, hotpluggable: true}}
";

/// Offers the ISO as the DataVolume `installer`.
fn offer(case: &Case, cluster: &Cluster) -> Result<Server> {
    let iso = case.work().join("installer.iso");
    medium::build(&case.tools, &case.guest_disk()?, &CALIBRATION, case.work(), &iso)?;
    let bytes = std::fs::read(&iso).with_context(|| iso.display().to_string())?;
    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let size = bytes.len().next_multiple_of(4 << 20).to_string();
    let server = Server::start(bytes)?;
    let volume = json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "metadata": {"name": "installer"},
        "spec": {
            "source": {"http": {"url": server.url(), "checksum": format!("sha256:{sha256}")}},
            "storage": {"resources": {"requests": {"storage": size}}},
        },
    });
    cluster.operator.wait_apply(&volume.to_string(), READY)?;
    Ok(server)
}

/// `virtctl vnc`, until it is dropped.
struct Viewer(Child);

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The display of the VM. virtctl ends when there is none yet, so it is started again.
fn display(virtctl: &Virtctl, folder: &Path) -> Result<(Viewer, Display<TcpStream>)> {
    let (port, log) = (ports::free_port()?, folder.join("vnc"));
    let words = ["vnc", "byhand", "--proxy-only", "--port", &port.to_string()];
    let command: Command = virtctl.command(&words).log(&log);
    let found = until(STEP, LOOK, || {
        let viewer = Viewer(System.start(&command).ok()?);
        let display = until(Duration::from_secs(10), LOOK, || Display::connect(port).ok())?;
        Some((viewer, display))
    });
    found.with_context(|| {
        format!("virtctl shows no display: {}", std::fs::read_to_string(&log).unwrap_or_default())
    })
}

fn is(cluster: &Cluster, status: &str, timeout: Duration) -> Result<()> {
    cluster.operator.wait(&format!("VM byhand {status}"), &["vm", "byhand"], timeout, |vm| {
        (vm["status"]["printableStatus"] == status).then_some(())
    })?;
    Ok(())
}

#[test]
fn a_guest_is_installed_from_an_iso_by_display_and_keyboard_and_boots_from_its_disk() {
    case("iso-vm", |case| {
        let cluster = case.cluster()?;
        let server = cluster.operator.server().context("the cluster has an address")?;
        let virtctl = Virtctl::new(cluster.operator.kubeconfig_file())?.at(server);
        let _server = offer(case, &cluster)?;
        cluster.operator.apply(VM)?;
        is(&cluster, "Stopped", STEP)?;
        let (good, said) = virtctl.run(&["start", "byhand"])?;
        ensure!(good, "{said}");
        is(&cluster, "Running", LONG)?;

        let (viewer, mut screen) = display(&virtctl, case.work())?;
        screen.wait("Disk vda, 128 MiB", LONG)?;
        // A disk that is not there is asked for again; nothing is written without a yes.
        screen.answer("1. Disk to install on:", "vdz", STEP)?;
        screen.answer("2. Disk to install on:", "vda", STEP)?;
        screen.answer("3. Name of this machine:", "wheat", STEP)?;
        screen.answer("4. All data on it will be lost. Type yes to go on:", "no", STEP)?;
        screen.answer("5. Disk to install on:", "vda", STEP)?;
        screen.answer("6. Name of this machine:", "harvest7", STEP)?;
        screen.answer("7. All data on it will be lost. Type yes to go on:", "yes", STEP)?;
        screen.wait("8. Installed. Press Enter to switch off:", LONG)?;
        screen.press(ENTER)?;
        is(&cluster, "Stopped", STEP)?;
        drop((screen, viewer));

        // The CD is still in its drive; the disk comes first.
        let (good, said) = virtctl.run(&["start", "byhand"])?;
        ensure!(good, "{said}");
        let up = cluster.console_line("byhand", "guest: up")?;
        ensure!(field(&up, "hostname") == "harvest7" && field(&up, "boots") == "1", "{up}");
        ensure!(field(&up, "instance-id") == "installed-by-hand", "{up}");
        Ok(())
    });
}
