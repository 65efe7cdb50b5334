//! What the files of the node's root promise to the rest: who is killed first, what is closed, which CA signs what.
//!
//! Why here: these are settings of units and not code; a line that is lost in one of them is noticed by no compiler.
//! Route in: `image/rootfs` as it goes into the image. Route out: nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

fn rootfs(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("image/rootfs").join(path)
}

fn read(path: &str) -> String {
    let path = rootfs(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The value of `key` in a unit file, or of `--key` in its command line.
fn value<'a>(unit: &'a str, key: &str) -> Option<&'a str> {
    unit.lines()
        .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))
        .map(|value| value.trim_end_matches(" \\"))
}

const UNITS: &str = "usr/lib/systemd/system";
const CONTROL_PLANE: [&str; 5] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "sheaf-controller"];

#[test]
fn when_memory_runs_out_qemu_is_killed_before_what_the_node_needs() {
    let adjust = |unit: &str| value(unit, "OOMScoreAdjust").map_or(0, |value| value.parse::<i32>().unwrap());
    // QEMU inherits libvirtd's.
    let qemu = adjust(&read(&format!("{UNITS}/libvirtd.service.d/sheaf.conf")));
    assert!(qemu > 0, "units without a value have 0");
    for entry in fs::read_dir(rootfs(UNITS)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "service") {
            let unit = fs::read_to_string(&path).unwrap();
            assert!(adjust(&unit) < qemu, "{} is killed before QEMU", path.display());
        }
    }
}

#[test]
fn the_control_plane_keeps_memory_of_its_own() {
    for name in CONTROL_PLANE {
        let unit = read(&format!("{UNITS}/{name}.service"));
        assert_eq!(value(&unit, "Slice"), Some("control-plane.slice"), "{name}");
    }
    let slice = read(&format!("{UNITS}/control-plane.slice"));
    for key in ["MemoryMin", "CPUWeight", "IOWeight"] {
        assert!(value(&slice, key).is_some(), "{key}");
    }
}

/// systemd stops in the reverse order of starting.
#[test]
fn vms_power_off_before_anything_that_they_or_their_reports_need_is_stopped() {
    let unit = read(&format!("{UNITS}/sheaf-guests.service"));
    let after: Vec<&str> =
        unit.lines().filter_map(|line| line.strip_prefix("After=")).flat_map(str::split_whitespace).collect();
    let needed =
        ["libvirtd", "libvirt-dbus", "virtlogd", "dbus", "nftables", "systemd-networkd", "sheaf-agent"];
    for name in needed.into_iter().chain(CONTROL_PLANE).chain(["sheaf-console@tty1", "sheaf-console@ttyS0"]) {
        assert!(after.contains(&format!("{name}.service").as_str()), "{name} is stopped while VMs still run");
    }
    // systemd ends the scope of a VM, and QEMU with it, at the beginning of a shutdown, unless it is ordered after the unit:
    // libvirt orders scopes before this target.
    let target = "virt-guest-shutdown.target";
    assert!(after.contains(&target), "VMs are killed before they are asked to power off");
    assert_eq!(value(&unit, "Requires"), Some(target), "a target that is not active orders nothing");
    let customize = Path::new(env!("CARGO_MANIFEST_DIR")).join("image/customize.sh");
    assert!(
        !fs::read_to_string(customize).unwrap().contains(target),
        "a masked target keeps the unit from starting"
    );
    // Nothing is started during a shutdown, not even by its bus name.
    assert_eq!(value(&unit, "Wants"), Some("libvirt-dbus.service"));
    assert_eq!((value(&unit, "RemainAfterExit"), value(&unit, "ExecStart")), (Some("yes"), None));
    assert!(read("usr/lib/systemd/system-preset/00-sheaf.preset").contains("enable sheaf-guests.service\n"));
    let logind = read("usr/lib/systemd/logind.conf.d/sheaf.conf");
    assert_eq!(value(&logind, "HandlePowerKey"), Some("poweroff"));
}

/// It is what browsers reach.
#[test]
fn the_console_may_listen_at_a_low_port_and_nothing_more_and_has_an_end_to_its_memory() {
    let (console, controller) =
        (read(&format!("{UNITS}/sheaf-console.service")), read(&format!("{UNITS}/sheaf-controller.service")));
    assert_eq!(value(&console, "User"), Some("sheaf-console"));
    for key in ["CapabilityBoundingSet", "AmbientCapabilities"] {
        assert_eq!(value(&console, key), Some("CAP_NET_BIND_SERVICE"), "{key}");
    }
    assert_eq!(value(&console, "MemoryMax"), Some("256M"));
    assert_eq!(value(&console, "--listen"), Some("[::]:443"));
    // The sandbox of the controller, which nobody but the API server reaches, but for what a capability needs.
    let sandbox = |unit: &str| -> Vec<String> {
        let lines = unit.split_once("# Sandbox.\n").map(|(_, lines)| lines.lines()).into_iter().flatten();
        let own =
            ["CapabilityBoundingSet=", "AmbientCapabilities=", "PrivateUsers=", "RestrictAddressFamilies="];
        let same =
            lines.filter(|line| !line.starts_with('#') && !own.iter().any(|key| line.starts_with(key)));
        same.map(str::to_owned).collect()
    };
    assert_eq!(sandbox(&console), sandbox(&controller));
    assert!(sandbox(&console).len() > 15);
}

#[test]
fn the_clusters_ca_signs_no_serving_certificate_of_a_node() {
    let manager = read(&format!("{UNITS}/kube-controller-manager.service"));
    let signs = |what: &str| value(&manager, &format!("--cluster-signing-{what}-cert-file"));
    let (serving, client) = (signs("kubelet-serving").unwrap(), signs("kubelet-client").unwrap());
    assert_ne!(serving, client);
    let server = read(&format!("{UNITS}/kube-apiserver.service"));
    assert_eq!(value(&server, "--kubelet-certificate-authority"), Some(serving));
    assert_eq!(value(&server, "--client-ca-file"), Some(client));
    // A signer for all others would sign what has no signer of its own.
    assert_eq!(value(&manager, "--cluster-signing-cert-file"), None);
}

#[test]
fn secrets_are_encrypted_in_etcd_with_keys_that_only_the_api_server_is_given() {
    let server = read(&format!("{UNITS}/kube-apiserver.service"));
    assert_eq!(value(&server, "--encryption-provider-config"), Some("%d/encryption.json"));
    assert!(server.contains("\nLoadCredential=encryption.json:/run/sheaf/encryption.json\n"), "{server}");
    for name in CONTROL_PLANE.iter().filter(|name| **name != "kube-apiserver") {
        assert!(!read(&format!("{UNITS}/{name}.service")).contains("encryption"), "{name}");
    }
}

#[test]
fn the_audit_log_says_nothing_of_what_is_in_objects_and_no_user_but_root_and_the_api_server_reads_it() {
    let server = read(&format!("{UNITS}/kube-apiserver.service"));
    let log = value(&server, "--audit-log-path").unwrap();
    let folder = value(&server, "LogsDirectory").unwrap();
    assert_eq!(log, format!("/var/log/{folder}/audit.log"));
    assert_eq!(value(&server, "LogsDirectoryMode"), Some("0700"));
    let policy = value(&server, "--audit-policy-file").unwrap();
    let text = read(policy.trim_start_matches('/'));
    let levels: Vec<&str> = text.lines().filter_map(|line| line.split("level: ").nth(1)).collect();
    assert!(levels.contains(&"Metadata") && levels.contains(&"None"), "{levels:?}");
    assert!(levels.iter().all(|level| ["Metadata", "None"].contains(level)), "{levels:?}");
}

#[test]
fn guests_cannot_run_guests_unless_node_toml_says_so() {
    let options = read("usr/lib/modprobe.d/sheaf.conf");
    for module in ["kvm_amd", "kvm_intel"] {
        let set: Vec<_> =
            options.lines().filter(|line| line.starts_with(&format!("options {module} "))).collect();
        assert_eq!(set, [format!("options {module} nested=0")]);
    }
}

#[test]
fn until_the_agent_has_put_its_rules_guests_reach_nothing() {
    let rules = read("etc/nftables.conf");
    let lines: Vec<_> =
        rules.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let chain = |name: &str| {
        let begin = lines.iter().position(|line| *line == format!("chain {name} {{")).unwrap();
        let end = lines[begin..].iter().position(|line| *line == "}").unwrap();
        &lines[begin + 1..begin + end]
    };
    assert_eq!(chain("forward"), ["type filter hook forward priority filter; policy drop;"]);
    assert!(chain("input").contains(&"iifname \"masq0\" drop"));
    assert!(!rules.contains("accept\n"), "{rules}");
}

/// Programs that a script of an initrd may think it has.
const TOOLS: [&str; 46] = [
    "awk",
    "basename",
    "blkid",
    "cat",
    "chmod",
    "chown",
    "chroot",
    "cmp",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "dirname",
    "e2fsck",
    "find",
    "findmnt",
    "fsck",
    "grep",
    "head",
    "id",
    "install",
    "journalctl",
    "ln",
    "losetup",
    "ls",
    "mkdir",
    "mktemp",
    "mount",
    "mv",
    "od",
    "readlink",
    "reboot",
    "rm",
    "rmdir",
    "sed",
    "sleep",
    "sort",
    "stat",
    "sync",
    "tail",
    "tee",
    "tr",
    "udevadm",
    "umount",
    "wc",
];

#[test]
fn the_nodes_initrd_has_every_program_that_its_scripts_call() {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("image/dracut/node/90sheaf");
    let read = |name: &str| fs::read_to_string(module.join(name)).unwrap();
    let setup = read("module-setup.sh");
    let installed: Vec<&str> = setup
        .lines()
        .filter_map(|line| line.trim().strip_prefix("inst_multiple "))
        .flat_map(str::split_whitespace)
        .collect();
    for script in ["sheaf-state.sh", "boot-failed.sh", "boot-lib.sh", "count-boot.sh"] {
        let text = read(script);
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let parts = lines.flat_map(|line| line.split(['|', '&', ';', '(', '`', '!']));
        let words = parts.flat_map(|part| {
            let mut words = part.split_whitespace();
            words.by_ref().find(|word| !["if", "then", "else", "do", "while", "until", "for"].contains(word))
        });
        for tool in words.filter(|word| TOOLS.contains(word)) {
            assert!(installed.contains(&tool), "{script} calls {tool}: add it to inst_multiple");
        }
    }
}

#[test]
fn what_units_of_an_initrd_start_may_be_executed() {
    let dracut = Path::new(env!("CARGO_MANIFEST_DIR")).join("image/dracut");
    let mut started = 0;
    for module in ["node/90sheaf", "installer/91sheaf-installer"].map(|name| dracut.join(name)) {
        let setup = fs::read_to_string(module.join("module-setup.sh")).unwrap();
        for unit in fs::read_dir(&module).unwrap().map(|entry| entry.unwrap().path()) {
            if unit.extension().is_none_or(|kind| kind != "service") {
                continue;
            }
            let text = fs::read_to_string(&unit).unwrap();
            let programs = text.lines().filter_map(|line| line.strip_prefix("ExecStart=/usr/lib/sheaf/"));
            for program in programs.filter_map(|line| line.split_whitespace().next()) {
                let line = format!("inst_script \"$moddir/{program}.sh\" /usr/lib/sheaf/{program}");
                assert!(setup.contains(&line), "{}: {line}", unit.display());
                let script = module.join(format!("{program}.sh"));
                let mode = fs::metadata(&script).unwrap().permissions().mode();
                assert!(mode & 0o111 == 0o111, "{}: {mode:o}: chmod +x", script.display());
                started += 1;
            }
        }
    }
    assert!(started >= 4, "{started}");
}
