//! Every way in: CD, USB stick, PXE and HTTP boot, on both firmwares, each to the installer's plan; a whole
//! installation for each firmware and over the network, to a node that boots; and disks that change firmware.

use anyhow::Context as _;
use sheaf_host::run::{Command, System};
use sheaf_host::wait::until;
use sheaf_machine::node::BOOT_DEADLINE;
use sheaf_machine::spec::Forward;
use sheaf_machine::{Firmware, Medium, NodeMachine, Operator, files, lab, node, ports};
use sheaf_tests::harness::{Built, Case, READY, case};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Firmware, boot loader, kernel, and a download of 33 MB where there is one; all of it emulated.
const PLAN: Duration = Duration::from_secs(400);
/// A release is read, hashed and copied before a folder is served.
const SERVED: Duration = Duration::from_secs(120);
/// The smallest disk that is installed on, in bytes, and the memory in MiB that is enough for it.
const SMALL: (&str, u32) = ("16000000000", 2048);
/// This machine, as the user-mode network shows it.
const HOST: &str = "10.0.2.2";

/// What every case of this page begins with.
struct Scene<'c> {
    case: &'c Case,
    built: Built,
    operator: Operator,
    node: lab::Node,
}

impl<'c> Scene<'c> {
    fn new(case: &'c Case) -> anyhow::Result<Self> {
        let built = case.built()?;
        let operator = Operator::new(&built.sheaf, &built.kube, case.work());
        let node = lab::Node::first(&operator.admin_key()?);
        Ok(Self { case, built, operator, node })
    }

    fn iso(&self) -> anyhow::Result<PathBuf> {
        self.case.iso(&self.operator, &self.built, &self.node)
    }

    fn machine(&self, firmware: Option<Firmware>) -> anyhow::Result<NodeMachine> {
        let Case { tools, .. } = self.case;
        let mut machine = NodeMachine::blank(tools, &self.node, self.case.work(), &self.case.artefacts())?;
        machine.spec.firmware = firmware.unwrap_or(machine.spec.firmware);
        files::blank(tools, &machine.spec.disks[0].path, SMALL.0)?;
        machine.spec.memory = SMALL.1;
        Ok(machine)
    }

    /// Boots `medium` until the installer says what it will do.
    fn plan(&self, firmware: Option<Firmware>, medium: Medium) -> anyhow::Result<()> {
        let mut running = self.machine(firmware)?.boot_medium(medium)?;
        running.wait_for("Install sheaf", PLAN)?;
        running.wait_for("step        1 check", Duration::from_secs(30))?;
        running.cut_power();
        Ok(())
    }

    /// `sheaf pxe`, serving.
    fn serve(&self) -> anyhow::Result<Served> {
        let (port, config_port) = (ports::free_port()?, ports::free_port()?);
        let config = self.case.work().join("node.toml");
        std::fs::write(&config, self.node.toml())?;
        let folder = self.case.work().join("pxe");
        let url = format!("http://{HOST}:{port}");
        let command = Command::new(&self.built.sheaf)
            .arg("pxe")
            .arg(&folder)
            .arg("--release")
            .arg(&self.built.release)
            .arg("--config")
            .arg(&config)
            .args(["--listen", &format!("127.0.0.1:{port}"), "--url", &url, "--tftp", "none"])
            .args(["--config-port", &config_port.to_string()])
            .log(self.case.artefacts().join("pxe.log"));
        let server = System.start(&command)?;
        let served = Served { server, folder, url };
        // The socket is taken first; the UKI is made last.
        let uki = served.folder.join("sheaf.efi");
        let ready = || TcpStream::connect(("127.0.0.1", port)).ok().filter(|_| uki.exists());
        until(SERVED, Duration::from_millis(300), ready).context("sheaf pxe serves nothing")?;
        Ok(served)
    }
}

/// A running `sheaf pxe`.
struct Served {
    server: std::process::Child,
    folder: PathBuf,
    url: String,
}

impl Served {
    /// BIOS: the iPXE of QEMU's NICs runs the script.
    fn ipxe(&self) -> Medium {
        Medium::Pxe { bootfile: format!("{}/boot.ipxe", self.url), tftp: None }
    }

    /// The firmware's own PXE loads this by TFTP.
    fn tftp(&self, file: &str) -> Medium {
        Medium::Pxe { bootfile: file.into(), tftp: Some(self.folder.clone()) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Waits for the status page of a node that runs its cluster, and asks its API server.
fn runs(scene: &Scene<'_>, machine: &NodeMachine, port: u16) -> anyhow::Result<()> {
    let mut running = machine.boot()?;
    let pin = node::ca_hash(&mut running)?;
    scene.operator.wait_kubeconfig(&format!("https://127.0.0.1:{port}"), &pin, BOOT_DEADLINE)?;
    scene.operator.wait_node_ready("node1", READY)?;
    running.cut_power();
    Ok(())
}

/// Installs by `medium`, boots from the disk, sees the node Ready. Gives the machine, switched off.
fn installs(scene: &Scene<'_>, firmware: Option<Firmware>, medium: Medium) -> anyhow::Result<NodeMachine> {
    let port = ports::free_port()?;
    let mut machine = scene.machine(firmware)?;
    machine.spec.forwards.push(Forward { host: port, guest: scene.node.address, port: 6443 });
    machine.install(medium, |_| ())?;
    machine.spec.memory = 4096;
    runs(scene, &machine, port)?;
    Ok(machine)
}

/// The status page of a node on its first line.
fn shows_its_page(machine: &NodeMachine) -> anyhow::Result<()> {
    let mut running = machine.boot()?;
    running.wait_for("node1  slot a", BOOT_DEADLINE)?;
    running.cut_power();
    Ok(())
}

#[test]
fn bios_boots_the_medium_as_cd() {
    case("bios-cd", |case| {
        let scene = Scene::new(case)?;
        scene.plan(Some(Firmware::Bios), Medium::Cd(scene.iso()?))
    });
}

#[test]
fn bios_boots_the_medium_as_stick() {
    case("bios-usb", |case| {
        let scene = Scene::new(case)?;
        scene.plan(Some(Firmware::Bios), Medium::Usb(scene.iso()?))
    });
}

#[test]
fn uefi_boots_the_medium_as_cd() {
    case("uefi-cd", |case| {
        let scene = Scene::new(case)?;
        scene.plan(None, Medium::Cd(scene.iso()?))
    });
}

#[test]
fn uefi_boots_the_medium_as_stick() {
    case("uefi-usb", |case| {
        let scene = Scene::new(case)?;
        scene.plan(None, Medium::Usb(scene.iso()?))
    });
}

#[test]
fn ipxe_on_bios_boots_what_sheaf_pxe_serves() {
    case("pxe-bios", |case| {
        let scene = Scene::new(case)?;
        let served = scene.serve()?;
        scene.plan(Some(Firmware::Bios), served.ipxe())
    });
}

#[test]
fn a_nics_own_pxe_on_bios_boots_grub_by_tftp() {
    case("pxe-bios-tftp", |case| {
        let scene = Scene::new(case)?;
        let served = scene.serve()?;
        scene.plan(Some(Firmware::Bios), served.tftp("sheaf.0"))
    });
}

#[test]
fn uefis_own_pxe_boots_the_uki_by_tftp() {
    case("pxe-uefi", |case| {
        let scene = Scene::new(case)?;
        let served = scene.serve()?;
        scene.plan(None, served.tftp("sheaf.efi"))
    });
}

#[test]
fn uefi_http_boot_takes_the_uki_from_its_url() {
    case("http-boot", |case| {
        let scene = Scene::new(case)?;
        let served = scene.serve()?;
        let machine = scene.machine(None)?;
        let Firmware::Uefi { vars } = &machine.spec.firmware else { unreachable!() };
        let url = format!("{}/sheaf.efi", served.url);
        files::uefi_variables_of_url(&case.tools, case.work(), vars, &url)?;
        let mut running = machine.boot()?;
        running.wait_for("Install sheaf", PLAN)?;
        running.cut_power();
        Ok(())
    });
}

#[test]
fn a_disk_installed_on_bios_runs_a_cluster_there_and_starts_on_uefi_too() {
    case("bios-install", |case| {
        let scene = Scene::new(case)?;
        let mut machine = installs(&scene, Some(Firmware::Bios), Medium::Cd(scene.iso()?))?;
        machine.spec.firmware = scene.machine_vars(case.work())?;
        shows_its_page(&machine)
    });
}

#[test]
fn a_disk_installed_on_uefi_starts_on_bios_too() {
    case("uefi-install", |case| {
        let scene = Scene::new(case)?;
        let mut machine = scene.machine(None)?;
        machine.install(Medium::Usb(scene.iso()?), |_| ())?;
        machine.spec.memory = 4096;
        machine.spec.firmware = Firmware::Bios;
        shows_its_page(&machine)
    });
}

#[test]
fn an_installation_over_the_network_runs_a_cluster() {
    case("pxe-install", |case| {
        let scene = Scene::new(case)?;
        let served = scene.serve()?;
        installs(&scene, Some(Firmware::Bios), served.ipxe()).map(drop)
    });
}

impl Scene<'_> {
    /// UEFI of a machine that was never switched on.
    fn machine_vars(&self, work: &Path) -> anyhow::Result<Firmware> {
        let vars = work.join("other-board.qcow2");
        files::uefi_variables(&self.case.tools, &vars)?;
        Ok(Firmware::Uefi { vars })
    }
}
