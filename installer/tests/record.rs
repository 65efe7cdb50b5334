//! What is left of a failure: the log on the labelled drive, and a bundle that other programs can unpack.

mod common;

use sheaf_config::node::Identity;
use sheaf_host::efi::EfiVars;
use sheaf_host::fakes::{FakeCall, FakeFetch, FakeMount, FakeNet, FakeRun};
use sheaf_host::run::{Command, Run, System};
use sheaf_installer::record;
use sheaf_installer::session::{Host, open_disk};
use std::path::Path;
use tempfile::TempDir;

/// What saving says with drives of these file systems, all labelled.
fn saved(fstypes: &[&str]) -> (String, TempDir) {
    let dir = TempDir::new().unwrap();
    let drives: Vec<_> = fstypes
        .iter()
        .enumerate()
        .map(|(n, fstype)| {
            format!(r#"{{"path":"/dev/sd{n}","type":"disk","label":"SHEAF-CONF","fstype":"{fstype}"}}"#)
        })
        .collect();
    let run = FakeRun::default().prints("lsblk", &format!(r#"{{"blockdevices":[{}]}}"#, drives.join(",")));
    let mount = FakeMount::default().holds("/dev/sd0", dir.path());
    let (call, fetch, net) = (FakeCall::default(), FakeFetch::default(), FakeNet::default());
    let host = Host {
        run: &run,
        mount: &mount,
        call: &call,
        fetch: &fetch,
        net: &net,
        firmware: &EfiVars::default(),
        open: &open_disk,
        root: Path::new("/nonexistent"),
        scratch: dir.path(),
    };
    let said = match record::save(&host, "sheaf-install-m1.log", b"it failed") {
        Ok(place) => place,
        Err(error) => error.to_string(),
    };
    (said, dir)
}

#[test]
fn the_log_goes_to_the_labelled_drive() {
    let (said, dir) = saved(&["vfat"]);
    assert_eq!(said, "sheaf-install-m1.log on /dev/sd0");
    assert_eq!(std::fs::read(dir.path().join("sheaf-install-m1.log")).unwrap(), b"it failed");
}

#[test]
fn without_one_drive_that_can_be_written_it_is_said_why_not() {
    assert_eq!(saved(&[]).0, "no drive is labelled SHEAF-CONF; plug one in (FAT, with that label)");
    assert_eq!(
        saved(&["vfat", "vfat"]).0,
        "2 drives are labelled SHEAF-CONF; plug one in (FAT, with that label)"
    );
    assert_eq!(
        saved(&["iso9660"]).0,
        "the drive /dev/sd0 labelled SHEAF-CONF has the file system \"iso9660\", to which nothing is written"
    );
}

#[test]
fn machines_are_told_apart_by_serial_or_nic() {
    let serial = Identity { serial: Some("VMware-42 1d".into()), ..Identity::default() };
    assert_eq!(record::name_of(&serial), "vmware-42-1d");
    let nic = Identity { macs: vec!["52:54:00:aa:00:01".into()], ..Identity::default() };
    assert_eq!(record::name_of(&nic), "525400aa0001");
}

#[test]
fn a_bundle_unpacks_and_holds_no_secret() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("record");
    let text = "version = 1\nsystem.hostname = \"a\"\n[cluster]\nmode = \"create\"\ntoken = \"abcdef.0123456789abcdef\"\n";
    let config = sheaf_config::load::parse_node_config("node.toml", text).unwrap();
    record::keep_config(&folder, &config);
    record::keep(&folder, "plan.json", "{}");
    let run = FakeRun::default()
        .prints("journalctl --boot --dmesg", "[0.0] Linux\n")
        .fails("lsmod", "no such program")
        .prints("lsblk", r#"{"blockdevices":[]}"#);
    let bundle = record::bundle(&run, Path::new("/"), &folder).unwrap();
    let archive = dir.path().join("bundle.tar.gz");
    std::fs::write(&archive, bundle).unwrap();
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    System.run(&Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&out)).unwrap();
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert!(read("node.toml").contains("token = \"***\""));
    for file in std::fs::read_dir(&out).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(16).any(|window| window == b"0123456789abcdef"));
    }
    assert_eq!(read("plan.json"), "{}");
    assert_eq!(read("kernel.log"), "[0.0] Linux\n");
    assert!(read("modules.txt").contains("no such program"), "a program that fails is told, too");
    assert!(read("inventory.json").contains("firmware") && out.join("proc-cmdline").exists());
}
