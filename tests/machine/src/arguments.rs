//! QEMU's command line of a machine. Pure.
//!
//! Route in: a [`Spec`] and the places of its files. Route out: arguments, kept with the artefacts of a failure.

use crate::spec::{Disk, DiskBus, Firmware, Format, Lan, Medium, Nic, Spec};
use crate::{shell, tools::Tools};
use std::path::{Path, PathBuf};

/// Where a machine's sockets and logs are.
#[derive(Clone, Debug)]
pub struct Places {
    /// Receives what the machine says on its serial line.
    pub serial: PathBuf,
    /// Socket of the serial line's other end, when someone types there.
    pub line: PathBuf,
    /// QEMU's control socket.
    pub qmp: PathBuf,
    /// Socket of the harness's shell.
    pub shell: PathBuf,
}

/// All arguments of `qemu-system-x86_64`. `accelerator` is the value of `-accel`.
pub fn arguments(spec: &Spec, tools: &Tools, accelerator: &str, places: &Places) -> Vec<String> {
    let mut args = Args::default();
    args.two("-name", &spec.name);
    args.two("-accel", accelerator);
    args.two("-machine", "q35");
    // An IOMMU must be there before what it translates for.
    for device in &spec.devices {
        args.two("-device", device);
    }
    args.two("-cpu", "max");
    args.two("-smp", &spec.cpus.to_string());
    args.two("-m", &spec.memory.to_string());
    for folder in ["usr/share/qemu", "usr/share/seabios"] {
        args.two("-L", &tools.file(folder).display().to_string());
    }
    // A watchdog that is late is said in QEMU's log and no more: a minute of an emulated machine on a busy host is not
    // a minute of its own. A reset is said there, too, with the processor's state: only so a triple fault is told from
    // a reboot.
    args.all("-action watchdog=debug -d cpu_reset");
    // A reboot ends QEMU, so that a case sees it; anyone who wants it starts the machine again.
    args.all("-nodefaults -no-user-config -no-reboot -display none -device VGA -device virtio-rng-pci");
    args.two("-chardev", &format!("socket,id=qmp,path={},server=on,wait=off", places.qmp.display()));
    args.two("-mon", "chardev=qmp,mode=control");
    let log = places.serial.display();
    args.two(
        "-chardev",
        &match spec.typed {
            true => format!(
                "socket,id=serial,path={},server=on,wait=off,logfile={log},logappend=on",
                places.line.display()
            ),
            false => format!("file,id=serial,path={log},append=on"),
        },
    );
    args.two("-serial", "chardev:serial");
    firmware(&mut args, spec, tools);
    for (index, disk) in spec.disks.iter().enumerate() {
        add_disk(&mut args, index, disk);
    }
    // Where disks are plugged in while the machine runs: Machine::plug.
    args.all("-device virtio-scsi-pci,id=hotplug");
    medium(&mut args, spec.medium.as_ref());
    network(&mut args, spec);
    for (index, nic) in spec.nics.iter().enumerate() {
        add_nic(&mut args, index, nic);
    }
    for (index, network) in spec.networks.iter().enumerate() {
        let ([a, b, c], id) = (network.prefix, format!("network{index}"));
        args.two("-netdev", &format!("user,id={id},ipv6=off,net={a}.{b}.{c}.0/24"));
        args.two("-netdev", &cable(&format!("{id}-uplink"), &network.switch));
        for port in [id.clone(), format!("{id}-uplink")] {
            args.two("-netdev", &format!("hubport,id={port}-port,hubid={},netdev={port}", 100 + index));
        }
    }
    if spec.shell {
        args.two("-chardev", &format!("socket,id=shell,path={},server=on,wait=off", places.shell.display()));
        args.two("-serial", "chardev:shell");
        for value in shell::smbios() {
            args.two("-smbios", &format!("type=11,value={value}"));
        }
    }
    if let Some(state) = &spec.restore {
        args.two("-incoming", &format!("file:{}", state.display()));
    }
    args.0
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn all(&mut self, words: &str) {
        self.0.extend(words.split_whitespace().map(str::to_owned));
    }
    fn two(&mut self, option: &str, value: &str) {
        self.0.extend([option.to_owned(), value.to_owned()]);
    }
}

fn firmware(args: &mut Args, spec: &Spec, tools: &Tools) {
    let Firmware::Uefi { vars } = &spec.firmware else { return };
    let code = tools.file("usr/share/OVMF/OVMF_CODE_4M.fd");
    args.two("-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={}", code.display()));
    args.two("-drive", &format!("if=pflash,unit=1,format=qcow2,cache=unsafe,file={}", vars.display()));
}

fn add_disk(args: &mut Args, index: usize, disk: &Disk) {
    let file = disk.path.display();
    let format = if disk.format == Format::Raw { "raw" } else { "qcow2" };
    // cache=unsafe: a flush reaches the host's page cache, which a killed QEMU does not lose.
    match (&disk.faults, &disk.log_writes) {
        (Some(faults), _) => args.two(
            "-drive",
            &format!(
                "if=none,id=disk{index},driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename={file},{}",
                faults.split(',').map(|fault| format!("file.{fault}")).collect::<Vec<_>>().join(",")
            ),
        ),
        (None, Some(log)) => add_recorder(args, index, disk, format, log),
        (None, None) => args.two(
            "-drive",
            &format!("if=none,id=disk{index},cache=unsafe,discard=unmap,format={format},file={file}"),
        ),
    }
    let device = match disk.bus {
        DiskBus::Virtio => "virtio-blk-pci".to_owned(),
        DiskBus::Nvme => "nvme".to_owned(),
        // Port 0 of the chipset's controller is the CD drive's.
        DiskBus::Sata => format!("ide-hd,bus=ide.{}", index + 1),
    };
    let serial = if disk.serial.is_empty() { String::new() } else { format!(",serial={}", disk.serial) };
    // A disk without a write cache would be told of no flush.
    let cache = if disk.log_writes.is_some() { ",write-cache=on" } else { "" };
    args.two("-device", &format!("{device},drive=disk{index}{serial}{cache},bootindex={}", index + 1));
}

/// A disk whose writes are logged. Only the files below are told not to flush: a node that does not flush itself
/// would log no flush. The superblock of the log counts every entry, since a machine's power may be cut.
fn add_recorder(args: &mut Args, index: usize, disk: &Disk, format: &str, log: &Path) {
    let (id, unsafe_) = (format!("disk{index}"), "cache.no-flush=on");
    for (name, file) in [("file", disk.path.as_path()), ("log", log)] {
        args.two(
            "-blockdev",
            &format!("driver=file,node-name={id}-{name},filename={},{unsafe_},discard=unmap", file.display()),
        );
    }
    args.two(
        "-blockdev",
        &format!("driver={format},node-name={id}-format,file={id}-file,{unsafe_},discard=unmap"),
    );
    args.two(
        "-blockdev",
        &format!(
            "driver=blklogwrites,node-name={id},file={id}-format,log={id}-log,log-sector-size=512,\
             log-super-update-interval=1,discard=unmap"
        ),
    );
}

fn medium(args: &mut Args, medium: Option<&Medium>) {
    let drive = |path: &Path| format!("if=none,id=medium,format=raw,readonly=on,file={}", path.display());
    match medium {
        None | Some(Medium::Pxe { .. }) => {}
        Some(Medium::Cd(path)) => {
            args.two("-drive", &(drive(path) + ",media=cdrom"));
            args.all("-device ide-cd,bus=ide.0,drive=medium,bootindex=0");
        }
        Some(Medium::Usb(path)) => {
            args.two("-drive", &drive(path));
            args.all("-device qemu-xhci,id=usb -device usb-storage,bus=usb.0,drive=medium,bootindex=0,removable=on");
        }
    }
}

/// The machine's NIC, at the user-mode network itself or at a switch that this network is plugged into, too.
fn network(args: &mut Args, spec: &Spec) {
    let (first, boot) = match &spec.medium {
        Some(Medium::Pxe { bootfile, tftp }) => {
            let tftp = tftp.as_ref().map(|folder| format!(",tftp={}", folder.display())).unwrap_or_default();
            (",bootindex=0", format!(",bootfile={bootfile}{tftp}"))
        }
        _ => ("", String::new()),
    };
    args.two("-device", &format!("virtio-net-pci,netdev=nic,mac={}{first}", spec.mac));
    match &spec.lan {
        Lan::Alone => {}
        Lan::Gateway(switch) | Lan::Cable(switch) => args.two("-netdev", &cable("nic", switch)),
    }
    if matches!(spec.lan, Lan::Cable(_)) {
        return;
    }
    let forwards: String = spec
        .forwards
        .iter()
        .map(|f| format!(",hostfwd=tcp:127.0.0.1:{}-{}:{}", f.host, f.guest, f.port))
        .collect();
    let id = if spec.lan == Lan::Alone { "nic" } else { "user" };
    args.two("-netdev", &format!("user,id={id}{boot}{forwards}"));
    if let Lan::Gateway(switch) = &spec.lan {
        args.two("-netdev", &cable("uplink", switch));
        for port in ["user", "uplink"] {
            args.two("-netdev", &format!("hubport,id={port}-port,hubid=0,netdev={port}"));
        }
    }
}

/// A cable from `id` to the switch at this socket.
fn cable(id: &str, switch: &Path) -> String {
    format!("stream,id={id},server=off,addr.type=unix,addr.path={},reconnect-ms=1000", switch.display())
}

fn add_nic(args: &mut Args, index: usize, nic: &Nic) {
    let (id, slot) = (format!("nic{index}"), Nic::slot(index));
    // Without a peer QEMU drops what it sends; in a hub that nobody else is in it would stand still and complain.
    let peer = nic.switch.as_ref().map(|_| format!("netdev={id},")).unwrap_or_default();
    // A ROM would only make its firmware look for something to boot there, too.
    // A speed, because LACP takes a port that does not know its own for one without a cable.
    let wire = "speed=10000,duplex=full";
    args.two(
        "-device",
        &format!("virtio-net-pci,{peer}mac={},{wire},bus=pcie.0,addr={slot:#x},romfile=", nic.mac),
    );
    if let Some(switch) = &nic.switch {
        args.two("-netdev", &cable(&id, switch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Forward;

    fn line(spec: &Spec) -> String {
        let (serial, line) = ("/c/serial".into(), "/s/line".into());
        let places = Places { serial, line, qmp: "/s/qmp".into(), shell: "/s/shell".into() };
        arguments(spec, &Tools::at("/t".into()), "tcg", &places).join(" ")
    }

    fn spec() -> Spec {
        Spec { disks: vec![Disk::qcow2("/d/one.qcow2", "ONE")], ..Spec::new("node", "/d/vars.qcow2") }
    }

    #[test]
    fn the_medium_is_booted_before_the_disks() {
        let line = line(&Spec { medium: Some(Medium::Cd("/m.iso".into())), ..spec() });
        assert!(line.contains("ide-cd,bus=ide.0,drive=medium,bootindex=0"), "{line}");
        assert!(line.contains("virtio-blk-pci,drive=disk0,serial=ONE,bootindex=1"), "{line}");
    }

    #[test]
    fn pxe_is_booted_before_the_disks_and_told_by_dhcp_what() {
        let medium = Medium::Pxe { bootfile: "sheaf.efi".into(), tftp: Some("/t".into()) };
        let line = line(&Spec { medium: Some(medium), ..spec() });
        assert!(line.contains("virtio-net-pci,netdev=nic,mac=52:54:00:5e:af:01,bootindex=0"), "{line}");
        assert!(line.contains("-netdev user,id=nic,bootfile=sheaf.efi,tftp=/t"), "{line}");
    }

    #[test]
    fn a_line_that_is_typed_on_is_a_socket_and_still_kept() {
        let line = line(&Spec { typed: true, ..spec() });
        let wanted = "socket,id=serial,path=/s/line,server=on,wait=off,logfile=/c/serial,logappend=on";
        assert!(line.contains(wanted), "{line}");
    }

    #[test]
    fn a_cable_replaces_the_user_mode_network() {
        let line = line(&Spec { lan: Lan::Cable("/s/lan".into()), ..spec() });
        assert!(line.contains("stream,id=nic,server=off,addr.type=unix,addr.path=/s/lan"), "{line}");
        assert!(!line.contains("-netdev user"), "{line}");
    }

    #[test]
    fn a_gateway_plugs_its_nic_and_the_user_mode_network_into_the_switch() {
        let line = line(&Spec { lan: Lan::Gateway("/s/lan".into()), ..spec() });
        assert!(line.contains("stream,id=nic,server=off,addr.type=unix,addr.path=/s/lan"), "{line}");
        assert!(line.contains("-netdev user,id=user -netdev stream,id=uplink"), "{line}");
    }

    #[test]
    fn further_nics_have_places_of_their_own() {
        let nics = vec![
            Nic::new("52:54:00:5e:af:81"),
            Nic { switch: Some("/s/lan".into()), ..Nic::new("52:54:00:5e:af:82") },
        ];
        let line = line(&Spec { nics, ..spec() });
        let nic = |mac: &str, slot: &str| format!("mac={mac},speed=10000,duplex=full,bus=pcie.0,addr={slot}");
        assert!(line.contains(&nic("52:54:00:5e:af:81", "0x18")), "{line}");
        assert!(line.contains(&format!("netdev=nic1,{}", nic("52:54:00:5e:af:82", "0x19"))), "{line}");
        assert!(line.contains("-netdev stream,id=nic1,server=off,addr.type=unix,addr.path=/s/lan"), "{line}");
        assert_eq!(Nic::place(1), "pci-0000:00:19.0");
    }

    #[test]
    fn a_further_user_mode_network_hangs_on_the_switch() {
        let networks = vec![crate::spec::UserNetwork { prefix: [10, 0, 3], switch: "/s/port".into() }];
        let line = line(&Spec { networks, ..spec() });
        assert!(line.contains("user,id=network0,ipv6=off,net=10.0.3.0/24"), "{line}");
        assert!(
            line.contains("stream,id=network0-uplink,server=off,addr.type=unix,addr.path=/s/port"),
            "{line}"
        );
    }

    #[test]
    fn a_forward_leads_from_the_loopback_to_the_machine() {
        let forward = Forward { host: 7000, guest: [10, 0, 2, 10].into(), port: 6443 };
        let line = line(&Spec { forwards: vec![forward], ..spec() });
        assert!(line.contains("user,id=nic,hostfwd=tcp:127.0.0.1:7000-10.0.2.10:6443"), "{line}");
    }

    #[test]
    fn faults_go_through_blkdebug() {
        let mut spec = spec();
        spec.disks[0] =
            Disk { faults: Some("inject-error.0.event=write_aio".into()), ..Disk::raw("/d/one.raw", "ONE") };
        let line = line(&spec);
        assert!(
            line.contains("file.driver=blkdebug") && line.contains("file.inject-error.0.event=write_aio"),
            "{line}"
        );
    }

    #[test]
    fn a_disk_whose_writes_are_logged_flushes_to_the_log_and_no_further() {
        let mut spec = spec();
        spec.disks[0].log_writes = Some("/d/writes.log".into());
        let line = line(&spec);
        for wanted in [
            "-blockdev driver=file,node-name=disk0-file,filename=/d/one.qcow2,cache.no-flush=on,discard=unmap",
            "-blockdev driver=file,node-name=disk0-log,filename=/d/writes.log,cache.no-flush=on,discard=unmap",
            "-blockdev driver=qcow2,node-name=disk0-format,file=disk0-file,cache.no-flush=on,discard=unmap",
            "-blockdev driver=blklogwrites,node-name=disk0,file=disk0-format,log=disk0-log,log-sector-size=512,\
             log-super-update-interval=1,discard=unmap",
            "-device virtio-blk-pci,drive=disk0,serial=ONE,write-cache=on,bootindex=1",
        ] {
            assert!(line.contains(wanted), "{wanted}: {line}");
        }
        assert!(!line.contains("id=disk0,"), "{line}");
    }

    #[test]
    fn only_a_machine_with_a_harness_shell_gets_its_credentials() {
        assert!(!line(&spec()).contains("-smbios"));
        assert!(
            line(&Spec { shell: true, ..spec() })
                .contains("-smbios type=11,value=io.systemd.credential.binary:")
        );
    }
}
