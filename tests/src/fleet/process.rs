//! A process of simulated nodes: started by `bench`, which reads from its log what became of them.
//!
//! Why here: a process may open so many files ([`super::most_nodes`]), and a node needs nearly forty. Route in: words of a command
//! line ([`Words`]), which the program that is started gives to [`serve`]. Route out: lines `joined NAME SECONDS` in its log; dropped,
//! [`Part`] ends the process.

use super::{Cluster, Fleet};
use crate::cluster::client_of;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use sheaf_host::run::{Command, System};
use std::ops::Range;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// The first word of a command line that asks for nodes.
pub const WORD: &str = "fleet-nodes";
/// Between two looks at the log, and at whether the controllers run.
const LOOK: Duration = Duration::from_secs(1);

/// What a process of nodes is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// An administrator's kubeconfig, for tokens.
    pub kubeconfig: PathBuf,
    /// `https://ADDRESS:6443`.
    pub server: String,
    /// `sha256:…` of the cluster's CA.
    pub ca_hash: String,
    /// The nodes.
    pub numbers: Range<u32>,
}

impl Words {
    fn to_args(&self) -> [String; 6] {
        let Self { kubeconfig, server, ca_hash, numbers } = self;
        let [start, end] = [numbers.start, numbers.end].map(|number| number.to_string());
        [WORD.into(), kubeconfig.display().to_string(), server.clone(), ca_hash.clone(), start, end]
    }

    /// Reads what follows [`WORD`].
    pub fn parse(words: &[String]) -> Result<Self> {
        let [kubeconfig, server, ca_hash, start, end] = words else {
            bail!("{WORD} needs KUBECONFIG SERVER CA-HASH FIRST END, got {} words", words.len());
        };
        let number =
            |word: &String| word.parse().with_context(|| format!("{word}: is not a number of a node"));
        Ok(Self {
            kubeconfig: kubeconfig.into(),
            server: server.clone(),
            ca_hash: ca_hash.clone(),
            numbers: number(start)?..number(end)?,
        })
    }
}

/// Runs the nodes until the process that started this one is gone, or one of their controllers ends.
pub fn serve(words: &Words) -> Result<()> {
    // As `main` of the agent does it; what it warns of is in the log.
    let log = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_ansi(false)
        .with_writer(std::io::stderr);
    log.try_init().map_err(|error| anyhow!("{error}"))?;
    let parent = parent_id();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let admin = client_of(&words.kubeconfig).await?;
        let cluster = Cluster { server: words.server.clone(), ca_hash: words.ca_hash.clone(), admin };
        let mut fleet = Fleet::new()?;
        let joined = |name: &str, took: Duration| println!("{}", joined_line(name, took));
        fleet.join(&cluster, words.numbers.clone(), joined).await?;
        while parent_id() == parent {
            fleet.check()?;
            tokio::time::sleep(LOOK).await; // until the next look
        }
        Ok(())
    })
}

fn joined_line(name: &str, took: Duration) -> String {
    format!("joined {name} {:.3}", took.as_secs_f64())
}

/// Seconds of every `joined` line of a log. A line that is being written counts at the next look.
fn join_seconds(log: &str) -> Vec<f64> {
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let seconds = |line: &str| line.strip_prefix("joined ")?.split_once(' ')?.1.parse().ok();
    whole.lines().filter_map(seconds).collect()
}

/// A process of nodes, which ends when this is dropped.
pub struct Part {
    child: Child,
    log: PathBuf,
    nodes: usize,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Part {
    /// Starts this very program again with `words`; what it says is in the file `log`. Nodes' files lie in memory, where there is
    /// room for them: etcd has the disk to itself, as it has on a machine without nodes.
    pub fn start(words: &Words, log: PathBuf) -> Result<Self> {
        let program = std::env::current_exe().context("the path of this program")?;
        let mut command = Command::new(program).args(words.to_args()).log(&log);
        if Path::new("/dev/shm").is_dir() {
            command = command.env("TMPDIR", "/dev/shm");
        }
        Ok(Self { child: System.start(&command)?, log, nodes: words.numbers.len() })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Seconds until each of its nodes was Ready, once all are.
    pub async fn joined(&mut self, timeout: Duration) -> Result<Vec<f64>> {
        let end = Instant::now() + timeout;
        loop {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let seconds = join_seconds(&log);
            if seconds.len() == self.nodes {
                return Ok(seconds);
            }
            self.check()?;
            ensure!(
                Instant::now() < end,
                "{} of {} nodes joined within {} s; {} says why",
                seconds.len(),
                self.nodes,
                timeout.as_secs(),
                self.log.display()
            );
            tokio::time::sleep(LOOK).await; // until the next look
        }
    }

    /// Fails if the process has ended.
    pub fn check(&mut self) -> Result<()> {
        let Some(ended) = self.child.try_wait()? else { return Ok(()) };
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(10).collect();
        bail!("a process of nodes ended: {ended}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        Words {
            kubeconfig: "/tmp/admin.conf".into(),
            server: "https://198.18.0.2:6443".into(),
            ca_hash: "sha256:00".into(),
            numbers: 100..500,
        }
    }

    #[test]
    fn the_words_of_a_process_are_read_as_they_were_written() {
        let args = words().to_args();
        assert_eq!(args[0], WORD);
        assert_eq!(Words::parse(&args[1..]).unwrap(), words());
    }

    #[test]
    fn words_that_are_missing_or_no_numbers_are_named() {
        let mut args = words().to_args()[1..].to_vec();
        args[4] = "many".into();
        let error = Words::parse(&args).unwrap_err();
        assert_eq!(error.to_string(), "many: is not a number of a node");
        let error = Words::parse(&args[1..]).unwrap_err();
        assert_eq!(error.to_string(), "fleet-nodes needs KUBECONFIG SERVER CA-HASH FIRST END, got 4 words");
    }

    #[test]
    fn a_line_that_is_being_written_is_not_counted_and_warnings_are_not_taken_for_nodes() {
        let first = joined_line("fleet-0000", Duration::from_millis(1250));
        let log = format!("{first}\nWARN joined late\njoined fleet-0001 1");
        assert_eq!(join_seconds(&log), [1.25]);
        assert_eq!(join_seconds(&format!("{log}.500\n")), [1.25, 1.5]);
        assert!(join_seconds("").is_empty());
    }
}
