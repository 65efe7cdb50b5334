//! QEMU's control socket.
//!
//! Route in: commands. Route out: their answers; events are skipped, a condition is asked for instead.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// QEMU answers from its main loop, which a busy disk can hold up for some seconds.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// A connection to one QEMU.
#[derive(Debug)]
pub struct Qmp {
    lines: BufReader<UnixStream>,
}

/// A command that QEMU did not carry out.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket failed: QEMU is gone or stuck.
    #[error("QMP {command}: no answer from QEMU")]
    Socket {
        /// The command.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// QEMU refused it.
    #[error("QMP {command}: {answer}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's reason.
        answer: String,
    },
}

impl Qmp {
    /// Connects to the socket at `path`.
    pub fn connect(path: &Path) -> Result<Self, QmpError> {
        let failed = |source| QmpError::Socket { command: format!("connect {}", path.display()), source };
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE)).map_err(failed)?;
        let mut qmp = Self { lines: BufReader::new(stream) };
        qmp.lines.read_line(&mut String::new()).map_err(failed)?; // greeting
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Carries out `command` and gives its return value.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let failed = |source| QmpError::Socket { command: command.into(), source };
        let line = json!({"execute": command, "arguments": arguments}).to_string() + "\n";
        self.lines.get_mut().write_all(line.as_bytes()).map_err(failed)?;
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).map_err(failed)? == 0 {
                return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let mut answer: Value =
                serde_json::from_str(&line).map_err(|error| failed(std::io::Error::other(error)))?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(QmpError::Refused { command: command.into(), answer: error.to_string() });
            }
        }
    }
}
