//! A terminal in memory.

use crate::tty::Terminal;
use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// A terminal on which a test types and reads; it can be pulled out.
#[derive(Debug)]
pub struct FakeTerminal {
    size: Option<(u16, u16)>,
    state: Mutex<State>,
    typed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    typed: VecDeque<u8>,
    shown: Vec<u8>,
    gone: bool,
}

impl FakeTerminal {
    /// One of this size.
    pub fn new(size: Option<(u16, u16)>) -> Self {
        Self { size, state: Mutex::default(), typed: Condvar::new() }
    }

    /// Types `text`.
    pub fn type_text(&self, text: &str) {
        self.state().typed.extend(text.bytes());
        self.typed.notify_all();
    }

    /// From now on reading and writing fail.
    pub fn pull_out(&self) {
        self.state().gone = true;
        self.typed.notify_all();
    }

    /// Everything that was written so far.
    pub fn shown(&self) -> Vec<u8> {
        self.state().shown.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Terminal for FakeTerminal {
    fn read(&self, bytes: &mut [u8], patience: Duration) -> io::Result<usize> {
        let waiting = |state: &mut State| state.typed.is_empty() && !state.gone;
        let waited = self.typed.wait_timeout_while(self.state(), patience, waiting);
        let (mut state, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        if state.gone {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = bytes.len().min(state.typed.len());
        for (byte, typed) in bytes.iter_mut().zip(state.typed.drain(..length)) {
            *byte = typed;
        }
        Ok(length)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if state.gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.shown.extend_from_slice(bytes);
        Ok(())
    }

    fn size(&self) -> Option<(u16, u16)> {
        self.size
    }
}
