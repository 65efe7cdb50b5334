//! Serves one folder to machines that boot, or one file to nodes: HTTP and TFTP, read-only.
//!
//! Why own: an installation on the spot needs no more than two small protocols, and nothing that could be configured
//! wrongly. Nothing outside the folder can be named, and nothing can be written.
//! Route in: a folder or a file, and an address. Route out: files, and a line for each request on standard error.

mod http;
mod tftp;

use anyhow::{Context as _, Result};
use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread;

/// Both servers, at their sockets.
pub struct Server {
    folder: PathBuf,
    http: TcpListener,
    tftp: Option<UdpSocket>,
}

impl Server {
    /// Takes the sockets. Port 0 takes any that is free; without a TFTP port there is no TFTP.
    pub fn bind(folder: &Path, http: SocketAddr, tftp: Option<u16>) -> Result<Self> {
        let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
        let listener = TcpListener::bind(http)
            .with_context(|| format!("HTTP can not be served at {http}; choose another --listen"))?;
        let udp = |port| {
            UdpSocket::bind(SocketAddr::new(http.ip(), port)).with_context(|| {
                format!(
                    "TFTP can not be served at {} port {port}; run as root, or choose --tftp none if no machine \
                     boots by its card's own PXE",
                    http.ip()
                )
            })
        };
        Ok(Self { folder, http: listener, tftp: tftp.map(udp).transpose()? })
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
        let folder: Arc<Path> = self.folder.into();
        if let Some(socket) = self.tftp {
            let folder = folder.clone();
            thread::spawn(move || tftp::serve(&socket, &folder));
        }
        http::serve(&self.http, &folder)
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

/// Tells the operator what was asked for and what was given.
fn told(peer: IpAddr, request: &str, answer: &str) {
    // What comes from the network shall not write on a terminal.
    let plain: String = request.chars().filter(|c| !c.is_control()).take(200).collect();
    eprintln!("{peer} {plain}: {answer}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
}
