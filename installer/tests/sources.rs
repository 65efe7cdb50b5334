//! Where a release and its config come from, and what is said when they do not come.

mod common;

use common::Release;
use minisign::KeyPair;
use sheaf_host::block::Device;
use sheaf_host::fakes::FakeMount;
use sheaf_installer::sources::config::{self, ConfigError};
use sheaf_installer::sources::medium::{self, Medium, MediumError};
use std::fs;
use std::io::Cursor;
use std::path::Path;

const NODE_TOML: &str = "version = 1\nsystem.hostname = \"node-1\"\n";

/// A medium signed by a fresh key, in a drive /dev/sr0.
struct Drive {
    release: Release,
    keys: KeyPair,
}

impl Drive {
    fn new() -> Self {
        let drive = Self { release: Release::new(), keys: KeyPair::generate_unencrypted_keypair().unwrap() };
        drive.sign(&serde_json::to_vec(&drive.release.manifest).unwrap());
        let key = drive.keys.pk.to_box().unwrap().into_string();
        fs::write(drive.release.dir.path().join("release.pub"), key).unwrap();
        drive
    }

    fn sign(&self, manifest: &[u8]) {
        let folder = self.release.folder();
        let signature = minisign::sign(Some(&self.keys.pk), &self.keys.sk, Cursor::new(manifest), None, None);
        fs::write(folder.join("manifest.json"), manifest).unwrap();
        fs::write(folder.join("manifest.json.minisig"), signature.unwrap().into_string()).unwrap();
    }

    fn find(&self) -> Result<Medium, MediumError> {
        self.find_among(&[device("/dev/sr0", "iso9660", "SHEAF")], FakeMount::default())
    }

    fn find_among(&self, devices: &[Device], mount: FakeMount) -> Result<Medium, MediumError> {
        let mount = mount.holds("/dev/sr0", self.release.mounted());
        medium::find(devices, &mount, Path::new("/mounts"), &self.release.dir.path().join("release.pub"))
    }

    /// Config found with `drives` besides the medium.
    fn config(&self, drives: &[Device], mount: &FakeMount) -> Result<config::Found, ConfigError> {
        config::find(drives, &self.find().unwrap(), mount, Path::new("/mounts"))
    }
}

fn device(path: &str, fstype: &str, label: &str) -> Device {
    Device {
        path: path.into(),
        kind: "disk".into(),
        fstype: Some(fstype.into()),
        label: Some(label.into()),
        ..Device::default()
    }
}

#[test]
fn a_signed_medium_is_found_with_its_images() {
    let drive = Drive::new();
    let medium = drive.find().unwrap();
    assert_eq!(medium.manifest, drive.release.manifest);
    assert_eq!(medium.images, drive.release.images);
    assert_eq!(medium.device, Path::new("/dev/sr0"));
}

#[test]
fn a_stick_that_shows_the_medium_on_disk_and_partition_counts_once() {
    let drive = Drive::new();
    let mut stick = device("/dev/sr0", "iso9660", "SHEAF");
    stick.children = vec![device("/dev/sr0p1", "iso9660", "SHEAF")];
    let mount = FakeMount::default().holds("/dev/sr0p1", drive.release.mounted());
    assert!(drive.find_among(&[stick], mount).is_ok());
}

#[test]
fn without_a_medium_it_says_what_was_looked_at() {
    let drive = Drive::new();
    let devices = [device("/dev/sda", "ext4", ""), device("/dev/sr1", "iso9660", "OTHER")];
    let other = tempfile::tempdir().unwrap();
    let error = drive.find_among(&devices, FakeMount::default().holds("/dev/sr1", other.path())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no install medium found: looked for an iso9660 file system that holds /sheaf/manifest.json on \
         /dev/sr1 (holds no /sheaf/manifest.json); attach the medium made by `sheaf iso`, and try another port or \
         drive if it is attached"
    );
}

#[test]
fn two_media_are_refused_with_both_named() {
    let drive = Drive::new();
    let devices = [device("/dev/sda", "iso9660", "SHEAF"), device("/dev/sr0", "iso9660", "SHEAF")];
    let error = drive.find_among(&devices, FakeMount::default().holds("/dev/sda", drive.release.mounted()));
    assert_eq!(
        error.unwrap_err().to_string(),
        "several install media found: /dev/sda and /dev/sr0; leave only the one to install from"
    );
}

#[test]
fn a_manifest_changed_after_signing_is_refused() {
    let drive = Drive::new();
    let path = drive.release.folder().join("manifest.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"version\":\"0.1.0\"", "\"version\":\"0.1.1\"");
    fs::write(&path, text).unwrap();
    let error = drive.find().unwrap_err().to_string();
    let begin =
        "the medium /dev/sr0 is refused: /sheaf/manifest.json does not verify with this installer's key (";
    assert!(error.starts_with(begin), "{error}");
    assert!(
        error.ends_with(
            "it was changed, or made by a build with another key: use the medium of the same release as this installer"
        ),
        "{error}"
    );
}

#[test]
fn a_manifest_signed_by_another_key_is_refused() {
    let mut drive = Drive::new();
    drive.keys = KeyPair::generate_unencrypted_keypair().unwrap();
    drive.sign(&serde_json::to_vec(&drive.release.manifest).unwrap());
    let error = drive.find().unwrap_err().to_string();
    assert!(error.contains("does not verify with this installer's key"), "{error}");
}

#[test]
fn a_manifest_of_a_later_format_is_refused() {
    let drive = Drive::new();
    let mut manifest = drive.release.manifest.clone();
    manifest.format = 2;
    drive.sign(&serde_json::to_vec(&manifest).unwrap());
    assert_eq!(
        drive.find().unwrap_err().to_string(),
        "the medium /dev/sr0 is refused: /sheaf/manifest.json has format 2, this installer reads 1; use an installer \
         of its own release"
    );
}

#[test]
fn an_installer_without_a_key_trusts_nothing() {
    let drive = Drive::new();
    fs::remove_file(drive.release.dir.path().join("release.pub")).unwrap();
    let error = drive.find().unwrap_err().to_string();
    assert!(
        error.ends_with(
            "no public key to verify a release with; this installer was not built by `sheaf build`"
        )
    );
}

#[test]
fn a_labelled_drive_comes_before_the_medium_and_the_source_is_named() {
    let drive = Drive::new();
    fs::write(drive.release.folder().join("node.toml"), NODE_TOML).unwrap();
    let stick = tempfile::tempdir().unwrap();
    fs::write(stick.path().join("node.toml"), NODE_TOML.replace("node-1", "node-2")).unwrap();
    let mount = FakeMount::default().holds("/dev/sdb1", stick.path());
    let mut disk = device("/dev/sdb", "", "");
    disk.children = vec![device("/dev/sdb1", "vfat", "SHEAF-CONF")];
    let found = drive.config(&[disk], &mount).unwrap();
    assert_eq!(found.origin, "drive /dev/sdb1 labelled SHEAF-CONF");
    assert_eq!(found.config.system.hostname, "node-2");
    let found = drive.config(&[], &mount).unwrap();
    assert_eq!(found.origin, "medium /dev/sr0");
    assert_eq!(found.config.system.hostname, "node-1");
}

#[test]
fn without_a_config_it_says_how_to_give_one() {
    let error = Drive::new().config(&[], &FakeMount::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no node.toml found: no drive is labelled SHEAF-CONF, and the medium /dev/sr0 holds no /sheaf/node.toml; \
         give one by a USB stick or second drive (vfat, ext4, iso9660) with the label SHEAF-CONF and the file \
         node.toml in its root, or make the medium with `sheaf iso RELEASE --config node.toml`"
    );
}

#[test]
fn two_labelled_drives_are_refused() {
    let drives = [device("/dev/sdb", "vfat", "SHEAF-CONF"), device("/dev/sdc", "ext4", "SHEAF-CONF")];
    let error = Drive::new().config(&drives, &FakeMount::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "several drives are labelled SHEAF-CONF: /dev/sdb, /dev/sdc; leave only the one with this machine's node.toml"
    );
}

#[test]
fn a_labelled_drive_without_the_file_is_an_error_even_if_the_medium_has_one() {
    let drive = Drive::new();
    fs::write(drive.release.folder().join("node.toml"), NODE_TOML).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let mount = FakeMount::default().holds("/dev/sdb", empty.path());
    let error = drive.config(&[device("/dev/sdb", "vfat", "SHEAF-CONF")], &mount).unwrap_err();
    assert_eq!(
        error.to_string(),
        "drive /dev/sdb labelled SHEAF-CONF: node.toml can not be read; put it into the root of the drive, or remove \
         the drive"
    );
}

#[test]
fn a_labelled_drive_with_a_strange_file_system_is_refused() {
    let drives = [device("/dev/sdb", "ntfs", "SHEAF-CONF")];
    let error = Drive::new().config(&drives, &FakeMount::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the drive /dev/sdb labelled SHEAF-CONF has the file system \"ntfs\"; format it as one of: vfat, ext4, iso9660"
    );
}

#[test]
fn a_wrong_config_is_refused_with_its_source_and_every_line() {
    let drive = Drive::new();
    let text = "version = 1\nsystem.hostname = \"Node 1\"\ncolour = \"red\"\n";
    fs::write(drive.release.folder().join("node.toml"), text).unwrap();
    let error = drive.config(&[], &FakeMount::default()).unwrap_err().to_string();
    assert!(
        error.starts_with("node.toml of medium /dev/sr0 is refused:\nnode.toml:2: system.hostname: "),
        "{error}"
    );
    assert!(error.contains("\nnode.toml:3: colour: "), "{error}");
}
