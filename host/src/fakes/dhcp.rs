//! A [`DhcpSockets`] in memory.

use crate::dhcp::{DhcpSocket, DhcpSockets};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Requests that a test sends, answers that it reads.
#[derive(Clone, Default)]
pub struct FakeDhcp(Arc<(Mutex<Inner>, Notify)>);

#[derive(Default)]
struct Inner {
    requests: VecDeque<io::Result<Vec<u8>>>,
    frames: Vec<Vec<u8>>,
    failures: usize,
    opened: usize,
}

impl FakeDhcp {
    /// A request arrives.
    pub fn request(&self, payload: &[u8]) {
        self.inner().requests.push_back(Ok(payload.to_vec()));
        self.0.1.notify_one();
    }

    /// The link goes away: the socket fails once.
    pub fn breaks(&self) {
        self.inner().requests.push_back(Err(io::Error::other("injected failure")));
        self.0.1.notify_one();
    }

    /// The next `times` opens fail.
    pub fn fails_to_open(&self, times: usize) {
        self.inner().failures = times;
    }

    /// Times that sockets were opened.
    pub fn opened(&self) -> usize {
        self.inner().opened
    }

    /// Requests that were not received yet.
    pub fn pending(&self) -> usize {
        self.inner().requests.len()
    }

    /// Frames that were sent.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        self.inner().frames.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DhcpSockets for FakeDhcp {
    fn open(&self, _link: &str) -> io::Result<Box<dyn DhcpSocket>> {
        let mut inner = self.inner();
        if inner.failures > 0 {
            inner.failures -= 1;
            return Err(io::Error::other("injected failure"));
        }
        inner.opened += 1;
        Ok(Box::new(self.clone()))
    }
}

impl DhcpSocket for FakeDhcp {
    fn mac(&self) -> [u8; 6] {
        [0x02, 0, 0, 0, 0, 0xfe]
    }

    fn recv<'a>(
        &'a mut self,
        buffer: &'a mut [u8],
    ) -> Pin<Box<dyn Future<Output = io::Result<usize>> + Send + 'a>> {
        Box::pin(async move {
            loop {
                if let Some(request) = self.inner().requests.pop_front() {
                    let request = request?;
                    let length = request.len().min(buffer.len());
                    buffer[..length].copy_from_slice(&request[..length]);
                    return Ok(length);
                }
                self.0.1.notified().await;
            }
        })
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.inner().frames.push(frame.to_vec());
        Ok(())
    }
}
