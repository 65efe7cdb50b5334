//! A medium to a USB stick: whether the stick may be written, and writing it.
//!
//! Why not `cp`: nothing asks `cp` whether the device is the right one, and what a worn-out stick gives back is seen
//! only when a machine does not boot. The rules are the installer's: never a disk in use, never contents whose disk
//! was not named by its serial. Order: what could be taken for a table goes first, then all but the first MiB is
//! written, flushed and read back; the first MiB, without which nothing boots, comes last.
//! Route in: the finished ISO, the stick as the kernel shows it. Route out: a stick that was read back.

use sha2::{Digest, Sha256};
use sheaf_host::block::{Device, ProbeError, Signature};
use sheaf_host::disk::{Buffer, Disk, DiskError, Hold};
use std::io::{self, Read};
use std::path::PathBuf;

/// Bytes that are withheld until the rest is on the stick: the boot sector, the table, the start of the file system.
const HEAD: u64 = 1 << 20;
/// Bytes of one transfer: sticks write whole erase blocks fastest.
const CHUNK: u64 = 4 << 20;
/// Direct transfers are multiples of this many bytes.
const PAGE: u64 = 4096;

/// Why a stick was not written.
#[derive(Debug, thiserror::Error)]
pub enum UsbError {
    /// It may not be.
    #[error("{}: {reason}; {remedy}", .disk.display())]
    Refused {
        /// The stick.
        disk: PathBuf,
        /// Why not.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The medium cannot be read.
    #[error("the medium cannot be read")]
    Medium(#[source] io::Error),
    /// The stick failed.
    #[error("the stick is not complete and boots nothing")]
    Disk(#[from] DiskError),
    /// It gave back something else than was written.
    #[error(
        "{}: bytes {from} to {to} read back different from what was written: the stick is worn out or smaller than it reports; use another one",
        .disk.display()
    )]
    ReadBack {
        /// The stick.
        disk: PathBuf,
        /// First byte.
        from: u64,
        /// Byte after the last.
        to: u64,
    },
}

/// Says whether `stick`, whose contents are `found`, may be overwritten with `size` bytes. `named` is the serial that
/// the operator wrote.
pub fn check(
    stick: &Device,
    found: &Result<Vec<Signature>, ProbeError>,
    size: u64,
    named: Option<&str>,
) -> Result<(), UsbError> {
    let refuse =
        |reason: String, remedy: String| Err(UsbError::Refused { disk: stick.path.clone(), reason, remedy });
    if stick.read_only {
        return refuse("is read-only".into(), "switch its write protection off, or use another stick".into());
    }
    let uses = stick.uses();
    if !uses.is_empty() {
        let uses = uses.join(", ");
        return refuse(format!("is in use ({uses})"), "unmount it (umount), or name another stick".into());
    }
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let reason = format!("cannot be searched for present contents ({error})");
            return refuse(reason, "run as root; if it still cannot be, the stick is failing".into());
        }
    };
    if stick.size < size {
        return refuse(
            format!("has {} bytes, the medium needs {size}", stick.size),
            "use a larger stick".into(),
        );
    }
    let mut proofs = Vec::new();
    if !stick.removable && stick.transport.as_deref() != Some("usb") {
        proofs.push("is not a removable drive".to_owned());
    }
    let mut contents: Vec<String> =
        found.iter().map(|found| format!("{} on {}", found.kind, found.device.display())).collect();
    contents.dedup();
    if !contents.is_empty() {
        proofs.push(format!("holds data ({})", contents.join(", ")));
    }
    let serial = stick.serial.as_deref().map(str::trim).filter(|serial| !serial.is_empty());
    match (serial, named) {
        (Some(serial), Some(named)) if serial == named => Ok(()),
        (serial, Some(named)) => refuse(
            format!(
                "has the serial {}, not \"{named}\"",
                serial.as_ref().map_or("none".into(), |s| format!("\"{s}\""))
            ),
            "name the stick that may be overwritten".into(),
        ),
        (_, None) if proofs.is_empty() => Ok(()),
        (Some(serial), None) => {
            refuse(proofs.join(" and "), format!("if it may be overwritten, add --yes-serial {serial}"))
        }
        (None, None) => refuse(
            format!("{} and has no serial by which it could be named", proofs.join(" and ")),
            "erase it by hand (wipefs --all), or use another stick".into(),
        ),
    }
}

/// How far it is: called with bytes done and all that have to be; writing and reading back both count.
pub type Told<'t> = &'t mut dyn FnMut(u64, u64);

/// Writes `medium` of `size` bytes to `disk` and reads it back.
pub fn write(medium: &mut dyn Read, size: u64, disk: &dyn Disk, told: Told<'_>) -> Result<(), UsbError> {
    disk.hold(Hold::Alone)?;
    erase(disk, 0, HEAD.min(disk.size()))?;
    // A backup table at the old end would contradict the new one.
    let tail = HEAD.min(disk.size());
    erase(disk, disk.size() - tail, tail)?;
    disk.sync()?;
    let head = chunk(medium, HEAD.min(size))?;
    let mut hashes = vec![(0, HEAD.min(size), Sha256::digest(&head[..]))];
    let mut at = hashes[0].1;
    while at < size {
        let length = CHUNK.min(size - at);
        let bytes = chunk(medium, length)?;
        hashes.push((at, length, Sha256::digest(&bytes[..])));
        disk.write_at(at, &bytes)?;
        at += length;
        told(at, 2 * size);
    }
    disk.sync()?;
    let mut done = size;
    for (from, length, hash) in &hashes[1..] {
        read_back(disk, *from, *length, hash)?;
        done += length;
        told(done, 2 * size);
    }
    disk.write_at(0, &head)?;
    disk.sync()?;
    read_back(disk, 0, hashes[0].1, &hashes[0].2)?;
    told(2 * size, 2 * size);
    Ok(disk.hold(Hold::Free)?)
}

/// The next `length` bytes of the medium, which is a whole number of pages long.
fn chunk(medium: &mut dyn Read, length: u64) -> Result<Buffer, UsbError> {
    if !length.is_multiple_of(512) {
        return Err(UsbError::Medium(io::Error::other("its length is not a multiple of a sector")));
    }
    let mut bytes = Buffer::zeroed(length as usize);
    medium.read_exact(&mut bytes).map_err(UsbError::Medium)?;
    Ok(bytes)
}

fn erase(disk: &dyn Disk, offset: u64, length: u64) -> Result<(), UsbError> {
    Ok(disk.write_at(offset, &Buffer::zeroed(length as usize))?)
}

fn read_back(disk: &dyn Disk, from: u64, length: u64, hash: &[u8]) -> Result<(), UsbError> {
    let mut back = Buffer::zeroed(length.next_multiple_of(PAGE) as usize);
    disk.read_at(from, &mut back[..length as usize])?;
    match Sha256::digest(&back[..length as usize])[..] == *hash {
        true => Ok(()),
        false => Err(UsbError::ReadBack { disk: disk.path().to_owned(), from, to: from + length }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_host::block::{parse_devices, parse_signatures};
    use sheaf_host::fakes::FakeDisk;

    const SIZE: u64 = (9 << 20) + 2048;

    /// What lsblk says of an empty stick.
    fn stick() -> Device {
        let json = r#"{"blockdevices": [{"path": "/dev/sdx", "type": "disk", "size": 17179869184, "log-sec": 512,
            "start": null, "ro": false, "rm": true, "serial": "AA00", "wwn": null, "model": "Stick", "tran": "usb",
            "hctl": "6:0:0:0", "ptuuid": null, "partn": null, "partuuid": null, "partlabel": null, "parttype": null,
            "fstype": null, "label": null, "mountpoints": [null]}]}"#;
        parse_devices(json.as_bytes()).unwrap().remove(0)
    }

    fn empty() -> Result<Vec<Signature>, ProbeError> {
        Ok(Vec::new())
    }

    fn full() -> Result<Vec<Signature>, ProbeError> {
        Ok(vec![Signature { device: "/dev/sdx1".into(), offset: 1 << 20, kind: "vfat".into() }])
    }

    fn inner(mut stick: Device) -> Device {
        (stick.removable, stick.transport) = (false, Some("sata".into()));
        stick
    }

    fn refusal(stick: &Device, found: &Result<Vec<Signature>, ProbeError>, named: Option<&str>) -> String {
        check(stick, found, SIZE, named).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_stick_and_one_that_is_named_by_its_serial_may_be_written() {
        check(&stick(), &empty(), SIZE, None).unwrap();
        check(&inner(stick()), &full(), SIZE, Some("AA00")).unwrap();
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        assert_eq!(
            refusal(&stick(), &full(), None),
            "/dev/sdx: holds data (vfat on /dev/sdx1); if it may be overwritten, add --yes-serial AA00"
        );
        assert_eq!(
            refusal(&inner(stick()), &empty(), None),
            "/dev/sdx: is not a removable drive; if it may be overwritten, add --yes-serial AA00"
        );
        assert_eq!(
            refusal(&stick(), &full(), Some("AA01")),
            "/dev/sdx: has the serial \"AA00\", not \"AA01\"; name the stick that may be overwritten"
        );
        assert_eq!(
            refusal(&Device { serial: Some(" ".into()), ..stick() }, &full(), None),
            "/dev/sdx: holds data (vfat on /dev/sdx1) and has no serial by which it could be named; \
             erase it by hand (wipefs --all), or use another stick"
        );
        // A serial is no leave to write what is in use.
        let mounted = Device { mountpoints: vec![Some("/home".into())], ..stick() };
        let said = refusal(&mounted, &full(), Some("AA00"));
        assert!(said.contains("is in use (") && said.contains("/home"), "{said}");
        assert!(refusal(&Device { size: 1 << 20, ..stick() }, &empty(), None).contains("use a larger stick"));
        assert!(
            refusal(&Device { read_only: true, ..stick() }, &empty(), Some("AA00")).contains("is read-only")
        );
        let unreadable = parse_signatures(b"nonsense");
        assert!(refusal(&stick(), &unreadable, None).contains("run as root"));
    }

    fn medium() -> Vec<u8> {
        (0..SIZE).map(|at| (at / 512 % 251) as u8).collect()
    }

    #[test]
    fn the_medium_is_on_the_stick_and_its_first_part_was_written_last() {
        let disk = FakeDisk::new("/dev/sdx", 64 << 20).holding((64 << 20) - 512, b"EFI PART old");
        let mut told = Vec::new();
        write(&mut &medium()[..], SIZE, &disk, &mut |done, all| told.push((done, all))).unwrap();
        let mut back = vec![0; SIZE as usize];
        disk.read_at(0, &mut back).unwrap();
        assert!(back == medium());
        let mut tail = [0; 512];
        disk.read_at((64 << 20) - 512, &mut tail).unwrap();
        assert_eq!(tail, [0; 512], "the old backup table is gone");
        assert_eq!(disk.writes().last(), Some(&(0, 1 << 20)));
        assert_eq!(told.last(), Some(&(2 * SIZE, 2 * SIZE)));
    }

    #[test]
    fn a_stick_that_loses_a_write_boots_nothing_and_the_place_is_named() {
        // Writes 0 and 1 erase the ends.
        let disk = FakeDisk::new("/dev/sdx", 64 << 20).loses_write(3);
        let error = write(&mut &medium()[..], SIZE, &disk, &mut |_, _| ()).unwrap_err().to_string();
        assert!(error.starts_with("/dev/sdx: bytes 5242880 to 9437184 read back"), "{error}");
        let mut head = [1; 512];
        disk.read_at(0, &mut head).unwrap();
        assert_eq!(head, [0; 512]);
    }

    #[test]
    fn a_stick_that_fails_at_any_write_boots_nothing() {
        for n in 2..6 {
            let disk = FakeDisk::new("/dev/sdx", 64 << 20).fails_from_write(n);
            let error = write(&mut &medium()[..], SIZE, &disk, &mut |_, _| ()).unwrap_err();
            assert_eq!(error.to_string(), "the stick is not complete and boots nothing", "write {n}");
            let mut head = [1; 512];
            disk.read_at(0, &mut head).unwrap();
            assert_eq!(head, [0; 512], "write {n}");
        }
    }
}
