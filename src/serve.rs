//! Serves one folder to machines that boot, or one file to nodes, by HTTP and TFTP; and node configs by HTTPS, each to
//! one machine.
//!
//! Why own: an installation on the spot needs no more than two small protocols, and nothing that could be configured
//! wrongly. Nothing outside the folder can be named, and nothing can be written.
//! Route in: a folder or a file, an address, a config. Route out: files, and a line for each request on standard error.

mod configs;
#[cfg(test)]
mod fuzz;
mod http;
mod tftp;
mod tls;

pub use configs::{Configs, PATH as CONFIG_PATH};
pub use tls::Identity;

use anyhow::{Context as _, Result};
use http::Site;
use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Connections of each kind at a time, each with a thread: a rack that is switched on at once, and no more.
const MOST: usize = 64;
/// Between two tries to take a connection when the system has no room for it.
const PAUSE: Duration = Duration::from_millis(100);

/// The servers, at their sockets.
pub struct Server {
    folder: PathBuf,
    http: TcpListener,
    tftp: Option<UdpSocket>,
    configs: Option<(TcpListener, Identity, Configs)>,
}

impl Server {
    /// Takes the sockets. Port 0 takes any that is free; without a TFTP port there is no TFTP.
    pub fn bind(folder: &Path, http: SocketAddr, tftp: Option<u16>) -> Result<Self> {
        let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
        let udp = |port| {
            UdpSocket::bind(SocketAddr::new(http.ip(), port)).with_context(|| {
                format!(
                    "TFTP cannot be served at {} port {port}; run as root, or choose --tftp none if no machine \
                     boots by its NIC's own PXE",
                    http.ip()
                )
            })
        };
        Ok(Self { folder, http: tcp(http, "--listen")?, tftp: tftp.map(udp).transpose()?, configs: None })
    }

    /// Also serves `configs` by HTTPS, at `port` of the same address. Gives the port and the SHA-256 of the
    /// certificate.
    pub fn with_configs(&mut self, port: u16, configs: Configs) -> Result<(u16, String)> {
        let listener = tcp(SocketAddr::new(self.http()?.ip(), port), "--config-port")?;
        let identity = Identity::generate()?;
        let pin = identity.fingerprint();
        let port = listener.local_addr()?.port();
        self.configs = Some((listener, identity, configs));
        Ok((port, pin))
    }

    /// Where HTTP is served.
    pub fn http(&self) -> Result<SocketAddr> {
        Ok(self.http.local_addr()?)
    }

    /// Where TFTP is served.
    pub fn tftp(&self) -> Result<Option<SocketAddr>> {
        Ok(self.tftp.as_ref().map(UdpSocket::local_addr).transpose()?)
    }

    /// Serves until the process ends.
    pub fn run(self) -> Result<()> {
        let folder: Box<Path> = self.folder.into();
        if let Some(socket) = self.tftp {
            let folder: Arc<Path> = folder.clone().into();
            thread::spawn(move || tftp::serve(&socket, &Slots::default(), &folder));
        }
        if let Some((listener, identity, configs)) = self.configs {
            thread::spawn(move || listen(&listener, &Slots::default(), Some(&identity), &Arc::new(configs)));
        }
        listen(&self.http, &Slots::default(), None, &Arc::new(folder));
        Ok(())
    }
}

fn tcp(address: SocketAddr, argument: &str) -> Result<TcpListener> {
    TcpListener::bind(address)
        .with_context(|| format!("cannot listen at {address}; choose another {argument}"))
}

/// Answers every connection, each in a thread of its own, at most [`MOST`] at a time.
fn listen<S: Site + 'static>(listener: &TcpListener, slots: &Slots, tls: Option<&Identity>, site: &Arc<S>) {
    loop {
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            // Out of descriptors, or the client has gone: neither is a reason to stop serving.
            Err(error) => {
                eprintln!("a connection cannot be accepted: {error}");
                #[allow(clippy::disallowed_methods)]
                // nothing to wait for: descriptors come back by themselves
                thread::sleep(PAUSE);
                continue;
            }
        };
        let Some(slot) = slots.take() else {
            report(peer.ip(), "connection", "refused, too many connections");
            continue;
        };
        let (site, tls) = (site.clone(), tls.cloned());
        thread::spawn(move || {
            let _slot = slot;
            // A client that goes away is no concern of ours.
            let _ = match tls {
                None => http::converse(&mut &stream, &stream, peer.ip(), &*site),
                Some(identity) => identity
                    .accept(&stream)
                    .and_then(|mut secure| http::converse(&mut secure, &stream, peer.ip(), &*site)),
            };
        });
    }
}

/// Room for [`MOST`] connections.
#[derive(Clone, Default)]
struct Slots(Arc<AtomicUsize>);

/// Room for one connection, until it is dropped.
struct Slot(Arc<AtomicUsize>);

impl Slots {
    /// Room for one more; none when all is taken.
    fn take(&self) -> Option<Slot> {
        let more = |taken| (taken < MOST).then_some(taken + 1);
        let taken = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.is_ok().then(|| Slot(self.0.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The file that `path` names below `folder`: a plain file, however the path is written; none for anything else.
fn find(folder: &Path, path: &str) -> Option<(File, u64)> {
    let relative = Path::new(path.trim_start_matches('/'));
    // No way up, and no way out by a link.
    let inside = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    // Of one file that is served alone its neighbours are not.
    let served = if folder.is_file() { folder.parent()? } else { folder };
    let file = served.join(relative).canonicalize().ok().filter(|file| inside && file.starts_with(folder))?;
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some((File::open(file).ok()?, metadata.len()))
}

/// Shows the operator what was asked for and what was answered.
fn report(peer: IpAddr, request: &str, answer: &str) {
    // What comes from the network must not control the terminal.
    let plain: String = request.chars().filter(|c| !c.is_control()).take(200).collect();
    eprintln!("{peer} {plain}: {answer}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    #[test]
    fn only_files_inside_the_folder_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("served");
        fs::create_dir_all(folder.join("sheaf")).unwrap();
        fs::write(folder.join("sheaf/a"), "inside").unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), folder.join("link")).unwrap();
        let folder = folder.canonicalize().unwrap();
        for path in ["/sheaf/a", "sheaf/a", "//sheaf//a", "./sheaf/./a"] {
            assert_eq!(find(&folder, path).unwrap().1, 6, "{path}");
        }
        let alone = folder.join("sheaf/a");
        assert_eq!(find(&alone, "/a").unwrap().1, 6);
        fs::write(folder.join("sheaf/ab"), "beside").unwrap();
        for path in ["/ab", "/sheaf/a", "/", "/a/b"] {
            assert!(find(&alone, path).is_none(), "{path}");
        }
        for path in
            ["../secret", "/../secret", "sheaf/../../secret", "link", "sheaf", "", "none", "sheaf/a/b"]
        {
            assert!(find(&folder, path).is_none(), "{path}");
        }
    }

    #[test]
    fn a_flood_of_connections_takes_no_more_than_64_threads_and_leaves_room_when_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "0123456789").unwrap();
        let folder: Box<Path> = dir.path().canonicalize().unwrap().into();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, slots) = (listener.local_addr().unwrap(), Slots::default());
        let taken = slots.0.clone();
        thread::spawn(move || listen(&listener, &slots, None, &Arc::new(folder)));
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"GET /a HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let held: Vec<_> = (0..MOST).map(|_| TcpStream::connect(address).unwrap()).collect();
        let full = || (taken.load(Ordering::Acquire) == MOST).then_some(());
        sheaf_host::wait::until(Duration::from_secs(10), PAUSE, full).expect("the slots are not all taken");
        assert!(!ask().is_ok_and(|answer| answer.contains("0123456789")), "one more than {MOST} was served");
        drop(held);
        let free = || (taken.load(Ordering::Acquire) == 0).then_some(());
        sheaf_host::wait::until(Duration::from_secs(10), PAUSE, free).expect("the slots are not free again");
        assert!(ask().unwrap().ends_with("0123456789"));
    }
}
