//! What is refused, each with its exact message, over a real folder that a real server of files serves: no byte of a slot is
//! written, and nothing is kept.

use super::*;
use crate::update::bundle::BundleError;
use minisign::KeyPair;
use sheaf_config::manifest::StateFormat;
use sheaf_host::fetch::Http;
use sheaf_release::keys::{Chain, FORMAT, Keys, Signed};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder served over HTTP, with ranges, until the test ends.
pub struct FileServer {
    pub url: String,
}

impl FileServer {
    pub fn of(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let folder = folder.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that hangs up early needs no answer.
                let _ = serve(stream, &folder);
            }
        });
        Self { url }
    }
}

fn serve(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut from = 0;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap_or(0);
        }
    }
    let file = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let Ok(bytes) = fs::read(folder.join(file)) else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let rest = bytes.get(from..).unwrap_or_default();
    let (status, range) = match from {
        0 => ("200 OK", String::new()),
        from => {
            let total = bytes.len();
            ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1))
        }
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{range}Connection: close\r\n\r\n",
        rest.len()
    )?;
    stream.write_all(rest)
}

/// A partition that counts what is written to it.
pub struct Counted(RawDisk, Arc<AtomicU64>);

impl Disk for Counted {
    fn path(&self) -> &Path {
        self.0.path()
    }
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn number(&self) -> Option<String> {
        self.0.number()
    }
    fn hold(&self, hold: sheaf_host::disk::Hold) -> Result<(), DiskError> {
        self.0.hold(hold)
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.1.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.0.write_at(offset, bytes)
    }
    fn sync(&self) -> Result<(), DiskError> {
        self.0.sync()
    }
}

/// A node that is asked for 0.2.0, whose folder a server has.
struct Case {
    world: World,
    folder: tempfile::TempDir,
    server: FileServer,
    wanted: Wanted,
    observed: Observed,
    written: Arc<AtomicU64>,
}

impl Case {
    /// The manifest is `changed` before it is signed.
    fn new(changed: impl FnOnce(&mut Manifest)) -> Self {
        let world = World::serving(true, changed);
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in &world.releases["0.2.0"].files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let server = FileServer::of(folder.path());
        let wanted = Wanted { source: Some(Place::Url(server.url.clone())), ..wanted() };
        let observed = world.observed();
        Self { world, folder, server, wanted, observed, written: Arc::default() }
    }

    /// `file` of the folder is `changed` on the server.
    fn damaged(self, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let path = self.folder.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
        self
    }

    fn wanting(mut self, change: impl FnOnce(&mut Wanted)) -> Self {
        change(&mut self.wanted);
        self
    }

    fn on(mut self, change: impl FnOnce(&mut Observed)) -> Self {
        change(&mut self.observed);
        self
    }

    async fn run(&self) -> anyhow::Result<()> {
        let mut env = self.world.env(self.observed.clone());
        env.hosts.fetch = Arc::new(Http::default());
        let written = self.written.clone();
        env.hosts.open = Arc::new(move |path| Ok(Box::new(Counted(RawDisk::open(path)?, written.clone()))));
        let Plan::Work(Phase::Checking, steps) = plan(&self.observed, Some(&self.wanted)) else {
            panic!("it is judged first: {:?}", plan(&self.observed, Some(&self.wanted)));
        };
        apply::all(env, steps).await
    }

    /// It fails with exactly `message` (`URL` for the server's), as a refusal or to be tried again.
    async fn fails(self, message: &str, is_refusal: bool) {
        let partitions = [Slot::A, Slot::B].map(|slot| {
            let (root, tree) = self.world.machine().partitions(self.world.root.path(), slot);
            [root, tree]
        });
        let slots =
            || partitions.as_flattened().iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
        let before = (slots(), self.world.esp.files());
        let error = self.run().await.expect_err(message);
        let said = format!("{error:#}").replace(&self.server.url, "URL");
        let said = said.strip_prefix("cannot fetch and judge release 0.2.0 at URL: ").unwrap_or(&said);
        assert_eq!(said, message);
        let refused = error
            .chain()
            .any(|cause| cause.downcast_ref::<BundleError>().is_some_and(BundleError::is_refusal));
        assert_eq!(refused, is_refusal, "{message}");
        assert_eq!(self.written.load(Ordering::Relaxed), 0, "{message}: bytes were written to a slot");
        assert!((slots(), self.world.esp.files()) == before, "{message}: something was written");
        assert_eq!((self.world.observed().kept, self.world.observed().seen), (None, None), "{message}");
    }

    async fn refused(self, message: &str) {
        self.fails(message, true).await;
    }
}

fn terms(change: impl FnOnce(&mut Terms)) -> Case {
    Case::new(|manifest| change(&mut manifest.terms))
}

#[tokio::test]
async fn a_release_that_fits_is_taken_and_no_slot_is_written_by_judging_it() {
    let case = terms(|terms| {
        *terms = Terms {
            expires: Some(NOW + 1),
            channel: Some("stable".into()),
            floor: Some("0.1.0".into()),
            min_from: Some("0.1.0".into()),
            state: STATE,
            kubernetes: Some("1.38.0".into()),
        }
    })
    .wanting(|wanted| wanted.channel = Some("stable".into()));
    case.run().await.unwrap();
    assert_eq!(case.written.load(Ordering::Relaxed), 0);
    assert_eq!(case.world.observed().kept.unwrap().manifest.version, "0.2.0");
    assert_eq!(case.world.observed().seen.unwrap().expires, Some(NOW + 1));
}

#[tokio::test]
async fn a_release_that_another_key_signed_or_that_was_changed_is_refused() {
    let case = Case::new(|_| ());
    let other = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let key = other.pk.to_box().unwrap().into_string();
    fs::write(case.world.root.path().join("release.pub"), key).unwrap();
    case.refused(
        "URL: manifest.json does not verify with this node's key (another key signed it); take a release that is signed with the keys \
         of the one that runs",
    )
    .await;
    let changed = Case::new(|_| ()).damaged("manifest.json", |bytes| bytes[20] ^= 1);
    changed
        .refused(
            "URL: manifest.json does not verify with this node's key (the signature is not of these bytes); take a release \
             that is signed with the keys of the one that runs",
        )
        .await;
    let truncated = Case::new(|_| ()).damaged("manifest.json", |bytes| bytes.truncate(100));
    truncated
        .refused(
            "URL: manifest.json does not verify with this node's key (the signature is not of these bytes); take a release \
             that is signed with the keys of the one that runs",
        )
        .await;
}

#[tokio::test]
async fn an_expired_release_is_refused_and_one_that_expires_waits_for_the_clock() {
    terms(|terms| terms.expires = Some(NOW))
        .refused("0.2.0 expired at 2027-01-15T08:00:00Z; take a newer release, or this one signed again")
        .await;
    terms(|terms| terms.expires = Some(NOW))
        .on(|observed| observed.clock = None)
        .fails(
            "0.2.0 expires at 2027-01-15T08:00:00Z, and the clock of this node is not synchronised yet; it is judged again \
             when a time server (network.ntp in node.toml) has answered",
            false,
        )
        .await;
    // One that does not expire needs no clock.
    Case::new(|_| ()).on(|observed| observed.clock = None).run().await.unwrap();
}

#[tokio::test]
async fn an_older_release_and_one_that_leaves_others_out_are_refused() {
    Case::new(|_| ())
        .on(|observed| observed.floor = Some("0.3.0".into()))
        .refused("0.2.0 is older than 0.3.0, the newest version that was found good here; take 0.3.0 or a newer one")
        .await;
    terms(|terms| terms.min_from = Some("0.1.5".into()))
        .refused("0.2.0 updates from 0.1.5 or newer, this node runs 0.1.0; update to 0.1.5 first")
        .await;
}

#[tokio::test]
async fn a_release_of_another_kind_is_refused() {
    Case::new(|manifest| manifest.name = "sheaf-metal".into())
        .refused(
            "the release is called sheaf-metal, this node runs sheaf; take the URL of a release of sheaf",
        )
        .await;
    Case::new(|manifest| manifest.arch = "arm64".into())
        .refused("the release is for arm64, this node is amd64; take the URL of a release for amd64")
        .await;
    Case::new(|manifest| manifest.version = "0.2.1".into())
        .refused("the folder holds version 0.2.1, and 0.2.0 is wanted; correct the version or the source")
        .await;
    let stable = |wanted: &mut Wanted| wanted.channel = Some("stable".into());
    terms(|terms| terms.channel = Some("edge".into()))
        .wanting(stable)
        .refused("0.2.0 is of the channel edge, and the channel stable is wanted; take a release of stable, or change channel")
        .await;
    Case::new(|_| ())
        .wanting(stable)
        .refused("0.2.0 is of no channel, and the channel stable is wanted; take a release of stable, or change channel")
        .await;
}

#[tokio::test]
async fn a_release_that_could_not_use_the_nodes_state_or_leave_it_usable_is_refused() {
    terms(|terms| terms.state = StateFormat { writes: 3, reads: (2, 3) })
        .refused(
            "0.2.0 reads formats 2 to 3 of /state, this node has format 1; update to a release between the two first",
        )
        .await;
    terms(|terms| terms.state = StateFormat { writes: 2, reads: (1, 2) })
        .refused(
            "0.2.0 writes format 2 of /state, and 0.1.0, which runs, reads format 1: it could not be gone back to; update to \
             a release between the two first",
        )
        .await;
}

#[tokio::test]
async fn a_release_that_skips_a_minor_version_of_kubernetes_is_refused() {
    for (kubernetes, fits) in
        [("1.39.0", false), ("1.35.9", false), ("2.37.0", false), ("1.38.9", true), ("1.36.0", true)]
    {
        let case = terms(|terms| terms.kubernetes = Some(kubernetes.into()));
        if fits {
            case.run().await.unwrap();
            continue;
        }
        case.refused(&format!(
            "0.2.0 carries Kubernetes {kubernetes}, this node runs 1.37.2: minor versions of Kubernetes are not skipped; \
             update to a release between the two first"
        ))
        .await;
    }
}

#[tokio::test]
async fn an_older_manifest_of_the_same_version_is_refused_and_a_later_one_is_taken() {
    let seen = |expires| Some(crate::update::records::Seen { version: "0.2.0".into(), created: 0, expires });
    let replayed =
        terms(|terms| terms.expires = Some(NOW + 1)).on(|observed| observed.seen = seen(Some(NOW + 86_400)));
    replayed
        .refused(
            "the manifest of 0.2.0 at this source is older than the one that this node has seen: made 1970-01-01T00:00:00Z, \
             expires 2027-01-15T08:00:01Z, it was 1970-01-01T00:00:00Z, expires 2027-01-16T08:00:00Z; copy the newest folder \
             of this release to the source, and look for a cache that keeps the old one",
        )
        .await;
    let signed_again =
        terms(|terms| terms.expires = Some(NOW + 86_400)).on(|observed| observed.seen = seen(Some(NOW + 1)));
    signed_again.run().await.unwrap();
    // Another version was seen: it says nothing of this one.
    let other = Case::new(|_| ()).on(|observed| {
        observed.seen =
            seen(Some(NOW)).map(|seen| crate::update::records::Seen { version: "0.1.9".into(), ..seen })
    });
    other.run().await.unwrap();
}

#[tokio::test]
async fn files_that_are_not_what_the_manifest_says_are_refused() {
    let page = |bytes: &mut Vec<u8>| *bytes = b"<!doctype html><title>Sign in</title>".to_vec();
    Case::new(|_| ())
        .damaged("manifest.json", page)
        .fails(
            "URL/manifest.json is a web page: the folder has another URL, or a proxy answers in the server's place",
            false,
        )
        .await;
    let size = release("0.2.0").manifest.root.size;
    let other = |bytes: usize| {
        format!(
            "root.erofs.zst does not match the manifest: URL/root.erofs.zst has {bytes} bytes on the server, the manifest \
             says {size}"
        )
    };
    Case::new(|_| ()).damaged("root.erofs.zst", page).refused(&other(37)).await;
    Case::new(|_| ()).damaged("root.erofs.zst", |bytes| bytes.truncate(100)).refused(&other(100)).await;
    Case::new(|_| ())
        .damaged("root.verity.zst", |bytes| bytes[4] ^= 1)
        .refused("root.verity.zst does not match the manifest: frame 1 of 1 does not have the hash in the manifest")
        .await;
    Case::new(|_| ())
        .damaged("node.efi", |bytes| bytes.push(0))
        .refused(
            "node.efi does not match the manifest: URL/node.efi has 16 bytes on the server, the manifest says 15; copy the \
             whole folder of one release to the server again",
        )
        .await;
    Case::new(|_| ())
        .damaged("node.efi", |bytes| bytes[0] ^= 1)
        .refused(
            "node.efi does not match the manifest: it has another SHA-256; copy the whole folder of one release to the \
             server again",
        )
        .await;
    Case::new(|manifest| manifest.root.raw_size = 1 << 40)
        .refused("its root has 1099511627776 bytes, the partition 262144; install the node again with a newer medium")
        .await;
    Case::new(|manifest| manifest.verity.raw_size = 1 << 20)
        .refused("its hash tree has 1048576 bytes, the partition 32768; install the node again with a newer medium")
        .await;
}

#[tokio::test]
async fn a_release_that_forbids_going_back_does_so_once_it_was_found_good() {
    let mut world = World::serving(true, |manifest| manifest.terms.floor = Some("0.2.0".into()));
    world.work(&wanted(), usize::MAX).await;
    assert_eq!(world.boot(), "0.2.0");
    assert_eq!(world.observed().oldest, None, "it is on trial");
    world.finish(&wanted(), "an update").await;
    assert_eq!(world.observed().oldest.as_deref(), Some("0.2.0"));
    let back = Wanted { version: "0.1.0".into(), source: None, ..wanted() };
    let why = "0.1.0 is older than 0.2.0: a release that was found good here forbids going back behind that; take 0.2.0 or a \
               newer one";
    assert_eq!(plan(&world.observed(), Some(&back)), Plan::Settled(Phase::Refused, why.into()));
}

#[tokio::test]
async fn a_release_that_expires_after_it_was_staged_is_applied() {
    let world = World::serving(true, |manifest| manifest.terms.expires = Some(NOW + 1));
    let stage = Wanted { action: Action::Stage, ..wanted() };
    world.work(&stage, usize::MAX).await;
    let later = Observed { clock: Some(NOW + 86_400), ..world.observed() };
    let Plan::Work(Phase::Restarting, _) = plan(&later, Some(&wanted())) else {
        panic!("{:?}", plan(&later, Some(&wanted())));
    };
    // What is only fetched is judged again.
    let mut fetched = later;
    fetched.kept.as_mut().unwrap().fetched.staged = false;
    let expired = "0.2.0 expired at 2027-01-15T08:00:01Z; take a newer release, or this one signed again";
    assert_eq!(plan(&fetched, Some(&wanted())), Plan::Settled(Phase::Refused, expired.into()));
    fetched.clock = None;
    assert!(matches!(plan(&fetched, Some(&wanted())), Plan::Work(Phase::Checking, _)));
}

fn pair() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().unwrap()
}

fn signatures(bytes: &[u8], by: &[&KeyPair]) -> String {
    by.iter().map(|pair| minisign::sign(None, &pair.sk, bytes, None, None).unwrap().into_string()).collect()
}

/// A version of the list of keys.
fn version(version: u64, threshold: usize, of: &[&KeyPair], by: &[&KeyPair]) -> Signed {
    let keys = of.iter().map(|pair| pair.pk.to_base64()).collect();
    let keys = serde_json::to_string(&Keys { format: FORMAT, version, threshold, keys }).unwrap();
    Signed { signatures: signatures(keys.as_bytes(), by), keys }
}

/// A node whose root has the list `known`, asked to take a release with the list `brought` that `by` signed.
fn keyed(known: &[Signed], brought: Option<&[Signed]>, by: &[&KeyPair]) -> Case {
    let case = Case::new(|_| ());
    let list = |versions: &[Signed]| serde_json::to_vec(&Chain(versions.to_vec())).unwrap();
    fs::write(case.world.root.path().join("keys.json"), list(known)).unwrap();
    if let Some(brought) = brought {
        fs::write(case.folder.path().join("keys.json"), list(brought)).unwrap();
    }
    let manifest = fs::read(case.folder.path().join("manifest.json")).unwrap();
    fs::write(case.folder.path().join("manifest.json.minisig"), signatures(&manifest, by)).unwrap();
    case
}

#[tokio::test]
async fn a_release_brings_the_keys_that_signed_it_and_is_kept_with_them() {
    let [a, b, c] = [pair(), pair(), pair()];
    let one = version(1, 1, &[&a], &[&a]);
    let two = version(2, 2, &[&b, &c], &[&a, &b, &c]);
    let case = keyed(std::slice::from_ref(&one), Some(&[one.clone(), two]), &[&b, &c]);
    case.run().await.unwrap();
    assert_eq!(case.written.load(Ordering::Relaxed), 0);
    assert_eq!(
        case.world.observed().kept.unwrap().manifest.version,
        "0.2.0",
        "after a restart of the agent too"
    );
}

#[tokio::test]
async fn a_release_whose_keys_do_not_follow_those_of_the_running_root_is_refused() {
    let [a, b, c, foreign] = [pair(), pair(), pair(), pair()];
    let one = version(1, 1, &[&a], &[&a]);
    let two = version(2, 2, &[&b, &c], &[&a, &b, &c]);
    let old = std::slice::from_ref(&one);
    let both = [one.clone(), two.clone()];
    let remedy = "; take a release that is signed with the keys of the one that runs";
    let refused = async |case: Case, why: &str| case.refused(&format!("URL: {why}{remedy}")).await;
    refused(
        keyed(old, Some(&both), &[&b]),
        "manifest.json has 1 of 2 signatures by the keys that this node trusts (version 2)",
    )
    .await;
    let unknown = sheaf_release::keys::id(&foreign.pk.to_base64());
    refused(
        keyed(old, Some(&both), &[&c, &foreign]),
        &format!(
            "manifest.json has 1 of 2 signatures by the keys that this node trusts (version 2); not among them: {unknown}"
        ),
    )
    .await;
    let forged = version(2, 1, &[&foreign], &[&foreign]);
    refused(
        keyed(old, Some(&[one.clone(), forged]), &[&foreign]),
        "keys.json: version 2 has 0 of 1 signatures by the keys of version 1",
    )
    .await;
    refused(
        keyed(&both, Some(old), &[&a, &b, &c]),
        "keys.json ends with version 1, and version 2 is known here already",
    )
    .await;
    refused(
        keyed(&both, None, &[&b, &c]),
        "there is no keys.json, and this node knows version 2 of it already",
    )
    .await;
    refused(
        keyed(old, Some(&[version(1, 1, &[&foreign], &[&foreign])]), &[&foreign]),
        "keys.json: version 1 is another one than the one that is known here",
    )
    .await;
    let page = keyed(old, Some(&both), &[&b, &c]).damaged("keys.json", |bytes| *bytes = b"{}".to_vec());
    refused(page, "keys.json is not understood (invalid type: map, expected a sequence at line 1 column 0)")
        .await;
}
