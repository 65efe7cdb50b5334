//! A registry of the OCI distribution specification: distribution's own, built from its Go module (`tests/registry/`).
//!
//! Why here: container disks are pulled from what people run, over its real protocol. Route in: disks, and the names under
//! which they are pushed. Route out: a port of this machine, which nodes reach at 10.0.2.2; the registry ends with its [`Registry`].

use crate::go;
use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use sheaf_host::run::{Command, Run as _, System};
use sheaf_host::wait::until;
use sheaf_machine::ports;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

/// Longest wait for its first answer.
const START: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Timeout of a push, of a disk that is packed.
const PUSH: Duration = Duration::from_secs(300);

/// A registry that answers.
pub struct Registry {
    folder: tempfile::TempDir,
    child: Child,
    port: u16,
}

impl Registry {
    /// Starts an empty one.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = ports::free_port()?;
        let config = folder.path().join("config.yml");
        let at = folder.path().display();
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {at}/blobs}}}}\n\
                 http: {{addr: '127.0.0.1:{port}'}}\n"
            ),
        )?;
        let program = go::program("registry", "")?;
        let serve = Command::new(program).arg("serve").arg(&config).log(folder.path().join("log"));
        let registry = Self { child: System.start(&serve)?, port, folder };
        let answers = || registry.curl(&["-o", "/dev/null", &registry.url("")]).ok();
        let answers = until(START, LOOK, answers);
        answers.with_context(|| format!("the registry does not answer: {}", registry.log()))?;
        Ok(registry)
    }

    /// Where a node's machine finds it.
    pub fn mirror(&self) -> String {
        format!("http://10.0.2.2:{}", self.port)
    }

    /// What it was asked for.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// Pushes a container disk: `disk` as the one file in `/disk` of `repository:tag`.
    pub fn push(&self, repository: &str, tag: &str, disk: &Path) -> Result<()> {
        let name = disk.file_name().context("a disk has a name")?.to_string_lossy();
        self.push_files(repository, tag, &[(&format!("disk/{name}"), disk)])
    }

    /// Pushes an image of one layer with `files`, each under its path in the image.
    pub fn push_files(&self, repository: &str, tag: &str, files: &[(&str, &Path)]) -> Result<()> {
        let (layer, tree) =
            (self.folder.path().join("layer.tar.gz"), tempfile::tempdir_in(self.folder.path())?);
        for (path, file) in files {
            let to = tree.path().join(path);
            fs::create_dir_all(to.parent().context("a folder")?)?;
            let copy = Command::new("cp").arg("--reflink=auto").arg(file).arg(&to).deadline(PUSH);
            System.run(&copy)?;
        }
        let pack = Command::new("tar").args(["--create", "--gzip", "--file"]).arg(&layer);
        System.run(&pack.arg("-C").arg(tree.path()).arg(".").deadline(PUSH))?;
        let (layer_digest, layer_bytes) = self.blob(repository, &layer)?;
        let config = self.folder.path().join("config.json");
        fs::write(
            &config,
            r#"{"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}"#,
        )?;
        let (config_digest, config_bytes) = self.blob(repository, &config)?;
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": kind,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config_bytes},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer_digest, "size": layer_bytes}],
        });
        let file = self.folder.path().join("manifest.json");
        fs::write(&file, manifest.to_string())?;
        self.put(&self.url(&format!("{repository}/manifests/{tag}")), kind, &file)
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/v2/{path}", self.port)
    }

    /// Uploads a file as one blob; its digest and length.
    fn blob(&self, repository: &str, file: &Path) -> Result<(String, u64)> {
        let bytes = fs::read(file)?;
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = format!("sha256:{digest}");
        let begin = self.url(&format!("{repository}/blobs/uploads/"));
        let place = self.curl(&["-X", "POST", "-o", "/dev/null", "-w", "%header{location}", &begin])?;
        self.put(&format!("{place}&digest={digest}"), "application/octet-stream", file)?;
        Ok((digest, bytes.len() as u64))
    }

    fn put(&self, url: &str, kind: &str, file: &Path) -> Result<()> {
        let body = format!("@{}", file.display());
        let kind = format!("Content-Type: {kind}");
        self.curl(&["-X", "PUT", "-H", &kind, "--data-binary", &body, url]).map(drop)
    }

    fn curl(&self, arguments: &[&str]) -> Result<String> {
        let curl =
            Command::new("curl").args(["-sS", "--fail", "--noproxy", "*"]).args(arguments).deadline(PUSH);
        Ok(System.run(&curl)?.text().trim().to_owned())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // A case that failed has its own error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
