//! What a guest's agent reports of its system: host name, operating system, time zone, users, file systems.
//!
//! Why here: libvirt hands it over as a flat list of named values (`user.0.name`), virTypedParameter in XDR; the guest
//! decides how many there are and what they hold, so counts are bounded and every text is taken as one. Pure. Route in: the
//! payload of a reply. Route out: [`GuestInfo`].

use super::rpc::{take_bytes, take_u32};
use std::collections::BTreeMap;

/// Most users, and most file systems, that are read of a guest.
pub const MOST_ENTRIES: usize = 64;
/// Most disks of one file system.
const MOST_DISKS: usize = 16;

/// One named value.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name, `os.id`.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// A value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any whole number; a boolean is 0 or 1.
    Number(i128),
    /// A floating-point number.
    Real(f64),
    /// A text.
    Text(String),
}

/// What a guest reports of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GuestInfo {
    /// Its host name.
    pub hostname: String,
    /// Name and offset of its time zone, `CET, 3600`.
    pub timezone: String,
    /// What it reports of its operating system, by libvirt's names without `os.`: `id`, `pretty-name`, …
    pub os: BTreeMap<String, String>,
    /// Who is logged in.
    pub users: Vec<User>,
    /// What is mounted.
    pub filesystems: Vec<Filesystem>,
}

/// Somebody who is logged in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    /// Account.
    pub name: String,
    /// Domain of the account; Windows only.
    pub domain: String,
    /// Since when, in milliseconds after 1970.
    pub login_ms: u64,
}

/// A mounted file system.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filesystem {
    /// Device, as the guest calls it.
    pub name: String,
    /// Where it is mounted.
    pub mountpoint: String,
    /// Kind, `ext4`.
    pub kind: String,
    /// Bytes in use.
    pub used: u64,
    /// Bytes in all.
    pub total: u64,
    /// Devices below it, as libvirt names them, with their serial numbers.
    pub disks: Vec<(String, String)>,
}

/// `remote_typed_param<>`; `None` when it is malformed. Linear in its length.
pub fn read_parameters(mut payload: &[u8]) -> Option<Vec<Parameter>> {
    let rest = &mut payload;
    let mut parameters = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for _ in 0..take_u32(rest)? {
        let name = text(take_bytes(rest)?);
        let value = match take_u32(rest)? {
            // VIR_TYPED_PARAM_INT, _BOOLEAN
            1 | 6 => Value::Number(i128::from(take_u32(rest)?.cast_signed())),
            // _UINT
            2 => Value::Number(i128::from(take_u32(rest)?)),
            // _LLONG
            3 => Value::Number(i128::from(take_u64(rest)?.cast_signed())),
            // _ULLONG
            4 => Value::Number(i128::from(take_u64(rest)?)),
            // _DOUBLE
            5 => Value::Real(f64::from_bits(take_u64(rest)?)),
            // _STRING
            7 => Value::Text(text(take_bytes(rest)?)),
            _ => return None,
        };
        parameters.push(Parameter { name, value });
    }
    Some(parameters)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from(take_u32(rest)?) << 32 | u64::from(take_u32(rest)?))
}

impl GuestInfo {
    /// What `parameters` mean; what is missing stays empty.
    pub fn of(parameters: Vec<Parameter>) -> Self {
        let values: BTreeMap<String, Value> =
            parameters.into_iter().map(|parameter| (parameter.name, parameter.value)).collect();
        let text = |name: &str| match values.get(name) {
            Some(Value::Text(text)) => text.clone(),
            _ => String::new(),
        };
        let number = |name: &str| match values.get(name) {
            Some(Value::Number(number)) => u64::try_from(*number).unwrap_or(0),
            _ => 0,
        };
        let count = |name: &str, most: usize| usize::try_from(number(name)).unwrap_or(most).min(most);
        let os = values.iter().filter_map(|(name, value)| match (name.strip_prefix("os."), value) {
            (Some(name), Value::Text(text)) => Some((name.to_owned(), text.clone())),
            _ => None,
        });
        let offset = match values.get("timezone.offset") {
            Some(Value::Number(seconds)) => format!(", {seconds}"),
            _ => String::new(),
        };
        let user = |n: usize| User {
            name: text(&format!("user.{n}.name")),
            domain: text(&format!("user.{n}.domain")),
            login_ms: number(&format!("user.{n}.login-time")),
        };
        let filesystem = |n: usize| Filesystem {
            name: text(&format!("fs.{n}.name")),
            mountpoint: text(&format!("fs.{n}.mountpoint")),
            kind: text(&format!("fs.{n}.fstype")),
            used: number(&format!("fs.{n}.used-bytes")),
            total: number(&format!("fs.{n}.total-bytes")),
            disks: (0..count(&format!("fs.{n}.disk.count"), MOST_DISKS))
                .map(|d| (text(&format!("fs.{n}.disk.{d}.device")), text(&format!("fs.{n}.disk.{d}.serial"))))
                .collect(),
        };
        Self {
            hostname: text("hostname"),
            timezone: format!("{}{offset}", text("timezone.name")),
            os: os.collect(),
            users: (0..count("user.count", MOST_ENTRIES)).map(user).collect(),
            filesystems: (0..count("fs.count", MOST_ENTRIES)).map(filesystem).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rpc::{put_bytes, put_u32};
    use super::*;

    fn text(payload: &mut Vec<u8>, name: &str, value: &str) {
        put_bytes(payload, name.as_bytes());
        put_u32(payload, 7);
        put_bytes(payload, value.as_bytes());
    }

    fn payload() -> Vec<u8> {
        let mut payload = Vec::new();
        put_u32(&mut payload, 6);
        text(&mut payload, "hostname", "web");
        text(&mut payload, "os.pretty-name", "Debian GNU/Linux 13 (trixie)");
        put_bytes(&mut payload, b"user.count");
        put_u32(&mut payload, 2);
        put_u32(&mut payload, 1);
        text(&mut payload, "user.0.name", "root");
        put_bytes(&mut payload, b"user.0.login-time");
        put_u32(&mut payload, 4);
        payload.extend(1_700_000_000_123_u64.to_be_bytes());
        put_bytes(&mut payload, b"fs.count");
        put_u32(&mut payload, 2);
        put_u32(&mut payload, u32::MAX);
        payload
    }

    #[test]
    fn a_guest_is_described_by_its_parameters_and_claims_no_more_entries_than_are_read() {
        let info = GuestInfo::of(read_parameters(&payload()).unwrap());
        assert_eq!(info.hostname, "web");
        assert_eq!(info.os["pretty-name"], "Debian GNU/Linux 13 (trixie)");
        assert_eq!(
            info.users,
            [User { name: "root".into(), domain: String::new(), login_ms: 1_700_000_000_123 }]
        );
        assert_eq!(info.filesystems.len(), MOST_ENTRIES);
    }

    #[test]
    fn a_reply_that_ends_early_or_holds_an_unknown_type_is_malformed() {
        let whole = payload();
        for length in 0..whole.len() {
            assert_eq!(read_parameters(&whole[..length]), None, "{length}");
        }
        let mut unknown = Vec::new();
        put_u32(&mut unknown, 1);
        put_bytes(&mut unknown, b"x");
        put_u32(&mut unknown, 9);
        put_u32(&mut unknown, 0);
        assert_eq!(read_parameters(&unknown), None);
    }
}
