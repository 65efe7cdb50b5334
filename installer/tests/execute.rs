//! Failures at every point of an installation: the disk never keeps a table that is not whole, and the reason is said.

mod common;

use common::{FakeTools, ID, Release, SIZE, config, machine, sha256, signature};
use sheaf_config::node::NodeConfig;
use sheaf_host::disk::Disk;
use sheaf_host::fakes::{FakeDisk, FakeMount, FakeVariables};
use sheaf_host::run::Run;
use sheaf_installer::execute::{self, DiskState, Env, Failure, Timing};
use sheaf_installer::plan::{InstallPlan, ReleaseContents, Role, Step, plan, plan_file};
use sheaf_installer::progress::Progress;
use std::error::Error;

fn planned(release: &Release) -> InstallPlan {
    let mut machine = machine();
    machine.disks[0].signatures = vec![signature("/dev/vda", 512, "gpt")];
    let contents = ReleaseContents { manifest: &release.manifest, images: &release.images };
    plan(&config("wipe = \"A\"\n"), &machine, contents, ID).unwrap()
}

fn install(plan: &InstallPlan, release: &Release, disk: &FakeDisk, run: &dyn Run) -> Result<Timing, Failure> {
    let env = Env {
        run,
        mount: &FakeMount::default(),
        firmware: &FakeVariables::default(),
        disk,
        data_disks: &[],
        medium: &release.folder(),
        remote: None,
        scratch: &release.scratch(),
        node_toml: "version = 1\n",
        progress: &Progress::new(Vec::new()),
    };
    execute::install(plan, &env)
}

/// A disk with marks of an older table at both ends.
fn used_disk() -> FakeDisk {
    let mut mbr = [0; 512];
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    FakeDisk::new("/dev/vda", SIZE)
        .holding(0, &mbr)
        .holding(512, b"EFI PART old")
        .holding(SIZE - 512, b"EFI PART old")
}

fn bytes(disk: &FakeDisk, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    disk.read_at(offset, &mut bytes).unwrap();
    bytes
}

fn has_mbr(disk: &FakeDisk) -> bool {
    bytes(disk, 510, 2) == [0x55, 0xaa]
}

fn has_primary(disk: &FakeDisk) -> bool {
    bytes(disk, 512, 8) == b"EFI PART"
}

fn has_backup(disk: &FakeDisk) -> bool {
    bytes(disk, SIZE - 512, 8) == b"EFI PART"
}

/// Text of an error and of everything behind it.
fn chain(error: &dyn Error) -> String {
    let behind = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", behind.unwrap_or_default())
}

#[test]
fn an_installation_puts_images_table_and_files_where_the_plan_says() {
    let release = Release::new();
    let plan = planned(&release);
    let (disk, tools) = (used_disk(), FakeTools::default());
    let timing = install(&plan, &release, &disk, &tools).unwrap();
    let root = plan.layout.partition(Role::RootA);
    let manifest = &release.manifest;
    assert_eq!(sha256(&bytes(&disk, root.offset, manifest.root.raw_size as usize)), manifest.root.raw_sha256);
    assert!(has_mbr(&disk) && has_primary(&disk) && has_backup(&disk));
    assert_eq!(timing.payload_bytes, manifest.root.raw_size + manifest.verity.raw_size);
    let asked = tools.asked();
    assert!(
        asked[0]
            .starts_with("mkfs.vfat -I -F 32 -n ESP -i 6b1f7a3e -s 8 -S 512 -h 4096 --offset 4096 /dev/vda")
    );
    let mkfs: Vec<_> = asked.iter().filter(|command| command.starts_with("mkfs.ext4")).collect();
    assert_eq!(mkfs.len(), 2);
}

#[test]
fn a_bios_finds_the_core_by_the_mbr_and_its_rest_by_itself() {
    let release = Release::new();
    let disk = used_disk();
    install(&planned(&release), &release, &disk, &FakeTools::default()).unwrap();
    let file = |name: &str| std::fs::read(release.folder().join(name)).unwrap();
    let (mbr, boot) = (bytes(&disk, 0, 512), file("boot.img"));
    assert_eq!(mbr[0x5c..0x64], 2048u64.to_le_bytes(), "GRUB's core starts at the partition of 1 MiB");
    assert_eq!((&mbr[..0x5c], &mbr[0x68..440]), (&boot[..0x5c], &boot[0x68..440]));
    assert_eq!((mbr[450], &mbr[510..]), (0xee, &[0x55, 0xaa][..]), "the protective entry stays");
    let core = file("core.img");
    let written = bytes(&disk, 1 << 20, core.len());
    assert_eq!(written[0x1f4..0x1fc], 2049u64.to_le_bytes());
    assert_eq!(written[512..], core[512..]);
}

#[test]
fn the_table_is_written_last_and_back_to_front() {
    let release = Release::new();
    let disk = used_disk();
    install(&planned(&release), &release, &disk, &FakeTools::default()).unwrap();
    let writes = disk.writes();
    let last: Vec<_> = writes[writes.len() - 3..].iter().map(|(offset, _)| *offset).collect();
    assert_eq!(last, [SIZE - 33 * 512, 512, 0]);
    assert_eq!(writes[0], (0, 1 << 20), "the old table goes first");
}

#[test]
fn a_write_error_anywhere_leaves_no_table_and_names_disk_and_sector() {
    let release = Release::new();
    let plan = planned(&release);
    let whole = used_disk();
    install(&plan, &release, &whole, &FakeTools::default()).unwrap();
    let writes = whole.writes().len() as u64;
    assert!(writes > 15, "{writes}");
    for n in 0..writes {
        let disk = used_disk().fails_at_write(n);
        let failure = install(&plan, &release, &disk, &FakeTools::default()).unwrap_err();
        let said = chain(&failure);
        assert!(said.contains(" failed: /dev/vda: write of "), "write {n}: {said}");
        assert!(said.ends_with("failed: Input/output error (os error 5)"), "write {n}: {said}");
        assert!(matches!(failure.disk, DiskState::Wiped), "write {n}: {:?}", failure.disk);
        assert!(!has_mbr(&disk) && !has_primary(&disk) && !has_backup(&disk), "write {n}");
    }
}

#[test]
fn a_power_cut_after_any_write_leaves_the_old_table_untouched_or_no_table() {
    let release = Release::new();
    let plan = planned(&release);
    let whole = used_disk();
    install(&plan, &release, &whole, &FakeTools::default()).unwrap();
    let writes = whole.writes().len() as u64;
    for n in 0..writes {
        let disk = used_disk().fails_from_write(n);
        let failure = install(&plan, &release, &disk, &FakeTools::default()).unwrap_err();
        assert!(matches!(failure.disk, DiskState::Unknown(_)), "write {n}");
        // Neither firmware nor kernel believes a GPT without its protective MBR.
        assert_eq!(has_mbr(&disk), n == 0, "write {n}");
    }
}

#[test]
fn a_write_that_the_disk_loses_is_found_by_reading_back() {
    let release = Release::new();
    let plan = planned(&release);
    let root = plan.layout.partition(Role::RootA);
    let whole = used_disk();
    install(&plan, &release, &whole, &FakeTools::default()).unwrap();
    let in_root = |(offset, length): &(u64, usize)| *offset >= root.offset && *length == 4 << 20;
    let n = whole.writes().iter().position(in_root).unwrap() as u64;
    let disk = used_disk().loses_write(n);
    let failure = install(&plan, &release, &disk, &FakeTools::default()).unwrap_err();
    assert_eq!(
        chain(&failure),
        "read root.erofs.zst back and compare failed: /dev/vda: root.erofs.zst differs from what was written when \
         it is read back"
    );
    assert!(!has_mbr(&disk) && !has_primary(&disk) && !has_backup(&disk));
}

#[test]
fn a_flipped_byte_of_any_file_is_refused_before_anything_is_written() {
    let expected = [
        ("root.erofs.zst", 4_000_000, "frame 2 of 3 does not have the hash in the manifest"),
        ("root.verity.zst", 1000, "frame 1 of 1 does not have the hash in the manifest"),
        ("node.efi", 2_999_999, "it does not have the expected hash"),
        ("systemd-bootx64.efi", 0, "it does not have the expected hash"),
    ];
    for (file, offset, what) in expected {
        let release = Release::new();
        let plan = planned(&release);
        release.flip(file, offset);
        let disk = used_disk();
        let failure = install(&plan, &release, &disk, &FakeTools::default()).unwrap_err();
        let said = chain(&failure);
        assert!(said.ends_with(&format!("{file} of the medium is damaged: {what}")), "{said}");
        assert!(matches!(failure.disk, DiskState::Untouched));
        assert_eq!(disk.writes(), [], "{file}");
        assert!(has_mbr(&disk) && has_primary(&disk) && has_backup(&disk));
    }
}

#[test]
fn a_truncated_payload_is_refused_before_anything_is_written() {
    let release = Release::new();
    let plan = planned(&release);
    let path = release.folder().join("root.erofs.zst");
    let size = release.manifest.root.size;
    std::fs::File::options().write(true).open(path).unwrap().set_len(size - 1).unwrap();
    let disk = used_disk();
    let said = chain(&install(&plan, &release, &disk, &FakeTools::default()).unwrap_err());
    assert!(
        said.ends_with(&format!(
            "root.erofs.zst of the medium is damaged: it has {} bytes, the manifest says {size}",
            size - 1
        )),
        "{said}"
    );
    assert_eq!(disk.writes(), []);
}

#[test]
fn a_medium_that_goes_bad_after_the_first_pass_is_refused_before_the_frame_is_decoded() {
    let release = Release::new();
    let mut plan = planned(&release);
    plan.steps.remove(0); // the first pass found it good
    release.flip("root.erofs.zst", 100);
    let disk = used_disk();
    let failure = install(&plan, &release, &disk, &FakeTools::default()).unwrap_err();
    assert!(chain(&failure).contains("frame 1 of 3 does not have the hash in the manifest"));
    let root = plan.layout.partition(Role::RootA).offset;
    let first_frame = (root, 4 << 20);
    assert!(!disk.writes().contains(&first_frame));
    assert!(matches!(failure.disk, DiskState::Wiped));
    assert!(!has_mbr(&disk) && !has_primary(&disk) && !has_backup(&disk));
}

#[test]
fn a_program_that_fails_is_named_with_its_last_words_and_the_table_stays_away() {
    for program in ["mkfs.vfat", "mmd", "mcopy", "mkfs.ext4"] {
        let release = Release::new();
        let disk = used_disk();
        let failure = install(&planned(&release), &release, &disk, &FakeTools::failing(program)).unwrap_err();
        let said = chain(&failure);
        assert!(said.contains(&format!(" failed: {program} ")), "{said}");
        assert!(said.ends_with("exit status: 1; its output:\nno space left"), "{said}");
        assert!(matches!(failure.disk, DiskState::Wiped));
        assert!(!has_mbr(&disk) && !has_primary(&disk) && !has_backup(&disk));
    }
}

/// The plan of a reinstall that keeps the data of an older install of ours.
fn keeping(release: &Release) -> InstallPlan {
    let mut machine = machine();
    let older = common::older(SIZE);
    let data = older.partitions.iter().find(|p| p.name == "data").unwrap().offset;
    machine.disks[0].older = Some(older);
    machine.disks[0].signatures =
        vec![signature("/dev/vda", 512, "gpt"), signature("/dev/vda10", data + 0x438, "ext4")];
    let contents = ReleaseContents { manifest: &release.manifest, images: &release.images };
    plan(&config("reinstall = \"keep-data\"\n"), &machine, contents, ID).unwrap()
}

/// A disk with that older install: its table, its boot partition, and a file system on data.
fn installed_disk(plan: &InstallPlan) -> FakeDisk {
    let data = plan.layout.partition(Role::Data);
    let mut superblock = [0; 1024];
    superblock[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
    superblock[0x68..0x78].copy_from_slice(data.uuid.as_bytes());
    used_disk()
        .holding(plan.layout.partition(Role::Esp).offset, b"old boot sector")
        .holding(data.offset + 1024, &superblock)
        .holding(data.offset + (1 << 20), b"a VM's disk")
        .holding(plan.layout.pool().unwrap().offset + 512, b"LABELONE")
}

#[test]
fn a_reinstall_writes_everything_but_data() {
    let release = Release::new();
    let plan = keeping(&release);
    let disk = installed_disk(&plan);
    install(&plan, &release, &disk, &FakeTools::default()).unwrap();
    let data = plan.layout.partition(Role::Data);
    let in_data = |(offset, length): &&(u64, usize)| {
        *offset < data.offset + data.size && offset + *length as u64 > data.offset
    };
    assert_eq!(disk.writes().iter().filter(in_data).count(), 0);
    assert_eq!(bytes(&disk, data.offset + (1 << 20), 11), b"a VM's disk");
    assert_eq!(bytes(&disk, plan.layout.pool().unwrap().offset + 512, 8), b"LABELONE");
    assert!(has_mbr(&disk) && has_primary(&disk) && has_backup(&disk));
}

#[test]
fn a_reinstall_that_fails_anywhere_keeps_table_and_data_and_boots_nothing() {
    let release = Release::new();
    let plan = keeping(&release);
    let whole = installed_disk(&plan);
    install(&plan, &release, &whole, &FakeTools::default()).unwrap();
    let esp = plan.layout.partition(Role::Esp).offset;
    let data = plan.layout.partition(Role::Data).offset;
    for n in 0..whole.writes().len() as u64 {
        let disk = installed_disk(&plan).fails_at_write(n);
        let failure = install(&plan, &release, &disk, &FakeTools::default()).unwrap_err();
        assert!(matches!(failure.disk, DiskState::Kept), "write {n}: {:?}", failure.disk);
        assert!(has_mbr(&disk), "write {n}: the table's mark stays");
        assert_eq!(bytes(&disk, esp, 15), [0; 15], "write {n}: nothing boots");
        assert_eq!(bytes(&disk, data + (1 << 20), 11), b"a VM's disk", "write {n}");
    }
}

#[test]
fn a_data_partition_without_its_file_system_is_refused_before_anything_is_written() {
    let release = Release::new();
    let plan = keeping(&release);
    let disk = used_disk();
    let failure = install(&plan, &release, &disk, &FakeTools::default()).unwrap_err();
    assert_eq!(
        chain(&failure),
        "check that data holds a file system to keep failed: /dev/vda: its data partition holds no file system of that \
         install"
    );
    assert!(matches!(failure.disk, DiskState::Untouched));
    assert_eq!(disk.writes(), []);
}

/// A disk that outlives the installation which opened it.
struct Shared(std::sync::Arc<FakeDisk>);

impl Disk for Shared {
    fn path(&self) -> &std::path::Path {
        self.0.path()
    }
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn number(&self) -> Option<String> {
        self.0.number()
    }
    fn hold(&self, hold: sheaf_host::disk::Hold) -> Result<(), sheaf_host::disk::DiskError> {
        self.0.hold(hold)
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), sheaf_host::disk::DiskError> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), sheaf_host::disk::DiskError> {
        self.0.write_at(offset, bytes)
    }
    fn sync(&self) -> Result<(), sheaf_host::disk::DiskError> {
        self.0.sync()
    }
}

#[test]
fn a_data_disk_is_emptied_only_when_the_boot_disk_was_read_back() {
    let release = Release::new();
    let mut machine = machine();
    let mut full = common::disk("vdb", "B");
    full.signatures = vec![signature("/dev/vdb", 5_000_000_000, "LVM2_member")];
    machine.disks.push(full);
    let contents = ReleaseContents { manifest: &release.manifest, images: &release.images };
    let wanted = config("data-disks = [{ serial = \"B\", wipe = \"B\" }]\n");
    let plan = plan(&wanted, &machine, contents, ID).unwrap();
    let attempt = |disk: &FakeDisk| {
        let other = FakeDisk::new("/dev/vdb", SIZE).holding(5_000_000_000, b"LABELONE");
        let other = std::sync::Arc::new(other);
        let env = Env {
            run: &FakeTools::default(),
            mount: &FakeMount::default(),
            firmware: &FakeVariables::default(),
            disk,
            data_disks: &[Box::new(Shared(other.clone()))],
            medium: &release.folder(),
            remote: None,
            scratch: &release.scratch(),
            node_toml: "version = 1\n",
            progress: &Progress::new(Vec::new()),
        };
        (execute::install(&plan, &env).is_ok(), other)
    };
    let whole = used_disk();
    let (done, other) = attempt(&whole);
    assert!(done);
    assert_eq!(bytes(&other, 5_000_000_000, 8), [0; 8]);
    let root = plan.layout.partition(Role::RootA).offset;
    let in_root = |(offset, length): &(u64, usize)| *offset >= root && *length == 4 << 20;
    let lost = whole.writes().iter().position(in_root).unwrap() as u64;
    let (done, other) = attempt(&used_disk().loses_write(lost));
    assert!(!done);
    assert_eq!(other.writes(), [], "an installation that failed cost the other disk nothing");
}

#[test]
fn a_disk_that_is_written_as_a_file_has_table_slots_and_boot_loaders_of_an_installation() {
    let release = Release::new();
    let images = std::collections::BTreeMap::new();
    let contents = ReleaseContents { manifest: &release.manifest, images: &images };
    let machine = machine();
    let installed_plan = plan(&config(""), &machine, contents, ID).unwrap();
    let path = std::path::Path::new("/tmp/disk.raw");
    let file_plan = plan_file(&config(""), path, SIZE, contents, ID).unwrap();
    assert_eq!(file_plan.layout, installed_plan.layout);
    let (last, others) = installed_plan.steps.split_last().unwrap();
    assert!(matches!(last, Step::PreferDisk { .. }), "a file is nobody's first choice");
    assert_eq!(file_plan.steps, others);
    let (installed, file) = (FakeDisk::new("/dev/vda", SIZE), FakeDisk::new("/tmp/disk.raw", SIZE));
    install(&installed_plan, &release, &installed, &FakeTools::default()).unwrap();
    let tools = FakeTools::default();
    install(&file_plan, &release, &file, &tools).unwrap();
    let places = |disk: &FakeDisk| {
        let mut places: Vec<_> = disk.writes().to_vec();
        places.sort_unstable();
        places
    };
    assert_eq!(places(&file), places(&installed), "several threads write, in any order");
    for partition in &installed_plan.layout.partitions {
        let of = |disk: &FakeDisk| bytes(disk, partition.offset, 1 << 20);
        assert_eq!(of(&file), of(&installed), "{}", partition.name);
    }
    for (offset, length) in [(0, 1 << 20), (SIZE - (1 << 20), 1 << 20)] {
        assert_eq!(bytes(&file, offset, length), bytes(&installed, offset, length));
    }
}

#[test]
fn a_file_that_cannot_be_a_disk_is_refused_with_what_to_give_instead() {
    let release = Release::new();
    let contents = ReleaseContents { manifest: &release.manifest, images: &release.images };
    let path = std::path::Path::new("disk.raw");
    let refused =
        |config: &NodeConfig, size| plan_file(config, path, size, contents, ID).unwrap_err().to_string();
    assert_eq!(
        refused(&config(""), 1 << 30),
        "disk.raw: is too small: it has 1073741824 bytes, Sheaf needs 16000000000; select a larger disk"
    );
    assert_eq!(
        refused(&config("reinstall = \"keep-data\"\n"), (32 << 30) + 512),
        "disk.raw: is new, and holds nothing that install.reinstall could keep; remove it from the config\n\
         disk.raw: has a size that is not a multiple of 4096 bytes; give another size, such as 32GiB"
    );
}
