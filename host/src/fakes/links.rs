//! Links in memory.

use crate::links::{Link, Links, Watch};
use std::io;
use tokio::sync::watch;

/// Links that a test sets; anyone who watches hears of each change.
#[derive(Debug)]
pub struct FakeLinks(watch::Sender<Vec<Link>>);

impl Default for FakeLinks {
    fn default() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }
}

impl FakeLinks {
    /// From now on these are the links.
    pub fn set(&self, links: Vec<Link>) {
        self.0.send_replace(links);
    }
}

impl Links for FakeLinks {
    fn list(&self) -> io::Result<Vec<Link>> {
        Ok(self.0.borrow().clone())
    }

    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        Ok(Box::new(News(self.0.subscribe())))
    }
}

struct News(watch::Receiver<Vec<Link>>);

impl Watch for News {
    fn changed<'a>(&'a mut self) -> std::pin::Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>> {
        Box::pin(async move { self.0.changed().await.map_err(io::Error::other) })
    }
}
