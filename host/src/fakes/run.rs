//! A [`Run`] that answers from a script and remembers what it was asked.

use crate::piped::Pipe;
use crate::run::{Command, Output, Run, RunError};
use std::io::{Cursor, Read};
use std::sync::Mutex;

type Answer = Box<dyn Fn(&Command) -> Option<Result<Output, RunError>> + Send + Sync>;

/// Runs nothing. A command without a scripted answer succeeds silently.
#[derive(Default)]
pub struct FakeRun {
    answers: Vec<Answer>,
    asked: Mutex<Vec<Command>>,
}

impl FakeRun {
    /// Commands whose text begins with `prefix` print `stdout`.
    #[must_use]
    pub fn prints(mut self, prefix: &str, stdout: &str) -> Self {
        let (prefix, stdout) = (prefix.to_owned(), stdout.as_bytes().to_vec());
        self.answers.push(Box::new(move |command| {
            let output = Output { stdout: stdout.clone(), stderr: Vec::new() };
            command.to_string().starts_with(&prefix).then_some(Ok(output))
        }));
        self
    }

    /// Commands for which `answer` has one print it.
    #[must_use]
    pub fn answers(mut self, answer: impl Fn(&Command) -> Option<String> + Send + Sync + 'static) -> Self {
        self.answers.push(Box::new(move |command| {
            answer(command).map(|text| Ok(Output { stdout: text.into_bytes(), stderr: Vec::new() }))
        }));
        self
    }

    /// Commands whose text begins with `prefix` exit with 1 and say `stderr`.
    #[must_use]
    pub fn fails(mut self, prefix: &str, stderr: &str) -> Self {
        let (prefix, stderr) = (prefix.to_owned(), stderr.to_owned());
        self.answers.push(Box::new(move |command| {
            command.to_string().starts_with(&prefix).then(|| {
                Err(RunError::Failed {
                    command: Box::new(command.clone()),
                    ended: "exit status: 1".into(),
                    code: Some(1),
                    tail: stderr.clone(),
                })
            })
        }));
        self
    }

    /// Commands whose text begins with `prefix` do `effect`, which is given their text, and succeed.
    #[must_use]
    pub fn does(mut self, prefix: &str, effect: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let prefix = prefix.to_owned();
        self.answers.push(Box::new(move |command| {
            let text = command.to_string();
            text.starts_with(&prefix).then(|| {
                effect(&text);
                Ok(Output::default())
            })
        }));
        self
    }

    /// Everything that was run so far, as text, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .iter()
            .map(Command::to_string)
            .collect()
    }
}

impl Run for FakeRun {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        self.asked.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(command.clone());
        self.answers.iter().find_map(|answer| answer(command)).unwrap_or_else(|| Ok(Output::default()))
    }
}

impl Pipe for FakeRun {
    fn pipe(&self, command: &Command) -> Result<Box<dyn Read + Send>, RunError> {
        Ok(Box::new(Cursor::new(self.run(command)?.stdout)))
    }
}
