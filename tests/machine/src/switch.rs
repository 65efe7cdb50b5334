//! A network switch for machines: frames go where their receiver was last heard, and only there.
//!
//! Why here: QEMU's hub shows every frame to every port, and its user-mode network answers whatever it is shown: behind
//! a hub it resets one machine's connections to the other. A bridge of the host would need rights and a network.
//! Route in: QEMU's `-netdev stream` cables, frames behind their length (4 bytes, big endian). Route out: the same.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use tempfile::TempDir;

/// Frames that wait for a machine that does not read; more are dropped, as real switches do.
const QUEUE: usize = 1024;
/// The longest frame that QEMU sends: 64 KiB of payload and some headers (NetdevSocket's own limit is 68 KiB).
const LONGEST_FRAME: usize = 68 * 1024;

type Address = [u8; 6];
type Port = usize;

/// A switch. Dropped, its socket is removed; cables that are plugged in stay until their machines end.
#[derive(Debug)]
pub struct Switch {
    folder: TempDir,
}

#[derive(Default)]
struct Table {
    ports: HashMap<Port, SyncSender<Vec<u8>>>,
    heard: HashMap<Address, Port>,
    plugged: Port,
}

impl Switch {
    /// A switch whose ports are connections to [`Switch::socket`].
    pub fn start() -> io::Result<Self> {
        // In the folder for temporary files: a socket's path has at most 107 bytes, a checkout may lie deeper.
        let switch = Self { folder: tempfile::Builder::new().prefix("sheaf-lan-").tempdir()? };
        let listener = UnixListener::bind(switch.socket())?;
        let table = Arc::new(Mutex::new(Table::default()));
        thread::Builder::new().name("switch".into()).spawn(move || {
            for cable in listener.incoming().map_while(Result::ok) {
                // A cable that can not be served is as good as unplugged: its machine shows it.
                let _ = plug(cable, &table);
            }
        })?;
        Ok(switch)
    }

    /// Where cables are plugged in.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("switch")
    }
}

/// Serves one cable by two threads that end with it.
fn plug(cable: UnixStream, table: &Arc<Mutex<Table>>) -> io::Result<()> {
    let (sender, frames) = sync_channel::<Vec<u8>>(QUEUE);
    let mut out = cable.try_clone()?;
    thread::Builder::new().name("switch-out".into()).spawn(move || {
        for frame in frames {
            let length = (frame.len() as u32).to_be_bytes();
            if out.write_all(&[&length, frame.as_slice()].concat()).is_err() {
                break;
            }
        }
    })?;
    let table = Arc::clone(table);
    let port = {
        let mut table = lock(&table);
        table.plugged += 1;
        let port = table.plugged;
        table.ports.insert(port, sender);
        port
    };
    thread::Builder::new().name("switch-in".into()).spawn(move || {
        let mut cable = cable;
        while let Ok(frame) = read(&mut cable) {
            lock(&table).pass(port, frame);
        }
        lock(&table).unplug(port);
    })?;
    Ok(())
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(cable: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    cable.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST_FRAME {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = vec![0; length];
    cable.read_exact(&mut frame)?;
    Ok(frame)
}

impl Table {
    fn pass(&mut self, from: Port, frame: Vec<u8>) {
        let address =
            |place: usize| frame.get(place..place + 6).and_then(|part| Address::try_from(part).ok());
        let (Some(to), Some(sender)) = (address(0), address(6)) else { return };
        self.heard.insert(sender, from);
        let known = self.heard.get(&to).filter(|port| self.ports.contains_key(port));
        match known {
            // Its neighbours on the same port heard it.
            Some(&port) if port == from => {}
            Some(port) => drop(self.ports[port].try_send(frame)),
            None => {
                for (_, port) in self.ports.iter().filter(|(port, _)| **port != from) {
                    let _ = port.try_send(frame.clone());
                }
            }
        }
    }

    fn unplug(&mut self, port: Port) {
        self.ports.remove(&port);
        self.heard.retain(|_, heard| *heard != port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Receiver;

    fn frame(to: u8, from: u8) -> Vec<u8> {
        [[to; 6].as_slice(), &[from; 6], b"frame"].concat()
    }

    fn table(ports: Port) -> (Table, Vec<Receiver<Vec<u8>>>) {
        let mut table = Table::default();
        let plug = |port| {
            let (sender, frames) = sync_channel(QUEUE);
            table.ports.insert(port, sender);
            frames
        };
        let cables = (0..ports).map(plug).collect();
        (table, cables)
    }

    #[test]
    fn a_frame_goes_to_everybody_until_its_receiver_was_heard_and_then_to_that_one_alone() {
        let (mut table, cables) = table(3);
        let got = |port: Port| cables[port].try_iter().collect::<Vec<_>>();
        table.pass(0, frame(4, 2));
        assert_eq!([got(0), got(1), got(2)], [vec![], vec![frame(4, 2)], vec![frame(4, 2)]]);
        table.pass(1, frame(2, 4));
        assert_eq!([got(0), got(1), got(2)], [vec![frame(2, 4)], vec![], vec![]]);
        table.pass(0, frame(4, 2));
        assert_eq!([got(0), got(1), got(2)], [vec![], vec![frame(4, 2)], vec![]]);
        table.pass(2, frame(0xff, 6));
        assert_eq!([got(0), got(1), got(2)], [vec![frame(0xff, 6)], vec![frame(0xff, 6)], vec![]]);
    }

    #[test]
    fn an_unplugged_port_is_forgotten() {
        let (mut table, cables) = table(2);
        table.pass(0, frame(4, 2));
        table.unplug(0);
        table.pass(1, frame(2, 4));
        assert_eq!(cables[0].try_iter().count(), 0);
        assert_eq!(table.heard.len(), 1);
    }

    #[test]
    fn frames_stand_behind_their_length_and_too_long_ones_are_refused() {
        let (mut cable, mut machine) = UnixStream::pair().unwrap();
        machine.write_all(&[&[0, 0, 0, 3], b"abc".as_slice(), &u32::MAX.to_be_bytes()].concat()).unwrap();
        assert_eq!(read(&mut cable).unwrap(), b"abc");
        assert_eq!(read(&mut cable).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
