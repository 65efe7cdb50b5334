//! Where a release and its config come from, and what is said when they do not come.

mod common;

use common::Release;
use minisign::KeyPair;
use sheaf_config::handover::{HEADER, Introduction, TAKEN, UNKNOWN};
use sheaf_config::node::Identity;
use sheaf_host::block::Device;
use sheaf_host::fakes::{FakeCall, FakeFetch, FakeMount};
use sheaf_installer::sources::arguments::{self, ConfigArgument};
use sheaf_installer::sources::config::{self, ConfigError, Places, Timeouts};
use sheaf_installer::sources::medium::{self, Medium, MediumError};
use sheaf_installer::sources::remote::{self, Remote};
use sheaf_release::keys::{Chain, FORMAT, Keys, Signed};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

/// The machine that asks.
static MACHINE: std::sync::LazyLock<Identity> = std::sync::LazyLock::new(|| Identity {
    serial: Some("M2".into()),
    uuid: None,
    macs: vec!["52:54:00:00:00:02".into()],
});

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
        self.config_by(None, drives, mount, &FakeCall::default())
    }

    fn config_by(
        &self,
        argument: Option<&ConfigArgument>,
        drives: &[Device],
        mount: &FakeMount,
        call: &FakeCall,
    ) -> Result<config::Found, ConfigError> {
        let millis = Duration::from_millis;
        config::find(&Places {
            argument,
            devices: drives,
            medium: Some(&self.find().unwrap()),
            mount,
            mounts: Path::new("/mounts"),
            call,
            machine: &MACHINE,
            // Long enough for a busy machine; who waits for its end asks a server that answers nothing at all.
            boot: "b7c1",
            timeouts: Timeouts {
                whole: millis(if call.is_silent() { 50 } else { 60_000 }),
                pause: millis(1),
                one: millis(10),
            },
            tell: &|_| (),
        })
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
            "it was changed, or made by a build with another key: use the medium of this installer's release"
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
    let key = drive.release.dir.path().join("release.pub");
    assert_eq!(
        error,
        format!(
            "no release can be verified: {}: cannot be used as the keys of releases: No such file or directory (os error 2); \
             this installer was not built by `sheaf build`",
            key.display()
        )
    );
}

#[test]
fn a_medium_brings_the_keys_that_signed_it_and_is_refused_with_too_few_or_older_ones() {
    let drive = Drive::new();
    let pair = || KeyPair::generate_unencrypted_keypair().unwrap();
    let (a, b, c) = (pair(), pair(), pair());
    let signatures = |bytes: &[u8], by: &[&KeyPair]| {
        let one = |pair: &&KeyPair| minisign::sign(None, &pair.sk, Cursor::new(bytes), None, None).unwrap();
        by.iter().map(|pair| one(pair).into_string()).collect::<String>()
    };
    let version = |version, threshold, of: &[&KeyPair], by: &[&KeyPair]| {
        let keys = of.iter().map(|pair| pair.pk.to_base64()).collect();
        let keys = serde_json::to_string(&Keys { format: FORMAT, version, threshold, keys }).unwrap();
        Signed { signatures: signatures(keys.as_bytes(), by), keys }
    };
    let one = version(1, 1, &[&a], &[&a]);
    let both = Chain(vec![one.clone(), version(2, 2, &[&b, &c], &[&a, &b, &c])]);
    let put = |path: std::path::PathBuf, chain: &Chain| {
        fs::write(path, serde_json::to_vec(chain).unwrap()).unwrap()
    };
    let (own, folder) = (drive.release.dir.path().join("keys.json"), drive.release.folder());
    put(own.clone(), &Chain(vec![one.clone()]));
    put(folder.join("keys.json"), &both);
    let manifest = fs::read(folder.join("manifest.json")).unwrap();
    let sign =
        |by: &[&KeyPair]| fs::write(folder.join("manifest.json.minisig"), signatures(&manifest, by)).unwrap();
    sign(&[&b, &c]);
    assert_eq!(drive.find().unwrap().manifest, drive.release.manifest);
    assert_eq!(drive.manifest_of(&drive.served()).unwrap(), drive.release.manifest);
    let remedy =
        "; it was changed, or made by a build with another key: use the medium of this installer's release";
    sign(&[&b]);
    assert_eq!(
        drive.find().unwrap_err().to_string(),
        format!(
            "the medium /dev/sr0 is refused: /sheaf/manifest.json has 1 of 2 signatures by the keys that this installer trusts \
             (version 2){remedy}"
        )
    );
    sign(&[&a, &b, &c]);
    put(own, &both);
    put(folder.join("keys.json"), &Chain(vec![one]));
    assert_eq!(
        drive.find().unwrap_err().to_string(),
        format!(
            "the medium /dev/sr0 is refused: /sheaf/keys.json ends with version 1, and version 2 is known here already{remedy}"
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
    let others: Vec<_> = found.others.iter().map(ToString::to_string).collect();
    assert_eq!(
        others,
        ["kernel argument sheaf.config: not given", "medium /dev/sr0: not read, an earlier source was found"]
    );
    let found = drive.config(&[], &mount).unwrap();
    assert_eq!(found.origin, "medium /dev/sr0");
    assert_eq!(found.config.system.hostname, "node-1");
    let others: Vec<_> = found.others.iter().map(ToString::to_string).collect();
    assert_eq!(
        others,
        ["kernel argument sheaf.config: not given", "drive labelled SHEAF-CONF: none is there"]
    );
}

#[test]
fn without_a_config_it_says_how_to_give_one() {
    let error = Drive::new().config(&[], &FakeMount::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no node.toml found: the kernel argument sheaf.config is not given, no drive is labelled SHEAF-CONF, and the \
         medium /dev/sr0 holds no /sheaf/node.toml; give one by a USB stick or second drive (vfat, ext4, iso9660) with \
         the label SHEAF-CONF and the file node.toml in its root, by the kernel argument sheaf.config=https://…, or \
         make the medium with `sheaf iso RELEASE --config node.toml`"
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
        "drive /dev/sdb labelled SHEAF-CONF: node.toml cannot be read; put it into the root of the drive, or remove \
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

const URL: &str = "https://boot.example.org/node.toml";

/// The config by the kernel argument sheaf.config=URL and `rest`, from `call`.
fn by_url(rest: &str, call: &FakeCall) -> Result<config::Found, ConfigError> {
    let drive = Drive::new();
    fs::write(drive.release.folder().join("node.toml"), NODE_TOML).unwrap();
    let arguments = arguments::parse(&format!("sheaf.config={URL} {rest}")).unwrap();
    let drives = [device("/dev/sdb", "vfat", "SHEAF-CONF")];
    drive.config_by(arguments.config.as_ref(), &drives, &FakeMount::default(), call)
}

#[test]
fn the_kernel_argument_wins_over_drive_and_medium_and_says_so() {
    let text = NODE_TOML.replace("node-1", "node-3");
    let found = by_url("", &FakeCall::default().answers(URL, 200, text)).unwrap();
    assert_eq!(found.config.system.hostname, "node-3");
    assert_eq!(found.origin, "https://boot.example.org/node.toml (kernel argument)");
    let others: Vec<_> = found.others.iter().map(ToString::to_string).collect();
    assert_eq!(
        others,
        [
            "drive /dev/sdb labelled SHEAF-CONF: not read, an earlier source was found",
            "medium /dev/sr0: not read, an earlier source was found"
        ]
    );
}

#[test]
fn a_server_that_is_not_up_yet_is_asked_again() {
    let call = FakeCall::default().answers_times(3, URL, 503, "").answers(URL, 200, NODE_TOML);
    assert_eq!(by_url("", &call).unwrap().config.system.hostname, "node-1");
    assert_eq!(call.asked().len(), 4);
}

#[test]
fn a_server_that_stays_away_ends_it_with_the_last_reason_and_no_other_source_is_taken() {
    let error = by_url("", &FakeCall::default()).unwrap_err().to_string();
    assert_eq!(
        error,
        "node.toml of https://boot.example.org/node.toml: the file cannot be fetched within 0 s: connection refused; check \
         the cable, the address that DHCP gave (or the kernel argument ip=), and the server"
    );
}

#[test]
fn a_config_that_is_not_there_is_not_asked_for_again() {
    let call = FakeCall::default().answers(URL, 404, "");
    assert_eq!(
        by_url("", &call).unwrap_err().to_string(),
        "node.toml of https://boot.example.org/node.toml: the server answers with HTTP status 404; put node.toml there, or \
         correct the kernel argument"
    );
    assert_eq!(call.asked().len(), 1);
}

#[test]
fn a_machine_introduces_itself_to_a_pinned_server_and_to_no_other() {
    let call = FakeCall::default().answers(URL, 200, NODE_TOML);
    by_url("", &call).unwrap();
    by_url(&format!("sheaf.config.certificate={}", "ab".repeat(32)), &call).unwrap();
    let asked = call.asked();
    assert_eq!(asked[0].headers, []);
    let [(name, value)] = &asked[1].headers[..] else { panic!("{:?}", asked[1].headers) };
    assert_eq!(name, HEADER);
    let introduction = Introduction { boot: "b7c1".into(), machine: MACHINE.clone() };
    assert_eq!(Introduction::decode(value), Some(introduction));
}

#[test]
fn a_config_that_another_boot_was_given_ends_it_with_what_that_may_mean() {
    let pin = format!("sheaf.config.certificate={}", "ab".repeat(32));
    let call = FakeCall::default().answers(URL, TAKEN, "");
    assert_eq!(
        by_url(&pin, &call).unwrap_err().to_string(),
        "node.toml of https://boot.example.org/node.toml: this node's config was already given to another boot; if \
         you reset this machine, start `sheaf pxe` again on the server; if not, someone else has the config: revoke its \
         token"
    );
    assert_eq!(call.asked().len(), 1, "asking again would not help");
    let call = FakeCall::default().answers(URL, UNKNOWN, "");
    assert_eq!(
        by_url(&pin, &call).unwrap_err().to_string(),
        "node.toml of https://boot.example.org/node.toml: no node of the server's config matches this machine; see what \
         the server printed, and correct the match of its [[node]]"
    );
}

#[test]
fn a_web_page_is_no_config() {
    let call = FakeCall::default().answers(URL, 200, "<!DOCTYPE html><title>Login</title>");
    assert_eq!(
        by_url("", &call).unwrap_err().to_string(),
        "node.toml of https://boot.example.org/node.toml: the server sent a web page, not a node config; put node.toml there"
    );
}

#[test]
fn a_config_that_does_not_have_the_hash_of_the_argument_is_refused() {
    let call = FakeCall::default().answers(URL, 200, NODE_TOML);
    let right = common::sha256(NODE_TOML.as_bytes());
    assert!(by_url(&format!("sheaf.config.sha256={right}"), &call).is_ok());
    let wrong = "0".repeat(64);
    assert_eq!(
        by_url(&format!("sheaf.config.sha256={wrong}"), &call).unwrap_err().to_string(),
        format!(
            "node.toml of https://boot.example.org/node.toml: its SHA-256 is {right}, the kernel argument says \
             {wrong}; if you changed the file, correct sheaf.config.sha256; otherwise someone else changed it"
        )
    );
}

#[test]
fn the_medium_s_own_config_can_be_asked_for() {
    let drive = Drive::new();
    let drives = [device("/dev/sdb", "vfat", "SHEAF-CONF")];
    let by = |drive: &Drive| {
        drive.config_by(Some(&ConfigArgument::Medium), &drives, &FakeMount::default(), &FakeCall::default())
    };
    assert_eq!(
        by(&drive).unwrap_err().to_string(),
        "the kernel argument says sheaf.config=medium, and the medium /dev/sr0 holds no /sheaf/node.toml; make the \
         medium with `sheaf iso RELEASE --config node.toml`, or remove the argument"
    );
    fs::write(drive.release.folder().join("node.toml"), NODE_TOML).unwrap();
    assert_eq!(by(&drive).unwrap().origin, "medium /dev/sr0");
}

const FOLDER: &str = "http://boot.example.org/release";

impl Drive {
    /// The release folder on a server.
    fn served(&self) -> FakeFetch {
        let mut fetch = FakeFetch::default();
        for entry in fs::read_dir(self.release.folder()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let url = format!("{FOLDER}/{}", path.file_name().unwrap().to_string_lossy());
                fetch.files.insert(url, fs::read(path).unwrap());
            }
        }
        fetch
    }

    fn manifest_of(&self, fetch: &FakeFetch) -> Result<sheaf_config::manifest::Manifest, MediumError> {
        let millis = Duration::from_millis;
        let remote = Remote::new(&format!("{FOLDER}/"), fetch).with_timeout(millis(50), millis(1));
        remote::manifest(&remote, &self.release.dir.path().join("release.pub"))
    }
}

#[test]
fn a_release_folder_on_a_server_is_believed_by_its_signature() {
    let drive = Drive::new();
    let mut fetch = drive.served();
    fetch.breaks = vec![100, 3].into();
    assert_eq!(drive.manifest_of(&fetch).unwrap(), drive.release.manifest);
    let manifest = fetch.files.get_mut(&format!("{FOLDER}/manifest.json")).unwrap();
    let place = manifest.windows(5).position(|window| window == b"0.1.0").unwrap();
    manifest[place] = b'9';
    let error = drive.manifest_of(&fetch).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "the release folder http://boot.example.org/release is refused: manifest.json does not verify with this \
             installer's key ("
        ),
        "{error}"
    );
}

#[test]
fn a_page_in_place_of_the_manifest_is_called_one() {
    let drive = Drive::new();
    let mut fetch = drive.served();
    fetch.files.insert(format!("{FOLDER}/manifest.json"), b"<html>login</html>".to_vec());
    assert_eq!(
        drive.manifest_of(&fetch).unwrap_err().to_string(),
        "the release folder http://boot.example.org/release is refused: manifest.json is a web page: the folder has another URL, or a proxy answers in the server's place"
    );
}

#[test]
fn of_a_file_for_many_machines_each_gets_its_own_part_and_no_other_s() {
    let drive = Drive::new();
    let fleet = "version = 1\nsystem.hostname = \"node-{serial}\"\n\
         [[node]]\nmatch = { serial = \"M1\" }\nsystem.timezone = \"Europe/Berlin\"\n\
         [[node]]\nmatch = { mac = \"52:54:00:00:00:02\" }\nsystem.timezone = \"Europe/Paris\"\n";
    fs::write(drive.release.folder().join("node.toml"), fleet).unwrap();
    let found = drive.config(&[], &FakeMount::default()).unwrap();
    assert_eq!(found.config.system.hostname, "node-m2");
    assert!(found.text.contains("Europe/Paris") && !found.text.contains("Berlin"), "{}", found.text);
    fs::write(drive.release.folder().join("node.toml"), fleet.replace(":02", ":03")).unwrap();
    let error = drive.config(&[], &FakeMount::default()).unwrap_err().to_string();
    assert!(error.starts_with("node.toml of medium /dev/sr0 is refused:\nnode.toml"), "{error}");
    assert!(error.contains("no [[node]] matches this machine"), "{error}");
}
