//! The whole controller on a directory, with servers in memory.

use super::*;
use crate::channels;
use crate::paths::Paths;
use crate::status::Status;
use sha2::{Digest, Sha256};
use sheaf_host::fakes::FakeFetch;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const URL: &str = "https://example.org/debian.qcow2";

struct Node {
    root: PathBuf,
    source: Arc<FakeFetch>,
    sha256: String,
}

impl Node {
    /// A node whose config lists one image, which a server has.
    fn new(name: &str, change: impl FnOnce(&mut FakeFetch)) -> Self {
        let root = std::env::temp_dir().join(format!("sheaf-images-{name}-{}", std::process::id()));
        std::fs::create_dir_all(root.join("data/images")).unwrap();
        let contents: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
        let mut hash = Sha256::new();
        hash.update(&contents);
        let mut source = FakeFetch { files: [(URL.to_owned(), contents)].into(), ..FakeFetch::default() };
        change(&mut source);
        Self { root, source: Arc::new(source), sha256: store::digits(hash) }
    }

    fn image(&self) -> PathBuf {
        self.root.join("data/images/debian")
    }

    /// Runs the controller until `done`, and returns the status it left.
    async fn until(&self, url: &str, done: impl FnMut(&Status) -> bool) -> Status {
        let text = format!(
            "version = 1\nsystem.hostname = \"a\"\n[[image]]\nname = \"debian\"\nurl = \"{url}\"\nsha256 = \"{}\"\n",
            self.sha256
        );
        let config = sheaf_config::load::parse_node_config("node.toml", &text).unwrap();
        let (ctx, publish) = channels::open(Paths::under(&self.root), config);
        let mut status = ctx.status.subscribe();
        let images = ctx.images.clone();
        let task = tokio::spawn(run_with(
            ctx,
            publish.images,
            publish.sections.images,
            self.source.clone(),
            Duration::from_millis(1),
        ));
        let deadline = Duration::from_secs(60); // far beyond what a slow machine needs
        let status = tokio::time::timeout(deadline, status.wait_for(done)).await.unwrap().unwrap().clone();
        publish.shutdown.send_replace(true);
        task.await.unwrap().unwrap();
        let is_present = status.images.iter().any(|image| image.phase == "present");
        assert_eq!(images.borrow().iter().any(|image| image.name == "debian"), is_present);
        status
    }

    async fn until_present(&self) -> Status {
        self.until(URL, |status| status.images.iter().any(|image| image.phase == "present")).await
    }

    async fn until_failed(&self, url: &str) -> String {
        let failed = |status: &Status| status.images.iter().any(|image| image.phase == "failed");
        self.until(url, failed).await.images[0].problem.clone().unwrap()
    }

    fn asked(&self) -> Vec<u64> {
        self.source.asked.lock().unwrap().iter().map(|(_, from)| *from).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.root).unwrap();
    }
}

#[tokio::test]
async fn an_image_is_fetched_verified_and_made_read_only() {
    let node = Node::new("plain", |_| {});
    let status = node.until_present().await;
    assert_eq!(status.images[0].bytes, 1_000_000);
    assert_eq!(std::fs::read(node.image()).unwrap(), node.source.files[URL]);
    assert_eq!(std::fs::metadata(node.image()).unwrap().permissions().mode() & 0o777, 0o444);
    assert!(!node.root.join("data/images/debian.part").exists());
}

#[tokio::test]
async fn a_broken_connection_is_resumed_where_it_broke() {
    let node = Node::new("resume", |source| source.breaks = vec![300_000, 200_000].into());
    node.until_present().await;
    assert_eq!(node.asked(), [0, 300_000, 500_000]);
    assert_eq!(std::fs::read(node.image()).unwrap(), node.source.files[URL]);
}

#[tokio::test]
async fn a_server_that_cannot_resume_is_asked_for_all_of_it() {
    let node = Node::new("no-ranges", |source| {
        source.breaks = vec![300_000].into();
        source.without_ranges = true;
    });
    node.until_present().await;
    assert_eq!(std::fs::read(node.image()).unwrap(), node.source.files[URL]);
}

#[tokio::test]
async fn a_part_that_was_complete_before_the_agent_ended_is_used() {
    let node = Node::new("complete", |_| {});
    std::fs::write(node.root.join("data/images/debian.part"), &node.source.files[URL]).unwrap();
    node.until_present().await;
    assert_eq!(node.asked(), [1_000_000]);
}

#[tokio::test]
async fn whatever_a_power_cut_left_of_a_part_the_next_agent_makes_the_image_of_it() {
    let whole = Node::new("whole", |_| {}).source.files[URL].clone();
    let with = |range: std::ops::Range<usize>, byte: u8| {
        let mut bytes = whole.clone();
        bytes[range].fill(byte);
        bytes
    };
    // Lengths are in the journal, contents may not be: zeros, and what was there before.
    let parts = [
        Vec::new(),
        whole[..1].to_vec(),
        whole[..999_999].to_vec(),
        whole.clone(),
        with(300_000..500_000, 0)[..500_000].to_vec(),
        with(0..1_000_000, 0),
        with(999_999..1_000_000, 0xff),
        [&whole[..], b"more"].concat(),
    ];
    for (number, part) in parts.iter().enumerate() {
        let node = Node::new(&format!("torn-{number}"), |_| {});
        let path = node.root.join("data/images/debian.part");
        std::fs::write(&path, part).unwrap();
        // The last thing before the name: nobody may write it.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
        let status = node.until(URL, |status| {
            status.images.iter().any(|one| one.phase == "present" || one.phase == "failed")
        });
        let status = status.await;
        assert_eq!(status.images[0].problem, None, "part {number}");
        assert_eq!(std::fs::read(node.image()).unwrap(), whole, "part {number}");
        assert!(!path.exists(), "part {number}");
    }
}

#[tokio::test]
async fn a_file_of_another_hash_is_refused_and_leaves_nothing() {
    let node = Node::new("other", |source| source.files.get_mut(URL).unwrap()[7] ^= 1);
    let problem = node.until_failed(URL).await;
    assert!(
        problem.contains(URL) && problem.contains(&node.sha256) && problem.contains("correct url or sha256"),
        "{problem}"
    );
    assert_eq!(std::fs::read_dir(node.root.join("data/images")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_second_boot_reads_nothing_and_asks_no_server() {
    let node = Node::new("second", |_| {});
    node.until_present().await;
    // Other bytes under the same length and time: a boot that read them would refuse.
    let facts = std::fs::metadata(node.image()).unwrap();
    let time = facts.modified().unwrap();
    std::fs::set_permissions(node.image(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut contents = node.source.files[URL].clone();
    contents[0] ^= 1;
    std::fs::write(node.image(), contents).unwrap();
    std::fs::File::options().write(true).open(node.image()).unwrap().set_modified(time).unwrap();
    node.until_present().await;
    assert_eq!(node.asked().len(), 1);
    // And once its time of change differs, it is read and refused.
    std::fs::File::options()
        .write(true)
        .open(node.image())
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    let problem = node.until_failed(URL).await;
    assert!(problem.contains("give the new image a new name"), "{problem}");
}

#[tokio::test]
async fn an_image_of_the_medium_is_expected_and_never_fetched() {
    let node = Node::new("medium", |_| {});
    let problem = node.until_failed("medium:debian.qcow2").await;
    assert!(problem.contains("install medium; put the file there"), "{problem}");
    std::fs::write(node.image(), &node.source.files[URL]).unwrap();
    let present = |status: &Status| status.images.iter().any(|image| image.phase == "present");
    node.until("medium:debian.qcow2", present).await;
    assert_eq!(node.asked(), [0_u64; 0]);
}

#[tokio::test]
async fn a_file_that_is_not_listed_is_kept_and_shown() {
    let node = Node::new("unlisted", |_| {});
    std::fs::write(node.root.join("data/images/old"), "x").unwrap();
    let status = node.until_present().await;
    let old = status.images.iter().find(|image| image.name == "old").unwrap();
    assert_eq!((old.phase.as_str(), old.bytes), ("unlisted", 1));
    assert!(node.root.join("data/images/old").exists());
}
