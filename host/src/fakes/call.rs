//! Servers in memory, for short calls.

use crate::call::{Call, CallError, Reply, Request};
use crate::trust::Trust;
use std::sync::Mutex;

type Answer = Box<dyn Fn(&Request) -> Option<Result<Reply, CallError>> + Send + Sync>;

/// Answers from a script; what the script does not know cannot be reached.
#[derive(Default)]
pub struct FakeCall {
    answers: Mutex<Vec<(Answer, Option<usize>)>>,
    asked: Mutex<Vec<Request>>,
}

impl FakeCall {
    /// Calls of URLs that begin with `url` are answered with `status` and `body`.
    #[must_use]
    pub fn answers(self, url: &str, status: u16, body: impl Into<Vec<u8>>) -> Self {
        self.scripted(url, None, move |body| Reply { status, body }, body.into())
    }

    /// As [`FakeCall::answers`], but only `times` times; then the next of the script counts.
    #[must_use]
    pub fn answers_times(self, times: usize, url: &str, status: u16, body: impl Into<Vec<u8>>) -> Self {
        self.scripted(url, Some(times), move |body| Reply { status, body }, body.into())
    }

    fn scripted(
        self,
        url: &str,
        times: Option<usize>,
        reply: impl Fn(Vec<u8>) -> Reply + Send + Sync + 'static,
        body: Vec<u8>,
    ) -> Self {
        let url = url.to_owned();
        let answer: Answer =
            Box::new(move |request| request.url.starts_with(&url).then(|| Ok(reply(body.clone()))));
        self.answers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((answer, times));
        self
    }

    /// Anyone who calls a URL that begins with `url` and believes certain authorities alone finds another certificate there.
    #[must_use]
    pub fn shows_another_certificate(self, url: &str) -> Self {
        let url = url.to_owned();
        let answer: Answer = Box::new(move |request| {
            let is = request.url.starts_with(&url) && matches!(request.trust, Trust::Authorities(_));
            let source = std::io::Error::from(std::io::ErrorKind::InvalidData).into();
            is.then(|| Err(CallError::Untrusted { url: request.url.clone(), source }))
        });
        self.answers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(0, (answer, None));
        self
    }

    /// Whether nothing is scripted, so that no call will ever be answered.
    pub fn is_silent(&self) -> bool {
        self.answers.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).is_empty()
    }

    /// Everything that was called so far, in order.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl Call for FakeCall {
    fn call(&self, request: &Request) -> Result<Reply, CallError> {
        self.asked.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(request.clone());
        let mut answers = self.answers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (answer, left) in answers.iter_mut().filter(|(_, left)| *left != Some(0)) {
            if let Some(reply) = answer(request) {
                *left = left.map(|left| left - 1);
                return reply;
            }
        }
        let source = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        Err(CallError::Reach { url: request.url.clone(), source: Box::new(source) })
    }
}
