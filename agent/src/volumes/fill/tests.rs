//! Images of every kind into a volume that is a file, from a server in memory.

use super::*;
use sha2::{Digest, Sha256};
use sheaf_host::fakes::{FakeFetch, FakeLvm, FakeRun, FakeTransientUnits};
use sheaf_host::lvm::{Lvm, LvmReport as _, ThinSize};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

const URL: &str = "http://images/file";
const GROUP: &str = "sheaf-default";
const BYTES: u64 = 8 << 20;

/// An image of 5 MiB with zeros in the middle and an end within a sector.
fn raw() -> Vec<u8> {
    let mut image: Vec<u8> = (0..5_u32 << 20).map(|at| (at % 251) as u8).collect();
    image[1 << 20..3 << 20].fill(0);
    image.truncate(image.len() - 100);
    image
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

pub(super) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut packer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// The head of a qcow2 image of `bytes`, with what `change` makes of it.
pub(super) fn qcow2(bytes: u64, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut head = vec![0; 65536];
    head[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    head[24..32].copy_from_slice(&bytes.to_be_bytes());
    change(&mut head);
    head
}

struct Scene {
    root: PathBuf,
    lvm: Arc<FakeLvm>,
    fetch: Arc<FakeFetch>,
    run: Arc<FakeRun>,
    units: Arc<FakeTransientUnits>,
    shown: Mutex<Vec<Progress>>,
}

impl Scene {
    fn new(name: &str, file: &[u8]) -> Self {
        let root = std::env::temp_dir().join(format!("sheaf-fill-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let lvm = FakeLvm::default().with_devices(&root);
        lvm.plug("/dev/sdb", 1 << 30);
        lvm.create_group(GROUP, std::path::Path::new("/dev/sdb"), &[], &[]).unwrap();
        let size = ThinSize { data: 256 << 20, metadata: 4 << 20, chunk: 64 << 10 };
        lvm.create_thin_pool(GROUP, size).unwrap();
        lvm.create_volume(GROUP, "pvc-1", BYTES, &[TAG, INCOMPLETE]).unwrap();
        let fetch = FakeFetch { files: [(URL.to_owned(), file.to_vec())].into(), ..FakeFetch::default() };
        let run = Arc::new(FakeRun::default());
        Self {
            root,
            lvm: Arc::new(lvm),
            fetch: Arc::new(fetch),
            units: Arc::new(FakeTransientUnits::over(run.clone())),
            run,
            shown: Mutex::default(),
        }
    }

    /// Fills, with the checksum of `is`; books what the image turns out to need.
    fn fill(&self, is: &[u8]) -> Result<(), FillError> {
        match self.fill_once(is, None) {
            Err(FillError::NeedsScratch { bytes }) => {
                assert_eq!(self.volume(), vec![0; BYTES as usize], "something was written before that");
                self.fill_once(is, Some(bytes))
            }
            answer => answer,
        }
    }

    fn fill_once(&self, is: &[u8], scratch: Option<u64>) -> Result<(), FillError> {
        let hosts = Hosts {
            lvm: self.lvm.clone(),
            fetch: self.fetch.clone(),
            images: Arc::new(crate::volumes::tests::NoImages),
            units: self.units.clone(),
            devices: self.root.clone(),
            uploads: Arc::default(),
        };
        let order = Order {
            group: GROUP.into(),
            name: "pvc-1".into(),
            bytes: BYTES,
            source: Source { policy: Arc::default(), ..Source::trusted(URL) },
            checksum: Some(sha256(is)),
            scratch,
            stop: Arc::default(),
        };
        fill(&hosts, &order, &|progress| self.shown.lock().unwrap().push(progress))
    }

    fn server(&mut self) -> &mut FakeFetch {
        Arc::get_mut(&mut self.fetch).unwrap()
    }

    fn volume(&self) -> Vec<u8> {
        std::fs::read(self.root.join(GROUP).join("pvc-1")).unwrap()
    }

    fn asked(&self) -> Vec<u64> {
        self.fetch.asked.lock().unwrap().iter().map(|(_, from)| *from).collect()
    }

    fn names(&self) -> Vec<String> {
        self.lvm.volumes(GROUP).unwrap().into_iter().map(|volume| volume.name).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn assert_holds(volume: &[u8], image: &[u8]) {
    assert_eq!(volume.len() as u64, BYTES);
    assert!(volume[..image.len()] == *image, "the volume does not hold the image");
    assert!(volume[image.len()..].iter().all(|byte| *byte == 0), "something follows the image");
}

#[test]
fn a_raw_image_is_poured_in_as_it_is_packed_or_not() {
    let image = raw();
    let packed = [
        ("plain", image.clone()),
        ("gzip", gzip(&image)),
        ("zstd", zstd::encode_all(&image[..], 1).unwrap()),
        ("xz", xz(&image)),
        // Tools that pack in parallel write several streams.
        ("gzips", [gzip(&image[..1_000_000]), gzip(&image[1_000_000..])].concat()),
    ];
    for (name, file) in packed {
        let scene = Scene::new(name, &file);
        let answer = scene.fill(&file);
        answer.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_holds(&scene.volume(), &image);
        let last = *scene.shown.lock().unwrap().last().unwrap();
        assert_eq!((last.done_bytes, last.percent), (file.len() as u64, Some(100)), "{name}");
    }
}

#[test]
fn zeros_of_an_image_take_no_space() {
    use std::os::unix::fs::MetadataExt;
    let image = raw();
    let scene = Scene::new("zeros", &image);
    let answer = scene.fill(&image);
    answer.unwrap();
    let blocks = std::fs::metadata(scene.root.join(GROUP).join("pvc-1")).unwrap().blocks() * 512;
    assert!(blocks < 4 << 20, "{blocks} bytes are written of 3 MiB");
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let image = raw();
    let mut scene = Scene::new("resume", &image);
    scene.server().breaks = vec![3_000_000, 500_000].into();
    let answer = scene.fill(&image);
    answer.unwrap();
    assert_holds(&scene.volume(), &image);
    assert_eq!(scene.asked(), [0, 3_000_000, 3_500_000]);
}

#[test]
fn a_server_that_cannot_begin_in_the_middle_is_read_again() {
    let image = raw();
    let mut scene = Scene::new("no-ranges", &image);
    scene.server().breaks = vec![3_000_000].into();
    scene.server().without_ranges = true;
    let answer = scene.fill(&image);
    answer.unwrap();
    assert_holds(&scene.volume(), &image);
}

#[test]
fn another_file_is_known_by_its_checksum_whatever_it_is() {
    let image = raw();
    for (name, file) in
        [("other", image.clone()), ("html", b"<html>no".to_vec()), ("torn", gzip(&image)[..999].to_vec())]
    {
        let scene = Scene::new(name, &file);
        let answer = scene.fill(b"what was asked for");
        let error = answer.unwrap_err();
        assert_eq!(
            error.reason(),
            sheaf_api::storage::local_volume::VolumeReason::ChecksumMismatch,
            "{name}"
        );
        assert!(!error.is_passing());
        assert!(error.to_string().contains("correct the URL or the checksum"), "{error}");
    }
}

#[test]
fn a_file_that_is_not_an_image_is_refused_by_name() {
    let vmdk = [b"KDMV".as_slice(), &[0; 600]].concat();
    let vdi = [&[0_u8; 64][..], &[0x7f, 0x10, 0xda, 0xbe], &[0; 600]].concat();
    let tar = [&[b'a'; 257][..], b"ustar", &[0; 600]].concat();
    let torn = zstd::encode_all(&raw()[..], 1).unwrap();
    for (name, file, words) in [
        ("vmdk", vmdk, "VMDK"),
        ("vdi", vdi, "VDI"),
        ("tar", tar, "tar archive"),
        ("empty", Vec::new(), "empty"),
        ("twice", gzip(&gzip(b"x")), "compressed twice"),
        ("torn-zstd", torn[..torn.len() / 2].to_vec(), "cannot be decompressed"),
    ] {
        let scene = Scene::new(name, &file);
        let answer = scene.fill(&file);
        let error = answer.unwrap_err();
        assert!(error.to_string().contains(words), "{name}: {error}");
        assert!(!error.is_passing());
    }
}

#[test]
fn an_image_larger_than_the_volume_is_refused() {
    for (name, file) in [
        ("large", vec![7; BYTES as usize + 1]),
        ("large-gzip", gzip(&vec![7; BYTES as usize + 1])),
        ("large-qcow2", qcow2(BYTES + 1, |_| {})),
    ] {
        let scene = Scene::new(name, &file);
        let answer = scene.fill(&file);
        assert!(matches!(answer, Err(FillError::TooLarge { volume: BYTES, .. })), "{name}: {answer:?}");
        assert_eq!(scene.run.asked(), [""; 0]);
    }
}

#[test]
fn a_qcow2_image_is_converted_from_beside_the_volume_and_leaves_nothing() {
    let image = qcow2(BYTES, |_| {});
    for (name, file) in [("qcow2", image.clone()), ("qcow2-gzip", gzip(&image))] {
        let scene = Scene::new(name, &file);
        let answer = scene.fill(&file);
        answer.unwrap();
        let (from, to) = (scene.root.join(GROUP).join("pvc-1-image"), scene.root.join(GROUP).join("pvc-1"));
        let options = "convert -n -f qcow2 -O raw -T none -t none --target-is-zero -W";
        let converted = format!("qemu-img {options} {} {}", from.display(), to.display());
        assert_eq!(scene.run.asked(), [converted]);
        // By a user of its own, with these two devices: it parses what a tenant named.
        let units = scene.units.units();
        let limits = units[0].limits.clone().unwrap();
        assert_eq!((units.len(), units[0].name.as_str()), (1, "sheaf-import-pvc-1"));
        assert_eq!(limits.devices, [(from, Access::Read), (to, Access::ReadWrite)]);
        assert_eq!(
            (limits.memory_max, limits.runtime_max),
            (CONVERT_MEMORY, CONVERT_LEAST + Duration::from_secs(2))
        );
        assert_eq!(scene.names(), ["thin", "pvc-1"]);
    }
}

#[test]
fn a_qcow2_image_that_names_another_file_is_refused_before_qemu_img_sees_it() {
    let backing = qcow2(BYTES, |head| head[8..16].copy_from_slice(&104_u64.to_be_bytes()));
    let data_file = qcow2(BYTES, |head| head[79] = 4);
    let unknown = qcow2(BYTES, |head| head[72] = 1);
    let encrypted = qcow2(BYTES, |head| head[35] = 1);
    for (name, file, words) in [
        ("backing", backing, "has a backing file"),
        ("data-file", data_file, "has an external data file"),
        ("unknown", unknown, "needs features"),
        ("encrypted", encrypted, "is encrypted"),
    ] {
        let scene = Scene::new(name, &file);
        let answer = scene.fill(&file);
        let error = answer.unwrap_err();
        assert!(error.to_string().contains(words), "{name}: {error}");
        assert_eq!(scene.run.asked(), [""; 0]);
        assert_eq!(scene.names(), ["thin", "pvc-1"]);
    }
}

#[test]
fn a_server_that_refuses_is_asked_again_later() {
    let mut scene = Scene::new("refused", b"");
    scene.server().files.clear();
    let answer = scene.fill(b"");
    let error = answer.unwrap_err();
    assert_eq!(error.reason(), sheaf_api::storage::local_volume::VolumeReason::SourceRefused);
    assert!(error.is_passing());
}

#[test]
fn a_hash_that_is_not_the_one_asked_for_is_not_told() {
    let image = raw();
    let scene = Scene::new("secret-hash", &image);
    let error = scene.fill(b"what was asked for").unwrap_err();
    let found = &sha256(&image)["sha256:".len()..];
    assert!(!format!("{error:?} {error}").contains(found), "{error:?}");
}

#[test]
fn a_servers_word_for_the_length_of_an_image_never_takes_more_space_than_an_image_can() {
    let image = qcow2(BYTES, |_| {});
    for claims in [image.len() as u64, BYTES * 2, 900 << 30, u64::MAX] {
        let mut scene = Scene::new("length", &image);
        scene.server().claims = Some(claims);
        let needed = match scene.fill_once(&image, None) {
            Err(FillError::NeedsScratch { bytes }) => bytes,
            other => panic!("{claims}: {other:?}"),
        };
        assert!(needed <= BYTES + BYTES / 8 + SLACK + EXTENT, "{claims}: {needed}");
        assert_eq!(scene.names(), ["thin", "pvc-1"]);
    }
}

#[test]
fn a_server_that_never_ends_is_given_up_once_no_image_can_be_that_large() {
    // What follows an image that was refused is read for its checksum, and no longer than an image could be.
    let mut file = b"KDMV".to_vec();
    file.resize((longest(BYTES) + (1 << 20)) as usize, 0);
    let scene = Scene::new("endless", &file);
    let error = scene.fill(&file).unwrap_err();
    assert!(matches!(error, FillError::TooLong { .. }), "{error:?}");
    assert_eq!(error.reason(), sheaf_api::storage::local_volume::VolumeReason::ImageTooLarge);
}

/// An xz file whose block header asks for a dictionary of 4 GiB.
fn xz_with_large_dictionary() -> Vec<u8> {
    // From the format: stream header, block header (size, flags, filter LZMA2 with the largest property), its CRC32.
    let crc = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum().to_le_bytes()
    };
    let mut file = b"\xfd7zXZ\0\0\x01".to_vec();
    file.extend(crc(&[0, 1]));
    let block = [2, 0, 0x21, 1, 40, 0, 0, 0];
    file.extend(block);
    file.extend(crc(&block));
    // An LZMA2 chunk that resets dictionary, state and properties.
    file.extend([0xe0, 0, 0, 0, 0x40, 0x5d]);
    file.extend([0; 600]);
    file
}

#[test]
fn packed_files_that_ask_for_gigabytes_of_memory_are_refused() {
    // A zstd frame without content size whose window is 2^31 bytes.
    let zstd = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3][..], &[0x01, 0x00, 0x00], &[0; 600]].concat();
    for (name, file, words) in [
        ("xz-memory", xz_with_large_dictionary(), "memory"),
        ("zstd-window", zstd, "Frame requires too much memory"),
    ] {
        let scene = Scene::new(name, &file);
        let error = scene.fill(&file).unwrap_err();
        assert!(matches!(&error, FillError::BadImage(why) if why.contains(words)), "{name}: {error:?}");
    }
}

#[test]
fn a_small_packed_file_that_unpacks_to_more_than_the_volume_is_refused_and_keeps_no_space() {
    let zeros = vec![0; 4 * BYTES as usize];
    let head = qcow2(BYTES, |head| head.resize(2 * longest(BYTES) as usize, 0));
    for (name, file) in [
        ("bomb-gzip", gzip(&zeros)),
        ("bomb-zstd", zstd::encode_all(&zeros[..], 1).unwrap()),
        ("bomb-qcow2", zstd::encode_all(&head[..], 1).unwrap()),
    ] {
        let scene = Scene::new(name, &file);
        let error = scene.fill(&file).unwrap_err();
        assert!(matches!(error, FillError::TooLarge { .. }), "{name}: {error:?}");
        assert_eq!(scene.names(), ["thin", "pvc-1"]);
        assert_eq!(scene.run.asked(), [""; 0]);
    }
}

/// A server that sends a byte now and then, and breaks off after each.
struct Trickle;

impl sheaf_host::fetch::Fetch for Trickle {
    fn fetch(&self, _: &Source, from: u64) -> Result<sheaf_host::fetch::Rest, sheaf_host::fetch::FetchError> {
        let reader = Box::new(Slow.take(1));
        Ok(sheaf_host::fetch::Rest { from, total: Some(1 << 30), reader })
    }
}

struct Slow;

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let time = Duration::from_millis(5);
        sheaf_host::wait::until(time, time, || None::<()>);
        buffer[..1].fill(7);
        Ok(1)
    }
}

#[test]
fn a_server_that_sends_a_byte_now_and_then_loses_its_slot_and_is_tried_again_later() {
    let source = Source { policy: Arc::default(), ..Source::trusted(URL) };
    let window = Duration::from_secs(1);
    let mut download =
        Download::start(Arc::new(Trickle), source, (longest(BYTES), window), Arc::default(), &|_| {})
            .unwrap();
    let begun = std::time::Instant::now();
    download.drain().unwrap();
    let error = download.hash().finish(None).unwrap_err();
    assert!(matches!(error, FillError::Slow { .. }), "{error:?}");
    assert!(error.is_passing() && begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
