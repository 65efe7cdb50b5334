//! Senders and the whole controller, over a real socket; LVM and the API server in memory.

use super::send::{Broken, Upload, pour, send};
use super::{Answer, Hello, server};
use crate::listed::Listed;
use crate::volumes::TAG;
use crate::volumes::tests::{Node, condition, is};
use serde_json::json;
use sha2::{Digest, Sha256};
use sheaf_api::storage::local_volume::VolumePhase;
use sheaf_host::lvm::LvmReport as _;
use sheaf_host::socket::Connection;
use std::io::Write as _;
use std::path::PathBuf;
use tokio::task::{JoinHandle, spawn_blocking};

struct Server {
    node: Node,
    socket: PathBuf,
}

impl Server {
    /// A node that is asked for `pvc-1`, the claim default/root.
    fn new(name: &str) -> Self {
        let node = Node::new(name);
        node.ask("pvc-1", "Volume", 8, json!({"upload": {}}));
        let claim = [("sheaf.dev/claim".to_owned(), "default/root".to_owned())];
        node.cluster.change("pvc-1", |object| object.metadata.annotations = Some(claim.into())).unwrap();
        let socket = node.root.join("upload.sock");
        server::open(&socket, node.cluster.listed.subscribe(), node.uploads.clone()).unwrap();
        Self { node, socket }
    }

    /// A file that holds `bytes`, on its way into `into`.
    fn send(
        &self,
        into: &str,
        bytes: &[u8],
        sha256: Option<String>,
    ) -> JoinHandle<(anyhow::Result<String>, Vec<String>)> {
        let file = self.node.root.join("file");
        std::fs::write(&file, bytes).unwrap();
        let (socket, into) = (self.socket.clone(), into.to_owned());
        spawn_blocking(move || {
            let mut said = Vec::new();
            let upload = Upload { into, file, bytes: None, sha256 };
            (send(&socket, &upload, |line| said.push(line.to_owned())), said)
        })
    }

    /// The sender is refused in these words, with the agent at work.
    async fn refuses(&self, into: &str, bytes: &[u8], sha256: Option<String>) -> String {
        let sending = self.node.during(self.send(into, bytes, sha256)).await;
        format!("{:#}", sending.unwrap().0.unwrap_err())
    }
}

fn digits(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[tokio::test]
async fn a_file_is_sent_into_the_volume_of_a_claim_and_completes_it() {
    let server = Server::new("sent");
    let image = server.node.image.clone();
    let sending = server.send("default/root", &image, Some(digits(&image)));
    server.node.until(is("pvc-1", VolumePhase::Ready)).await;
    assert_eq!(sending.await.unwrap().0.unwrap(), "default/root is filled");
    assert!(server.node.device("pvc-1")[..image.len()] == image);
    let volumes = server.node.lvm.volumes("sheaf-default").unwrap();
    assert_eq!(volumes.iter().find(|volume| volume.name == "pvc-1").unwrap().tags, [TAG]);
    let again = server.refuses("pvc-1", &image, None).await;
    assert_eq!(again, "volume pvc-1 is filled already");
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing_and_the_next_fills_the_volume() {
    let server = Server::new("broken");
    let image = server.node.image.clone();
    let socket = server.socket.clone();
    let half = image[..image.len() / 2].to_vec();
    let bytes = Some(image.len() as u64);
    let gone = spawn_blocking(move || {
        let mut connection = Connection::connect(&socket).unwrap();
        connection.send(&Hello { into: "default/root".into(), bytes, sha256: None }).unwrap();
        while connection.recv::<Answer>().unwrap() != Answer::Go {}
        connection.write_all(&half).unwrap();
    });
    server.node.until(|listed| condition(listed, "pvc-1").1.starts_with("the upload ended after")).await;
    gone.await.unwrap();
    let sending = server.send("default/root", &image, None);
    server.node.until(is("pvc-1", VolumePhase::Ready)).await;
    assert!(sending.await.unwrap().0.is_ok());
    assert!(server.node.device("pvc-1")[..image.len()] == image);
    assert_eq!(server.node.asked("create_volume"), 2);
}

#[tokio::test]
async fn a_sender_is_told_why_its_image_is_not_taken_and_another_may_follow() {
    let server = Server::new("refused");
    let image = server.node.image.clone();
    let wrong = server.refuses("default/root", &image, Some("0".repeat(64))).await;
    let zeros = "0".repeat(64);
    assert_eq!(wrong, format!("what was sent does not have the SHA-256 {zeros}; send it again"));
    let large = vec![1; 9 << 20];
    assert_eq!(
        server.refuses("default/root", &large, None).await,
        "the image has more bytes, the volume 8388608; ask for a larger volume"
    );
    let empty = server.refuses("default/root", &[], None).await;
    assert_eq!(empty, "the file is empty");
    let sending = server.send("default/root", &image, None);
    server.node.until(is("pvc-1", VolumePhase::Ready)).await;
    assert!(sending.await.unwrap().0.is_ok());
}

#[tokio::test]
async fn what_has_more_bytes_than_was_said_is_not_taken() {
    let server = Server::new("longer");
    let (socket, image) = (server.socket.clone(), server.node.image.clone());
    let sending = spawn_blocking(move || {
        let bytes = Some(image.len() as u64);
        let mut connection = Connection::connect(&socket).unwrap();
        connection.send(&Hello { into: "default/root".into(), bytes, sha256: None }).unwrap();
        while connection.recv::<Answer>().unwrap() != Answer::Go {}
        let mut longer = std::io::Cursor::new([image.as_slice(), b"more"].concat());
        pour(&mut longer, &mut connection, bytes, &mut |_: &str| {})
    });
    let refused = async {
        assert!(matches!(sending.await.unwrap(), Err(Broken::Long(_))));
        let mut listed = server.node.cluster.listed.subscribe();
        let why = |listed: &Listed<_>| condition(listed, "pvc-1").1.starts_with("the upload ended after");
        listed.wait_for(why).await.unwrap();
    };
    server.node.during(refused).await;
}

#[tokio::test]
async fn an_upload_into_what_is_not_there_or_takes_no_image_is_refused() {
    let server = Server::new("nowhere");
    server.node.ask("pvc-2", "Volume", 8, json!({"blank": {}}));
    assert_eq!(
        server.refuses("default/rot", b"x", None).await,
        "default/rot: no volume of this node; these take an image: default/root"
    );
    assert_eq!(
        server.refuses("pvc-2", b"x", None).await,
        "pvc-2: it takes no image; make a DataVolume with source upload"
    );
    let socket = server.socket.clone();
    let unsure = spawn_blocking(move || {
        let mut connection = Connection::connect(&socket).unwrap();
        connection.send(&Hello { into: "default/root".into(), bytes: None, sha256: None }).unwrap();
        connection.recv::<Answer>().unwrap()
    });
    let why = "neither size nor SHA-256 is given: a truncated file could not be detected";
    assert_eq!(unsure.await.unwrap(), Answer::Refused(why.into()));
}

#[tokio::test]
async fn a_volume_is_deleted_while_a_sender_waits_or_sends() {
    let server = Server::new("deleted");
    let socket = server.socket.clone();
    let sender = spawn_blocking(move || {
        let mut connection = Connection::connect(&socket).unwrap();
        connection.send(&Hello { into: "default/root".into(), bytes: Some(1 << 20), sha256: None }).unwrap();
        while connection.recv::<Answer>().unwrap() != Answer::Go {}
        connection
    });
    let deleted = async {
        let connection = sender.await.unwrap();
        server.node.delete("pvc-1");
        let mut listed = server.node.cluster.listed.subscribe();
        listed.wait_for(|listed| listed.objects.is_empty()).await.unwrap();
        connection
    };
    let mut connection = server.node.during(deleted).await;
    assert_eq!(server.node.names(), [""; 0]);
    assert!(matches!(connection.recv::<Answer>(), Ok(Answer::Refused(_)) | Err(_)));
}

#[test]
fn what_cannot_be_sent_is_refused_before_the_agent_is_asked() {
    let socket = PathBuf::from("/nowhere/upload.sock");
    let error = |file: &str, bytes, sha256: Option<&str>| {
        let (into, sha256) = ("default/root".into(), sha256.map(str::to_owned));
        let upload = Upload { into, file: file.into(), bytes, sha256 };
        format!("{:#}", send(&socket, &upload, |_| {}).unwrap_err())
    };
    assert_eq!(
        error("/nowhere/file", None, None),
        "/nowhere/file cannot be opened: No such file or directory (os error 2)"
    );
    assert_eq!(error("/tmp", None, None), "/tmp is not a file; give an image, or - for standard input");
    assert_eq!(
        error("-", None, None),
        "a truncated standard input could not be detected: give --bytes N or --sha256 DIGITS"
    );
    assert_eq!(error("-", None, Some("abc")), "--sha256 abc: give 64 hexadecimal digits");
    assert!(
        error("-", Some(1), None)
            .starts_with("the agent of this node takes no uploads now; run this as root")
    );
}

#[tokio::test]
async fn connections_that_send_nothing_are_bounded_and_do_not_keep_a_sender_out_for_long() {
    let server = Server::new("flood");
    let (socket, image) = (server.socket.clone(), server.node.image.clone());
    let flood = spawn_blocking(move || {
        let mut silent: Vec<_> = (0..200).map(|_| Connection::connect(&socket).unwrap()).collect();
        for connection in &silent {
            connection.set_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        }
        // The first 64 have a place, the last has its refusal.
        let last = silent.pop().map(|mut connection| connection.recv::<Answer>().unwrap());
        assert_eq!(last, Some(Answer::Refused("64 uploads are under way; try again later".into())));
    });
    flood.await.unwrap();
    // Their places are free again as soon as they are gone.
    let mut tries = 0;
    loop {
        let sending = server.send("default/root", &image, None);
        tokio::select! {
            () = server.node.until(is("pvc-1", VolumePhase::Ready)) => {
                assert_eq!(sending.await.unwrap().0.unwrap(), "default/root is filled");
                return;
            }
            () = tokio::time::sleep(std::time::Duration::from_secs(5)) => tries += 1,
        }
        assert!(tries < 6, "no place became free");
    }
}
