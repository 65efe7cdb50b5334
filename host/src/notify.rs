//! Messages to the service manager: the agent is ready, ends, is alive. See sd_notify(3).
//!
//! Why here: the socket is an effect. Route in: a message. Route out: a datagram to `NOTIFY_SOCKET`; nothing without one.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Something that takes such messages: [`ServiceManager`], or [`crate::fakes::FakeNotify`] in tests.
pub trait Notify: Send + Sync {
    /// Sends `message`: `READY=1`, `STOPPING=1`, `WATCHDOG=1`, `STATUS=…`.
    fn notify(&self, message: &str) -> io::Result<()>;
}

/// The manager that started this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServiceManager;

impl Notify for ServiceManager {
    fn notify(&self, message: &str) -> io::Result<()> {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
        let address = match path.as_encoded_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
    }
}
