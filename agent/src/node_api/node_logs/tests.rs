//! What a node tells of itself, on programs that are played.

use super::*;
use crate::node_api::fixture::Fixture;
use http_body_util::BodyExt as _;
use sheaf_host::fakes::{FakeRun, FakeVms};
use std::collections::HashMap;

struct Node(Fixture);

impl Node {
    fn with(run: FakeRun) -> Self {
        Self(Fixture::new(FakeVms::default(), run))
    }

    /// Status and body.
    async fn asked(&self, file: &str, query: &str) -> (u16, Vec<u8>) {
        let answer = super::serve(&self.0.state, "alice", file, query).await.unwrap_or_else(Refusal::answer);
        let status = answer.status().as_u16();
        (status, answer.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    async fn text(&self, file: &str, query: &str) -> (u16, String) {
        let (status, body) = self.asked(file, query).await;
        (status, String::from_utf8(body).unwrap())
    }
}

#[tokio::test]
async fn lines_of_a_unit_are_what_journalctl_prints() {
    let node = Node::with(FakeRun::default().prints("journalctl", "one\ntwo\n"));
    assert_eq!(node.text("", "query=sheaf-agent").await, (200, "one\ntwo\n".into()));
    assert!(node.0.state.readers.are_free());
}

#[tokio::test]
async fn a_boot_that_is_not_there_is_told_and_a_pattern_without_a_match_is_no_failure() {
    let node = Node::with(FakeRun::default().fails("journalctl", "Failed to look up boot -9"));
    let (status, text) = node.text("", "query=sheaf-agent&boot=-9").await;
    assert_eq!(status, 500);
    assert!(text.contains("Failed to look up boot -9"), "{text}");
    struct NoMatch;
    impl Read for NoMatch {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            let command = Box::default();
            let (ended, code, tail) = ("exit status: 1".into(), Some(1), String::new());
            Err(io::Error::other(RunError::Failed { command, ended, code, tail }))
        }
    }
    assert_eq!(block(&mut NoMatch).unwrap(), None);
}

#[tokio::test]
async fn there_are_two_files_and_no_way_to_others() {
    let node = Node::with(FakeRun::default());
    let (_, page) = node.text("", "").await;
    assert!(page.contains(">node.toml<") && page.contains(">support-bundle.tar.gz<"), "{page}");
    let (status, text) = node.text("node.toml", "").await;
    assert!(
        status == 200 && text.contains("hostname = \"n1\"") && text.contains("token = \"***\""),
        "{text}"
    );
    for file in ["shadow", "..", "journal"] {
        let (status, text) = node.text(file, "").await;
        assert_eq!(status, 404);
        assert!(text.contains("there are node.toml and support-bundle.tar.gz"), "{text}");
    }
    assert_eq!(node.text("", "query=/etc/shadow").await.0, 404);
}

#[tokio::test]
async fn a_bundle_has_logs_and_config_and_no_secret_whatever_fails() {
    let run =
        FakeRun::default().prints("journalctl --boot --no-pager", "a line\n").fails("vgs", "no LVM here");
    let (status, bytes) = Node::with(run).asked(SUPPORT_BUNDLE, "").await;
    assert_eq!(status, 200);
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
    let mut files = HashMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert!(!text.contains("0123456789abcdef"), "{name}");
        files.insert(name, text);
    }
    assert_eq!(files["journal.log"], "a line\n");
    assert!(files["pools.json"].contains("no LVM here"));
    assert!(files["node.toml"].contains("token = \"***\""));
}

#[tokio::test]
async fn one_who_reads_much_at_once_waits_and_the_others_do_not() {
    let node = Node::with(FakeRun::default());
    let held: Vec<_> = (0..OF_ONE).map(|_| node.0.state.readers.take("alice".into()).unwrap()).collect();
    assert_eq!(node.asked("", "query=sheaf-agent").await.0, 429);
    drop(held);
    assert_eq!(node.asked("", "query=sheaf-agent").await.0, 200);
}
