//! A networkd in memory.

use crate::networkd::{Answer, Networkd, NetworkdError};
use std::sync::{Mutex, PoisonError};

/// What a reload does, given how many there were.
type Effect = Box<dyn Fn(usize) + Send + Sync>;

/// Does what a test says when it is told to reload, or fails.
#[derive(Default)]
pub struct FakeNetworkd {
    effect: Option<Effect>,
    asked: Mutex<Vec<String>>,
    failing: Mutex<Vec<String>>,
}

impl FakeNetworkd {
    /// One for which a reload has this effect; it is given the number of earlier ones.
    pub fn with(effect: impl Fn(usize) + Send + Sync + 'static) -> Self {
        Self { effect: Some(Box::new(effect)), ..Self::default() }
    }

    /// What is asked with these words fails once: `reload`, `reconfigure br0`.
    pub fn fail_once(&self, words: &str) {
        lock(&self.failing).push(words.into());
    }

    /// Everything that was asked, in order.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.asked).clone()
    }

    fn ask(&self, words: String) -> Result<(), NetworkdError> {
        let mut failing = lock(&self.failing);
        let failure = failing.iter().position(|failing| *failing == words);
        lock(&self.asked).push(words.clone());
        match failure {
            Some(at) => {
                failing.remove(at);
                Err(NetworkdError::new(words, "the bus is silent"))
            }
            None => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Networkd for FakeNetworkd {
    fn reload(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let earlier = lock(&self.asked).iter().filter(|asked| *asked == "reload").count();
            self.ask("reload".into())?;
            if let Some(effect) = &self.effect {
                effect(earlier);
            }
            Ok(())
        })
    }

    fn reconfigure<'a>(&'a self, link: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.ask(format!("reconfigure {link}")) })
    }

    fn knows<'a>(&'a self, _name: &'a str) -> Answer<'a, bool> {
        Box::pin(async move { self.ask("knows".into()).map(|()| true) })
    }

    fn unsettled(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async move { Ok(Vec::new()) })
    }
}
