//! News of block devices, made by a test.

use crate::udev::{BlockNews, Watch};
use std::io;
use tokio::sync::watch;

/// Anyone who watches hears of each [`FakeBlockNews::tell`].
#[derive(Debug)]
pub struct FakeBlockNews(watch::Sender<()>);

impl Default for FakeBlockNews {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl FakeBlockNews {
    /// A disk came, changed or left.
    pub fn tell(&self) {
        self.0.send_replace(());
    }
}

impl BlockNews for FakeBlockNews {
    fn watch(&self) -> io::Result<Box<dyn Watch>> {
        Ok(Box::new(News(self.0.subscribe())))
    }
}

struct News(watch::Receiver<()>);

impl Watch for News {
    fn changed<'a>(&'a mut self) -> std::pin::Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>> {
        Box::pin(async move { self.0.changed().await.map_err(io::Error::other) })
    }
}
