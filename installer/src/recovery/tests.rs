//! A disk whose two slots cannot be started, in memory and in files, and what the recovery makes of it.

use super::apply::{Env, Release, apply};
use super::plan::{Refusal, Step, again, install, judge, reset, target, warning};
use super::*;
use sha2::{Digest as _, Sha256};
use sheaf_config::grub;
use sheaf_config::manifest::{Bios, Compressed, FORMAT, Frame, Manifest, Plain, STATE, Section, Terms, Uki};
use sheaf_host::disk::{Disk, RawDisk};
use sheaf_host::esp::BootFiles as _;
use sheaf_host::fakes::FakeBootFiles;
use sheaf_release::boot::{ENVIRONMENT, TRIES, UKIS, counted, entry, good};
use sheaf_release::origin::Origin;
use sheaf_release::verity::testing::format;
use std::fs;
use std::path::Path;

const ESP: &str = "6b1f7a3e-93c2-4d55-8f10-012345678902";
const BLOCK: usize = 4096;

/// The release `version` in the folder `at`.
fn release(at: &Path, version: &str) -> Manifest {
    let raw: Vec<u8> = (0..24_u8).flat_map(|block| vec![block ^ version.as_bytes()[2]; BLOCK]).collect();
    let (tree, root_hash) = format(&raw, version.as_bytes());
    let sha256 = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let compressed = |file: &str, raw: &[u8]| {
        let packed: Vec<_> = raw.chunks(4 * BLOCK).map(|raw| zstd::bulk::compress(raw, 1).unwrap()).collect();
        fs::write(at.join(file), packed.concat()).unwrap();
        let frames = raw.chunks(4 * BLOCK).zip(&packed).map(|(raw, bytes)| Frame {
            size: bytes.len() as u64,
            raw_size: raw.len() as u64,
            sha256: sha256(bytes),
        });
        Compressed {
            file: file.into(),
            size: packed.concat().len() as u64,
            raw_size: raw.len() as u64,
            raw_sha256: sha256(raw),
            frames: frames.collect(),
        }
    };
    let uki = format!("kernel of {version}").into_bytes();
    fs::write(at.join("node.efi"), &uki).unwrap();
    let section = Section { offset: 512, size: 512 };
    let described = Uki {
        file: "node.efi".into(),
        size: uki.len() as u64,
        sha256: sha256(&uki),
        linux: section,
        initrd: section,
        command_line: format!("roothash={root_hash}"),
    };
    let plain = || Plain { file: String::new(), size: 0, sha256: String::new() };
    Manifest {
        format: FORMAT,
        name: "sheaf".into(),
        version: version.into(),
        kernel: String::new(),
        arch: "amd64".into(),
        created: 1,
        terms: Terms { state: STATE, ..Terms::default() },
        documents: Vec::new(),
        root: compressed("root.erofs.zst", &raw),
        verity: compressed("root.verity.zst", &tree),
        root_hash,
        root_uuid: String::new(),
        verity_uuid: String::new(),
        node_uki: described.clone(),
        boot_loader: plain(),
        bios: Bios { boot: plain(), core: plain(), menu: plain() },
        installer_uki: described,
    }
}

/// 0.1.0 in slot a and 0.2.0 in slot b, without a try left on either firmware.
fn used_up() -> FakeBootFiles {
    let scratch = tempfile::tempdir().unwrap();
    let of = |version: &str| entry(&release(scratch.path(), version).node_uki, version, &[]);
    FakeBootFiles::default()
        .with(&format!("{UKIS}/sheaf_0.1.0+0-3.efi"), "kernel of 0.1.0")
        .with(&format!("{UKIS}/sheaf_0.2.0+0-3.efi"), "kernel of 0.2.0")
        .with(&Slot::A.entry(), of("0.1.0"))
        .with(&Slot::B.entry(), of("0.2.0"))
        .with(ENVIRONMENT, grub::environment(&[("order", "b a"), ("a_left", "0"), ("b_left", "0")]))
}

fn observed(files: &FakeBootFiles, is_uefi: bool) -> Observed {
    observe(files, is_uefi, Err("there is none".into())).unwrap()
}

/// Partitions of both slots, full of other bytes.
fn partitions(root: &Path) -> Partitions {
    let partitions = Partitions::of(root, Some(ESP)).unwrap();
    for (root, verity) in SLOTS.map(|slot| partitions.slot(slot)) {
        fs::write(root, vec![0xee; 64 * BLOCK]).unwrap();
        fs::write(verity, vec![0xee; 8 * BLOCK]).unwrap();
    }
    partitions
}

fn open(path: &Path) -> Result<Box<dyn Disk>, sheaf_host::disk::DiskError> {
    Ok(Box::new(RawDisk::open(path)?))
}

fn run(
    files: &FakeBootFiles,
    partitions: &Partitions,
    (at, manifest): (&Path, &Manifest),
    steps: &[Step],
) -> Result<(), apply::ApplyError> {
    let origin = Origin::Folder(at);
    let env = Env {
        files,
        open: &open,
        partitions,
        release: Some(Release { origin: &origin, manifest }),
        arguments: &[],
        advance: &|_| (),
    };
    steps.iter().try_for_each(|step| apply(&env, step))
}

#[test]
fn it_says_what_is_in_both_slots_and_what_the_agent_wrote_down() {
    let state = tempfile::tempdir().unwrap();
    fs::create_dir(state.path().join("update")).unwrap();
    let record = |name: &str, text: &str| fs::write(state.path().join("update").join(name), text).unwrap();
    record(
        "outcome.json",
        r#"{"version": "0.2.0", "request": {}, "reason": "not healthy after 600 s: libvirt"}"#,
    );
    record("trial.json", r#"{"version": "0.1.0", "reasons": ["not healthy after 600 s: pools"]}"#);
    record("oldest", "0.1.0\n");
    record(
        "given-up",
        "slot a was given up: 3 boots in a row ended before it had run for 90 s; its root may be damaged\n",
    );
    let observed = observe(&used_up(), true, Ok(state.path())).unwrap();
    assert_eq!(
        observed.report(),
        [
            "SHEAF RECOVERY",
            "No slot of this disk can be started. node.toml, state and data are as they were.",
            "  slot a: 0.1.0, no try left",
            "  slot b: 0.2.0, no try left",
            "  0.1.0 was on trial: not healthy after 600 s: pools",
            "  0.2.0 was rolled back: not healthy after 600 s: libvirt",
            "  slot a was given up: 3 boots in a row ended before it had run for 90 s; its root may be damaged",
        ]
    );
    assert_eq!(observed.oldest.as_deref(), Some("0.1.0"));
    let files = FakeBootFiles::default().with(&Slot::A.entry(), "nothing of ours");
    assert_eq!(
        observe(&files, false, Err("no such device".into())).unwrap().report()[2..],
        ["  slot a: empty", "  slot b: empty", "  the state partition cannot be read: no such device",]
    );
}

#[test]
fn the_node_s_disk_is_the_one_that_the_boot_loader_names() {
    let of = |esp| Partitions::of(Path::new("/by"), esp);
    let partitions = of(Some("6B1F7A3E-93C2-4D55-8F10-012345678902")).unwrap();
    assert_eq!(partitions.esp(), Path::new("/by").join(ESP));
    assert!(partitions.state().ends_with("6b1f7a3e-93c2-4d55-8f10-012345678909"));
    assert!(partitions.records().ends_with("6b1f7a3e-93c2-4d55-8f10-012345678907"));
    assert_eq!(partitions.install(), "6b1f7a3e-93c2-4d55-8f10-012345678900");
    for wrong in [None, Some("6b1f"), Some("../../../etc/passwd/0123456789012345678")] {
        assert_eq!(
            of(wrong).unwrap_err().to_string(),
            "the boot loader gave no kernel argument sheaf.esp, so the node's disk is not known; start the install medium to \
             install the node again"
        );
    }
}

#[test]
fn a_slot_that_is_started_again_is_the_first_choice_of_both_boot_loaders() {
    for is_uefi in [true, false] {
        for (slot, first, other, order) in
            [(Slot::A, "0.1.0", "0.2.0", "a b"), (Slot::B, "0.2.0", "0.1.0", "b a")]
        {
            let files = used_up();
            let root = tempfile::tempdir().unwrap();
            let steps = again(&observed(&files, is_uefi), slot).unwrap();
            let manifest = release(root.path(), "0.3.0");
            run(&files, &partitions(root.path()), (root.path(), &manifest), &steps).unwrap();
            let now = observed(&files, is_uefi);
            assert_eq!(now.slot(slot).tries, Some(TRIES));
            assert_eq!(now.slot(slot.other()).tries, Some(0));
            let names: Vec<_> = files.list(UKIS).unwrap();
            assert!(names.contains(&counted(first, TRIES)), "{names:?}");
            assert!(names.contains(&format!("sheaf_{other}+0-3.efi")), "{names:?}");
            let text = String::from_utf8(files.read(ENVIRONMENT).unwrap().unwrap()).unwrap();
            assert!(text.contains(&format!("order={order}\n")), "{text}");
        }
    }
}

#[test]
fn a_newer_release_that_still_has_tries_gives_way_to_the_one_that_was_chosen() {
    let files = used_up();
    files.rename(&format!("{UKIS}/sheaf_0.2.0+0-3.efi"), &format!("{UKIS}/{}", good("0.2.0"))).unwrap();
    let steps = again(&observed(&files, true), Slot::A).unwrap();
    assert_eq!(steps[0], Step::Rename { from: good("0.2.0"), to: counted("0.2.0", 0) });
}

#[test]
fn a_release_is_written_into_a_slot_read_back_and_armed_and_the_other_slot_stays() {
    for is_uefi in [true, false] {
        for (version, slot) in [("0.2.0", Slot::B), ("0.1.0", Slot::A), ("0.3.0", Slot::A)] {
            let (root, medium) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (files, partitions) = (used_up(), partitions(root.path()));
            let manifest = release(medium.path(), version);
            let before = observed(&files, is_uefi);
            assert_eq!(target(&before, version), slot, "{version}");
            let steps = install(&before, version, slot);
            run(&files, &partitions, (medium.path(), &manifest), &steps).unwrap();
            let after = observed(&files, is_uefi);
            let written = after.slot(slot);
            assert_eq!((written.version.as_deref(), written.tries), (Some(version), Some(TRIES)));
            assert_eq!(
                files.read(&format!("{UKIS}/{}", counted(version, TRIES))).unwrap().unwrap(),
                format!("kernel of {version}").as_bytes()
            );
            let tree = sheaf_release::verity::Tree::read(
                &*open(&partitions.slot(slot).1).unwrap(),
                &manifest.root_hash,
            );
            tree.unwrap().verify(&*open(&partitions.slot(slot).0).unwrap(), &|_| ()).unwrap();
            let (other, _) = partitions.slot(slot.other());
            assert_eq!(fs::read(other).unwrap(), vec![0xee; 64 * BLOCK]);
            assert_eq!(after.slot(slot.other()), before.slot(slot.other()));
        }
    }
}

#[test]
fn after_a_power_cut_at_any_change_no_slot_is_started_that_is_not_whole() {
    for changes in 0.. {
        let (root, medium) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (files, partitions) = (used_up(), partitions(root.path()));
        let manifest = release(medium.path(), "0.3.0");
        files.cut_after(Some(changes));
        let done = run(
            &files,
            &partitions,
            (medium.path(), &manifest),
            &install(&observed(&files, true), "0.3.0", Slot::A),
        );
        files.cut_after(None);
        let now = observed(&files, true);
        let is_armed = now.ukis.iter().any(|uki| uki.left != Some(0))
            || observed(&files, false).slot(Slot::A).tries != Some(0);
        let tree = sheaf_release::verity::Tree::read(
            &*open(&partitions.slot(Slot::A).1).unwrap(),
            &manifest.root_hash,
        );
        assert!(
            !is_armed
                || tree.is_ok_and(|tree| tree
                    .verify(&*open(&partitions.slot(Slot::A).0).unwrap(), &|_| ())
                    .is_ok()),
            "{changes}"
        );
        if done.is_ok() {
            assert!(changes >= 7, "{changes}");
            break;
        }
        // The recovery is started again, and does all of it again.
        run(&files, &partitions, (medium.path(), &manifest), &install(&now, "0.3.0", target(&now, "0.3.0")))
            .unwrap();
    }
}

#[test]
fn what_is_not_for_this_node_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = release(folder.path(), "0.1.0");
    let room = (64 * BLOCK as u64, 8 * BLOCK as u64);
    let mut observed = observed(&used_up(), true);
    let refused = |observed: &Observed, manifest: &Manifest, arch, room| {
        judge(observed, manifest, arch, room).unwrap_err().to_string()
    };
    judge(&observed, &manifest, "amd64", room).unwrap();
    assert_eq!(
        refused(&observed, &manifest, "arm64", room),
        "the release is for amd64, this machine is arm64; take the release for this machine"
    );
    assert_eq!(
        refused(&observed, &manifest, "amd64", (BLOCK as u64, room.1)),
        "the release needs 98304 bytes of root, which has 4096; take a smaller release"
    );
    observed.oldest = Some("0.2.0".into());
    assert_eq!(
        refused(&observed, &manifest, "amd64", room),
        "0.1.0 is older than 0.2.0, the oldest version that this node may run; take 0.2.0 or a newer one"
    );
    observed.oldest = None;
    let mut later = manifest.clone();
    later.terms.state.reads = (2, 3);
    assert_eq!(
        refused(&observed, &later, "amd64", room),
        "0.1.0 reads formats 2 to 3 of the state partition, and this recovery was made for format 1; take the release that ran \
         last, or one of its series"
    );
    observed.slots[1].uki = None;
    assert_eq!(again(&observed, Slot::B), Err(Refusal::Empty("b")));
    assert_eq!(
        Refusal::Empty("b").to_string(),
        "slot b has no release that could be started; install one (m or u)"
    );
}

#[test]
fn a_file_of_the_release_that_was_changed_arms_nothing() {
    let (root, medium) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let manifest = release(medium.path(), "0.3.0");
    for file in ["root.erofs.zst", "root.verity.zst", "node.efi"] {
        let (files, partitions) = (used_up(), partitions(root.path()));
        let path = medium.path().join(file);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        bytes[9] ^= 1;
        fs::write(&path, bytes).unwrap();
        let steps = install(&observed(&files, true), "0.3.0", Slot::A);
        run(&files, &partitions, (medium.path(), &manifest), &steps).unwrap_err();
        fs::write(&path, whole).unwrap();
        assert!(observed(&files, true).ukis.iter().all(|uki| uki.left == Some(0)), "{file}");
        assert_eq!(observed(&files, false).slot(Slot::A).tries, Some(0), "{file}");
    }
}

/// The recovery of a node whose node.toml can be read, or not.
fn of_node(config: Option<&str>) -> Observed {
    let state = tempfile::tempdir().unwrap();
    if let Some(config) = config {
        fs::write(state.path().join("node.toml"), config).unwrap();
    }
    observe(&used_up(), true, Ok(state.path())).unwrap()
}

const CONFIG: &str = "version = 1\nsystem.hostname = \"n1\"\n";

#[test]
fn a_reset_is_confirmed_by_the_nodes_name_and_keeps_node_toml() {
    let observed = of_node(Some(CONFIG));
    assert_eq!(
        warning(&observed, true).unwrap(),
        [
            "When a slot starts, everything in state and data is erased: the node's keys, etcd, logs, images, disks and files of VMs.",
            "Its pools with all volumes of VMs are erased. node.toml is kept: the node takes part in its cluster again by a new token.",
            "What the cluster has of this node stays there until it is removed by a NodeRemoval.",
            "Type n1 and Enter; Escape to go back:",
        ]
    );
    let refused = |typed| reset(&observed, "i".into(), false, typed).unwrap_err().to_string();
    assert_eq!(refused("n2"), "\"n2\" was typed instead of \"n1\"; nothing is changed");
    assert_eq!(refused("reset"), "\"reset\" was typed instead of \"n1\"; nothing is changed");
    for pools in [true, false] {
        let mark = reset(&observed, "i".into(), pools, "n1 ").unwrap();
        assert_eq!((mark.node.as_str(), mark.pools, mark.config.as_deref()), ("n1", pools, Some(CONFIG)));
    }
}

#[test]
fn a_node_whose_name_cannot_be_read_is_reset_without_its_pools() {
    for (config, line) in [
        (
            None,
            "Its pools are kept. node.toml cannot be read and is lost: the node then has no cluster, and an address by DHCP.",
        ),
        (
            Some("version = 9"),
            "Its pools are kept. node.toml is kept: the node takes part in its cluster again by a new token.",
        ),
    ] {
        let observed = of_node(config);
        let lines = warning(&observed, false).unwrap();
        assert_eq!(lines[1], line);
        assert_eq!(lines[3], "Type reset and Enter; Escape to go back:");
        assert_eq!(reset(&observed, "i".into(), false, "reset").unwrap().config.as_deref(), config);
        assert_eq!(
            warning(&observed, true).unwrap_err().to_string(),
            "the node's name cannot be read from node.toml, so its pools are not known; reset it without them (f), and erase them \
             afterwards"
        );
    }
}

#[test]
fn a_reset_that_is_asked_for_is_shown_and_so_is_a_slot_that_could_be_started() {
    let mut observed = of_node(Some(CONFIG));
    for (pools, line) in [
        (false, "  a reset of this node is asked for: it is done when a slot starts (k withdraws it)"),
        (
            true,
            "  a reset of this node with its pools is asked for: it is done when a slot starts (k withdraws it)",
        ),
    ] {
        observed.reset = Some(reset(&observed, "i".into(), pools, "n1").unwrap());
        assert_eq!(observed.report().last().map(String::as_str), Some(line));
    }
    assert!(!observed.starts());
    observed.slots[0].tries = Some(1);
    assert!(observed.starts());
    assert_eq!(
        observed.report()[1],
        "A slot of this disk can be started. node.toml, state and data are as they were."
    );
}

#[test]
fn every_choice_has_a_key_of_its_own() {
    for (key, choice, _) in Choice::ALL {
        assert_eq!(Choice::of(key), Some(choice));
        assert_eq!(Choice::of(key.to_ascii_uppercase()), Some(choice));
    }
    assert_eq!(Choice::of(b'x'), None);
}
