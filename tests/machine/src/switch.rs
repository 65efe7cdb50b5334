//! A network switch for machines: frames go where their receiver was last heard, and only there.
//!
//! Why here: QEMU's hub shows every frame to every port, and its user-mode network answers whatever it is shown: behind
//! a hub it resets one machine's connections to the other. A bridge of the host would need rights and a network.
//! It keeps VLANs apart (802.1Q) by what each socket's ports belong to, and may refuse long frames, as switches do.
//! Route in: QEMU's `-netdev stream` cables, frames behind their length (4 bytes, big endian). Route out: the same.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use tempfile::TempDir;

/// Frames that wait for a machine that does not read; more are dropped, as real switches do.
const QUEUE: usize = 1024;
/// The longest frame that QEMU sends: 64 KiB of payload and some headers (NetdevSocket's own limit is 68 KiB).
const LONGEST_FRAME: usize = 68 * 1024;

/// EtherType of a VLAN tag, behind both addresses.
const TAG: [u8; 2] = [0x81, 0x00];
/// Where a tag stands, and how long it is.
const TAG_AT: usize = 12;
const TAG_LENGTH: usize = 4;
/// The VLAN of untagged frames where nobody says otherwise.
const UNTAGGED: u16 = 1;

type Address = [u8; 6];
type Port = usize;

/// VLANs that a port belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlans {
    /// That of its untagged frames; none: it has no untagged ones.
    untagged: Option<u16>,
    /// Those that it has tagged; none: all others.
    tagged: Option<Vec<u16>>,
}

impl Vlans {
    /// Untagged frames are VLAN 1, and every other VLAN is there, tagged: as without VLANs.
    pub fn all() -> Self {
        Self { untagged: Some(UNTAGGED), tagged: None }
    }

    /// That VLAN alone, untagged.
    pub fn access(vlan: u16) -> Self {
        Self { untagged: Some(vlan), tagged: Some(Vec::new()) }
    }

    /// Those VLANs, tagged, and no untagged frame.
    pub fn trunk(vlans: &[u16]) -> Self {
        Self { untagged: None, tagged: Some(vlans.to_vec()) }
    }

    fn has_tagged(&self, vlan: u16) -> bool {
        self.untagged != Some(vlan) && self.tagged.as_ref().is_none_or(|vlans| vlans.contains(&vlan))
    }

    /// The VLAN of a frame that comes in, and the frame without its tag.
    fn enter(&self, mut frame: Vec<u8>) -> Option<(u16, Vec<u8>)> {
        if frame.get(TAG_AT..TAG_AT + 2) != Some(&TAG) {
            return Some((self.untagged?, frame));
        }
        let vlan = u16::from_be_bytes([*frame.get(TAG_AT + 2)?, *frame.get(TAG_AT + 3)?]) & 0xfff;
        frame.drain(TAG_AT..TAG_AT + TAG_LENGTH);
        self.has_tagged(vlan).then_some((vlan, frame))
    }

    /// The frame of `vlan` as it goes out, if it may.
    fn leave(&self, vlan: u16, frame: &[u8]) -> Option<Vec<u8>> {
        if self.untagged == Some(vlan) {
            return Some(frame.to_vec());
        }
        let (addresses, rest) = frame.split_at_checked(TAG_AT)?;
        self.has_tagged(vlan).then(|| [addresses, &TAG, &vlan.to_be_bytes(), rest].concat())
    }
}

/// A switch. Dropped, its socket is removed; cables that are plugged in stay until their machines end.
#[derive(Debug)]
pub struct Switch {
    folder: TempDir,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    ports: HashMap<Port, (PathBuf, SyncSender<Vec<u8>>)>,
    heard: HashMap<(u16, Address), Port>,
    plugged: Port,
    /// Of the ports of each socket.
    vlans: HashMap<PathBuf, Vlans>,
    /// The longest frame that passes; 0: any.
    longest: usize,
}

impl Switch {
    /// A switch whose ports are connections to [`Switch::socket`], and to those of [`Switch::port`].
    pub fn start() -> io::Result<Self> {
        // In the folder for temporary files: a socket's path has at most 107 bytes, a checkout may lie deeper.
        let folder = tempfile::Builder::new().prefix("sheaf-lan-").tempdir()?;
        let switch = Self { folder, table: Arc::new(Mutex::new(Table::default())) };
        switch.listen(switch.socket(), Vlans::all())?;
        Ok(switch)
    }

    /// Where cables are plugged in that know nothing of VLANs.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("switch")
    }

    /// A socket of its own, `name`, whose ports belong to `vlans`.
    pub fn port(&self, name: &str, vlans: Vlans) -> io::Result<PathBuf> {
        self.listen(self.folder.path().join(name), vlans)
    }

    /// From now on the ports of `socket` belong to `vlans`.
    pub fn set(&self, socket: &Path, vlans: Vlans) {
        let mut table = lock(&self.table);
        table.vlans.insert(socket.to_owned(), vlans);
        table.heard.clear();
    }

    /// From now on frames of more than `longest` bytes, without their tag, are swallowed. 1514 is what carries 1500.
    pub fn limit(&self, longest: usize) {
        lock(&self.table).longest = longest;
    }

    fn listen(&self, socket: PathBuf, vlans: Vlans) -> io::Result<PathBuf> {
        let listener = UnixListener::bind(&socket)?;
        self.set(&socket, vlans);
        let (table, of) = (Arc::clone(&self.table), socket.clone());
        thread::Builder::new().name("switch".into()).spawn(move || {
            for cable in listener.incoming().map_while(Result::ok) {
                // A cable that cannot be served is as good as unplugged: its machine shows it.
                let _ = plug(cable, &of, &table);
            }
        })?;
        Ok(socket)
    }
}

/// Serves one cable, plugged into `socket`, by two threads that end with it.
fn plug(cable: UnixStream, socket: &Path, table: &Arc<Mutex<Table>>) -> io::Result<()> {
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
        table.ports.insert(port, (socket.to_owned(), sender));
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
        let Some((vlan, frame)) = self.vlans_of(from).and_then(|vlans| vlans.enter(frame)) else { return };
        if self.longest > 0 && frame.len() > self.longest {
            return;
        }
        let address =
            |place: usize| frame.get(place..place + 6).and_then(|part| Address::try_from(part).ok());
        let (Some(to), Some(sender)) = (address(0), address(6)) else { return };
        self.heard.insert((vlan, sender), from);
        match self.heard.get(&(vlan, to)).filter(|port| self.ports.contains_key(port)) {
            // Its neighbours on the same port heard it.
            Some(&port) if port == from => {}
            Some(&port) => self.send(port, vlan, &frame),
            None => self
                .ports
                .keys()
                .filter(|port| **port != from)
                .for_each(|port| self.send(*port, vlan, &frame)),
        }
    }

    fn vlans_of(&self, port: Port) -> Option<&Vlans> {
        self.vlans.get(&self.ports.get(&port)?.0)
    }

    /// Sends it, unless the port is not of that VLAN, or does not read.
    fn send(&self, port: Port, vlan: u16, frame: &[u8]) {
        let frame = self.vlans_of(port).and_then(|vlans| vlans.leave(vlan, frame));
        if let (Some(frame), Some((_, sender))) = (frame, self.ports.get(&port)) {
            let _ = sender.try_send(frame);
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
        table_of(&vec![Vlans::all(); ports])
    }

    fn table_of(vlans: &[Vlans]) -> (Table, Vec<Receiver<Vec<u8>>>) {
        let mut table = Table::default();
        let plug = |(port, vlans): (Port, &Vlans)| {
            let (sender, frames) = sync_channel(QUEUE);
            let socket = PathBuf::from(port.to_string());
            table.vlans.insert(socket.clone(), vlans.clone());
            table.ports.insert(port, (socket, sender));
            frames
        };
        let cables = vlans.iter().enumerate().map(plug).collect();
        (table, cables)
    }

    fn tagged(to: u8, from: u8, vlan: u16) -> Vec<u8> {
        [[to; 6].as_slice(), &[from; 6], &TAG, &vlan.to_be_bytes(), b"frame"].concat()
    }

    #[test]
    fn vlans_are_kept_apart_and_tags_are_put_on_and_taken_off() {
        let (mut table, cables) =
            table_of(&[Vlans::access(100), Vlans::trunk(&[100, 200]), Vlans::access(200), Vlans::all()]);
        let got = |port: Port| cables[port].try_iter().collect::<Vec<_>>();
        table.pass(0, frame(0xff, 2));
        let expected = [vec![], vec![tagged(0xff, 2, 100)], vec![], vec![tagged(0xff, 2, 100)]];
        assert_eq!([got(0), got(1), got(2), got(3)], expected);
        // The answer finds its way by what was heard in that VLAN.
        table.pass(1, tagged(2, 4, 100));
        assert_eq!([got(0), got(2), got(3)], [vec![frame(2, 4)], vec![], vec![]]);
        // In another VLAN nobody heard it; a trunk has no untagged frames, and no VLAN that it was not given.
        table.pass(1, tagged(2, 4, 200));
        assert_eq!([got(0), got(2)], [vec![], vec![frame(2, 4)]]);
        assert_eq!(got(3), [tagged(2, 4, 200)]);
        table.pass(1, frame(0xff, 4));
        table.pass(1, tagged(0xff, 4, 300));
        assert!([got(0), got(2), got(3)].iter().all(Vec::is_empty));
    }

    #[test]
    fn frames_longer_than_allowed_are_swallowed() {
        let (mut table, cables) = table(2);
        table.longest = 17;
        table.pass(0, frame(0xff, 2));
        assert_eq!(cables[1].try_iter().count(), 1);
        table.pass(0, [frame(0xff, 2), b"!".to_vec()].concat());
        assert_eq!(cables[1].try_iter().count(), 0);
        table.pass(0, tagged(0xff, 2, 7));
        assert_eq!(cables[1].try_iter().count(), 1, "a tag does not count");
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
