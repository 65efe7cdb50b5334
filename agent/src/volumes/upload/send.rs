//! `sheaf-agent volumes upload`: sends a file, or what comes on standard input, into a volume of this node.
//!
//! Route in: which volume, the file, its checksum. Route out: the volume complete; how far it is on standard error.

use super::{Answer, Hello};
use anyhow::{Context as _, bail, ensure};
use sheaf_api::Amount;
use sheaf_api::storage::local_volume::sha256_digits;
use sheaf_host::socket::{Connection, SocketError};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Sent at once.
const PIECE: usize = 256 << 10;
/// Between two lines about how far it is.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// What to send where.
#[derive(Debug)]
pub struct Upload {
    /// The volume: `namespace/claim`, or its own name.
    pub into: String,
    /// The file; `-` is standard input.
    pub file: PathBuf,
    /// How many bytes standard input has.
    pub bytes: Option<u64>,
    /// What the file's SHA-256 is to be.
    pub sha256: Option<String>,
}

/// Sends it; the sentence to print at the end.
pub fn send(socket: &Path, upload: &Upload, mut report: impl FnMut(&str)) -> anyhow::Result<String> {
    let (mut file, bytes) = open(upload)?;
    let sha256 = upload.sha256.as_deref().map(checksum).transpose()?;
    ensure!(
        bytes.is_some() || sha256.is_some(),
        "a truncated standard input could not be detected: give --bytes N or --sha256 DIGITS"
    );
    let mut connection = Connection::connect(socket).map_err(|error| match error {
        SocketError::Open { .. } => anyhow::Error::from(error).context(
            "the agent of this node takes no uploads now; run this as root on the node that holds the volume \
             (kubectl get localvolumes names it), and look at: systemctl status sheaf-agent",
        ),
        other => other.into(),
    })?;
    connection.send(&Hello { into: upload.into.clone(), bytes, sha256 })?;
    loop {
        match connection.recv()? {
            Answer::Wait(what) => report(&format!("waiting: {what}")),
            Answer::Go => break,
            Answer::Done => {
                bail!("the agent ended the upload before anything was sent: it has another version")
            }
            Answer::Refused(why) => bail!(why),
        }
    }
    let name = upload.file.display();
    match pour(&mut *file, &mut connection, bytes, &mut report) {
        Err(Broken::File(error)) => bail!("{name}: {error}; what was sent of it is discarded"),
        Err(Broken::Long(bytes)) => {
            bail!("{name} has more than {bytes} bytes; what was sent of it is discarded")
        }
        Ok(()) | Err(Broken::Agent) => {}
    }
    // An agent that broke off has sent why, and that is read also when everything was sent already.
    let ended = connection.end();
    loop {
        match connection.recv::<Answer>() {
            Ok(Answer::Wait(what)) => report(&what),
            Ok(Answer::Go) => {}
            Ok(Answer::Done) => return Ok(format!("{} is filled", upload.into)),
            Ok(Answer::Refused(why)) => bail!(why),
            Err(error) => {
                ended?;
                return Err(
                    anyhow::Error::from(error).context("the agent stopped during the upload; send it again")
                );
            }
        }
    }
}

/// What is to be sent, and its size where it has one.
fn open(upload: &Upload) -> anyhow::Result<(Box<dyn Read>, Option<u64>)> {
    if upload.file == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), upload.bytes));
    }
    let name = upload.file.display();
    let file = File::open(&upload.file).with_context(|| format!("{name} cannot be opened"))?;
    let facts = file.metadata().with_context(|| format!("{name} cannot be read"))?;
    ensure!(facts.is_file(), "{name} is not a file; give an image, or - for standard input");
    if let Some(bytes) = upload.bytes {
        ensure!(bytes == facts.len(), "{name} has {} bytes, --bytes says {bytes}", facts.len());
    }
    Ok((Box::new(file), Some(facts.len())))
}

fn checksum(text: &str) -> anyhow::Result<String> {
    sha256_digits(text).with_context(|| format!("--sha256 {text}: give 64 hexadecimal digits"))
}

/// Why not all was sent.
pub(super) enum Broken {
    /// The file cannot be read.
    File(io::Error),
    /// There is more of it than was announced.
    Long(u64),
    /// The agent takes no more; its answer says why.
    Agent,
}

/// Sends the file. The last piece goes only when nothing follows it: until then the agent does not count it as whole.
pub(super) fn pour(
    file: &mut dyn Read,
    connection: &mut Connection,
    total: Option<u64>,
    report: &mut impl FnMut(&str),
) -> Result<(), Broken> {
    let (mut piece, mut next) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    let (mut sent, begun, mut reported) = (0_u64, Instant::now(), Instant::now());
    loop {
        next.clear();
        Read::take(&mut *file, PIECE as u64).read_to_end(&mut next).map_err(Broken::File)?;
        let read = sent + (piece.len() + next.len()) as u64;
        if let Some(total) = total.filter(|total| read > *total) {
            return Err(Broken::Long(total));
        }
        connection.write_all(&piece).map_err(|_| Broken::Agent)?;
        sent += piece.len() as u64;
        if next.is_empty() {
            return Ok(());
        }
        std::mem::swap(&mut piece, &mut next);
        if reported.elapsed() >= REPORT_INTERVAL {
            reported = Instant::now();
            let rate = sent as f64 / begun.elapsed().as_secs_f64() / f64::from(1 << 20);
            let of =
                total.map_or_else(String::new, |total| format!(" of {}", Amount::of_bytes(total).as_str()));
            report(&format!("{} MiB{of} sent, {rate:.0} MiB/s", sent >> 20));
        }
    }
}
