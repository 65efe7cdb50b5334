//! Files of VMs in a real folder, with the plug pulled at every step.

use super::*;
use crate::vms::guest::{CpuModel, DiskOptions, Firmware, Hardware, Kernel, Lifetime, Nic};
use crate::vms::record::{self, Record};
use crate::vms::testing::identity;
use sheaf_host::fakes::FakeRun;
use sheaf_host::run::{Output, RunError};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

thread_local! {
    /// Steps until the plug is pulled; none is left alone.
    static STEPS: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Unwinds, as nothing more happens after a kill: this code has no clean-up that would run.
pub(super) fn pull_the_plug(name: &str) {
    STEPS.with(|steps| match steps.get() {
        Some(0) => {
            steps.set(None);
            std::panic::resume_unwind(Box::new(format!("power cut: {name}")));
        }
        Some(left) => steps.set(Some(left - 1)),
        None => {}
    });
}

/// Does `work` with the plug pulled at step `number`; false when it had fewer.
fn cut_at(number: usize, work: impl FnOnce()) -> bool {
    STEPS.with(|steps| steps.set(Some(number)));
    let cut = catch_unwind(AssertUnwindSafe(work)).is_err();
    STEPS.with(|steps| steps.set(None));
    cut
}

/// qemu-img that writes a header and then the rest, with a step between.
struct QemuImg;

impl Run for QemuImg {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        let text = command.to_string();
        let (before, bytes) = text.rsplit_once(' ').unwrap();
        let (_, path) = before.rsplit_once(' ').unwrap();
        fs::write(path, b"QFI\xfb").unwrap();
        step("half of qemu-img");
        let size = bytes.parse::<u64>().unwrap().to_be_bytes();
        fs::write(path, [b"QFI\xfb".as_slice(), &[0; 20], &size, &[0; 40]].concat()).unwrap();
        Ok(Output::default())
    }
}

fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("sheaf-files-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir.canonicalize().unwrap()
}

fn guest(source: Source) -> Guest {
    let disk = Disk {
        name: "root".into(),
        cdrom: false,
        bus: sheaf_api::devices::DiskBus::Virtio,
        source,
        boot_order: None,
        serial: None,
        cache: None,
        options: DiskOptions::default(),
    };
    Guest {
        id: identity("p1"),
        uuid: String::new(),
        grace_seconds: 30,
        priority: 0,
        memory: 1 << 26,
        topology: (1, 1, 1),
        cpu: CpuModel::HostModel,
        placement: Default::default(),
        machine: "q35".into(),
        disks: vec![disk],
        space: 0,
        interfaces: Vec::<Nic>::new(),
        host_devices: Vec::new(),
        rng: false,
        graphics: false,
        serial: true,
        hardware: Hardware::default(),
    }
}

fn overlay() -> Source {
    Source::Overlay { base: "/data/images/debian".into(), format: Format::Raw, bytes: 1 << 30, linked: false }
}

fn make_in(dir: &Path, guest: &Guest, run: &dyn Run) -> anyhow::Result<()> {
    make(guest, &Folder::of(dir, "v-1"), &Images::new(), run)
}

#[test]
fn folders_of_state_are_there_before_the_vm_starts_and_what_outlives_it_is_not_in_its_folder() {
    let dir = folder("state");
    let hardware = Hardware {
        firmware: Firmware::Efi { secure: false, variables: Lifetime::Instance },
        tpm: Some(Lifetime::Machine),
        state: dir.join("state/default/libvirt-u-1"),
        ..Hardware::default()
    };
    let guest = Guest { uuid: "u-1".into(), disks: Vec::new(), hardware, ..guest(overlay()) };
    make_in(&dir, &guest, &FakeRun::default()).unwrap();
    assert!(dir.join("v-1/libvirt-u-1").is_dir() && guest.hardware.state.is_dir());
    remove(&Folder::of(&dir, "v-1")).unwrap();
    assert!(!dir.join("v-1").exists() && guest.hardware.state.is_dir());
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_vm_has_a_kernel_and_an_initrd_of_its_own_and_each_try_to_start_takes_them_again() {
    use std::os::unix::fs::MetadataExt;
    let dir = folder("kernel");
    let [image, initrd] = ["pulled-kernel", "pulled-initrd"].map(|name| dir.join(name));
    let kernel = Kernel { image: image.clone(), initrd: Some(initrd.clone()), arguments: String::new() };
    let hardware = Hardware { kernel: Some(kernel), ..Hardware::default() };
    let guest = Guest { disks: Vec::new(), hardware, ..guest(overlay()) };
    for content in ["first", "second"] {
        fs::write(&image, content).unwrap();
        fs::write(&initrd, format!("{content} initrd")).unwrap();
        make_in(&dir, &guest, &FakeRun::default()).unwrap();
        assert_eq!(fs::read_to_string(dir.join("v-1/kernel")).unwrap(), content);
        assert_eq!(fs::read_to_string(dir.join("v-1/initrd")).unwrap(), format!("{content} initrd"));
    }
    assert_ne!(fs::metadata(dir.join("v-1/kernel")).unwrap().ino(), fs::metadata(&image).unwrap().ino());
    fs::remove_file(&image).unwrap();
    let error = format!("{:#}", make_in(&dir, &guest, &FakeRun::default()).unwrap_err());
    assert!(error.contains(&format!("{}: cannot be copied", image.display())), "{error}");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_vm_keeps_the_base_of_its_overlay_although_others_remove_it() {
    let dir = folder("linked");
    let base = dir.join("pulled.img");
    fs::write(&base, "disk").unwrap();
    let linked = Source::Overlay { base: base.clone(), format: Format::Raw, bytes: 1 << 30, linked: true };
    make_in(&dir, &guest(linked.clone()), &QemuImg).unwrap();
    fs::remove_file(&base).unwrap();
    assert_eq!(fs::read(dir.join("v-1/root.base")).unwrap(), b"disk");
    // A start that goes on after a power cut finds it.
    make_in(&dir, &guest(linked), &QemuImg).unwrap();
    remove(&Folder::of(&dir, "v-1")).unwrap();
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn an_overlay_names_the_format_and_size_of_its_base_and_is_made_once() {
    let dir = folder("overlay");
    let run = FakeRun::default();
    // The fake makes no file, so that what was asked is all there is.
    assert!(make_in(&dir, &guest(overlay()), &run).is_err());
    let path = dir.join("v-1/.unfinished-root.qcow2");
    assert_eq!(
        run.asked(),
        [format!("qemu-img create -q -f qcow2 -F raw -b /data/images/debian {} 1073741824", path.display())]
    );
    make_in(&dir, &guest(overlay()), &QemuImg).unwrap();
    make_in(&dir, &guest(overlay()), &run).unwrap();
    assert_eq!(run.asked().len(), 1, "what is there is not made again");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn an_empty_disk_is_as_large_as_asked_and_takes_no_space() {
    use std::os::unix::fs::MetadataExt;
    let dir = folder("empty");
    make_in(&dir, &guest(Source::Empty(1 << 30)), &FakeRun::default()).unwrap();
    let meta = dir.join("v-1/root.raw").metadata().unwrap();
    assert_eq!((meta.len(), meta.blocks()), (1 << 30, 0));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_power_cut_at_any_step_leaves_no_half_disk_and_the_next_start_completes_it() {
    let in_place = |dir: &Path, name: &str, format| Source::InPlace {
        path: dir.join("disks").join(name),
        format,
        create: Some(1 << 20),
    };
    let dir = folder("cut");
    let sources = [
        overlay(),
        Source::Empty(1 << 20),
        in_place(&dir, "a.raw", Format::Raw),
        in_place(&dir, "a.qcow2", Format::Qcow2),
    ];
    for source in sources {
        let guest = guest(source);
        let (path, format) = Folder::of(&dir, "v-1").disk(&guest.disks[0]);
        let bytes = if format == Format::Qcow2 && path.ends_with("root.qcow2") { 1 << 30 } else { 1 << 20 };
        let mut steps = 0;
        while cut_at(steps, || make_in(&dir, &guest, &QemuImg).unwrap()) {
            if path.exists() {
                compare(&path, format, bytes).unwrap();
            }
            make_in(&dir, &guest, &QemuImg).unwrap();
            compare(&path, format, bytes).unwrap();
            fs::remove_file(&path).unwrap();
            steps += 1;
        }
        assert!(steps >= 5, "only {steps} steps");
        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        fs::remove_file(&path).unwrap();
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_half_disk_in_the_folder_of_the_vm_is_made_anew_and_one_that_outlives_vms_is_refused() {
    let dir = folder("half");
    fs::create_dir_all(dir.join("v-1")).unwrap();
    File::create(dir.join("v-1/root.raw")).unwrap();
    make_in(&dir, &guest(Source::Empty(1 << 20)), &QemuImg).unwrap();
    compare(&dir.join("v-1/root.raw"), Format::Raw, 1 << 20).unwrap();
    fs::write(dir.join("v-1/root.qcow2"), "half").unwrap();
    make_in(&dir, &guest(overlay()), &QemuImg).unwrap();
    compare(&dir.join("v-1/root.qcow2"), Format::Qcow2, 1 << 30).unwrap();
    File::create(dir.join("db.raw")).unwrap();
    let in_place = Source::InPlace { path: dir.join("db.raw"), format: Format::Raw, create: Some(1 << 20) };
    let error = make_in(&dir, &guest(in_place), &QemuImg).unwrap_err();
    assert!(format!("{error:#}").contains("has 0 bytes instead of 1048576"), "{error:#}");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_power_cut_while_a_folder_is_removed_leaves_the_whole_vm_or_nothing_after_the_next_start() {
    let dir = folder("remove");
    let mut steps = 0;
    loop {
        make_in(&dir, &guest(Source::Empty(1 << 20)), &QemuImg).unwrap();
        fs::write(dir.join("v-1/seed.iso"), "password").unwrap();
        Record { vmi_uid: "v-1".into(), ..Record::made(&identity("p1")) }.write(&dir).unwrap();
        let cut = cut_at(steps, || remove(&Folder::of(&dir, "v-1")).unwrap());
        // What the next agent does first.
        sweep(&dir).unwrap();
        match record::read_all(&dir).unwrap().get("p1") {
            Some(_) => {
                assert!(dir.join("v-1/root.raw").exists() && dir.join("v-1/seed.iso").exists());
                remove(&Folder::of(&dir, "v-1")).unwrap();
            }
            None => assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "step {steps}: something is left"),
        }
        if !cut {
            break;
        }
        steps += 1;
    }
    assert!(steps >= 5, "only {steps} steps");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_disk_that_must_exist_and_does_not_is_named_with_the_remedy() {
    let dir = folder("missing");
    let guest = guest(Source::InPlace { path: dir.join("db.raw"), format: Format::Raw, create: None });
    let error = make_in(&dir, &guest, &FakeRun::default()).unwrap_err();
    assert!(
        format!("{error:#}").ends_with("use type DiskOrCreate with a capacity to have it made"),
        "{error:#}"
    );
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_disk_that_became_a_link_to_another_file_is_refused() {
    let dir = folder("link");
    std::os::unix::fs::symlink("/etc/hostname", dir.join("db.raw")).unwrap();
    let guest = guest(Source::InPlace { path: dir.join("db.raw"), format: Format::Raw, create: None });
    let error = make_in(&dir, &guest, &FakeRun::default()).unwrap_err();
    assert!(format!("{error:#}").contains("a disk must lie where its path says"), "{error:#}");
    fs::remove_dir_all(dir).unwrap();
}
