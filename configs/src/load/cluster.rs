//! `[cluster]`: what makes a cluster and what joins one.
//!
//! Route in: the table. Route out: [`Cluster`] that has every key its mode needs and none of the other mode's.

use super::{ELSEWHERE, disk, each_once, plain, values};
use crate::node::{Cluster, ClusterMode, REDEEMED, Role, Secret, Size, Snapshots};
use crate::spanned::{At, Table, Wrong, wrong};
use crate::syntax;
use std::net::IpAddr;
use std::ops::RangeInclusive;

const MODES: &[(&str, ClusterMode)] = &[("create", ClusterMode::Create), ("join", ClusterMode::Join)];

/// Keys of one mode: the key, a line that shows it.
const JOIN_NEEDS: [(&str, &str); 3] = [
    ("server", "server = \"https://192.0.2.10:6443\""),
    ("token", "token = \"<6>.<16 letters or digits>\""),
    ("ca-hash", "ca-hash = \"sha256:…\""),
];
const CREATE_ONLY: [&str; 2] = ["admin-keys", "service-cidr"];
const JOIN_ONLY: [&str; 2] = ["server", "ca-hash"];
const ROLES: &[(&str, Role)] = &[("worker", Role::Worker), ("control-plane", Role::ControlPlane)];

/// 32 bytes: a key of AES-256.
const CERTIFICATE_KEY_DIGITS: usize = 64;

/// Prefix lengths of Service networks: kube-apiserver allows at most 20 bits of them, and fewer than 4 are no use.
const SERVICE_PREFIX_V4: RangeInclusive<u8> = 12..=28;
const SERVICE_PREFIX_V6: RangeInclusive<u8> = 108..=124;

/// Hours between two snapshots: a week at most.
const SNAPSHOT_HOURS: RangeInclusive<i64> = 1..=168;
/// Snapshots that are kept.
const SNAPSHOTS_KEPT: RangeInclusive<i64> = 1..=100;
/// The least space for them: a small cluster's database is 50 MiB, and one is taken before another is removed.
const LEAST_SNAPSHOTS: Size = Size(256 << 20);

/// What was read.
pub(super) struct Read {
    pub config: Cluster,
    pub server: Option<At<String>>,
    pub vip: Option<At<IpAddr>>,
}

pub(super) fn read(mut table: Table<'_, '_>) -> Option<Read> {
    let (report, place) = (table.report(), table.at());
    let mode = table.required("mode", "mode = \"create\" or mode = \"join\"", |value| value.one_of(MODES));
    let server = table.optional("server", |value| value.text(syntax::server));
    let token = table.optional("token", |value| value.text(token_or_redeemed));
    let certificate_key = table.optional("certificate-key", |value| value.text(key_or_redeemed));
    let ca_hash = table.optional("ca-hash", |value| value.text(syntax::ca_hash));
    let role = table.optional("role", |value| value.one_of(ROLES));
    let sans = table.optional("sans", |value| value.texts(syntax::host));
    let vip = table.optional("vip", |value| value.text(virtual_address));
    let admin_keys = table.optional("admin-keys", |value| value.texts(syntax::public_key));
    let service_cidr = table.optional("service-cidr", |value| value.text(service_network));
    let labels = table.optional("labels", |value| {
        value.map(|key, text| {
            syntax::label_key(&key.value)?;
            syntax::label_value(text)
        })
    });
    let taints = table.optional("taints", |value| value.texts(syntax::taint)).unwrap_or_default();
    let snapshots = table.optional("snapshots", |value| snapshots(value.table()?));
    let mode = mode.map(|mode| mode.value);
    let foreign: &[&str] = match mode {
        Some(ClusterMode::Create) => &JOIN_ONLY,
        Some(ClusterMode::Join) => &CREATE_ONLY,
        None => &[],
    };
    for at in foreign.iter().filter_map(|key| table.place(key)) {
        let (this, other) =
            if mode == Some(ClusterMode::Create) { ("create", "join") } else { ("join", "create") };
        let what = format!("has no meaning in mode \"{this}\"");
        at.wrong(report, what, format!("remove it, or write mode = \"{other}\""));
    }
    for (key, example) in JOIN_NEEDS.iter().filter(|_| mode == Some(ClusterMode::Join)) {
        if table.place(key).is_none() {
            let remedy = format!("add {example}; the first node's screen shows all three");
            report.add(
                &place.span,
                &format!("{}.{key}", place.path),
                "is missing, mode \"join\" needs it",
                remedy,
            );
        }
    }
    let (sans_at, vip_at) = (table.place("sans"), table.place("vip"));
    let snapshots_at = table.place("snapshots");
    let key_at = table.place("certificate-key");
    table.finish(ELSEWHERE);
    if let (Some(role), Some(ClusterMode::Create)) = (&role, mode)
        && role.value == Role::Worker
    {
        let remedy = "remove it: the node that creates a cluster runs its control plane, and VMs";
        role.wrong(report, "\"worker\" has no meaning in mode \"create\"", remedy);
    }
    let is_control_plane = role.as_ref().is_some_and(|role| role.value == Role::ControlPlane);
    let joins_plane = mode == Some(ClusterMode::Join) && is_control_plane;
    match &key_at {
        None if joins_plane => {
            let remedy =
                "add the line certificate-key = \"…\" that `sheaf-agent token create --control-plane` prints";
            let path = format!("{}.certificate-key", place.path);
            report.add(&place.span, &path, "is missing, role \"control-plane\" needs it", remedy);
        }
        Some(at) if mode.is_some() && !joins_plane => {
            let remedy = "remove it, or write mode = \"join\" and role = \"control-plane\"";
            at.wrong(report, "has a meaning only for a control-plane node that joins", remedy);
        }
        _ => {}
    }
    let foreign = [sans_at, vip_at, snapshots_at].into_iter().flatten();
    for at in foreign.filter(|_| mode == Some(ClusterMode::Join) && !is_control_plane) {
        let remedy = "remove it, or write mode = \"create\" or role = \"control-plane\"";
        at.wrong(report, "has no meaning for a worker", remedy);
    }
    let (sans, admin_keys) = (sans.unwrap_or_default(), admin_keys.unwrap_or_default());
    each_once(report, &sans, |name| name.to_lowercase());
    each_once(report, &admin_keys, Clone::clone);
    // The API server takes one taint of a key and an effect.
    each_once(report, &taints, |taint| (taint.key.clone(), taint.effect));
    let config = Cluster {
        mode: mode?,
        role: plain(role),
        server: plain(server.clone()),
        token: plain(token).flatten(),
        certificate_key: plain(certificate_key).flatten(),
        ca_hash: plain(ca_hash),
        sans: values(sans),
        vip: plain(vip.clone()),
        admin_keys: values(admin_keys),
        service_cidr: plain(service_cidr),
        labels: labels.unwrap_or_default().into_iter().map(|(key, at)| (key, at.value)).collect(),
        taints: values(taints),
        snapshots: snapshots.unwrap_or_default(),
    };
    Some(Read { config, server, vip })
}

/// `[cluster.snapshots]`.
fn snapshots(mut table: Table<'_, '_>) -> Option<Snapshots> {
    let report = table.report();
    let within = |number: At<i64>, range: RangeInclusive<i64>| {
        number.check(report, |number| match u32::try_from(*number) {
            Ok(found) if range.contains(number) => Ok(found),
            _ => {
                let remedy = format!("write {} to {}", range.start(), range.end());
                wrong(format!("{number} is out of range"), remedy)
            }
        })
    };
    let hours = table.optional("interval-hours", |value| within(value.integer()?, SNAPSHOT_HOURS));
    let keep = table.optional("keep", |value| within(value.integer()?, SNAPSHOTS_KEPT));
    let size = table.optional("max-size", |value| {
        disk::size(value)?.check(report, |size| match *size >= LEAST_SNAPSHOTS {
            true => Ok(*size),
            false => wrong(
                format!("{size} is too little for snapshots of etcd"),
                format!("write {LEAST_SNAPSHOTS} or more"),
            ),
        })
    });
    table.finish(ELSEWHERE);
    let usual = Snapshots::default();
    Some(Snapshots {
        interval_hours: plain(hours).unwrap_or(usual.interval_hours),
        keep: plain(keep).unwrap_or(usual.keep),
        max_size: plain(size).unwrap_or(usual.max_size),
    })
}

fn token_or_redeemed(text: &str) -> Result<Option<Secret>, Wrong> {
    if text == REDEEMED { Ok(None) } else { syntax::token(text).map(|token| Some(Secret(token))) }
}

/// 64 hex digits, as kubeadm's `--certificate-key`. What was written is not repeated: it may be a key with a slip.
fn key_or_redeemed(text: &str) -> Result<Option<Secret>, Wrong> {
    if text == REDEEMED {
        return Ok(None);
    }
    if text.len() == CERTIFICATE_KEY_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(Secret(text.to_owned())));
    }
    let remedy = "copy the line that `sheaf-agent token create --control-plane` prints";
    wrong(format!("is not a key of {CERTIFICATE_KEY_DIGITS} hex digits"), remedy)
}

/// An address that a machine of a network can have, without a prefix: it is one address, and makes no network.
fn virtual_address(text: &str) -> Result<IpAddr, Wrong> {
    if let Some((address, _)) = text.split_once('/')
        && address.parse::<IpAddr>().is_ok()
    {
        return wrong(format!("\"{text}\" is an address with a prefix"), format!("write \"{address}\""));
    }
    let Ok(address) = text.parse::<IpAddr>() else {
        return wrong(format!("\"{text}\" is not an address"), "write \"192.0.2.100\" or \"2001:db8::100\"");
    };
    let is_usable = match address {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                || v6.to_ipv4_mapped().is_some())
        }
    };
    match is_usable {
        true => Ok(address),
        false => wrong(
            format!("\"{text}\" is not an address that a machine can be reached by from its network"),
            "write a free address of the node's network",
        ),
    }
}

fn service_network(text: &str) -> Result<sheaf_links::IpNet, Wrong> {
    let network = syntax::network(text)?;
    let lengths = if network.addr().is_ipv4() { SERVICE_PREFIX_V4 } else { SERVICE_PREFIX_V6 };
    if lengths.contains(&network.prefix_len()) {
        return Ok(network);
    }
    let what = format!("\"{text}\" is a network that Services cannot use");
    wrong(what, format!("write a prefix length of {} to {}", lengths.start(), lengths.end()))
}
