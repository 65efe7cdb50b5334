//! A release by URL from servers that fail in the ways servers do: every installation is finished or refused, and the
//! disk is as it was or boots nothing.

mod common;

use common::{FakeTools, ID, Release, SIZE, config, machine, sha256};
use sheaf_host::disk::Disk;
use sheaf_host::fakes::{FakeDisk, FakeMount, FakeVariables};
use sheaf_host::fetch::Http;
use sheaf_installer::execute::{self, DiskState, Env, Failure};
use sheaf_installer::plan::{InstallPlan, ReleaseContents, Role, plan};
use sheaf_installer::progress::Progress;
use sheaf_installer::sources::remote::Remote;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a server does with the file root.erofs.zst.
#[derive(Clone, Copy, Debug)]
enum Mischief {
    None,
    /// The first connections end after so many bytes each.
    CutAfter(usize),
    /// The first connection falls silent after so many bytes.
    StallAfter(usize),
    /// After so many bytes the server is gone for good.
    GoneAfter(usize),
    /// It has one byte less than it should.
    Shorter,
    /// A page in its place.
    Page,
    /// A page of exactly its length.
    LongPage,
    /// A bit of this byte is another.
    Flipped(usize),
    /// It is cut once, and the server always begins at the beginning.
    CutWithoutRanges(usize),
}

struct Server {
    files: BTreeMap<String, Vec<u8>>,
    mischief: Mischief,
    /// How often the image was asked for.
    asked: Mutex<usize>,
}

/// Serves the release folder on a free port; the URL.
fn serve(release: &Release, mischief: Mischief) -> (String, Arc<Server>) {
    let mut files = BTreeMap::new();
    for file in ["root.erofs.zst", "root.verity.zst", "node.efi", "installer.efi", "systemd-bootx64.efi"] {
        files.insert(format!("/{file}"), std::fs::read(release.folder().join(file)).unwrap());
    }
    for entry in std::fs::read_dir(release.folder()).unwrap().flatten() {
        if entry.path().is_file() {
            let name = format!("/{}", entry.file_name().to_string_lossy());
            files.entry(name).or_insert_with(|| std::fs::read(entry.path()).unwrap());
        }
    }
    let root = files.get_mut("/root.erofs.zst").unwrap();
    match mischief {
        Mischief::Shorter => drop(root.pop()),
        Mischief::Page => *root = b"<html>You are not logged in</html>".to_vec(),
        Mischief::LongPage => {
            let length = root.len();
            *root = b"<html>".iter().copied().cycle().take(length).collect();
        }
        Mischief::Flipped(place) => root[place] ^= 1,
        _ => {}
    }
    let server = Arc::new(Server { files, mischief, asked: Mutex::new(0) });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shared = server.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = shared.clone();
            std::thread::spawn(move || answer(&server, stream));
        }
    });
    (url, server)
}

fn answer(server: &Server, mut stream: TcpStream) {
    let mut path = String::new();
    let mut from = 0;
    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
        let Ok(line) = line else { return };
        if let Some(rest) = line.strip_prefix("GET ") {
            path = rest.split(' ').next().unwrap().to_owned();
        }
        if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let Some(file) = server.files.get(&path) else {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        return;
    };
    if matches!(server.mischief, Mischief::CutWithoutRanges(_)) {
        from = 0;
    }
    let rest = &file[from..];
    let head = match from {
        0 => "HTTP/1.1 200 OK\r\n".to_owned(),
        from => {
            format!(
                "HTTP/1.1 206 Partial\r\nContent-Range: bytes {from}-{}/{}\r\n",
                file.len() - 1,
                file.len()
            )
        }
    };
    let head = format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n", rest.len());
    if path != "/root.erofs.zst" {
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(rest));
        return;
    }
    let turn = {
        let mut asked = server.asked.lock().unwrap();
        *asked += 1;
        *asked
    };
    // The first request is that of the check, which reads one frame.
    let sent = match server.mischief {
        Mischief::CutAfter(bytes) if turn < 6 => bytes,
        Mischief::StallAfter(bytes) | Mischief::CutWithoutRanges(bytes) if turn == 2 => bytes,
        Mischief::GoneAfter(bytes) if turn == 2 => bytes,
        Mischief::GoneAfter(_) if turn > 2 => return,
        _ => rest.len(),
    };
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&rest[..sent.min(rest.len())]));
    if matches!(server.mischief, Mischief::StallAfter(_)) && turn == 2 {
        // Until the other side gives up: the read ends when it closes.
        let _ = std::io::Read::read(&mut stream, &mut [0]);
    }
}

/// A disk with marks of an older table at both ends.
fn used_disk() -> FakeDisk {
    let mut mbr = [0; 512];
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    FakeDisk::new("/dev/vda", SIZE).holding(0, &mbr).holding(512, b"EFI PART old")
}

fn planned(release: &Release) -> InstallPlan {
    let contents = ReleaseContents { manifest: &release.manifest, images: &release.images };
    plan(&config(""), &machine(), contents, ID).unwrap()
}

/// Installs from a server that does `mischief`.
fn install(mischief: Mischief) -> (Release, FakeDisk, Result<(), Failure>, usize) {
    let release = Release::new();
    let disk = used_disk();
    let (url, server) = serve(&release, mischief);
    let fetch = Http::silent_for(Duration::from_millis(300));
    let remote = Remote::new(&url, &fetch).with_timeout(Duration::from_secs(1), Duration::from_millis(50));
    let kept = release.dir.path().join("kept");
    let env = Env {
        run: &FakeTools::default(),
        mount: &FakeMount::default(),
        firmware: &FakeVariables::default(),
        disk: &disk,
        data_disks: &[],
        medium: &kept,
        remote: Some(&remote),
        scratch: &release.scratch(),
        node_toml: "version = 1\n",
        progress: &Progress::new(Vec::new()),
    };
    let result = execute::install(&planned(&release), &env).map(drop);
    let asked = *server.asked.lock().unwrap();
    (release, disk, result, asked)
}

fn is_installed(release: &Release, disk: &FakeDisk) -> bool {
    let root = planned(release).layout.partition(Role::RootA).offset;
    let mut bytes = vec![0; release.manifest.root.raw_size as usize];
    disk.read_at(root, &mut bytes).unwrap();
    sha256(&bytes) == release.manifest.root.raw_sha256 && boots(disk)
}

fn boots(disk: &FakeDisk) -> bool {
    let mut mark = [0; 2];
    disk.read_at(510, &mut mark).unwrap();
    mark == [0x55, 0xaa]
}

fn chain(error: &dyn Error) -> String {
    let behind = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", behind.unwrap_or_default())
}

#[test]
fn a_release_is_installed_from_a_server() {
    let (release, disk, result, asked) = install(Mischief::None);
    result.unwrap();
    assert!(is_installed(&release, &disk));
    assert_eq!(asked, 2, "one frame for the check, then all of it");
}

#[test]
fn connections_that_are_cut_go_on_where_they_broke_off() {
    let (release, disk, result, asked) = install(Mischief::CutAfter(1_500_000));
    result.unwrap();
    assert!(is_installed(&release, &disk) && asked > 3, "{asked}");
}

#[test]
fn a_connection_that_stalls_is_given_up_and_taken_up_again() {
    let (release, disk, result, asked) = install(Mischief::StallAfter(2_000_000));
    result.unwrap();
    assert!(is_installed(&release, &disk) && asked == 3, "{asked}");
}

#[test]
fn a_server_without_ranges_is_read_again_from_the_beginning() {
    let (release, disk, result, _) = install(Mischief::CutWithoutRanges(2_000_000));
    result.unwrap();
    assert!(is_installed(&release, &disk));
}

#[test]
fn a_server_that_goes_away_leaves_a_disk_that_boots_nothing() {
    let (_, disk, result, _) = install(Mischief::GoneAfter(2_000_000));
    let failure = result.unwrap_err();
    let said = chain(&failure);
    assert!(
        said.starts_with(
            "write root.erofs.zst (9.4 MB) failed: root.erofs.zst cannot be fetched: http://127.0.0.1:"
        ) && said.contains("/root.erofs.zst broke at byte 2000000 and stalled for 1 s: "),
        "{said}"
    );
    assert!(matches!(failure.disk, DiskState::Wiped));
    assert!(!boots(&disk));
}

#[test]
fn what_is_not_the_image_is_refused_before_the_disk_is_touched() {
    let length = Release::new().manifest.root.size;
    let cases = [
        (
            Mischief::Shorter,
            format!("root.erofs.zst has {} bytes on the server, the manifest says {length}", length - 1),
        ),
        (Mischief::Page, format!("root.erofs.zst has 34 bytes on the server, the manifest says {length}")),
        (
            Mischief::LongPage,
            "frame 1 of 3 does not have the hash in the manifest (it looks like a web page)".to_owned(),
        ),
        (Mischief::Flipped(1000), "frame 1 of 3 does not have the hash in the manifest".to_owned()),
    ];
    for (mischief, what) in cases {
        let (_, disk, result, _) = install(mischief);
        let failure = result.unwrap_err();
        let said = chain(&failure);
        assert!(
            said.contains("root.erofs.zst of the release folder does not match the manifest: "),
            "{said}"
        );
        assert!(said.ends_with(&what), "{mischief:?}: {said}");
        assert!(matches!(failure.disk, DiskState::Untouched), "{mischief:?}");
        assert_eq!(disk.writes(), [], "{mischief:?}");
        assert!(boots(&disk), "{mischief:?}: what was there is still there");
    }
}

#[test]
fn a_bit_that_flips_far_into_the_image_is_found_before_its_frame_is_decoded() {
    let (_, disk, result, _) = install(Mischief::Flipped(4_500_000));
    let failure = result.unwrap_err();
    assert!(chain(&failure).ends_with("does not have the hash in the manifest"), "{}", chain(&failure));
    assert!(matches!(failure.disk, DiskState::Wiped));
    assert!(!boots(&disk));
}
