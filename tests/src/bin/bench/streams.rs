//! A console and a display through the aggregated API, beside the socket on the node that they end at.
//!
//! Why here: every byte passes kube-apiserver, sheaf-controller and the agent, with TLS three times; this is what that costs. The
//! control plane is the real one; controller and agent are their own code in this program, libvirt is played. Route in: a VM whose
//! serial port repeats what is typed and whose display sends without end. Route out: milliseconds, MB/s.

use crate::{Report, median};
use anyhow::{Context as _, Result, ensure};
use futures::{SinkExt as _, StreamExt as _};
use kube::api::{Api, PostParams};
use sheaf_api::VirtualMachine;
use sheaf_tests::controlled::Controlled;
use sheaf_tests::harness::Case;
use sheaf_tests::played::{PlayedNode, cluster, vm};
use sheaf_tests::stream;
use std::path::Path;
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_tungstenite::tungstenite::Message;

/// Keys that are typed, one after the other.
const KEYS: usize = 500;
/// Bytes that the display sends.
const SCREEN: usize = 256 << 20;
/// Bytes of one write of a VNC server.
const BLOCK: usize = 64 << 10;

struct Measured {
    /// Milliseconds of a key and its echo, median: through the API, at the socket.
    echo: (f64, f64),
    /// MB/s of a display, likewise.
    display: (f64, f64),
}

impl Report {
    /// The section of this file.
    pub fn streams(&mut self, _case: &Case) -> Result<()> {
        self.head(
            "Console and display through the aggregated API",
            "a WebSocket on subresources.kubevirt.io (console, vnc) and QEMU's side of it, both in one program, built as tests are",
            "what | through the API | at the socket | ÷",
        );
        let Measured { echo, display } = tokio::runtime::Runtime::new()?.block_on(measure())?;
        let row = |pair: (f64, f64), over: f64| {
            [format!("{:.3}", pair.0), format!("{:.3}", pair.1), format!("{over:.2}")]
        };
        let [through, socket, over] = row(echo, echo.0 / echo.1);
        self.row(&[&format!("a key and its echo, ms, median of {KEYS}"), &through, &socket, &over]);
        let [through, socket, over] = row(display, display.0 / display.1);
        self.row(&[&format!("display, MB/s, {} MiB", SCREEN >> 20), &through, &socket, &over]);
        Ok(())
    }
}

async fn measure() -> Result<Measured> {
    let on = cluster().await?;
    let node = PlayedNode::start(&on).await?;
    let machines: Api<VirtualMachine> = Api::default_namespaced(on.client.clone());
    machines.create(&PostParams::default(), &vm("web", "Always")?).await?;
    let (vmi, serial) = node.run(&on, "web", "").await?;
    let socket = serial.local_addr()?;
    let socket = socket.as_pathname().context("a path")?.to_owned();
    tokio::spawn(repeats(serial));
    ensure!(vmi.metadata.uid.is_some());
    let at_socket = keys_at(&socket).await?;
    let through = keys_through(&on).await?;
    let display = (display_through(&on, &node).await?, display_direct().await?);
    Ok(Measured { echo: (through, at_socket), display })
}

async fn repeats(serial: UnixListener) {
    while let Ok((mut client, _)) = serial.accept().await {
        let (mut read, mut write) = client.split();
        // A client that goes is no failure.
        let _ = tokio::io::copy(&mut read, &mut write).await;
    }
}

async fn keys_at(socket: &Path) -> Result<f64> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut times = Vec::new();
    for _ in 0..KEYS {
        let begin = Instant::now();
        stream.write_all(b"x").await?;
        stream.read_exact(&mut [0]).await?;
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(times))
}

async fn keys_through(on: &Controlled) -> Result<f64> {
    let mut console = stream::open(&on.client, "web", "console").await?;
    let mut times = Vec::new();
    for _ in 0..KEYS {
        let begin = Instant::now();
        console.send(Message::Binary("x".into())).await?;
        while !matches!(console.next().await.context("the console ended")??, Message::Binary(_)) {}
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(times))
}

/// Sends [`SCREEN`] bytes.
async fn paint(server: std::os::unix::net::UnixStream) -> Result<()> {
    server.set_nonblocking(true)?;
    let mut server = UnixStream::from_std(server)?;
    let block = vec![7; BLOCK];
    for _ in 0..SCREEN / BLOCK {
        server.write_all(&block).await?;
    }
    Ok(())
}

async fn display_through(on: &Controlled, node: &PlayedNode) -> Result<f64> {
    let mut display = stream::open(&on.client, "web", "vnc").await?;
    let server = node.vms.display().context("the display was opened")?;
    let begin = Instant::now();
    let painting = tokio::spawn(paint(server));
    let mut read = 0;
    while read < SCREEN {
        if let Message::Binary(bytes) = display.next().await.context("the display ended")?? {
            read += bytes.len();
        }
    }
    painting.await??;
    Ok(SCREEN as f64 / begin.elapsed().as_secs_f64() / 1e6)
}

async fn display_direct() -> Result<f64> {
    let (client, server) = std::os::unix::net::UnixStream::pair()?;
    client.set_nonblocking(true)?;
    let mut client = UnixStream::from_std(client)?;
    let begin = Instant::now();
    let painting = tokio::spawn(paint(server));
    let (mut read, mut block) = (0, vec![0; BLOCK]);
    while read < SCREEN {
        read += client.read(&mut block).await?;
    }
    painting.await??;
    Ok(SCREEN as f64 / begin.elapsed().as_secs_f64() / 1e6)
}
