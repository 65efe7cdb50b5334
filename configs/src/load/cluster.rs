//! `[cluster]`: what makes a cluster and what joins one.
//!
//! Route in: the table. Route out: [`Cluster`] that has every key its mode needs and none of the other mode's.

use super::{ELSEWHERE, each_once, plain, values};
use crate::node::{Cluster, ClusterMode, REDEEMED, Role, Secret};
use crate::spanned::{At, Table, Wrong, wrong};
use crate::syntax;
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

/// Prefix lengths of Service networks: kube-apiserver allows at most 20 bits of them, and fewer than 4 are no use.
const SERVICE_PREFIX_V4: RangeInclusive<u8> = 12..=28;
const SERVICE_PREFIX_V6: RangeInclusive<u8> = 108..=124;

/// What was read.
pub(super) struct Read {
    pub config: Cluster,
    pub server: Option<At<String>>,
}

pub(super) fn read(mut table: Table<'_, '_>) -> Option<Read> {
    let (report, place) = (table.report(), table.at());
    let mode = table.required("mode", "mode = \"create\" or mode = \"join\"", |value| value.one_of(MODES));
    let server = table.optional("server", |value| value.text(syntax::server));
    let token = table.optional("token", |value| value.text(token_or_redeemed));
    let ca_hash = table.optional("ca-hash", |value| value.text(syntax::ca_hash));
    let role = table.optional("role", |value| value.one_of(ROLES));
    let sans = table.optional("sans", |value| value.texts(syntax::host));
    let admin_keys = table.optional("admin-keys", |value| value.texts(syntax::public_key));
    let service_cidr = table.optional("service-cidr", |value| value.text(service_network));
    let labels = table.optional("labels", |value| {
        value.map(|key, text| {
            syntax::label_key(&key.value)?;
            syntax::label_value(text)
        })
    });
    let taints = table.optional("taints", |value| value.texts(syntax::taint)).unwrap_or_default();
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
    let sans_at = table.place("sans");
    table.finish(ELSEWHERE);
    if let (Some(role), Some(ClusterMode::Create)) = (&role, mode)
        && role.value == Role::Worker
    {
        let remedy = "remove it: the node that creates a cluster runs its control plane, and VMs";
        role.wrong(report, "\"worker\" has no meaning in mode \"create\"", remedy);
    }
    let is_control_plane = role.as_ref().is_some_and(|role| role.value == Role::ControlPlane);
    if let (Some(sans), Some(ClusterMode::Join), false) = (sans_at, mode, is_control_plane) {
        let remedy = "remove it, or write mode = \"create\" or role = \"control-plane\"";
        sans.wrong(report, "has no meaning for a worker", remedy);
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
        ca_hash: plain(ca_hash),
        sans: values(sans),
        admin_keys: values(admin_keys),
        service_cidr: plain(service_cidr),
        labels: labels.unwrap_or_default().into_iter().map(|(key, at)| (key, at.value)).collect(),
        taints: values(taints),
    };
    Some(Read { config, server })
}

fn token_or_redeemed(text: &str) -> Result<Option<Secret>, Wrong> {
    if text == REDEEMED { Ok(None) } else { syntax::token(text).map(|token| Some(Secret(token))) }
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
