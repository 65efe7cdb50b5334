//! An image to a node and a disk from it, in MB/s, beside curl and a server that does nothing else.
//!
//! Why here: an upload passes sheaf-controller and the agent and is written; an export is read, compared and sent the same way. The
//! control plane is the real one; controller and agent are their own code in this program, volumes are files. Route in: a raw image
//! of noise. Route out: MB/s, of one transfer each.

use crate::Report;
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use sheaf_api::cdi::DataVolumePhase;
use sheaf_api::vm_export::{ExportPhase, Format, VirtualMachineExport};
use sheaf_fuzz::Random;
use sheaf_host::run::{Command, Run as _, System};
use sheaf_tests::controlled::wait;
use sheaf_tests::harness::{Case, Server};
use sheaf_tests::played_pool::PlayedPool;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

/// MiB of the image and of the disk.
const SIZE: u64 = 256;
/// MiB of the pool.
const POOL: u64 = 1024;
/// One transfer.
const TIMEOUT: Duration = Duration::from_secs(600);

impl Report {
    /// The section of this file.
    pub fn transfer(&mut self, _case: &Case) -> Result<()> {
        self.head(
            "Upload and export, beside curl",
            "curl --request POST --upload-file IMAGE https://PROXY/v1beta1/upload-async; curl --output /dev/null LINK; the same by http \
             to and from a server in this program. Controller and agent built as tests are",
            "what | MB/s | a server that does nothing else, MB/s | ÷",
        );
        let [upload, export] = tokio::runtime::Runtime::new()?.block_on(measure())?;
        for (what, (ours, plain)) in [("upload, raw", upload), ("export, raw", export)] {
            let what = format!("{what}, {SIZE} MiB");
            self.row(&[
                &what,
                &format!("{ours:.0}"),
                &format!("{plain:.0}"),
                &format!("{:.2}", ours / plain),
            ]);
        }
        Ok(())
    }
}

/// Of upload and export: ours and the plain one, MB/s.
async fn measure() -> Result<[(f64, f64); 2]> {
    let pool = PlayedPool::start(POOL).await?;
    let mut random = Random::new(1);
    let bytes: Vec<u8> = (0..SIZE << 20).map(|_| random.byte()).collect();
    let image = pool.file("image.raw", &bytes)?;

    pool.asked("disk", SIZE).await?;
    let (proxy, token) = (pool.proxy().await?, pool.token("disk").await?);
    let authorization = format!("Authorization: Bearer {token}");
    let url = format!("https://{proxy}/v1beta1/upload-async");
    let ours = upload(&image, &["--insecure", "--header", &authorization], &url)?;
    pool.phase("disk", DataVolumePhase::Succeeded).await?;
    let plain = upload(&image, &[], &sink()?)?;

    let kind = "VirtualMachineExport";
    pool.on
        .make::<VirtualMachineExport>(json!({
            "apiVersion": "export.kubevirt.io/v1", "kind": kind, "metadata": {"name": "away"},
            "spec": {"source": {"apiGroup": "", "kind": "PersistentVolumeClaim", "name": "disk"}},
        }))
        .await?;
    let status = wait("the export is Ready", async || {
        let status = pool.on.here::<VirtualMachineExport>().get("away").await?.status;
        Ok(status.filter(|status| status.phase == Some(ExportPhase::Ready)))
    })
    .await?;
    let secret = pool.on.here::<Secret>().get(&status.token_secret_ref.context("a Secret")?).await?;
    let token = secret.data.and_then(|mut data| data.remove("token")).context("a token")?;
    let header = format!("x-kubevirt-export-token: {}", String::from_utf8(token.0)?);
    let link = status.links.and_then(|links| links.external).context("a link")?;
    let authority = pool.file("authority.pem", link.cert.as_bytes())?.display().to_string();
    let volume = link.volumes.first().context("a volume")?;
    let raw = volume.formats.iter().find(|one| one.format == Format::Raw).context("the format raw")?;
    let exported = download(&["--cacert", &authority, "--header", &header], &raw.url)?;
    let server = Server::start(bytes)?;
    // Its URL is for machines.
    let url = server.url().replace("10.0.2.2", "127.0.0.1");
    Ok([(ours, plain), (exported, download(&[], &url)?)])
}

fn upload(image: &Path, words: &[&str], url: &str) -> Result<f64> {
    let curl = curl(words).args(["--request", "POST", "--upload-file"]).arg(image).arg(url);
    timed(&curl)
}

fn download(words: &[&str], url: &str) -> Result<f64> {
    timed(&curl(words).args(["--output", "/dev/null"]).arg(url))
}

fn curl(words: &[&str]) -> Command {
    Command::new("curl")
        .args(["--fail", "--silent", "--show-error", "--noproxy", "*"])
        .args(words.iter().copied())
}

fn timed(curl: &Command) -> Result<f64> {
    let begin = Instant::now();
    System.run(&curl.clone().deadline(TIMEOUT))?;
    Ok((SIZE << 20) as f64 / begin.elapsed().as_secs_f64() / 1e6)
}

/// The URL of a server that takes one body and throws it away.
fn sink() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", listener.local_addr()?);
    std::thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut reader = BufReader::with_capacity(1 << 20, stream.try_clone()?);
        let mut length = 0;
        loop {
            let mut line = String::new();
            ensure!(reader.read_line(&mut line)? > 0, "the client is gone");
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(bytes) = line.strip_prefix("content-length:") {
                length = bytes.trim().parse()?;
            } else if line.starts_with("expect:") {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            } else if line.is_empty() {
                break;
            }
        }
        std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
        Ok(())
    });
    Ok(url)
}
