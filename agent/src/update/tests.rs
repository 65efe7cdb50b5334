//! Whole updates on a node in memory: boot loaders as a model, a slot in files, a power cut after every change.
//!
//! Why a model of the boot loaders: what counts after a power cut is which release starts, and that all of it is there.

use super::apply::{self, Env};
use super::observe::{self, Machine};
use super::observed::{Observed, Running, Wanted};
use super::plan::{Plan, Step, keep, plan};
use super::records::{Place, Records, Request};
use super::*;
use crate::etcd::testing::FakeEtcd;
use sha2::{Digest as _, Sha256};
use sheaf_api::node_update::{Action, Phase};
use sheaf_config::manifest::{
    Bios, Compressed, Frame, Manifest, Plain, STATE, Section as UkiSection, Terms, Uki,
};
use sheaf_host::disk::RawDisk;
use sheaf_host::esp::Folder;
use sheaf_host::fakes::{FakeBootFiles, FakeFetch, FakeUnits, FakeVms, Faults};
use sheaf_release::boot::{
    ENVIRONMENT, FALLBACK, LOADER, MENU, RECOVERY, RECOVERY_ENTRY, RECOVERY_SCRIPT, Slot, UKIS, UkiName,
    counted, good,
};
use sheaf_release::verity::testing::format;
use sheaf_release::version::compare;
use std::collections::BTreeMap;
use std::fs;

mod faults;
mod refresh;
mod rounds;
mod snapshot;
mod sources;
mod unfit;

const URL: &str = "https://releases.example.org/sheaf-0.2.0";
const INSTALL: &str = "6b1f7a3e-93c2-4d55-8f10-012345678900";
const BLOCK: usize = 4096;
/// What the synchronised clock of the node says: 2027-01-15.
const NOW: u64 = 1_800_000_000;

/// A release of 24 blocks in frames of 4, most of which every version has.
struct Release {
    manifest: Manifest,
    raw: Vec<u8>,
    files: BTreeMap<String, Vec<u8>>,
    tree: Vec<u8>,
}

fn compressed(file: &str, raw: &[u8], files: &mut BTreeMap<String, Vec<u8>>) -> Compressed {
    let packed: Vec<_> =
        raw.chunks(4 * BLOCK).map(|raw| (raw.len() as u64, zstd::bulk::compress(raw, 1).unwrap())).collect();
    let sha256 = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let frame = |(raw_size, bytes): &(u64, Vec<u8>)| Frame {
        size: bytes.len() as u64,
        raw_size: *raw_size,
        sha256: sha256(bytes),
    };
    let bytes: Vec<u8> = packed.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    files.insert(file.into(), bytes.clone());
    Compressed {
        file: file.into(),
        size: bytes.len() as u64,
        raw_size: raw.len() as u64,
        raw_sha256: sha256(raw),
        frames: packed.iter().map(frame).collect(),
    }
}

fn release(version: &str) -> Release {
    let mut raw: Vec<u8> = (0..24_u8).flat_map(|block| vec![block; BLOCK]).collect();
    raw[..version.len()].copy_from_slice(version.as_bytes());
    let (tree, root_hash) = format(&raw, version.as_bytes());
    let mut files = BTreeMap::new();
    let uki = format!("kernel of {version}").into_bytes();
    let sha256 = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let mut put = |file: &str, contents: String| {
        let bytes = contents.into_bytes();
        let plain = Plain { file: file.into(), size: bytes.len() as u64, sha256: sha256(&bytes) };
        files.insert(file.into(), bytes);
        plain
    };
    let loader = put("loader.efi", format!("MZ #### LoaderInfo: systemd-boot of {version} ####"));
    let menu = put("node.cfg", format!("# chooses a slot, {version}"));
    let installer = put("installer.efi", format!("installer of {version}"));
    let plain = |file: &str| Plain { file: file.into(), size: 0, sha256: String::new() };
    let section = UkiSection { offset: 512, size: 512 };
    let described = |file: &str| Uki {
        file: file.into(),
        size: uki.len() as u64,
        sha256: hex::encode(Sha256::digest(&uki)),
        linux: section,
        initrd: section,
        command_line: format!("roothash={root_hash}"),
    };
    let manifest = Manifest {
        format: 1,
        name: "sheaf".into(),
        version: version.into(),
        kernel: "6.12".into(),
        arch: "amd64".into(),
        created: 0,
        terms: Terms::default(),
        documents: Vec::new(),
        root: compressed("root.erofs.zst", &raw, &mut files),
        verity: compressed("root.verity.zst", &tree, &mut files),
        root_hash: root_hash.clone(),
        root_uuid: String::new(),
        verity_uuid: String::new(),
        node_uki: described("node.efi"),
        boot_loader: loader,
        bios: Bios { boot: plain("boot"), core: plain("core"), menu },
        installer_uki: Uki {
            file: installer.file,
            size: installer.size,
            sha256: installer.sha256,
            ..described("installer.efi")
        },
    };
    files.insert("node.efi".into(), uki);
    Release { manifest, raw, files, tree }
}

/// A node: what survives a power cut is in its folder and on its boot partition.
struct World {
    root: tempfile::TempDir,
    esp: Arc<FakeBootFiles>,
    /// Real files and partitions instead, whose disk fails.
    faults: Option<Faults>,
    vms: Arc<FakeVms>,
    units: Arc<FakeUnits>,
    etcd: Arc<FakeEtcd>,
    fetch: Arc<FakeFetch>,
    releases: BTreeMap<String, Release>,
    running: Running,
    boots: u32,
}

impl World {
    /// Runs 0.1.0 in slot a, as the installer left it; 0.2.0 is on a server.
    fn new(is_uefi: bool) -> Self {
        Self::serving(is_uefi, |_| ())
    }

    /// The same; the manifest of 0.2.0 is `changed` before it is signed.
    fn serving(is_uefi: bool, changed: impl FnOnce(&mut Manifest)) -> Self {
        // In memory, where there is a place for it: thousands of files are written.
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let (old, mut new) = (release("0.1.0"), release("0.2.0"));
        changed(&mut new.manifest);
        let keys = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        fs::write(root.path().join("release.pub"), keys.pk.to_box().unwrap().into_string()).unwrap();
        let text = serde_json::to_vec(&new.manifest).unwrap();
        let signature = minisign::sign(None, &keys.sk, &text[..], None, None).unwrap().into_string();
        new.files.insert("manifest.json".into(), text);
        new.files.insert("manifest.json.minisig".into(), signature.into_bytes());
        let served = new.files.iter().map(|(name, bytes)| (format!("{URL}/{name}"), bytes.clone()));
        let fetch = FakeFetch { files: served.collect(), ..FakeFetch::default() };
        let environment = sheaf_config::grub::environment(&[("order", "a b")]);
        let esp = FakeBootFiles::default()
            .with(&format!("{UKIS}/{}", good("0.1.0")), old.files["node.efi"].clone())
            .with(&Slot::A.entry(), sheaf_release::boot::entry(&old.manifest.node_uki, "0.1.0", &[]))
            .with(ENVIRONMENT, environment)
            .with(LOADER, old.files["loader.efi"].clone())
            .with(FALLBACK, old.files["loader.efi"].clone())
            .with(MENU, old.files["node.cfg"].clone());
        let world = Self {
            esp: Arc::new(esp),
            faults: None,
            vms: Arc::new(FakeVms::default().obeying_the_power_button()),
            units: Arc::default(),
            etcd: Arc::default(),
            fetch: Arc::new(fetch),
            releases: [("0.1.0".to_owned(), old), ("0.2.0".to_owned(), new)].into(),
            running: Running {
                slot: Slot::A,
                version: "0.1.0".into(),
                name: "sheaf".into(),
                boot_id: "boot-0".into(),
                is_uefi,
                kubernetes: "1.37.2".into(),
                state: STATE,
            },
            boots: 0,
            root,
        };
        let old = &world.releases["0.1.0"];
        for (slot, root, tree) in
            [(Slot::A, old.raw.clone(), old.tree.clone()), (Slot::B, Vec::new(), Vec::new())]
        {
            let room = [64 * BLOCK, 8 * BLOCK];
            let (root_path, tree_path) = world.machine().partitions(world.root.path(), slot);
            for ((path, mut bytes), room) in [(root_path, root), (tree_path, tree)].into_iter().zip(room) {
                bytes.resize(room, 0);
                fs::write(path, bytes).unwrap();
            }
        }
        world
    }

    fn machine(&self) -> Machine {
        Machine { running: self.running.clone(), install: INSTALL.into() }
    }

    fn records(&self) -> Records {
        let folder = crate::paths::Paths::under(self.root.path()).update();
        match &self.faults {
            Some(faults) => Records::by(folder, Arc::new(faults.clone())),
            None => Records::new(folder),
        }
    }

    fn boot_files(&self) -> Arc<dyn BootFiles> {
        match &self.faults {
            Some(faults) => Arc::new(Folder::by(self.root.path().join("esp"), Arc::new(faults.clone()))),
            None => self.esp.clone(),
        }
    }

    fn open(&self) -> OpenDisk {
        let faults = self.faults.clone();
        Arc::new(move |path| {
            let disk = Box::new(RawDisk::open(path)?);
            Ok(match &faults {
                Some(faults) => faults.disk(disk),
                None => disk,
            })
        })
    }

    fn hosts(&self) -> Hosts<FakeVms> {
        Hosts {
            vms: self.vms.clone(),
            units: self.units.clone(),
            run: self.etcd.clone(),
            esp: self.boot_files(),
            open: self.open(),
            fetch: self.fetch.clone(),
            devices: self.root.path().to_owned(),
            labels: self.root.path().join("by-label"),
            drive: self.root.path().join("drive"),
            key: self.root.path().join("release.pub"),
            is_uefi: self.running.is_uefi,
        }
    }

    fn observed(&self) -> Observed {
        let machine = self.machine();
        let (root, tree) = machine.partitions(self.root.path(), self.running.slot.other());
        let (root, tree) = (RawDisk::open(&root).unwrap(), RawDisk::open(&tree).unwrap());
        let key = self.root.path().join("release.pub");
        observe::observe(&machine, &*self.boot_files(), (&root, &tree), &self.records(), &key, &[], Some(NOW))
            .unwrap()
    }

    fn env(&self, observed: Observed) -> Env<FakeVms> {
        let config =
            sheaf_config::load::parse_node_config("n", "version = 1\nsystem.hostname = \"n1\"\n").unwrap();
        let paths = crate::paths::Paths::under(self.root.path());
        let (ctx, publish) = crate::channels::open(paths, config);
        Env {
            hosts: self.hosts(),
            ctx,
            leaving: Arc::new(publish.leaving),
            records: self.records(),
            machine: self.machine(),
            observed,
            progress: Arc::default(),
        }
    }

    /// Plans and applies until nothing is left to do, `steps` are done, or one fails; how many were done.
    async fn work(&self, wanted: &Wanted, mut steps: usize) -> (Option<Plan>, usize) {
        let mut done = 0;
        loop {
            let observed = self.observed();
            let next = plan(&observed, Some(wanted));
            let Plan::Work(_, planned) = &next else { return (Some(next), done) };
            for step in planned.clone() {
                if steps == 0 || step == Step::Restart {
                    return (None, done);
                }
                if apply::apply(&self.env(observed.clone()), step).await.is_err() {
                    return (None, done);
                }
                (steps, done) = (steps - 1, done + 1);
            }
        }
    }

    /// Switches the machine on: which release its boot loader starts, whose slot must be whole.
    fn boot(&mut self) -> String {
        self.esp.cut_after(None);
        self.boots += 1;
        let version = if self.running.is_uefi { self.systemd_boot() } else { self.grub() };
        let slot = if version == "0.1.0" { Slot::A } else { Slot::B };
        let release = &self.releases[&version];
        let (root, tree) = self.machine().partitions(self.root.path(), slot);
        let starts = |path: &Path, bytes: &[u8]| fs::read(path).unwrap().starts_with(bytes);
        assert!(starts(&root, &release.raw), "the root of {version} is not whole");
        assert!(starts(&tree, &release.tree), "the tree of {version} is not whole");
        self.running = Running {
            slot,
            version: version.clone(),
            boot_id: format!("boot-{}", self.boots),
            ..self.running.clone()
        };
        version
    }

    fn ukis(&self) -> Vec<UkiName> {
        self.boot_files().list(UKIS).unwrap().iter().filter_map(|name| UkiName::parse(name)).collect()
    }

    /// Those without tries come last, then the newest first; a counted one loses a try, in its name.
    fn systemd_boot(&self) -> String {
        let mut ukis = self.ukis();
        ukis.sort_by(|a, b| {
            (a.left == Some(0)).cmp(&(b.left == Some(0))).then_with(|| compare(&b.version, &a.version))
        });
        let uki = ukis.first().expect("systemd-boot finds a UKI");
        self.is_whole(uki);
        if let Some(left) = uki.left.filter(|left| *left > 0) {
            let done = 4 - left;
            let to = format!("{UKIS}/sheaf_{}+{}-{done}.efi", uki.version, left - 1);
            self.boot_files().rename(&format!("{UKIS}/{}", uki.file), &to).unwrap();
        }
        uki.version.clone()
    }

    /// As os-image/image/grub/node.cfg: slots in their order, a try counted down before it is made.
    fn grub(&self) -> String {
        let text = self.boot_files().read(ENVIRONMENT).unwrap().unwrap();
        let mut variables = sheaf_config::grub::variables(&String::from_utf8(text).unwrap());
        let value = |variables: &[(String, String)], name: &str| {
            variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let order = value(&variables, "order").unwrap_or_else(|| "a b".into());
        for name in order.split(' ') {
            let (slot, left) = (Slot::named(name).unwrap(), format!("{name}_left"));
            let tries = value(&variables, &left);
            if tries.as_deref() == Some("0") {
                continue;
            }
            let Some(entry) = self.boot_files().read(&slot.entry()).unwrap() else { continue };
            let entry = String::from_utf8(entry).unwrap();
            let uki =
                self.ukis().into_iter().find(|uki| entry.contains(&format!("sheaf_{}.efi", uki.version)));
            let Some(uki) = uki else { continue };
            self.is_whole(&uki);
            if let Some(tries) = tries.and_then(|tries| tries.parse::<u32>().ok()) {
                variables.retain(|(known, _)| *known != left);
                variables.push((left, (tries - 1).to_string()));
                let text = plan::environment_text(&variables);
                self.boot_files().overwrite(ENVIRONMENT, &text.as_bytes()[..512]).unwrap();
            }
            return uki.version;
        }
        panic!("GRUB finds no slot to start: {variables:?}");
    }

    fn is_whole(&self, uki: &UkiName) {
        let bytes = self.boot_files().read(&format!("{UKIS}/{}", uki.file)).unwrap().unwrap();
        assert_eq!(bytes, self.releases[&uki.version].files["node.efi"], "{}", uki.file);
    }

    /// The health gate found the running release good.
    async fn bless(&self) {
        let observed = self.observed();
        for step in keep(&observed, observed.trial.as_ref()) {
            apply::apply(&self.env(observed.clone()), step).await.unwrap();
        }
    }

    /// Boot loaders and recovery are those of 0.2.0; firmware without an entry starts the one that was there before.
    fn is_refreshed(&self, what: &str) {
        let files = self.boot_files();
        let at = |path: &str| files.read(path).unwrap().unwrap_or_default();
        let of = |version: &str, file: &str| self.releases[version].files[file].clone();
        assert_eq!(at(LOADER), of("0.2.0", "loader.efi"), "{what}");
        let fallback = at(FALLBACK);
        assert!(["0.1.0", "0.2.0"].iter().any(|version| fallback == of(version, "loader.efi")), "{what}");
        assert_eq!(at(MENU), of("0.2.0", "node.cfg"), "{what}");
        assert_eq!(at(RECOVERY), of("0.2.0", "installer.efi"), "{what}");
        let uki = &self.releases["0.2.0"].manifest.installer_uki;
        let entry = sheaf_release::boot::recovery_entry(uki, &self.machine().esp());
        assert_eq!(String::from_utf8(at(RECOVERY_ENTRY)).unwrap(), entry, "{what}");
        assert_eq!(
            String::from_utf8(at(RECOVERY_SCRIPT)).unwrap(),
            sheaf_release::boot::recovery_script(uki),
            "{what}"
        );
    }

    /// From wherever the node is, until 0.2.0 runs and is good.
    async fn finish(&mut self, wanted: &Wanted, what: &str) {
        for _ in 0..4 {
            match self.work(wanted, usize::MAX).await.0 {
                Some(Plan::Judge) => self.bless().await,
                Some(Plan::Settled(Phase::Updated, _)) => {
                    let (ukis, observed) = (self.ukis(), self.observed());
                    assert!(ukis.contains(&UkiName::parse(&good("0.2.0")).unwrap()), "{what}: {ukis:?}");
                    assert_eq!(observed.floor.as_deref(), Some("0.2.0"), "{what}");
                    assert_eq!(observed.esp.environment, [("order".into(), "b a".into())], "{what}");
                    assert_eq!((observed.trial, observed.kept), (None, None), "{what}");
                    self.is_refreshed(what);
                    return;
                }
                Some(other) => panic!("{what}: {other:?}"),
                None => drop(self.boot()),
            }
        }
        panic!("{what}: 0.2.0 does not come to run; {:?}", self.observed().esp);
    }
}

fn wanted() -> Wanted {
    Wanted {
        request: Request { uid: "u1".into(), generation: 1 },
        version: "0.2.0".into(),
        source: Some(Place::Url(URL.into())),
        channel: None,
        action: Action::Apply,
        timeout: 600,
        without_snapshot: false,
        is_local: false,
    }
}

#[tokio::test]
async fn a_release_is_fetched_staged_started_and_kept_and_the_former_stays_in_its_slot() {
    for is_uefi in [true, false] {
        let mut world = World::new(is_uefi);
        assert_eq!(world.work(&wanted(), usize::MAX).await.0, None, "it ends with the restart");
        assert_eq!(world.boot(), "0.2.0");
        assert_eq!(world.observed().tries_left(), Some(2));
        world.finish(&wanted(), "an update").await;
        assert_eq!(world.boot(), "0.2.0");
        let mounts = world.units.asked();
        let count = |what: &str| mounts.iter().filter(|asked| *asked == what).count();
        assert_eq!(count("start sheaf-esp.service"), count("stop sheaf-esp.service"));

        // And back, by asking for the version that is in the other slot.
        let back = Wanted { version: "0.1.0".into(), source: None, ..wanted() };
        assert_eq!(world.work(&back, usize::MAX).await.0, None);
        assert_eq!(world.boot(), "0.1.0");
        let (settled, _) = world.work(&back, usize::MAX).await;
        assert_eq!(settled, Some(Plan::Settled(Phase::Updated, "0.1.0 runs".into())));
    }
}

#[tokio::test]
async fn after_a_power_cut_at_any_change_of_the_boot_partition_a_whole_release_starts_and_the_update_is_finished()
 {
    for is_uefi in [true, false] {
        for changes in 0.. {
            let mut world = World::new(is_uefi);
            world.esp.cut_after(Some(changes));
            let (_, done) = world.work(&wanted(), usize::MAX).await;
            world.boot();
            let what = format!("cut after {changes} changes, {done} steps, UEFI {is_uefi}");
            world.finish(&wanted(), &what).await;
            if done == 12 {
                assert!(changes > 5, "{changes}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn after_a_power_cut_or_the_agents_end_between_any_two_steps_the_update_is_finished() {
    for is_uefi in [true, false] {
        for off in [true, false] {
            for steps in 0..12 {
                let mut world = World::new(is_uefi);
                world.work(&wanted(), steps).await;
                if off {
                    world.boot();
                }
                world.finish(&wanted(), &format!("{steps} steps, off {off}, UEFI {is_uefi}")).await;
            }
        }
    }
}

#[tokio::test]
async fn a_power_cut_while_a_release_is_kept_does_not_undo_it() {
    for is_uefi in [true, false] {
        for changes in 0..4 {
            let mut world = World::new(is_uefi);
            world.work(&wanted(), usize::MAX).await;
            world.boot();
            world.esp.cut_after(Some(changes));
            let observed = world.observed();
            for step in keep(&observed, observed.trial.as_ref()) {
                if apply::apply(&world.env(observed.clone()), step).await.is_err() {
                    break;
                }
            }
            assert_eq!(world.boot(), "0.2.0", "{changes} changes, UEFI {is_uefi}");
            world.finish(&wanted(), &format!("kept after {changes} changes, UEFI {is_uefi}")).await;
        }
    }
}

#[tokio::test]
async fn a_release_that_never_reports_is_given_up_after_three_tries_with_the_reason() {
    for is_uefi in [true, false] {
        let mut world = World::new(is_uefi);
        world.work(&wanted(), usize::MAX).await;
        assert_eq!([world.boot(), world.boot(), world.boot()], ["0.2.0", "0.2.0", "0.2.0"]);
        assert_eq!(world.boot(), "0.1.0", "the tries are used up");
        let (settled, _) = world.work(&wanted(), usize::MAX).await;
        let Some(Plan::Settled(Phase::RolledBack, why)) = settled else { panic!("{settled:?}") };
        assert!(why.starts_with("0.2.0 was rolled back: its agent never reported"), "{why}");
        assert_eq!(world.ukis(), [UkiName::parse(&good("0.1.0")).unwrap()], "it is not tried again");
        // Asked for again, by another object.
        let again = Wanted { request: Request { uid: "u2".into(), generation: 1 }, ..wanted() };
        world.finish(&again, "a second update").await;
    }
}

#[tokio::test]
async fn a_power_cut_while_a_release_is_given_up_neither_tries_it_again_nor_loses_the_reason() {
    for is_uefi in [true, false] {
        for steps in 0..3 {
            let mut world = World::new(is_uefi);
            world.work(&wanted(), usize::MAX).await;
            world.boot();
            let mut trial = world.records().trial().unwrap();
            trial.reasons.push("not healthy after 600 s: libvirt: it does not answer".into());
            world.records().set_trial(&trial).unwrap();
            assert_eq!([world.boot(), world.boot()], ["0.2.0", "0.2.0"]);
            assert_eq!(world.boot(), "0.1.0");
            world.work(&wanted(), steps).await;
            assert_eq!(world.boot(), "0.1.0");
            let (settled, _) = world.work(&wanted(), usize::MAX).await;
            let Some(Plan::Settled(Phase::RolledBack, why)) = settled else { panic!("{settled:?}") };
            assert!(why.contains("libvirt: it does not answer"), "{why}");
        }
    }
}

#[tokio::test]
async fn what_is_refused_changes_no_byte_of_a_slot_or_of_the_boot_partition() {
    type Change = fn(&mut Manifest);
    let manifests: [(Change, &str); 5] = [
        (|manifest| manifest.version = "0.0.9".into(), "the folder holds version 0.0.9"),
        (|manifest| manifest.name = "sheaf-metal".into(), "the release is called sheaf-metal"),
        (|manifest| manifest.arch = "arm64".into(), "the release is for arm64"),
        (|manifest| manifest.root.raw_size = 1 << 40, "the partition 262144"),
        (|manifest| manifest.root.size += 1, "root.erofs.zst has"),
    ];
    for (change, expected) in manifests {
        refused(World::serving(true, change), expected).await;
    }
    type Damage = fn(&mut Vec<u8>);
    let files: [(&str, Damage, &str); 4] = [
        ("manifest.json", |bytes| bytes[20] ^= 1, "does not verify with this node's key"),
        ("manifest.json", |bytes| *bytes = b"<html>".to_vec(), "is a web page"),
        ("root.erofs.zst", |bytes| bytes.truncate(100), "root.erofs.zst has 100 bytes on the server"),
        ("node.efi", |bytes| bytes[0] ^= 1, "node.efi does not match the manifest"),
    ];
    for (file, change, expected) in files {
        let mut world = World::new(true);
        let fetch = Arc::get_mut(&mut world.fetch).unwrap();
        change(fetch.files.get_mut(&format!("{URL}/{file}")).unwrap());
        refused(world, expected).await;
    }
}

async fn refused(world: World, expected: &str) {
    let slots = |world: &World| {
        let partitions = [Slot::A, Slot::B].map(|slot| world.machine().partitions(world.root.path(), slot));
        partitions.map(|(root, tree)| (fs::read(root).unwrap(), fs::read(tree).unwrap()))
    };
    let before = (slots(&world), world.esp.files());
    let Plan::Work(Phase::Checking, steps) = plan(&world.observed(), Some(&wanted())) else {
        panic!("{expected}: it is judged first");
    };
    let error = apply::all(world.env(world.observed()), steps).await.unwrap_err();
    assert!(format!("{error:#}").contains(expected), "{error:#} instead of {expected}");
    assert!((slots(&world), world.esp.files()) == before, "{expected}: something was written");
    assert_eq!(world.observed().kept, None);
}

#[tokio::test]
async fn checking_writes_no_slot_and_staging_restarts_nothing() {
    let world = World::new(true);
    let check = Wanted { action: Action::Check, ..wanted() };
    let (settled, done) = world.work(&check, usize::MAX).await;
    assert_eq!((settled, done), (Some(Plan::Settled(Phase::Checked, "0.2.0 can be staged".into())), 1));
    let stage =
        Wanted { action: Action::Stage, request: Request { uid: "u1".into(), generation: 2 }, ..wanted() };
    let (settled, _) = world.work(&stage, usize::MAX).await;
    assert!(matches!(settled, Some(Plan::Settled(Phase::Staged, _))), "{settled:?}");
    assert_eq!(world.ukis().len(), 1);
    assert!(!world.units.asked().contains(&"start reboot.target".to_owned()));
}

#[tokio::test]
async fn only_what_the_running_root_lacks_is_fetched() {
    let world = World::new(true);
    world.work(&wanted(), usize::MAX).await;
    let asked = world.fetch.asked.lock().unwrap();
    let root = &world.releases["0.2.0"].manifest.root;
    let of_root: Vec<_> = asked.iter().filter(|(url, _)| url.ends_with("root.erofs.zst")).collect();
    // The check of its first frame, and that frame: the others the running root has.
    assert_eq!(of_root.len(), 2, "{of_root:?}");
    assert_eq!(root.frames.len(), 6);
}

#[tokio::test]
async fn older_releases_are_refused_and_a_node_without_a_source_says_what_is_missing() {
    let world = World::new(true);
    world.records().set_floor("0.3.0").unwrap();
    let observed = world.observed();
    let manifest = &world.releases["0.2.0"].manifest;
    let unfit = plan::judge(manifest, &wanted(), &observed).unwrap_err();
    assert!(unfit.to_string().starts_with("0.2.0 is older than 0.3.0, the newest version"), "{unfit}");
    let mut later = observed.clone();
    later.running.version = "0.2.1".into();
    let unfit = plan::judge(manifest, &wanted(), &later).unwrap_err();
    assert!(unfit.to_string().starts_with("0.2.0 is older than 0.2.1, which runs"), "{unfit}");
    let Plan::Settled(Phase::Refused, why) = plan(&observed, Some(&Wanted { source: None, ..wanted() }))
    else {
        panic!("without a source there is nothing to do");
    };
    assert_eq!(why, "0.2.0 is not in the other slot; set source.url, source.oci or source.drive");
    let local = Wanted { source: None, is_local: true, ..wanted() };
    let refused =
        Plan::Settled(Phase::Refused, "0.2.0 is not in the other slot; give --url, --oci or --drive".into());
    assert_eq!(plan(&observed, Some(&local)), refused);
}

#[test]
fn a_boot_partition_without_the_running_kernel_is_left_alone() {
    let world = World::new(true);
    let mut observed = world.observed();
    observed.esp.ukis.clear();
    assert!(matches!(plan(&observed, Some(&wanted())), Plan::Settled(Phase::Refused, _)));
    assert_eq!(plan(&world.observed(), None), Plan::Idle);
    assert_eq!(counted("0.2.0", 3), "sheaf_0.2.0+3.efi");
}
