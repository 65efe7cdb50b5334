//! Runs a program and hands on what it prints as it comes.
//!
//! Why here: a journal is larger than what the agent may hold in memory. Route in: a [`Command`]; its input, log and deadline are not
//! used. Route out: a reader. A failure of the program is the error of the last read; a reader that is dropped ends its program.

use crate::run::{Command, Run, RunError, System, spawnable, tail};
use std::io::{self, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::thread::JoinHandle;

/// Bytes of standard error that are kept: an error shows less.
const MOST_STDERR: u64 = 64 << 10;

/// Something that starts programs whose output is read while they run: [`System`], or [`crate::fakes::FakeRun`] in tests.
pub trait Pipe: Run {
    /// Starts `command`.
    fn pipe(&self, command: &Command) -> Result<Box<dyn Read + Send>, RunError>;
}

impl Pipe for System {
    fn pipe(&self, command: &Command) -> Result<Box<dyn Read + Send>, RunError> {
        tracing::debug!(%command, "pipe");
        let mut child = spawnable(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| RunError::Start { command: Box::new(command.clone()), source })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let errors = std::thread::spawn(move || {
            let (mut kept, Some(mut stderr)) = (Vec::new(), stderr) else { return Vec::new() };
            // What is not kept is read, too: a full pipe would stop the program.
            let _ = (&mut stderr).take(MOST_STDERR).read_to_end(&mut kept);
            let _ = io::copy(&mut stderr, &mut io::sink());
            kept
        });
        Ok(Box::new(Piped { command: command.clone(), child, stdout, errors: Some(errors) }))
    }
}

/// A program that runs.
struct Piped {
    command: Command,
    child: Child,
    stdout: Option<ChildStdout>,
    errors: Option<JoinHandle<Vec<u8>>>,
}

impl Read for Piped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(stdout) = &mut self.stdout else { return Ok(0) };
        let read = stdout.read(buffer)?;
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        self.stdout = None;
        let status = self.child.wait()?;
        let said = self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
        if status.success() || self.command.any_code && status.code().is_some() {
            return Ok(0);
        }
        Err(io::Error::other(RunError::Failed {
            command: Box::new(self.command.clone()),
            ended: status.to_string(),
            code: status.code(),
            tail: tail(&said),
        }))
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // One that has ended is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(text: &str) -> Command {
        Command::new("sh").args(["-c", text])
    }

    #[test]
    fn what_a_program_prints_is_there_while_it_runs_and_its_failure_is_the_last_word() {
        let mut piped = System.pipe(&sh("echo one; read line; echo bad >&2; exit 3")).unwrap();
        let mut text = String::new();
        let error = piped.read_to_string(&mut text).unwrap_err();
        assert_eq!(text, "one\n");
        assert_eq!(
            error.to_string(),
            "sh -c 'echo one; read line; echo bad >&2; exit 3': exit status: 3; its output:\nbad"
        );
        assert_eq!(piped.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn a_program_that_nobody_reads_any_more_is_ended() {
        let mut piped = System.pipe(&sh("echo $$; exec sleep 1000")).unwrap();
        let mut text = [0; 32];
        let length = piped.read(&mut text).unwrap();
        let pid = String::from_utf8_lossy(&text[..length]).trim().to_owned();
        let stat = std::path::PathBuf::from(format!("/proc/{pid}/stat"));
        assert!(stat.exists());
        drop(piped);
        assert!(!stat.exists(), "{pid} runs on");
    }

    #[test]
    fn much_said_to_standard_error_does_not_stop_a_program() {
        let command = sh("head -c 300000 /dev/zero >&2; echo done; exit 1").any_code();
        let mut text = String::new();
        System.pipe(&command).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "done\n");
    }
}
